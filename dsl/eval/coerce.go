package eval

import (
	"encoding/base64"
	"math"
	"time"

	"keystone/dsl/ir"
	"keystone/dsl/types"
)

// coerced wraps a read whose node has a declared type: the value must be of
// it (ir/values.go).
func (c *compiler) coerced(n *ir.Node, f valF) valF {
	if n.Type.Kind == types.Any || n.Type.Kind == types.Nil {
		return f
	}
	t, st := n.Type, c.site(n)
	return func(m *machine) value { return m.coerce(f(m), t, st) }
}

// coerce reads a value as one of a declared type. Nil always passes.
func (m *machine) coerce(v value, t types.Type, st *site) value {
	if v.k == kNil || v.k == kErr {
		return v
	}
	ok := true
	switch t.Kind {
	case types.Bool:
		ok = v.k == kBool
	case types.Int:
		ok = v.k == kInt
	case types.Float, types.Decimal:
		if v.k == kInt {
			s := v.s
			v = floatValue(float64(v.n))
			v.s = s
		}
		ok = v.k == kFloat
	case types.String:
		ok = v.k == kString
	case types.TimestampMs:
		if v.k == kInt && v.s != nil {
			sec, ms := floorDiv(v.n, 1000)
			return m.dated(sec, int32(ms)*1e6, st)
		}
		ok = v.k == kTime
	case types.TimestampRFC3339, types.Date:
		if v.k == kString {
			layout := time.RFC3339Nano
			if t.Kind == types.Date {
				layout = time.DateOnly
			}
			u, good := parseTime(layout, m.text(v))
			if good {
				return m.dated(u.n, u.aux, st)
			}
			return m.fail(st, ir.CodeType, "This must be "+t.String()+", and the text is not one.")
		}
		ok = v.k == kTime
	case types.Bytes:
		if v.k == kString {
			s := m.text(v)
			at := len(m.buf)
			var err error
			m.buf, err = base64.StdEncoding.Strict().AppendDecode(m.buf, s)
			if err != nil {
				m.buf = m.buf[:at]
				return m.fail(st, ir.CodeType, "This must be bytes, written as base64, and the text is not that.")
			}
			return value{k: kBytes, s: m.keep(at)}
		}
		ok = v.k == kBytes
	case types.List:
		ok = v.k == kList
	case types.Map, types.Object:
		ok = v.k == kObject
	}
	if !ok {
		return m.fail(st, ir.CodeType, "This must be "+kindName(t)+", and it is "+m.show(v)+".")
	}
	return v
}

func kindName(t types.Type) string {
	switch t.Kind {
	case types.List:
		return "a list"
	case types.Map, types.Object:
		return "an object"
	}
	return t.String()
}

// floorDiv divides rounding down, so that the remainder is not negative.
func floorDiv(a, b int64) (q, r int64) {
	q, r = a/b, a%b
	if r < 0 {
		q, r = q-1, r+b
	}
	return q, r
}

// parseTime reads text in a Go layout; RFC 3339 and dates without the time package.
func parseTime(layout string, s []byte) (value, bool) {
	switch layout {
	case time.RFC3339, time.RFC3339Nano:
		if v, ok := parseRFC3339(s); ok {
			return v, true
		}
	case time.DateOnly:
		if sec, ok := parseDate(s); ok && len(s) == 10 {
			return value{k: kTime, n: sec}, true
		}
	}
	t, err := time.Parse(layout, string(s))
	if err != nil {
		return value{}, false
	}
	return timeValue(t), true
}

func timeValue(t time.Time) value {
	return value{k: kTime, n: t.Unix(), aux: int32(t.Nanosecond())}
}

func (v value) time() time.Time { return time.Unix(v.n, int64(v.aux)).UTC() }

// parseRFC3339 reads the usual form, YYYY-MM-DDTHH:MM:SS[.fff](Z|±HH:MM).
func parseRFC3339(s []byte) (value, bool) {
	sec, ok := parseDate(s)
	if !ok || len(s) < 20 || s[10] != 'T' || s[13] != ':' || s[16] != ':' {
		return value{}, false
	}
	h, m, x := two(s[11:]), two(s[14:]), two(s[17:])
	if h < 0 || h > 23 || m < 0 || m > 59 || x < 0 || x > 59 {
		return value{}, false
	}
	sec += int64(h*3600 + m*60 + x)
	i, nanos := 19, 0
	if s[i] == '.' {
		scale := int(1e8)
		first := i + 1
		for i = first; i < len(s) && s[i]-'0' <= 9; i++ {
			nanos += int(s[i]-'0') * scale
			scale /= 10
		}
		if i == first || i-first > 9 || i == len(s) {
			return value{}, false
		}
	}
	switch s[i] {
	case 'Z':
		if i+1 != len(s) {
			return value{}, false
		}
	case '+', '-':
		if i+6 != len(s) || s[i+3] != ':' {
			return value{}, false
		}
		oh, om := two(s[i+1:]), two(s[i+4:])
		if oh < 0 || oh > 23 || om < 0 || om > 59 {
			return value{}, false
		}
		if off := int64(oh*3600 + om*60); s[i] == '+' {
			sec -= off
		} else {
			sec += off
		}
	default:
		return value{}, false
	}
	return value{k: kTime, n: sec, aux: int32(nanos)}, true
}

// two reads two digits, -1 if they are not.
func two(s []byte) int {
	if s[0]-'0' > 9 || s[1]-'0' > 9 {
		return -1
	}
	return int(s[0]-'0')*10 + int(s[1]-'0')
}

var daysBefore = [...]int{0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365}

// parseDate reads YYYY-MM-DD at the beginning of s, as seconds since 1970.
func parseDate(s []byte) (int64, bool) {
	if len(s) < 10 || s[4] != '-' || s[7] != '-' {
		return 0, false
	}
	y1, y2, m, d := two(s), two(s[2:]), two(s[5:]), two(s[8:])
	if y1 < 0 || y2 < 0 || m < 1 || m > 12 || d < 1 {
		return 0, false
	}
	y := y1*100 + y2
	leap := y%4 == 0 && (y%100 != 0 || y%400 == 0)
	last := daysBefore[m] - daysBefore[m-1]
	if m == 2 && leap {
		last++
	}
	if d > last {
		return 0, false
	}
	days := y*365 + (y+3)/4 - (y+99)/100 + (y+399)/400 + daysBefore[m-1] + d - 1
	if leap && m > 2 {
		days++
	}
	return int64(days-719528) * 86400, true
}

// appendTime appends a time in the form of a type, without quotes. It tells
// whether the form can hold it.
func appendTime(dst []byte, v value, k types.Kind) ([]byte, bool) {
	switch k {
	case types.TimestampMs:
		ms, ok := millis(v)
		return appendInt(dst, ms), ok
	case types.Date:
		t := v.time()
		return t.AppendFormat(dst, time.DateOnly), t.Year() >= 0 && t.Year() <= 9999
	}
	t := v.time()
	return t.AppendFormat(dst, time.RFC3339Nano), t.Year() >= 0 && t.Year() <= 9999
}

// millis gives a time as milliseconds since 1970 UTC, rounded down.
func millis(v value) (int64, bool) {
	if v.n > math.MaxInt64/1000-1 || v.n < math.MinInt64/1000 {
		return 0, false
	}
	return v.n*1000 + int64(v.aux)/1e6, true
}
