package eval_test

import (
	"fmt"
	"strings"
	"testing"

	"keystone/dsl/eval"
	"keystone/dsl/ir"
	"keystone/dsl/types"
	"keystone/pipeline/record"
)

// show writes everything that one record became.
func show(v eval.Verdict, err *eval.Error, out *record.Batch) string {
	if err != nil {
		return "error " + err.Code
	}
	if v != eval.Passed {
		return [...]string{"passed", "filtered", "dropped", "failed"}[v]
	}
	var lines []string
	for _, r := range out.Records {
		var b strings.Builder
		text := func(s []byte) string {
			if s == nil {
				return "nil"
			}
			return string(s)
		}
		b.WriteString(text(r.Value))
		if r.Key != nil {
			b.WriteString(" key=" + string(r.Key))
		}
		for _, h := range r.Headers {
			b.WriteString(" " + h.Key + "=" + text(h.Value))
		}
		for i, d := range r.Derived {
			fmt.Fprintf(&b, " %d:%s", i, text(d))
		}
		lines = append(lines, b.String())
	}
	return strings.Join(lines, "\n")
}

// set makes the outputs of a route's set: paths and expressions in turn.
func set(t testing.TB, in types.Type, pairs ...string) []ir.Output {
	out := fields(t, in, pairs...)
	for i := range out {
		out[i].Path = strings.Split(out[i].Name, ".")
	}
	return out
}

func drops(paths ...string) (out [][]string) {
	for _, p := range paths {
		out = append(out, strings.Split(p, "."))
	}
	return out
}

func untyped(t testing.TB, text string) *ir.Expr { return expr(t, text, types.AnyType) }

type outputCase struct {
	name  string
	route *ir.Route
	event string // "null" is a tombstone
	want  string
}

func runCases(t *testing.T, cases []outputCase) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if c.route.Format == "" {
				c.route.Format = ir.JSON
			}
			e := program(t, c.route).NewEval()
			in := &record.Batch{Topic: "plays", Partition: 2, Records: []record.Record{{
				Offset: 7, Timestamp: 1700000000123, Key: []byte("k"), Value: []byte(c.event),
				Headers: []record.Header{{Key: "h", Value: []byte("1")}, {Key: "g", Value: []byte("2")}},
			}}}
			if c.event == "null" {
				in.Records[0].Value = nil
			}
			for range 2 { // what the first run leaves must not change the second
				var out record.Batch
				v, err := e.Run(in, 0, &out)
				got := strings.ReplaceAll(show(v, err, &out), " key=k h=1 g=2", "")
				if got != c.want {
					t.Errorf("%s\ngives %s\n%v\nwant  %s", c.event, got, err, c.want)
				}
				size := 0
				for _, r := range out.Records {
					size += len(r.Key) + len(r.Value)
					for _, h := range r.Headers {
						size += len(h.Key) + len(h.Value)
					}
				}
				if out.Bytes != size {
					t.Errorf("Bytes = %d, want %d", out.Bytes, size)
				}
			}
		})
	}
}

