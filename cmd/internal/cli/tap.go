package cli

import (
	"context"
	"errors"

	"keystone/cmd/internal/api"
	"keystone/cmd/internal/view"
	"keystone/configs/addr"
)

type tapOptions struct {
	scope
	target
	asJSON bool
	limit  int64
}

func (a *App) tapCommand() *command {
	var o tapOptions
	cmd := &command{
		Use:   "tap [flags] ADDRESS [DIR]",
		Short: "Watch records as they pass",
		Long:  "Shows records of a running route or stream as they pass. It never slows what runs: what is not\nread in time is left out.",
		Args:  between(1, 2, "an address, such as route.plays, and at most one directory"),
		RunE: func(cmd *command, args []string) error {
			dir, err := dirArg(args, 1)
			if err != nil {
				return err
			}
			return a.tap(cmd.Context(), o, args[0], dir)
		},
	}
	f := cmd.Flags()
	o.scope.flags(f)
	cmd.ValidArgsFunction = a.completes(&o.scope, "route", "stream")
	o.target.flags(f)
	f.BoolVar(&o.asJSON, "json", false, "print one JSON object a record, with its position, key and outcome")
	f.Int64Var(&o.limit, "limit", 0, "stop after `N` records")
	return cmd
}

var errEnough = errors.New("enough records")

func (a *App) tap(ctx context.Context, o tapOptions, name, dir string) error {
	if o.limit < 0 {
		return usagef("-limit %d: write a positive number", o.limit)
	}
	at, err := addr.Parse(name)
	if err != nil {
		return usagef("%v", err)
	}
	place, err := a.findPlace(o.scope, dir)
	if err != nil {
		return err
	}
	c, err := a.connect(ctx, o.target, place)
	if err != nil {
		return err
	}
	defer c.Close()
	seen := int64(0)
	err = c.Tap(ctx, at, api.TapOptions{Limit: o.limit}, func(e api.TapEvent) error {
		if err := a.showRecord(e, o.asJSON); err != nil {
			return err
		}
		if seen++; o.limit > 0 && seen >= o.limit {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) || ctx.Err() != nil {
		return nil
	}
	return err
}

func (a *App) showRecord(e api.TapEvent, asJSON bool) error {
	if asJSON {
		return view.JSONLine(a.out, e)
	}
	return view.Record(a.out, a.style(a.out), e)
}
