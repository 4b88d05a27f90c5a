package dsl_test

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/dsl"
	"keystone/dsl/eval"
	"keystone/dsl/ir"
	"keystone/dsl/reference"
	"keystone/dsl/types"
	"keystone/pipeline/record"
)

const routeSchema = "object({ id = string, n = int, f = float, d = decimal(5, 2), ts = timestamp_ms, at = timestamp_rfc3339, day = date, ok = bool, bin = bytes, tags = list(string), items = list(object({ sku = string, n = int })), o = object({ a = string, b = object({ c = int }) }), x = any })"

// routes makes random routes and events.
type routes struct{ r *rand.Rand }

func (g routes) pick(s ...string) string { return s[g.r.IntN(len(s))] }

func (g routes) expr() string {
	return g.pick("id", "n", "f", "d", "ts", "at", "day", "ok", "bin", "tags", "items", "o", "x", "o.a", "o.b", "o.b.c", "x.a", "tags[0]", "items.sku", "n + 1", "f / n", "n * 2", "d * 1.5", "id + '-x'", "upper(id)",
		"ts + 1000", "truncate_time(ts, 'day')", "truncate_time(at, 'hour')", "parse_time(x)", "o.a ?? 'none'", "len(tags)", "map(items, .n)", "{a: n, t: ts, l: tags}", "[n, ts, day]", "event", "meta.offset", "meta.key", "meta.headers.h", "nil", "'lit'", "5", "n > 1 ? id : 'low'", "x ?? n", "string(x)", "toJSON(o)", "sum(items, .n)", "json('[1.5]')", "coalesce(x, at)", "max(ts, at)")
}

func (g routes) condition() string {
	return g.pick("n > 0", "ok", "id != nil", "true", "n > 0 || ok", "tags[0] == 'a' || true", "meta.tombstone || n < 9", "x == nil || x != 1", "not ok || ok || true", "any(items, .n > 1) ?? true")
}

func text(s string) diag.Text { return diag.Text{S: s} }

func (g routes) spec() dsl.RouteSpec {
	s := dsl.RouteSpec{Input: types.AnyType}
	var err error
	if g.r.IntN(2) == 0 {
		if s.Input, err = types.Parse(routeSchema); err != nil {
			panic(err)
		}
	}
	if g.r.IntN(3) == 0 {
		s.Target, err = types.Parse("object({ p = timestamp_rfc3339, q = timestamp_ms, r = date, s = decimal(4, 1) })")
		if err != nil {
			panic(err)
		}
	}
	s.Tombstones = []ir.Tombstones{ir.TombstonesPass, ir.TombstonesProject, ir.TombstonesDrop}[g.r.IntN(3)]
	for range g.r.IntN(3) {
		s.Filter = append(s.Filter, text(g.condition()))
	}
	if g.r.IntN(4) == 0 {
		s.Explode = text(g.pick("items", "tags", "x", "o.b"))
	}
	fields := func(names []string) (out []spec.Field) {
		for _, n := range names {
			if g.r.IntN(2) == 0 {
				continue
			}
			f := spec.Field{Name: n, Expr: text(g.expr())}
			if n == "s" { // a decimal of some targets
				f.Expr = text(g.pick("n * 2", "d * 1.5", "f / n", "n + 1", "d * 10.0", "d", "n", "f", "x", "[d, f]", "nil"))
				out = append(out, f)
				continue
			}
			switch g.r.IntN(8) {
			case 0:
				f.Expr, f.Lit = diag.Text{}, []any{true, int64(3), 2.5}[g.r.IntN(3)]
			case 1:
				f.Expr, f.IsObject, f.Object = diag.Text{}, true, []spec.Field{{Name: "in", Expr: text(g.expr())}, {Name: "lit", Lit: int64(1)}}
			}
			out = append(out, f)
		}
		return out
	}
	switch g.r.IntN(3) {
	case 0:
		s.Project = append([]spec.Field{}, fields([]string{"id", "p", "q", "r", "s", "tags"})...)
	case 1:
		s.Set = fields([]string{"id", "p", "q", "r", "s", "o.b.c", "o.new", "x.a", "y.z.w", "y.v"})
		for _, d := range []string{"n", "o.a", "x.b", "tags", "y.gone"} {
			if g.r.IntN(3) == 0 && !slices.ContainsFunc(s.Set, func(f spec.Field) bool { return f.Name == d }) {
				s.Drop = append(s.Drop, text(d))
			}
		}
	}
	if g.r.IntN(2) == 0 {
		s.Key = text(g.pick("id", "p", "n", "string(q)", "meta.key", "id + 'k'", "ts", "nil", "o.a"))
	}
	if g.r.IntN(2) == 0 {
		s.Headers = []spec.Field{{Name: "h", Expr: text(g.pick("id", "nil", "r", "n", "'x'"))}, {Name: "g", Lit: int64(4)}}
	}
	if g.r.IntN(2) == 0 {
		s.Derived = []dsl.Derived{{Name: "a", Text: text(g.pick("p-{id}", "{q:2006.01.02}/{id}", "{ts:2006}", "{{x}}{p}", "{meta.offset}")), Pattern: true}, {Name: "b", Text: text(g.pick("id", "p", "[id, q]", "q"))}}
	}
	return s
}

