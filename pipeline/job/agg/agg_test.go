package agg

import (
	"encoding/json"
	"strings"
	"testing"

	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/dsl"
	"keystone/dsl/check"
	"keystone/dsl/eval"
	"keystone/dsl/ir"
	"keystone/dsl/types"
	"keystone/pipeline/record"
)

var input = types.ObjectOf(
	types.Field{Name: "i", Type: types.IntType},
	types.Field{Name: "f", Type: types.FloatType},
	types.Field{Name: "s", Type: types.StringType},
	types.Field{Name: "t", Type: types.TimestampMsType},
	types.Field{Name: "rfc", Type: types.TimestampRFC},
	types.Field{Name: "d", Type: types.Type{Kind: types.Decimal, Precision: 10, Scale: 2}},
	types.Field{Name: "l", Type: types.ListOf(types.IntType)},
	types.Field{Name: "x", Type: types.AnyType},
)

// made is a call as a test writes it.
type made struct {
	call, arg, where string
	params           []any
}

func expression(t testing.TB, text string, in types.Type) *ir.Expr {
	t.Helper()
	e, diags := check.Expr(diag.Text{S: text}, check.Env{Event: in})
	if diags.HasErrors() {
		t.Fatalf("%s: %v", text, diags.Err())
	}
	return e
}

// resultOf gives the type of a call's result.
func resultOf(name string, arg types.Type) types.Type {
	switch name {
	case "count", "count_distinct", "approx_count_distinct":
		return types.IntType
	case "avg", "stddev", "percentile":
		return types.FloatType
	case "sum":
		if arg.Kind == types.Decimal {
			return types.FloatType
		}
	case "collect":
		return types.ListOf(arg)
	case "top_k":
		return types.ListOf(types.ObjectOf(types.Field{Name: "value", Type: arg}, types.Field{Name: "count", Type: types.IntType}))
	}
	return arg
}

func aggregationOf(t testing.TB, calls ...made) *ir.Aggregation {
	t.Helper()
	a := &ir.Aggregation{Results: types.Type{Kind: types.Object}}
	for i, m := range calls {
		c := ir.AggCall{Func: m.call, Params: m.params, Text: diag.Text{S: m.call}}
		typ := types.AnyType
		if m.arg != "" {
			c.Args = []*ir.Expr{expression(t, m.arg, input)}
			typ = c.Args[0].Root.Type
		}
		if m.where != "" {
			c.Where = expression(t, m.where, input)
		}
		c.Type = resultOf(m.call, typ)
		a.Calls = append(a.Calls, c)
		a.Results.Fields = append(a.Results.Fields, types.Field{Name: ir.AggField(i), Type: c.Type})
	}
	for i := range a.Calls {
		a.Row = append(a.Row, ir.Output{Name: "r" + ir.AggField(i)[1:], Expr: expression(t, ir.AggField(i), a.Results), Type: a.Calls[i].Type})
	}
	return a
}

