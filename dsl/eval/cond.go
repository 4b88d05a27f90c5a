package eval

import (
	"bytes"

	"keystone/dsl/ir"
	"keystone/dsl/types"
	"keystone/pipeline/json"
)

// cond compiles a node for whoever wants a truth value: anything but a bool
// or nil is an error at that node.
func (c *compiler) cond(n *ir.Node) condF {
	switch n.Op {
	case ir.Const:
		if b, ok := n.Value.(bool); ok {
			t := triOf(b)
			return func(*machine) tri { return t }
		}
	case ir.Field:
		return c.boolField(n)
	case ir.Not:
		x := c.cond(n.Kids[0])
		return func(m *machine) tri {
			t := x(m)
			if t <= triTrue {
				t ^= 1
			}
			return t
		}
	case ir.And:
		return c.and(n)
	case ir.Or:
		return c.or(n)
	case ir.Eq:
		return c.equality(n)
	case ir.Ne:
		f := c.equality(n)
		return func(m *machine) tri {
			t := f(m)
			if t <= triTrue {
				t ^= 1
			}
			return t
		}
	case ir.Lt, ir.Le, ir.Gt, ir.Ge:
		return c.comparison(n)
	case ir.In:
		return c.in(n)
	case ir.Contains:
		return c.textTest(n, bytes.Contains)
	case ir.StartsWith:
		return c.textTest(n, bytes.HasPrefix)
	case ir.EndsWith:
		return c.textTest(n, bytes.HasSuffix)
	case ir.Matches:
		return c.matches(n)
	}
	f, st := c.val(n), c.site(n)
	return func(m *machine) tri { return m.truth(f(m), st) }
}

func (m *machine) truth(v value, st *site) tri {
	switch v.k {
	case kBool:
		return tri(v.n)
	case kNil:
		return triNil
	case kErr:
		return triErr
	}
	m.wrongType(st, v, "a bool")
	return triErr
}

func (c *compiler) boolField(n *ir.Node) condF {
	f, st := c.val(n), c.site(n)
	id, rest := c.path(n.Path)
	if rest != nil {
		return func(m *machine) tri { return m.truth(f(m), st) }
	}
	return func(m *machine) tri {
		switch m.slots[id].Kind {
		case json.True:
			if n.Type.Kind == types.Any || n.Type.Kind == types.Bool {
				return triTrue
			}
		case json.False:
			if n.Type.Kind == types.Any || n.Type.Kind == types.Bool {
				return triFalse
			}
		}
		return m.truth(f(m), st)
	}
}

// and flattens a && b && c into one loop: the conditions run in order until one is false.
func (c *compiler) and(n *ir.Node) condF {
	fs := c.chain(n, ir.And, nil)
	return func(m *machine) tri {
		t := triTrue
		for _, f := range fs {
			switch f(m) {
			case triFalse:
				return triFalse
			case triErr:
				return triErr
			case triNil:
				t = triNil
			}
		}
		return t
	}
}

func (c *compiler) or(n *ir.Node) condF {
	fs := c.chain(n, ir.Or, nil)
	return func(m *machine) tri {
		t := triFalse
		for _, f := range fs {
			switch f(m) {
			case triTrue:
				return triTrue
			case triErr:
				return triErr
			case triNil:
				t = triNil
			}
		}
		return t
	}
}

func (c *compiler) chain(n *ir.Node, op ir.Op, fs []condF) []condF {
	for _, k := range n.Kids {
		if k.Op == op {
			fs = c.chain(k, op, fs)
		} else {
			fs = append(fs, c.cond(k))
		}
	}
	return fs
}

func isNumeric(n *ir.Node) bool {
	switch n.Op {
	case ir.Neg, ir.Mul, ir.Div, ir.Mod, ir.Pow:
		return true
	}
	return n.Type.IsNumber()
}

// comparison compiles < <= > >=: nil for nil, an error between kinds.
func (c *compiler) comparison(n *ir.Node) condF {
	a, b := n.Kids[0], n.Kids[1]
	if isNumeric(a) || isNumeric(b) {
		return c.compareNumbers(n)
	}
	x, y, st, accept := c.val(a), c.val(b), c.site(n), accepted(n.Op)
	return func(m *machine) tri {
		v := x(m)
		if v.k == kErr {
			return triErr
		}
		w := y(m)
		if w.k == kErr {
			return triErr
		}
		return m.compare(v, w, accept, st)
	}
}

