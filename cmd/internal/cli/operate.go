package cli

import (
	"context"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"keystone/cmd/internal/api"
	"keystone/cmd/internal/view"
	"keystone/configs/addr"
)

type operateOptions struct {
	scope
	target
	verb                           api.Verb
	all, plan, asJSON, autoApprove bool
	acceptNewTopic                 bool
}

func (a *App) pauseCommand() *command {
	return a.operateCommand(&operateOptions{verb: api.Pause}, "Stop routes from reading",
		"Has routes read nothing more until `keystone resume`. What is in flight is delivered and committed, and the\n"+
			"routes' workers stay and keep their partitions. It lasts over restarts and edits.")
}

func (a *App) resumeCommand() *command {
	return a.operateCommand(&operateOptions{verb: api.Resume}, "Have routes read on",
		"Ends what `keystone pause` and `keystone drain` began: the routes read on from where they were.")
}

func (a *App) drainCommand() *command {
	return a.operateCommand(&operateOptions{verb: api.Drain}, "Stop routes when they have finished",
		"Has routes finish what is in flight, commit, leave their consumer groups and stay stopped until\n"+
			"`keystone resume` or `keystone restart`. It lasts over restarts and edits.")
}

// operateCommand is a verb of routes.
func (a *App) operateCommand(o *operateOptions, short, long string) *command {
	verb := string(o.verb)
	cmd := &command{
		Use:   verb + " [flags] ROUTE... [DIR]",
		Short: short,
		Long: long + "\n" +
			"ROUTE is an address, such as route.plays; without its key it means every instance, with * all that match.",
		Example: "  keystone " + verb + " route.plays\n  keystone " + verb + " 'route.play*' -auto-approve\n  keystone " + verb + " -all -plan",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *command, args []string) error {
			routes, dir, err := routeArgs(cmd, args, o.all)
			if err != nil {
				return err
			}
			return a.operate(cmd.Context(), *o, routes, dir)
		},
	}
	f := cmd.Flags()
	o.scope.flags(f)
	o.target.flags(f)
	cmd.ValidArgsFunction = a.completesMany(&o.scope, "route")
	f.BoolVar(&o.all, "all", false, "every route")
	f.BoolVar(&o.plan, "plan", false, "only show what would happen")
	f.BoolVar(&o.asJSON, "json", false, "print JSON; it does not ask, so it needs -auto-approve or -plan where it would")
	f.BoolVar(&o.autoApprove, "auto-approve", false, "do not ask")
	return cmd
}

// routeArgs tells routes from the directory that may follow them.
func routeArgs(cmd *command, args []string, all bool) (routes []string, dir string, err error) {
	dir = "."
	for i, arg := range args {
		at, parseErr := addr.Parse(arg)
		pattern := strings.Contains(arg, "*")
		last := i == len(args)-1
		switch {
		case parseErr == nil && at.Type == "route", pattern:
			routes = append(routes, arg)
		case last && isDir(arg), last && all:
			if dir, err = dirArg(args, i); err != nil {
				return nil, "", err
			}
		case parseErr == nil:
			return nil, "", usagef("%s is a %s; `%s` is for routes", arg, at.Type, cmd.CommandPath())
		case last && len(routes) > 0:
			return nil, "", usagef("%q is neither a route nor a directory", arg)
		default:
			return nil, "", usagef("%v", parseErr)
		}
	}
	switch {
	case all && len(routes) > 0:
		return nil, "", usagef("-all is every route: leave out %s", strings.Join(routes, " "))
	case !all && len(routes) == 0:
		return nil, "", usagef("an argument is missing: `%s` needs the address of a route, such as route.plays, or -all", cmd.CommandPath())
	}
	return routes, dir, nil
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

func (a *App) operate(ctx context.Context, o operateOptions, routes []string, dir string) error {
	place, err := a.findPlace(o.scope, dir)
	if err != nil {
		return err
	}
	c, closeIt, err := a.control(ctx, o.target, place)
	if err != nil {
		return err
	}
	if _, running := c.(*api.Client); !running && o.verb == api.Restart {
		closeIt()
		return noServer(place)
	}
	defer closeIt()
	ask := api.Operate{Verb: o.verb, Addresses: routes, All: o.all, Who: a.who(), AcceptNewTopic: o.acceptNewTopic, Plan: true}
	plan, err := c.Operate(ctx, ask)
	if err != nil {
		return err
	}
	show := func(done api.Operated) error {
		if o.asJSON {
			return view.JSON(a.out, done)
		}
		return view.Operated(a.out, a.style(a.out), done)
	}
	if o.plan || plan.Due() == 0 {
		return show(plan)
	}
	loses := slices.ContainsFunc(plan.Routes, func(r api.Operation) bool { return len(r.Loses) > 0 })
	if !o.autoApprove && (loses || o.verb != api.Restart) {
		if o.asJSON {
			return usagef("%s -json cannot ask: add -auto-approve, or -plan to see what it would do", o.verb)
		}
		if err := show(plan); err != nil {
			return err
		}
		if err := a.confirm(ctx, string(o.verb), "Do you want to do this?", "yes", ", or -plan to see what it would do"); err != nil {
			return err
		}
	}
	ask.Plan = false
	done, err := c.Operate(ctx, ask)
	if err != nil {
		return err
	}
	if err := show(done); err != nil {
		return err
	}
	if done.Failed() > 0 {
		return silent(Failed)
	}
	return nil
}
