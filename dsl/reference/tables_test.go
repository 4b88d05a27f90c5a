package reference_test

import (
	"math/big"
	"os"
	"path/filepath"
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

var rec = record.Record{Offset: 7, Timestamp: 1_700_000_000_123, Key: []byte("key"), Headers: []record.Header{{Key: "h", Value: []byte("1")}}}

func metaOf() map[string]any {
	headers := reference.NewObject()
	headers.Put("h", "1")
	return map[string]any{"topic": "plays", "partition": int64(3), "offset": rec.Offset, "timestamp": time.UnixMilli(rec.Timestamp).UTC(), "key": string(rec.Key), "headers": headers, "tombstone": false}
}

// interpreted gives the JSON of an expression by the reference, or its error's code.
func interpreted(e *ir.Expr, event any) (out, code string) {
	in := reference.Input{Event: event, Meta: metaOf(), Now: time.Unix(1_800_000_000, 0)}
	v, fail := reference.Written(e.Root, in, e.Root.Type)
	if fail == nil {
		var b []byte
		if b, fail = reference.Append(nil, v, e.Root.Type); fail == nil {
			return string(b), ""
		}
	}
	return "", fail.Code
}

// compiled does the same by the compiler.
func compiled(t *testing.T, e *ir.Expr, input types.Type, event string) (out, code string) {
	t.Helper()
	p, err := eval.CompileExpr(e, input)
	if err != nil {
		t.Fatalf("%s: %v", e.Text.S, err)
	}
	r := rec
	r.Value = []byte(event)
	b, fail := p.NewEval().Append(nil, "plays", 3, &r)
	if fail != nil {
		return "", fail.Code
	}
	return string(b), ""
}

// TestSemantics runs testdata/*.txt by both engines.
func TestSemantics(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no tables", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		input, event := types.AnyType, "{}"
		for i, line := range strings.Split(string(data), "\n") {
			switch {
			case line == "" || strings.HasPrefix(line, "##"):
				continue
			case strings.HasPrefix(line, "@schema "):
				if input, err = types.Parse(line[8:]); err != nil {
					t.Fatal(err)
				}
				continue
			case strings.HasPrefix(line, "@event "):
				event = line[7:]
				continue
			}
			text, want, ok := strings.Cut(line, " => ")
			if !ok {
				t.Fatalf("%s:%d: no =>", file, i+1)
			}
			row(t, file, i+1, text, want, event, input)
		}
	}
}

func row(t *testing.T, file string, line int, text, want, event string, input types.Type) {
	t.Helper()
	e, diags := check.Expr(diag.Text{S: text}, check.Env{Event: input})
	if diags.HasErrors() {
		if len(diags) == 1 && diags[0].Code == "KS2034" && strings.HasPrefix(want, "!") {
			return // what fails for every event fails earlier
		}
		t.Errorf("%s:%d: %s: %v", file, line, text, diags.Err())
		return
	}
	v, err := reference.Decode([]byte(event))
	if err != nil {
		t.Fatal(err)
	}
	for engine, f := range map[string]func() (string, string){
		"reference": func() (string, string) { return interpreted(e, v) },
		"compiler":  func() (string, string) { return compiled(t, e, input, event) },
	} {
		got, code := f()
		if code != "" {
			got = "!" + code
		}
		if got != want {
			t.Errorf("%s:%d: %s: %s gives %s, want %s", file, line, text, engine, got, want)
		}
	}
}

// TestFunctionExamples holds the compiler to the examples of the functions'
// pages; the reference is held to them beside the checker.
func TestFunctionExamples(t *testing.T) {
	for _, f := range ir.Functions() {
		for _, x := range f.Examples {
			e, diags := check.Expr(diag.Text{S: x.Expr}, check.Env{Event: types.AnyType})
			if diags.HasErrors() {
				t.Errorf("%s: %v", x.Expr, diags.Err())
				continue
			}
			event := x.Event
			if event == "" {
				event = "{}"
			}
			got, code := compiled(t, e, types.AnyType, event)
			if got != x.Want && code == "" || code != x.Error {
				t.Errorf("%s on %s = %s %s, want %s %s", x.Expr, event, got, code, x.Want, x.Error)
			}
		}
	}
}

// sameJSON compares by value: numbers as the nearest float64 or exact int, members in order.
func sameJSON(a, b string) bool {
	if a == b {
		return true
	}
	x, err1 := reference.Decode([]byte(a))
	y, err2 := reference.Decode([]byte(b))
	return err1 == nil && err2 == nil && reflect.DeepEqual(plain(x), plain(y))
}

func plain(v any) any {
	switch v := v.(type) {
	case reference.Number:
		r, ok := new(big.Rat).SetString(string(v))
		if !ok || len(v) > 400 {
			return string(v)
		}
		if r.IsInt() && len(r.Num().String()) < 19 {
			return r.Num().String()
		}
		f, _ := r.Float64()
		return f
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = plain(v[i])
		}
		return out
	case *reference.Object:
		out := []any{"object"}
		for _, n := range v.Names {
			out = append(out, n, plain(v.Values[n]))
		}
		return out
	}
	return v
}
