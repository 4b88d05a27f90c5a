package dsl

import (
	"slices"
	"strings"

	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/dsl/check"
	"keystone/dsl/ir"
	"keystone/dsl/types"
)

// CheckRoute checks everything that a route says about events: each
// expression against the event that it reads, and all of them together. The
// route is nil if there are errors.
func CheckRoute(s RouteSpec) (*ir.Route, diag.Diagnostics) {
	c := routeChecker{spec: s, out: &ir.Route{Input: s.Input, OutputType: s.Input, Format: s.Format, Decode: s.Decode, Tombstones: s.Tombstones}}
	c.env = Env{Event: s.Input, Format: s.Format, Consts: s.Consts, Jobs: s.Jobs, NoMeta: s.NoMeta}
	if c.out.Format == "" {
		c.out.Format = ir.JSON
	}
	if c.out.Decode == "" {
		c.out.Decode = ir.DecodeFull
	}
	if c.out.Tombstones == "" {
		c.out.Tombstones = ir.TombstonesPass
	}
	if s.Decode == ir.DecodeNone {
		c.env.Format = ir.Raw // expressions see no fields then, either
	}
	if c.env.Format == ir.Raw {
		c.raw()
	}
	for _, f := range s.Filter {
		e, diags := check.Condition(f, c.env)
		c.diags.Append(diags...)
		c.out.Filter = append(c.out.Filter, e)
	}
	c.explode()
	c.change()
	c.over()
	if c.diags.HasErrors() {
		return nil, c.diags
	}
	return c.out, c.diags
}

type routeChecker struct {
	spec    RouteSpec
	env     Env // of filter, then of project and set, then of the output
	out     *ir.Route
	diags   diag.Diagnostics
	dropped [][]string
}

func (c *routeChecker) expr(t diag.Text) *ir.Expr {
	e, diags := check.Expr(t, c.env)
	c.diags.Append(diags...)
	return e
}

// raw refuses what changes values that nobody decodes.
func (c *routeChecker) raw() {
	refuse := func(rng diag.Range, what string) {
		c.diags.Addf(rng, codeRaw, "Raw events cannot be changed", "%s needs decoded events: remove it, or format = \"raw\" and decode = \"none\".", what)
	}
	if c.spec.Explode.S != "" {
		refuse(c.spec.Explode.Range, "explode")
	}
	if len(c.spec.Project) > 0 {
		refuse(c.spec.Project[0].NameRange, "project")
	}
	if len(c.spec.Set) > 0 {
		refuse(c.spec.Set[0].NameRange, "set")
	}
	if len(c.spec.Drop) > 0 {
		refuse(c.spec.Drop[0].Range, "drop")
	}
}

// explode checks the path of a list, and gives the event after it: with one
// element in the list's place.
func (c *routeChecker) explode() {
	if c.spec.Explode.S == "" || c.env.Format == ir.Raw {
		return
	}
	e, diags := check.List(c.spec.Explode, c.env)
	c.diags.Append(diags...)
	if e == nil {
		return
	}
	names := pathNames(e.Root)
	if names == nil {
		c.diags.Addf(c.spec.Explode.Range, codePath, "Invalid path", "explode takes the path of a field that is a list, as order.items.")
		return
	}
	c.out.Explode = e
	elem := types.AnyType
	if e.Root.Type.Kind == types.List {
		elem = *e.Root.Type.Elem
	}
	if c.env.Event.Kind == types.Object {
		c.env.Event = put(c.env.Event, names, elem)
		c.out.OutputType = c.env.Event
	}
}

// pathNames gives the names of a path of fields, nil for anything else.
func pathNames(n *ir.Node) []string {
	if n.Op != ir.Field {
		return nil
	}
	var names []string
	for _, s := range n.Path {
		if s.IsIndex {
			return nil
		}
		names = append(names, s.Name)
	}
	return names
}

// put gives an object type with the type at a path, made where it is missing.
func put(t types.Type, path []string, at types.Type) types.Type {
	if len(path) == 0 {
		return at
	}
	if t.Kind != types.Object {
		t = types.Type{Kind: types.Object, Open: t.Kind == types.Any || t.Kind == types.Map}
	}
	t.Fields = slices.Clone(t.Fields)
	for i, f := range t.Fields {
		if f.Name == path[0] {
			t.Fields[i] = types.Field{Name: f.Name, Type: put(f.Type, path[1:], at), Optional: f.Optional && len(path) > 1}
			return t
		}
	}
	inner := at
	if len(path) > 1 {
		inner = put(types.Type{Kind: types.Object, Open: t.Open}, path[1:], at)
	}
	t.Fields = append(t.Fields, types.Field{Name: path[0], Type: inner})
	return t
}

// remove gives an object type without what is at a path.
func remove(t types.Type, path []string) types.Type {
	if t.Kind != types.Object {
		return t
	}
	fields := make([]types.Field, 0, len(t.Fields))
	for _, f := range t.Fields {
		if f.Name == path[0] {
			if len(path) == 1 {
				continue
			}
			f.Type = remove(f.Type, path[1:])
		}
		fields = append(fields, f)
	}
	t.Fields = fields
	return t
}

