package cli

import (
	"context"
	"fmt"
	"time"

	"keystone/cmd/internal/api"
	"keystone/cmd/internal/view"
)

type statusOptions struct {
	scope
	target
	asJSON, watch bool
}

func (a *App) statusCommand() *command {
	var o statusOptions
	cmd := &command{
		Use:   "status [flags] [DIR]",
		Short: "Show what runs and how it does",
		Long:  "Shows every address with its health, its counts and what waits. Without a server it shows what is stored.",
		Args:  between(0, 1, "at most one directory"),
		RunE: func(cmd *command, args []string) error {
			dir, err := dirArg(args, 0)
			if err != nil {
				return err
			}
			return a.status(cmd.Context(), o, dir)
		},
	}
	f := cmd.Flags()
	o.scope.flags(f)
	o.target.flags(f)
	f.BoolVar(&o.asJSON, "json", false, "print JSON; with -watch one object a line")
	f.BoolVar(&o.watch, "watch", false, "show it again each second until interrupted")
	return cmd
}

const statusInterval = time.Second

func (a *App) status(ctx context.Context, o statusOptions, dir string) error {
	place, err := a.findPlace(o.scope, dir)
	if err != nil {
		return err
	}
	c, closeIt, err := a.control(ctx, o.target, place)
	if err != nil {
		return err
	}
	defer closeIt()
	for {
		st, err := c.Status(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if err := a.showStatus(st, o); err != nil || !o.watch {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(statusInterval):
		}
	}
}

func (a *App) showStatus(st api.Status, o statusOptions) error {
	style := a.style(a.out)
	switch {
	case o.asJSON && o.watch:
		return view.JSONLine(a.out, st)
	case o.asJSON:
		return view.JSON(a.out, st)
	}
	if o.watch && style.Width > 0 {
		fmt.Fprint(a.out, "\x1b[H\x1b[2J") // the screen anew
	}
	return view.Status(a.out, style, st, time.Now())
}
