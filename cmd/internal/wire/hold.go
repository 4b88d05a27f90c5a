package wire

import (
	"context"

	"keystone/configs"
	"keystone/configs/addr"
	"keystone/reconcile"
)

// hold makes the stored hold of a route, nil for none, what counts here. It
// does not wait: a paused worker stops reading; whoever drains stops it.
//
// A: the loop makes a worker. B: the route is held. A: starts the worker. So
// the unit looks at its hold under its lock when a worker starts, and every
// hold is written there under the same lock.
func (r *runtime) hold(a addr.Addr, h *reconcile.Hold) {
	r.mu.Lock()
	u := r.units[a]
	if h != nil {
		r.holds[a] = *h
	} else {
		delete(r.holds, a)
	}
	if u != nil {
		u.hold(h) // Lock order: runtime.mu before unit.mu.
	}
	r.mu.Unlock()
}

// holdOf gives the hold of a route, nil if nobody holds it back.
func (r *runtime) holdOf(a addr.Addr) *reconcile.Hold {
	r.mu.Lock()
	defer r.mu.Unlock()
	if h, ok := r.holds[a]; ok {
		return &h
	}
	return nil
}

// moveHold gives the hold of a route to its new name, as the store did.
func (r *runtime) moveHold(from, to addr.Addr) {
	if h := r.holdOf(from); h != nil {
		h.Addr = to
		r.hold(to, h)
		r.hold(from, nil)
	}
}

func (u *unit) hold(h *reconcile.Hold) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.held = h
	switch {
	case u.worker == nil:
	case h != nil:
		u.worker.Pause() // also before it is stopped: nothing new is begun
	default:
		u.worker.Resume()
	}
}

// drained tells whether no worker may start. u.mu is held.
func (u *unit) drained() bool { return u.lent || u.held != nil && u.held.Kind == reconcile.HoldDrain }

// rests tells whether the route stays without a worker since it was drained,
// and notes with which options.
func (u *unit) rests(r *configs.Resource) bool {
	u.mu.Lock()
	drained := u.drained()
	u.mu.Unlock()
	if drained {
		u.rest(r)
	}
	return drained
}

// rest notes that no worker runs since the route was drained.
func (u *unit) rest(r *configs.Resource) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.resource, u.health, u.err = r, reconcile.Stopped, nil
}

// showHold makes a hold what a route does. Whoever is held back is not
// stalled, and what is wrong with it is said all the same. u.mu is not held.
func (u *unit) showHold(st *reconcile.State, works bool) {
	u.mu.Lock()
	h := u.held
	u.mu.Unlock()
	if h == nil {
		return
	}
	st.Held = h
	switch {
	case h.Kind == reconcile.HoldDrain && !works:
		if st.Health != reconcile.Disabled {
			st.Health, st.Error = reconcile.Drained, ""
		}
		st.Activity = h.String()
	case h.Kind == reconcile.HoldPause && st.Health == reconcile.Running:
		st.Health, st.Activity = reconcile.Paused, h.String()
	}
}

// held adds what operators hold back to the world of a stored goal.
func (o *offline) held(ctx context.Context, seen reconcile.Observed) (reconcile.Observed, error) {
	if o.state == nil {
		return seen, nil
	}
	holds, err := o.state.Holds(ctx)
	for a, h := range holds {
		if st, ok := seen.States[a]; ok {
			st.Held, st.Activity = &h, h.String()
			seen.States[a] = st
		}
	}
	return seen, err
}