func TestPassThrough(t *testing.T) {
	in := types.AnyType
	filter := []*ir.Expr{untyped(t, "a == 1")}
	runCases(t, []outputCase{
		{"untouched", &ir.Route{Filter: filter}, ` { "a" : 1 } `, ` { "a" : 1 } `},
		{"filtered", &ir.Route{Filter: filter}, `{"a":2}`, "filtered"},
		{"nil is not true", &ir.Route{Filter: []*ir.Expr{untyped(t, "a > 1")}}, `{}`, "filtered"},
		{"all conditions", &ir.Route{Filter: []*ir.Expr{untyped(t, "a == 1"), untyped(t, "b / 0 == 1")}}, `{"a":2,"b":1}`, "filtered"},
		{"error of a condition", &ir.Route{Filter: []*ir.Expr{untyped(t, "a == 1"), untyped(t, "b / 0 == 1")}}, `{"a":1,"b":1}`, "error division_by_zero"},
		{"checked without expressions", &ir.Route{}, `{"a":tru}`, "error decode"},
		{"empty value", &ir.Route{}, ``, "error decode"},
		{"list", &ir.Route{}, `[]`, "error decode"},
		{"lazy", &ir.Route{Decode: ir.DecodeLazy}, `{"a":tru}`, `{"a":tru}`},
		{"lazy, used", &ir.Route{Decode: ir.DecodeLazy, Filter: filter}, `{"a":1,"b":"` + "\xff" + `"}`, `{"a":1,"b":"` + "\xff" + `"}`},
		{"lazy, used and broken", &ir.Route{Decode: ir.DecodeLazy, Filter: filter}, `{"a":"` + "\xff" + `"}`, "error decode"},
		{"none", &ir.Route{Decode: ir.DecodeNone}, "\x00\xff", "\x00\xff"},
		{"raw", &ir.Route{Format: ir.Raw, Filter: []*ir.Expr{untyped(t, "meta.offset == 7")}}, "\x00\xff", "\x00\xff"},
		{"meta", &ir.Route{HasProject: true, Project: fields(t, in, "t", "meta.topic", "p", "meta.partition", "o", "meta.offset", "ts", "meta.timestamp", "k", "meta.key", "h", "meta.headers", "z", "meta.tombstone", "n", "meta.headers.nope")},
			`{}`, `{"t":"plays","p":2,"o":7,"ts":1700000000123,"k":"k","h":{"h":"1","g":"2"},"z":false,"n":null}`},
	})
}

func TestProject(t *testing.T) {
	in := types.AnyType
	nested := ir.Output{Name: "n", IsObject: true, Object: fields(t, in, "x", "a", "y", "b.c")}
	runCases(t, []outputCase{
		{"written order", &ir.Route{HasProject: true, Project: fields(t, in, "z", "b", "a", "a")}, `{"a":1,"b":2}`, `{"z":2,"a":1}`},
		{"nothing", &ir.Route{HasProject: true}, `{"a":1}`, `{}`},
		{"bytes kept", &ir.Route{HasProject: true, Project: fields(t, in, "a", "a", "b", "b", "c", "c")}, `{"a":1.00,"b":"\u0041\/","c":[ 1 , {"x" :2}]}`, `{"a":1.00,"b":"\u0041\/","c":[ 1 , {"x" :2}]}`},
		{"large numbers kept", &ir.Route{HasProject: true, Project: fields(t, in, "a", "a", "b", "a ?? 0", "c", "true ? a : 0")}, `{"a":12345678901234567890}`, `{"a":12345678901234567890,"b":12345678901234567890,"c":12345678901234567890}`},
		{"beyond float64 kept", &ir.Route{HasProject: true, Project: fields(t, in, "a", "a")}, `{"a":1e400}`, `{"a":1e400}`},
		{"beyond float64 read", &ir.Route{HasProject: true, Project: fields(t, in, "a", "a + 1")}, `{"a":1e400}`, `error range`},
		{"nested and literals", &ir.Route{HasProject: true, Project: []ir.Output{nested, {Name: "l", Lit: int64(5)}, {Name: "f", Lit: 1.5}, {Name: "t", Lit: true}}}, `{"a":1,"b":{"c":"x"}}`, `{"n":{"x":1,"y":"x"},"l":5,"f":1.5,"t":true}`},
		{"last repeated key", &ir.Route{HasProject: true, Project: fields(t, in, "c", "b.c")}, `{"b":{"c":1},"b":{"d":2}}`, `{"c":null}`},
		{"member of a scalar", &ir.Route{HasProject: true, Project: fields(t, in, "c", "b.c")}, `{"b":1}`, `error type`},
		{"overflow", &ir.Route{HasProject: true, Project: fields(t, in, "c", "b + 1")}, `{"b":9223372036854775807}`, `error overflow`},
		{"name with quotes", &ir.Route{HasProject: true, Project: fields(t, in, `a"b`, "a")}, `{"a":1}`, `{"a\"b":1}`},
	})
}