func (g routes) event() []byte {
	if g.r.IntN(10) == 0 {
		return nil
	}
	values := map[string][]string{
		"id": {`"u1"`, `"\u00e9\""`, `""`}, "n": {"5", "0", "-3", "1000", "9223372036854775807"}, "f": {"2.5", "1", "-0.0"}, "d": {"1.25", "99.99", "99.996", "999.95", "999.949", "1e3", "7"},
		"ts": {"1700000000123", "0", "-1"}, "at": {`"2026-01-02T03:04:05.5+01:00"`, `"2026-01-02T03:04:05Z"`}, "day": {`"2026-01-02"`}, "ok": {"true", "false"}, "bin": {`"YcOx"`},
		"tags": {`["a","b"]`, `[]`, `[ "x" , null ]`}, "items": {`[{"sku":"s","n":1},{"sku":"t","n":2}]`, `[]`, `[{"n":1.0}]`}, "o": {`{"a":"x","b":{"c":1}}`, `{"a":null}`, `{ "b" : { } , "k":[1] }`}, "x": {`1`, `"2026-01-01T00:00:00Z"`, `{"a":1,"b":2}`, `[1,2]`, `1.5`, `null`, `{"a":{"q":1}}`},
	}
	var parts []string
	for _, name := range []string{"id", "n", "f", "d", "ts", "at", "day", "ok", "bin", "tags", "items", "o", "x", "extra"} {
		v := values[name]
		switch {
		case name == "extra":
			parts = append(parts, `"extra" : {"k":[1.0, 2e1]}`)
		case g.r.IntN(10) == 0:
		case g.r.IntN(15) == 0:
			parts = append(parts, fmt.Sprintf("%q:%s", name, values["x"][g.r.IntN(len(values["x"]))]))
		default:
			parts = append(parts, fmt.Sprintf("%q:%s", name, v[g.r.IntN(len(v))]))
		}
	}
	g.r.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
	return []byte("{" + strings.Join(parts, ",") + "}")
}

