package eval

import (
	"math"
	"slices"

	"keystone/dsl/ir"
)

func listFunction(name string) impl {
	f := listOnly(name)
	if f == nil {
		return nil
	}
	return func(m *machine, st *site, a []value) value {
		if a[0].k != kList {
			return m.wrongType(st, a[0], "a list")
		}
		return f(m, st, a, m.elements(a[0]))
	}
}

// listOnly gives functions whose first argument is a list; l has its elements.
func listOnly(name string) func(m *machine, st *site, a, l []value) value {
	switch name {
	case "first":
		return func(_ *machine, _ *site, _, l []value) value {
			if len(l) == 0 {
				return value{}
			}
			return l[0]
		}
	case "last":
		return func(_ *machine, _ *site, _, l []value) value {
			if len(l) == 0 {
				return value{}
			}
			return l[len(l)-1]
		}
	case "take":
		return func(m *machine, st *site, a, l []value) value {
			switch {
			case a[1].k != kInt:
				return m.wrongType(st, a[1], "an int")
			case a[1].n < 0:
				return m.fail(st, ir.CodeRange, "The number of elements must not be negative.")
			}
			n := min(a[1].n, int64(len(l)))
			return listValue(l[:n:n])
		}
	case "reverse":
		return func(m *machine, _ *site, _, l []value) value {
			out := m.room(len(l))
			for i := len(l) - 1; i >= 0; i-- {
				out = append(out, l[i])
			}
			return listValue(out)
		}
	case "uniq":
		return uniq
	case "concat":
		return concat
	case "flatten":
		return func(m *machine, _ *site, _, l []value) value {
			out := m.room(m.countFlat(l))
			return listValue(m.flatten(out, l))
		}
	case "sort":
		return func(m *machine, st *site, a, l []value) value {
			return m.sorted(l, l, len(a) > 1 && string(a[1].s) == "desc", st)
		}
	case "join":
		return join
	}
	return nil
}

// identity is what values other than lists and objects are equal by.
type identity struct {
	k kind
	n int64
	x int32
	s string
}

// identityOf gives the identity of a value, if it has one.
func (m *machine) identityOf(v value) (identity, bool) {
	switch v.k {
	case kNil, kBool, kInt:
		return identity{k: v.k, n: v.n}, true
	case kTime:
		return identity{k: v.k, n: v.n, x: v.aux}, true
	case kFloat:
		f := v.float()
		if f == math.Trunc(f) && f >= -1<<63 && f < 1<<63 {
			return identity{k: kInt, n: int64(f)}, true
		}
		return identity{k: kFloat, n: v.n}, true
	case kString, kBytes:
		return identity{k: v.k, s: string(m.text(v))}, true
	}
	return identity{}, false
}

const fewDistinct = 32 // lists up to so long are compared pair by pair

func uniq(m *machine, st *site, _, l []value) value {
	out := m.room(len(l))
	var seen map[identity]struct{}
	if len(l) > fewDistinct {
		seen = make(map[identity]struct{}, len(l))
	}
next:
	for _, v := range l {
		if v.isNumber() && m.numOf(v, st).k == numErr {
			return value{k: kErr}
		}
		if seen != nil {
			if id, ok := m.identityOf(v); ok {
				if _, twice := seen[id]; !twice {
					seen[id] = struct{}{}
					out = append(out, v)
				}
				continue
			}
		}
		if m.steps += len(out); !m.affordable(st) {
			return value{k: kErr}
		}
		for _, o := range out {
			switch m.equal(o, v, st) {
			case triTrue:
				continue next
			case triErr:
				return value{k: kErr}
			}
		}
		out = append(out, v)
	}
	return listValue(out)
}

func concat(m *machine, st *site, a, _ []value) value {
	n := 0
	for i := range a {
		if a[i].k != kList {
			return m.wrongType(st, a[i], "a list")
		}
		a[i] = listValue(m.elements(a[i]))
		n += len(a[i].l)
	}
	out := m.room(n)
	for i := range a {
		out = append(out, a[i].l...)
	}
	return listValue(out)
}

func (m *machine) countFlat(l []value) (n int) {
	for i := range l {
		if l[i].k == kList {
			if l[i].s != nil { // never in a constant, which others read
				l[i] = listValue(m.elements(l[i]))
			}
			n += m.countFlat(l[i].l)
		} else {
			n++
		}
	}
	return n
}

func (m *machine) flatten(out, l []value) []value {
	for i := range l {
		if l[i].k == kList {
			out = m.flatten(out, l[i].l)
		} else {
			out = append(out, l[i])
		}
	}
	return out
}

func join(m *machine, st *site, a, l []value) value {
	var sep []byte
	if len(a) > 1 {
		if a[1].k != kString {
			return m.wrongType(st, a[1], "a string")
		}
		sep = m.text(a[1])
	}
	out := m.scratch[:0]
	for i, v := range l {
		if v.k != kString {
			return m.wrongType(st, v, "a string")
		}
		if i > 0 {
			out = append(out, sep...)
		}
		out = append(out, m.text(v)...)
		if len(out) > ir.MaxText {
			return m.tooLong(st)
		}
	}
	m.scratch = out
	return m.newText(out, st)
}

func median(m *machine, st *site, a []value) value {
	l, ok := m.floats(a[0], st)
	if !ok {
		return value{k: kErr}
	}
	if len(l) == 0 {
		return value{}
	}
	slices.Sort(l)
	mid := l[len(l)/2]
	if len(l)%2 == 0 {
		return m.valueOf(m.finite((l[len(l)/2-1]+mid)/2, st))
	}
	return floatValue(mid)
}
