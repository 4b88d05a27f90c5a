package ir

import (
	"keystone/configs/diag"
	"keystone/dsl/types"
)

// Format is how the values of records are read.
type Format string

// The formats.
const (
	JSON Format = "json" // one JSON object per record
	Raw  Format = "raw"  // bytes; expressions see only meta
)

// Decode says how much of a JSON document is checked.
type Decode string

// The depths of checking.
const (
	DecodeFull Decode = "full" // all of it, used or not (default)
	DecodeLazy Decode = "lazy" // only what expressions read
	DecodeNone Decode = "none" // nothing: bytes are copied; only without expressions over the event
)

// Tombstones says what a projection does with a null value.
type Tombstones string

// The policies for null values.
const (
	TombstonesPass    Tombstones = "pass"    // null goes through as null
	TombstonesProject Tombstones = "project" // the projection runs with every field nil
	TombstonesDrop    Tombstones = "drop"
)

// Expr is a checked expression with the text that it came from.
type Expr struct {
	Root *Node
	Text diag.Text
}

// Output is one field of a projection; exactly one of Expr, Lit and Object
// counts. Type is the type of the output field as the target declares it, or
// the expression's own: it says how a computed time is written.
type Output struct {
	Name     string
	Path     []string // of set: where the field goes; nil in a project
	Expr     *Expr
	Lit      any // bool, int64, float64
	Object   []Output
	IsObject bool
	Type     types.Type
}

// PatternPart is a piece of a pattern: literal text, or a value with a layout.
type PatternPart struct {
	Lit    string
	Expr   *Expr
	Layout string // Go time layout; "" for the plain value
}

// Derived is what a sink wants to know of each output event.
type Derived struct {
	Name    string
	Expr    *Expr         // of an expression
	Pattern []PatternPart // of a pattern
}

// Route is everything that a route says about events, checked. Filter and
// Explode read the input event; Project and Set read the input event (the
// element, after explode, where the input has `explode`); Key, Headers and
// Derived read the output event. Where those become text a string is itself,
// a time has the form of its type in UTC, bytes are themselves, a copied number
// keeps its digits, and the rest is JSON; a pattern is nil if a part of it is.
type Route struct {
	Input      types.Type
	OutputType types.Type // of the output event; Any where unknown
	Format     Format
	Decode     Decode
	Tombstones Tombstones
	Filter     []*Expr
	Explode    *Expr
	HasProject bool
	Project    []Output
	Set        []Output
	Drop       [][]string
	Key        *Expr
	Headers    []Output // nil values remove the header
	Derived    []Derived
}

// Reads gives the field nodes that read the input event (after explode, the
// event with one element in the list's place), in the order of the text: to
// see which names a route relies on.
func (r *Route) Reads() []*Node {
	var out []*Node
	add := func(e *Expr) {
		if e != nil {
			e.Root.Walk(func(n *Node) bool {
				if n.Op == Field {
					out = append(out, n)
				}
				return true
			})
		}
	}
	for _, f := range r.Filter {
		add(f)
	}
	add(r.Explode)
	var outputs func([]Output)
	outputs = func(list []Output) {
		for _, o := range list {
			add(o.Expr)
			outputs(o.Object)
		}
	}
	outputs(r.Project)
	outputs(r.Set)
	if !r.HasProject && len(r.Set)+len(r.Drop) == 0 { // the output is the input
		add(r.Key)
		outputs(r.Headers)
		for _, d := range r.Derived {
			add(d.Expr)
			for _, p := range d.Pattern {
				add(p.Expr)
			}
		}
	}
	return out
}
