package eval

import (
	"errors"
	"math"
	"strconv"

	"keystone/dsl/ir"
	"keystone/pipeline/json"
)

// plainFunction gives the implementation of a function by its name, or nil.
func plainFunction(name string) impl {
	for _, find := range []func(string) impl{valueFunction, textFunction, numberFunction, timeFunction, listFunction} {
		if f := find(name); f != nil {
			return f
		}
	}
	return nil
}

func valueFunction(name string) impl {
	switch name {
	case "type":
		return func(_ *machine, _ *site, a []value) value { return stringValue(kindBytes[a[0].k]) }
	case "int":
		return toInt
	case "float":
		return toFloat
	case "string":
		return func(m *machine, st *site, a []value) value {
			if a[0].k == kString {
				return a[0]
			}
			return m.encoded(a[0], st, (*machine).appendCanonicalText)
		}
	case "json":
		return fromJSON
	case "toJSON":
		return func(m *machine, st *site, a []value) value { return m.encoded(a[0], st, (*machine).appendCanonical) }
	case "get":
		return func(m *machine, st *site, a []value) value {
			switch {
			case a[0].k == kObject && a[1].k == kString, a[0].k == kList && a[1].k == kInt, a[0].k == kString && a[1].k == kInt:
				return m.memberOf(a[0], a[1], st)
			case a[1].k != kString && a[1].k != kInt:
				return m.wrongType(st, a[1], "a string or an int")
			}
			return value{}
		}
	case "keys":
		return func(m *machine, st *site, a []value) value {
			return m.eachMember(a[0], st, func(n, _ value) value { return n })
		}
	case "values":
		return func(m *machine, st *site, a []value) value {
			return m.eachMember(a[0], st, func(_, v value) value { return v })
		}
	case "toPairs":
		return func(m *machine, st *site, a []value) value {
			return m.eachMember(a[0], st, func(n, v value) value { return listValue(append(m.room(2), n, v)) })
		}
	case "fromPairs":
		return fromPairs
	}
	return nil
}

var kindBytes = func() (out [len(kindNames)][]byte) {
	for i, n := range kindNames {
		out[i] = []byte(n)
	}
	return out
}()

func toInt(m *machine, st *site, a []value) value {
	v := a[0]
	switch v.k {
	case kInt:
		return intValue(v.n)
	case kFloat:
		f := v.float()
		if f >= 1<<63 || f < -1<<63 {
			return m.fail(st, ir.CodeRange, "This number is outside of what an int can be: -2^63 to 2^63-1.")
		}
		return intValue(int64(f))
	case kString:
		s := m.text(v)
		n, err := strconv.ParseInt(string(s), 10, 64)
		if err != nil || s[0] == '+' {
			if errors.Is(err, strconv.ErrRange) {
				return m.fail(st, ir.CodeRange, "The text is a number outside of what an int can be: -2^63 to 2^63-1.")
			}
			return m.fail(st, ir.CodeConversion, "The text is not a decimal int.")
		}
		return intValue(n)
	case kTime:
		ms, ok := millis(v)
		if !ok {
			return m.fail(st, ir.CodeRange, "The milliseconds of this time do not fit an int.")
		}
		return intValue(ms)
	}
	return m.wrongType(st, v, "a number, a string or a time")
}

func toFloat(m *machine, st *site, a []value) value {
	n := m.numOf(a[0], st)
	switch n.k {
	case numInt, numFloat:
		return floatValue(n.float())
	case numErr:
		return value{k: kErr}
	}
	if a[0].k != kString {
		return m.wrongType(st, a[0], "a number or a string")
	}
	s := m.text(a[0])
	if json.KindOf(s) != json.Number || json.Check(s) != nil || s[len(s)-1] <= ' ' {
		return m.fail(st, ir.CodeConversion, "The text is not a number as JSON writes them.")
	}
	x, ok := json.NumberOf(s)
	switch {
	case !ok:
		return m.fail(st, ir.CodeRange, "The number is larger than a float can be.")
	case !x.IsFloat:
		return floatValue(float64(x.Int))
	}
	return floatValue(x.Float)
}

// encoded makes text of a value.
func (m *machine) encoded(v value, st *site, write func(*machine, []byte, value, *site) ([]byte, bool)) value {
	// The memory is taken away meanwhile: writing may itself decode text into it.
	buf := m.scratch[:0]
	buf, ok := write(m, buf, v, st)
	m.scratch = buf
	if !ok {
		return value{k: kErr}
	}
	return m.newText(buf, st)
}

// newText copies text into the machine's memory, within the limit.
func (m *machine) newText(s []byte, st *site) value {
	if len(s) > ir.MaxText {
		return m.tooLong(st)
	}
	at := len(m.buf)
	m.buf = append(m.buf, s...)
	return stringValue(m.keep(at))
}

func (m *machine) tooLong(st *site) value {
	return m.fail(st, ir.CodeLimit, "The text is longer than "+strconv.Itoa(ir.MaxText)+" bytes.")
}

func fromJSON(m *machine, st *site, a []value) value {
	if a[0].k != kString {
		return m.wrongType(st, a[0], "a string")
	}
	s := m.text(a[0])
	if err := json.Check(s); err != nil {
		return m.fail(st, ir.CodeConversion, "The text is not JSON: "+err.Error()+".")
	}
	return fromRaw(json.Trim(s))
}