func TestSetAndDrop(t *testing.T) {
	in := types.AnyType
	route := func(drop []string, pairs ...string) *ir.Route {
		return &ir.Route{Set: set(t, in, pairs...), Drop: drops(drop...)}
	}
	runCases(t, []outputCase{
		{"replace", route(nil, "b", "a + 1"), `{"a" : 1, "b":[1] ,"c":"\u0041"}`, `{"a" : 1, "b":2 ,"c":"\u0041"}`},
		{"add", route(nil, "z", "a", "y", "1"), `{"a":1}`, `{"a":1,"z":1,"y":1}`},
		{"add to nothing", route(nil, "z", "1"), ` { } `, ` {"z":1} `},
		{"nil is null", route(nil, "z", "b", "a", "nil"), `{"a":1}`, `{"a":null,"z":null}`},
		{"nested", route(nil, "d.x", "1", "d.y", "2"), `{"d":{"x":0, "o":3}}`, `{"d":{"x":1, "o":3,"y":2}}`},
		{"nested in null", route(nil, "d.x", "1"), `{"d":null,"a":2}`, `{"d":{"x":1},"a":2}`},
		{"nested in nothing", route(nil, "d.e.x", "1", "d.e.y", "2"), `{"a":2}`, `{"a":2,"d":{"e":{"x":1,"y":2}}}`},
		{"nested in a scalar", route(nil, "d.x", "1"), `{"d":5}`, `error type`},
		{"sees the input", route(nil, "a", "b", "b", "a"), `{"a":1,"b":2}`, `{"a":2,"b":1}`},
		{"escaped key", route(nil, "a", "5"), `{"\u0061":1}`, `{"\u0061":5}`},
		{"repeated key", route(nil, "a", "5"), `{"a":1,"b":2,"a":3}`, `{"a":5,"b":2,"a":5}`},
		{"drop first", route([]string{"a"}), `{"a":1, "b":2}`, `{ "b":2}`},
		{"drop middle", route([]string{"b"}), `{"a":1,"b":2,"c":3}`, `{"a":1,"c":3}`},
		{"drop last", route([]string{"c", "b"}), `{"a":1,"b":2,"c":3}`, `{"a":1}`},
		{"drop all", route([]string{"a"}), `{"a":1,"a":2}`, `{}`},
		{"drop nested", route([]string{"d.os", "d.q.r"}), `{"d":{"os":1,"v":2,"q":3}}`, `{"d":{"v":2,"q":3}}`},
		{"drop what is not there", route([]string{"x", "a.y"}), `{"a":1}`, `{"a":1}`},
		{"drop and set", route([]string{"d"}, "d.x", "1"), `{"d":{"y":2},"a":1}`, `{"a":1,"d":{"x":1}}`},
		{"error", route(nil, "a", "1 / b"), `{"b":0}`, `error division_by_zero`},
	})
}

