package configs

import (
	"slices"
	"time"

	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/dsl"
	"keystone/dsl/ir"
	"keystone/dsl/types"
)

// check makes the operator of its declaration; its inputs are linked.
func (l *jobLinker) check(o *Operator, d *opDecl) {
	var in OperatorInput
	if len(o.Inputs) > 0 {
		in = o.Inputs[0]
		o.Meta = in.From.Meta
	}
	switch d.kind {
	case "read":
		l.read(o, d)
	case "filter":
		l.pass(o, in)
		o.Where = l.conditions(d.where, l.env(in.Type(), o.Meta))
	case "project":
		l.project(o, d, in)
	case "explode":
		l.explode(o, d, in)
	case "union":
		if len(o.Inputs) == 0 {
			l.diags.Addf(l.at(d, "input"), codeOperator, "Union of nothing", "Name the operators whose rows it takes: input = [read.web, read.tv].")
			return
		}
		l.union(o)
	case "split":
		l.split(o, d, in)
	case "dedup":
		l.dedup(o, d, in)
	case "lookup":
		l.lookup(o, d, in)
	case "join":
		l.join(o, d)
	case "window":
		l.window(o, d, in)
	case "aggregate":
		l.aggregate(o, d, in)
	case "top":
		l.top(o, d, in)
	case "write":
		l.write(o, d, in)
	}
}

// pass gives the rows of an input on as they are. Late rows of a window are those that came to it.
func (l *jobLinker) pass(o *Operator, in OperatorInput) {
	o.Output = in.Type()
	if in.Port == "late" {
		o.Meta = false
		return
	}
	o.Updates, o.Identity = in.From.Updates, in.From.Identity
}

// updates tells whether the rows of an input change.
func (e OperatorInput) updates() bool { return e.Port != "late" && e.From.Updates }

func (e OperatorInput) identity() []string {
	if e.Port == "late" {
		return nil
	}
	return e.From.Identity
}

// refuseUpdates refuses rows that change where they would have to be taken back out of state.
func (l *jobLinker) refuseUpdates(o *Operator, inputs ...OperatorInput) {
	for _, in := range inputs {
		if in.updates() {
			l.diags.Addf(in.Range, codeUpdates, "Rows that change into an operator with state", "Rows of %s change after they were given (%s), and %s would have to take them back out of its state. Only filter, project, split and write may follow; or let each row be given once.", in.From.Name(), whyUpdates(in.From), o.Name())
		}
	}
}

// whyUpdates says what makes the rows of an operator change.
func whyUpdates(o *Operator) string {
	for ; o.Window == nil && o.Top == nil && len(o.Inputs) > 0; o = o.Inputs[0].From {
	}
	switch {
	case o.Top != nil:
		return "ranks of " + o.Name() + " move"
	case o.Window == nil:
		return "they are updated"
	case o.Window.Emit == EmitOnUpdate:
		return o.Name() + " has emit = \"on_update\""
	case o.Window.Emit == EmitInterval:
		return o.Name() + " has emit = \"" + spec.FormatDuration(o.Window.Interval) + "\""
	}
	return o.Name() + " has allowed_lateness"
}

func (l *jobLinker) conditions(texts []diag.Text, env dsl.Env) []*ir.Expr {
	var out []*ir.Expr
	for _, t := range texts {
		e, diags := dsl.CheckCondition(t, env)
		l.diags.Append(diags...)
		out = append(out, e)
	}
	return out
}

func (l *jobLinker) expr(t diag.Text, env dsl.Env) *ir.Expr {
	e, diags := dsl.CheckExpr(t, env)
	l.diags.Append(diags...)
	return e
}

// key checks a map of key fields.
func (l *jobLinker) key(fields []spec.Field, env dsl.Env) []KeyField {
	out := make([]KeyField, 0, len(fields))
	for _, f := range fields {
		if f.IsObject {
			l.diags.Addf(f.NameRange, codeOperator, "Not a key", "A field of a key is one expression, not an object.")
			continue
		}
		text := f.Expr
		if f.Lit != nil {
			text = diag.Text{S: spec.ConstText(f.Lit), Range: f.NameRange}
		}
		if e := l.expr(text, env); e != nil {
			out = append(out, KeyField{Name: f.Name, Expr: e})
		}
	}
	return out
}

func keyType(key []KeyField) []types.Field {
	out := make([]types.Field, 0, len(key))
	for _, k := range key {
		t := k.Expr.Root.Type
		if t.Kind == types.Nil {
			t = types.AnyType
		}
		out = append(out, types.Field{Name: k.Name, Type: t})
	}
	return out
}

func keyNames(key []KeyField) []string {
	out := make([]string, 0, len(key))
	for _, k := range key {
		out = append(out, k.Name)
	}
	return out
}

