package ir

import (
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // zones are known on every machine, or a program would mean other things there

	"keystone/dsl/types"
)

func timeFuncs() []*Func {
	rfc := types.TimestampRFC
	now := fn("now", "now() -> time", "The time of evaluation. It makes a route's output depend on when it runs.", 0, nil, gives(rfc), eg("now() > parse_time('2020-01-01T00:00:00Z')", "true"), eg("type(now())", `"time"`))
	now.NotInJobs = true
	return []*Func{
		now,
		fn("parse_time", "parse_time(x, layout) -> time", "A time from text or a number. Text is RFC 3339, or in the Go layout that is given (without a zone in it: UTC). A number is milliseconds since 1970 UTC, or what the layout says: `unix` (seconds), `unix_ms`, `unix_us`, `unix_ns`. The layout is a constant.", 1, []kinds{aString | aNumber | aTime, aString}, gives(rfc),
			eg("parse_time('2026-01-02T03:04:05.5+01:00')", `"2026-01-02T02:04:05.5Z"`), eg("parse_time(1000)", `"1970-01-01T00:00:01Z"`), eg("parse_time('02/01/2026', '02/01/2006')", `"2026-01-02T00:00:00Z"`), eg("parse_time(1.5, 'unix')", `"1970-01-01T00:00:01.5Z"`), fails("parse_time('yesterday')", CodeConversion), failsOn(`{"a":true}`, "parse_time(a)"), eg("parse_time(nil)", "null"), fails("parse_time(1e300)", CodeRange)).constant(1).valid(1, parseLayoutKnown),
		fn("format_time", "format_time(t, layout, zone) -> string", "A time as text in a Go layout, in UTC or the zone that is given by its IANA name. Layout and zone are constants.", 2, []kinds{aTime, aString, aString}, gives(types.StringType),
			eg("format_time(parse_time(0), '2006-01-02')", `"1970-01-01"`), eg("format_time(parse_time('2026-07-01T23:30:00Z'), '2006-01-02 15:04', 'Europe/Berlin')", `"2026-07-02 01:30"`), eg("format_time(nil, '2006')", "null"), failsOn(`{"a":1}`, "format_time(a, '2006')")).constant(1, 2).valid(1, layoutKnown).valid(2, zoneKnown),
		fn("truncate_time", "truncate_time(t, unit) -> time", "The beginning in UTC of the `second`, `minute`, `hour`, `day`, `week` (from Monday), `month`, `quarter` or `year`, or of the stretch of a length as `15m`, counted from 1970. The unit is a constant.", 2, []kinds{aTime, aString}, truncated,
			eg("truncate_time(parse_time('2026-05-20T13:47:11Z'), 'hour')", `"2026-05-20T13:00:00Z"`), eg("truncate_time(parse_time('2026-05-20T13:47:11Z'), 'week')", `"2026-05-18T00:00:00Z"`), eg("truncate_time(parse_time('2026-05-20T13:47:11Z'), '15m')", `"2026-05-20T13:45:00Z"`), eg("truncate_time(parse_time('2026-05-20T13:47:11Z'), 'quarter')", `"2026-04-01T00:00:00Z"`), eg("truncate_time(parse_time(-1), 'day')", `"1969-12-31T00:00:00Z"`), eg("truncate_time(nil, 'day')", "null"), failsOn(`{"a":"x"}`, "truncate_time(a, 'day')")).constant(1).valid(1, unitKnown),
		fn("duration", "duration(s) -> int", "A length of time in milliseconds, truncated toward zero: `90s`, `1h30m`, `250ms`, `7d`. Times move by it: `ts + duration('1h')`.", 1, []kinds{aString}, gives(types.IntType),
			eg("duration('1h30m')", "5400000"), eg("duration('-1s')", "-1000"), eg("duration('7d')", "604800000"), fails("duration('soon')", CodeConversion), eg("string(parse_time(0) + duration('1m'))", `"1970-01-01T00:01:00Z"`)),
	}
}

func truncated(args []types.Type, _ []*Node) (types.Type, error) {
	if args[0].IsTime() {
		return args[0], nil
	}
	return types.TimestampRFC, nil
}

// Units are the calendar units of truncate_time; a length as 15m is one too.
func Units() []string {
	return []string{"second", "minute", "hour", "day", "week", "month", "quarter", "year"}
}

func unitKnown(v any) string {
	s, ok := v.(string)
	for _, u := range Units() {
		if ok && s == u {
			return ""
		}
	}
	if d, err := ParseDuration(s); ok && err == nil && d > 0 {
		return ""
	}
	return fmt.Sprintf("The second argument of truncate_time must be one of '%s', or a positive length as '15m'.", strings.Join(Units(), "', '"))
}

func parseLayoutKnown(v any) string {
	switch v {
	case "unix", "unix_ms", "unix_us", "unix_ns":
		return ""
	}
	return layoutKnown(v)
}

func layoutKnown(v any) string {
	if s, ok := v.(string); ok && IsLayout(s) {
		return ""
	}
	return "A layout shows how Go writes Mon Jan 2 15:04:05 MST 2006, as '2006-01-02 15:04:05'."
}

// IsLayout tells whether text has at least one element of a Go time layout.
func IsLayout(s string) bool {
	a := time.Date(2001, 2, 3, 4, 5, 6, 7, time.UTC)
	b := time.Date(2022, 11, 24, 17, 38, 59, 987654321, time.FixedZone("KST", 9*3600+1800))
	return a.Format(s) != b.Format(s)
}

func zoneKnown(v any) string {
	s, ok := v.(string)
	if ok && s != "" && s != "Local" {
		if _, err := time.LoadLocation(s); err == nil {
			return ""
		}
	}
	return "There is no such time zone. Zones have IANA names as 'Europe/Berlin'."
}

// ParseDuration reads what time.ParseDuration does, and days: 7d, 1d12h.
func ParseDuration(s string) (time.Duration, error) {
	if days, rest, ok := strings.Cut(s, "d"); ok {
		d, err := time.ParseDuration(days + "h")
		if err != nil || d.Abs() > 1<<62/24 {
			return 0, fmt.Errorf("%q is not a duration", s)
		}
		d *= 24
		if rest == "" {
			return d, nil
		}
		r, err := time.ParseDuration(rest)
		if err != nil || strings.ContainsAny(rest, "+-") {
			return 0, fmt.Errorf("%q is not a duration", s)
		}
		if d < 0 || strings.HasPrefix(s, "-") {
			r = -r
		}
		if sum := d + r; (sum < d) == (r < 0) {
			return sum, nil
		}
		return 0, fmt.Errorf("%q is too long", s)
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration", s)
	}
	return d, nil
}
