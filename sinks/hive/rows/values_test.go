package rows

import (
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// TestTimes holds the parsers against the time package, with text that is nearly right, too.
func TestTimes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	layouts := []string{time.RFC3339, time.RFC3339Nano, "2006-01-02T15:04:05.000000Z07:00", time.DateOnly, "2006-01-02 15:04:05"}
	good := 0
	for range 300_000 {
		at := time.Unix(r.Int64N(400e9)-100e9, r.Int64N(1e9)).In(time.FixedZone("", (r.IntN(29)-14)*3600+r.IntN(2)*1800))
		s := []byte(at.Format(layouts[r.IntN(len(layouts))]))
		for range r.IntN(3) {
			s[r.IntN(len(s))] = "0123456789-:.TZ+"[r.IntN(16)]
		}
		got, fault := parseTimestamp(s)
		want, err := time.Parse(time.RFC3339Nano, string(s))
		y := want.UTC().Year()
		switch {
		case err != nil:
			if fault != timeForm {
				t.Fatalf("timestamp %s: %d, %d, want %v", s, got, fault, err)
			}
		case y < 1 || y > 9999:
			if fault != timeRange {
				t.Fatalf("timestamp %s: %d, %d, want out of range", s, got, fault)
			}
		case fault != timeFits || got != want.Unix()*1e6+int64(want.Nanosecond()/1000):
			t.Fatalf("timestamp %s: %d, %d, want %d", s, got, fault, want.UnixMicro())
		default:
			good++
		}
		days, fault := parseDate(s)
		day, err := time.Parse(time.DateOnly, string(s))
		if (err == nil && day.Year() >= 1) != (fault == timeFits) || fault == timeFits && int64(days)*secondsPerDay != day.Unix() {
			t.Fatalf("date %s: %d, %d, want %v, %v", s, days, fault, day, err)
		}
	}
	if good < 10_000 {
		t.Errorf("only %d times were right", good)
	}
}

// TestDecimals holds the parser against math/big.
func TestDecimals(t *testing.T) {
	w := world{Rand: rand.New(rand.NewPCG(3, 4))}
	seen := map[decimalFault]int{}
	for range 200_000 {
		p := 1 + w.IntN(38)
		s := w.IntN(p + 1)
		from := 1 + w.IntN(38)
		text := w.number(from, w.IntN(from+1))
		if !strings.ContainsAny(text, "eE") && w.IntN(4) == 0 {
			text += fmt.Sprintf("e%d", w.IntN(60)-30)
		}
		got, fault := parseDecimal([]byte(text), p, s)
		seen[fault]++
		exact, ok := new(big.Rat).SetString(text)
		if !ok {
			t.Fatal(text)
		}
		unit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(s)), nil)
		exact.Mul(exact, new(big.Rat).SetInt(unit))
		limit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(p)), nil)
		want := decimalFits
		switch whole := new(big.Int).Quo(exact.Num(), exact.Denom()); {
		case new(big.Int).Abs(whole).Cmp(limit) >= 0:
			want = decimalLarge
		case !exact.IsInt():
			want = decimalFine
		}
		if fault != want && !(fault == decimalFine && want == decimalLarge && !exact.IsInt()) {
			t.Fatalf("%s as decimal(%d, %d): %d, want %d", text, p, s, fault, want)
		}
		if fault != decimalFits {
			continue
		}
		b := got.append(nil, decimalBytes(p))
		if back := decimalOf(b); back != got {
			t.Fatalf("%s: %v came back from its bytes as %v", text, got, back)
		}
		if shown, _ := new(big.Rat).SetString(got.text(s)); shown.Mul(shown, new(big.Rat).SetInt(unit)).Cmp(exact) != 0 {
			t.Fatalf("%s as decimal(%d, %d) is %s", text, p, s, got.text(s))
		}
	}
	if seen[decimalFits] < 1000 || seen[decimalFine] < 1000 || seen[decimalLarge] < 1000 {
		t.Errorf("faults: %v", seen)
	}
}