func (l *jobLinker) read(o *Operator, d *opDecl) {
	if !l.d.hasEnd(d.from, "stream or source", l.diags) {
		if d.from.Addr.IsZero() {
			l.state[d.name()] = linkFailed
		}
		return
	}
	o.Meta = true
	o.Output = l.d.c.SchemaOf(d.from.Addr)
	o.Read = &JobRead{From: d.from, Input: o.Output, Watermark: d.watermark, Idle: d.idle, MaxAhead: d.maxAhead, Align: d.align, Start: d.start, ProcessingTime: d.processingTime}
	if d.start != "earliest" && d.start != "latest" {
		if _, err := time.Parse(time.RFC3339, d.start); err != nil {
			l.diags.Addf(l.at(d, "start"), codeBlockValue, "Not a start", "%q is neither \"earliest\", \"latest\" nor a time such as \"2026-01-31T00:00:00Z\".%s", d.start, diag.DidYouMean(d.start, []string{"earliest", "latest"}))
		}
	}
	switch {
	case d.processingTime && d.eventTime.S != "":
		l.diags.Addf(l.at(d, "processing_time"), codeBlockValue, "Contradiction", "The time of an event is either event_time or, with processing_time, when it was read.")
	case d.processingTime:
		l.diags.Warnf(l.at(d, "processing_time"), codeNotDeterministic, "Not deterministic", "%s takes the time at which events are read: the job gives other rows when it runs again.", o.Name())
	case d.eventTime.S != "":
		e := l.expr(d.eventTime, l.env(o.Output, true))
		if o.Read.EventTime = e; e == nil {
			return
		}
		if t := e.Root.Type; !t.IsTime() && t.Kind != types.Int && t.Kind != types.Any {
			way := ""
			if t.Kind == types.String {
				way = " Write parse_time(…)."
			}
			l.diags.Addf(e.Text.At(e.Root.Span.Start, e.Root.Span.End), codeOperator, "Not a time", "The event time is a time, or whole milliseconds since 1970, and this is %s.%s", t, way)
		}
	default:
		l.recordTime(d)
	}
}

// recordTime reports a source whose records have no time of their own.
func (l *jobLinker) recordTime(d *opDecl) {
	s := l.d.c.Sources[d.from.Addr]
	if s == nil {
		return
	}
	for _, k := range l.d.catalog.Sources {
		if k.Name == s.Kind && !k.Times {
			l.diags.Addf(l.header(d.name()), codeNeverCloses, "Events without a time", "Records of %s have no timestamp, so no window over them could ever close. Say what their time is: event_time = \"ts\".", s.Addr)
		}
	}
}

// shape checks what changes a row.
func (l *jobLinker) shape(in types.Type, meta bool, s dsl.RouteSpec) *ir.Route {
	s.Input, s.Format, s.Decode, s.Tombstones, s.Consts, s.Jobs, s.NoMeta = in, ir.JSON, ir.DecodeFull, ir.TombstonesDrop, l.body.Consts, true, !meta
	r, diags := dsl.CheckRoute(s)
	l.diags.Append(diags...)
	return r
}

func (l *jobLinker) project(o *Operator, d *opDecl, in OperatorInput) {
	if d.project == nil && len(d.set)+len(d.drop) == 0 {
		l.diags.Addf(l.header(d.name()), codeOperator, "Project that changes nothing", "Write project = {…}, or set and drop.")
		return
	}
	l.pass(o, in)
	o.Shape = l.shape(in.Type(), o.Meta, dsl.RouteSpec{Project: d.project, Set: d.set, Drop: d.drop})
	o.Meta = false
	if o.Shape == nil {
		return
	}
	o.Output = o.Shape.OutputType
	o.Identity = kept(in.identity(), o.Shape)
	if in.updates() && o.Identity == nil {
		rng := l.at(d, "project")
		if d.project == nil {
			rng = l.header(d.name())
		}
		l.diags.Addf(rng, codeUpdates, "Rows that change and are told apart by nothing", "Rows of %s change (%s) and are told apart by %s: keep these fields as they are, under whichever name.", in.From.Name(), whyUpdates(in.From), joinWords(in.identity()))
	}
}

