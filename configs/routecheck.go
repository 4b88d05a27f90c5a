package configs

import (
	"maps"
	"reflect"
	"slices"
	"strconv"
	"time"

	"keystone/configs/addr"
	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/dsl"
	"keystone/dsl/ir"
	"keystone/dsl/types"
	"keystone/sinks"
)

// check reports what the declarations of a route cannot express.
func (r *Route) check(body spec.Body, diags *diag.Diagnostics) {
	if r.Start != "earliest" && r.Start != "latest" {
		if _, err := time.Parse(time.RFC3339, r.Start); err != nil {
			diags.Addf(attrRange(body, "start"), codeBlockValue, "Not a start", "%q is neither \"earliest\", \"latest\" nor a time such as \"2026-01-31T00:00:00Z\".%s", r.Start, diag.DidYouMean(r.Start, []string{"earliest", "latest"}))
		}
	}
	if a, ok := body.Attrs["dead_letter"]; ok && a.Value != nil && r.OnError != DeadLetter {
		diags.Addf(a.Range, codeBlockValue, "Option without a meaning", "on_error = %q makes no dead letters. Remove dead_letter, or write on_error = \"dead_letter\".", r.OnError)
	}
}

// checkPairs reports options that contradict each other.
func (r *Route) checkPairs(body spec.Body, diags *diag.Diagnostics) {
	if r.Retry.Max < r.Retry.Initial {
		diags.Addf(attrRange(body.Blocks["retry"], "max"), codeBlockValue, "Contradiction", "The longest wait, retry.max, is shorter than the first, retry.initial.")
	}
	if r.Limits.MaxInFlightBytes < r.Limits.MaxRecordBytes {
		diags.Addf(attrRange(body.Blocks["limits"], "max_record_bytes"), codeBlockValue, "Contradiction", "A record of max_record_bytes (%s) does not fit into max_in_flight_bytes (%s).", spec.FormatBytes(r.Limits.MaxRecordBytes), spec.FormatBytes(r.Limits.MaxInFlightBytes))
	}
	if r.Limits.MaxInFlightBytes < r.Batch.Bytes {
		diags.Addf(attrRange(body.Blocks["batch"], "bytes"), codeBlockValue, "Contradiction", "A batch of batch.bytes (%s) does not fit into limits.max_in_flight_bytes (%s).", spec.FormatBytes(r.Batch.Bytes), spec.FormatBytes(r.Limits.MaxInFlightBytes))
	}
}

// linkRoute checks the ends of a route and its expressions against them.
func (d *decoder) linkRoute(r *Route, diags *diag.Diagnostics) {
	r.check(d.bodies[r.Addr], diags)
	if !d.broken[r.Addr] {
		r.checkPairs(d.bodies[r.Addr], diags)
	}
	from := d.hasEnd(r.From, "stream or source", diags)
	to := d.hasEnd(r.To, "sink or stream", diags)
	if !r.DeadLetter.Addr.IsZero() {
		if d.hasEnd(r.DeadLetter, "stream or sink", diags) {
			r.LetterProgram = d.letterSink(r.DeadLetter, diags)
		}
	}
	if d.broken[r.Addr] && d.outputUnknown(r) {
		return
	}
	if from && to {
		r.OneWorker = d.oneWorker(r)
	}
	// A route with wrong ends or options is still checked as far as it goes:
	// without a known end nothing is known of its events.
	e := &r.Events
	if from && to {
		d.checkGuarantee(r, diags)
	}
	if from {
		e.Input = d.c.SchemaOf(r.From.Addr)
	}
	if a, written := d.bodies[r.Addr].Attrs["start"]; written && a.Layer != spec.LayerDefaults && r.Start != "earliest" && !diags.HasErrors() && d.c.Sources[r.From.Addr] != nil {
		diags.Addf(a.Range, codeStart, "Start without a meaning", "%s is no stream: it is read from its beginning as long as the route has no position. Remove start; to skip what lies before a time, filter by a field that tells it, or read it into a stream.", r.From.Addr)
	}
	if to {
		d.linkEnd(r, diags)
	}
	checked, more := dsl.CheckRoute(*e)
	diags.Append(more...)
	if more.HasErrors() || d.broken[r.Addr] || !from || !to {
		return
	}
	r.Checked = checked
	if target := d.c.Streams[r.To.Addr]; target != nil {
		checkOutput(r, target, diags)
	}
	if sink := d.c.Sinks[r.To.Addr]; sink != nil {
		checkSink(r, sink, diags)
		d.checkUnited(r, sink, diags)
	}
	d.checkUnitedLetters(r, diags)
}

// oneWorker says why two workers of a route must not overlap; "" if they may.
func (d *decoder) oneWorker(r *Route) string {
	if r.Delivery.Guarantee != AtLeastOnce {
		return "guarantee = \"" + string(r.Delivery.Guarantee) + "\" repeats nothing"
	}
	if d.c.Streams[r.From.Addr] == nil {
		return r.From.Addr.String() + " is read by one worker at a time"
	}
	if s := d.c.Sinks[r.To.Addr]; s != nil {
		for _, k := range d.catalog.Sinks {
			if k.Name == s.Kind && k.Alone != "" {
				return s.Addr.String() + " is written by one worker at a time: " + k.Alone
			}
		}
	}
	return ""
}

