package eval_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"keystone/configs/diag"
	"keystone/dsl/check"
	"keystone/dsl/eval"
	"keystone/dsl/ir"
	"keystone/dsl/types"
	"keystone/pipeline/record"
)

// rowOf compiles texts into one program; nil if one of them is not accepted by the checker.
func rowOf(t testing.TB, input types.Type, texts ...string) (*eval.RowProgram, []*ir.Expr) {
	t.Helper()
	var list []*ir.Expr
	for _, text := range texts {
		e, diags := check.Expr(diag.Text{S: text}, check.Env{Event: input})
		if diags.HasErrors() {
			return nil, nil
		}
		list = append(list, e)
	}
	p, err := eval.CompileRow(list, input)
	if err != nil {
		t.Fatalf("%s: %v", strings.Join(texts, "; "), err)
	}
	return p, list
}

func begun(t testing.TB, p *eval.RowProgram, doc string) *eval.RowEval {
	t.Helper()
	e := p.NewEval()
	begin(t, e, doc)
	return e
}

func begin(t testing.TB, e *eval.RowEval, doc string) {
	t.Helper()
	rec := &record.Record{Value: []byte(doc), Offset: 7, Timestamp: 1700000000123, Key: []byte("k"), Headers: []record.Header{{Key: "h", Value: []byte("1")}}}
	if fail := e.Begin("plays", 3, rec); fail != nil {
		t.Fatal(fail)
	}
}

func compareRowWithReference(t *testing.T, seed uint64) bool {
	g := &maker{r: rand.New(rand.NewPCG(seed, 2))}
	input := types.AnyType
	if seed%2 == 0 {
		input = schema
	}
	texts := []string{g.expr(g.r.IntN(4)), g.expr(g.r.IntN(3)), g.leaf()}
	p, exprs := rowOf(t, input, texts...)
	if p == nil {
		return false
	}
	ev := p.NewEval()
	for range 4 {
		doc := g.event()
		begin(t, ev, doc)
		for range 5 { // in any order, some twice
			i := g.r.IntN(len(texts))
			want, code := interpret(t, exprs[i], doc)
			got, fail := ev.AppendJSON(nil, i)
			if codeOf(fail) != code || code == "" && !same(got, want) {
				t.Errorf("seed %d: %s\non %s\nis JSON %s %v\nwant    %s %s", seed, texts[i], doc, got, fail, want, code)
			}
			enc, fail := ev.AppendValue([]byte("lead"), i)
			if code == "" && codeOf(fail) == ir.CodeRange && strings.Contains(doc, "e999") { // JSON that is only copied is not read
				continue
			}
			if codeOf(fail) != code {
				t.Errorf("seed %d: %s\non %s\nencoding it gives %v, want %q", seed, texts[i], doc, fail, code)
				continue
			}
			if code != "" {
				continue
			}
			if n := eval.SizeOfValue(enc[4:]); n != len(enc)-4 {
				t.Errorf("seed %d: %s\non %s\nis encoded as %x, of which the size is %d", seed, texts[i], doc, enc[4:], n)
				continue
			}
			computed := ir.Expr{Root: &ir.Node{Op: ir.Coalesce, Type: exprs[i].Root.Type, Kids: []*ir.Node{exprs[i].Root, {Op: ir.Const}}}} // and not copied
			want, _ = interpret(t, &computed, doc)
			got, rest := eval.JSONOfValue(nil, append(enc[4:], "rest"...), exprs[i].Root.Type)
			if string(rest) != "rest" || !same(sortedJSON(t, got), sortedJSON(t, want)) {
				t.Errorf("seed %d: %s\non %s\nis encoded as %s\nwant          %s", seed, texts[i], doc, got, want)
			}
		}
	}
	return true
}

func codeOf(err *eval.Error) string {
	if err == nil {
		return ""
	}
	return err.Code
}

// sortedJSON gives JSON with the members of objects by name.
func sortedJSON(t testing.TB, doc []byte) []byte {
	t.Helper()
	p, _ := rowOf(t, types.AnyType, "v")
	e := begun(t, p, `{"v":`+string(doc)+`}`)
	enc, fail := e.AppendValue(nil, 0)
	if fail != nil {
		t.Fatal(fail)
	}
	out, _ := eval.JSONOfValue(nil, enc, types.AnyType)
	return out
}

