package configs

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/dsl"
	"keystone/dsl/ir"
	"keystone/dsl/types"
)

func (l *jobLinker) dedup(o *Operator, d *opDecl, in OperatorInput) {
	l.refuseUpdates(o, in)
	if len(d.key) == 0 {
		l.diags.Addf(l.at(d, "key"), codeOperator, "Missing key", "With key = {} one row of all would pass. Name what makes rows equal: key = { id = \"id\" }.")
	}
	o.Key = l.key(d.key, l.env(in.Type(), o.Meta))
	o.Output, o.Meta = in.Type(), false
	o.Dedup = &JobDedup{TTL: d.ttl}
	if len(d.key) > 0 && len(o.Key) == len(d.key) {
		l.warnOrder(o, in)
	}
}

// warnOrder names a dedup whose result depends on which partition is read first.
func (l *jobLinker) warnOrder(o *Operator, in OperatorInput) {
	var reads []*Operator
	clear := true // rows are as read, so that expressions over them are over the records
	var find func(x *Operator)
	find = func(x *Operator) {
		switch {
		case x.Read != nil:
			reads = append(reads, x)
		case !x.Meta:
			clear = false
		}
		for _, e := range x.Inputs {
			find(e.From)
		}
	}
	find(in.From)
	if clear && len(reads) == 1 {
		s := l.d.c.Streams[reads[0].Read.From.Addr]
		if s == nil || s.Partitions == 1 && s.ManagedHere() {
			return // one partition, or a source that is read in its order
		}
		for _, k := range o.Key {
			if s.Key.S != "" && strings.TrimSpace(k.Expr.Text.S) == strings.TrimSpace(s.Key.S) {
				return
			}
		}
	}
	l.diags.Warnf(o.Range, codeNotDeterministic, "Not deterministic", "Rows of one key of %s may be in several partitions, and which of them is first differs from run to run. It is always the same where the key has the message key of the one stream that is read.", o.Name())
}

func (l *jobLinker) lookup(o *Operator, d *opDecl, in OperatorInput) {
	l.refuseUpdates(o, in)
	o.Output = in.Type()
	if !l.d.hasEnd(d.from, "stream", l.diags) {
		return
	}
	table := l.d.c.Streams[d.from.Addr]
	if table == nil {
		return
	}
	o.Lookup = &JobLookup{From: d.from, Input: table.Schema, As: d.as, Type: d.typ, AsOf: d.asOf}
	o.Key = l.key(d.key, l.env(in.Type(), o.Meta))
	o.Meta = false
	switch {
	case table.Key.S == "":
		l.diags.Addf(d.from.Range, codeOperator, "Table without a key", "The rows of a table are found by their message key, and %s does not say what that is. Write key = \"FIELD\" in its block.", table.Addr)
	case len(d.key) != 1 || d.key[0].Name != strings.TrimSpace(table.Key.S):
		l.diags.Addf(l.at(d, "key"), codeOperator, "Not the key of the table", "The rows of %s are found by their message key, which is %s: write key = { %[2]s = … }.", table.Addr, table.Key.S)
	}
	if c := table.Config["cleanup.policy"]; table.ManagedHere() && !strings.Contains(c, "compact") {
		l.diags.Warnf(d.from.Range, codeOperator, "Table that forgets", "%s is not compacted, so rows of the table go with its retention. Write config = { \"cleanup.policy\" = \"compact\" } in its block.", table.Addr)
	}
	if d.asOf == "now" {
		l.diags.Warnf(l.header(d.name()), codeNotDeterministic, "Not deterministic", "%s sees the table as it is when a row passes, so that the job gives other rows when it runs again. With as_of = \"event_time\" it sees it as it was at the row's time.", o.Name())
	}
	if !isFieldName(d.as) {
		l.diags.Addf(l.at(d, "as"), codeOperator, "Not a name", "as is the name of one field: letters, digits and _.")
	}
	if f, ok := in.Type().Field(d.as); ok {
		l.clash(d.as, "one of the row ("+f.Type.String()+"), one that as names", l.at(d, "as"))
	}
	if t := o.Output; t.Kind == types.Object {
		t.Fields = append(slices.Clone(t.Fields), types.Field{Name: d.as, Type: table.Schema, Optional: d.typ == JoinLeft})
		o.Output = t
	}
}

