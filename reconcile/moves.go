package reconcile

import (
	"fmt"

	"keystone/configs"
	"keystone/configs/addr"
)

// resolveMoves gives, for each address of the goal that has a new name, the
// one that it had. A moved block about a block moves each of its instances;
// moved blocks may be chained, a → b → c.
func resolveMoves(cfg *configs.Config, goal map[addr.Addr]*configs.Resource, exists func(addr.Addr) bool) map[addr.Addr]addr.Addr {
	if len(cfg.Moved) == 0 {
		return nil
	}
	back := make(map[addr.Addr][]addr.Addr, len(cfg.Moved))
	for _, m := range cfg.Moved {
		back[m.To] = append(back[m.To], m.From)
	}
	// find walks the moved blocks backwards from to; seen ends a circle.
	var find func(to addr.Addr, seen map[addr.Addr]bool) (addr.Addr, bool)
	find = func(to addr.Addr, seen map[addr.Addr]bool) (addr.Addr, bool) {
		if seen[to] {
			return addr.Addr{}, false
		}
		seen[to] = true
		var candidates []addr.Addr
		candidates = append(candidates, back[to]...)
		if to.Each {
			for _, f := range back[to.Block()] {
				candidates = append(candidates, f.Instance(to.Key))
			}
		}
		for _, f := range candidates {
			if f.Type != to.Type {
				continue
			}
			if goal[f] == nil && exists(f) {
				return f, true
			}
			if from, ok := find(f, seen); ok {
				return from, true
			}
		}
		return addr.Addr{}, false
	}
	moves := map[addr.Addr]addr.Addr{}
	taken := map[addr.Addr]bool{}
	for i := range cfg.Resources {
		to := cfg.Resources[i].Addr
		if exists(to) || len(back[to]) == 0 && len(back[to.Block()]) == 0 {
			continue
		}
		if from, ok := find(to, map[addr.Addr]bool{}); ok && !taken[from] {
			moves[to] = from
			taken[from] = true
		}
	}
	return moves
}

// warnMoves says which moved blocks cannot be followed.
func (d *differ) warnMoves() {
	for _, m := range d.goal.Config.Moved {
		if d.after[m.From] != nil {
			d.plan.Warnings = append(d.plan.Warnings, fmt.Sprintf("%s is said to have moved to %s, and is still declared: nothing is moved", m.From, m.To))
			continue
		}
		if d.after[m.To] != nil && d.exists(m.From) && d.exists(m.To) {
			d.plan.Warnings = append(d.plan.Warnings, fmt.Sprintf("%s cannot move to %s, which is there already: it is removed instead", m.From, m.To))
		}
	}
}

// Adopt sets in a configuration the consumer groups and topics that moved
// addresses keep from their earlier names, and is called before a goal is compared or
// run. was gives what was applied; the configuration is changed in place.
func Adopt(cfg *configs.Config, was map[addr.Addr]State) {
	goal := make(map[addr.Addr]*configs.Resource, len(cfg.Resources))
	for i := range cfg.Resources {
		goal[cfg.Resources[i].Addr] = &cfg.Resources[i]
	}
	d := differ{obs: Observed{States: was}}
	d.goal.Namespace = cfg.Settings.Namespace
	kept := map[addr.Addr]Identity{}
	for a, st := range was {
		if goal[a] != nil && !st.Kept.IsZero() && d.own(st) {
			kept[a] = st.Kept
		}
	}
	for to, from := range resolveMoves(cfg, goal, d.exists) {
		kept[to] = d.keeps(from, was[from])
	}
	for a, k := range kept {
		if r := cfg.Routes[a]; r != nil && k.Group != "" && r.Group != k.Group {
			r.Group = k.Group
		}
		if j := cfg.Jobs[a]; j != nil && k.Group != "" {
			j.Group = k.Group
		}
		if s := cfg.Streams[a]; s != nil && k.Topic != "" && s.Topic != k.Topic && !writes(goal[a], "topic") {
			s.Topic = k.Topic
		}
	}
}
