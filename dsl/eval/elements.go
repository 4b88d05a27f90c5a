package eval

import (
	"slices"
	"strconv"

	"keystone/dsl/ir"
)

// body is the predicate of a call, evaluated once per element.
type body struct {
	val   valF
	cond  condF
	frame int
	st    *site
}

// What the evaluations of one record may cost: nested predicates over long
// lists would otherwise run for hours. A step is about an element or 16 bytes
// of text looked at.
const (
	maxSteps = 16 << 20
	maxMade  = 4 << 20  // elements of lists and objects
	maxText  = 64 << 20 // bytes
)

// step counts one turn of a predicate. Only these turns multiply work, so
// only here is the cost looked at.
func (m *machine) step(st *site) bool {
	m.steps++
	return m.affordable(st)
}

func (m *machine) affordable(st *site) bool {
	if m.steps <= maxSteps && m.made <= maxMade && len(m.buf) <= maxText {
		return true
	}
	m.fail(st, ir.CodeLimit, "The expression is too much work for this record: it has long lists that are gone over again and again.")
	return false
}

// overElements compiles a call of a function that goes through a list.
func (c *compiler) overElements(n *ir.Node) valF {
	at, st := n.Func.Predicate, c.site(n)
	list := c.val(n.Kids[0])
	var b *body
	if len(n.Kids) > at && n.Kids[at] != nil {
		b = &body{frame: c.frames, st: st}
		c.frames++
		c.st.frames = max(c.st.frames, c.frames)
		// One of the two: compiling both would double the work at every depth.
		if isPredicate(n.Func.Name) {
			b.cond = c.cond(n.Kids[at])
		} else {
			b.val = c.val(n.Kids[at])
		}
		c.frames--
	}
	var run func(m *machine, l []value) value
	switch n.Func.Name {
	case "reduce":
		return c.reduce(n, list, b)
	case "sortBy":
		desc := len(n.Kids) > 2 && n.Kids[2].Value == "desc"
		run = func(m *machine, l []value) value { return m.sortBy(l, b, desc, st) }
	default:
		run = elementFunction(n.Func.Name, b, st)
	}
	if run == nil {
		c.refuse("the function %q has no implementation", n.Func.Name)
	}
	return func(m *machine) value {
		v := list(m)
		switch v.k {
		case kNil, kErr:
			return v
		case kList:
			return run(m, m.elements(v))
		}
		return m.wrongType(st, v, "a list")
	}
}

// isPredicate tells the functions that want a truth value of their body.
func isPredicate(name string) bool {
	switch name {
	case "map", "sum", "groupBy", "sortBy", "reduce":
		return false
	}
	return true
}

// each evaluates the body as a value for one element.
func (b *body) each(m *machine, l []value, i int) value {
	if !m.step(b.st) {
		return value{k: kErr}
	}
	f := &m.frames[b.frame]
	f.elem, f.index = l[i], int64(i)
	return b.val(m)
}

// holds evaluates the body as a predicate for one element: nil counts as false.
func (b *body) holds(m *machine, l []value, i int) tri {
	if !m.step(b.st) {
		return triErr
	}
	f := &m.frames[b.frame]
	f.elem, f.index = l[i], int64(i)
	if t := b.cond(m); t != triNil {
		return t
	}
	return triFalse
}

