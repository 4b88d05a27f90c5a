package eval

import (
	"slices"
	"unicode/utf8"

	"keystone/dsl/ir"
	"keystone/dsl/types"
	"keystone/pipeline/json"
)

// path splits a path at the first index that counts from the end: the scan
// finds what is before it, the rest is looked up in its text.
func (c *compiler) path(path []ir.Step) (id int, rest []ir.Step) {
	c.st.reads = true
	var steps []json.Step
	for i, s := range path {
		if s.IsIndex && s.Index < 0 {
			rest = path[i:]
			break
		}
		steps = append(steps, json.Step{Name: s.Name, Index: s.Index, IsIndex: s.IsIndex})
	}
	id = c.st.trie.Add(steps...)
	if id == 0 { // the whole document is read: nothing of it may go unchecked
		c.st.depth = json.Full
	}
	if id > 0 && !slices.Contains(c.st.paths, id) {
		c.st.paths = append(c.st.paths, id)
	}
	if rest == nil {
		c.require(path, id)
	}
	return id, rest
}

// require notes a slot of which the schema says that it must be there.
func (c *compiler) require(path []ir.Step, id int) {
	t := c.input
	optional := false
	for _, s := range path {
		f, ok := t.Field(s.Name)
		if s.IsIndex || t.Kind != types.Object || !ok {
			return
		}
		optional = f.Optional
		t = f.Type
	}
	if optional || len(path) == 0 {
		return
	}
	for _, r := range c.st.required {
		if r == id {
			return
		}
	}
	c.st.required = append(c.st.required, id)
}

func (c *compiler) field(n *ir.Node) valF {
	id, rest := c.path(n.Path)
	st := c.site(n)
	if rest == nil {
		return c.coerced(n, func(m *machine) value { return m.load(id, st) })
	}
	keys := make([]value, len(rest))
	for i, s := range rest {
		if keys[i] = stringValue([]byte(s.Name)); s.IsIndex {
			keys[i] = intValue(int64(s.Index))
		}
	}
	return c.coerced(n, func(m *machine) value {
		v := m.load(id, st)
		for i := range keys {
			if v = m.memberOf(v, keys[i], st); v.k == kErr {
				break
			}
		}
		return v
	})
}

// load gives the value of a slot.
func (m *machine) load(id int, st *site) value {
	s := &m.slots[id]
	switch s.Kind {
	case json.Missing:
		return m.absent(id, st)
	case json.Null:
		return value{}
	}
	return fromSlot(m.doc, s)
}

// absent says what a path means that the document does not have: nil, or an
// error where the path goes through something that has no such members.
func (m *machine) absent(id int, st *site) value {
	t := m.scan.Trie()
	p := t.Parent(id)
	if p < 0 {
		return value{}
	}
	step := t.Step(id)
	var v value
	switch s := &m.slots[p]; s.Kind {
	case json.Missing:
		v = m.absent(p, st)
	case json.Object:
		if !step.IsIndex {
			return value{}
		}
		v = fromSlot(m.doc, s)
	case json.Array:
		if step.IsIndex {
			return value{}
		}
		v = fromSlot(m.doc, s)
	default:
		v = fromSlot(m.doc, s)
	}
	switch {
	case v.k == kNil || v.k == kErr:
		return v
	case v.k == kString && step.IsIndex:
		return m.charAt(v, int64(step.Index))
	}
	return m.noMember(v, st)
}

func (m *machine) noMember(v value, st *site) value {
	return m.fail(st, ir.CodeType, "There is no such member: what should have it is "+aKind[v.k]+".")
}

// member compiles x[key] and x.key.
func (c *compiler) member(n *ir.Node) valF {
	if p := staticPath(n); p != nil && n.Kids[0].Op == ir.Event {
		return c.field(&ir.Node{Op: ir.Field, Type: n.Type, Token: n.Token, Path: p})
	}
	x, key, st := c.val(n.Kids[0]), c.val(n.Kids[1]), c.site(n)
	return c.coerced(n, func(m *machine) value {
		v := x(m)
		if v.k == kErr {
			return v
		}
		k := key(m)
		if k.k == kErr {
			return k
		}
		return m.memberOf(v, k, st)
	})
}