func (l *jobLinker) join(o *Operator, d *opDecl) {
	left, right := o.Inputs[0], o.Inputs[1]
	l.refuseUpdates(o, left, right)
	j := &JobJoin{Type: d.typ, Before: d.before, After: d.after, Size: d.tumblingSize, Lateness: d.lateness}
	o.Join = j
	o.Meta = false
	j.Left = l.key(d.key, l.env(left.Type(), left.From.Meta && left.Port != "late"))
	j.Right = l.key(d.right2, l.env(right.Type(), right.From.Meta && right.Port != "late"))
	l.joinKeys(j, d)
	j.Window = l.windowOf(d, map[string]bool{"interval": d.interval, WindowTumbling: d.tumbling, WindowHopping: d.hopping}, "interval { }, tumbling { } or hopping { }")
	if j.Window == WindowHopping {
		j.Size, j.Every = l.hop(d)
	}
	if d.interval && d.before == 0 && d.after == 0 {
		l.diags.Addf(l.opBody(d.name()).Blocks["interval"].Range, codeOperator, "Interval of nothing", "Only rows of the very same time would join. Say how far they may be apart: before = \"…\" or after = \"…\".")
	}
	j.Pair = types.ObjectOf(
		types.Field{Name: "left", Type: left.Type(), Optional: d.typ == JoinRight || d.typ == JoinFull},
		types.Field{Name: "right", Type: right.Type(), Optional: d.typ == JoinLeft || d.typ == JoinFull})
	o.Output = j.Pair
	if d.project != nil {
		if j.Project = l.shape(j.Pair, false, dsl.RouteSpec{Project: d.project}); j.Project != nil {
			o.Output = j.Project.OutputType
		}
	}
}

// joinKeys holds the two keys of a join against each other.
func (l *jobLinker) joinKeys(j *JobJoin, d *opDecl) {
	if len(d.key) == 0 && len(d.right2) == 0 {
		l.diags.Addf(l.at(d, "left_key"), codeOperator, "Missing key", "Without a key every row of left would join every one of right. Name what must be equal.")
		return
	}
	if len(j.Left) != len(d.key) || len(j.Right) != len(d.right2) {
		return // reported
	}
	for i, r := range j.Right {
		at := slices.IndexFunc(j.Left, func(k KeyField) bool { return k.Name == r.Name })
		if at < 0 {
			l.diags.Addf(d.right2[i].NameRange, codeOperator, "Keys of different names", "left_key has no %q.%s", r.Name, diag.DidYouMean(r.Name, keyNames(j.Left)))
			return
		}
		a, b := j.Left[at].Expr.Root.Type, r.Expr.Root.Type
		if !fits(a, b) && !fits(b, a) && !(a.IsTime() && b.IsTime()) {
			l.diags.Addf(r.Expr.Text.At(r.Expr.Root.Span.Start, r.Expr.Root.Span.End), codeOperator, "Keys of different types", "%q is %s on the left and %s here, so they are never equal. Convert one of them.", r.Name, a, b)
		}
	}
	for i, k := range j.Left {
		if !slices.Contains(keyNames(j.Right), k.Name) {
			l.diags.Addf(d.key[i].NameRange, codeOperator, "Keys of different names", "right_key has no %q.", k.Name)
		}
	}
	slices.SortFunc(j.Right, func(a, b KeyField) int { // as on the left
		return slices.Index(keyNames(j.Left), a.Name) - slices.Index(keyNames(j.Left), b.Name)
	})
}

// windowOf gives the one kind of window that is written.
func (l *jobLinker) windowOf(d *opDecl, written map[string]bool, kinds string) string {
	var have []string
	for _, k := range []string{"interval", WindowTumbling, WindowHopping, WindowSession, WindowGlobal} {
		if written[k] {
			have = append(have, k)
		}
	}
	if len(have) != 1 {
		rng := l.header(d.name())
		detail := "Write one of " + kinds + "."
		if len(have) > 1 {
			rng = l.opBody(d.name()).Blocks[have[1]].Range
			detail = "There are " + joinWords(have) + "; keep one of them."
		}
		l.diags.Addf(rng, codeOperator, "Which window?", "%s", detail)
		return ""
	}
	return have[0]
}

