package reference

import (
	"math"
	"math/big"
	"time"

	"keystone/dsl/ir"
)

func milliseconds(x any) (int64, bool) {
	t, ok := x.(time.Time)
	if !ok {
		return 0, false
	}
	return t.UnixMilli(), true
}

// temporal has the functions over times.
func (m *machine) temporal(name string, a []any) (any, *Error, bool) {
	var v any
	var err *Error
	switch name {
	case "now":
		v = m.in.Now.UTC()
	case "parse_time":
		v, err = parseTime(a)
	case "duration":
		s, ok := a[0].(string)
		if !ok {
			return nil, wrong(name, a[0]), true
		}
		d, bad := ir.ParseDuration(s)
		if bad != nil {
			return nil, failure(ir.CodeConversion, "the text is not a length of time"), true
		}
		v = int64(d / time.Millisecond)
	case "format_time", "truncate_time":
		t, ok := a[0].(time.Time)
		if !ok {
			return nil, wrong(name, a[0]), true
		}
		if name == "truncate_time" {
			v, err = truncate(t, a[1].(string))
			break
		}
		zone := time.UTC
		if len(a) > 2 {
			var bad error
			if zone, bad = time.LoadLocation(a[2].(string)); bad != nil {
				return nil, failure(ir.CodeConversion, "%v", bad), true
			}
		}
		v = t.In(zone).Format(a[1].(string))
	default:
		return nil, nil, false
	}
	return v, err, true
}

func parseTime(a []any) (any, *Error) {
	layout := ""
	if len(a) > 1 {
		layout = a[1].(string)
	}
	perSecond, numeric := map[string]int64{"": 1000, "unix": 1, "unix_ms": 1000, "unix_us": 1e6, "unix_ns": 1e9}[layout]
	switch x := a[0].(type) {
	case time.Time:
		return x, nil
	case int64, float64:
		if !numeric {
			return nil, failure(ir.CodeType, "a number has no layout %q", layout)
		}
		r := new(big.Rat)
		switch x := x.(type) {
		case int64:
			r.SetInt64(x)
		case float64:
			r.SetFloat64(x)
		}
		r.Mul(r, big.NewRat(1e9, perSecond))
		ns := new(big.Int).Div(r.Num(), r.Denom()) // rounds down
		s, rest := new(big.Int).DivMod(ns, big.NewInt(1e9), new(big.Int))
		if !s.IsInt64() || s.Int64() > math.MaxInt32*1000 || s.Int64() < -math.MaxInt32*1000 {
			return nil, failure(ir.CodeRange, "the time lies outside of the years 0 to 9999")
		}
		return inYears(time.Unix(s.Int64(), rest.Int64()).UTC())
	case string:
		if layout == "" {
			layout = time.RFC3339Nano
		} else if numeric {
			return nil, failure(ir.CodeType, "the layout %q is for numbers", layout)
		}
		t, err := time.ParseInLocation(layout, x, time.UTC)
		if err != nil {
			return nil, failure(ir.CodeConversion, "the text is not a time in the layout %s", layout)
		}
		return inYears(t.UTC())
	}
	return nil, wrong("parse_time", a[0])
}

func truncate(t time.Time, unit string) (any, *Error) {
	y, mo, d := t.Date()
	date := func(y int, mo time.Month, d int) (any, *Error) {
		return inYears(time.Date(y, mo, d, 0, 0, 0, 0, time.UTC))
	}
	switch unit {
	case "day":
		return date(y, mo, d)
	case "week":
		return date(y, mo, d-(int(t.Weekday())+6)%7)
	case "month":
		return date(y, mo, 1)
	case "quarter":
		return date(y, mo-(mo-1)%3, 1)
	case "year":
		return date(y, 1, 1)
	}
	length, ok := map[string]time.Duration{"second": time.Second, "minute": time.Minute, "hour": time.Hour}[unit]
	if !ok {
		var err error
		if length, err = ir.ParseDuration(unit); err != nil {
			return nil, failure(ir.CodeConversion, "%v", err)
		}
	}
	ns := new(big.Int).Add(new(big.Int).Mul(big.NewInt(t.Unix()), big.NewInt(1e9)), big.NewInt(int64(t.Nanosecond())))
	rest := new(big.Int).Mod(ns, big.NewInt(int64(length)))
	ns.Sub(ns, rest)
	s, ms := new(big.Int).DivMod(ns, big.NewInt(1e9), new(big.Int))
	return inYears(time.Unix(s.Int64(), ms.Int64()).UTC())
}

// asTime gives a time for a layout: a time, text in RFC 3339 or a date, or
// milliseconds since 1970 UTC.
func asTime(v any) (time.Time, *Error) {
	switch v := v.(type) {
	case time.Time:
		return v, nil
	case int64:
		return time.UnixMilli(v).UTC(), nil
	case string:
		for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
			if t, err := time.Parse(layout, v); err == nil {
				return t.UTC(), nil
			}
		}
		return time.Time{}, failure(ir.CodeConversion, "the text is neither an RFC 3339 time nor a date")
	}
	return time.Time{}, failure(ir.CodeType, "a layout is for times, and this is %s", kindName(v))
}