func TestExplode(t *testing.T) {
	filter := []*ir.Expr{untyped(t, "len(l) != 1")}
	runCases(t, []outputCase{
		{"untouched", &ir.Route{Explode: untyped(t, "l")}, `{"a":1,"l":[1, {"x":2} ],"b":3}`, `{"a":1,"l":1,"b":3}` + "\n" + `{"a":1,"l":{"x":2},"b":3}`},
		{"filter sees the list", &ir.Route{Explode: untyped(t, "l"), Filter: filter}, `{"l":[1]}`, `filtered`},
		{"projection sees the element", &ir.Route{Explode: untyped(t, "l"), Filter: filter, HasProject: true, Project: fields(t, types.AnyType, "x", "l.x", "a", "a")}, `{"a":1,"l":[{"x":2},{},null]}`,
			`{"x":2,"a":1}` + "\n" + `{"x":null,"a":1}` + "\n" + `{"x":null,"a":1}`},
		{"set", &ir.Route{Explode: untyped(t, "d.l"), Set: set(t, types.AnyType, "y", "d.l + 1")}, `{"d":{"l":[1,2]}}`, `{"d":{"l":1},"y":2}` + "\n" + `{"d":{"l":2},"y":3}`},
		{"one fails, none is left", &ir.Route{Explode: untyped(t, "l"), HasProject: true, Project: fields(t, types.AnyType, "x", "1 / l")}, `{"l":[1,2,0,4]}`, `error division_by_zero`},
		{"empty", &ir.Route{Explode: untyped(t, "l")}, `{"l":[]}`, ``},
		{"missing", &ir.Route{Explode: untyped(t, "l")}, `{}`, ``},
		{"no list", &ir.Route{Explode: untyped(t, "l")}, `{"l":5}`, `error type`},
		{"key and headers see the element", &ir.Route{Explode: untyped(t, "l"), Key: untyped(t, "l.id"), Headers: fields(t, types.AnyType, "h", "l.id"), Derived: []ir.Derived{{Expr: untyped(t, "a")}}}, `{"a":1,"l":[{"id":"x"},{"id":5}]}`,
			`{"a":1,"l":{"id":"x"}} key=x g=2 h=x 0:1` + "\n" + `{"a":1,"l":{"id":5}} key=5 g=2 h=5 0:1`},
		{"tombstone", &ir.Route{Explode: untyped(t, "l")}, `null`, `nil`},
	})
}

func TestAddress(t *testing.T) {
	in := types.ObjectOf(types.Field{Name: "ts", Type: types.TimestampMsType}, types.Field{Name: "s", Type: types.StringType}, types.Field{Name: "x", Type: types.AnyType})
	typed := func(text string) *ir.Expr { return expr(t, text, in) }
	pattern := func(parts ...ir.PatternPart) []ir.Derived { return []ir.Derived{{Name: "index", Pattern: parts}} }
	headers := func(pairs ...string) []ir.Output { return fields(t, in, pairs...) }
	day := ir.PatternPart{Expr: typed("ts"), Layout: "2006.01.02"}
	loose := ir.PatternPart{Expr: untyped(t, "ts"), Layout: "2006-01"}
	runCases(t, []outputCase{
		{"key of the input event", &ir.Route{Key: typed("s")}, `{"s":"\u0041"}`, `{"s":"\u0041"} key=A h=1 g=2`},
		{"empty key", &ir.Route{Key: typed("s")}, `{"s":""}`, `{"s":""} key= h=1 g=2`},
		{"nil key", &ir.Route{Key: typed("s")}, `{}`, `{} h=1 g=2`},
		{"key of a number, a time, an object", &ir.Route{Key: typed("[ts, x]")}, `{"ts":5,"x":1.50}`, `{"ts":5,"x":1.50} key=["1970-01-01T00:00:00.005Z",1.50] h=1 g=2`},
		{"key of a time", &ir.Route{Key: typed("ts")}, `{"ts":1700000000123}`, `{"ts":1700000000123} key=1700000000123 h=1 g=2`},
		{"key of the output", &ir.Route{HasProject: true, Project: headers("k2", "s + '!'"), Key: untyped(t, "k2")}, `{"s":"a"}`, `{"k2":"a!"} key=a! h=1 g=2`},
		{"key of meta", &ir.Route{HasProject: true, Key: typed("meta.topic")}, `{"s":"a"}`, `{} key=plays h=1 g=2`},
		{"headers", &ir.Route{Headers: headers("new", "s", "h", "nil", "g", "x")}, `{"s":"a","x":[1]}`, `{"s":"a","x":[1]} key=k new=a g=[1]`},
		{"pattern", &ir.Route{Derived: pattern(ir.PatternPart{Lit: "plays-"}, day, ir.PatternPart{Lit: "/"}, ir.PatternPart{Expr: typed("s")})}, `{"ts":1767225600000,"s":"é"}`, `{"ts":1767225600000,"s":"é"} 0:plays-2026.01.01/é`},
		{"pattern with nil", &ir.Route{Derived: pattern(ir.PatternPart{Lit: "plays-"}, day)}, `{}`, `{} 0:nil`},
		{"pattern of one part", &ir.Route{Derived: pattern(ir.PatternPart{Expr: typed("x")})}, `{"x":1.50}`, `{"x":1.50} 0:1.50`},
		{"pattern of an object alone", &ir.Route{Derived: pattern(ir.PatternPart{Expr: typed("x")})}, `{"x":{"a":1}}`, `error type`},
		{"pattern of a list alone", &ir.Route{Derived: pattern(ir.PatternPart{Expr: typed("x")})}, `{"x":[]}`, `error type`},
		{"expression of an object", &ir.Route{Derived: []ir.Derived{{Expr: typed("x")}}}, `{"x":{"a":1}}`, `{"x":{"a":1}} 0:{"a":1}`},
		{"pattern with a list", &ir.Route{Derived: pattern(ir.PatternPart{Lit: "p"}, ir.PatternPart{Expr: typed("x")})}, `{"x":[]}`, `error type`},
		{"layout without a schema", &ir.Route{Derived: pattern(loose)}, `{"ts":"2026-05-20T01:00:00+02:00"}`, `{"ts":"2026-05-20T01:00:00+02:00"} 0:2026-05`},
		{"layout without a schema, number", &ir.Route{Derived: pattern(loose)}, `{"ts":0}`, `{"ts":0} 0:1970-01`},
		{"layout of other text", &ir.Route{Derived: pattern(loose)}, `{"ts":"x"}`, `error conversion`},
		{"derived expressions", &ir.Route{Derived: []ir.Derived{{Expr: typed("x")}, {Expr: typed("s")}, {Expr: typed("1 / x")}}}, `{"x":4,"s":"q"}`, `{"x":4,"s":"q"} 0:4 1:q 2:0.25`},
		{"error of a key leaves nothing", &ir.Route{HasProject: true, Project: headers("x", "x"), Key: untyped(t, "1 / x")}, `{"x":0}`, `error division_by_zero`},
	})
}