// outputUnknown tells that options which make the output event are wrong, so
// that what reads it cannot be checked.
func (d *decoder) outputUnknown(r *Route) bool {
	for _, name := range []string{"project", "set", "drop", "explode", "format", "decode"} {
		if _, written := d.bodies[r.Addr].Attrs[name]; written {
			return true
		}
	}
	return false
}

// letterSink looks whether a sink can take dead letters, and gives what it wants to know of them; nil where it is no sink or cannot: a letter must be durable
// before the position of its record moves on, and it has the fields of LetterType alone.
func (d *decoder) letterSink(ref spec.Ref, diags *diag.Diagnostics) *ir.Route {
	sink := d.c.Sinks[ref.Addr]
	if sink == nil || d.broken[sink.Addr] {
		return nil
	}
	refuse := func(format string, args ...any) {
		diags.Addf(ref.Range, codeBlockValue, "No place for dead letters", format, args...)
	}
	for _, k := range d.catalog.Sinks {
		if k.Name == sink.Kind && k.Letters != "" {
			refuse("%s is a sink of kind %s, which %s. Name a stream, and let a route carry its letters to the sink, with the envelope from meta.headers; or leave dead_letter out: a route that reads a stream has a managed stream for them, any other a file.", sink.Addr, sink.Kind, k.Letters)
			return nil
		}
	}
	checked, problems := dsl.CheckRoute(dsl.RouteSpec{Input: LetterType(), Format: ir.JSON, Decode: ir.DecodeLazy, Tombstones: ir.TombstonesPass,
		Consts: d.bodies[sink.Addr].Consts, Derived: derivedOf(sink.Config.Options(), "")})
	if problems.HasErrors() {
		for _, p := range problems {
			refuse("An option of %s does not fit dead letters, which have other fields than events (route, topic, partition, offset, key, value, error_code, error, time…; the guide lists them). Take a sink of their own for them. The problem: %s", sink.Addr, p.Detail)
			break
		}
		return nil
	}
	if f, ok := sink.Config.(sinks.Fitter); ok {
		for _, m := range f.Misfits(LetterType()) {
			if !m.Warning {
				refuse("%s does not take dead letters: %s", sink.Addr, m.Text)
				return nil
			}
		}
	}
	return checked
}

// linkEnd gives a route what it takes from where it writes.
func (d *decoder) linkEnd(r *Route, diags *diag.Diagnostics) {
	e := &r.Events
	if target := d.c.Streams[r.To.Addr]; target != nil {
		e.Target = target.Schema
		d.linkTarget(r, target, diags)
	}
	d.defaultTombstones(r)
	if sink := d.c.Sinks[r.To.Addr]; sink != nil && !d.broken[sink.Addr] {
		e.Derived = derivedOf(sink.Config.Options(), "")
		for _, x := range e.Derived {
			kind := spec.KindExpr
			if x.Pattern {
				kind = spec.KindPattern
			}
			d.borrowConsts(r, x.Text, kind, d.bodies[sink.Addr], diags)
		}
	}
}

func (d *decoder) hasEnd(ref spec.Ref, what string, diags *diag.Diagnostics) bool {
	if ref.Addr.IsZero() {
		return false // reported as missing or wrong
	}
	if _, ok := d.bodies[ref.Addr]; !ok {
		d.unknownRef(ref, what, diags)
		return false
	}
	return true
}

// linkTarget gives a route what it takes from the stream that it writes. The
// stream's key shows as the route's, so that a change of it is one of the route.
func (d *decoder) linkTarget(r *Route, target *Stream, diags *diag.Diagnostics) {
	if r.Events.Key.S != "" || target.Key.S == "" {
		return
	}
	r.Events.Key = target.Key
	inherited := d.c.Resources[d.index[target.Addr]].Options["key"]
	inherited.Layer, inherited.Effect = spec.LayerDefault, spec.Live
	d.c.Resources[d.index[r.Addr]].Options["key"] = inherited
	d.borrowConsts(r, target.Key, spec.KindExpr, d.bodies[target.Addr], diags)
}

// defaultTombstones says what becomes of null values where the route does
// not: a stream has them, for what compacts it; a sink has a use for them if it says so.
func (d *decoder) defaultTombstones(r *Route) {
	if r.Events.Tombstones != "" {
		return
	}
	r.Events.Tombstones = ir.TombstonesDrop
	if r.To.Addr.Type == "stream" {
		r.Events.Tombstones = ir.TombstonesPass
	}
	if sink := d.c.Sinks[r.To.Addr]; sink != nil && !d.broken[sink.Addr] {
		if n, ok := sink.Config.(sinks.NullTaker); ok && n.TakesNull() {
			r.Events.Tombstones = ir.TombstonesPass
		}
	}
	d.c.Resources[d.index[r.Addr]].Options["tombstones"] = Option{Canonical: strconv.Quote(string(r.Events.Tombstones)), Effect: spec.Live, Layer: spec.LayerDefault}
}

