package configs

import (
	"slices"
	"strings"

	"keystone/configs/addr"
	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/dsl"
	"keystone/dsl/ir"
	"keystone/dsl/types"
	"keystone/sinks"
)

// write checks what rows become where they go.
func (l *jobLinker) write(o *Operator, d *opDecl, in OperatorInput) {
	o.Meta = false
	if !l.d.hasEnd(d.to, "sink or stream", l.diags) {
		return
	}
	w := &JobWrite{To: d.to, Changelog: d.changelog, Revisions: d.revisions, Row: in.Type()}
	o.Write = w
	l.changes(d, in)
	if d.revisions {
		l.revisions(w, d)
	}
	s := dsl.RouteSpec{Key: d.messageKey}
	target, sink := l.d.c.Streams[d.to.Addr], l.d.c.Sinks[d.to.Addr]
	if target != nil {
		s.Target = target.Schema
	}
	if s.Key.S == "" && target != nil && target.Key.S != "" {
		s.Key = target.Key
		l.borrow(target.Key, spec.KindExpr, target.Addr)
	}
	if d.changelog == ChangelogUpsert {
		s.Key = l.upsertKey(d, in, s.Key)
	}
	if sink != nil && !l.d.broken[sink.Addr] {
		s.Derived = derivedOf(sink.Config.Options(), "")
		for _, x := range s.Derived {
			kind := spec.KindExpr
			if x.Pattern {
				kind = spec.KindPattern
			}
			l.borrow(x.Text, kind, sink.Addr)
		}
		l.checkUpsertSink(d, sink)
	}
	if w.Program = l.shape(w.Row, false, s); w.Program == nil {
		return
	}
	w.Program.Tombstones = ir.TombstonesPass
	w.Key = w.Program.Key
	if d.changelog == ChangelogUpsert && d.messageKey.S+keyText(target) != "" {
		l.coversIdentity(d, in, w.Key)
	}
	l.fitsTarget(d, in, w, target, sink)
}

func keyText(s *Stream) string {
	if s == nil {
		return ""
	}
	return s.Key.S
}

// borrow lets expressions of another block see the constants that they name.
func (l *jobLinker) borrow(text diag.Text, kind spec.Kind, from addr.Addr) {
	l.body.Consts = l.d.borrowed(l.decl.job.Addr, l.body.Consts, text, kind, l.d.bodies[from], l.diags)
}

// changes holds how rows are written against whether they change.
func (l *jobLinker) changes(d *opDecl, in OperatorInput) {
	switch {
	case d.revisions && d.changelog == ChangelogUpsert:
		l.diags.Addf(l.at(d, "revisions"), codeUpdates, "Contradiction", "revisions appends each change of a row, and changelog = \"upsert\" replaces the row before. Keep one of them.")
	case in.updates() && d.changelog == ChangelogAppend && !d.revisions:
		l.diags.Addf(l.at(d, "changelog"), codeUpdates, "Rows that change are appended", "Rows of %s change after they were written (%s): with changelog = \"append\" readers would count them twice. Write changelog = \"upsert\", or revisions = true to append each change with the fields op and revision; or let each row be given once.", in.From.Name(), whyUpdates(in.From))
	case d.changelog == ChangelogUpsert && !in.updates() && len(in.identity()) == 0 && d.messageKey.S == "" && keyText(l.d.c.Streams[d.to.Addr]) == "":
		l.diags.Addf(l.at(d, "changelog"), codeUpdates, "Missing key", "An upsert replaces the row of the same key, and nothing tells rows of %s apart. Write key = \"FIELD\".", in.From.Name())
	}
}

func (l *jobLinker) revisions(w *JobWrite, d *opDecl) {
	if w.Row.Kind != types.Object {
		return
	}
	t := w.Row
	t.Fields = slices.Clone(t.Fields)
	for _, f := range []types.Field{{Name: "op", Type: types.StringType}, {Name: "revision", Type: types.IntType}} {
		if _, ok := t.Field(f.Name); ok {
			l.clash(f.Name, "one of the row, one of revisions; rename that of the row before", l.at(d, "revisions"))
			continue
		}
		t.Fields = append(t.Fields, f)
	}
	w.Row = t
}

