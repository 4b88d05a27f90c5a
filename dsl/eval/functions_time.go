package eval

import (
	"math"
	"math/big"
	"math/bits"
	"time"

	"keystone/dsl/ir"
)

func timeFunction(name string) impl {
	if name != "duration" {
		return nil
	}
	return func(m *machine, st *site, a []value) value {
		if a[0].k != kString {
			return m.wrongType(st, a[0], "a string")
		}
		d, err := ir.ParseDuration(borrow(m.text(a[0])))
		if err != nil {
			return m.fail(st, ir.CodeConversion, "The text is not a length of time such as 90s, 1h30m or 7d.")
		}
		return intValue(d.Milliseconds())
	}
}

// The seconds since 1970 of the years 0 to 9999: others are no times here.
const (
	firstSecond = -62167219200
	lastSecond  = 253402300799
)

// dated gives a time, or an error if it lies outside of the years 0 to 9999.
func (m *machine) dated(sec int64, ns int32, st *site) value {
	if sec < firstSecond || sec > lastSecond {
		return m.fail(st, ir.CodeRange, "The time lies outside of the years 0 to 9999.")
	}
	return value{k: kTime, n: sec, aux: ns}
}

// parseTimeWith gives parse_time with its layout, "" if there is none.
func parseTimeWith(layout string) impl {
	unit, numeric := int64(1000), true
	switch layout {
	case "", "unix_ms":
	case "unix":
		unit = 1
	case "unix_us":
		unit = 1e6
	case "unix_ns":
		unit = 1e9
	default:
		numeric = false
	}
	text := layout
	if layout == "" {
		text = time.RFC3339Nano
	}
	return func(m *machine, st *site, a []value) value {
		v := a[0]
		switch {
		case v.k == kTime:
			return v
		case v.isNumber() && !numeric:
			return m.fail(st, ir.CodeType, "This layout reads text, and the value is "+aKind[v.k]+".")
		case v.k == kInt:
			sec, rest := floorDiv(v.n, unit)
			return m.dated(sec, int32(rest*(1e9/unit)), st)
		case v.k == kFloat:
			return m.timeOfFloat(v.float(), unit, st)
		case v.k != kString:
			return m.wrongType(st, v, "a string, a number or a time")
		case numeric && layout != "":
			return m.fail(st, ir.CodeType, "This layout reads numbers, and the value is a string.")
		}
		t, ok := parseTime(text, m.text(v))
		if !ok {
			return m.fail(st, ir.CodeConversion, "The text is not a time in the layout "+text+".")
		}
		return m.dated(t.n, t.aux, st)
	}
}

// timeOfFloat reads a float as a count of units since 1970, exactly, and rounds down.
func (m *machine) timeOfFloat(f float64, unit int64, st *site) value {
	if math.IsInf(f, 0) || math.Abs(f)/float64(unit) > 1<<40 {
		return m.dated(math.MaxInt64, 0, st)
	}
	if f == math.Trunc(f) && math.Abs(f) < 1<<62 {
		sec, rest := floorDiv(int64(f), unit)
		return m.dated(sec, int32(rest*(1e9/unit)), st)
	}
	// f is whole·2^(exp-53): nanoseconds are whole·(1e9/unit), shifted.
	fraction, exp := math.Frexp(math.Abs(f))
	hi, lo := bits.Mul64(uint64(fraction*(1<<53)), uint64(1e9/unit))
	hi, lo, rest := shiftRight(hi, lo, 53-exp)
	sec, ns := bits.Div64(hi, lo, 1e9)
	if f >= 0 {
		return m.dated(int64(sec), int32(ns), st)
	}
	if rest {
		ns++
	}
	if ns > 0 {
		sec++
		ns = 1e9 - ns
	}
	return m.dated(-int64(sec), int32(ns), st)
}

// shiftRight shifts 128 bits, to the left below 0, and tells whether ones were lost.
func shiftRight(hi, lo uint64, n int) (h, l uint64, lost bool) {
	switch {
	case n < 0:
		return hi<<-n | lo>>(64+n), lo << -n, false
	case n >= 128:
		return 0, 0, hi|lo != 0
	case n >= 64:
		return 0, hi >> (n - 64), lo != 0 || hi<<(128-n) != 0
	}
	return hi >> n, lo>>n | hi<<(64-n), lo<<(64-n) != 0
}

// truncation gives truncate_time with its unit.
func truncation(unit string) (impl, error) {
	begin := func(y int, mo time.Month, d int) int64 { return time.Date(y, mo, d, 0, 0, 0, 0, time.UTC).Unix() }
	var calendar func(t time.Time) int64
	var length time.Duration
	switch unit {
	case "second":
		length = time.Second
	case "minute":
		length = time.Minute
	case "hour":
		length = time.Hour
	case "day":
		length = 24 * time.Hour
	case "week":
		calendar = func(t time.Time) int64 {
			y, mo, d := t.Date()
			return begin(y, mo, d-(int(t.Weekday())+6)%7)
		}
	case "month":
		calendar = func(t time.Time) int64 { return begin(t.Year(), t.Month(), 1) }
	case "quarter":
		calendar = func(t time.Time) int64 { return begin(t.Year(), t.Month()-(t.Month()-1)%3, 1) }
	case "year":
		calendar = func(t time.Time) int64 { return begin(t.Year(), 1, 1) }
	default:
		var err error
		if length, err = ir.ParseDuration(unit); err != nil {
			return nil, err
		}
	}
	return func(m *machine, st *site, a []value) value {
		v := a[0]
		switch {
		case v.k != kTime:
			return m.wrongType(st, v, "a time; parse_time makes one")
		case calendar != nil:
			return m.dated(calendar(v.time()), 0, st)
		case length%time.Second == 0:
			sec, _ := floorDiv(v.n, int64(length/time.Second))
			return m.dated(sec*int64(length/time.Second), 0, st)
		}
		ns := new(big.Int).Mul(big.NewInt(v.n), big.NewInt(1e9))
		ns.Add(ns, big.NewInt(int64(v.aux)))
		ns.Sub(ns, new(big.Int).Mod(ns, big.NewInt(int64(length))))
		sec, rest := new(big.Int).DivMod(ns, big.NewInt(1e9), new(big.Int))
		return m.dated(sec.Int64(), int32(rest.Int64()), st)
	}, nil
}