// accepted says, for the orders less, equal, greater, what the operator makes of them.
func accepted(op ir.Op) (t [3]tri) {
	switch op {
	case ir.Lt:
		t[0] = triTrue
	case ir.Le:
		t[0], t[1] = triTrue, triTrue
	case ir.Gt:
		t[2] = triTrue
	case ir.Ge:
		t[1], t[2] = triTrue, triTrue
	}
	return t
}

func (m *machine) compare(v, w value, accept [3]tri, st *site) tri {
	if v.k == kNil || w.k == kNil {
		return triNil
	}
	o, ok := m.orderOf(v, w, st)
	if !ok {
		return triErr
	}
	return accept[o+1]
}

// orderOf orders two values that are not nil: numbers, strings or times.
func (m *machine) orderOf(v, w value, st *site) (int, bool) {
	switch {
	case v.isNumber() && w.isNumber():
		a, b := m.numOf(v, st), m.numOf(w, st)
		if a.k == numErr || b.k == numErr {
			return 0, false
		}
		return compareNums(a, b), true
	case v.k == kString && w.k == kString:
		return bytes.Compare(m.text(v), m.text(w)), true
	case v.k == kTime && w.k == kTime:
		if o := order(v.n, w.n); o != 0 {
			return o, true
		}
		return order(int64(v.aux), int64(w.aux)), true
	}
	m.fail(st, ir.CodeType, "There is no order between "+aKind[v.k]+" and "+aKind[w.k]+".")
	return 0, false
}

func (c *compiler) compareNumbers(n *ir.Node) condF {
	a, b, st, accept := c.num(n.Kids[0]), c.num(n.Kids[1]), c.site(n), accepted(n.Op)
	if k, ok := n.Kids[1].Value.(int64); ok && n.Kids[1].Op == ir.Const {
		return func(m *machine) tri {
			x := a(m)
			switch x.k {
			case numInt:
				return accept[order(x.i, k)+1]
			case numFloat:
				return accept[1-compareIntFloat(k, x.f)]
			case numNil:
				return triNil
			case numErr:
				return triErr
			}
			return m.compare(m.other, intValue(k), accept, st)
		}
	}
	return func(m *machine) tri {
		x := a(m)
		if x.k == numErr {
			return triErr
		}
		other := m.other
		y := b(m)
		switch {
		case y.k == numErr:
			return triErr
		case x.k == numNil || y.k == numNil:
			return triNil
		case x.k == numOther || y.k == numOther:
			w := m.valueOf(y)
			m.other = other
			return m.compare(m.valueOf(x), w, accept, st)
		}
		return accept[compareNums(x, y)+1]
	}
}

func (c *compiler) textTest(n *ir.Node, test func(s, part []byte) bool) condF {
	a, b, st := c.val(n.Kids[0]), c.val(n.Kids[1]), c.site(n)
	return func(m *machine) tri {
		v := a(m)
		if v.k == kErr {
			return triErr
		}
		w := b(m)
		switch {
		case w.k == kErr:
			return triErr
		case v.k == kNil || w.k == kNil:
			return triFalse
		case v.k != kString:
			m.wrongType(st, v, "a string")
			return triErr
		case w.k != kString:
			m.wrongType(st, w, "a string")
			return triErr
		}
		m.steps += len(v.s) >> 4
		return triOf(test(m.text(v), m.text(w)))
	}
}

func (c *compiler) matches(n *ir.Node) condF {
	x, re, st := c.val(n.Kids[0]), n.Regexp, c.site(n)
	if re == nil {
		c.refuse("matches without a regular expression")
	}
	return func(m *machine) tri {
		v := x(m)
		switch v.k {
		case kErr:
			return triErr
		case kNil:
			return triFalse
		case kString:
			m.steps += len(v.s)
			return triOf(re.Match(m.text(v)))
		}
		m.wrongType(st, v, "a string")
		return triErr
	}
}
