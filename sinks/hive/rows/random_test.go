package rows

import (
	"encoding/base64"
	stdjson "encoding/json"
	"fmt"
	"math/big"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"keystone/dsl/types"
)

// What follows makes types and events by chance, and says what an event is worth by
// encoding/json and math/big alone: nothing of it shares code with what it tests.

var fieldNames = []string{"a", "id", "user_id", "Kind", "ts", "amount", "tags", "nested", "x1", "payload_with_a_rather_long_name_beyond_forty_eight_bytes"}

func randomType(r *rand.Rand, depth int) types.Type {
	kinds := []types.Kind{types.Bool, types.Int, types.Float, types.String, types.Decimal, types.TimestampMs, types.TimestampRFC3339, types.Date, types.Bytes, types.Any, types.List, types.Map, types.Object}
	if depth == 0 {
		kinds = kinds[:10]
	}
	switch k := kinds[r.IntN(len(kinds))]; k {
	case types.Decimal:
		p := 1 + r.IntN(38)
		t, _ := types.DecimalOf(p, r.IntN(p+1))
		return t
	case types.List:
		return types.ListOf(randomType(r, depth-1))
	case types.Map:
		return types.MapOf(randomType(r, depth-1))
	case types.Object:
		return randomObject(r, depth-1, 1+r.IntN(4))
	default:
		return types.Type{Kind: k}
	}
}

func randomObject(r *rand.Rand, depth, n int) types.Type {
	t := types.Type{Kind: types.Object}
	for _, i := range r.Perm(len(fieldNames))[:n] {
		t.Fields = append(t.Fields, types.Field{Name: fieldNames[i], Type: randomType(r, depth), Optional: r.IntN(3) > 0})
	}
	return t
}

// world makes events. Values repeat as often as its sizes say, so that some columns have dictionaries.
type world struct {
	*rand.Rand
	wrong int // one value in so many does not fit; 0 is none
	few   bool
}

func (w *world) n(max int) int {
	if w.few {
		return w.IntN(min(max, 5))
	}
	return w.IntN(max)
}

func (w *world) space() string { return []string{"", "", "", " ", "\n\t"}[w.IntN(5)] }

func (w *world) text() string {
	s := []string{"", "web", "ios", "a much longer text that is longer than sixteen bytes", `quo"te`, "back\\slash", "ünïcödé", "line\nbreak", "\u2028", "😀"}[w.n(10)]
	if !w.few && w.IntN(2) == 0 {
		s += strconv.Itoa(w.IntN(1e6))
	}
	b, _ := stdjson.Marshal(s)
	if w.IntN(4) == 0 { // escape what need not be
		var out strings.Builder
		out.WriteByte('"')
		for _, c := range s {
			if c < 0x10000 {
				fmt.Fprintf(&out, `\u%04x`, c)
			} else {
				out.WriteRune(c)
			}
		}
		return out.String() + `"`
	}
	return string(b)
}

func (w *world) number(precision, scale int) string {
	var b strings.Builder
	if w.IntN(2) == 0 {
		b.WriteByte('-')
	}
	whole := w.IntN(precision - scale + 1)
	for i := range whole {
		d := w.IntN(10)
		if i == 0 {
			d = 1 + w.IntN(9)
		}
		b.WriteByte(byte('0' + d))
	}
	if whole == 0 {
		b.WriteByte('0')
	}
	if n := w.IntN(scale + 1); n > 0 {
		b.WriteByte('.')
		for range n {
			b.WriteByte(byte('0' + w.IntN(10)))
		}
		b.WriteString(strings.Repeat("0", w.IntN(3)))
	} else if whole > 0 && w.IntN(5) == 0 && whole+3 <= precision-scale {
		b.WriteString([]string{"e3", "E+2", "e0", "e-0"}[w.IntN(4)])
	}
	return b.String()
}

// value writes a value of the type, or one that is not.
func (w *world) value(t types.Type) string {
	if w.wrong > 0 && w.IntN(w.wrong) == 0 {
		return []string{"null", "true", "1.5", "9223372036854775808", "1e400", `"x"`, "[1,2]", `{"a":1}`, "-1", "123456789012345678901234567890123456789.5", "1e30", `"2024-13-01"`, `"!"`, "253402300800000"}[w.IntN(14)]
	}
	switch t.Kind {
	case types.Bool:
		return strconv.FormatBool(w.IntN(2) == 0)
	case types.Int:
		return []string{strconv.Itoa(w.n(1000)), strconv.FormatInt(w.Int64(), 10), "-9223372036854775808", "9223372036854775807", "-0"}[w.n(5)]
	case types.Float:
		return []string{strconv.Itoa(w.n(1000)), strconv.FormatFloat(w.NormFloat64(), 'g', -1, 64), "-0.0", "1e308", "12345678901234567890", "1e-400", "0.1", "5E-324"}[w.n(8)]
	case types.Decimal:
		return w.number(t.Precision, t.Scale)
	case types.TimestampMs:
		return strconv.FormatInt(1.7e12+int64(w.n(1e9))-w.Int64N(2)*3e12, 10)
	case types.TimestampRFC3339:
		layout := []string{time.RFC3339, time.RFC3339Nano, "2006-01-02T15:04:05.000Z07:00"}[w.IntN(3)]
		at := time.Unix(int64(w.n(2e9))-w.Int64N(2)*3e9, int64(w.n(1e9))).In(time.FixedZone("", (w.IntN(27)-13)*3600+w.IntN(2)*1800))
		return `"` + at.Format(layout) + `"`
	case types.Date:
		return `"` + time.Unix(int64(w.n(2e9))-w.Int64N(2)*1e10, 0).UTC().Format(time.DateOnly) + `"`
	case types.String:
		return w.text()
	case types.Bytes:
		b := make([]byte, w.n(20))
		for i := range b {
			b[i] = byte(w.IntN(256))
		}
		return `"` + base64.StdEncoding.EncodeToString(b) + `"`
	case types.List:
		parts := make([]string, w.n(4))
		for i := range parts {
			parts[i] = w.space() + w.value(*t.Elem) + w.space()
			if w.IntN(6) == 0 {
				parts[i] = "null"
			}
		}
		return "[" + strings.Join(parts, ",") + w.space() + "]"
	case types.Map:
		n := w.n(4)
		if w.IntN(20) == 0 {
			n = 30
		}
		parts := make([]string, n)
		for i := range parts {
			parts[i] = w.text() + w.space() + ":" + w.value(*t.Elem)
		}
		return "{" + strings.Join(parts, ",") + "}"
	case types.Object:
		return w.object(t)
	}
	return []string{"1", `"x"`, "null", `{"a":[1,2,{}]}`, "[]", "1e5", "true"}[w.IntN(7)]
}