func TestTombstones(t *testing.T) {
	in := types.AnyType
	project := fields(t, in, "a", "a", "z", "meta.tombstone")
	runCases(t, []outputCase{
		{"pass", &ir.Route{}, `null`, `nil`},
		{"pass by a projection", &ir.Route{HasProject: true, Project: project, Tombstones: ir.TombstonesPass}, `null`, `nil`},
		{"filtered", &ir.Route{Filter: []*ir.Expr{untyped(t, "a == 1")}}, `null`, `filtered`},
		{"filter on meta", &ir.Route{Filter: []*ir.Expr{untyped(t, "meta.tombstone")}}, `null`, `nil`},
		{"project", &ir.Route{HasProject: true, Project: project, Tombstones: ir.TombstonesProject}, `null`, `{"a":null,"z":true}`},
		{"set", &ir.Route{Set: set(t, in, "d.x", "1"), Drop: drops("q"), Tombstones: ir.TombstonesProject}, `null`, `{"d":{"x":1}}`},
		{"untouched under project", &ir.Route{Tombstones: ir.TombstonesProject}, `null`, `nil`},
		{"drop", &ir.Route{Tombstones: ir.TombstonesDrop}, `null`, `dropped`},
		{"drop is after the filter", &ir.Route{Tombstones: ir.TombstonesDrop, Filter: []*ir.Expr{untyped(t, "a == 1")}}, `null`, `filtered`},
		{"key of a tombstone", &ir.Route{Key: untyped(t, "a"), Derived: []ir.Derived{{Expr: untyped(t, "meta.key")}}}, `null`, `nil h=1 g=2 0:k`},
	})
}

