package cli

import (
	"fmt"

	"keystone/cmd/internal/view"
	"keystone/configs"
)

func (a *App) validateCommand() *command {
	var s scope
	var asJSON bool
	cmd := &command{
		Use:   "validate [flags] [DIR]",
		Short: "Check whether the configuration is valid",
		Long:  "Checks the configuration without contacting anything: syntax, references, options, types and expressions.\nNo secret needs to be set.",
		Args:  between(0, 1, "at most one directory"),
		RunE: func(_ *command, args []string) error {
			dir, err := dirArg(args, 0)
			if err != nil {
				return err
			}
			return a.validate(s, dir, asJSON)
		},
	}
	s.flags(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON, in the form of Terraform's validate -json")
	return cmd
}

func (a *App) validate(s scope, dir string, asJSON bool) error {
	l, err := a.check(s, dir)
	if err != nil {
		return err
	}
	v := view.NewValidation(l.diags)
	if asJSON {
		err = view.JSON(a.out, v)
	} else if err = view.Diagnostics(a.err, a.style(a.err), l.diags); err == nil && v.Valid {
		text := "Success! The configuration is valid."
		if v.WarningCount > 0 {
			text = "Success! The configuration is valid, but there were some warnings as shown above."
		}
		if _, err = fmt.Fprintln(a.out, text); err == nil {
			err = a.unchecked(l.cfg)
		}
	}
	if err == nil && !v.Valid {
		return silent(Invalid)
	}
	return err
}

// unchecked says which routes read fields that nothing declares. That is no
// warning: streams without a schema are as good as others.
func (a *App) unchecked(cfg *configs.Config) error {
	for _, at := range cfg.Unchecked() {
		if _, err := fmt.Fprintf(a.err, "Note: %s reads fields of %s, which has no schema: their names are not checked.\n", at, cfg.Routes[at].From.Addr); err != nil {
			return err
		}
	}
	return nil
}
