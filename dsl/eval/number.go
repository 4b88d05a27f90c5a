package eval

import (
	"math"
	"math/bits"
	"strconv"

	"keystone/dsl/ir"
	"keystone/dsl/types"
	"keystone/pipeline/json"
)

// num is what a numF gives. With numOther, the value is in the machine's
// other: whoever wants to keep it takes it before the next call.
type num struct {
	k numKind
	i int64
	f float64
}

type numKind uint8

const (
	numInt numKind = iota
	numFloat
	numNil
	numErr
	numOther
)

func (m *machine) valueOf(n num) value {
	switch n.k {
	case numInt:
		return intValue(n.i)
	case numFloat:
		return floatValue(n.f)
	case numNil:
		return value{}
	case numErr:
		return value{k: kErr}
	}
	return m.other
}

func (m *machine) numOf(v value, st *site) num {
	switch v.k {
	case kInt:
		return num{k: numInt, i: v.n}
	case kFloat:
		f := v.float()
		if math.IsInf(f, 0) {
			m.fail(st, ir.CodeRange, "This number is larger than a float can be.")
			return num{k: numErr}
		}
		return num{k: numFloat, f: f}
	case kNil:
		return num{k: numNil}
	case kErr:
		return num{k: numErr}
	}
	m.other = v
	return num{k: numOther}
}

func (n num) float() float64 {
	if n.k == numInt {
		return float64(n.i)
	}
	return n.f
}

// num compiles a node for whoever wants a number.
func (c *compiler) num(n *ir.Node) numF {
	switch n.Op {
	case ir.Const:
		switch x := n.Value.(type) {
		case int64:
			return func(*machine) num { return num{k: numInt, i: x} }
		case float64:
			return func(*machine) num { return num{k: numFloat, f: x} }
		}
	case ir.Field:
		if f := c.numField(n); f != nil {
			return f
		}
	case ir.Neg, ir.Add, ir.Sub, ir.Mul, ir.Div, ir.Mod, ir.Pow:
		return c.arithmetic(n)
	}
	f, st := c.val(n), c.site(n)
	return func(m *machine) num { return m.numOf(f(m), st) }
}

// numField reads a field as a number straight from its slot.
func (c *compiler) numField(n *ir.Node) numF {
	k := n.Type.Kind
	if k != types.Any && k != types.Int && k != types.Float {
		return nil
	}
	id, rest := c.path(n.Path)
	if rest != nil {
		return nil
	}
	slow, st := c.val(n), c.site(n)
	return func(m *machine) num {
		s := &m.slots[id]
		if s.Kind == json.Number && !s.Marked && k != types.Float && s.End-s.Start < 18 {
			return num{k: numInt, i: smallInt(m.doc[s.Start:s.End])}
		}
		return m.numOf(slow(m), st)
	}
}

// smallInt reads at most 18 digits with an optional sign.
func smallInt(raw []byte) (v int64) {
	if raw[0] == '-' {
		for _, c := range raw[1:] {
			v = v*10 - int64(c-'0')
		}
		return v
	}
	for _, c := range raw {
		v = v*10 + int64(c-'0')
	}
	return v
}

func (c *compiler) arithmetic(n *ir.Node) numF {
	st := c.site(n)
	if n.Op == ir.Neg {
		x := c.num(n.Kids[0])
		return func(m *machine) num { return m.negate(x(m), st) }
	}
	a, b := c.num(n.Kids[0]), c.num(n.Kids[1])
	var op func(*machine, num, num, *site) num
	switch n.Op {
	case ir.Add:
		op = (*machine).add
	case ir.Sub:
		op = (*machine).sub
	case ir.Mul:
		op = (*machine).mul
	case ir.Div:
		op = (*machine).div
	case ir.Mod:
		op = (*machine).mod
	case ir.Pow:
		op = (*machine).pow
	}
	code := n.Op
	return func(m *machine) num {
		x := a(m)
		if x.k > numNil { // an error, or not a number
			if x.k == numErr {
				return x
			}
			return m.oddLeft(code, m.other, b, st)
		}
		y := b(m)
		if y.k > numNil {
			if y.k == numErr {
				return y
			}
			return m.odd(code, m.valueOf(x), m.other, st)
		}
		if x.k == numNil || y.k == numNil {
			return num{k: numNil}
		}
		return op(m, x, y, st)
	}
}