// change checks project, set and drop, and computes the output's type.
func (c *routeChecker) change() {
	s := &c.spec
	if s.Project != nil && len(s.Set)+len(s.Drop) > 0 {
		var rng diag.Range
		if len(s.Set) > 0 {
			rng = s.Set[0].NameRange
		} else {
			rng = s.Drop[0].Range
		}
		c.diags.Addf(rng, codeExclusive, "Contradicting options", "project names everything that the output has, so set and drop have nothing to change. Keep one of them.")
	}
	if c.env.Format == ir.Raw {
		return
	}
	if s.Project != nil {
		c.out.HasProject = true
		c.out.Project = c.outputs(s.Project, s.Target)
		c.out.OutputType = objectOf(c.out.Project)
		return
	}
	out := c.env.Event
	for _, d := range s.Drop {
		e := c.expr(d)
		if e == nil {
			continue
		}
		path := pathNames(e.Root)
		if path == nil {
			c.diags.Addf(d.Range, codePath, "Invalid path", "drop takes paths of fields, as device.os.")
			continue
		}
		for _, f := range s.Set {
			if name := strings.Join(path, "."); f.Name == name || strings.HasPrefix(f.Name, name+".") {
				c.diags.Addf(f.NameRange, codeFieldTwice, "Repeated field", "set writes %q, and drop removes %q. Keep one of them.", f.Name, name)
			}
		}
		c.out.Drop = append(c.out.Drop, path)
		out = remove(out, path)
	}
	c.dropped = c.out.Drop
	c.out.Set = c.outputs(s.Set, s.Target)
	for i := range c.out.Set {
		o := &c.out.Set[i]
		o.Path = strings.Split(o.Name, ".")
		if out.Kind == types.Any {
			out = types.Type{Kind: types.Object, Open: true}
		}
		if at, t := through(out, o.Path); at != "" {
			c.diags.Addf(s.Set[i].NameRange, codePath, "Invalid path", "%s is %s, and only objects hold fields.", at, t)
			continue
		}
		out = put(out, o.Path, o.Type)
	}
	c.out.OutputType = out
}

// through gives the first part of a path below which there can be no fields, or "".
func through(t types.Type, path []string) (string, types.Type) {
	for i, name := range path[:len(path)-1] {
		f, ok := t.Field(name)
		if !ok {
			return "", t
		}
		if k := f.Type.Kind; k != types.Object && k != types.Map && k != types.Any {
			return strings.Join(path[:i+1], "."), f.Type
		}
		t = f.Type
	}
	return "", t
}

// outputs checks the fields of a projection; target is the type that the
// destination declares, for the form of times and decimals.
func (c *routeChecker) outputs(fields []spec.Field, target types.Type) []ir.Output {
	out := make([]ir.Output, 0, len(fields))
	seen := map[string]bool{}
	for _, f := range fields {
		if seen[f.Name] {
			c.diags.Addf(f.NameRange, codeFieldTwice, "Repeated field", "%q is there already.", f.Name)
		}
		seen[f.Name] = true
		declared, _ := at(target, f.Name)
		o := ir.Output{Name: f.Name, Lit: f.Lit, IsObject: f.IsObject}
		switch {
		case f.IsObject:
			o.Object = c.outputs(f.Object, declared)
			o.Type = objectOf(o.Object)
		case f.Lit != nil:
			o.Type = check.TypeOf(f.Lit)
		default:
			if o.Expr = c.expr(f.Expr); o.Expr != nil {
				o.Type = o.Expr.Root.Type
			}
			if o.Type.Kind == types.Nil {
				o.Type = types.AnyType
			}
			if k := o.Type; declared.IsTime() && (k.IsTime() || k.Kind == types.Any) || declared.Kind == types.Decimal && (k.IsNumber() || k.Kind == types.Any) {
				o.Type = declared // what is computed is written in this form
			}
		}
		out = append(out, o)
	}
	return out
}

// at gives the type of a field, or of what a path with dots leads to.
func at(t types.Type, name string) (types.Type, bool) {
	if f, ok := t.Field(name); ok {
		return f.Type, true
	}
	if top, rest, ok := strings.Cut(name, "."); ok {
		if f, ok := t.Field(top); ok {
			return at(f.Type, rest)
		}
	}
	return types.AnyType, false
}

func objectOf(outputs []ir.Output) types.Type {
	t := types.Type{Kind: types.Object}
	for _, o := range outputs {
		t.Fields = append(t.Fields, types.Field{Name: o.Name, Type: o.Type})
	}
	return t
}

// over checks what reads the output event.
func (c *routeChecker) over() {
	s := &c.spec
	source := c.env.Event
	c.env.Event, c.env.Dropped = c.out.OutputType, c.dropped
	if s.Project != nil {
		c.env.Source = &source
	}
	if s.Key.S != "" {
		if c.out.Key = c.expr(s.Key); c.out.Key != nil {
			c.text(c.out.Key, "A key")
		}
	}
	for _, h := range s.Headers {
		o := ir.Output{Name: h.Name, Lit: h.Lit}
		switch {
		case h.IsObject:
			c.diags.Addf(h.NameRange, codeKeyType, "Not a key", "A header is text, not an object.")
			continue
		case h.Lit != nil:
			o.Type = check.TypeOf(h.Lit)
		default:
			if o.Expr = c.expr(h.Expr); o.Expr == nil {
				continue
			}
			o.Type = o.Expr.Root.Type
			c.text(o.Expr, "A header")
		}
		c.out.Headers = append(c.out.Headers, o)
	}
	for _, d := range s.Derived {
		out := ir.Derived{Name: d.Name}
		if d.Pattern {
			parts, diags := check.Pattern(d.Text, c.env)
			c.diags.Append(diags...)
			out.Pattern = parts
		} else {
			out.Expr = c.expr(d.Text)
		}
		c.out.Derived = append(c.out.Derived, out)
	}
}

func (c *routeChecker) text(e *ir.Expr, what string) {
	switch e.Root.Type.Kind {
	case types.List, types.Map, types.Object:
		c.diags.Addf(e.Text.At(e.Root.Span.Start, e.Root.Span.End), codeKeyType, "Not a key", "%s is text, and this is %s. Write toJSON(…) or name a member.", what, e.Root.Type)
	}
}
