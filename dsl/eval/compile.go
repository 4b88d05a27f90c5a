package eval

import (
	"fmt"

	"keystone/dsl/ir"
	"keystone/dsl/types"
	"keystone/pipeline/json"
)

// Each node is compiled into the closure that suits what reads it: a condF
// for a truth value, a numF for a number, a valF for anything. Every node has
// all three; the one that is its own does the work, the others wrap it.
type (
	valF  func(*machine) value
	condF func(*machine) tri
	numF  func(*machine) num
	// outF appends the value as JSON, and tells whether that went well.
	outF func(*machine, []byte) ([]byte, bool)
)

// tri is a truth value of three-valued logic, or an error.
type tri uint8

const (
	triFalse tri = iota
	triTrue
	triNil
	triErr
)

func (t tri) value() value {
	switch t {
	case triNil:
		return value{}
	case triErr:
		return value{k: kErr}
	}
	return value{k: kBool, n: int64(t)}
}

func triOf(b bool) tri {
	if b {
		return triTrue
	}
	return triFalse
}

// compiler compiles the expressions of one stage.
type compiler struct {
	st     *stage
	input  types.Type // of the stage's document
	expr   *ir.Expr
	frames int   // predicates around the node
	err    error // the first node that cannot be compiled: a tree that the checker did not make
}

func (c *compiler) site(n *ir.Node) *site { return &site{expr: c.expr, span: n.Token} }

func (c *compiler) refuse(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf(format, args...)
	}
}

// val compiles a node into its value.
func (c *compiler) val(n *ir.Node) valF {
	switch n.Op {
	case ir.Const:
		v := constant(n.Value)
		if v.k == kErr {
			c.refuse("a constant of type %T", n.Value)
		}
		if n.Type.IsTime() {
			return c.coerced(n, func(*machine) value { return v })
		}
		return func(*machine) value { return v }
	case ir.Event:
		c.path(nil)
		return func(m *machine) value {
			if s := &m.slots[0]; s.Kind != json.Missing {
				return fromSlot(m.doc, s)
			}
			return value{}
		}
	case ir.Field:
		return c.field(n)
	case ir.Meta:
		return c.meta(n)
	case ir.Let:
		slot := n.Slot
		c.st.lets = max(c.st.lets, slot+1)
		bound, body := c.val(n.Kids[0]), c.val(n.Kids[1])
		return func(m *machine) value {
			v := bound(m)
			if v.k == kErr {
				return v
			}
			m.lets[slot] = v
			return body(m)
		}
	case ir.Var:
		slot := n.Slot
		c.st.lets = max(c.st.lets, slot+1)
		return func(m *machine) value { return m.lets[slot] }
	case ir.Elem, ir.ElemIndex, ir.ElemAcc:
		return c.element(n)
	case ir.Member:
		return c.member(n)
	case ir.Slice:
		return c.slice(n)
	case ir.Not, ir.And, ir.Or, ir.Eq, ir.Ne, ir.Lt, ir.Le, ir.Gt, ir.Ge, ir.In, ir.Contains, ir.StartsWith, ir.EndsWith, ir.Matches:
		f := c.cond(n)
		return func(m *machine) value { return f(m).value() }
	case ir.Neg, ir.Add, ir.Sub, ir.Mul, ir.Div, ir.Mod, ir.Pow:
		f := c.num(n)
		return func(m *machine) value { return m.valueOf(f(m)) }
	case ir.Coalesce:
		a, b := c.val(n.Kids[0]), c.val(n.Kids[1])
		return func(m *machine) value {
			if v := a(m); v.k != kNil {
				return v
			}
			return b(m)
		}
	case ir.Cond:
		test, yes, no := c.cond(n.Kids[0]), c.val(n.Kids[1]), c.val(n.Kids[2])
		return func(m *machine) value {
			switch test(m) {
			case triTrue:
				return yes(m)
			case triErr:
				return value{k: kErr}
			}
			return no(m)
		}
	case ir.Call:
		return c.call(n)
	case ir.List:
		return c.list(n)
	case ir.Range:
		return c.ranged(n)
	case ir.Object:
		return c.object(n)
	}
	c.refuse("operation %d is unknown", n.Op)
	return func(*machine) value { return value{} }
}

func (c *compiler) vals(nodes []*ir.Node) []valF {
	fs := make([]valF, len(nodes))
	for i, n := range nodes {
		fs[i] = c.val(n)
	}
	return fs
}

func (c *compiler) element(n *ir.Node) valF {
	at := c.frames - 1 - n.Depth
	if at < 0 {
		c.refuse("an element outside of a predicate")
		at = 0
	}
	switch n.Op {
	case ir.ElemIndex:
		return func(m *machine) value { return intValue(m.frames[at].index) }
	case ir.ElemAcc:
		return func(m *machine) value { return m.frames[at].acc }
	}
	return c.coerced(n, func(m *machine) value { return m.frames[at].elem })
}

func (c *compiler) list(n *ir.Node) valF {
	fs := c.vals(n.Kids)
	return func(m *machine) value {
		l := m.room(len(fs))
		for _, f := range fs {
			v := f(m)
			if v.k == kErr {
				return v
			}
			l = append(l, v)
		}
		return listValue(l)
	}
}

func (c *compiler) object(n *ir.Node) valF {
	fs := c.vals(n.Kids)
	names := make([]value, len(n.Names))
	for i, name := range n.Names {
		names[i] = stringValue([]byte(name))
	}
	return func(m *machine) value {
		l := m.room(2 * len(fs))
		for i, f := range fs {
			v := f(m)
			if v.k == kErr {
				return v
			}
			l = append(l, names[i], v)
		}
		return value{k: kObject, l: distinct(l)}
	}
}