// eachMember gives a list of what f makes of each member.
func (m *machine) eachMember(v value, st *site, f func(name, v value) value) value {
	if v.k != kObject {
		return m.wrongType(st, v, "an object")
	}
	l := m.members(v)
	out := m.room(len(l) / 2)
	for i := 0; i < len(l); i += 2 {
		out = append(out, f(l[i], l[i+1]))
	}
	return listValue(out)
}

func fromPairs(m *machine, st *site, a []value) value {
	if a[0].k != kList {
		return m.wrongType(st, a[0], "a list")
	}
	l := m.elements(a[0])
	out := m.room(2 * len(l))
	for _, e := range l {
		if e.k != kList {
			return m.wrongType(st, e, "a list of a name and a value")
		}
		pair := m.elements(e)
		if len(pair) != 2 {
			return m.fail(st, ir.CodeType, "Each element must be a list of a name and a value.")
		}
		if pair[0].k != kString {
			return m.wrongType(st, pair[0], "a string, as the names of an object are")
		}
		out = append(out, stringValue(m.text(pair[0])), pair[1])
	}
	return value{k: kObject, l: distinct(out)}
}

func numberFunction(name string) impl {
	switch name {
	case "abs":
		return func(m *machine, st *site, a []value) value {
			n := m.numOf(a[0], st)
			if n.k == numInt && n.i < 0 || n.k == numFloat && math.Signbit(n.f) || n.k > numNil {
				n = m.negate(n, st)
			}
			return m.valueOf(n)
		}
	case "ceil":
		return rounded(math.Ceil)
	case "floor":
		return rounded(math.Floor)
	case "round":
		return rounded(math.Round)
	case "max":
		return extreme(1)
	case "min":
		return extreme(-1)
	case "mean":
		return mean
	case "median":
		return median
	case "bitand":
		return bitwise(func(a, b int64) int64 { return a & b })
	case "bitor":
		return bitwise(func(a, b int64) int64 { return a | b })
	case "bitxor":
		return bitwise(func(a, b int64) int64 { return a ^ b })
	case "bitnot":
		return func(m *machine, st *site, a []value) value {
			if a[0].k != kInt {
				return m.wrongType(st, a[0], "an int")
			}
			return intValue(^a[0].n)
		}
	case "bitshl":
		return shifted(func(a int64, n uint) int64 { return a << n })
	case "bitshr":
		return shifted(func(a int64, n uint) int64 { return a >> n })
	}
	return nil
}

func rounded(f func(float64) float64) impl {
	return func(m *machine, st *site, a []value) value {
		n := m.numOf(a[0], st)
		switch n.k {
		case numOther:
			return m.wrongType(st, a[0], "a number")
		case numFloat:
			n.f = f(n.f)
		}
		return m.valueOf(n)
	}
}

func bitwise(f func(a, b int64) int64) impl {
	return func(m *machine, st *site, a []value) value {
		for _, v := range a {
			if v.k != kInt {
				return m.wrongType(st, v, "an int")
			}
		}
		return intValue(f(a[0].n, a[1].n))
	}
}

func shifted(f func(a int64, n uint) int64) impl {
	return bitwiseChecked(func(m *machine, st *site, a, n int64) value {
		if n < 0 || n > 63 {
			return m.fail(st, ir.CodeRange, "Bits move by 0 to 63 places.")
		}
		return intValue(f(a, uint(n)))
	})
}

func bitwiseChecked(f func(m *machine, st *site, a, n int64) value) impl {
	return func(m *machine, st *site, a []value) value {
		for _, v := range a {
			if v.k != kInt {
				return m.wrongType(st, v, "an int")
			}
		}
		return f(m, st, a[0].n, a[1].n)
	}
}

// extreme gives the largest (sign 1) or smallest (-1) of its arguments or of one list.
func extreme(sign int) impl {
	return func(m *machine, st *site, a []value) value {
		l := a
		if len(a) == 1 && a[0].k == kList {
			l = m.elements(a[0])
		}
		best := value{}
		for i, v := range l {
			switch {
			case v.k == kNil:
				return v
			case !v.isNumber() && v.k != kTime:
				return m.wrongType(st, v, "a number or a time")
			case v.k == kFloat && m.numOf(v, st).k == numErr:
				return value{k: kErr}
			case i == 0:
				best = v
				continue
			}
			o, ok := m.orderOf(v, best, st)
			if !ok {
				return value{k: kErr}
			}
			if o == sign {
				best = v
			}
		}
		return best
	}
}

// floats reads a list of numbers; empty tells that the result is nil.
func (m *machine) floats(v value, st *site) (l []float64, ok bool) {
	if v.k != kList {
		m.wrongType(st, v, "a list")
		return nil, false
	}
	m.nums = m.nums[:0]
	for _, e := range m.elements(v) {
		n := m.numOf(e, st)
		switch n.k {
		case numNil:
			return nil, true
		case numOther:
			m.wrongType(st, e, "a number")
			return nil, false
		case numErr:
			return nil, false
		}
		m.nums = append(m.nums, n.float())
	}
	return m.nums, true
}

func mean(m *machine, st *site, a []value) value {
	l, ok := m.floats(a[0], st)
	if !ok {
		return value{k: kErr}
	}
	if len(l) == 0 {
		return value{}
	}
	sum := 0.0
	for _, f := range l {
		sum += f
	}
	return m.valueOf(m.finite(sum/float64(len(l)), st))
}
