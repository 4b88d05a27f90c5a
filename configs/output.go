package configs

import (
	"fmt"
	"maps"
	"slices"

	"keystone/configs/addr"
	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/dsl/ir"
	"keystone/dsl/types"
	"keystone/sinks"
)

// checkOutput holds the route's output against the schema of the stream that
// it writes. What is not known passes: it is counted when it is read.
func checkOutput(r *Route, target *Stream, diags *diag.Diagnostics) {
	want, out := target.Schema, r.Checked.OutputType
	if want.Kind != types.Object || out.Kind != types.Object || r.Checked.Format == ir.Raw {
		return
	}
	closed := r.Checked.HasProject // what passes untouched may have more fields than its schema
	for _, p := range mismatches(out, want, "", closed) {
		diags.Addf(fieldRange(r, p.path), codeOutputType, "Output does not fit the schema of "+target.Addr.String(), "%s", p.text)
	}
}

// checkSink reports what of the route's output a sink cannot write.
func checkSink(r *Route, s *Sink, diags *diag.Diagnostics) {
	f, ok := s.Config.(sinks.Fitter)
	if !ok {
		return
	}
	misfits(r, s, f.Misfits(r.Written()), diags)
}

// checkUnited reports what of the route's output has no common form with what routes before it write to the sink.
func (d *decoder) checkUnited(r *Route, s *Sink, diags *diag.Diagnostics) {
	u, ok := s.Config.(sinks.Uniter)
	if !ok {
		return
	}
	var others []sinks.Writer
	for _, a := range sorted(d.c.Routes) {
		if a == r.Addr {
			break
		}
		o := d.c.Routes[a]
		if o.To.Addr == s.Addr {
			others = append(others, sinks.Writer{Route: a.String(), Type: o.Written()})
		}
		if o.lettersTo() == s.Addr {
			others = append(others, sinks.Writer{Route: a.String(), Letters: true, Type: LetterType()})
		}
	}
	misfits(r, s, u.Clashes(r.Written(), others), diags)
}

// checkUnitedLetters reports what of a route's dead letters has no common form with what it, and routes before it, write to
// their sink.
func (d *decoder) checkUnitedLetters(r *Route, diags *diag.Diagnostics) {
	s := d.c.Sinks[r.lettersTo()]
	if s == nil {
		return
	}
	u, ok := s.Config.(sinks.Uniter)
	if !ok {
		return
	}
	var others []sinks.Writer
	for _, a := range sorted(d.c.Routes) {
		if o := d.c.Routes[a]; o.To.Addr == s.Addr {
			others = append(others, sinks.Writer{Route: a.String(), Type: o.Written()})
		}
		if a == r.Addr {
			break
		}
	}
	for _, m := range u.Clashes(LetterType(), others) {
		diags.Addf(r.DeadLetter.Range, codeOutputType, "Dead letters do not fit "+s.Addr.String(), "%s Or take a sink of their own for them.", m.Text)
	}
}

// lettersTo gives the block that the route's dead letters go to, where it names one.
func (r *Route) lettersTo() addr.Addr {
	if r.OnError != DeadLetter {
		return addr.Addr{}
	}
	return r.DeadLetter.Addr
}

func misfits(r *Route, s *Sink, list []sinks.Misfit, diags *diag.Diagnostics) {
	for _, m := range list {
		rng := r.To.Range
		if m.Path != "" {
			rng = fieldRange(r, m.Path)
		}
		if m.Warning {
			diags.Warnf(rng, codeOutputType, "Output does not fit "+s.Addr.String(), "%s", m.Text)
		} else {
			diags.Addf(rng, codeOutputType, "Output does not fit "+s.Addr.String(), "%s", m.Text)
		}
	}
}

// Written gives the type of what the route writes; Any where that is not known.
func (r *Route) Written() types.Type {
	if r.Checked.Format == ir.Raw {
		return types.Type{}
	}
	return r.Checked.OutputType
}

