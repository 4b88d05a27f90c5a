package eval

import (
	"bytes"

	"keystone/dsl/ir"
	"keystone/dsl/types"
	"keystone/pipeline/json"
)

// equality compiles ==, which is never nil.
func (c *compiler) equality(n *ir.Node) condF {
	a, b := n.Kids[0], n.Kids[1]
	if a.Op == ir.Const {
		a, b = b, a
	}
	if s, ok := b.Value.(string); ok && b.Op == ir.Const && a.Op == ir.Field {
		if f := c.fieldIs(a, s); f != nil {
			return f
		}
	}
	if isNumeric(a) && isNumeric(b) {
		return c.equalNumbers(n)
	}
	// In the written order: the first error counts.
	x, y, st := c.val(n.Kids[0]), c.val(n.Kids[1]), c.site(n)
	return func(m *machine) tri {
		v := x(m)
		if v.k == kErr {
			return triErr
		}
		w := y(m)
		if w.k == kErr {
			return triErr
		}
		return m.equal(v, w, st)
	}
}

// stringSlot gives the slot of a field that may be compared as text as it
// stands in the document, or -1.
func (c *compiler) stringSlot(n *ir.Node) int {
	if n.Op != ir.Field || n.Type.Kind != types.Any && n.Type.Kind != types.String {
		return -1
	}
	id, rest := c.path(n.Path)
	if rest != nil {
		return -1
	}
	return id
}

// fieldIs compares a field with a constant string, quotes and all.
func (c *compiler) fieldIs(n *ir.Node, s string) condF {
	id := c.stringSlot(n)
	if id < 0 {
		return nil
	}
	f, want, st := c.val(n), []byte(s), c.site(n)
	return func(m *machine) tri {
		slot := &m.slots[id]
		if slot.Kind == json.String && !slot.Marked {
			return triOf(string(m.doc[slot.Start+1:slot.End-1]) == s)
		}
		v := f(m)
		if v.k == kErr {
			return triErr
		}
		return m.equal(v, stringValue(want), st)
	}
}

func (c *compiler) equalNumbers(n *ir.Node) condF {
	a, b, st := c.num(n.Kids[0]), c.num(n.Kids[1]), c.site(n)
	return func(m *machine) tri {
		x := a(m)
		if x.k == numErr {
			return triErr
		}
		v := m.valueOf(x)
		y := b(m)
		if y.k == numErr {
			return triErr
		}
		if x.k <= numFloat && y.k <= numFloat {
			return triOf(compareNums(x, y) == 0)
		}
		return m.equal(v, m.valueOf(y), st)
	}
}

// equal compares by value: numbers exactly, lists by element, objects by
// name. Across kinds nothing is equal. Only a number beyond float64 is an error.
func (m *machine) equal(v, w value, st *site) tri {
	if v.isNumber() && w.isNumber() {
		a, b := m.numOf(v, st), m.numOf(w, st)
		if a.k == numErr || b.k == numErr {
			return triErr
		}
		return triOf(compareNums(a, b) == 0)
	}
	if v.k != w.k {
		return triFalse
	}
	switch v.k {
	case kNil:
		return triTrue
	case kBool:
		return triOf(v.n == w.n)
	case kTime:
		return triOf(v.n == w.n && v.aux == w.aux)
	case kString:
		if (v.aux|w.aux)&escaped == 0 {
			return triOf(bytes.Equal(v.s, w.s))
		}
		return triOf(bytes.Equal(m.text(v), m.text(w)))
	case kBytes:
		return triOf(bytes.Equal(v.s, w.s))
	case kList:
		return m.equalLists(m.elements(v), m.elements(w), st)
	}
	return m.equalObjects(v, w, st)
}

func (m *machine) equalLists(a, b []value, st *site) tri {
	if len(a) != len(b) {
		return triFalse
	}
	for i := range a {
		if t := m.equal(a[i], b[i], st); t != triTrue {
			return t
		}
	}
	return triTrue
}

