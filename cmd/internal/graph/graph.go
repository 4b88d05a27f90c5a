// Package graph draws how events flow through a configuration: as DOT for
// other tools, and as SVG.
//
// The SVG is laid out here: the flow is a layered graph already, from sources
// through routes to sinks. A whole Graphviz (compiled to WebAssembly) would be linked into
// a server that never draws, compile itself at every start, and keep its
// memory: 0.7 s for the first process on a machine and 18 MB were measured.
package graph

import (
	"maps"
	"slices"

	"keystone/configs"
	"keystone/configs/addr"
)

// Node is one address.
type Node struct {
	Addr  addr.Addr
	Kind  string // of a source or sink; the cluster of a stream
	Off   bool   // a route with enabled = false
	layer int
	order float64
}

// Edge is a way that events take.
type Edge struct {
	From, To addr.Addr
	Dead     bool // of dead letters
}

// Graph is the flow; nodes and edges are in address order.
type Graph struct {
	Nodes []Node
	Edges []Edge
}

// Of gives the flow of a configuration.
func Of(c *configs.Config) Graph {
	nodes := map[addr.Addr]Node{}
	for a, s := range c.Sources {
		nodes[a] = Node{Addr: a, Kind: s.Kind}
	}
	for a, s := range c.Sinks {
		nodes[a] = Node{Addr: a, Kind: s.Kind}
	}
	for a := range c.Streams {
		nodes[a] = Node{Addr: a}
	}
	var g Graph
	for a, r := range c.Routes {
		nodes[a] = Node{Addr: a, Off: !r.Enabled}
		g.Edges = append(g.Edges, Edge{From: r.From.Addr, To: a}, Edge{From: a, To: r.To.Addr})
		if !r.DeadLetter.Addr.IsZero() {
			g.Edges = append(g.Edges, Edge{From: a, To: r.DeadLetter.Addr, Dead: true})
		}
	}
	for a, j := range c.Jobs {
		nodes[a] = Node{Addr: a, Off: !j.Enabled}
	}
	for _, e := range c.Graph() {
		if e.From.Type == "job" || e.To.Type == "job" {
			g.Edges = append(g.Edges, Edge{From: e.From, To: e.To, Dead: e.DeadLetters})
		}
	}
	g.Nodes = slices.SortedFunc(maps.Values(nodes), func(a, b Node) int { return addr.Compare(a.Addr, b.Addr) })
	slices.SortFunc(g.Edges, func(a, b Edge) int {
		if n := addr.Compare(a.From, b.From); n != 0 {
			return n
		}
		return addr.Compare(a.To, b.To)
	})
	return g
}

// Label is what a node is called in a picture.
func (n Node) Label() string {
	if n.Kind != "" {
		return n.Addr.String() + " (" + n.Kind + ")"
	}
	return n.Addr.String()
}

type look struct{ shape, fill string }

// looks by block type; the words of the shapes are Graphviz's.
func (n Node) look() look {
	switch n.Addr.Type {
	case "source":
		return look{"invhouse", "#d8ead3"}
	case "sink":
		return look{"house", "#fbe3c8"}
	case "stream":
		return look{"cylinder", "#d3e3f5"}
	case "job":
		return look{"box", "#e4dcf1"}
	}
	return look{"box", "#eeeeee"}
}