func TestTypes(t *testing.T) {
	in := types.ObjectOf(types.Field{Name: "i", Type: types.IntType}, types.Field{Name: "f", Type: types.FloatType}, types.Field{Name: "ms", Type: types.TimestampMsType},
		types.Field{Name: "rfc", Type: types.TimestampRFC}, types.Field{Name: "day", Type: types.DateType}, types.Field{Name: "dec", Type: types.Type{Kind: types.Decimal, Precision: 5, Scale: 2}}, types.Field{Name: "bin", Type: types.BytesType}, types.Field{Name: "x", Type: types.AnyType})
	as := func(text string, typ types.Type) *ir.Route {
		out := fields(t, in, "v", text)
		out[0].Type = typ
		return &ir.Route{Input: in, HasProject: true, Project: out}
	}
	decimal, short := types.Type{Kind: types.Decimal, Precision: 5, Scale: 2}, types.Type{Kind: types.Decimal, Precision: 4, Scale: 1}
	runCases(t, []outputCase{
		{"copied time", as("rfc", types.TimestampRFC), `{"rfc":"2026-01-01T00:00:00.500+01:00"}`, `{"v":"2026-01-01T00:00:00.500+01:00"}`},
		{"computed time", as("rfc + 1", types.TimestampRFC), `{"rfc":"2026-01-01T00:00:00.500+01:00"}`, `{"v":"2025-12-31T23:00:00.501Z"}`},
		{"computed milliseconds", as("truncate_time(ms, 'day')", types.TimestampMsType), `{"ms":1767225600001}`, `{"v":1767225600000}`},
		{"date of a time", as("rfc", types.DateType), `{"rfc":"2026-01-01T00:00:00+01:00"}`, `{"v":"2025-12-31"}`},
		{"milliseconds of a date", as("day", types.TimestampMsType), `{"day":"1970-01-02"}`, `{"v":86400000}`},
		{"difference", as("rfc - ms", types.IntType), `{"rfc":"1970-01-01T00:00:01Z","ms":1}`, `{"v":999}`},
		{"order of times", as("rfc > ms", types.BoolType), `{"rfc":"1970-01-01T00:00:01Z","ms":1}`, `{"v":true}`},
		{"no time", as("rfc", types.TimestampRFC), `{"rfc":"yesterday"}`, `error type`},
		{"no day", as("day", types.DateType), `{"day":"2026-02-29"}`, `error type`},
		{"no int", as("i", types.IntType), `{"i":1.0}`, `error type`},
		{"too large an int", as("i", types.IntType), `{"i":9223372036854775808}`, `error type`},
		{"largest int", as("i", types.IntType), `{"i":9223372036854775807}`, `{"v":9223372036854775807}`},
		{"string for an int", as("i", types.IntType), `{"i":"1"}`, `error type`},
		{"not read", as("f", types.FloatType), `{"f":1,"i":"1"}`, `{"v":1}`},
		{"null passes", as("i", types.IntType), `{"i":null}`, `{"v":null}`},
		{"copied decimal", as("dec", decimal), `{"dec":1.5}`, `{"v":1.5}`},
		{"computed decimal", as("dec * 2", decimal), `{"dec":1.5}`, `{"v":3.00}`},
		{"decimal too large", as("dec * 1000", decimal), `{"dec":1.5}`, `error range`},
		{"decimal too large when rounded", as("f * 10.0", short), `{"f":99.996}`, `error range`},
		{"decimal that rounds down", as("f * 10.0", short), `{"f":99.994}`, `{"v":999.9}`},
		{"negative decimal too large when rounded", as("f * 10.0", short), `{"f":-99.996}`, `error range`},
		{"decimal of an int too large", as("i * 10", short), `{"i":100}`, `error range`},
		{"decimal without whole digits", as("f * 1.0", types.Type{Kind: types.Decimal, Precision: 1, Scale: 1}), `{"f":0.04}`, `{"v":0.0}`},
		{"decimal of nothing but a fraction", as("f * 1.0", types.Type{Kind: types.Decimal, Precision: 1, Scale: 1}), `{"f":0.96}`, `error range`},
		{"copied decimal too large", as("dec", short), `{"dec":1000}`, `error range`},
		{"copied int too large for a decimal", as("i", short), `{"i":1000}`, `error range`},
		{"copied int that fits a decimal", as("i", short), `{"i":-999}`, `{"v":-999}`},
		{"copied decimal too large when rounded", as("dec", short), `{"dec":999.95}`, `error range`},
		{"copied decimal keeps its digits", as("dec", short), `{"dec":999.9499}`, `{"v":999.9499}`},
		{"copied decimal with an exponent", as("dec", short), `{"dec":9.99e2}`, `{"v":9.99e2}`},
		{"copied decimal with too large an exponent", as("dec", short), `{"dec":0.001e6}`, `error range`},
		{"copied decimal beyond float64", as("x", short), `{"x":1e400}`, `error range`},
		{"copied decimal with a huge exponent", as("x", short), `{"x":0e99999999999999999999}`, `{"v":0e99999999999999999999}`},
		{"copied decimal near nothing", as("x", short), `{"x":5e-99999999999999999999}`, `{"v":5e-99999999999999999999}`},
		{"copied decimal of 38 digits", as("x", types.Type{Kind: types.Decimal, Precision: 38}), `{"x":99999999999999999999999999999999999999}`, `{"v":99999999999999999999999999999999999999}`},
		{"copied decimal of 38 digits and a half", as("x", types.Type{Kind: types.Decimal, Precision: 38}), `{"x":99999999999999999999999999999999999999.5}`, `error range`},
		{"copied by a condition into a decimal", as("x ?? 5", short), `{"x":1000}`, `error range`},
		{"null in a decimal", as("dec", short), `{"dec":null}`, `{"v":null}`},
		{"decimals within a list are as they are", as("[dec, dec]", types.ListOf(short)), `{"dec":1000.25}`, `{"v":[1000.25,1000.25]}`},
		{"bytes", as("bin", types.BytesType), `{"bin":"YcOx"}`, `{"v":"YcOx"}`},
		{"copied bytes", as("bin", types.BytesType), `{"bin":"\/w=="}`, `{"v":"\/w=="}`},
		{"bytes are no text", as("len(bin)", types.IntType), `{"bin":"YcOx"}`, `{"v":3}`},
		{"no base64", as("bin", types.BytesType), `{"bin":"*"}`, `error type`},
	})
}

