package eval

import (
	"keystone/dsl/ir"
	"keystone/pipeline/json"
)

// edit is what set and drop do to one field of an object: what they do not
// name passes byte for byte.
type edit struct {
	name string
	lead []byte // "name":
	val  outF   // of set: the new value
	drop bool
	kids []edit
	sets bool // whether there is a set here or below
	st   *site
}

// edits compiles set and drop into one tree.
func (c *compiler) edits(set []ir.Output, drop [][]string) *edit {
	root := &edit{}
	for _, path := range drop {
		root.at(path).drop = true
		c.visit(path)
	}
	for _, f := range set {
		path := f.Path
		if len(path) == 0 {
			path = []string{f.Name}
		}
		c.visit(path)
		val := c.outputValue(f)
		var st *site
		if f.Expr != nil {
			st = &site{expr: f.Expr, span: f.Expr.Root.Span}
		}
		e := root
		for i := range path {
			e.sets = true
			e = e.at(path[i : i+1])
			if e.st == nil {
				e.st = st
			}
		}
		e.sets, e.val = true, val
	}
	return root
}

// visit has the scan look into the objects that an edit goes through: a lazy
// one would only have found their end.
func (c *compiler) visit(path []string) {
	steps := make([]json.Step, len(path))
	for i, name := range path {
		steps[i].Name = name
	}
	c.st.trie.Add(steps...)
	c.st.reads = true
}

func (e *edit) at(path []string) *edit {
next:
	for _, name := range path {
		for i := range e.kids {
			if e.kids[i].name == name {
				e = &e.kids[i]
				continue next
			}
		}
		lead := append(json.AppendString(nil, []byte(name)), ':')
		e.kids = append(e.kids, edit{name: name, lead: lead})
		e = &e.kids[len(e.kids)-1]
	}
	return e
}

// kid finds the edit of a member, or -1.
func (m *machine) kid(e *edit, it *json.Iter) int {
	name := it.Key
	if it.Escaped {
		at := len(m.buf)
		m.buf = it.AppendKey(m.buf)
		name = m.buf[at:]
		m.buf = m.buf[:at]
	}
	for i := range e.kids {
		if e.kids[i].name == string(name) {
			return i
		}
	}
	return -1
}

// appendEdited appends the object raw with its edits. Members that are not
// named are copied in runs, with the white space around them.
func (m *machine) appendEdited(dst, raw []byte, e *edit) ([]byte, bool) {
	base := len(m.seen)
	for range e.kids {
		m.seen = append(m.seen, false)
	}
	defer func() { m.seen = m.seen[:base] }()
	dst = append(dst, '{')
	open := len(dst)
	run, stop := -1, 0
	flush := func() {
		if run >= 0 {
			dst = comma(dst, open)
			dst = append(dst, raw[run:stop]...)
			run = -1
		}
	}
	for it := json.Over(raw); it.Next(); {
		at := m.kid(e, &it)
		if at < 0 || e.kids[at].passes(it.Value) {
			if at >= 0 {
				m.seen[base+at] = true
			}
			if run < 0 {
				run = it.Begin
			}
			stop = it.Stop
			continue
		}
		flush()
		k := &e.kids[at]
		if k.drop {
			continue
		}
		m.seen[base+at] = true
		dst = comma(dst, open)
		dst = append(dst, raw[it.Begin:it.Start]...)
		var ok bool
		switch {
		case k.val != nil:
			dst, ok = k.val(m, dst)
		case it.Value[0] == '{':
			dst, ok = m.appendEdited(dst, it.Value, k)
		case it.Value[0] == 'n':
			dst, ok = m.appendNew(dst, k)
		default:
			m.fail(k.st, ir.CodeType, "A field cannot be set below "+k.name+", which is "+aKind[fromRaw(it.Value).k]+".")
		}
		if !ok {
			return dst, false
		}
		dst = append(dst, raw[it.Start+len(it.Value):it.Stop]...)
	}
	flush()
	for i := range e.kids {
		k := &e.kids[i]
		if m.seen[base+i] || !k.sets {
			continue
		}
		dst = append(comma(dst, open), k.lead...)
		var ok bool
		if dst, ok = m.appendNew(dst, k); !ok {
			return dst, false
		}
	}
	return append(dst, '}'), true
}

// passes tells that the member stays as it is, since there is nothing in it to drop.
func (e *edit) passes(raw []byte) bool {
	return !e.sets && !e.drop && raw[0] != '{'
}

// appendNew appends the value of a field that was not there.
func (m *machine) appendNew(dst []byte, e *edit) ([]byte, bool) {
	if e.val != nil {
		return e.val(m, dst)
	}
	dst = append(dst, '{')
	open := len(dst)
	for i := range e.kids {
		if k := &e.kids[i]; k.sets {
			dst = append(comma(dst, open), k.lead...)
			var ok bool
			if dst, ok = m.appendNew(dst, k); !ok {
				return dst, false
			}
		}
	}
	return append(dst, '}'), true
}

// comma separates what follows from what stands after the opening brace.
func comma(dst []byte, open int) []byte {
	if len(dst) > open {
		return append(dst, ',')
	}
	return dst
}