// hop gives the measures of a hopping window, and checks them against each other.
func (l *jobLinker) hop(d *opDecl) (size, every time.Duration) {
	const maxOverlap = 10_000
	if d.every <= 0 || d.hoppingSize%d.every != 0 || d.hoppingSize/d.every > maxOverlap {
		l.diags.Addf(l.at(d, "hopping.size"), codeOperator, "Windows that do not fit", "The size of hopping windows is a multiple of every, at most %d times it.", maxOverlap)
	}
	return d.hoppingSize, d.every
}

func (l *jobLinker) window(o *Operator, d *opDecl, in OperatorInput) {
	l.refuseUpdates(o, in)
	w := &JobWindow{Lateness: d.lateness, Size: d.tumblingSize, Gap: d.gap}
	o.Window = w
	w.Kind = l.windowOf(d, map[string]bool{WindowTumbling: d.tumbling, WindowHopping: d.hopping, WindowSession: d.session, WindowGlobal: d.global}, "tumbling { }, hopping { }, session { } or global { }")
	if w.Kind == WindowHopping {
		w.Size, w.Every = l.hop(d)
	}
	for _, x := range []struct {
		option string
		d      time.Duration
	}{{"tumbling.size", w.Size}, {"hopping.every", w.Every}, {"session.gap", w.Gap}, {"allowed_lateness", w.Lateness}} {
		if x.d%time.Millisecond != 0 {
			l.diags.Addf(l.at(d, x.option), codeOperator, "Parts of a millisecond", "Times of events are whole milliseconds.")
		}
	}
	l.emit(w, d)
	if w.Kind == WindowGlobal {
		if d.lateness > 0 {
			l.diags.Addf(l.at(d, "allowed_lateness"), codeBlockValue, "Option without a meaning", "A global window has no end that a row could be late for.")
		}
		l.endless(o, d, "A global window ends with its input")
	} else {
		o.Ports = map[string]types.Type{"late": in.Type()}
	}
	l.gather(o, d, in, w.Kind != WindowGlobal)
	o.Updates = w.Emit != EmitOnClose || w.Lateness > 0
}

// endless reports what gives its rows at the end of input that has none.
func (l *jobLinker) endless(o *Operator, d *opDecl, what string) {
	if o.Window.Emit != EmitOnClose {
		return
	}
	if r := l.unbounded(o); r != nil {
		l.diags.Addf(l.at(d, "emit"), codeNeverCloses, "Window that never closes", "%s, and %s (%s) never ends: no row would ever come out. Write emit = \"on_update\" or a duration, or take windows that end.", what, r.Name(), r.Read.From.Addr)
	}
}

func (l *jobLinker) aggregate(o *Operator, d *opDecl, in OperatorInput) {
	l.refuseUpdates(o, in)
	o.Window = &JobWindow{Kind: WindowNone, TTL: l.ttl(d)}
	l.emit(o.Window, d)
	l.endless(o, d, "With emit = \"on_close\" a key gives its row when the input has ended")
	l.gather(o, d, in, false)
	o.Updates = o.Window.Emit != EmitOnClose
}

// ttl gives how long a key is kept; 0: for ever.
func (l *jobLinker) ttl(d *opDecl) time.Duration {
	ttl := d.ttl
	if ttl == 0 {
		ttl = l.decl.job.State.TTL
	}
	return max(ttl, 0)
}

// emit reads when a window gives its rows.
func (l *jobLinker) emit(w *JobWindow, d *opDecl) {
	if w.Emit = d.emit; d.emit == EmitOnClose || d.emit == EmitOnUpdate {
		return
	}
	every, err := spec.ParseDuration(d.emit)
	if err != nil || every < time.Millisecond {
		l.diags.Addf(l.at(d, "emit"), codeBlockValue, "Wrong value", "%q is neither \"on_close\", \"on_update\" nor a duration of at least 1ms.%s", d.emit, diag.DidYouMean(d.emit, []string{EmitOnClose, EmitOnUpdate}))
		return
	}
	w.Emit, w.Interval = EmitInterval, every
}