func (m *machine) oddLeft(op ir.Op, x value, b numF, st *site) num {
	y := b(m)
	if y.k == numErr {
		return y
	}
	return m.odd(op, x, m.valueOf(y), st)
}

// odd is arithmetic on values that are not both numbers: text and times.
func (m *machine) odd(op ir.Op, a, b value, st *site) num {
	switch {
	case a.k == kNil || b.k == kNil:
		return num{k: numNil}
	case op == ir.Add && a.k == kString && b.k == kString:
		x, y := m.text(a), m.text(b)
		if len(x)+len(y) > ir.MaxText {
			m.fail(st, ir.CodeLimit, "The joined text is longer than "+strconv.Itoa(ir.MaxText)+" bytes.")
			return num{k: numErr}
		}
		at := len(m.buf)
		if m.buf = append(append(m.buf, x...), y...); len(m.buf) > maxText && !m.affordable(st) {
			return num{k: numErr}
		}
		m.other = stringValue(m.keep(at))
		return num{k: numOther}
	case op == ir.Sub && a.k == kTime && b.k == kTime:
		return m.between(a, b, st)
	case (op == ir.Add || op == ir.Sub) && a.k == kTime && b.k == kInt:
		return m.moved(op, a, b.n, st)
	case op == ir.Add && a.k == kInt && b.k == kTime:
		return m.moved(op, b, a.n, st)
	}
	names := map[ir.Op]string{ir.Add: "+", ir.Sub: "-", ir.Mul: "*", ir.Div: "/", ir.Mod: "%", ir.Pow: "**"}
	m.fail(st, ir.CodeType, "The operands of "+names[op]+" are "+aKind[a.k]+" and "+aKind[b.k]+".")
	return num{k: numErr}
}

// between gives a - b in milliseconds, truncated toward zero.
func (m *machine) between(a, b value, st *site) num {
	sec, ok := subInt(a.n, b.n)
	ns := int64(a.aux) - int64(b.aux)
	if ok {
		if sec > 0 && ns < 0 {
			sec, ns = sec-1, ns+1e9
		} else if sec < 0 && ns > 0 {
			sec, ns = sec+1, ns-1e9
		}
		if hi, ok := mulInt(sec, 1000); ok {
			if ms, ok := addInt(hi, ns/1e6); ok {
				return num{k: numInt, i: ms}
			}
		}
	}
	return m.overflow(st)
}

// moved gives a time that is ms milliseconds later, or earlier for Sub.
func (m *machine) moved(op ir.Op, t value, ms int64, st *site) num {
	sec, rest := floorDiv(ms, 1000)
	ns := int64(t.aux)
	var ok bool
	if op == ir.Add {
		sec, ok = addInt(t.n, sec)
		ns += rest * 1e6
	} else {
		sec, ok = subInt(t.n, sec)
		ns -= rest * 1e6
	}
	if ns >= 1e9 {
		sec, ns = sec+1, ns-1e9
	} else if ns < 0 {
		sec, ns = sec-1, ns+1e9
	}
	if !ok {
		return m.overflow(st)
	}
	return m.numOf(m.dated(sec, int32(ns), st), st)
}

func (m *machine) overflow(st *site) num {
	m.fail(st, ir.CodeOverflow, "The result does not fit: ints go from -2^63 to 2^63-1, floats up to 1.8e308.")
	return num{k: numErr}
}

func (m *machine) finite(f float64, st *site) num {
	if math.IsInf(f, 0) || math.IsNaN(f) {
		return m.overflow(st)
	}
	return num{k: numFloat, f: f}
}