func TestViolations(t *testing.T) {
	in := types.ObjectOf(types.Field{Name: "a", Type: types.IntType}, types.Field{Name: "b", Type: types.IntType, Optional: true},
		types.Field{Name: "d", Type: types.ObjectOf(types.Field{Name: "x", Type: types.IntType}), Optional: true}, types.Field{Name: "unread", Type: types.IntType})
	e := program(t, &ir.Route{Input: in, Format: ir.JSON, HasProject: true, Project: fields(t, in, "a", "a", "b", "b", "x", "d.x")}).NewEval()
	for _, c := range []struct {
		event string
		want  int64
	}{{`{"a":1}`, 0}, {`{}`, 1}, {`{"a":null}`, 1}, {`{"a":1,"d":{}}`, 1}, {`{"d":{"x":null}}`, 2}, {`{"a":1,"d":null}`, 0}} {
		e.Violations = 0
		var out record.Batch
		if _, err := e.Run(&record.Batch{Records: []record.Record{{Value: []byte(c.event)}}}, 0, &out); err != nil {
			t.Fatal(err)
		}
		if e.Violations != c.want {
			t.Errorf("%s: %d violations, want %d", c.event, e.Violations, c.want)
		}
	}
}

func TestDefects(t *testing.T) {
	e := program(t, &ir.Route{Format: ir.JSON}).NewEval()
	var out record.Batch
	v, err := e.Run(&record.Batch{Records: []record.Record{{Value: []byte("{}"), Bad: record.TooLarge}}}, 0, &out)
	if v != eval.Failed || err.Code != "too_large" || len(out.Records) != 0 {
		t.Errorf("got %d %v with %d records", v, err, len(out.Records))
	}
}
