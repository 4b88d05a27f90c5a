package cli

import (
	"context"

	"keystone/cmd/internal/view"
)

type auditOptions struct {
	scope
	target
	lines  int
	asJSON bool
}

func (a *App) auditCommand() *command {
	var o auditOptions
	cmd := &command{
		Use:   "audit [flags] [DIR]",
		Short: "Show who did what",
		Long: "Shows which goals were stored and what was asked of routes (pause, resume, drain, restart, rewind): when, by\n" +
			"whom, and what came of it. The latest comes last. The last 10,000 lines are kept.",
		Args: between(0, 1, "at most one directory"),
		RunE: func(cmd *command, args []string) error {
			dir, err := dirArg(args, 0)
			if err != nil {
				return err
			}
			return a.audit(cmd.Context(), o, dir)
		},
	}
	f := cmd.Flags()
	o.scope.flags(f)
	o.target.flags(f)
	f.IntVar(&o.lines, "n", 50, "the latest `LINES`")
	f.BoolVar(&o.asJSON, "json", false, "print JSON, the latest first")
	return cmd
}

func (a *App) audit(ctx context.Context, o auditOptions, dir string) error {
	if o.lines < 1 {
		return usagef("-n %d: write a number of lines", o.lines)
	}
	place, err := a.findPlace(o.scope, dir)
	if err != nil {
		return err
	}
	c, closeIt, err := a.control(ctx, o.target, place)
	if err != nil {
		return err
	}
	defer closeIt()
	lines, err := c.Audit(ctx, o.lines)
	if err != nil {
		return err
	}
	if o.asJSON {
		return view.JSON(a.out, lines)
	}
	return view.Audit(a.out, a.style(a.out), lines)
}