// gather checks the key and the aggregates, and gives the type of the rows that they become.
func (l *jobLinker) gather(o *Operator, d *opDecl, in OperatorInput, bounds bool) {
	env := l.env(in.Type(), o.Meta)
	o.Key = l.key(d.key, env)
	o.Identity = keyNames(o.Key)
	fields := keyType(o.Key)
	if bounds {
		fields = append(fields, types.Field{Name: "window_start", Type: types.TimestampMsType}, types.Field{Name: "window_end", Type: types.TimestampMsType})
		o.Identity = append(o.Identity, "window_start")
		for _, k := range d.key {
			if k.Name == "window_start" || k.Name == "window_end" {
				l.clash(k.Name, "one of the key, one that the window has", k.NameRange)
			}
		}
	}
	if len(d.aggregate) == 0 {
		l.diags.Addf(l.at(d, "aggregate"), codeOperator, "Nothing to compute", "Name at least one field: aggregate = { n = \"count()\" }.")
	}
	a, diags := dsl.CheckAggregation(d.aggregate, env)
	l.diags.Append(diags...)
	for _, f := range d.aggregate {
		switch {
		case slices.ContainsFunc(d.key, func(k spec.Field) bool { return k.Name == f.Name }):
			l.clash(f.Name, "one of the key, one of aggregate", f.NameRange)
		case bounds && (f.Name == "window_start" || f.Name == "window_end"):
			l.clash(f.Name, "one of aggregate, one that the window has", f.NameRange)
		}
	}
	o.Meta, o.Aggregation = false, a
	if a != nil {
		fields = append(fields, a.Type.Fields...)
	}
	o.Output = types.ObjectOf(fields...)
}

func (l *jobLinker) top(o *Operator, d *opDecl, in OperatorInput) {
	l.refuseUpdates(o, in)
	env := l.env(in.Type(), o.Meta)
	o.Key = l.key(d.key, env)
	o.Top = &JobTop{Descending: d.descending, N: d.n, TTL: l.ttl(d)}
	e := l.expr(d.orderBy, env)
	if o.Top.OrderBy = e; e != nil {
		switch t := e.Root.Type; t.Kind {
		case types.List, types.Map, types.Object, types.Bytes:
			l.diags.Addf(e.Text.At(e.Root.Span.Start, e.Root.Span.End), codeOperator, "Values without an order", "Rows are ordered by numbers, strings, times or bools, and this is %s.", t)
		}
	}
	for _, k := range o.Key {
		n := k.Expr.Root
		if n.Op == ir.Field && len(n.Path) == 1 && (n.Path[0].Name == "window_start" || n.Path[0].Name == "window_end") && windowed(in.From) {
			o.Top.Windowed = true
		}
	}
	if o.Meta = false; in.Type().Kind == types.Object {
		if _, ok := in.Type().Field("rank"); ok {
			l.clash("rank", "one of the row, one that top adds; rename that of the row before", o.Range)
		}
		t := in.Type()
		t.Fields = append(slices.Clone(t.Fields), types.Field{Name: "rank", Type: types.IntType})
		o.Output = t
	}
	o.Updates = !o.Top.Windowed
	o.Identity = nil
	for i, k := range o.Key { // the fields of the row that the key copies tell its rows apart
		n := k.Expr.Root
		if n.Op != ir.Field || len(n.Path) != 1 || n.Path[0].IsIndex {
			l.diags.Addf(d.key[i].NameRange, codeOperator, "Key that is no field", "The rows of top are told apart by the fields of its key, so these are fields of the row. Compute %q before, with project.", k.Name)
			continue
		}
		o.Identity = append(o.Identity, n.Path[0].Name)
	}
	o.Identity = append(o.Identity, "rank")
}

// windowed tells whether rows come from windows that close, so that their window_start and window_end are those.
func windowed(o *Operator) bool {
	for o.Window == nil && len(o.Inputs) == 1 && (o.Where != nil || o.Shape != nil || o.Split != nil || o.Lookup != nil) {
		if o.Shape != nil && kept([]string{"window_start"}, o.Shape) == nil && kept([]string{"window_end"}, o.Shape) == nil {
			return false
		}
		o = o.Inputs[0].From
	}
	return o.Window != nil && o.Window.Kind != WindowGlobal && o.Window.Kind != WindowNone
}

// rowKey is the message key of rows that nothing else gives one: a JSON list of what tells them apart.
func rowKey(identity []string, rng diag.Range) diag.Text {
	parts := make([]string, len(identity))
	for i, name := range identity {
		parts[i] = "event[" + strconv.Quote(name) + "]"
	}
	return diag.Text{S: "toJSON([" + strings.Join(parts, ", ") + "])", Range: rng}
}