func elementFunction(name string, b *body, st *site) func(*machine, []value) value {
	switch name {
	case "all":
		return func(m *machine, l []value) value { return b.until(m, l, triFalse, boolValue(false), boolValue(true)) }
	case "any":
		return func(m *machine, l []value) value { return b.until(m, l, triTrue, boolValue(true), boolValue(false)) }
	case "none":
		return func(m *machine, l []value) value { return b.until(m, l, triTrue, boolValue(false), boolValue(true)) }
	case "one":
		return func(m *machine, l []value) value {
			n, ok := b.count(m, l, st)
			if !ok {
				return value{k: kErr}
			}
			return boolValue(n == 1)
		}
	case "count":
		return func(m *machine, l []value) value {
			n, ok := b.count(m, l, st)
			if !ok {
				return value{k: kErr}
			}
			return intValue(int64(n))
		}
	case "filter":
		return b.filter
	case "map":
		return b.mapped
	case "sum":
		return func(m *machine, l []value) value { return b.sum(m, l, st) }
	case "find":
		return func(m *machine, l []value) value { return b.find(m, l, false, false) }
	case "findIndex":
		return func(m *machine, l []value) value { return b.find(m, l, false, true) }
	case "findLast":
		return func(m *machine, l []value) value { return b.find(m, l, true, false) }
	case "findLastIndex":
		return func(m *machine, l []value) value { return b.find(m, l, true, true) }
	case "groupBy":
		return func(m *machine, l []value) value { return b.groups(m, l, st) }
	}
	return nil
}

// until gives found at the first element whose predicate is t, else none.
func (b *body) until(m *machine, l []value, t tri, found, none value) value {
	for i := range l {
		switch b.holds(m, l, i) {
		case t:
			return found
		case triErr:
			return value{k: kErr}
		}
	}
	return none
}

// truthOf tells whether the predicate holds for an element, or without one
// whether the element is true; nil is not.
func (m *machine) truthOf(b *body, l []value, i int, st *site) tri {
	if b != nil {
		return b.holds(m, l, i)
	}
	if t := m.truth(l[i], st); t != triNil {
		return t
	}
	return triFalse
}

// count counts the elements for which the predicate holds, or that are true.
func (b *body) count(m *machine, l []value, st *site) (n int, ok bool) {
	for i := range l {
		t := m.truthOf(b, l, i, st)
		if t == triErr {
			return 0, false
		}
		n += int(t)
	}
	return n, true
}

func (b *body) filter(m *machine, l []value) value {
	out := m.room(len(l))
	for i := range l {
		switch b.holds(m, l, i) {
		case triTrue:
			out = append(out, l[i])
		case triErr:
			return value{k: kErr}
		}
	}
	return listValue(out)
}

func (b *body) mapped(m *machine, l []value) value {
	out := m.room(len(l))
	for i := range l {
		v := b.each(m, l, i)
		if v.k == kErr {
			return v
		}
		out = append(out, v)
	}
	return listValue(out)
}

func (b *body) sum(m *machine, l []value, st *site) value {
	sum := num{k: numInt}
	for i := range l {
		v := l[i]
		if b != nil {
			v = b.each(m, l, i)
		}
		n := m.numOf(v, st)
		switch n.k {
		case numNil:
			return value{}
		case numErr:
			return value{k: kErr}
		case numOther:
			return m.wrongType(st, v, "a number")
		}
		if sum = m.add(sum, n, st); sum.k == numErr {
			return value{k: kErr}
		}
	}
	return m.valueOf(sum)
}

func (b *body) find(m *machine, l []value, fromEnd, index bool) value {
	for k := range l {
		i := k
		if fromEnd {
			i = len(l) - 1 - k
		}
		switch b.holds(m, l, i) {
		case triErr:
			return value{k: kErr}
		case triTrue:
			if index {
				return intValue(int64(i))
			}
			return l[i]
		}
	}
	return value{}
}

// groups makes an object of lists. Elements of a group are counted first, so
// that each list is made at its size.
func (b *body) groups(m *machine, l []value, st *site) value {
	names := m.room(len(l)) // of each element; n is its group
	out := m.room(2 * len(l))
	var index map[string]int
	for i := range l {
		name := m.groupName(b.each(m, l, i), st)
		if name.k == kErr {
			return name
		}
		at := findName(out, name.s, index)
		if at < 0 {
			at = len(out)
			out = append(out, name, value{k: kList})
			if index == nil && at > 2*fewGroups {
				index = indexNames(out)
			} else if index != nil {
				index[string(name.s)] = at
			}
		}
		out[at+1].n++
		name.n = int64(at)
		names = append(names, name)
	}
	for i := range names {
		list := &out[names[i].n+1]
		if list.l == nil {
			list.l, list.n = m.room(int(list.n)), 0
		}
		list.l = append(list.l, l[i])
	}
	return value{k: kObject, l: out}
}