// staticPath gives the path of a chain of members that begins at the event,
// or nil. A field of a declared type is not looked through: reading it checks
// its type.
func staticPath(n *ir.Node) []ir.Step {
	switch n.Op {
	case ir.Event:
		return []ir.Step{}
	case ir.Field:
		if k := n.Type.Kind; k != types.Any && k != types.Object && k != types.Map && k != types.List {
			return nil
		}
		return append([]ir.Step{}, n.Path...)
	case ir.Member:
		p := staticPath(n.Kids[0])
		if p == nil || n.Kids[1].Op != ir.Const {
			return nil
		}
		switch k := n.Kids[1].Value.(type) {
		case string:
			return append(p, ir.Step{Name: k})
		case int64:
			if k >= -1<<31 && k < 1<<31 {
				return append(p, ir.Step{Index: int(k), IsIndex: true})
			}
		}
	}
	return nil
}

// memberOf gives v[key].
func (m *machine) memberOf(v, key value, st *site) value {
	switch {
	case v.k == kNil:
		return v
	case key.k == kNil:
		return key
	case v.k == kObject && key.k == kString:
		return m.named(v, m.text(key))
	case v.k == kList && key.k == kInt:
		return m.at(v, key.n)
	case v.k == kString && key.k == kInt:
		return m.charAt(v, key.n)
	}
	return m.noMember(v, st)
}

// at gives an element of a list, nil out of range.
func (m *machine) at(v value, i int64) value {
	if v.s == nil || i < 0 {
		l := m.elements(v)
		if i < 0 {
			i += int64(len(l))
		}
		if i < 0 || i >= int64(len(l)) {
			return value{}
		}
		return l[i]
	}
	m.steps += len(v.s) >> 4
	for it := json.Over(v.s); it.Next(); i-- {
		if i == 0 {
			return fromRaw(it.Value)
		}
	}
	return value{}
}

// charAt gives the code point at i as a string, nil out of range.
func (m *machine) charAt(v value, i int64) value {
	s := m.text(v)
	if i < 0 {
		i += int64(utf8.RuneCount(s))
	}
	if i < 0 {
		return value{}
	}
	for len(s) > 0 {
		_, n := utf8.DecodeRune(s)
		if i == 0 {
			return stringValue(s[:n:n])
		}
		s = s[n:]
		i--
	}
	return value{}
}

func (c *compiler) slice(n *ir.Node) valF {
	none := func(*machine) value { return value{k: kInt, aux: 1} }
	bound := func(i int) valF {
		if i >= len(n.Kids) || n.Kids[i] == nil {
			return none
		}
		return c.val(n.Kids[i])
	}
	x, from, to, st := c.val(n.Kids[0]), bound(1), bound(2), c.site(n)
	return func(m *machine) value {
		v := x(m)
		if v.k == kErr {
			return v
		}
		a := from(m)
		if a.k == kErr {
			return a
		}
		b := to(m)
		switch {
		case b.k == kErr:
			return b
		case v.k == kNil || a.k == kNil || b.k == kNil: // nil before types, as everywhere
			return value{}
		case v.k != kList && v.k != kString:
			return m.wrongType(st, v, "a list or a string")
		case a.k != kInt:
			return m.wrongType(st, a, "an int")
		case b.k != kInt:
			return m.wrongType(st, b, "an int")
		}
		if v.k == kList {
			l := m.elements(v)
			i, j := bounds(a, b, len(l))
			return listValue(l[i:j:j])
		}
		s := m.text(v)
		i, j := bounds(a, b, utf8.RuneCount(s))
		return stringValue(runes(s, i, j))
	}
}

// bounds clamps the bounds of a slice of n elements; aux of a value marks one that was not written.
func bounds(a, b value, n int) (from, to int) {
	clamp := func(v value, missing int) int {
		if v.aux == 1 {
			return missing
		}
		i := v.n
		if i < 0 {
			i = max(i+int64(n), 0)
		}
		return int(min(i, int64(n)))
	}
	from, to = clamp(a, 0), clamp(b, n)
	return from, max(from, to)
}

// runes gives the code points [from, to) of a string.
func runes(s []byte, from, to int) []byte {
	i := 0
	for ; from > 0; from-- {
		_, n := utf8.DecodeRune(s[i:])
		i += n
		to--
	}
	j := i
	for ; to > 0; to-- {
		_, n := utf8.DecodeRune(s[j:])
		j += n
	}
	return s[i:j:j]
}