// kept gives the names that identifying fields have after a shape; nil if one is gone or changed.
func kept(identity []string, s *ir.Route) []string {
	out := make([]string, 0, len(identity))
	for _, name := range identity {
		to := name
		if s.HasProject {
			i := slices.IndexFunc(s.Project, func(f ir.Output) bool {
				return f.Expr != nil && f.Expr.Root.Op == ir.Field && len(f.Expr.Root.Path) == 1 && f.Expr.Root.Path[0].Name == name
			})
			if i < 0 {
				return nil
			}
			to = s.Project[i].Name
		}
		for _, f := range s.Set {
			if f.Path[0] == name {
				return nil
			}
		}
		for _, p := range s.Drop {
			if p[0] == name {
				return nil
			}
		}
		out = append(out, to)
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

func (l *jobLinker) explode(o *Operator, d *opDecl, in OperatorInput) {
	if in.updates() {
		l.diags.Addf(in.Range, codeUpdates, "Rows that change are exploded", "Rows of %s change (%s), and nothing tells the rows that are made of one apart.", in.From.Name(), whyUpdates(in.From))
		return
	}
	s := dsl.RouteSpec{Explode: d.field}
	if d.as != "" {
		if !isFieldName(d.as) {
			l.diags.Addf(l.at(d, "as"), codeOperator, "Not a name", "as is the name of one field: letters, digits and _.")
			return
		}
		if f, ok := in.Type().Field(d.as); ok && d.as != d.field.S {
			l.diags.Addf(l.at(d, "as"), codeOperator, "Field is there already", "The rows already have a field %q (%s).", d.as, f.Type)
			return
		}
		if d.as != d.field.S {
			s.Set = []spec.Field{{Name: d.as, NameRange: l.at(d, "as"), Expr: d.field}}
			s.Drop = []diag.Text{d.field}
		}
	}
	o.Shape = l.shape(in.Type(), o.Meta, s)
	o.Meta = false
	if o.Shape != nil {
		o.Output = o.Shape.OutputType
	}
}

// isFieldName tells a name that needs no quotes.
func isFieldName(s string) bool {
	for i, c := range []byte(s) {
		if !(c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || i > 0 && c >= '0' && c <= '9') {
			return false
		}
	}
	return s != ""
}

func (l *jobLinker) union(o *Operator) {
	o.Meta = true
	for i, in := range o.Inputs {
		if i == 0 {
			o.Output = in.Type()
		}
		o.Meta = o.Meta && in.From.Meta && in.Port != "late"
		if in.updates() && len(o.Inputs) > 1 {
			l.diags.Addf(in.Range, codeUpdates, "Rows that change in a union", "Rows of %s change (%s), and could not be told from those of the others. Write each by itself.", in.From.Name(), whyUpdates(in.From))
		}
		if i == 0 {
			continue
		}
		a, b := o.Output, in.Type()
		for _, m := range Unfit(b, a) {
			l.diags.Addf(in.Range, codeOutputType, "Inputs do not fit", "Rows of %s do not fit those of %s: %s", in.From.Name(), o.Inputs[0].From.Name(), m)
		}
		o.Output = united(a, b)
	}
	if len(o.Inputs) == 1 {
		l.pass(o, o.Inputs[0])
	}
}

// united gives the type of rows of either type: what only one of them has is optional.
func united(a, b types.Type) types.Type {
	if types.Equal(a, b) {
		return a
	}
	if a.Kind != types.Object || b.Kind != types.Object {
		return types.AnyType
	}
	out := types.Type{Kind: types.Object, Open: a.Open || b.Open}
	for _, f := range a.Fields {
		g, both := b.Field(f.Name)
		if both {
			f.Type = unitedField(f.Type, g.Type)
		}
		f.Optional = f.Optional || g.Optional || !both
		out.Fields = append(out.Fields, f)
	}
	for _, g := range b.Fields {
		if _, both := a.Field(g.Name); !both {
			g.Optional = true
			out.Fields = append(out.Fields, g)
		}
	}
	return out
}

func unitedField(a, b types.Type) types.Type {
	if a.Kind == types.Object && b.Kind == types.Object {
		return united(a, b)
	}
	return types.Join(a, b)
}

func (l *jobLinker) split(o *Operator, d *opDecl, in OperatorInput) {
	l.pass(o, in)
	t := o.Output
	o.Output = types.AnyType
	o.Ports = map[string]types.Type{"rest": t}
	for _, name := range l.opBody(d.name()).Blocks["branch"].Order {
		b := d.branches[name]
		if b == nil {
			continue
		}
		if name == "rest" || name == "late" {
			l.diags.Addf(l.opBody(d.name()).Blocks["branch"].Blocks[name].Range, codeOperator, "Reserved name", "%q cannot be the name of a branch: %s.rest are the rows that no branch takes.", name, d.name())
			continue
		}
		o.Split = append(o.Split, Branch{Name: name, Where: l.conditions(b.where, l.env(t, o.Meta))})
		o.Ports[name] = t
	}
}

// clash reports two fields of one name in the rows of an operator.
func (l *jobLinker) clash(name, other string, rng diag.Range) {
	l.diags.Addf(rng, codeOperator, "Field used twice", "The rows of the operator would have two fields %q: %s.", name, other)
}
