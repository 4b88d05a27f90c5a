package wire

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"keystone/cmd/internal/api"
	"keystone/configs"
	"keystone/configs/addr"
	"keystone/configs/diag"
	"keystone/pipeline/record"
	"keystone/reconcile"
	sourcekafka "keystone/sources/kafka"
)

// Status gives the goal and the world.
func (s *server) Status(context.Context) (api.World, error) {
	st := s.loop.Status()
	goal := s.goals.State()
	r := goal.Revision
	w := api.World{
		Env: r.Env, Namespace: r.Namespace, Serial: r.Serial,
		Revision: api.Revision{Serial: r.Serial, Time: r.Time, Who: r.Who, Why: r.Why},
		Observed: st.Observed, Turns: st.Turns, Broken: goal.Broken, Started: s.started,
	}
	if goal.Err != nil {
		w.Broken = append(w.Broken, diag.Diagnostic{Severity: diag.Error, Summary: "The files are not taken", Detail: goal.Err.Error()})
	}
	if w.Env == "" {
		w.Env, w.Namespace = s.state.Env(), s.state.Namespace()
	}
	// What runs here is asked now: it costs no I/O, and people look at moving numbers.
	for a, u := range s.runtime.allUnits() {
		old, known := w.Observed.States[a]
		now := u.state()
		if known {
			now.Conditions, now.Drift = old.Conditions, old.Drift
			now.Letters = s.plant.letterPlace(goal.Config, s.runtime.topicNames, a)
			w.Observed.States[a] = now
		}
	}
	for a, u := range s.runtime.allJobs() {
		if old, known := w.Observed.States[a]; known {
			now := u.state()
			now.Conditions, now.Drift = old.Conditions, old.Drift
			w.Observed.States[a] = now
		}
	}
	for a, f := range st.Failing {
		state := w.Observed.States[a]
		if state.Error == "" {
			state.Error = f.Err
		}
		if state.Health == reconcile.Running { // as it was before the change that fails
			state.Health = reconcile.Degraded
		} else {
			state.Activity = "waits to be tried again"
		}
		w.Observed.States[a] = state
	}
	for a, rw := range s.runtime.allRewinds() {
		state := w.Observed.States[a]
		state.Activity = "goes on elsewhere: " + rw.String()
		w.Observed.States[a] = state
	}
	for a, why := range w.Observed.Unreachable {
		if state, ok := w.Observed.States[a]; ok && why != "" {
			state.Health = reconcile.Degraded
			w.Observed.States[a] = state
		}
	}
	for _, p := range slices.Concat(st.Waiting, st.Queued) {
		if state, ok := w.Observed.States[p.Change.Addr]; ok && state.Activity == "" {
			state.Activity = p.Reason
			w.Observed.States[p.Change.Addr] = state
		}
	}
	for _, a := range st.Busy {
		if state, ok := w.Observed.States[a]; ok && state.Activity == "" && state.Error == "" {
			state.Activity = "a change is being carried out"
			w.Observed.States[a] = state
		}
	}
	for _, p := range st.Withheld {
		if p.Change.Destructive && p.Change.Blocked == "" {
			w.Waiting = append(w.Waiting, p.Change.Addr.String())
		}
		state := w.Observed.States[p.Change.Addr]
		if state.Error == "" {
			state.Error = "a change is withheld: " + p.Reason
		}
		w.Observed.States[p.Change.Addr] = state
	}
	return w, nil
}

func (r *runtime) allUnits() map[addr.Addr]*unit {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.units)
}

func (r *runtime) allJobs() map[addr.Addr]*jobUnit {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.jobs)
}

// Plan compares a goal with the world as it is now.
func (s *server) Plan(ctx context.Context, goal *configs.Config, o api.PlanOptions) (reconcile.Plan, error) {
	plan, err := s.compare(ctx, goal, o)
	if err == nil {
		s.sample(ctx, goal, &plan)
	}
	return plan, err
}

func (s *server) compare(ctx context.Context, goal *configs.Config, o api.PlanOptions) (reconcile.Plan, error) {
	current := s.goals.State()
	seen, err := s.loop.Look(ctx)
	if err != nil {
		return reconcile.Plan{}, err
	}
	return planFor(goal, current.Revision, current.Config, seen, o, func(goal *configs.Config) map[addr.Addr]reconcile.Outside {
		return s.runtime.lookOutside(ctx, goal, 0)
	})
}