func (m *machine) equalObjects(v, w value, st *site) tri {
	a, b := m.members(v), m.members(w)
	if len(a) != len(b) {
		return triFalse
	}
	var index map[string]int
	for i := 0; i < len(a); i += 2 {
		at := i // members mostly come in the same order
		if !bytes.Equal(a[i].s, b[at].s) {
			if index == nil && len(b) > 2*fewGroups {
				index = indexNames(b)
			}
			if at = findName(b, a[i].s, index); at < 0 {
				return triFalse
			}
		}
		if t := m.equal(a[i+1], b[at+1], st); t != triTrue {
			return t
		}
	}
	return triTrue
}

// findName gives the index of a name among names and values in turn, -1 if it is not there.
func findName(l []value, name []byte, index map[string]int) int {
	if index != nil {
		if at, ok := index[string(name)]; ok {
			return at
		}
		return -1
	}
	for i := 0; i < len(l); i += 2 {
		if bytes.Equal(l[i].s, name) {
			return i
		}
	}
	return -1
}

func indexNames(l []value) map[string]int {
	index := make(map[string]int, len(l)/2)
	for i := 0; i < len(l); i += 2 {
		index[string(l[i].s)] = i
	}
	return index
}

// in compiles x in list and 'name' in object. Two-valued: nil is in a list
// that has nil, and otherwise nothing is in nil.
func (c *compiler) in(n *ir.Node) condF {
	a, b := n.Kids[0], n.Kids[1]
	if words := constStrings(b); words != nil {
		if f := c.fieldIn(a, words); f != nil {
			return f
		}
	}
	x, y, st := c.val(a), c.val(b), c.site(n)
	return func(m *machine) tri {
		v := x(m)
		if v.k == kErr {
			return triErr
		}
		w := y(m)
		if w.k == kErr {
			return triErr
		}
		return m.contains(v, w, st)
	}
}

func (m *machine) contains(v, w value, st *site) tri {
	switch w.k {
	case kNil:
		return triFalse
	case kList:
		m.steps += len(w.s)>>4 + len(w.l)
		if w.s != nil {
			for it := json.Over(w.s); it.Next(); {
				if t := m.equal(v, fromRaw(it.Value), st); t != triFalse {
					return t
				}
			}
			return triFalse
		}
		for _, e := range w.l {
			if t := m.equal(v, e, st); t != triFalse {
				return t
			}
		}
		return triFalse
	case kObject:
		if v.k == kNil {
			return triFalse
		}
		if v.k != kString {
			m.wrongType(st, v, "a string, as the names of an object are")
			return triErr
		}
		name := m.text(v)
		return triOf(findName(m.members(w), name, nil) >= 0)
	}
	m.wrongType(st, w, "a list or an object")
	return triErr
}

// constStrings gives the elements of a constant list of strings, or nil.
func constStrings(n *ir.Node) (words []string) {
	switch n.Op {
	case ir.Const:
		l, _ := n.Value.([]any)
		for _, e := range l {
			s, ok := e.(string)
			if !ok {
				return nil
			}
			words = append(words, s)
		}
	case ir.List:
		for _, k := range n.Kids {
			s, ok := k.Value.(string)
			if k.Op != ir.Const || !ok {
				return nil
			}
			words = append(words, s)
		}
	}
	return words
}

const fewWords = 8 // up to so many are compared one by one

func (c *compiler) fieldIn(n *ir.Node, words []string) condF {
	id := c.stringSlot(n)
	if id < 0 {
		return nil
	}
	f := c.val(n)
	var set map[string]struct{}
	if len(words) > fewWords {
		set = make(map[string]struct{}, len(words))
		for _, w := range words {
			set[w] = struct{}{}
		}
	}
	has := func(s []byte) tri {
		if set != nil {
			_, ok := set[string(s)]
			return triOf(ok)
		}
		for _, w := range words {
			if string(s) == w {
				return triTrue
			}
		}
		return triFalse
	}
	return func(m *machine) tri {
		slot := &m.slots[id]
		if slot.Kind == json.String && !slot.Marked {
			return has(m.doc[slot.Start+1 : slot.End-1])
		}
		v := f(m)
		switch v.k {
		case kErr:
			return triErr
		case kString:
			return has(m.text(v))
		}
		return triFalse
	}
}
