package wire

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"keystone/configs"
	"keystone/configs/addr"
	"keystone/dsl/types"
	"keystone/reconcile"
	"keystone/sinks"
)

// outside looks after what sinks need in their destinations: index templates, tables.
type outside struct {
	mu   sync.Mutex // guards seen; no I/O under it
	seen map[addr.Addr]glance
}

// glance is one look at the things of a sink, for what it was told then.
type glance struct {
	config sinks.Provisioner
	events []types.Type
	at     time.Time
	found  reconcile.Outside
}

// glanceLife is how long the loop believes in what it saw of a destination: it turns
// whenever anything changes, and a warehouse need not be asked each time.
const glanceLife = 10 * time.Second

// provisioner gives the sink's declarations of things outside; nil if it has none.
func provisioner(cfg *configs.Config, a addr.Addr) sinks.Provisioner {
	s := cfg.Sinks[a]
	if s == nil {
		return nil
	}
	p, _ := s.Config.(sinks.Provisioner)
	return p
}

func (p *plant) sinkDeps(a addr.Addr) sinks.Deps {
	return sinks.Deps{Log: p.log.With("sink", a.String()), Dir: p.dir, Resolve: p.resolve}
}

// lookOutside looks at what the sinks of a configuration need, all at once, within observeTimeout. Looks that are
// younger than life and were about the same are believed.
func (r *runtime) lookOutside(ctx context.Context, cfg *configs.Config, life time.Duration) map[addr.Addr]reconcile.Outside {
	if cfg == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, observeTimeout)
	defer cancel()
	out := map[addr.Addr]reconcile.Outside{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for a := range cfg.Sinks {
		p := provisioner(cfg, a)
		if p == nil {
			continue
		}
		wg.Go(func() {
			found := r.look(ctx, a, p, cfg.EventsOf(a), life)
			mu.Lock()
			defer mu.Unlock()
			out[a] = found
		})
	}
	wg.Wait()
	return out
}

func (r *runtime) look(ctx context.Context, a addr.Addr, p sinks.Provisioner, events []types.Type, life time.Duration) reconcile.Outside {
	r.outside.mu.Lock()
	g, ok := r.outside.seen[a]
	r.outside.mu.Unlock()
	if ok && g.config == p && time.Since(g.at) < life && slices.EqualFunc(g.events, events, types.Equal) {
		return g.found
	}
	g = glance{config: p, events: events, at: time.Now()}
	var things []sinks.Thing
	err := protect(func() (err error) {
		things, err = p.Observe(ctx, r.sinkDeps(a), events)
		return err
	})
	if err != nil {
		g.found = reconcile.Outside{Things: r.wanted(p, a, events), Error: err.Error()}
	} else {
		g.found.Things = thingsOf(things)
	}
	r.outside.mu.Lock()
	r.outside.seen[a] = g
	r.outside.mu.Unlock()
	return g.found
}

// protect turns a panic of a sink into an error: one kind must not stop the control plane.
func protect(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return f()
}

// wanted names the things of a sink whose destination does not answer.
func (p *plant) wanted(c sinks.Provisioner, a addr.Addr, events []types.Type) []reconcile.Thing {
	return namesOf(c.Wanted(p.sinkDeps(a), events))
}

// namesOf gives things that nobody looked at.
func namesOf(things []sinks.Thing) []reconcile.Thing {
	out := make([]reconcile.Thing, len(things))
	for i, t := range things {
		out[i] = reconcile.Thing{Kind: t.Kind, Name: t.Name}
	}
	return out
}

func thingsOf(things []sinks.Thing) []reconcile.Thing {
	out := make([]reconcile.Thing, len(things))
	for i, t := range things {
		out[i] = reconcile.Thing{Kind: t.Kind, Name: t.Name, Action: reconcile.NoOp, Differs: t.Differs, Blocked: t.Blocked, Notes: t.Notes}
		switch {
		case !t.Exists:
			out[i].Action = reconcile.Create
		case len(t.Differs) > 0:
			out[i].Action = reconcile.Update
		}
	}
	return out
}

// applySink makes what a sink needs outside, or takes it away.
func (r *runtime) applySink(ctx context.Context, goal *configs.Config, c reconcile.Change) error {
	r.outside.mu.Lock()
	delete(r.outside.seen, c.Addr)
	r.outside.mu.Unlock()
	switch c.Action {
	case reconcile.Forget:
		return nil
	case reconcile.Delete:
		if !c.Destructive || c.Before == nil {
			return nil
		}
		old, err := decodeLike(goal, []configs.Resource{*c.Before})
		if err != nil {
			return fmt.Errorf("what %s made outside cannot be taken away, since its block, as it was stored, is not understood: %w", c.Addr, err)
		}
		if p := provisioner(old, c.Addr); p != nil {
			return protect(func() error { return p.Destroy(ctx, r.sinkDeps(c.Addr)) })
		}
		return nil
	}
	p := provisioner(goal, c.Addr)
	if p == nil {
		return nil
	}
	err := protect(func() error { return p.Ensure(ctx, r.sinkDeps(c.Addr), goal.EventsOf(c.Addr)) })
	var later sinks.Later
	if errors.As(err, &later) && ctx.Err() == nil {
		r.log.Warn("what the sink needs outside is made once its destination answers; its routes write meanwhile", "sink", c.Addr.String(), "error", later.Err)
		return nil
	}
	return err
}
