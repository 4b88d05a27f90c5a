package wire

import (
	"context"
	"fmt"
	"slices"
	"time"

	"keystone/configs"
	"keystone/pipeline"
	"keystone/reconcile"
)

// handOverTimeout bounds how long a new worker may take to open its sink and to be
// taken into its group, while the old one goes on.
const handOverTimeout = time.Minute

// berth is where a worker sits in its group.
type berth struct {
	seat  int
	first bool // of this process: members of the route's other names are dead
}

// berth gives the seat of the unit's worker, to one that takes it.
func (u *unit) berth() berth {
	u.mu.Lock()
	defer u.mu.Unlock()
	return berth{u.seat, !u.seated}
}

// mayHandOver gives the worker whose place another may take before it has left: delivery.redeploy
// says so, and what is read, and as whom, stays the same. Nil: it is drained first.
func (r *runtime) mayHandOver(u *unit, route *configs.Route, group string, c reconcile.Change) *pipeline.Worker {
	if c.Action != reconcile.Drain || !route.Enabled || !route.Overlaps() ||
		slices.ContainsFunc(c.Options, func(o reconcile.OptionChange) bool { return o.Name == "from" }) {
		return nil
	}
	r.mu.Lock()
	rewinding := r.rewinds[route.Addr] != nil
	r.mu.Unlock()
	u.mu.Lock()
	defer u.mu.Unlock()
	if rewinding || u.drained() || u.group != group || u.draining {
		return nil
	}
	return u.worker
}

// handOver starts a worker beside the old one, in its other seat, and has the old one leave when the
// new one is a member of the group: what the old one gives up is read on at once. Where the
// new one does not come up the old one goes on, and the change is tried again.
//
// It leaves nothing that a crash could hurt: both are members of one group, and Kafka shares the
// partitions out between them. A process that is killed in between leaves one or
// two dead members, which the next one's first worker puts out.
func (r *runtime) handOver(ctx context.Context, goal *configs.Config, route *configs.Route, group string, c reconcile.Change, u *unit, old *pipeline.Worker) error {
	seat := (u.berth().seat + 1) % seats
	w, ended, err := r.worker(ctx, goal, route, group, u, berth{seat: seat})
	if err != nil {
		return fmt.Errorf("the new worker cannot be made, and the old one goes on: %w", err)
	}
	r.stepped("the new worker is made")
	base, cancel := context.WithCancelCause(r.base)
	l := &launch{worker: w, cancel: cancel, gone: make(chan struct{}), ended: ended}
	u.mu.Lock()
	if u.held != nil {
		w.Pause()
	}
	u.mu.Unlock()
	u.log.Info("route starts anew beside the worker that it replaces", "from", route.From.Addr.String(), "to", route.To.Addr.String())
	go u.run(base, l)
	bounded, stop := context.WithTimeoutCause(ctx, handOverTimeout, fmt.Errorf("it was not ready within %v", handOverTimeout))
	defer stop()
	err = w.Ready(bounded)
	r.stepped("the new worker is a member")
	u.mu.Lock()
	gone := u.gone
	if err == nil && u.drained() {
		err = fmt.Errorf("the route was drained meanwhile")
	}
	if err == nil {
		u.adopt(l, c.After, group, c.Kept)
		u.seat = seat
		if u.held != nil {
			w.Pause()
		} else {
			w.Resume() // whoever was held back when it was made may not be any more
		}
		if l.over { // between being ready and this
			u.end(l, w.Stats())
		}
	}
	u.mu.Unlock()
	if err != nil {
		cancel(errTakenDown)
		<-l.gone
		return fmt.Errorf("the new worker did not come up, and the old one goes on: %w", err)
	}
	r.stepped("the route is the new worker's")
	if err := old.Leave(ctx); err != nil {
		u.log.Warn("the replaced worker takes long to leave; others have its partitions when the group gives it up", "error", err)
		return nil
	}
	<-gone
	r.stepped("the old worker is gone")
	return nil
}
