package job

import (
	"fmt"

	"keystone/configs"
	"keystone/dsl/eval"
	"keystone/dsl/ir"
	"keystone/dsl/types"
	"keystone/pipeline/job/agg"
	"keystone/pipeline/record"
)

// op says what a row does to the one that it replaces.
type op uint8

const (
	insert op = iota
	update
	remove // the row is the one that is withdrawn
)

// String gives it as a write with revisions does.
func (o op) String() string { return [...]string{"insert", "update", "delete"}[o] }

// row is one row on its way through the steps of a task. It is borrowed until the step returns.
type row struct {
	time, mark int64
	tie        agg.Tie
	op         op
	rev        uint32 // how often the row was given before
	topic      string
	partition  int32
	rec        *record.Record // Value is the row; key, headers and so on only of records as read
	id         []byte         // of the row for ever; nil: it has none
}

// step is what is done with a row in the task in which it is.
type step interface{ row(r *row) error }

func runAll(steps []step, r *row) error {
	for _, s := range steps {
		if err := s.row(r); err != nil {
			return err
		}
	}
	return nil
}

// scope is the steps that read the same document: what all their expressions need of it is found in one scan.
type scope struct {
	t     *task
	of    *configs.Operator // whose rows they are
	typ   types.Type
	exprs []*ir.Expr
	eval  *eval.RowEval
	steps []step
}

func (t *task) newScope(of *configs.Operator, typ types.Type) *scope {
	s := &scope{t: t, of: of, typ: typ}
	t.scopes = append(t.scopes, s)
	return s
}

// add takes expressions and gives the number of the first.
func (s *scope) add(exprs ...*ir.Expr) int {
	s.exprs = append(s.exprs, exprs...)
	return len(s.exprs) - len(exprs)
}

// compile makes the program when all steps have said what they read.
func (s *scope) compile() error {
	p, err := eval.CompileRow(s.exprs, s.typ)
	if err != nil {
		return fmt.Errorf("%s: %w", s.of.Name(), err)
	}
	s.eval = p.NewEval()
	return nil
}

// row scans the document and runs the steps.
func (s *scope) row(r *row) error {
	if len(s.exprs) > 0 {
		if err := s.eval.Begin(r.topic, r.partition, r.rec); err != nil {
			return s.t.fail(s.of, r, err)
		}
	}
	return runAll(s.steps, r)
}

// build gives the steps of the operators that read an output, whose document s has scanned.
func (t *task) build(of *configs.Operator, port string, s *scope) ([]step, error) {
	var out []step
	for _, c := range t.j.graph.consumers[edge{of, port}] {
		st, err := t.buildOne(c, s)
		if err != nil {
			return nil, err
		}
		out = append(out, st)
	}
	return out, nil
}

func (t *task) buildOne(c consumer, s *scope) (step, error) {
	o := c.op
	n := t.j.graph.counts[o]
	if t.j.graph.nodes[o] != nil {
		return t.buildSend(c, s)
	}
	switch o.Kind {
	case "filter":
		f := &filterStep{s: s, of: o, first: s.add(o.Where...), n: len(o.Where), c: n}
		var err error
		f.next, err = t.build(o, "", s)
		return f, err
	case "split":
		f := &splitStep{s: s, of: o, c: n}
		for _, b := range o.Split {
			next, err := t.build(o, b.Name, s)
			if err != nil {
				return nil, err
			}
			f.branches = append(f.branches, splitBranch{s.add(b.Where...), len(b.Where), next})
		}
		var err error
		f.rest, err = t.build(o, "rest", s)
		return f, err
	case "union":
		sub, err := t.buildScope(o, "", o.Output)
		return &passStep{sub, n}, err
	case "project", "explode":
		p, err := eval.Compile(o.Shape)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.Name(), err)
		}
		sub, err := t.buildScope(o, "", o.Output)
		return &shapeStep{t: t, of: o, e: p.NewEval(), next: sub, c: n}, err
	case "write":
		return t.buildWrite(o)
	}
	return nil, fmt.Errorf("%s: there is no operator of the kind %q", o.Name(), o.Kind)
}

