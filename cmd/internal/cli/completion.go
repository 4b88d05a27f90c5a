package cli

import (
	"slices"

	"github.com/spf13/cobra"

	"keystone/configs/addr"
)

// completes offers the addresses of the configuration whose blocks are of the
// given types, as the first argument; a directory after it.
func (a *App) completes(s *scope, types ...string) cobra.CompletionFunc {
	return func(_ *command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveFilterDirs
		}
		return a.addresses(*s, ".", types...), cobra.ShellCompDirectiveNoFileComp
	}
}

// completesMany offers the addresses that are not named yet, for every argument.
func (a *App) completesMany(s *scope, types ...string) cobra.CompletionFunc {
	return func(_ *command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		left := slices.DeleteFunc(a.addresses(*s, ".", types...), func(at string) bool { return slices.Contains(args, at) })
		if len(args) > 0 && len(left) == 0 {
			return nil, cobra.ShellCompDirectiveFilterDirs
		}
		return left, cobra.ShellCompDirectiveNoFileComp
	}
}

// completesTarget offers every address, for -target.
func (a *App) completesTarget(s *scope) cobra.CompletionFunc {
	return func(_ *command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		dir := "."
		if len(args) > 0 {
			dir = args[0]
		}
		return a.addresses(*s, dir, "cluster", "stream", "source", "sink", "route", "job"), cobra.ShellCompDirectiveNoFileComp
	}
}

// addresses lists what a configuration declares; nothing where it has errors:
// a completion has no place to say so.
func (a *App) addresses(s scope, dir string, types ...string) []string {
	cfg, _ := a.read(s, dir)
	if cfg == nil {
		return nil
	}
	var found []addr.Addr
	for _, r := range cfg.Resources {
		if slices.Contains(types, r.Addr.Type) {
			found = append(found, r.Addr)
		}
	}
	slices.SortFunc(found, addr.Compare)
	out := make([]string, len(found))
	for i, at := range found {
		out[i] = at.String()
	}
	return out
}

// completed gives the words of a line that is being completed with two dashes
// before flags, which is the form that the flag parser knows.
func completed(words []string) []string {
	out := slices.Clone(words)
	for i, w := range out {
		if name, ok := flagName(w); ok && w != "-h" {
			out[i] = "--" + name
		}
	}
	return out
}

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