// compareRoute runs a random route on random events by both engines. It
// tells whether the route passed the checker.
func compareRoute(t *testing.T, seed uint64) bool {
	g := routes{rand.New(rand.NewPCG(seed, 3))}
	s := g.spec()
	r, diags := dsl.CheckRoute(s)
	if diags.HasErrors() {
		return false
	}
	p, err := dsl.Compile(r)
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	run := p.NewEval()
	for range 4 {
		value := g.event()
		in := &record.Batch{Topic: "plays", Partition: 3, Records: []record.Record{{Offset: 7, Timestamp: 1700000000123, Key: []byte("key"), Value: value, Headers: []record.Header{{Key: "h", Value: []byte("1")}}}}}
		var out record.Batch
		verdict, fail := run.Run(in, 0, &out)
		want, passed, wantErr := interpretRoute(t, r, value)
		about := fmt.Sprintf("seed %d: on %s", seed, value)
		switch {
		case (verdict == eval.Failed) != (wantErr != nil):
			t.Errorf("%s: %v %v, the reference has %v", about, verdict, fail, wantErr)
		case wantErr != nil:
		case (verdict == eval.Passed) != passed || len(out.Records) != len(want):
			t.Errorf("%s: verdict %v with %d events, the reference has %v with %d", about, verdict, len(out.Records), passed, len(want))
		default:
			for i := range want {
				compareEvents(t, about, r, out.Records[i], want[i])
			}
		}
	}
	return true
}

func interpretRoute(t *testing.T, r *ir.Route, value []byte) ([]reference.Event, bool, *reference.Error) {
	headers := reference.NewObject()
	headers.Put("h", "1")
	in := reference.Input{Meta: map[string]any{"topic": "plays", "partition": int64(3), "offset": int64(7), "timestamp": time.UnixMilli(1700000000123).UTC(), "key": "key", "headers": headers, "tombstone": value == nil}}
	if value != nil {
		v, err := reference.Decode(value)
		if err != nil {
			t.Fatal(err)
		}
		in.Event = v
	}
	return reference.Route(r, in)
}

func compareEvents(t *testing.T, about string, r *ir.Route, got record.Record, want reference.Event) {
	t.Helper()
	if (got.Value == nil) != want.Null {
		t.Errorf("%s: value %s, want null %v", about, got.Value, want.Null)
	} else if got.Value != nil {
		v, err := reference.Decode(got.Value)
		if err != nil {
			t.Errorf("%s: the output is no JSON: %s: %v", about, got.Value, err)
		} else if !reflect.DeepEqual(unordered(v), unordered(want.Value)) {
			wantText, _ := reference.Append(nil, want.Value, types.AnyType)
			t.Errorf("%s: value\n%s, want\n%s", about, got.Value, wantText)
		}
	}
	same := func(what string, b []byte, want any) {
		w, ok := want.(string)
		if (b != nil) == ok && string(b) != w {
			x, err1 := reference.Decode(b)
			y, err2 := reference.Decode([]byte(w))
			if err1 == nil && err2 == nil && reflect.DeepEqual(unordered(x), unordered(y)) {
				return // numbers, lists and objects may keep their bytes on the way
			}
		}
		if (b != nil) != ok || string(b) != w {
			t.Errorf("%s: %s %q, want %#v", about, what, b, want)
		}
	}
	if r.Key != nil {
		same("key", got.Key, want.Key)
	}
	for name, w := range want.Headers {
		var b []byte
		for _, h := range got.Headers {
			if h.Key == name {
				b = h.Value
			}
		}
		same("header "+name, b, w)
	}
	for i, w := range want.Derived {
		same("derived", got.Derived[i], w)
	}
}

// unordered makes decoded JSON comparable: numbers by value, members in any order.
func unordered(v any) any {
	switch v := v.(type) {
	case reference.Number:
		if r, ok := new(big.Rat).SetString(string(v)); ok {
			return r.RatString()
		}
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = unordered(v[i])
		}
		return out
	case *reference.Object:
		out := map[string]any{}
		for _, n := range v.Names {
			out[n] = unordered(v.Values[n])
		}
		return out
	}
	return v
}

// TestRoutesDifferential holds compiled routes to the plain interpreter.
func TestRoutesDifferential(t *testing.T) {
	checked := 0
	for seed := range uint64(5_000) {
		if compareRoute(t, seed) {
			checked++
		}
		if t.Failed() {
			break
		}
	}
	if !t.Failed() && checked < 2000 {
		t.Errorf("only %d routes passed the checker", checked)
	}
	t.Logf("%d routes compared", checked)
}

func FuzzRoute(f *testing.F) {
	for seed := range uint64(10) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) { compareRoute(t, seed) })
}
