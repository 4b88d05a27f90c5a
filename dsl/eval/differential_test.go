package eval_test

import (
	"bytes"
	"fmt"
	"math/big"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"keystone/configs/diag"
	"keystone/dsl/check"
	"keystone/dsl/eval"
	"keystone/dsl/ir"
	"keystone/dsl/reference"
	"keystone/dsl/types"
	"keystone/pipeline/record"
)

// maker makes random expressions and events over the fields of one schema.
type maker struct {
	r     *rand.Rand
	elems int // predicates around
	vars  int
}

func (g *maker) pick(s ...string) string { return s[g.r.IntN(len(s))] }

var schema = types.ObjectOf(
	types.Field{Name: "i", Type: types.IntType},
	types.Field{Name: "f", Type: types.FloatType},
	types.Field{Name: "s", Type: types.StringType},
	types.Field{Name: "b", Type: types.BoolType},
	types.Field{Name: "ms", Type: types.TimestampMsType},
	types.Field{Name: "rfc", Type: types.TimestampRFC},
	types.Field{Name: "day", Type: types.DateType},
	types.Field{Name: "bin", Type: types.BytesType},
	types.Field{Name: "l", Type: types.ListOf(types.IntType)},
	types.Field{Name: "lt", Type: types.ListOf(types.TimestampRFC)},
	types.Field{Name: "m", Type: types.MapOf(types.StringType)},
	types.Field{Name: "o", Type: types.ObjectOf(types.Field{Name: "s", Type: types.StringType}, types.Field{Name: "i", Type: types.IntType})},
	types.Field{Name: "x", Type: types.AnyType},
)

func (g *maker) expr(depth int) string {
	if depth == 0 || g.r.IntN(8) == 0 {
		return g.leaf()
	}
	e := func() string { return g.expr(depth - 1) }
	switch g.r.IntN(17) {
	case 0, 1:
		return "(" + e() + " " + g.pick("+", "-", "*", "/", "%", "**") + " " + e() + ")"
	case 2, 3:
		return "(" + e() + " " + g.pick("==", "!=", "<", "<=", ">", ">=") + " " + e() + ")"
	case 4:
		return "(" + e() + " " + g.pick("&&", "||") + " " + e() + ")"
	case 5:
		return "(" + e() + " " + g.pick("in", "contains", "startsWith", "endsWith", "not in") + " " + e() + ")"
	case 6:
		return "(" + e() + " ? " + e() + " : " + e() + ")"
	case 7:
		return "(" + e() + " ?? " + e() + ")"
	case 8:
		return g.pick("!", "-") + "(" + e() + ")"
	case 9:
		return "[" + e() + ", " + e() + "]"
	case 10:
		return "{a: " + e() + ", b: " + e() + "}"
	case 11:
		return "(" + e() + ")" + g.pick(".s", ".i", "[0]", "[-1]", "[1]", "['s']", "[1:]", "[:2]", "[-2:-1]", "["+g.leaf()+"]")
	case 12:
		g.vars++
		name := fmt.Sprintf("v%d", g.vars)
		bound := e()
		body := strings.ReplaceAll(e(), "meta.offset", name)
		return "(let " + name + " = " + bound + "; " + body + " ?? " + name + ")"
	case 13, 14:
		return g.overList(depth)
	}
	return g.call(depth)
}

func (g *maker) overList(depth int) string {
	list := g.pick("l", "lt", "x", "[1, 2.5, nil]", "['b', 'a']", "[{s: 'q', i: 1}, {s: 'p'}]", "1..3", g.expr(depth-1))
	g.elems++
	body := g.expr(depth - 1)
	f := g.pick("all", "any", "none", "one", "filter", "map", "count", "sum", "find", "findIndex", "findLast", "findLastIndex", "groupBy", "sortBy", "reduce")
	if f == "reduce" {
		body = g.pick("#acc + #", "#acc ?? #", "[#acc, "+body+"]")
	}
	g.elems--
	return f + "(" + list + ", " + body + ")"
}

func (g *maker) call(depth int) string {
	var fs []*ir.Func
	for _, f := range ir.Functions() {
		if f.Predicate < 0 && f.Name != "now" {
			fs = append(fs, f)
		}
	}
	f := fs[g.r.IntN(len(fs))]
	if len(f.ConstArgs) > 0 { // the examples have constants that fit
		return f.Examples[g.r.IntN(len(f.Examples))].Expr
	}
	n := f.MinArgs
	if f.MaxArgs > n {
		n += g.r.IntN(f.MaxArgs - n + 1)
	} else if f.MaxArgs < 0 {
		n += g.r.IntN(3)
	}
	args := make([]string, n)
	for i := range args {
		args[i] = g.expr(depth - 1)
	}
	return f.Name + "(" + strings.Join(args, ", ") + ")"
}

func (g *maker) leaf() string {
	if g.elems > 0 && g.r.IntN(2) == 0 {
		return g.pick("#", "#", ".s", "#index", "#.i")
	}
	switch g.r.IntN(3) {
	case 0:
		return g.pick("1", "0", "2.5", "-3", "'a'", "'ñb'", "''", "true", "false", "nil", "9223372036854775807", "1e300", "0.1", "'1'", "'2020-01-02T03:04:05Z'")
	case 1:
		return g.pick("i", "f", "s", "b", "ms", "rfc", "day", "bin", "l", "lt", "m", "o", "x", "o.s", "o.i", "m.k", "l[0]", "l[-1]", "lt[0]")
	}
	return g.pick("x", "x.s", "x[0]", "x[-1].s", "event.i", "meta.offset", "meta.timestamp", "meta.key", "meta.headers.h", "meta.topic", "i", "s", "event")
}

