package eval

import (
	"errors"

	"keystone/dsl/ir"
	"keystone/dsl/types"
	"keystone/pipeline/json"
)

// Program is a compiled route: immutable, shared by all its lanes.
type Program struct {
	scans      bool // documents are scanned even if nothing is read
	tombstones ir.Tombstones
	filter     []condF
	explode    valF
	explodeID  int // slot of the list
	explodeAt  *site
	project    outF
	edit       *edit
	key        valF
	keyType    types.Type
	keyAt      *site
	headers    []header
	derived    []derived

	// The documents that expressions read: the event, the event with one
	// element in the place of the list, the output. Where nothing lies between
	// two of them they are one stage.
	in, each, out *stage
}

type header struct {
	name string
	val  valF
	typ  types.Type
	st   *site
}

// derived is a value for the sink: an expression, or a pattern of parts.
type derived struct {
	pattern bool
	parts   []part
}

type part struct {
	lit    []byte
	val    valF // nil: lit
	layout string
	typ    types.Type
	st     *site
}

// Compile makes the program of a checked route. An error means that the
// route did not come from the checker.
func Compile(r *ir.Route) (*Program, error) {
	depth := json.Full
	if r.Decode == ir.DecodeLazy || r.Decode == ir.DecodeNone {
		depth = json.Lazy
	}
	p := &Program{tombstones: r.Tombstones}
	p.in = newStage(depth)
	p.each, p.out = p.in, p.in
	first := &compiler{st: p.in, input: r.Input}
	for _, e := range r.Filter {
		first.expr = e
		p.filter = append(p.filter, first.cond(e.Root))
	}
	second := first
	if r.Explode != nil {
		p.compileExplode(r, first)
		p.each = newStage(json.Lazy)
		p.out = p.each
		second = &compiler{st: p.each}
	}
	third := second
	if r.HasProject {
		p.project = second.template(r.Project)
	} else if len(r.Set)+len(r.Drop) > 0 {
		p.edit = second.edits(r.Set, r.Drop)
		p.each.reads = true
	}
	if p.project != nil || p.edit != nil {
		p.out = newStage(json.Lazy)
		third = &compiler{st: p.out}
	}
	p.compileOutput(r, third)
	p.scans = r.Format != ir.Raw && (depth == json.Full || p.in.reads)
	if !p.scans && p.in.reads {
		first.refuse("format %q has no fields to read", r.Format)
	}
	return p, errors.Join(first.err, second.err, third.err)
}

func (p *Program) compileExplode(r *ir.Route, c *compiler) {
	c.expr = r.Explode
	path := staticPath(r.Explode.Root)
	id, rest := c.path(path)
	if len(path) == 0 || rest != nil {
		c.refuse("explode needs the path of a field")
	}
	p.explodeAt = c.site(r.Explode.Root)
	p.explode, p.explodeID = c.val(r.Explode.Root), id
}

func (p *Program) compileOutput(r *ir.Route, c *compiler) {
	if r.Key != nil {
		c.expr = r.Key
		p.key, p.keyType, p.keyAt = c.val(r.Key.Root), r.Key.Root.Type, c.site(r.Key.Root)
	}
	for _, h := range r.Headers {
		hd := header{name: h.Name, typ: h.Type}
		if h.Expr != nil {
			c.expr = h.Expr
			hd.val, hd.st = c.val(h.Expr.Root), c.site(h.Expr.Root)
			if h.Type.Kind == types.Any {
				hd.typ = h.Expr.Root.Type
			}
		} else {
			v := constant(h.Lit)
			if v.k == kErr || h.IsObject {
				c.refuse("the value of the header %q is no expression and no literal", h.Name)
			}
			hd.val = func(*machine) value { return v }
		}
		p.headers = append(p.headers, hd)
	}
	for _, d := range r.Derived {
		p.derived = append(p.derived, c.derived(d))
	}
}

func (c *compiler) derived(d ir.Derived) derived {
	add := func(e *ir.Expr, layout string) part {
		c.expr = e
		return part{val: c.val(e.Root), typ: e.Root.Type, st: c.site(e.Root), layout: layout}
	}
	if d.Expr != nil {
		return derived{parts: []part{add(d.Expr, "")}}
	}
	out := derived{pattern: true}
	for _, p := range d.Pattern {
		if p.Expr == nil {
			out.parts = append(out.parts, part{lit: []byte(p.Lit)})
		} else {
			out.parts = append(out.parts, add(p.Expr, p.Layout))
		}
	}
	return out
}