const fewGroups = 32 // up to so many are searched in a row

// groupName gives what stands for a group: a string, or an int or bool as text.
func (m *machine) groupName(v value, st *site) value {
	at := len(m.buf)
	switch v.k {
	case kErr:
		return v
	case kString:
		return stringValue(m.text(v))
	case kInt:
		m.buf = appendInt(m.buf, v.n)
	case kBool:
		m.buf = strconv.AppendBool(m.buf, v.n == 1)
	default:
		return m.wrongType(st, v, "a string, an int or a bool")
	}
	return stringValue(m.keep(at))
}

// reduce compiles reduce, whose third argument is the first #acc.
func (c *compiler) reduce(n *ir.Node, list valF, b *body) valF {
	var initial valF
	if len(n.Kids) > 2 {
		initial = c.val(n.Kids[2])
	}
	st := c.site(n)
	return func(m *machine) value {
		v := list(m)
		var acc value
		if v.k == kErr {
			return v
		}
		if initial != nil {
			if acc = initial(m); acc.k == kErr {
				return acc
			}
		}
		switch v.k {
		case kNil:
			return v
		case kList:
		default:
			return m.wrongType(st, v, "a list")
		}
		l := m.elements(v)
		from := 0
		if initial == nil {
			if len(l) == 0 {
				return value{}
			}
			acc, from = l[0], 1
		}
		for i := from; i < len(l); i++ {
			m.frames[b.frame].acc = acc
			if acc = b.each(m, l, i); acc.k == kErr {
				return acc
			}
		}
		return acc
	}
}

// keyed is an element with what it is sorted by.
type keyed struct{ key, val value }

func (m *machine) sortBy(l []value, b *body, desc bool, st *site) value {
	keys := m.room(len(l))
	for i := range l {
		v := b.each(m, l, i)
		if v.k == kErr {
			return v
		}
		keys = append(keys, v)
	}
	return m.sorted(keys, l, desc, st)
}

// sorted orders vals by keys, stable, nil last. Keys are all numbers, all
// strings, all times or all bools.
func (m *machine) sorted(keys, vals []value, desc bool, st *site) value {
	pairs := slices.Grow(m.pairs[:0], len(keys))[:len(keys)]
	m.pairs = pairs
	first := value{}
	for i, k := range keys {
		switch {
		case k.k == kFloat || k.k == kInt:
			if m.numOf(k, st).k == numErr {
				return value{k: kErr}
			}
		case k.k == kString:
			k = stringValue(m.text(k))
		case k.k != kNil && k.k != kTime && k.k != kBool:
			return m.wrongType(st, k, "a number, a string, a time or a bool")
		}
		if k.k != kNil {
			if first.k == kNil {
				first = k
			} else if first.k != k.k && !(first.isNumber() && k.isNumber()) {
				return m.fail(st, ir.CodeType, "There is no order between "+aKind[first.k]+" and "+aKind[k.k]+".")
			}
		}
		pairs[i] = keyed{k, vals[i]}
	}
	slices.SortStableFunc(pairs, func(a, b keyed) int {
		switch {
		case a.key.k == kNil && b.key.k == kNil:
			return 0
		case a.key.k == kNil:
			return 1
		case b.key.k == kNil:
			return -1
		}
		var o int
		if a.key.k == kBool {
			o = order(a.key.n, b.key.n)
		} else {
			o, _ = m.orderOf(a.key, b.key, st)
		}
		if desc {
			return -o
		}
		return o
	})
	out := m.room(len(pairs))
	for _, p := range pairs {
		out = append(out, p.val)
	}
	return listValue(out)
}
