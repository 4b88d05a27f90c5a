package cli

import (
	"context"
	"errors"

	"keystone/cmd/internal/api"
	"keystone/cmd/internal/view"
	"keystone/cmd/internal/wire"
	"keystone/configs"
	"keystone/configs/diag"
)

type serveOptions struct {
	scope
	watch, ephemeral, takeover, debug bool
	listen                            string
}

func (a *App) serveCommand() *command {
	var o serveOptions
	cmd := &command{
		Use:   "serve [flags] [DIR]",
		Short: "Run the configuration and keep it running",
		Long: "Runs every route, watches the files, and brings about each edit. A broken edit leaves the last\n" +
			"good revision running and is shown. Changes that lose data or kept state wait for `keystone apply`.\n" +
			"With -watch=false only what `keystone apply` stored runs.",
		Args: between(0, 1, "at most one directory"),
		RunE: func(cmd *command, args []string) error {
			dir, err := dirArg(args, 0)
			if err != nil {
				return err
			}
			return a.serve(cmd.Context(), o, dir)
		},
	}
	f := cmd.Flags()
	o.flags(f)
	f.BoolVar(&o.watch, "watch", true, "apply the files at start and at each edit")
	f.StringVar(&o.listen, "listen", "", "serve the HTTP API on `HOST:PORT` too, such as 127.0.0.1:7070")
	f.BoolVar(&o.ephemeral, "ephemeral", false, "keep the embedded broker and positions in memory: nothing survives the process")
	f.BoolVar(&o.takeover, "takeover", false, "take the namespace over from another directory")
	f.BoolVar(&o.debug, "debug", false, "log more")
	return cmd
}

func (a *App) serve(ctx context.Context, o serveOptions, dir string) error {
	if o.listen != "" {
		if err := api.CheckListen(o.listen); err != nil {
			return usagef("-listen %s: %v", o.listen, err)
		}
	}
	load := func() (*configs.Config, diag.Diagnostics) { return a.read(o.scope, dir) }
	show := func(ds diag.Diagnostics) {
		_ = view.Diagnostics(a.err, a.style(a.err), located(dir, ds)) // status shows them too
	}
	err := a.deps.Serve(ctx, wire.ServeSpec{Dir: dir, Env: a.environment(o.scope), Watch: o.watch, Listen: o.listen, Ephemeral: o.ephemeral,
		Takeover: o.takeover, Version: Version(), Log: a.logger(o.debug), VarFiles: o.varFiles, Load: load, Show: show})
	if errors.Is(err, wire.ErrInvalid) {
		return silent(Invalid)
	}
	return err
}