// borrowConsts lets the route's checker see the constants of another block's
// expression.
func (d *decoder) borrowConsts(r *Route, text diag.Text, kind spec.Kind, from spec.Body, diags *diag.Diagnostics) {
	r.Events.Consts = d.borrowed(r.Addr, r.Events.Consts, text, kind, from, diags)
}

// borrowed gives the constants of a route or job with those that another block's expression names.
func (d *decoder) borrowed(to addr.Addr, consts map[string]any, text diag.Text, kind spec.Kind, from spec.Body, diags *diag.Diagnostics) map[string]any {
	cloned := false
	for _, name := range constsOf(kind, text) {
		v, ok := from.Consts[name]
		if !ok {
			continue
		}
		own, conflict := consts[name]
		if conflict && !reflect.DeepEqual(own, v) {
			diags.Addf(text.Range, codeClash, "Two meanings of "+name, "This expression and those of %s both use %s, with different values. Use a local or a field instead.", to, name)
			continue
		}
		if !conflict {
			if !cloned {
				consts, cloned = maps.Clone(consts), true
			}
			if consts == nil {
				consts = map[string]any{}
			}
			consts[name] = v
		}
	}
	return consts
}

// derivedOf lists the expressions and patterns of a sink over output events,
// by the path of their option.
func derivedOf(opts spec.Options, prefix string) []dsl.Derived {
	var out []dsl.Derived
	for _, o := range opts {
		switch {
		case o.Kind == spec.KindBlock:
			out = append(out, derivedOf(o.Block, prefix+o.Name+".")...)
		case !o.Output:
		default:
			switch t := o.Target.(type) {
			case *diag.Text:
				if t.S != "" {
					out = append(out, dsl.Derived{Name: prefix + o.Name, Text: *t, Pattern: o.Kind == spec.KindPattern})
				}
			case *[]spec.Field:
				for _, f := range *t {
					text := f.Expr
					if f.Lit != nil { // a literal is an expression
						text = diag.Text{S: spec.ConstText(f.Lit), Range: f.NameRange}
					}
					out = append(out, dsl.Derived{Name: prefix + o.Name + "." + f.Name, Text: text})
				}
			}
		}
	}
	return slices.Clip(out)
}

// Unchecked lists the routes whose expressions use names of fields that
// nobody can check, since what they read has no schema.
func (c *Config) Unchecked() []addr.Addr {
	var out []addr.Addr
	for _, a := range sorted(c.Routes) {
		if r := c.Routes[a]; r.Checked != nil && r.Checked.Input.Kind == types.Any && usesFields(r.Checked) {
			out = append(out, a)
		}
	}
	return out
}

// usesFields tells whether a route reads fields of its input by name.
func usesFields(r *ir.Route) bool {
	found := false
	look := func(e *ir.Expr) {
		if e != nil {
			e.Root.Walk(func(n *ir.Node) bool {
				found = found || n.Op == ir.Field
				return !found
			})
		}
	}
	var outputs func([]ir.Output)
	outputs = func(list []ir.Output) {
		for _, o := range list {
			look(o.Expr)
			outputs(o.Object)
		}
	}
	for _, e := range r.Filter {
		look(e)
	}
	look(r.Explode)
	outputs(r.Project)
	outputs(r.Set)
	if !r.HasProject { // else these are over what the projection names
		look(r.Key)
		outputs(r.Headers)
	}
	return found
}

// checkUnused checks the expressions that no route has looked at: of sinks
// and of streams that nothing writes.
func (d *decoder) checkUnused() {
	used := map[addr.Addr]bool{}
	for _, r := range d.c.Routes {
		used[r.To.Addr] = r.Checked != nil || used[r.To.Addr]
	}
	for _, j := range d.c.Jobs {
		for _, o := range j.Operators {
			if o.Write != nil {
				used[o.Write.To.Addr] = o.Write.Program != nil || used[o.Write.To.Addr]
			}
		}
	}
	for _, a := range sorted(d.c.Sinks) {
		if used[a] || d.broken[a] {
			continue
		}
		d.scope(a, d.header(a), func(diags *diag.Diagnostics) {
			env := dsl.Env{Event: types.AnyType, Consts: d.bodies[a].Consts}
			for _, x := range derivedOf(d.c.Sinks[a].Config.Options(), "") {
				var more diag.Diagnostics
				if x.Pattern {
					_, more = dsl.PatternOf(x.Text, env)
				} else {
					_, more = dsl.CheckExpr(x.Text, env)
				}
				diags.Append(more...)
			}
		})
	}
	for _, a := range sorted(d.c.Streams) {
		if s := d.c.Streams[a]; !used[a] && s.Key.S != "" && !d.broken[a] {
			d.scope(a, d.header(a), func(diags *diag.Diagnostics) {
				_, more := dsl.CheckExpr(s.Key, dsl.Env{Event: s.Schema, Consts: d.bodies[a].Consts})
				diags.Append(more...)
			})
		}
	}
}