var samples = map[string][]string{
	"i":   {"1", "-7", "9223372036854775807", "0", "-9223372036854775808"},
	"f":   {"1", "2.5", "-0.0", "1e10", "12345678901234567890", "0.1"},
	"s":   {`"a"`, `"ñb"`, `""`, `"\u00e1\n\ud83d\ude00"`, `"1.5"`, `"2020-01-02T03:04:05Z"`, `"\ud800"`},
	"b":   {"true", "false"},
	"ms":  {"0", "1700000000123", "-1"},
	"rfc": {`"2020-02-29T12:00:00.25+02:00"`, `"1969-12-31T23:59:59Z"`, `"2024-01-01T00:00:00Z"`},
	"day": {`"2020-02-29"`, `"9999-12-31"`},
	"bin": {`"YcOx"`, `""`},
	"l":   {"[]", "[1,2,3]", "[ 5 , null ]", `[1,"a"]`},
	"lt":  {`["2024-01-01T00:00:00Z","2020-02-29T12:00:00Z"]`, "[]"},
	"m":   {`{"k":"v","s":"w"}`, "{}"},
	"o":   {`{"s":"q","i":4}`, `{"i":1,"i":2}`, "{}"},
	"x":   {"1", "1.0", "1e2", `"a"`, "null", "[1,[2],{\"s\":1}]", `{"s":[1.50,"\u0041"]}`, "true", "12345678901234567890", `"ñ"`, "-0"},
}

// event makes an event; now and then a field is missing, null or of another type.
func (g *maker) event() string {
	var parts []string
	for _, f := range schema.Fields {
		switch g.r.IntN(12) {
		case 0:
			continue
		case 1:
			parts = append(parts, fmt.Sprintf("%q:null", f.Name))
			continue
		case 2:
			s := samples["x"]
			parts = append(parts, fmt.Sprintf("%q: %s", f.Name, s[g.r.IntN(len(s))]))
			continue
		}
		s := samples[f.Name]
		parts = append(parts, fmt.Sprintf("%q:%s", f.Name, s[g.r.IntN(len(s))]))
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// same compares JSON by value: numbers exactly, members in order.
func same(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	x, err1 := plain(a)
	y, err2 := plain(b)
	return err1 == nil && err2 == nil && reflect.DeepEqual(x, y)
}

func plain(doc []byte) (any, error) {
	v, err := reference.Decode(doc)
	if err != nil {
		return nil, err
	}
	return simplify(v), nil
}

func simplify(v any) any {
	switch v := v.(type) {
	case reference.Number:
		if r, ok := new(big.Rat).SetString(string(v)); ok {
			if f, _ := r.Float64(); !r.IsInt() || len(v) > 18 {
				return fmt.Sprint(f)
			}
			return r.RatString()
		}
	case []any:
		for i := range v {
			v[i] = simplify(v[i])
		}
	case *reference.Object:
		out := []any{"{"}
		for _, n := range v.Names {
			out = append(out, n, simplify(v.Values[n]))
		}
		return out
	}
	return v
}

func compareWithReference(t *testing.T, seed uint64) (checked bool) {
	g := &maker{r: rand.New(rand.NewPCG(seed, 1))}
	input := types.AnyType
	if seed%2 == 0 {
		input = schema
	}
	text := g.expr(1 + g.r.IntN(4))
	e, diags := check.Expr(diag.Text{S: text}, check.Env{Event: input})
	if diags.HasErrors() {
		return false
	}
	p, err := eval.CompileExpr(e, input)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	ev := p.NewEval()
	for range 4 {
		doc := g.event()
		rec := &record.Record{Value: []byte(doc), Offset: 7, Timestamp: 1700000000123, Key: []byte("k"), Headers: []record.Header{{Key: "h", Value: []byte("1")}}}
		got, fail := ev.Append(nil, "plays", 3, rec)
		want, code := interpret(t, e, doc)
		gotCode := ""
		if fail != nil {
			gotCode = fail.Code
		}
		if gotCode != code || code == "" && !same(got, want) {
			t.Errorf("seed %d: %s\non %s\ngives %s %v\nwant  %s %s", seed, text, doc, got, fail, want, code)
		}
	}
	return true
}

func interpret(t *testing.T, e *ir.Expr, doc string) ([]byte, string) {
	event, err := reference.Decode([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	headers := reference.NewObject()
	headers.Put("h", "1")
	in := reference.Input{Event: event, Meta: map[string]any{"topic": "plays", "partition": int64(3), "offset": int64(7),
		"timestamp": time.UnixMilli(1700000000123).UTC(), "key": "k", "headers": headers, "tombstone": false}}
	v, fail := reference.Written(e.Root, in, e.Root.Type)
	if fail == nil {
		var out []byte
		if out, fail = reference.Append(nil, v, e.Root.Type); fail == nil {
			return out, ""
		}
	}
	return nil, fail.Code
}

func TestDifferential(t *testing.T) {
	n := uint64(10000)
	if testing.Short() {
		n = 2000
	}
	checked := 0
	for seed := range n {
		if compareWithReference(t, seed) {
			checked++
		}
	}
	if checked < int(n/20) {
		t.Errorf("only %d of %d expressions passed the checker", checked, n)
	}
	t.Logf("%d of %d expressions compared", checked, n)
}

func FuzzDifferential(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) { compareWithReference(t, seed) })
}