// upsertKey gives the key of an upsert: what is said, else what tells rows apart.
func (l *jobLinker) upsertKey(d *opDecl, in OperatorInput, said diag.Text) diag.Text {
	if said.S != "" || len(in.identity()) == 0 && !in.updates() { // all rows of a key of no fields are one
		return said
	}
	return rowKey(in.identity(), l.header(d.name()))
}

// coversIdentity holds a written key of rows that change against what tells them apart.
func (l *jobLinker) coversIdentity(d *opDecl, in OperatorInput, key *ir.Expr) {
	if key == nil || !in.updates() {
		return
	}
	read := map[string]bool{}
	key.Root.Walk(func(n *ir.Node) bool {
		switch n.Op {
		case ir.Field:
			read[n.Path[0].Name] = true
		case ir.Event:
			for _, name := range in.identity() {
				read[name] = true
			}
		}
		return true
	})
	for _, name := range in.identity() {
		if !read[name] {
			rng := l.at(d, "key")
			if d.messageKey.S == "" {
				rng = d.to.Range
			}
			l.diags.Addf(rng, codeUpdates, "Key that does not tell rows apart", "Rows of %s change and are told apart by %s; the key %s leaves %q out, so that one row would replace another. Write a key of all of them, such as key = %q.", in.From.Name(), joinWords(in.identity()), key.Text.S, name, "toJSON(["+strings.Join(in.identity(), ", ")+"])")
			return
		}
	}
}

// checkUpsertSink reports a sink that cannot take rows back.
func (l *jobLinker) checkUpsertSink(d *opDecl, s *Sink) {
	if d.changelog != ChangelogUpsert {
		return
	}
	if n, ok := s.Config.(sinks.NullTaker); !ok || !n.TakesNull() {
		l.diags.Addf(l.at(d, "changelog"), codeUpdates, "Sink that cannot replace rows", "%s (%s) cannot replace the row before or take one back. Write rows that are given once, or revisions = true; or write a stream.", s.Addr, s.Kind)
	}
}

// fitsTarget holds the rows against what the target takes.
func (l *jobLinker) fitsTarget(d *opDecl, in OperatorInput, w *JobWrite, target *Stream, sink *Sink) {
	if target != nil && target.Schema.Kind == types.Object && w.Row.Kind == types.Object {
		for _, m := range mismatches(w.Row, target.Schema, "", true) {
			l.diags.Addf(l.rowField(in.From, m.path, d.to.Range), codeOutputType, "Output does not fit the schema of "+target.Addr.String(), "%s", m.text)
		}
	}
	if sink == nil || l.d.broken[sink.Addr] {
		return
	}
	report := func(list []sinks.Misfit) {
		for _, m := range list {
			rng := d.to.Range
			if m.Path != "" {
				rng = l.rowField(in.From, m.Path, rng)
			}
			if m.Warning {
				l.diags.Warnf(rng, codeOutputType, "Output does not fit "+sink.Addr.String(), "%s", m.Text)
			} else {
				l.diags.Addf(rng, codeOutputType, "Output does not fit "+sink.Addr.String(), "%s", m.Text)
			}
		}
	}
	if f, ok := sink.Config.(sinks.Fitter); ok {
		report(f.Misfits(w.Row))
	}
	if u, ok := sink.Config.(sinks.Uniter); ok {
		report(u.Clashes(w.Row, l.d.writers(sink.Addr)))
	}
}

// writers gives what routes write to a sink.
func (d *decoder) writers(sink addr.Addr) []sinks.Writer {
	var out []sinks.Writer
	for _, a := range sorted(d.c.Routes) {
		if r := d.c.Routes[a]; r.To.Addr == sink && r.Checked != nil {
			out = append(out, sinks.Writer{Route: a.String(), Type: r.Written()})
		}
	}
	return out
}

// rowField gives where a field of an operator's rows is written, or other.
func (l *jobLinker) rowField(o *Operator, path string, other diag.Range) diag.Range {
	for o != nil {
		d := l.decl.ops[o.Name()]
		for _, fields := range [][]spec.Field{d.project, d.set, d.aggregate, d.key} {
			if rng, ok := findField(fields, path); ok && o.Kind != "dedup" && o.Kind != "lookup" {
				return rng
			}
		}
		if len(o.Inputs) != 1 || d.project != nil || o.Window != nil {
			return other
		}
		o = o.Inputs[0].From
	}
	return other
}
