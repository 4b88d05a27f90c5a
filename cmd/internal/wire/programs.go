package wire

import (
	"context"
	"fmt"
	goruntime "runtime"
	"sync"
	"time"
	"weak"

	"keystone/configs"
	"keystone/configs/addr"
	"keystone/pipeline"
	"keystone/reconcile"
	"keystone/reconcile/store"
)

// programStore keeps the history of routes: which program ran from which offset on.
type programStore interface {
	SavePrograms(ctx context.Context, route addr.Addr, source string, entries []store.Program) error
	Programs(ctx context.Context, route addr.Addr, source string) ([]store.Program, error)
}

// programs writes the history of one route. It knows the goal of each program
// for as long as something runs it, or has run it and is not written down.
type programs struct {
	to programStore

	mu    sync.Mutex // guards goals
	goals map[weak.Pointer[configs.Route]]program
}

// program is what is written of one.
type program struct {
	source string
	goal   []byte
}

// sourceName tells apart what positions and programs of a route count in.
func sourceName(r *configs.Route, kind string) string { return r.From.Addr.String() + " " + kind }

// kindOf is the kind of a route's source.
func kindOf(cfg *configs.Config, from addr.Addr) string {
	if s := cfg.Sources[from]; s != nil {
		return s.Kind
	}
	return "kafka"
}

// add makes a route's program known before it runs. Earlier ones may still have to be written.
func (p *programs) add(cfg *configs.Config, route *configs.Route, kind string) error {
	goal, err := programGoal(cfg, route)
	if err != nil {
		return fmt.Errorf("the program of %s: %w", route.Addr, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.goals == nil {
		p.goals = map[weak.Pointer[configs.Route]]program{}
	}
	key := weak.Make(route)
	if _, known := p.goals[key]; !known {
		goruntime.AddCleanup(route, p.drop, key)
	}
	p.goals[key] = program{sourceName(route, kind), goal}
	return nil
}

func (p *programs) drop(key weak.Pointer[configs.Route]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.goals, key)
}

// SavePrograms implements pipeline.Programs.
func (p *programs) SavePrograms(ctx context.Context, route addr.Addr, starts []pipeline.ProgramStart) error {
	bySource := map[string][]store.Program{}
	now := time.Now()
	p.mu.Lock()
	for _, s := range starts {
		known, ok := p.goals[weak.Make(s.Route)]
		if !ok {
			p.mu.Unlock()
			return fmt.Errorf("nobody said what the program of revision %d is", s.Revision)
		}
		e := store.Program{Partition: s.At.Partition, First: s.At.Offset, Identity: s.At.Identity, Begin: store.ProgramStart, Revision: s.Revision, Time: now, Goal: known.goal}
		if s.Swapped {
			e.Begin = store.ProgramSwap
		}
		bySource[known.source] = append(bySource[known.source], e)
	}
	p.mu.Unlock()
	for source, entries := range bySource {
		if err := p.to.SavePrograms(ctx, route, source, entries); err != nil {
			return err
		}
	}
	return nil
}

// programGoal encodes a route with what it refers to: all that its program is made of.
func programGoal(cfg *configs.Config, route *configs.Route) ([]byte, error) {
	want := map[addr.Addr]bool{route.Addr: true, route.From.Addr: true, route.To.Addr: true, route.DeadLetter.Addr: true}
	for a := range want {
		if s := cfg.Streams[a]; s != nil {
			want[s.Cluster] = true
		}
	}
	part := *cfg
	part.Moved, part.Removed, part.Resources = nil, nil, nil
	for _, r := range cfg.Resources {
		if want[r.Addr] {
			part.Resources = append(part.Resources, r)
		}
	}
	part.Resources = reconcile.WithoutLiterals(part.Resources)
	return EncodeGoal(&part)
}
