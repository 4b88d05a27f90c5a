package cli

import (
	"context"
	"fmt"

	"keystone/cmd/internal/api"
	"keystone/cmd/internal/view"
	"keystone/configs/addr"
	"keystone/reconcile"
)

type planOptions struct {
	scope
	target
	targets  []string
	out      string
	asJSON   bool
	detailed bool
	destroy  bool
}

func (a *App) planFlags(o *planOptions, cmd *command) {
	f := cmd.Flags()
	o.scope.flags(f)
	o.target.flags(f)
	f.StringArrayVar(&o.targets, "target", nil, "only `ADDRESS` and what it refers to; may be repeated")
	_ = cmd.RegisterFlagCompletionFunc("target", a.completesTarget(&o.scope)) // the flag is there
	f.BoolVar(&o.destroy, "destroy", false, "plan the end of everything that the configuration declares")
	f.BoolVar(&o.asJSON, "json", false, "print JSON")
}

func (a *App) planCommand() *command {
	var o planOptions
	cmd := &command{
		Use:   "plan [flags] [DIR]",
		Short: "Show what applying the configuration would change",
		Long: "Compares the configuration with what runs, or without a server with the stored revision, and\n" +
			"shows each change with its effect on data. Nothing is changed.",
		Args: between(0, 1, "at most one directory"),
		RunE: func(cmd *command, args []string) error {
			dir, err := dirArg(args, 0)
			if err != nil {
				return err
			}
			return a.plan(cmd.Context(), o, dir)
		},
	}
	a.planFlags(&o, cmd)
	cmd.Flags().StringVar(&o.out, "out", "", "save the plan to `FILE`, for keystone apply FILE")
	cmd.Flags().BoolVar(&o.detailed, "detailed-exitcode", false, "exit 0 without changes, 1 on failure, 2 with changes")
	return cmd
}

func (a *App) plan(ctx context.Context, o planOptions, dir string) error {
	p, err := a.makePlan(ctx, o, dir)
	if err != nil {
		return err
	}
	defer p.close()
	if o.out != "" {
		stored := *p.cfg
		stored.Resources = reconcile.WithoutLiterals(p.cfg.Resources)
		goal, err := a.deps.Goals.Encode(&stored)
		if err != nil {
			return fmt.Errorf("write the goal: %w", err)
		}
		if err := savePlan(o.out, savedPlan{Plan: p.plan, Goal: goal, Options: p.options, Place: p.place.saved()}); err != nil {
			return err
		}
	}
	if o.asJSON {
		err = view.JSON(a.out, p.plan)
	} else {
		err = view.Plan(a.out, a.style(a.out), p.plan)
		if err == nil && o.out != "" {
			_, err = fmt.Fprintf(a.out, "\nSaved the plan to %s. To carry out exactly these actions:\n  keystone apply %s\n", o.out, o.out)
		}
	}
	if err == nil && o.detailed && len(p.plan.Changes) > 0 {
		return silent(Differences)
	}
	return err
}

// madePlan is a plan with all that applying it needs.
type madePlan struct {
	loaded
	plan    api.Plan
	options api.PlanOptions
	place   place
	control api.Control
	close   func()
}

func (a *App) makePlan(ctx context.Context, o planOptions, dir string) (*madePlan, error) {
	po := api.PlanOptions{Destroy: o.destroy}
	for _, t := range o.targets {
		at, err := addr.Parse(t)
		if err != nil {
			return nil, usagef("-target: %v", err)
		}
		po.Targets = append(po.Targets, at)
	}
	l, err := a.load(o.scope, dir)
	if err != nil {
		return nil, err
	}
	p := &madePlan{loaded: l, options: po, place: placeOf(dir, l.cfg)}
	if p.control, p.close, err = a.control(ctx, o.target, p.place); err != nil {
		return nil, err
	}
	if p.plan, err = p.control.Plan(ctx, l.cfg, po); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}