func (m *machine) negate(x num, st *site) num {
	switch x.k {
	case numInt:
		if x.i == math.MinInt64 {
			return m.overflow(st)
		}
		x.i = -x.i
	case numFloat:
		x.f = -x.f
	case numOther:
		m.wrongType(st, m.other, "a number")
		x.k = numErr
	}
	return x
}

func addInt(a, b int64) (int64, bool) {
	s := a + b
	return s, (s > a) == (b > 0)
}

func subInt(a, b int64) (int64, bool) {
	d := a - b
	return d, (d < a) == (b > 0)
}

func mulInt(a, b int64) (int64, bool) {
	neg := (a < 0) != (b < 0)
	hi, lo := bits.Mul64(magnitude(a), magnitude(b))
	if hi != 0 || lo > 1<<63 || lo == 1<<63 && !neg {
		return 0, false
	}
	if neg {
		return -int64(lo), true
	}
	return int64(lo), true
}

func magnitude(a int64) uint64 {
	if a < 0 {
		return -uint64(a)
	}
	return uint64(a)
}

func (m *machine) add(a, b num, st *site) num {
	if a.k == numInt && b.k == numInt {
		if s, ok := addInt(a.i, b.i); ok {
			return num{k: numInt, i: s}
		}
		return m.overflow(st)
	}
	return m.finite(a.float()+b.float(), st)
}

func (m *machine) sub(a, b num, st *site) num {
	if a.k == numInt && b.k == numInt {
		if d, ok := subInt(a.i, b.i); ok {
			return num{k: numInt, i: d}
		}
		return m.overflow(st)
	}
	return m.finite(a.float()-b.float(), st)
}

func (m *machine) mul(a, b num, st *site) num {
	if a.k == numInt && b.k == numInt {
		if p, ok := mulInt(a.i, b.i); ok {
			return num{k: numInt, i: p}
		}
		return m.overflow(st)
	}
	return m.finite(a.float()*b.float(), st)
}

func (m *machine) div(a, b num, st *site) num {
	d := b.float()
	if d == 0 {
		m.fail(st, ir.CodeDivisionByZero, "Division by zero.")
		return num{k: numErr}
	}
	return m.finite(a.float()/d, st)
}

func (m *machine) mod(a, b num, st *site) num {
	if a.k != numInt || b.k != numInt {
		v := m.valueOf(a)
		if a.k == numInt {
			v = m.valueOf(b)
		}
		m.wrongType(st, v, "an int")
		return num{k: numErr}
	}
	switch b.i {
	case 0:
		m.fail(st, ir.CodeDivisionByZero, "The remainder of a division by zero.")
		return num{k: numErr}
	case -1: // the quotient of the smallest int would overflow
		return num{k: numInt}
	}
	return num{k: numInt, i: a.i % b.i}
}

func (m *machine) pow(a, b num, st *site) num {
	x, y := a.float(), b.float()
	if x == 0 && y < 0 {
		m.fail(st, ir.CodeDivisionByZero, "Zero to a negative power is a division by zero.")
		return num{k: numErr}
	}
	f := math.Pow(x, y)
	if math.IsNaN(f) {
		m.fail(st, ir.CodeRange, "A negative number to a power that is not whole has no value.")
		return num{k: numErr}
	}
	return m.finite(f, st)
}

// compareNums orders numbers exactly by value.
func compareNums(a, b num) int {
	switch {
	case a.k == numInt && b.k == numInt:
		return order(a.i, b.i)
	case a.k == numFloat && b.k == numFloat:
		return order(a.f, b.f)
	case a.k == numInt:
		return compareIntFloat(a.i, b.f)
	}
	return -compareIntFloat(b.i, a.f)
}

func order[T int64 | float64](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func compareIntFloat(i int64, f float64) int {
	switch {
	case f >= 1<<63:
		return -1
	case f < -1<<63:
		return 1
	}
	whole := int64(f) // toward zero, exact
	if c := order(i, whole); c != 0 {
		return c
	}
	return order(0, f-float64(whole))
}

func appendInt(dst []byte, n int64) []byte { return strconv.AppendInt(dst, n, 10) }