func TestRowIsReference(t *testing.T) {
	n := uint64(6000)
	if testing.Short() {
		n = 1500
	}
	checked := 0
	for seed := range n {
		if compareRowWithReference(t, seed) {
			checked++
		}
	}
	if checked < int(n/50) {
		t.Errorf("only %d of %d programs passed the checker", checked, n)
	}
	t.Logf("%d of %d programs compared", checked, n)
}

func FuzzRow(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) { compareRowWithReference(t, seed) })
}

// values are JSON values of which many are equal to others.
var values = []string{"null", "true", "false", "0", "-0", "-0.0", "0e5", "1", "1.0", "1e0", "10e-1", "-1", "-1.0", "1.5", "15e-1", "255", "256", "-255", "-256", "-257", "65536",
	"9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9.223372036854775808e18", "9223372036854775807.0", "9.2e18", "9200000000000000000", "12345678901234567890",
	"12345678901234567891", "1e300", "1.0e300", "-1e-300", "4e-324", "9007199254740993", "9007199254740992", "9007199254740993.0",
	`""`, `"a"`, `"\u0061"`, `"\ud83d\ude00"`, `"😀"`, `"\ud800"`, `"\ufffd"`, `"1"`, `"2024-01-01T00:00:00Z"`, `"a\u0000b"`,
	"[]", "[1]", "[1.0]", "[ 1 , 2 ]", "[1,2]", "[[1],2]", "[null]", `["\u0061"]`, `["a"]`,
	"{}", `{"a":1}`, `{"a":1.0}`, `{"\u0061":1}`, `{"a":2,"a":1}`, `{"a":1,"b":2}`, `{ "b" : 2.0 , "a" : 1 }`, `{"b":2,"a":3,"a":1}`, `{"b":{"y":1,"x":[2]}}`, `{"b":{"x":[2.0],"y":1e0}}`, `{"":0}`, `{"ab":1,"a":{"b":1}}`}

// TestEqualBytes holds the encoding to ==.
func TestEqualBytes(t *testing.T) {
	p, _ := rowOf(t, types.AnyType, "a", "b", "a == b", "[a, 'x', {k: a}]", "[b, 'x', {k: b}]", "{z: a, y: [b, a]} == {y: [b, b], z: b}", "{z: a, y: [b, a]}", "{y: [b, b], z: b}")
	e := p.NewEval()
	for _, a := range values {
		for _, b := range values {
			begin(t, e, `{"a":`+a+`, "b": `+b+` }`)
			for _, c := range [][3]int{{0, 1, 2}, {3, 4, 2}, {6, 7, 5}} {
				x, fail1 := e.AppendValue(nil, c[0])
				y, fail2 := e.AppendValue(nil, c[1])
				equal, fail3 := e.True(c[2])
				if fail1 != nil || fail2 != nil || fail3 != nil {
					t.Fatal(a, b, fail1, fail2, fail3)
				}
				if equal != bytes.Equal(x, y) || equal != (eval.CompareValues(x, y) == 0) {
					t.Errorf("%s == %s is %t, and the bytes are %x and %x", a, b, equal, x, y)
				}
			}
		}
	}
}

// TestValueOrder holds CompareValues to <.
func TestValueOrder(t *testing.T) {
	p, _ := rowOf(t, types.AnyType, "a", "b", "a < b")
	e := p.NewEval()
	compared := 0
	for _, a := range values {
		for _, b := range values {
			begin(t, e, `{"a":`+a+`,"b":`+b+`}`)
			x, _ := e.AppendValue(nil, 0)
			y, _ := e.AppendValue(nil, 1)
			o := eval.CompareValues(x, y)
			if o != -eval.CompareValues(y, x) && (o < 0) == (eval.CompareValues(y, x) < 0) {
				t.Errorf("%s and %s: %d and %d", a, b, o, eval.CompareValues(y, x))
			}
			if less, fail := e.True(2); fail == nil && eval.KindOfValue(x) != eval.NilValue && eval.KindOfValue(y) != eval.NilValue {
				if compared++; less != (o < 0) {
					t.Errorf("%s < %s is %t, and they compare as %d", a, b, less, o)
				}
			}
		}
	}
	if compared < 1000 {
		t.Errorf("only %d pairs compared", compared)
	}
}