func planOf(t testing.TB, calls ...made) *Plan {
	t.Helper()
	p, err := Compile(aggregationOf(t, calls...), input)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// row is what a state is told of one row.
type row struct {
	payload []byte
	at      Order
}

// extractor makes payloads of documents.
type extractor struct {
	p *Plan
	e *eval.RowEval
}

func extractorOf(t testing.TB, p *Plan) *extractor {
	t.Helper()
	prog, err := eval.CompileRow(append([]*ir.Expr{expression(t, "meta.offset", input)}, p.Exprs()...), input)
	if err != nil {
		t.Fatal(err)
	}
	return &extractor{p, prog.NewEval()}
}

func (x *extractor) extract(t testing.TB, doc string) ([]byte, *eval.Error) {
	t.Helper()
	if err := x.e.Begin("t", 0, &record.Record{Value: []byte(doc)}); err != nil {
		t.Fatal(doc, err)
	}
	return x.p.Extract(x.e, 1, nil)
}

func (x *extractor) rows(t testing.TB, docs ...string) []row {
	t.Helper()
	var out []row
	for i, doc := range docs {
		payload, err := x.extract(t, doc)
		if err != nil {
			t.Fatal(doc, err)
		}
		out = append(out, row{payload, Order{Time: int64(1000 + i), Tie: Tie{Offset: int64(i)}}})
	}
	return out
}

func add(t testing.TB, s *State, rows ...row) {
	t.Helper()
	for _, r := range rows {
		if err := s.Add(r.payload, r.at); err != nil {
			t.Fatal(err)
		}
	}
}

// written gives the fields of a state, or the code of the error.
func written(p *Plan, s *State) string {
	out, err := p.NewWriter().AppendFields(nil, s)
	if err != nil {
		return err.Code
	}
	return string(out)
}

func reloaded(t testing.TB, p *Plan, s *State) *State {
	t.Helper()
	b := s.Append(nil)
	o := p.New()
	add(t, o, row{at: Order{}}.none(p)...) // what was there does not matter
	if err := o.Decode(b); err != nil {
		t.Fatalf("%x: %v", b, err)
	}
	if again := o.Append(nil); string(again) != string(b) {
		t.Fatalf("a state is kept as\n%x, and read and kept again as\n%x", b, again)
	}
	return o
}

// none gives a row of nil values, if each call needs one.
func (r row) none(p *Plan) []row {
	for i := range p.calls {
		if p.calls[i].op != opCount {
			r.payload = eval.AppendNilValue(r.payload)
		}
	}
	return []row{r}
}

func TestResults(t *testing.T) {
	for _, c := range []struct {
		call made
		rows string // values of one field: FIELD: v v v
		want string
	}{
		{made{call: "count"}, "x: 1 null 2", "3"},
		{made{call: "count", arg: "x"}, "x: 1 null 2", "2"},
		{made{call: "count", where: "x > 1"}, "x: 1 null 2", "1"},
		{made{call: "count", arg: "x", where: "x != 1"}, "x: 1 null 2 3", "2"},
		{made{call: "count"}, "x:", "0"},
		{made{call: "sum", arg: "i"}, "i: 1 null 2", "3"},
		{made{call: "sum", arg: "i"}, "i: null", "null"},
		{made{call: "sum", arg: "i", where: "i > 5"}, "i: 1 2", "null"},
		{made{call: "sum", arg: "i"}, "i: 9223372036854775807 1 -5", "9223372036854775803"},
		{made{call: "sum", arg: "i"}, "i: 9223372036854775807 1", ir.CodeOverflow},
		{made{call: "sum", arg: "i"}, "i: -9223372036854775808 0", "-9223372036854775808"},
		{made{call: "sum", arg: "i"}, "i: -9223372036854775808 -1", ir.CodeOverflow},
		{made{call: "sum", arg: "x"}, "x: 0.1 0.2 0.3", "0.6"},
		{made{call: "sum", arg: "x"}, "x: 0.1 0.2 0.3 -0.6", "2.7755575615628914e-17"},
		{made{call: "sum", arg: "x"}, "x: 1 2", "3"},
		{made{call: "sum", arg: "x"}, "x: 1 0.5 0.5", "2"},
		{made{call: "sum", arg: "f"}, "f: 1e308 1e308 -1e308", "1e+308"},
		{made{call: "sum", arg: "f"}, "f: 1e308 1e308", ir.CodeOverflow},
		{made{call: "sum", arg: "f"}, "f: 1e100 1 -1e100", "1"},
		{made{call: "sum", arg: "f"}, "f: 5e-324 5e-324 1e300 -1e300", "1e-323"},
		{made{call: "sum", arg: "f"}, "f: 9e18 9e18", "18000000000000000000"},
		{made{call: "sum", arg: "d"}, "d: 1.10 2.20", "3.3000000000000003"},
		{made{call: "avg", arg: "i"}, "i: 1 null 2", "1.5"},
		{made{call: "avg", arg: "i"}, "i: 9223372036854775807 9223372036854775807", "9223372036854776000"},
		{made{call: "avg", arg: "f"}, "f: 0.1 0.2 0.3", "0.2"},
		{made{call: "avg", arg: "f"}, "f: 1.7e308 1.7e308", "1.7e+308"},
		{made{call: "avg", arg: "x"}, "x: null", "null"},
		{made{call: "min", arg: "x"}, "x: 3 1 2.5", "1"},
		{made{call: "max", arg: "x"}, `x: "b" "a"`, `"b"`},
		{made{call: "max", arg: "x"}, `x: 5 "a" true null`, `"a"`},
		{made{call: "min", arg: "x"}, `x: 5 "a" true null`, `true`},
		{made{call: "min", arg: "f"}, "f: 3 2.5 2.75 9e300", "2.5"},
		{made{call: "max", arg: "i"}, "i: -3 -9223372036854775808 null", "-3"},
		{made{call: "min", arg: "d"}, "d: 3 2.5", "2.50"},
		{made{call: "min", arg: "t"}, "t: 1700000000123 1700000000122", "1700000000122"},
		{made{call: "max", arg: "rfc"}, `rfc: "2024-01-01T00:00:00Z" "2024-01-01T00:00:00.5+01:00"`, `"2024-01-01T00:00:00Z"`},
		{made{call: "max", arg: "s"}, "s:", "null"},
		{made{call: "first", arg: "x"}, "x: null 3 1", "3"},
		{made{call: "last", arg: "x"}, "x: 3 1 null", "1"},
		{made{call: "first", arg: "x"}, `x: {"b":1,"a":[1.0]} 1`, `{"a":[1],"b":1}`},
		{made{call: "any_value", arg: "x"}, "x: null 7 7.0", "7"},
		{made{call: "count_distinct", arg: "x"}, `x: "a" "b" "\u0061" null 1 1.0`, "3"},
		{made{call: "count_distinct", arg: "x"}, "x:", "0"},
		{made{call: "approx_count_distinct", arg: "x"}, `x: "a" "b" "a" null`, "2"},
		{made{call: "approx_count_distinct", arg: "x"}, "x: null", "0"},
		{made{call: "collect", arg: "x", params: []any{int64(2)}}, "x: 3 null 1 2", "[3,1]"},
		{made{call: "collect", arg: "t", params: []any{int64(9)}}, "t: 3 4", "[3,4]"},
		{made{call: "collect", arg: "x", params: []any{int64(2)}}, "x:", "[]"},
		{made{call: "top_k", arg: "x", params: []any{int64(2)}}, `x: "a" "b" "b" 1 1 1 null`, `[{"value":1,"count":3},{"value":"b","count":2}]`},
		{made{call: "top_k", arg: "x", params: []any{int64(2)}}, `x: "c" "b" "a"`, `[{"value":"a","count":1},{"value":"b","count":1}]`},
		{made{call: "top_k", arg: "x", params: []any{int64(2)}}, "x:", "[]"},
		{made{call: "percentile", arg: "x", params: []any{0.5}}, "x: null", "null"},
		{made{call: "percentile", arg: "i", params: []any{0.0}}, "i: 17 15 1000", "15"},
		{made{call: "percentile", arg: "i", params: []any{1.0}}, "i: 17 15 1000", "1000"},
		{made{call: "percentile", arg: "i", params: []any{0.5}}, "i: 64 1 1000", "64.5"},
		{made{call: "percentile", arg: "f", params: []any{0.5}}, "f: -64 0 -0.0 1000", "0"},
		{made{call: "stddev", arg: "i"}, "i: 2 4", "1.4142135623730951"},
		{made{call: "stddev", arg: "x"}, "x: 2", "null"},
		{made{call: "stddev", arg: "f"}, "f: 1e9 1000000001 1000000002", "1"},
		{made{call: "stddev", arg: "f"}, "f: 0.1 0.1 0.1", "0"},
		{made{call: "stddev", arg: "f"}, "f: 1e200 -1e200", "1.414213562373095e+200"},
		{made{call: "stddev", arg: "f"}, "f: 1.7e308 -1.7e308", ir.CodeOverflow},
	} {
		p := planOf(t, c.call)
		field, list, _ := strings.Cut(c.rows, ":")
		var docs []string
		for _, v := range strings.Fields(list) {
			docs = append(docs, `{"`+field+`":`+v+`}`)
		}
		rows := extractorOf(t, p).rows(t, docs...)
		s := p.New()
		add(t, s, rows...)
		want := c.want
		if !strings.Contains(" "+ir.CodeOverflow+" ", " "+want+" ") {
			want = `"r0":` + want
		}
		if got := written(p, s); got != want {
			t.Errorf("%s(%s, where %s) of %s is %s, want %s", c.call.call, c.call.arg, c.call.where, c.rows, got, want)
		}
		if got := written(p, reloaded(t, p, s)); got != want {
			t.Errorf("%s(%s) of %s is %s when it was kept, want %s", c.call.call, c.call.arg, c.rows, got, want)
		}
	}
}

func TestCombined(t *testing.T) {
	a := aggregationOf(t, made{call: "sum", arg: "i"}, made{call: "count"}, made{call: "max", arg: "d"})
	a.Row = []ir.Output{{Name: "mean", Expr: expression(t, "a0 / a1", a.Results), Type: types.FloatType}, {Name: "n", Expr: expression(t, "a1", a.Results), Type: types.IntType},
		{Name: "o", IsObject: true, Object: []ir.Output{{Name: "d", Expr: expression(t, "a2", a.Results), Type: a.Calls[2].Type}, {Name: "one", Lit: int64(1), Type: types.IntType}}}}
	p, err := Compile(a, input)
	if err != nil {
		t.Fatal(err)
	}
	s := p.New()
	if got := written(p, s); got != ir.CodeDivisionByZero && got != `"mean":null,"n":0,"o":{"d":null,"one":1}` {
		t.Errorf("of no rows the fields are %s", got)
	}
	add(t, s, extractorOf(t, p).rows(t, `{"i":3,"d":1.5}`, `{"i":4,"d":2}`)...)
	if got, want := written(p, s), `"mean":3.5,"n":2,"o":{"d":2.00,"one":1}`; got != want {
		t.Errorf("the fields are %s, want %s", got, want)
	}
}

func TestWrongArguments(t *testing.T) {
	for _, c := range []struct {
		call made
		doc  string
		code string
	}{
		{made{call: "sum", arg: "x"}, `{"x":"1"}`, ir.CodeType},
		{made{call: "sum", arg: "x", where: "s == 'a'"}, `{"x":"1"}`, ""},
		{made{call: "sum", arg: "i"}, `{"i":1.5}`, ir.CodeType},
		{made{call: "max", arg: "x"}, `{"x":[1]}`, ir.CodeType},
		{made{call: "percentile", arg: "x", params: []any{0.5}}, `{"x":true}`, ir.CodeType},
		{made{call: "avg", arg: "x"}, `{"x":1e999}`, ir.CodeRange},
		{made{call: "count", where: "x"}, `{"x":3}`, ir.CodeType},
		{made{call: "count_distinct", arg: "x"}, `{"x":{"y":[1e999]}}`, ir.CodeRange},
	} {
		p := planOf(t, c.call)
		_, err := extractorOf(t, p).extract(t, c.doc)
		if code := ""; (err != nil || c.code != code) && (err == nil || err.Code != c.code) {
			t.Errorf("%s(%s) of %s gives %v, want %q", c.call.call, c.call.arg, c.doc, err, c.code)
		}
	}
	for _, m := range []made{{call: "percentile", arg: "x"}, {call: "percentile", arg: "x", params: []any{2.0}}, {call: "collect", arg: "x", params: []any{int64(0)}}, {call: "sum"}, {call: "median", arg: "x"}, {call: "sum", arg: "x", params: []any{1}}} {
		if _, err := Compile(aggregationOf(t, m), input); err == nil {
			t.Errorf("%v was compiled", m)
		}
	}
	p := planOf(t, made{call: "sum", arg: "i"}, made{call: "count", arg: "s"})
	for _, payload := range [][]byte{nil, {0x20}, {0x20, 0x03, 0x01}, {0x03, 0x03}, {0x20, 0x20}, {0x07, 0x80, 0, 0, 0, 0, 0, 0, 0, 0x03}} {
		if err := p.New().Add(payload, Order{}); err == nil {
			t.Errorf("the payload %x was taken", payload)
		}
	}
}

// TestExamples runs the examples of the reference, as they are checked in a configuration.
func TestExamples(t *testing.T) {
	n := 0
	for _, a := range ir.Aggregates() {
		for _, e := range a.Examples {
			for _, in := range []types.Type{types.AnyType, types.ObjectOf(types.Field{Name: "x", Type: types.AnyType})} {
				row := []spec.Field{{Name: "r", Expr: diag.Text{S: e.Expr}}}
				ag, diags := dsl.CheckAggregation(row, dsl.Env{Event: in})
				if diags.HasErrors() {
					t.Errorf("%s: %v", e.Expr, diags.Err())
					continue
				}
				p, err := Compile(ag, in)
				if err != nil {
					t.Errorf("%s: %v", e.Expr, err)
					continue
				}
				var list []json.RawMessage
				if err := json.Unmarshal([]byte(e.Rows), &list); err != nil {
					t.Fatal(err)
				}
				var docs []string
				for _, x := range list {
					docs = append(docs, `{"x":`+string(x)+`}`)
				}
				s := p.New()
				add(t, s, extractorOf(t, p).rows(t, docs...)...)
				if got, want := written(p, reloaded(t, p, s)), `"r":`+e.Want; got != want {
					t.Errorf("%s of %s is %s, want %s", e.Expr, e.Rows, got, want)
				}
				n++
			}
		}
	}
	if n < 40 {
		t.Errorf("only %d examples ran", n)
	}
}
