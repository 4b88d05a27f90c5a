package cli

import (
	"context"
	"fmt"

	"keystone/cmd/internal/api"
	"keystone/configs/addr"
)

type restartOptions struct {
	scope
	target
	api.RestartOptions
}

func (a *App) restartCommand() *command {
	var o restartOptions
	cmd := &command{
		Use:   "restart [flags] ROUTE [DIR]",
		Short: "Start a route anew",
		Long: "Finishes what a running route has in flight and starts it again at once, from its positions.\n" +
			"A route whose topic was deleted and created again stops: its positions mean other records.\n" +
			"With -accept-new-topic they are dropped, and the new topic is read from its beginning.",
		Args: between(1, 2, "the address of a route, such as route.plays, and at most one directory"),
		RunE: func(cmd *command, args []string) error {
			dir, err := dirArg(args, 1)
			if err != nil {
				return err
			}
			return a.restart(cmd.Context(), o, args[0], dir)
		},
	}
	f := cmd.Flags()
	o.scope.flags(f)
	cmd.ValidArgsFunction = a.completes(&o.scope, "route")
	o.target.flags(f)
	f.BoolVar(&o.AcceptNewTopic, "accept-new-topic", false, "drop the positions in a topic that is no more")
	return cmd
}

func (a *App) restart(ctx context.Context, o restartOptions, name, dir string) error {
	at, err := addr.Parse(name)
	if err != nil {
		return usagef("%v", err)
	}
	if at.Type != "route" {
		return usagef("%s is a %s; only a route can be restarted", name, at.Type)
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
	if err := c.Restart(ctx, at, o.RestartOptions); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.out, "%s starts again; `keystone status` tells how it does.\n", at)
	return err
}