func TestValuesOfTypes(t *testing.T) {
	input := types.ObjectOf(types.Field{Name: "ms", Type: types.TimestampMsType}, types.Field{Name: "rfc", Type: types.TimestampRFC}, types.Field{Name: "day", Type: types.DateType},
		types.Field{Name: "bin", Type: types.BytesType}, types.Field{Name: "d", Type: types.Type{Kind: types.Decimal, Precision: 10, Scale: 2}}, types.Field{Name: "f", Type: types.FloatType}, types.Field{Name: "lt", Type: types.ListOf(types.TimestampMsType)})
	p, exprs := rowOf(t, input, "ms", "rfc", "day", "bin", "d", "f", "[ms, rfc]", "lt", "{t: ms}")
	for doc, want := range map[string]string{
		`{"ms":1700000000123,"rfc":"2023-11-14T23:13:20.123+01:00","day":"2024-02-29","bin":"YcOx","d":1.5,"f":3,"lt":[5,6]}`: `1700000000123 "2023-11-14T22:13:20.123Z" "2024-02-29" "YcOx" 1.50 3 ["2023-11-14T22:13:20.123Z","2023-11-14T22:13:20.123Z"] [5,6] {"t":1700000000123}`,
		`{"ms":-1,"rfc":"1969-12-31T23:59:59.999Z","d":1.005,"f":12345678901234567890}`:                                       `-1 "1969-12-31T23:59:59.999Z" null null 1.005 12345678901234567000 ["1969-12-31T23:59:59.999Z","1969-12-31T23:59:59.999Z"] null {"t":-1}`,
	} {
		e := begun(t, p, doc)
		var got, enc []byte
		for i := range exprs {
			var fail *eval.Error
			if enc, fail = e.AppendValue(enc[:0], i); fail != nil {
				t.Fatal(fail)
			}
			got, _ = eval.JSONOfValue(append(got, ' '), enc, exprs[i].Root.Type)
		}
		if string(got[1:]) != want {
			t.Errorf("%s\ngives %s\nwant  %s", doc, got[1:], want)
		}
	}
	e := begun(t, p, `{"ms":1700000000123,"rfc":"2023-11-14T23:13:20.123+01:00"}`)
	ms, _ := e.AppendValue(nil, 0)
	rfc, _ := e.AppendValue(nil, 1)
	if !bytes.Equal(ms, rfc) {
		t.Errorf("one time in two forms is %x and %x", ms, rfc)
	}
	if _, fail := begun(t, p, `{"d":123456789.5}`).AppendValue(nil, 4); codeOf(fail) != ir.CodeRange {
		t.Errorf("a number beyond its decimal gives %v", fail)
	}
}

func TestRowTime(t *testing.T) {
	input := types.ObjectOf(types.Field{Name: "ms", Type: types.TimestampMsType}, types.Field{Name: "rfc", Type: types.TimestampRFC}, types.Field{Name: "x", Type: types.AnyType})
	p, _ := rowOf(t, input, "ms", "rfc", "x", "meta.timestamp", "ms + 1", "parse_time(x)")
	for _, c := range []struct {
		expr int
		doc  string
		want string
	}{
		{0, `{"ms":1700000000123}`, "1700000000123"},
		{0, `{"ms":-5}`, "-5"},
		{0, `{}`, "nil"},
		{0, `{"ms":253402300800000}`, "range"},
		{0, `{"ms":"5"}`, "type"},
		{0, `{"ms":1.5}`, "type"},
		{1, `{"rfc":"2020-01-01T00:00:00.0019Z"}`, "1577836800001"},
		{1, `{"rfc":"1969-12-31T23:59:59.9999Z"}`, "-1"},
		{2, `{"x":99999999999999}`, "99999999999999"},
		{2, `{"x":253402300799999}`, "253402300799999"},
		{2, `{"x":253402300800000}`, "nil"},
		{2, `{"x":-62167219200001}`, "nil"},
		{2, `{"x":9223372036854775807}`, "nil"},
		{2, `{"x":1.5}`, "type"},
		{2, `{"x":"2020-01-01T00:00:00Z"}`, "type"},
		{2, `{"x":null}`, "nil"},
		{3, `{}`, "1700000000123"},
		{4, `{"ms":1}`, "2"},
		{5, `{"x":"2020-01-01T00:00:00Z"}`, "1577836800000"},
	} {
		ms, ok, fail := begun(t, p, c.doc).Time(c.expr)
		got := fmt.Sprint(ms)
		if fail != nil {
			got = fail.Code
		} else if !ok {
			got = "nil"
		}
		if got != c.want {
			t.Errorf("expression %d on %s is %s, want %s", c.expr, c.doc, got, c.want)
		}
	}
}