// buildScope makes the scope of the rows of an output, with its steps.
func (t *task) buildScope(of *configs.Operator, port string, typ types.Type) (*scope, error) {
	s := t.newScope(of, typ)
	var err error
	s.steps, err = t.build(of, port, s)
	return s, err
}

// holds tells whether conditions are all true.
func (s *scope) holds(first, n int) (bool, *eval.Error) {
	for i := first; i < first+n; i++ {
		if ok, err := s.eval.True(i); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

type filterStep struct {
	s        *scope
	of       *configs.Operator
	first, n int
	next     []step
	c        *counts
}

func (f *filterStep) row(r *row) error {
	f.c.in.add(1)
	ok, err := f.s.holds(f.first, f.n)
	if err != nil {
		return f.s.t.fail(f.of, r, err)
	}
	if !ok {
		if r.op != update {
			return nil // what is withdrawn went no further when it was given
		}
		w := *r // the one before may have passed
		w.op = remove
		r = &w
	}
	f.c.out.add(1)
	return runAll(f.next, r)
}

type splitStep struct {
	s        *scope
	of       *configs.Operator
	branches []splitBranch
	rest     []step
	c        *counts
}

type splitBranch struct {
	first, n int
	next     []step
}

func (f *splitStep) row(r *row) error {
	f.c.in.add(1)
	f.c.out.add(1)
	at := len(f.branches)
	for i := range f.branches {
		ok, err := f.s.holds(f.branches[i].first, f.branches[i].n)
		if err != nil {
			return f.s.t.fail(f.of, r, err)
		}
		if ok {
			at = i
			break
		}
	}
	if r.op == update { // the one before may have gone another way
		w := *r
		w.op = remove
		for i := range f.branches {
			if i != at {
				if err := runAll(f.branches[i].next, &w); err != nil {
					return err
				}
			}
		}
		if at < len(f.branches) {
			if err := runAll(f.rest, &w); err != nil {
				return err
			}
		}
	}
	if at < len(f.branches) {
		return runAll(f.branches[at].next, r)
	}
	return runAll(f.rest, r)
}

type passStep struct {
	next *scope
	c    *counts
}

func (p *passStep) row(r *row) error {
	p.c.in.add(1)
	p.c.out.add(1)
	return p.next.row(r)
}

// shapeStep projects, edits or explodes.
type shapeStep struct {
	t    *task
	of   *configs.Operator
	e    *eval.Eval
	in   record.Batch
	out  record.Batch
	made record.Record
	id   []byte
	next *scope
	c    *counts
}

func (p *shapeStep) row(r *row) error {
	p.c.in.add(1)
	p.in.Topic, p.in.Partition = r.topic, r.partition
	p.in.Records = append(p.in.Records[:0], *r.rec)
	p.out.Reset()
	verdict, err := p.e.Run(&p.in, 0, &p.out)
	if verdict == eval.Failed {
		return p.t.fail(p.of, r, err)
	}
	n := *r
	n.topic, n.partition = "", 0
	for i := range p.out.Records {
		p.c.out.add(1)
		p.made = record.Record{Value: p.out.Records[i].Value, Timestamp: r.rec.Timestamp}
		n.rec = &p.made
		if p.of.Kind == "explode" {
			n.tie.Child = r.tie.Child*maxChildren + int32(i) //nolint:gosec // a tie of ties is broken by the rows themselves
			if r.id != nil {
				p.id = appendID(append(p.id[:0], r.id...), uint64(i)) //nolint:gosec // an index
				n.id = p.id
			}
		}
		if err := p.next.row(&n); err != nil {
			return err
		}
	}
	return nil
}

// maxChildren spreads the numbers of exploded rows that are exploded again.
const maxChildren = 1 << 10