func TestRefused(t *testing.T) {
	s := mustSchema(t, parse(t, `object({i = int, o = optional(object({d = optional(decimal(5, 2)), l = optional(list(object({x = int})))})),
		m = optional(map(date)), ms = optional(timestamp_ms), at = optional(timestamp_rfc3339), b = optional(bytes), f = optional(float), s = optional(string), t = optional(bool)})`))
	w := NewWriter(&strings.Builder{}, s, Options{})
	for _, c := range []struct{ event, column, code, text string }{
		{``, "", "json", "ends too early"},
		{`[]`, "", "json", "not a JSON object"},
		{`{"i":1} x`, "", "json", ""},
		{"{\"i\":1,\"s\":\"\xff\"}", "", "json", ""},
		{"{\"i\":1,\"unknown\":\"\xff\"}", "", "json", ""},
		{`{"i":1,"z":` + strings.Repeat("[", 2000) + strings.Repeat("]", 2000) + `}`, "", "json", "nested"},
		{`{}`, "i", "missing", "is missing"},
		{`{"i":null}`, "i", "missing", "is null"},
		{`{"i":1,"i":null}`, "i", "missing", "is null"},
		{`{"i":"1"}`, "i", "type", "must be int, and is a string"},
		{`{"i":1.0}`, "i", "type", "fraction"},
		{`{"i":1e2}`, "i", "type", "exponent"},
		{`{"i":9223372036854775808}`, "i", "range", "64 bits"},
		{`{"i":1,"f":1e400}`, "f", "range", "beyond"},
		{`{"i":1,"f":"1"}`, "f", "type", ""},
		{`{"i":1,"t":1}`, "t", "type", "bool"},
		{`{"i":1,"s":1}`, "s", "type", "string"},
		{`{"i":1,"o":[]}`, "o", "type", "object"},
		{`{"i":1,"o":{"d":1000}}`, "o.d", "range", "before the point"},
		{`{"i":1,"o":{"d":1.001}}`, "o.d", "range", "round(…, 2)"},
		{`{"i":1,"o":{"d":"1"}}`, "o.d", "type", "decimal(5, 2)"},
		{`{"i":1,"o":{"l":{}}}`, "o.l", "type", "list"},
		{`{"i":1,"o":{"l":[{"x":1},{"x":2},{}]}}`, "o.l[].x", "missing", ""},
		{`{"i":1,"o":{"l":[{"x":1},3]}}`, "o.l[]", "type", "object"},
		{`{"i":1,"m":{"a":"2024-01-01","b":"2024-02-30"}}`, "m[]", "format", "date"},
		{`{"i":1,"m":[]}`, "m", "type", "object"},
		{`{"i":1,"ms":253402300800000}`, "ms", "range", "9999"},
		{`{"i":1,"ms":-62135596800001}`, "ms", "range", "0001"},
		{`{"i":1,"ms":"2024-01-01T00:00:00Z"}`, "ms", "type", ""},
		{`{"i":1,"at":"2024-01-01"}`, "at", "format", "time"},
		{`{"i":1,"at":"0000-01-01T00:00:00Z"}`, "at", "range", ""},
		{`{"i":1,"at":1}`, "at", "type", ""},
		{`{"i":1,"b":"AAE"}`, "b", "format", "base64"},
		{`{"i":1,"b":"AAF="}`, "b", "format", "base64"},
	} {
		before := w.OpenBytes()
		err := w.Append([]byte(c.event))
		var fault *RowError
		if !errors.As(err, &fault) || fault.Column != c.column || string(fault.Code) != c.code || !strings.Contains(fault.Text, c.text) {
			t.Errorf("%.60s: %#v, want %s %s %q", c.event, err, c.column, c.code, c.text)
		}
		if w.Rows() != 0 || w.OpenBytes() != before {
			t.Errorf("%.60s: the writer changed", c.event)
		}
		for i := range w.columns {
			if col := &w.columns[i]; len(col.values)+len(col.defs)+len(col.reps)+col.levels+col.present+col.rows > 0 {
				t.Errorf("%.60s: something of the event is left in %s", c.event, col.n.path)
			}
		}
	}
}

// TestUnionRows writes events of both versions to a file of the union.
func TestUnionRows(t *testing.T) {
	old, now := mustSchema(t, parse(t, "object({n = int, at = timestamp_ms, gone = string})")), mustSchema(t, parse(t, "object({n = decimal(10, 2), at = timestamp_rfc3339, come = bool})"))
	u, _, problems := Union(old, now)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	var out strings.Builder
	w := NewWriter(&out, u, Options{})
	for _, event := range []string{`{"n":9223372036854775807,"at":1000,"gone":"x"}`, `{"n":1.25,"at":"1970-01-01T00:00:01Z","come":true}`} {
		if err := w.Append([]byte(event)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Append([]byte(`{"n":1,"at":true}`)); err == nil {
		t.Error("a bool was taken for a time")
	}
	stats, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	rows := readBack(t, []byte(out.String()), parse(t, "object({n = decimal(22, 2), at = timestamp_ms, gone = string, come = bool})"))
	if got := fmt.Sprint(rows); got != "[map[at:1000000 come:<nil> gone:x n:922337203685477580700] map[at:1000000 come:true gone:<nil> n:125]]" {
		t.Error(got)
	}
	var shown []string
	for _, c := range stats.Columns {
		shown = append(shown, fmt.Sprintf("%s %d %s %s", c.Path, c.Nulls, *c.Min, *c.Max))
	}
	if got := strings.Join(shown, ", "); got != "n 0 1.25 9223372036854775807.00, at 0 1970-01-01T00:00:01Z 1970-01-01T00:00:01Z, gone 1 x x, come 1 true true" {
		t.Error(got)
	}
}
