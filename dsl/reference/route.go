package reference

import (
	"keystone/dsl/ir"
	"keystone/dsl/types"
)

// Event is one output event of a route.
type Event struct {
	Value   any // nil of a tombstone
	Null    bool
	Key     any // text, or nil; only where the route sets it
	Headers map[string]any
	Derived []any // text or nil
}

// Route runs a route on one event: what comes of it, or nothing where it was
// filtered out (passed is false).
func Route(r *ir.Route, in Input) (out []Event, passed bool, err *Error) {
	for _, f := range r.Filter {
		v, err := Eval(f.Root, in)
		if err != nil {
			return nil, false, err
		}
		if b, ok := v.(bool); v != nil && !ok {
			return nil, false, failure(ir.CodeType, "a condition must be a bool, and it is %s", kindName(v))
		} else if !b {
			return nil, false, nil
		}
	}
	events := []any{in.Event}
	if in.Event == nil && r.Tombstones != ir.TombstonesProject {
		if r.Tombstones == ir.TombstonesDrop {
			return nil, false, nil
		}
		e, err := address(r, in, Event{Null: true})
		return []Event{e}, true, err
	}
	if r.Explode != nil {
		if events, err = explode(r.Explode.Root, in); err != nil {
			return nil, false, err
		}
	}
	for _, event := range events {
		in := in
		in.Event = event
		value, err := change(r, in)
		if err != nil {
			return nil, false, err
		}
		e, err := address(r, in, Event{Value: value, Null: value == nil})
		if err != nil {
			return nil, false, err
		}
		out = append(out, e)
	}
	return out, true, nil
}

// explode gives the event once for each element, with the element in the list's place.
func explode(n *ir.Node, in Input) ([]any, *Error) {
	v, err := Eval(n, in)
	if err != nil {
		return nil, err
	}
	if v == nil {
		return nil, nil
	}
	list, ok := v.([]any)
	if !ok {
		return nil, failure(ir.CodeType, "explode needs a list, and this is %s", kindName(v))
	}
	var out []any
	for _, e := range list {
		names := make([]string, len(n.Path))
		for i, s := range n.Path {
			names[i] = s.Name
		}
		event, err := with(in.Event, names, e)
		if err != nil {
			return nil, err
		}
		out = append(out, event)
	}
	return out, nil
}

// with gives a copy of a value with another one at a path.
func with(v any, path []string, at any) (any, *Error) {
	if len(path) == 0 {
		return at, nil
	}
	out := NewObject()
	switch v := v.(type) {
	case nil:
	case *Object:
		for _, n := range v.Names {
			out.Put(n, v.Values[n])
		}
	default:
		return nil, failure(ir.CodeType, "a field cannot be set below what is %s", kindName(v))
	}
	inner, err := with(out.Values[path[0]], path[1:], at)
	out.Put(path[0], inner)
	return out, err
}

// without gives a copy of a value without what is at a path.
func without(v any, path []string) any {
	o, ok := v.(*Object)
	if !ok {
		return v
	}
	out := NewObject()
	for _, n := range o.Names {
		if n != path[0] {
			out.Put(n, o.Values[n])
		} else if len(path) > 1 {
			out.Put(n, without(o.Values[n], path[1:]))
		}
	}
	return out
}

// change computes the output event's value.
func change(r *ir.Route, in Input) (any, *Error) {
	if r.HasProject {
		return project(r.Project, in)
	}
	if len(r.Set)+len(r.Drop) == 0 {
		return in.Event, nil
	}
	v := in.Event
	if v == nil {
		v = NewObject()
	}
	for _, path := range r.Drop {
		v = without(v, path)
	}
	for _, o := range r.Set {
		x, err := output(o, in)
		if err != nil {
			return nil, err
		}
		path := o.Path
		if len(path) == 0 {
			path = []string{o.Name}
		}
		if v, err = with(v, path, x); err != nil {
			return nil, err
		}
	}
	return v, nil
}

func project(fields []ir.Output, in Input) (any, *Error) {
	out := NewObject()
	for _, f := range fields {
		v, err := output(f, in)
		if err != nil {
			return nil, err
		}
		out.Put(f.Name, v)
	}
	return out, nil
}

// output gives the value of a field as it stands in the written document:
// decoded JSON, with numbers unread.
func output(o ir.Output, in Input) (any, *Error) {
	if o.IsObject {
		return project(o.Object, in)
	}
	v := o.Lit
	if o.Expr != nil {
		var err *Error
		if v, err = Written(o.Expr.Root, in, o.Type); err != nil {
			return nil, err
		}
		if n, ok := v.(Number); ok && o.Type.Kind == types.Decimal {
			if err := fits(string(n), o.Type); err != nil {
				return nil, err
			}
		}
		if o.Expr.Root.Op == ir.Field && kindName(v) != "time" {
			return v, nil
		}
	}
	text, err := Append(nil, v, o.Type)
	if err != nil {
		return nil, err
	}
	doc, bad := Decode(text)
	if bad != nil {
		panic(bad) // what Append writes is JSON
	}
	return doc, nil
}

// address computes key, headers and what the sink wants from the output event.
func address(r *ir.Route, in Input, e Event) (Event, *Error) {
	in.Event = e.Value
	var err *Error
	if r.Key != nil {
		if e.Key, err = Text(r.Key.Root, "", in); err != nil {
			return e, err
		}
	}
	e.Headers = map[string]any{}
	for _, h := range r.Headers {
		root := &ir.Node{Op: ir.Const, Value: h.Lit, Type: h.Type}
		if h.Expr != nil {
			root = h.Expr.Root
		}
		if e.Headers[h.Name], err = Text(root, "", in); err != nil {
			return e, err
		}
	}
	for _, d := range r.Derived {
		var text any
		if d.Expr != nil {
			text, err = Text(d.Expr.Root, "", in)
		} else {
			text, err = pattern(d.Pattern, in)
		}
		if err != nil {
			return e, err
		}
		e.Derived = append(e.Derived, text)
	}
	return e, nil
}

func pattern(parts []ir.PatternPart, in Input) (any, *Error) {
	out := ""
	for _, p := range parts {
		if p.Expr == nil {
			out += p.Lit
			continue
		}
		v, err := Eval(p.Expr.Root, in)
		if err != nil {
			return nil, err
		}
		if k := kindName(v); k == "list" || k == "object" {
			return nil, failure(ir.CodeType, "%s has no place in text", k)
		}
		text, err := Text(p.Expr.Root, p.Layout, in)
		if text == nil || err != nil {
			return nil, err
		}
		out += text.(string)
	}
	return out, nil
}

// Text gives a value as text, nil for nil: a string as it is, a time in the
// form of its type or in the layout, the rest as JSON.
func Text(n *ir.Node, layout string, in Input) (any, *Error) {
	v, err := Written(n, in, n.Type)
	if n.Type.IsTime() || n.Type.Kind == types.Bytes || layout != "" {
		v, err = Eval(n, in)
	}
	if v == nil || err != nil {
		return nil, err
	}
	if layout != "" {
		t, err := asTime(v)
		if err != nil {
			return nil, err
		}
		return t.Format(layout), nil
	}
	switch v := v.(type) {
	case string:
		return v, nil
	case Bytes:
		return string(v), nil
	}
	text, err := Append(nil, v, within(n.Type))
	if kindName(v) == "time" && len(text) > 0 && text[0] == '"' {
		text = text[1 : len(text)-1]
	}
	return string(text), err
}
