package cli

func (a *App) completionCommand() *command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &command{
		Use:       "completion SHELL",
		Short:     "Print a completion script for a shell",
		Long:      "Prints a completion script for bash, zsh, fish or powershell.",
		Example:   "  source <(keystone completion bash)",
		Args:      between(1, 1, "one shell: bash, zsh, fish or powershell"),
		ValidArgs: shells,
		RunE: func(cmd *command, args []string) error {
			switch args[0] {
			case "bash":
				return cmd.Root().GenBashCompletionV2(a.out, true)
			case "zsh":
				return cmd.Root().GenZshCompletion(a.out)
			case "fish":
				return cmd.Root().GenFishCompletion(a.out, true)
			case "powershell":
				return cmd.Root().GenPowerShellCompletionWithDesc(a.out)
			}
			return usagef("there is no completion for %q; the shells are bash, zsh, fish and powershell", args[0])
		},
	}
}
