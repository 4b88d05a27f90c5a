package wire

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"keystone/cmd/internal/api"
	"keystone/configs"
	"keystone/configs/addr"
	"keystone/reconcile"
	"keystone/reconcile/store"
)

// operateTimeout bounds a verb, whose work goes on when the client leaves: a
// worker that is being drained is not taken down by an interrupt.
const operateTimeout = 2 * time.Minute

// Operate asks a verb of routes; see api.Operator.
func (s *server) Operate(ctx context.Context, o api.Operate) (api.Operated, error) {
	goal := s.goals.State()
	as, err := routesOf(goal.Config, s.runtime.allHolds(), o)
	if err != nil {
		return api.Operated{}, err
	}
	world, err := s.Status(ctx)
	if err != nil {
		return api.Operated{}, err
	}
	done := api.Operated{FormatVersion: api.FormatVersion, Verb: o.Verb, Plan: o.Plan}
	for _, a := range as {
		op, err := operation(goal.Config, a, world.Observed.States[a], s.runtime.holdOf(a), o)
		if err != nil {
			return api.Operated{}, err
		}
		done.Routes = append(done.Routes, op)
	}
	if o.Plan {
		return done, nil
	}
	work, cancel := context.WithTimeout(context.WithoutCancel(ctx), operateTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for i := range done.Routes {
		if done.Routes[i].Does == "" {
			continue
		}
		wg.Go(func() {
			if err := s.operate(work, as[i], o, goal.Revision.Serial); err != nil {
				done.Routes[i].Error = err.Error()
			}
		})
	}
	wg.Wait()
	return done, nil
}

// operate carries a verb out. What is durable comes first: after a crash the
// route starts as it was asked for.
func (s *server) operate(ctx context.Context, a addr.Addr, o api.Operate, serial int64) error {
	h, err := keep(ctx, s.state, a, o, s.runtime.holdOf(a), serial)
	if err != nil {
		return err
	}
	s.runtime.hold(a, h)
	switch o.Verb {
	case api.Drain:
		if u := s.runtime.unit(a, false); u != nil {
			if err := u.stop(ctx); err != nil {
				return fmt.Errorf("%w; what was in flight is read again after `keystone resume %s`", err, a)
			}
		}
		s.loop.Trigger()
	case api.Restart:
		return s.restart(ctx, a, o.AcceptNewTopic)
	default:
		s.loop.Retry(a)
	}
	return nil
}

// keep writes the hold that follows from a verb into the store, with a line of
// the audit, and gives it; nil for none.
func keep(ctx context.Context, state *store.Store, a addr.Addr, o api.Operate, now *reconcile.Hold, serial int64) (*reconcile.Hold, error) {
	e := reconcile.AuditEntry{Time: time.Now(), Who: o.Who, Action: string(o.Verb), Addr: a.String(), Serial: serial}
	if e.Who == "" {
		e.Who = "unknown"
	}
	switch o.Verb {
	case api.Pause, api.Drain:
		h := reconcile.Hold{Addr: a, Kind: reconcile.HoldPause, Who: e.Who, Since: e.Time}
		if o.Verb == api.Drain {
			h.Kind = reconcile.HoldDrain
		}
		return &h, state.Hold(ctx, h, e)
	case api.Resume:
		if now != nil {
			e.Detail = "it was " + now.String()
		}
		return nil, state.Unhold(ctx, a, e)
	}
	if o.AcceptNewTopic {
		e.Detail = "with -accept-new-topic: positions dropped"
	}
	if now != nil && now.Kind == reconcile.HoldPause { // it starts again, and does not read
		return now, state.Audit(ctx, e)
	}
	return nil, state.Unhold(ctx, a, e)
}

// operation tells what a verb does to a route that is as it was seen.
func operation(goal *configs.Config, a addr.Addr, st reconcile.State, held *reconcile.Hold, o api.Operate) (api.Operation, error) {
	op := api.Operation{Addr: a.String(), Now: string(st.Health)}
	if held != nil {
		op.Now = held.String()
	}
	note := func(format string, args ...any) { op.Notes = append(op.Notes, fmt.Sprintf(format, args...)) }
	var route *configs.Route
	if goal != nil {
		route = goal.Routes[a]
	}
	if route == nil { // held, and not in the goal any more
		if o.Verb == api.Resume && held != nil {
			op.Does = "is no longer held back; it is not in the goal"
		}
		return op, nil
	}
	from := "the stored positions"
	if goal.Streams[route.From.Addr] != nil {
		group := st.Group
		if group == "" {
			group = route.Group
		}
		from = "the committed offsets of group " + group
	}
	waiting := func() {
		if st.Lag >= 0 {
			note("%d records wait in %s", st.Lag, route.From.Addr)
		}
		if !route.Enabled {
			note("it is disabled (enabled = false), and does not run in any case")
		}
	}
	drains := func() {
		note("what is in flight is finished and committed first; what takes longer than %v (drain_timeout) is given up and read again later", route.Delivery.DrainTimeout)
	}
	switch o.Verb {
	case api.Pause:
		if held != nil && held.Kind == reconcile.HoldPause {
			return op, nil
		}
		op.Does = "stops reading, until it is resumed"
		note("what is in flight is delivered and committed; its worker stays and keeps its partitions")
		waiting()
	case api.Drain:
		if held != nil && held.Kind == reconcile.HoldDrain {
			return op, nil
		}
		op.Does = "finishes, leaves its group, and stays stopped until it is resumed"
		drains()
		waiting()
	case api.Resume:
		if held == nil {
			return op, nil
		}
		op.Does = "reads on from " + from
		note("nothing is skipped, and nothing that was committed is repeated")
		waiting()
	case api.Restart:
		op.Does = "starts again from " + from
		drains()
		if held != nil && held.Kind == reconcile.HoldPause {
			note("it stays paused")
		}
		if o.AcceptNewTopic {
			if goal.Streams[route.From.Addr] == nil {
				return op, fmt.Errorf("%s reads %s, which has no topic: restart it without -accept-new-topic", a, route.From.Addr)
			}
			op.Does = fmt.Sprintf("starts again from the beginning of the topic that %s has now", route.From.Addr)
			op.Loses = append(op.Loses, fmt.Sprintf("%s, and their copy in the state: everything that the topic holds is read", from))
		}
	}
	return op, nil
}

func (r *runtime) allHolds() map[addr.Addr]reconcile.Hold {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.holds)
}