// planFor compares a goal, or a part of it, with the world; outside tells of what the goal's sinks need.
func planFor(goal *configs.Config, current reconcile.Revision, stored *configs.Config, seen reconcile.Observed, o api.PlanOptions, outside func(*configs.Config) map[addr.Addr]reconcile.Outside) (reconcile.Plan, error) {
	goal, err := partOf(goal, stored, o)
	if err != nil {
		return reconcile.Plan{}, err
	}
	seen.Outside = outside(goal)
	reconcile.Adopt(goal, seen.States)
	g := reconcile.Goal{Serial: current.Serial, Env: goal.Env, Namespace: goal.Settings.Namespace, Config: goal}
	return reconcile.Diff(g, seen, time.Now()), nil
}

// refuseBlocked says why a plan cannot be carried out as it stands.
func refuseBlocked(p reconcile.Plan) error {
	var errs []error
	for _, c := range p.Changes {
		if c.Blocked != "" {
			errs = append(errs, fmt.Errorf("%w: %s", api.ErrUnsupported, c.Blocked))
		}
	}
	return errors.Join(errs...)
}

// partOf gives the goal that a plan or apply with these options is about; stored is
// what the goal is until then, nil if there is none:
// nothing with Destroy; with Targets the stored goal with these addresses, and what they refer to, as
// the given goal has them.
func partOf(goal, stored *configs.Config, o api.PlanOptions) (*configs.Config, error) {
	if len(o.Targets) == 0 && !o.Destroy {
		return goal, nil
	}
	want := map[addr.Addr]configs.Resource{}
	if stored != nil {
		for _, r := range stored.Resources {
			want[r.Addr] = r
		}
	}
	targets, err := targetsOf(goal, want, o.Targets)
	if err != nil {
		return nil, err
	}
	if o.Destroy && len(o.Targets) == 0 {
		clear(want)
	}
	given := map[addr.Addr]configs.Resource{}
	for _, r := range goal.Resources {
		given[r.Addr] = r
	}
	for a := range targets {
		if r, ok := given[a]; ok && !o.Destroy {
			want[a] = r
		} else {
			delete(want, a)
		}
	}
	rs := make([]configs.Resource, 0, len(want))
	for _, a := range slices.SortedFunc(maps.Keys(want), addr.Compare) {
		rs = append(rs, want[a])
	}
	return decodeLike(goal, rs)
}

// targetsOf gives the addresses that targets name, with what they refer to.
func targetsOf(goal *configs.Config, stored map[addr.Addr]configs.Resource, targets []addr.Addr) (map[addr.Addr]bool, error) {
	known := map[addr.Addr]bool{}
	for a := range stored {
		known[a] = true
	}
	for _, r := range goal.Resources {
		known[r.Addr] = true
	}
	out := map[addr.Addr]bool{}
	for _, t := range targets {
		found := false
		for a := range known {
			if a == t || !t.Each && a.Block() == t {
				out[a], found = true, true
				if r := goal.Routes[a]; r != nil {
					out[r.From.Addr], out[r.To.Addr] = true, true
					if !r.DeadLetter.Addr.IsZero() {
						out[r.DeadLetter.Addr] = true
					}
				}
			}
		}
		if !found {
			names := make([]string, 0, len(known))
			for a := range known {
				names = append(names, a.String())
			}
			slices.Sort(names)
			return nil, &api.NotFoundError{Addr: t.String(), Known: names}
		}
	}
	for a := range out {
		if s := goal.Streams[a]; s != nil && known[s.Cluster] {
			out[s.Cluster] = true
		}
	}
	return out, nil
}