// EventsOf gives the types of what routes write into a sink, each once, in the order of the routes' addresses.
func (c *Config) EventsOf(sink addr.Addr) []types.Type {
	var out []types.Type
	add := func(t types.Type) {
		if !slices.ContainsFunc(out, func(o types.Type) bool { return types.Equal(o, t) }) {
			out = append(out, t)
		}
	}
	for _, a := range slices.SortedFunc(maps.Keys(c.Routes), addr.Compare) {
		r := c.Routes[a]
		if r.To.Addr == sink {
			add(r.Written())
		}
		if r.lettersTo() == sink {
			add(LetterType())
		}
	}
	return out
}

type mismatch struct{ path, text string }

// mismatches lists where values of one type do not fit another.
func mismatches(out, want types.Type, path string, closed bool) []mismatch {
	if fits(out, want) {
		return nil
	}
	switch {
	case want.Kind == types.Object && out.Kind == types.Object:
		var list []mismatch
		for _, f := range want.Fields {
			at := f.Name
			if path != "" {
				at = path + "." + f.Name
			}
			have, ok := out.Field(f.Name)
			if ok {
				list = append(list, mismatches(have.Type, f.Type, at, closed)...)
			} else if closed && !out.Open && !f.Optional {
				list = append(list, mismatch{path, fmt.Sprintf("The field %q (%s) is required there, and the projection does not have it. Add it, or declare it as optional(%s).", at, f.Type, f.Type)})
			}
		}
		return list
	case want.Kind == types.List && out.Kind == types.List, want.Kind == types.Map && out.Kind == types.Map:
		return mismatches(*out.Elem, *want.Elem, path, closed)
	case want.Kind == types.Map && out.Kind == types.Object:
		var list []mismatch
		for _, f := range out.Fields {
			list = append(list, mismatches(f.Type, *want.Elem, path+"."+f.Name, closed)...)
		}
		return list
	}
	return []mismatch{{path, fmt.Sprintf("%q is %s, and declared there as %s.%s", path, out, want, fitting(out, want))}}
}

// fits tells whether every value of a type is one of another, as it is written.
func fits(out, want types.Type) bool {
	switch {
	case out.Kind == types.Any || out.Kind == types.Nil || want.Kind == types.Any:
		return true
	case want.Kind == types.Float:
		return out.Kind == types.Float || out.Kind == types.Int || out.Kind == types.Decimal
	case want.Kind == types.Decimal:
		return out.IsNumber()
	case want.Kind == types.List || want.Kind == types.Map || want.Kind == types.Object:
		return want.Kind == types.Object && out.Kind == types.Map // which fields it has is not known
	}
	return out.Kind == want.Kind
}

// fitting advises how to convert.
func fitting(out, want types.Type) string {
	switch {
	case want.Kind == types.Int && out.IsNumber():
		return " Write int(…), which fails for what is not whole, or int(round(…))."
	case want.Kind == types.String && (out.IsNumber() || out.Kind == types.Bool):
		return " Write string(…)."
	case want.IsTime() && out.Kind == types.String:
		return " Write parse_time(…)."
	case want.IsNumber() && out.Kind == types.String:
		return " Write int(…) or float(…)."
	}
	return ""
}

// fieldRange gives where a field of the output is written.
func fieldRange(r *Route, path string) diag.Range {
	for _, fields := range [][]spec.Field{r.Events.Project, r.Events.Set} {
		if rng, ok := findField(fields, path); ok {
			return rng
		}
	}
	return r.To.Range
}

func findField(fields []spec.Field, path string) (diag.Range, bool) {
	for _, f := range fields {
		if f.Name == path {
			if f.IsObject || f.Lit != nil {
				return f.NameRange, true
			}
			return f.Expr.Range, true
		}
		if n := len(f.Name); f.IsObject && len(path) > n && path[:n] == f.Name && path[n] == '.' {
			if rng, ok := findField(f.Object, path[n+1:]); ok {
				return rng, ok
			}
			return f.NameRange, true
		}
	}
	return diag.Range{}, false
}

// Unfit says where events of one type do not fit what another one declares; nothing
// where either is not known.
func Unfit(events, want types.Type) []string {
	if events.Kind != types.Object || want.Kind != types.Object {
		return nil
	}
	var out []string
	for _, m := range mismatches(events, want, "", false) {
		out = append(out, m.text)
	}
	return out
}
