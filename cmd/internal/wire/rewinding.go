package wire

import (
	"context"
	"errors"
	"fmt"
	"time"

	"keystone/configs"
	"keystone/configs/addr"
	"keystone/reconcile"
	"keystone/reconcile/store"
	"keystone/sources/kafka/admin"
)

// How a rewind of a route that reads a stream goes:
//
//  1. it is written down, with its id and the positions;
//  2. the route's worker is stopped;
//  3. the group becomes empty: a member of ours that was left behind by a kill is put
//     out, and others are waited for, within a bound;
//  4. the positions are committed, and carry the id;
//  5. the mirror of the positions, the history of programs and the audit follow, and the
//     rewind is taken off, in one transaction;
//  6. the route starts.
//
// Steps 2 to 6 are what applying a route does while a rewind of it is written
// down, so whoever starts after a crash goes on with them before a worker of this
// server reads. Each may be done twice. What another server's worker committed
// between a crash after 4 and the next start carries the id on, and step 4 is
// left out then: nothing is rewound twice. Where the group does not become
// empty, the rewind is taken off, and nothing has changed.

// emptyWithin bounds step 3: a member that leaves is gone at once, one that died when its session ends.
const emptyWithin = 20 * time.Second

// rewinding is a rewind that is not completed.
type rewinding struct {
	reconcile.Rewind
	done chan struct{} // closed when it is
	err  error         // why it was taken off, set before done is closed
}

// recall takes over what the store holds of operators' words.
func (r *runtime) recall(ctx context.Context, state *store.Store) error {
	holds, err := state.Holds(ctx)
	if err != nil {
		return err
	}
	rewinds, err := state.Rewinds(ctx)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.holds = holds
	for a, rw := range rewinds {
		r.rewinds[a] = &rewinding{Rewind: rw, done: make(chan struct{})}
	}
	return nil
}

// rewindOf gives the rewind of a route that is not completed, or nil.
func (r *runtime) rewindOf(a addr.Addr) *reconcile.Rewind {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.rewinds[a]; p != nil {
		rw := p.Rewind
		return &rw
	}
	return nil
}

// allRewinds gives the rewinds that are not completed.
func (r *runtime) allRewinds() map[addr.Addr]reconcile.Rewind {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[addr.Addr]reconcile.Rewind, len(r.rewinds))
	for a, p := range r.rewinds {
		out[a] = p.Rewind
	}
	return out
}

// begin makes a rewind that is written down what counts here.
func (r *runtime) begin(rw reconcile.Rewind) *rewinding {
	p := &rewinding{Rewind: rw, done: make(chan struct{})}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rewinds[rw.Addr] = p
	return p
}

// moveRewind gives the rewind of a route to its new name, as the store did.
func (r *runtime) moveRewind(from, to addr.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.rewinds[from]; p != nil {
		delete(r.rewinds, from)
		p.Addr = to
		r.rewinds[to] = p
	}
}

// completeRewind does what a rewind of the route has left to do, if there is
// one. The route's worker is stopped. An error has it tried again.
func (r *runtime) completeRewind(ctx context.Context, goal *configs.Config, route *configs.Route, group string, replaced bool) error {
	r.mu.Lock()
	p := r.rewinds[route.Addr]
	r.mu.Unlock()
	if p == nil {
		return nil
	}
	r.stepped("the worker is stopped")
	var refused error
	switch {
	case replaced:
		refused = fmt.Errorf("the positions of %s were dropped meanwhile", route.Addr)
	case p.Source != sourceName(route, kindOf(goal, route.From.Addr)) || p.Group != "" && p.Group != group:
		refused = fmt.Errorf("%s reads something else by now", route.Addr)
	case p.Group != "":
		if err := r.rewindGroup(ctx, goal, route, p.Rewind); err != nil {
			_, inGroup := errors.AsType[*admin.MembersError](err)
			_, other := errors.AsType[*admin.OtherTopicError](err)
			if !inGroup && !other {
				return fmt.Errorf("%s is not completed yet: %w", p.Rewind, err)
			}
			refused = err
		}
	}
	e := reconcile.AuditEntry{Time: time.Now(), Who: p.Who, Action: "rewound", Addr: route.Addr.String(), Serial: r.serial(), Detail: p.How + " (" + p.ID + ")"}
	if refused != nil {
		e.Action, e.Detail = "rewind refused", p.How+" ("+p.ID+"): "+refused.Error()
	}
	if err := r.endRewind(ctx, p.Rewind, refused == nil, e); err != nil {
		return err
	}
	r.stepped("the rewind is taken off")
	r.mu.Lock()
	delete(r.rewinds, route.Addr)
	r.mu.Unlock()
	log := r.log.With("route", route.Addr.String(), "rewind", p.ID)
	if refused != nil {
		p.err = refused
		log.Error("the rewind is refused: nothing has changed", "error", refused)
	} else {
		log.Warn("the route is rewound", "how", p.How, "who", p.Who)
	}
	close(p.done)
	return nil
}

func (r *runtime) rewindGroup(ctx context.Context, goal *configs.Config, route *configs.Route, rw reconcile.Rewind) error {
	adm, err := r.admin(ctx, goal.ClusterOf(route.From.Addr))
	if err != nil {
		return err
	}
	return adm.Rewind(ctx, admin.Rewind{
		ID: rw.ID, Group: rw.Group, Topic: rw.Topic, Instances: instances(r.stateDir, route.Addr),
		To: rw.To, Within: emptyWithin, Step: r.stepped,
	})
}

func (r *runtime) stepped(name string) {
	if r.step != nil {
		r.step(name)
	}
}