// routesOf gives the routes that a verb is asked of, in order. A held route
// that is not in the goal any more may be named.
func routesOf(goal *configs.Config, holds map[addr.Addr]reconcile.Hold, o api.Operate) ([]addr.Addr, error) {
	known := map[addr.Addr]bool{}
	if goal != nil {
		for a := range goal.Routes {
			known[a] = true
		}
	}
	for a := range holds {
		known[a] = true
	}
	found := map[addr.Addr]bool{}
	if o.All {
		found = known
	}
	for _, pattern := range o.Addresses {
		some := false
		for a := range known {
			if matches(pattern, a) {
				found[a], some = true, true
			}
		}
		if some {
			continue
		}
		names := make([]string, 0, len(known))
		for a := range known {
			names = append(names, a.String())
		}
		slices.Sort(names)
		return nil, &api.NotFoundError{Addr: pattern, Known: names}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%w: no goal with routes is stored yet", api.ErrUnsupported)
	}
	return slices.SortedFunc(maps.Keys(found), addr.Compare), nil
}

// matches tells whether a pattern names a route: as its address, as the block
// of which it is an instance, or with * for any characters.
func matches(pattern string, a addr.Addr) bool {
	if pattern == a.String() || pattern == a.Block().String() {
		return true
	}
	return glob(pattern, a.String())
}

// glob matches * with any characters. path.Match does not serve: keys stand
// in brackets, and may hold slashes.
func glob(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 || !strings.HasPrefix(s, parts[0]) {
		return false
	}
	s = s[len(parts[0]):]
	last := parts[len(parts)-1]
	for _, p := range parts[1 : len(parts)-1] {
		i := strings.Index(s, p)
		if i < 0 {
			return false
		}
		s = s[i+len(p):]
	}
	return len(s) >= len(last) && strings.HasSuffix(s, last)
}

// Audit gives the latest lines of the audit.
func (s *server) Audit(ctx context.Context, limit int) ([]api.AuditLine, error) {
	es, err := s.state.AuditLog(ctx, limit)
	return api.NewAudit(es), err
}

// Operate writes down what is held back: it counts when the server starts.
func (o *offline) Operate(ctx context.Context, ask api.Operate) (api.Operated, error) {
	if ask.Verb == api.Restart {
		return api.Operated{}, fmt.Errorf("%w: nothing runs here; start `keystone serve`", api.ErrUnsupported)
	}
	r, cfg, err := o.stored(ctx)
	if err != nil {
		return api.Operated{}, err
	}
	holds := map[addr.Addr]reconcile.Hold{}
	if o.state != nil {
		if holds, err = o.state.Holds(ctx); err != nil {
			return api.Operated{}, err
		}
	}
	as, err := routesOf(cfg, holds, ask)
	if err != nil {
		return api.Operated{}, err
	}
	done := api.Operated{FormatVersion: api.FormatVersion, Verb: ask.Verb, Plan: ask.Plan, Offline: true}
	seen := worldOf(r, cfg)
	for _, a := range as {
		st := seen.States[a]
		st.Health = reconcile.Stopped
		var held *reconcile.Hold
		if h, ok := holds[a]; ok {
			held = &h
		}
		op, err := operation(cfg, a, st, held, ask)
		if err != nil {
			return done, err
		}
		if op.Does != "" && !ask.Plan {
			if _, err := keep(ctx, o.state, a, ask, held, r.Serial); err != nil {
				op.Error = err.Error()
			}
		}
		done.Routes = append(done.Routes, op)
	}
	return done, nil
}

// Audit gives the latest lines of the stored audit.
func (o *offline) Audit(ctx context.Context, limit int) ([]api.AuditLine, error) {
	if o.state == nil {
		return []api.AuditLine{}, nil
	}
	es, err := o.state.AuditLog(ctx, limit)
	return api.NewAudit(es), err
}
