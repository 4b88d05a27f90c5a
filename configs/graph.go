package configs

import (
	"slices"
	"strings"

	"keystone/configs/addr"
	"keystone/configs/diag"
)

// Edge is one way that events take: from a stream or source into a route, or
// from a route into a sink or stream.
type Edge struct {
	From, To    addr.Addr
	DeadLetters bool // only records that the route could not process
}

// Graph lists the ways of events through the configuration, in address order
// of the routes. Managed dead-letter streams are not blocks and not in it.
func (c *Config) Graph() []Edge {
	var edges []Edge
	for _, a := range sorted(c.Routes) {
		r := c.Routes[a]
		edges = append(edges, Edge{From: r.From.Addr, To: a}, Edge{From: a, To: r.To.Addr})
		if r.OnError == DeadLetter && !r.DeadLetter.Addr.IsZero() {
			edges = append(edges, Edge{From: a, To: r.DeadLetter.Addr, DeadLetters: true})
		}
	}
	for _, a := range sorted(c.Jobs) {
		j := c.Jobs[a]
		var in, out []Edge
		for _, o := range j.Operators {
			switch {
			case o.Read != nil:
				in = addEdge(in, Edge{From: o.Read.From.Addr, To: a})
			case o.Lookup != nil:
				in = addEdge(in, Edge{From: o.Lookup.From.Addr, To: a})
			case o.Write != nil:
				out = addEdge(out, Edge{From: a, To: o.Write.To.Addr})
			}
		}
		edges = append(append(edges, in...), out...)
		if j.OnError == DeadLetter && !j.DeadLetter.Addr.IsZero() {
			edges = append(edges, Edge{From: a, To: j.DeadLetter.Addr, DeadLetters: true})
		}
	}
	return edges
}

func addEdge(list []Edge, e Edge) []Edge {
	if slices.Contains(list, e) {
		return list
	}
	return append(list, e)
}

// checkCycles finds routes that feed their own source, directly or through
// others. Two streams of one topic are one place.
func (d *decoder) checkCycles() {
	next := map[addr.Addr][]addr.Addr{}
	byTopic := map[place]addr.Addr{}
	canonical := func(a addr.Addr) addr.Addr {
		s := d.c.Streams[a]
		if s == nil {
			return a
		}
		p := place{s.Cluster, s.Topic}
		if first, ok := byTopic[p]; ok {
			return first
		}
		byTopic[p] = a
		return a
	}
	for _, a := range sorted(d.c.Streams) {
		canonical(a)
	}
	for _, e := range d.c.Graph() {
		if from, to := canonical(e.From), canonical(e.To); !from.IsZero() && !to.IsZero() {
			next[from] = append(next[from], to)
		}
	}
	reported := map[addr.Addr]bool{}
	for _, start := range slices.Concat(sorted(d.c.Routes), sorted(d.c.Jobs)) {
		if reported[start] {
			continue
		}
		path := shortestCycle(next, start)
		if path == nil {
			continue
		}
		var words []string
		for _, a := range path {
			words = append(words, a.String())
			reported[a] = true
		}
		if start.Type == "job" {
			d.jobCycle(start, words)
			continue
		}
		r := d.c.Routes[start]
		rng := r.To.Range
		if len(path) > 1 && path[1] != r.To.Addr && path[1] != canonical(r.To.Addr) {
			rng = r.DeadLetter.Range
		}
		d.scope(start, d.header(start), func(diags *diag.Diagnostics) {
			diags.Addf(rng, codeCycle, "Route that feeds its own source", "Each event would come round again for ever: %s.", strings.Join(words, " → "))
		})
	}
}

// jobCycle reports a job that reads what it writes, at the reads.
func (d *decoder) jobCycle(a addr.Addr, words []string) {
	d.scope(a, d.header(a), func(diags *diag.Diagnostics) {
		rng := d.header(a)
		for _, o := range d.c.Jobs[a].Operators {
			if o.Read != nil && o.Read.From.Addr.String() == words[len(words)-2] {
				rng = o.Read.From.Range
			}
		}
		diags.Addf(rng, codeCycle, "Job that reads what it writes", "Each row would come round again for ever: %s.", strings.Join(words, " → "))
	})
}

// shortestCycle gives the shortest way from a place back to itself, or nil.
func shortestCycle(next map[addr.Addr][]addr.Addr, start addr.Addr) []addr.Addr {
	came := map[addr.Addr]addr.Addr{}
	queue := []addr.Addr{start}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		for _, to := range next[at] {
			if to == start {
				path := []addr.Addr{start}
				for ; at != start; at = came[at] {
					path = append(path, at)
				}
				path = append(path, start)
				slices.Reverse(path)
				return path
			}
			if _, seen := came[to]; !seen {
				came[to] = at
				queue = append(queue, to)
			}
		}
	}
	return nil
}
