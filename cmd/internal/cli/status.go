package cli

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"keystone/cmd/internal/api"
	"keystone/cmd/internal/view"
	"keystone/configs/addr"
)

type statusOptions struct {
	scope
	target
	asJSON, watch bool
	of            addr.Addr // zero: everything
}

// addressArg tells whether an argument that may also be a directory is an address.
func addressArg(arg string) (addr.Addr, bool) {
	if _, err := os.Stat(arg); err == nil {
		return addr.Addr{}, false
	}
	at, err := addr.Parse(arg)
	return at, err == nil && slices.Contains([]string{"cluster", "stream", "source", "sink", "route", "job"}, at.Type)
}

func (a *App) statusCommand() *command {
	var o statusOptions
	cmd := &command{
		Use:   "status [flags] [ADDRESS] [DIR]",
		Short: "Show what runs and how it does",
		Long: "Shows every address with its health, its counts and what waits. With an address it shows that one in full: of a route\n" +
			"its ledger, by outcome and reason, and each partition that it reads. Without a server it shows what is stored.",
		Args: between(0, 2, "at most an address and a directory"),
		RunE: func(cmd *command, args []string) error {
			if len(args) > 0 {
				if at, ok := addressArg(args[0]); ok {
					o.of, args = at, args[1:]
				} else if len(args) > 1 {
					return usagef("%q is no address, such as route.plays", args[0])
				}
			}
			dir, err := dirArg(args, 0)
			if err != nil {
				return err
			}
			return a.status(cmd.Context(), o, dir)
		},
	}
	f := cmd.Flags()
	o.scope.flags(f)
	cmd.ValidArgsFunction = a.completes(&o.scope, "cluster", "stream", "source", "sink", "route", "job")
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
		st, err := o.ask(ctx, c)
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

func (o statusOptions) ask(ctx context.Context, c api.Control) (api.Status, error) {
	if o.of.IsZero() {
		return c.Status(ctx)
	}
	return c.StatusOf(ctx, o.of)
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
	if !o.of.IsZero() {
		return view.StatusOf(a.out, style, st, time.Now())
	}
	return view.Status(a.out, style, st, time.Now())
}
