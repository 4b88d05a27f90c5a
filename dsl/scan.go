package dsl

import (
	"slices"
	"time"

	"keystone/dsl/ir"
	"keystone/dsl/reference"
	"keystone/pipeline/record"
)

// ScanOf gives what a checked route needs.
func ScanOf(r *ir.Route) record.Scan {
	var s scan
	for _, f := range r.Filter {
		s.bound(f.Root)
	}
	if !r.HasProject || r.Format == ir.Raw {
		s.All = true
		return record.Scan(s)
	}
	for _, n := range r.Reads() {
		s.need(n.Path)
	}
	whole := false
	each := func(e *ir.Expr) {
		if e != nil {
			e.Root.Walk(func(n *ir.Node) bool {
				whole = whole || n.Op == ir.Event
				return !whole
			})
		}
	}
	var outputs func([]ir.Output)
	outputs = func(list []ir.Output) {
		for _, o := range list {
			each(o.Expr)
			outputs(o.Object)
		}
	}
	for _, f := range r.Filter {
		each(f)
	}
	each(r.Explode)
	outputs(r.Project)
	if whole {
		s.All, s.Fields = true, nil
	}
	slices.Sort(s.Fields)
	s.Fields = slices.Compact(s.Fields)
	return record.Scan(s)
}

// scan is a record.Scan in the making.
type scan record.Scan

func (s *scan) need(path []ir.Step) {
	if len(path) > 0 && !path[0].IsIndex {
		s.Fields = append(s.Fields, path[0].Name)
	}
}

// bound takes over what must be true for n to be true.
func (s *scan) bound(n *ir.Node) {
	switch n.Op {
	case ir.And:
		s.bound(n.Kids[0])
		s.bound(n.Kids[1])
	case ir.Eq, ir.Lt, ir.Le, ir.Gt, ir.Ge:
		a, b, op := n.Kids[0], n.Kids[1], n.Op
		if b.Op == ir.Field {
			a, b, op = b, a, mirrored[op]
		}
		path, ok := names(a)
		v, known := constant(b)
		if ok && known {
			s.Bounds = append(s.Bounds, record.Bound{Path: path, Op: signs[op], Values: []any{v}})
		}
	case ir.In:
		path, ok := names(n.Kids[0])
		list, isList := n.Kids[1].Value.([]any)
		if !ok || !isList || n.Kids[1].Op != ir.Const || len(list) == 0 {
			return
		}
		for _, v := range list {
			if !scalar(v) {
				return
			}
		}
		s.Bounds = append(s.Bounds, record.Bound{Path: path, Op: "in", Values: list})
	}
}

// mirrored is the operator with its sides changed.
var mirrored = map[ir.Op]ir.Op{ir.Eq: ir.Eq, ir.Lt: ir.Gt, ir.Le: ir.Ge, ir.Gt: ir.Lt, ir.Ge: ir.Le}

var signs = map[ir.Op]string{ir.Eq: "=", ir.Lt: "<", ir.Le: "<=", ir.Gt: ">", ir.Ge: ">="}

// names gives the path of a field that is reached by names alone.
func names(n *ir.Node) ([]string, bool) {
	if n.Op != ir.Field || len(n.Path) == 0 {
		return nil, false
	}
	path := make([]string, len(n.Path))
	for i, s := range n.Path {
		if s.IsIndex {
			return nil, false
		}
		path[i] = s.Name
	}
	return path, true
}

// constant gives the value of an expression that reads nothing of the event.
func constant(n *ir.Node) (any, bool) {
	reads := false
	n.Walk(func(k *ir.Node) bool {
		switch k.Op {
		case ir.Field, ir.Event, ir.Meta, ir.Var, ir.Let, ir.Elem, ir.ElemIndex, ir.ElemAcc:
			reads = true
		case ir.Call:
			reads = reads || k.Func.Name == "now"
		}
		return !reads
	})
	if reads {
		return nil, false
	}
	v, err := reference.Constant(n)
	return v, err == nil && scalar(v)
}

func scalar(v any) bool {
	switch v.(type) {
	case bool, int64, float64, string, time.Time:
		return true
	}
	return false
}
