package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"keystone/cmd/internal/api"
	"keystone/configs"
	"keystone/configs/addr"
	"keystone/reconcile"
	"keystone/reconcile/store"
	"keystone/sinks"
)

// offline is the stored state of a control plane that does not run.
type offline struct {
	dir   string // of the environment's state
	env   string
	state *store.Store // nil: nothing is stored yet
}

// OpenOffline opens the stored state of a directory and environment for plan
// and apply without a running server. Nothing runs; apply stores the goal.
func OpenOffline(ctx context.Context, s OfflineSpec) (api.Backend, io.Closer, error) {
	o := &offline{dir: filepath.Join(s.StateDir, s.Env), env: s.Env}
	if store.Exists(o.dir) {
		state, err := store.Open(ctx, store.Options{Dir: o.dir, Env: s.Env})
		if err != nil {
			return nil, nil, err
		}
		o.state = state
	}
	return o, o, nil
}

// Close closes the store.
func (o *offline) Close() error {
	if o.state == nil {
		return nil
	}
	return o.state.Close()
}

// stored gives the current revision and what it says; nil before the first.
func (o *offline) stored(ctx context.Context) (reconcile.Revision, *configs.Config, error) {
	if o.state == nil {
		return reconcile.Revision{Env: o.env}, nil, nil
	}
	r, err := o.state.Current(ctx)
	if err != nil || r.Serial == 0 {
		return r, nil, err
	}
	cfg, err := DecodeGoal(r.Goal)
	return r, cfg, err
}

// world is as if the stored goal had been brought about.
func (o *offline) world(ctx context.Context) (reconcile.Revision, reconcile.Observed, error) {
	r, cfg, err := o.stored(ctx)
	if err != nil {
		return r, reconcile.Observed{}, err
	}
	seen, err := o.held(ctx, worldOf(r, cfg))
	return r, seen, err
}

func worldOf(r reconcile.Revision, cfg *configs.Config) reconcile.Observed {
	if cfg == nil {
		return reconcile.Observed{States: map[addr.Addr]reconcile.State{}}
	}
	return reconcile.AsApplied(cfg, r.Time)
}

// Status gives the stored goal; nothing runs.
func (o *offline) Status(ctx context.Context) (api.World, error) {
	r, seen, err := o.world(ctx)
	if err != nil {
		return api.World{}, err
	}
	for a, st := range seen.States {
		if st.Health == reconcile.Running {
			st.Health = reconcile.Stopped
			seen.States[a] = st
		}
	}
	return api.World{
		Env: o.env, Namespace: r.Namespace, Serial: r.Serial, Offline: true, Observed: seen,
		Revision: api.Revision{Serial: r.Serial, Time: r.Time, Who: r.Who, Why: r.Why},
	}, nil
}

// Plan compares a goal with the stored one.
func (o *offline) Plan(ctx context.Context, goal *configs.Config, p api.PlanOptions) (reconcile.Plan, error) {
	r, cfg, err := o.stored(ctx)
	if err != nil {
		return reconcile.Plan{}, err
	}
	seen, err := o.held(ctx, worldOf(r, cfg))
	if err != nil {
		return reconcile.Plan{}, err
	}
	plan, err := planFor(goal, r, cfg, seen, p, o.unseen)
	plan.Offline = true
	return plan, err
}

// unseen names what the sinks of a goal need outside: nobody looks.
func (o *offline) unseen(goal *configs.Config) map[addr.Addr]reconcile.Outside {
	out := map[addr.Addr]reconcile.Outside{}
	for a := range goal.Sinks {
		if p := provisioner(goal, a); p != nil {
			out[a] = reconcile.Outside{Things: namesOf(p.Wanted(sinks.Deps{Dir: goal.Dir}, goal.EventsOf(a)))}
		}
	}
	return out
}

// Apply stores the goal; the next `keystone serve` brings it about.
func (o *offline) Apply(ctx context.Context, goal *configs.Config, p api.ApplyOptions, _ func(api.ApplyEvent)) (api.ApplyResult, error) {
	r, cfg, err := o.stored(ctx)
	if err != nil {
		return api.ApplyResult{}, err
	}
	if r.Serial != p.Serial {
		return api.ApplyResult{}, &api.StaleError{Planned: p.Serial, Stored: r.Serial}
	}
	part, err := partOf(goal, cfg, p.PlanOptions)
	if err != nil {
		return api.ApplyResult{}, err
	}
	plan, err := o.Plan(ctx, goal, p.PlanOptions)
	if err != nil {
		return api.ApplyResult{}, err
	}
	if err := refuseBlocked(plan); err != nil {
		return api.ApplyResult{}, err
	}
	state, err := store.Open(ctx, store.Options{Dir: o.dir, Env: o.env, Namespace: part.Settings.Namespace})
	if err != nil {
		return api.ApplyResult{}, err
	}
	defer state.Close() //nolint:errcheck // the commit is durable
	goals := reconcile.NewGoals(reconcile.GoalsSpec{Revisions: state, Encode: EncodeGoal, Decode: DecodeGoal})
	next, err := goals.Propose(ctx, reconcile.Proposal{Config: part, Who: p.Who, Why: p.Why, Serial: p.Serial, Allow: plan.Destructive()})
	var stale *reconcile.StaleError
	if errors.As(err, &stale) {
		return api.ApplyResult{}, &api.StaleError{Planned: stale.Planned, Stored: stale.Stored}
	}
	return api.ApplyResult{Serial: next.Serial, Offline: true}, err
}

// Tap needs a running server.
func (o *offline) Tap(context.Context, addr.Addr, api.TapOptions, func(api.TapEvent) error) error {
	return fmt.Errorf("%w: nothing runs here; start `keystone serve`", api.ErrUnsupported)
}