func (w *world) object(t types.Type) string {
	var parts []string
	for _, i := range w.Perm(len(t.Fields)) {
		f := t.Fields[i]
		key, _ := stdjson.Marshal(f.Name)
		if w.IntN(10) == 0 {
			key = []byte(fmt.Sprintf(`"\u%04x%s"`, f.Name[0], f.Name[1:]))
		}
		if w.IntN(12) == 0 { // a repeated key: what comes first does not count
			parts = append(parts, string(key)+":"+[]string{`{"a":1}`, "1", `"x"`, "null", w.value(f.Type)}[w.IntN(5)])
		}
		switch {
		case f.Optional && w.IntN(4) == 0:
			if w.IntN(2) == 0 {
				parts = append(parts, string(key)+":null")
			}
		default:
			parts = append(parts, w.space()+string(key)+w.space()+":"+w.space()+w.value(f.Type)+w.space())
		}
	}
	if w.IntN(5) == 0 {
		parts = append(parts, `"unknown":{"a":[1,"x",{"id":3}]}`)
	}
	return w.space() + "{" + strings.Join(parts, ",") + w.space() + "}"
}

// worth gives what a decoded value is in the columns, in a form that reflect compares, or false
// where it does not fit.
func worth(t types.Type, v any) (any, bool) {
	if v == nil {
		return nil, true // the caller knows whether it may be
	}
	switch t.Kind {
	case types.Bool:
		b, ok := v.(bool)
		return b, ok
	case types.Int:
		n, ok := v.(stdjson.Number)
		i, err := n.Int64()
		return i, ok && err == nil
	case types.Float:
		n, ok := v.(stdjson.Number)
		f, err := n.Float64()
		return f, ok && err == nil
	case types.Decimal:
		n, ok := v.(stdjson.Number)
		if !ok {
			return nil, false
		}
		d, ok := new(big.Rat).SetString(n.String())
		if !ok {
			return nil, false
		}
		d.Mul(d, new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(t.Scale)), nil)))
		limit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(t.Precision)), nil)
		return d.Num().String(), d.IsInt() && new(big.Int).Abs(d.Num()).Cmp(limit) < 0
	case types.TimestampMs:
		n, ok := v.(stdjson.Number)
		i, err := n.Int64()
		y := time.UnixMilli(i).UTC().Year()
		return i * 1000, ok && err == nil && y >= 1 && y <= 9999
	case types.TimestampRFC3339:
		s, ok := v.(string)
		at, err := time.Parse(time.RFC3339Nano, s)
		return at.UnixMicro(), ok && err == nil
	case types.Date:
		s, ok := v.(string)
		at, err := time.Parse(time.DateOnly, s)
		return at.Unix() / 86400, ok && err == nil
	case types.String:
		s, ok := v.(string)
		return s, ok
	case types.Bytes:
		s, ok := v.(string)
		b, err := base64.StdEncoding.Strict().DecodeString(s)
		return string(b), ok && err == nil
	case types.List:
		l, ok := v.([]any)
		out := make([]any, len(l))
		for i, e := range l {
			x, fits := worth(*t.Elem, e)
			out[i], ok = x, ok && fits
		}
		return out, ok
	case types.Map:
		m, ok := v.(map[string]any)
		out := map[string]any{}
		for k, e := range m {
			x, fits := worth(*t.Elem, e)
			out[k], ok = x, ok && fits
		}
		return out, ok
	case types.Object:
		m, ok := v.(map[string]any)
		out := map[string]any{}
		for _, f := range t.Fields {
			x, fits := worth(f.Type, m[f.Name])
			out[f.Name], ok = x, ok && fits && (x != nil || f.Optional || f.Type.Kind == types.Any)
		}
		return out, ok
	}
	return v, true // any: compared as what its text says
}

// expected gives the row of an event.
func expected(t types.Type, event string) (any, bool) {
	d := stdjson.NewDecoder(strings.NewReader(event))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil || v == nil {
		return nil, false
	}
	return worth(t, v)
}