func TestRowErrors(t *testing.T) {
	p, _ := rowOf(t, types.ObjectOf(types.Field{Name: "n", Type: types.IntType}), "n > 0", "n")
	e := p.NewEval()
	for doc, code := range map[string]string{`[1]`: ir.CodeDecode, ``: ir.CodeDecode, `{"n":1}x`: ir.CodeDecode, "{\"other\":\"\xff\"}": ir.CodeDecode} {
		if fail := e.Begin("t", 0, &record.Record{Value: []byte(doc)}); codeOf(fail) != code {
			t.Errorf("%q gives %v, want %s", doc, fail, code)
		}
	}
	if fail := e.Begin("t", 0, &record.Record{Bad: record.TooLarge}); codeOf(fail) != record.TooLarge.String() {
		t.Errorf("a record that is too large gives %v", fail)
	}
	begin(t, e, `{"n":"x"}`)
	if _, fail := e.True(0); codeOf(fail) != ir.CodeType {
		t.Errorf("a string as an int gives %v", fail)
	}
	begin(t, e, `{"n":null}`)
	if ok, fail := e.True(0); ok || fail != nil || e.Violations != 1 {
		t.Errorf("nil > 0 is %t, %v, with %d violations", ok, fail, e.Violations)
	}
	if fail := e.Begin("t", 0, &record.Record{}); fail != nil {
		t.Errorf("a null value gives %v", fail)
	}
	if enc, fail := e.AppendValue(nil, 1); fail != nil || eval.KindOfValue(enc) != eval.NilValue {
		t.Errorf("a field of a null value is %x, %v", enc, fail)
	}
}

func TestRowOfHostileDepth(t *testing.T) {
	p, _ := rowOf(t, types.AnyType, "x", "[x]")
	for n, code := range map[int]string{980: "", 990: "", 995: ir.CodeLimit} {
		for _, in := range [][2]string{{"[", "]"}, {`{"b":0,"a":`, "}"}} {
			doc := `{"x":` + strings.Repeat(in[0], n) + "1" + strings.Repeat(in[1], n) + "}"
			enc, fail := begun(t, p, doc).AppendValue(nil, 0)
			if codeOf(fail) != code {
				t.Errorf("%d deep gives %v, want %q", n, fail, code)
			}
			if fail == nil && eval.SizeOfValue(enc) != len(enc) {
				t.Errorf("%d deep is not encoded well", n)
			}
			if _, fail := begun(t, p, doc).AppendValue(nil, 1); n == 990 && codeOf(fail) != ir.CodeLimit {
				t.Errorf("a list around %d levels gives %v", n, fail)
			}
		}
	}
	deep := append(bytes.Repeat([]byte{8}, 10_000), bytes.Repeat([]byte{0}, 10_000)...)
	if n := eval.SizeOfValue(deep); n != -1 {
		t.Errorf("10,000 lists in one another are a value of %d bytes", n)
	}
}

func FuzzValue(f *testing.F) {
	p, _ := rowOf(f, types.AnyType, "v")
	for _, v := range values {
		enc, _ := begun(f, p, `{"v":`+v+`}`).AppendValue(nil, 0)
		f.Add(enc)
	}
	f.Add([]byte{6, 128, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 5})
	f.Add([]byte{5, 1, 0})
	f.Add([]byte{8, 9, 10, 1, 'a', 8, 0, 0, 0})
	f.Fuzz(func(t *testing.T, enc []byte) {
		n := eval.SizeOfValue(enc)
		if n > len(enc) {
			t.Fatalf("a value of %d bytes in %d", n, len(enc))
		}
		for _, typ := range []types.Type{types.AnyType, types.FloatType, types.TimestampMsType, types.DateType, {Kind: types.Decimal, Precision: 5, Scale: 2}, types.ListOf(types.DateType)} {
			_, rest := eval.JSONOfValue(nil, enc, typ)
			if (rest == nil) != (n < 0) || n >= 0 && len(rest) != len(enc)-n {
				t.Fatalf("%d bytes follow a value of %d in %d", len(rest), n, len(enc))
			}
		}
		if n > 0 {
			eval.CompareValues(enc[:n], enc[:n])
		}
	})
}

