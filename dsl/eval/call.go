package eval

import (
	"strconv"

	"keystone/dsl/ir"
	"keystone/dsl/types"
)

// impl is the implementation of a function. The arguments are of the kinds
// that the function checks itself; they are not nil unless nil is a value for it.
type impl func(m *machine, st *site, args []value) value

// call compiles a function call.
func (c *compiler) call(n *ir.Node) valF {
	if n.Func == nil {
		c.refuse("a call without a function")
		return func(*machine) value { return value{} }
	}
	if n.Func.Predicate >= 0 {
		return c.overElements(n)
	}
	switch n.Func.Name {
	case "coalesce":
		fs := c.vals(n.Kids)
		return func(m *machine) value {
			for _, f := range fs {
				if v := f(m); v.k != kNil {
					return v
				}
			}
			return value{}
		}
	case "now":
		return func(m *machine) value { return timeValue(m.now()) }
	}
	run := c.bound(n)
	if run == nil {
		run = plainFunction(n.Func.Name)
	}
	if run == nil {
		c.refuse("the function %q has no implementation", n.Func.Name)
		return func(*machine) value { return value{} }
	}
	st := c.site(n)
	args := make([]valF, len(n.Kids))
	for i, k := range n.Kids {
		args[i] = c.argument(k)
	}
	nilGivesNil := n.Func.Nil == ir.NilGivesNil
	f := func(m *machine) value {
		base := len(m.args)
		sawNil := false
		for _, f := range args {
			v := f(m)
			if v.k == kErr {
				m.args = m.args[:base]
				return v
			}
			sawNil = sawNil || v.k == kNil
			m.steps += len(v.s) >> 4
			m.args = append(m.args, v)
		}
		v := value{}
		if !sawNil || !nilGivesNil {
			if v = run(m, st, m.args[base:]); len(m.buf) > maxText && !m.affordable(st) {
				v = value{k: kErr}
			}
		}
		m.args = m.args[:base]
		return v
	}
	return folded(n, f)
}

// folded evaluates a call of which everything is constant now. An error is
// left for the records that meet it.
func folded(n *ir.Node, f valF) valF {
	for _, k := range n.Kids {
		if k.Op != ir.Const {
			return f
		}
	}
	v := f(&machine{})
	if v.k == kErr {
		return f
	}
	return func(*machine) value { return v }
}

// argument compiles an argument. A list of a declared type whose elements are
// read otherwise than as they stand in the document (times, bytes) is read here.
func (c *compiler) argument(n *ir.Node) valF {
	f := c.val(n)
	if n.Type.Kind != types.List || n.Type.Elem == nil {
		return f
	}
	t := *n.Type.Elem
	if !t.IsTime() && t.Kind != types.Bytes {
		return f
	}
	st := c.site(n)
	return func(m *machine) value {
		v := f(m)
		if v.k != kList || v.s == nil {
			return v
		}
		l := m.elements(v)
		for i := range l {
			if l[i] = m.coerce(l[i], t, st); l[i].k == kErr {
				return l[i]
			}
		}
		return listValue(l)
	}
}

// ranged compiles from..to.
func (c *compiler) ranged(n *ir.Node) valF {
	a, b, st := c.val(n.Kids[0]), c.val(n.Kids[1]), c.site(n)
	return func(m *machine) value {
		x := a(m)
		if x.k == kErr {
			return x
		}
		y := b(m)
		switch {
		case y.k == kErr:
			return y
		case x.k == kNil || y.k == kNil:
			return value{}
		case x.k != kInt:
			return m.wrongType(st, x, "an int")
		case y.k != kInt:
			return m.wrongType(st, y, "an int")
		case x.n > y.n:
			return listValue(nil)
		case uint64(y.n)-uint64(x.n) >= ir.MaxElements:
			return m.fail(st, ir.CodeLimit, "The range has more than "+strconv.Itoa(ir.MaxElements)+" elements.")
		}
		l := m.room(int(y.n - x.n + 1))
		for i := x.n; ; i++ {
			l = append(l, intValue(i))
			if i == y.n {
				return listValue(l)
			}
		}
	}
}
