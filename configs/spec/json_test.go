package spec

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"keystone/configs/addr"
	"keystone/configs/diag"
	"keystone/dsl/types"
)

var (
	genRange = rapid.Custom(func(t *rapid.T) diag.Range {
		return diag.Range{File: rapid.String().Draw(t, "file"), Start: diag.Pos{Line: rapid.IntRange(0, 99).Draw(t, "line"), Column: 1, Byte: 3}}
	})
	genText = rapid.Custom(func(t *rapid.T) diag.Text {
		x := diag.Text{S: rapid.String().Draw(t, "s"), Range: genRange.Draw(t, "range")}
		for i := range rapid.IntRange(0, 2).Draw(t, "runs") {
			x.Runs = append(x.Runs, diag.Run{Rune: i, Line: 1, Column: 2, Byte: 3, Bytes: 4, Columns: 5})
		}
		return x
	})
	genSecret = rapid.Custom(func(t *rapid.T) Secret {
		s := Secret{Range: genRange.Draw(t, "range")}
		for range rapid.IntRange(1, 3).Draw(t, "parts") {
			v := rapid.StringN(1, 5, -1).Draw(t, "part")
			s.Parts = append(s.Parts, rapid.SampledFrom([]SecretPart{{Env: v}, {File: v}, {Var: v}, {Literal: v}}).Draw(t, "form"))
		}
		return s
	})
)

func genType(depth int) *rapid.Generator[types.Type] {
	return rapid.Custom(func(t *rapid.T) types.Type {
		kinds := 10
		if depth > 0 {
			kinds = 13
		}
		x := types.Type{Kind: types.Kind(rapid.IntRange(0, kinds).Draw(t, "kind")), Sensitive: rapid.Bool().Draw(t, "sensitive")}
		switch x.Kind {
		case types.Decimal:
			x.Precision, x.Scale = 10, 2
		case types.List, types.Map:
			e := genType(depth-1).Draw(t, "elem")
			x.Elem = &e
		case types.Object:
			x.Open = rapid.Bool().Draw(t, "open")
			for range rapid.IntRange(0, 3).Draw(t, "fields") {
				x.Fields = append(x.Fields, types.Field{Name: rapid.String().Draw(t, "name"), Type: genType(depth-1).Draw(t, "type"), Optional: rapid.Bool().Draw(t, "optional")})
			}
		}
		return x
	})
}

func genField(depth int) *rapid.Generator[Field] {
	return rapid.Custom(func(t *rapid.T) Field {
		f := Field{Name: rapid.String().Draw(t, "name"), NameRange: genRange.Draw(t, "range")}
		switch n := rapid.IntRange(0, 4).Draw(t, "form"); {
		case n == 0 && depth > 0:
			f.IsObject, f.Object = true, rapid.SliceOfN(genField(depth-1), 1, 3).Draw(t, "object")
		case n == 1:
			f.Lit = rapid.Int64().Draw(t, "int")
		case n == 2:
			f.Lit = rapid.Float64().Draw(t, "float")
		case n == 3:
			f.Lit = rapid.Bool().Draw(t, "bool")
		default:
			f.Expr = genText.Draw(t, "expr")
		}
		return f
	})
}

func genValue(depth int) *rapid.Generator[Value] {
	return rapid.Custom(func(t *rapid.T) Value {
		n := 11
		if depth > 0 {
			n = 13
		}
		switch rapid.IntRange(0, n).Draw(t, "form") {
		case 0:
			return nil
		case 1:
			return rapid.Bool().Draw(t, "bool")
		case 2:
			return rapid.Int64().Draw(t, "int")
		case 3:
			return rapid.Float64().Draw(t, "float")
		case 4:
			return rapid.String().Draw(t, "string")
		case 5:
			return genText.Draw(t, "text")
		case 6:
			return rapid.SliceOfN(genText, 0, 3).Draw(t, "texts")
		case 7:
			return rapid.SliceOfN(genField(2), 0, 3).Draw(t, "fields")
		case 8:
			a := addr.New("stream", "a")
			if rapid.Bool().Draw(t, "each") {
				a = a.Instance(rapid.String().Draw(t, "key"))
			}
			return Ref{Addr: a, Range: genRange.Draw(t, "range")}
		case 9:
			return genType(2).Draw(t, "type")
		case 10:
			return genSecret.Draw(t, "secret")
		case 12:
			return rapid.SliceOfN(genValue(depth-1), 0, 3).Draw(t, "list")
		case 13:
			return rapid.MapOfN(rapid.String(), genValue(depth-1), 0, 3).Draw(t, "map")
		}
		return int64(-1)
	})
}

func genBody(depth int) *rapid.Generator[Body] {
	return rapid.Custom(func(t *rapid.T) Body {
		b := Body{Range: genRange.Draw(t, "range")}
		for range rapid.IntRange(0, 4).Draw(t, "attrs") {
			if b.Attrs == nil {
				b.Attrs = map[string]Attr{}
			}
			b.Attrs[rapid.String().Draw(t, "name")] = Attr{Value: genValue(2).Draw(t, "value"), Range: genRange.Draw(t, "range"), NameRange: genRange.Draw(t, "range"), Layer: LayerBlock}
		}
		if rapid.Bool().Draw(t, "consts") {
			b.Consts = map[string]any{"var.a": rapid.Int64().Draw(t, "int"), "local.b": []any{nil, true, map[string]any{"x": 1.5}}, "each.key": "k"}
		}
		if depth > 0 && rapid.Bool().Draw(t, "nested") {
			b.Blocks = map[string]Body{"n": genBody(depth-1).Draw(t, "block")}
		}
		return b
	})
}

func TestBodyJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := genBody(2).Draw(t, "body")
		b, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got Body
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatalf("%v\n%s", err, b)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("%s\n%s", d, b)
		}
	})
}

func TestStoredJSONFromElsewhere(t *testing.T) {
	for _, in := range []string{`{"value":5}`, `{"value":{"new_form":1}}`, `{"value":{"int":"x"}}`, `{"value":{"int":"1","float":"2"}}`, `{"value":{"type":{"kind":"tuple"}}}`, `{"value":{"type":{"kind":"list"}}}`, `{"value":[]}`} {
		var a Attr
		if err := json.Unmarshal([]byte(in), &a); err == nil {
			t.Errorf("%s gives %v, want an error", in, a.Value)
		}
	}
}

func FuzzBodyJSON(f *testing.F) {
	f.Add([]byte(`{"attrs":{"a":{"value":{"list":[{"int":"5"}]}}},"range":{}}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		var a, b Body
		if json.Unmarshal(in, &a) != nil {
			return
		}
		out, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(out, &b); err != nil {
			t.Fatal(err)
		}
		again, err := json.Marshal(b)
		if err != nil || string(out) != string(again) {
			t.Fatalf("%s\n%s\n%v", out, again, err)
		}
	})
}