func TestRowDoesNotAllocate(t *testing.T) {
	p, exprs := rowOf(t, types.AnyType, "u", "n", "n * 2", "f", "o", "l", "n > 1", "u == 'x'", "[u, n, {k: o}]", "esc", "ts")
	if p == nil {
		t.Fatal("the expressions are not accepted")
	}
	e := p.NewEval()
	rec := &record.Record{Value: []byte(`{"ts":1700000000000,"u":"user-1234","n":123456,"f":1.25,"o":{"z":1,"b":{"d":1,"c":[1,2.0,"\u0041"]},"a":"x\ny","z":3},"l":[3,2,1],"esc":"\u0041\n","pad":"0123456789"}`)}
	var dst []byte
	n := testing.AllocsPerRun(50, func() {
		if fail := e.Begin("t", 0, rec); fail != nil {
			t.Fatal(fail)
		}
		for i := range exprs {
			var fail *eval.Error
			if dst, fail = e.AppendValue(dst[:0], i); fail != nil {
				t.Fatal(fail)
			}
			if dst, fail = e.AppendJSON(dst[:0], i); fail != nil {
				t.Fatal(fail)
			}
		}
		_, _ = e.True(6)
		_, _, _ = e.Time(10)
	})
	if n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func TestFieldsProgram(t *testing.T) {
	input := types.ObjectOf(types.Field{Name: "a0", Type: types.IntType}, types.Field{Name: "a1", Type: types.FloatType})
	p, err := eval.CompileFields([]ir.Output{{Name: "n", Expr: expr(t, "a0", input), Type: types.IntType}, {Name: "q\"", Expr: expr(t, "a1 / a0", input), Type: types.FloatType},
		{Name: "o", IsObject: true, Object: []ir.Output{{Name: "l", Lit: int64(5), Type: types.IntType}}}}, input)
	if err != nil {
		t.Fatal(err)
	}
	e := p.NewEval()
	out, fail := e.Append([]byte("{"), []byte(`{"a0":2,"a1":5}`))
	if fail != nil || string(out) != `{"n":2,"q\"":2.5,"o":{"l":5}` {
		t.Errorf("%s %v", out, fail)
	}
	if _, fail = e.Append(nil, []byte(`{"a0":0,"a1":5}`)); codeOf(fail) != ir.CodeDivisionByZero {
		t.Errorf("a division by zero gives %v", fail)
	}
}

// BenchmarkRow reads what a window needs of an event: its time, a condition, a key and two arguments.
func BenchmarkRow(b *testing.B) {
	doc := []byte(`{"user_id":"user-0012345","session":"0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0","ts":1700000000123,"country":"BR","device":{"type":"tv","os":"tizen","version":"5.5.1"},"title_id":"title-99881","position_ms":123456,"duration_ms":5400000,"tags":["drama","new","4k"],"pad":"Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor"}`)
	texts := []string{"ts", "device.type == 'tv'", "user_id", "position_ms", "country"}
	rec := record.Record{Value: doc}
	b.Run("row", func(b *testing.B) {
		p, _ := rowOf(b, types.AnyType, texts...)
		e := p.NewEval()
		var dst []byte
		b.ReportAllocs()
		b.ResetTimer()
		defer cpu(b)()
		for b.Loop() {
			if fail := e.Begin("t", 0, &rec); fail != nil {
				b.Fatal(fail)
			}
			_, _, _ = e.Time(0)
			_, _ = e.True(1)
			dst = dst[:0]
			for i := 2; i < 5; i++ {
				dst, _ = e.AppendValue(dst, i)
			}
		}
	})
	b.Run("route", func(b *testing.B) {
		in := types.AnyType
		e := program(b, &ir.Route{Format: ir.JSON, Filter: []*ir.Expr{untyped(b, texts[1])}, HasProject: true, Project: fields(b, in, "ts", "ts", "u", "user_id", "p", "position_ms", "c", "country")}).NewEval()
		batch, out := &record.Batch{Records: []record.Record{rec}}, &record.Batch{}
		b.ReportAllocs()
		b.ResetTimer()
		defer cpu(b)()
		for b.Loop() {
			out.Reset()
			_, _ = e.Run(batch, 0, out)
		}
	})
}