// Apply stores the goal and waits until it is brought about.
func (s *server) Apply(ctx context.Context, goal *configs.Config, o api.ApplyOptions, progress func(api.ApplyEvent)) (api.ApplyResult, error) {
	st := s.goals.State()
	current := st.Revision
	if current.Serial != o.Serial {
		return api.ApplyResult{}, &api.StaleError{Planned: o.Serial, Stored: current.Serial}
	}
	plan, err := s.compare(ctx, goal, o.PlanOptions)
	if err != nil {
		return api.ApplyResult{}, err
	}
	if err := refuseBlocked(plan); err != nil {
		return api.ApplyResult{}, err
	}
	part, err := partOf(goal, st.Config, o.PlanOptions)
	if err != nil {
		return api.ApplyResult{}, err
	}
	planned := map[addr.Addr]reconcile.Action{}
	for _, c := range plan.Changes {
		planned[c.Addr] = c.Action
	}
	cancel := s.loop.Subscribe(func(e reconcile.Event) {
		ev := api.ApplyEvent{Addr: e.Addr.String(), Action: string(e.Action), Phase: string(e.Phase), Elapsed: e.Elapsed}
		if e.Err != nil {
			ev.Error = e.Err.Error()
		}
		if e.Phase != reconcile.PhaseWithheld {
			progress(ev)
		}
	})
	defer cancel()
	s.plant.use(part)
	next, err := s.goals.Propose(ctx, reconcile.Proposal{Config: part, Who: o.Who, Why: o.Why, Serial: o.Serial, Allow: plan.Destructive()})
	var stale *reconcile.StaleError
	if errors.As(err, &stale) {
		return api.ApplyResult{}, &api.StaleError{Planned: stale.Planned, Stored: stale.Stored}
	}
	if err != nil {
		return api.ApplyResult{}, err
	}
	serial := next.Serial
	settled, err := s.loop.Settle(ctx, serial)
	if err != nil {
		return api.ApplyResult{Serial: serial}, err
	}
	result := api.ApplyResult{Serial: serial, Failed: len(settled.Failed)}
	done := reconcile.Plan{}
	for _, e := range settled.Done {
		if a, ok := planned[e.Addr]; ok {
			done.Changes = append(done.Changes, reconcile.Change{Addr: e.Addr, Action: a})
			result.Done++
		}
	}
	for _, c := range done.Changes {
		result.Counts.Count(string(c.Action))
	}
	return result, nil
}

// Tap shows what a route delivers, or what arrives in a stream.
func (s *server) Tap(ctx context.Context, a addr.Addr, o api.TapOptions, emit func(api.TapEvent) error) error {
	goal := s.goals.State().Config
	if u := s.runtime.unit(a, false); u != nil {
		events, stop := u.tap.subscribe()
		defer stop()
		return drainTap(ctx, events, o.Limit, emit)
	}
	if goal == nil || goal.Streams[a] == nil {
		return s.notTapped(goal, a)
	}
	return s.plant.tapStream(ctx, goal, a, s.runtime.topicNames(goal)(a), o, emit)
}

// notTapped says why nothing can be shown of an address.
func (s *server) notTapped(goal *configs.Config, a addr.Addr) error {
	if goal == nil {
		return s.notFound(a)
	}
	if goal.Sources[a] != nil || goal.Sinks[a] != nil || goal.Clusters[a] != nil {
		for _, at := range slices.SortedFunc(maps.Keys(goal.Routes), addr.Compare) {
			if r := goal.Routes[at]; r.From.Addr == a || r.To.Addr == a {
				return fmt.Errorf("%w: records are shown of routes and streams; %s is used by %s", api.ErrUnsupported, a, at)
			}
		}
		return fmt.Errorf("%w: records are shown of routes and streams, and no route uses %s", api.ErrUnsupported, a)
	}
	known := []string{}
	for at := range goal.Streams {
		known = append(known, at.String())
	}
	err := s.notFound(a)
	if e, ok := errors.AsType[*api.NotFoundError](err); ok {
		e.Known = append(e.Known, known...)
		slices.Sort(e.Known)
	}
	return err
}

// tapStream reads a stream from its end, without a group.
func (p *plant) tapStream(ctx context.Context, cfg *configs.Config, a addr.Addr, topic string, o api.TapOptions, emit func(api.TapEvent) error) error {
	opts, err := p.clientOptions(ctx, cfg.ClusterOf(a))
	if err != nil {
		return err
	}
	n := int64(0)
	tap := sourcekafka.Tap{Client: opts, Topic: topic, Start: "latest", Follow: true, ReadCommitted: true}
	err = tap.Read(ctx, func(b *record.Batch) error {
		for i := range b.Records {
			if err := emit(tapEvent(b.Topic, b.Partition, &b.Records[i])); err != nil {
				return err
			}
			if n++; o.Limit > 0 && n >= o.Limit {
				return sourcekafka.ErrStop
			}
		}
		return nil
	})
	if ctx.Err() != nil {
		return nil //nolint:nilerr // whoever watches went away
	}
	return err
}
