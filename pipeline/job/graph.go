package job

import (
	"cmp"
	"fmt"
	"slices"
	"sync/atomic"

	"keystone/configs"
)

// edge is an output of an operator.
type edge struct {
	from *configs.Operator
	port string
}

// consumer is an operator that reads an output as its input of that number.
type consumer struct {
	op    *configs.Operator
	input int
}

// node is an operator that has tasks of its own: a read, or what is keyed. All others run in the tasks of the node
// whose rows they get.
type node struct {
	op    *configs.Operator
	id    uint16 // of its state; of a read: its place among the reads by name
	ups   []*node
	downs []*node
	tasks []*task
	read  *reader      // of a read, and of the table of a lookup
	table bool         // the table of a lookup
	mark  atomic.Int64 // watermark of its first task
	open  atomic.Bool  // tasks are there
}

// graph is a job's operators as they run.
type graph struct {
	consumers map[edge][]consumer
	nodes     map[*configs.Operator]*node
	tables    map[*configs.Operator]*node // of lookups: the readers of their tables
	order     []*node                     // senders before receivers
	counts    map[*configs.Operator]*counts
}

// keyed tells whether rows are brought together by key before the operator.
func keyed(o *configs.Operator) bool {
	switch o.Kind {
	case "window", "aggregate", "dedup", "top", "join", "lookup":
		return true
	}
	return false
}

// newGraph finds the nodes and who sends to whom. ids has the ids of operators by name, and gets those of new ones.
func newGraph(j *configs.Job, ids map[string]uint16) (*graph, error) {
	g := &graph{consumers: map[edge][]consumer{}, nodes: map[*configs.Operator]*node{}, tables: map[*configs.Operator]*node{}, counts: map[*configs.Operator]*counts{}}
	var reads, tables []*node
	next := uint16(1)
	for _, id := range ids {
		next = max(next, id+1)
	}
	for _, o := range j.Operators {
		g.counts[o] = &counts{}
		for i, in := range o.Inputs {
			e := edge{in.From, in.Port}
			g.consumers[e] = append(g.consumers[e], consumer{o, i})
		}
		if o.Kind == "read" {
			n := &node{op: o}
			reads, g.nodes[o] = append(reads, n), n
		}
		if keyed(o) {
			n := &node{op: o}
			if ids[o.Name()] == 0 {
				ids[o.Name()] = next
				next++
			}
			n.id, g.nodes[o] = ids[o.Name()], n
		}
		if o.Kind == "lookup" {
			n := &node{op: o, table: true}
			tables, g.tables[o] = append(tables, n), n
		}
	}
	if next >= 0xff00 {
		return nil, fmt.Errorf("the job has had %d keyed operators, more than its state can tell apart: start it fresh", next)
	}
	byName := func(a, b *node) int { return cmp.Compare(a.op.Label, b.op.Label) }
	slices.SortFunc(reads, byName)
	slices.SortFunc(tables, byName)
	for i, n := range reads {
		n.id = uint16(i) //nolint:gosec // few
	}
	g.order = append(reads, tables...)
	for _, n := range g.order {
		if n.table {
			link(n, g.nodes[n.op])
		}
	}
	for _, o := range j.Operators {
		if n := g.nodes[o]; n != nil && o.Kind != "read" {
			g.order = append(g.order, n)
		}
	}
	for _, n := range g.order {
		if !n.table {
			g.reach(n, n.op, map[*configs.Operator]bool{})
		}
	}
	return g, nil
}

// reach links n with the nodes that get its rows, through operators that run in its tasks.
func (g *graph) reach(n *node, o *configs.Operator, seen map[*configs.Operator]bool) {
	ports := []string{""}
	for p := range o.Ports {
		if !keyed(o) { // what is late is told by those who send
			ports = append(ports, p)
		}
	}
	for _, p := range ports {
		for _, c := range g.consumers[edge{o, p}] {
			g.meet(n, c.op, seen)
		}
	}
}

func (g *graph) meet(n *node, o *configs.Operator, seen map[*configs.Operator]bool) {
	if seen[o] {
		return
	}
	seen[o] = true
	if to := g.nodes[o]; to != nil {
		link(n, to)
		for _, c := range g.consumers[edge{o, portLate}] { // late rows are told where they come from
			g.meet(n, c.op, seen)
		}
		return
	}
	g.reach(n, o, seen)
}

// portLate is the output of what came too late.
const portLate = "late"

func link(from, to *node) {
	if !slices.Contains(from.downs, to) {
		from.downs, to.ups = append(from.downs, to), append(to.ups, from)
	}
}

// started gives the tasks, when they are there.
func (n *node) started() []*task {
	if !n.open.Load() {
		return nil
	}
	return n.tasks
}
