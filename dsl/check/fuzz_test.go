package check_test

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"keystone/configs/diag"
	"keystone/dsl/check"
	"keystone/dsl/ir"
	"keystone/dsl/reference"
	"keystone/dsl/types"
)

// seeds are the expressions of the scripts and of the functions' examples.
func seeds(f *testing.F) {
	for _, fn := range ir.Functions() {
		for _, e := range fn.Examples {
			f.Add(e.Expr)
		}
	}
	files, _ := filepath.Glob("testdata/*.txt")
	for _, name := range files {
		file, err := os.Open(name)
		if err != nil {
			f.Fatal(err)
		}
		lines := bufio.NewScanner(file)
		for last := ""; lines.Scan(); last = lines.Text() {
			if line := lines.Text(); last == "" && line != "" && !strings.HasPrefix(line, "#") {
				f.Add(line)
			}
		}
		file.Close()
	}
}

const fuzzSchema = `object({user_id = string, ts = timestamp_ms, at = timestamp_rfc3339, day = date, country = string, device = object({type = string, os = optional(string)}), position_ms = int, ratio = float, price = decimal(10, 2), live = bool, tags = list(string), items = list(object({n = string, v = int})), attrs = map(int), blob = bytes, payload = any})`

func FuzzExpr(f *testing.F) {
	seeds(f)
	schema, err := types.Parse(fuzzSchema)
	if err != nil {
		f.Fatal(err)
	}
	consts := map[string]any{"var.region": "eu", "local.min": int64(5), "local.list": []any{"a", int64(1)}, "local.cfg": map[string]any{"a": map[string]any{"b": 1.5}}, "each.key": "k"}
	event, err := reference.Decode([]byte(`{"user_id":"u","ts":1700000000000,"at":"2026-01-01T00:00:00Z","day":"2026-01-01","country":"BR","device":{"type":"tv"},"position_ms":5,"ratio":0.5,"price":1.25,"live":true,"tags":["a","b"],"items":[{"n":"x","v":1}],"attrs":{"x":1},"blob":"AAE=","payload":{"a":[1,{"b":null}]}}`))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, typ := range []types.Type{types.AnyType, schema} {
			env := check.Env{Event: typ, Consts: consts}
			expr, diags := check.Expr(text(s), env)
			for _, d := range diags {
				inside(t, s, d)
			}
			if diags.HasErrors() != (expr == nil) {
				t.Fatalf("%q: tree %v with %v", s, expr, diags)
			}
			check.Pattern(text(s), env)
			aggregation(t, s, env)
			check.References(text(s))
			check.PatternReferences(text(s))
			if expr == nil {
				continue
			}
			tree(t, s, expr.Root)
			if strings.Contains(s, "repeat") {
				continue // a megabyte at each element of a list takes its time
			}
			_, _ = reference.Eval(expr.Root, reference.Input{Event: event, Meta: map[string]any{}})
		}
	})
}

// aggregation holds what is said of a field of an aggregation to what expressions are held to.
func aggregation(t *testing.T, s string, env check.Env) {
	t.Helper()
	var calls check.Calls
	expr, diags := check.Aggregate(text(s), env, &calls)
	for _, d := range diags {
		inside(t, s, d)
	}
	if diags.HasErrors() != (expr == nil) {
		t.Fatalf("%q: aggregate %v with %v", s, expr, diags)
	}
	if expr == nil {
		return
	}
	tree(t, s, expr.Root)
	expr.Root.Walk(func(n *ir.Node) bool {
		if n.Op == ir.Event || n.Op == ir.Meta || n.Op == ir.Field && n.Path[0].Name != "a0" && len(calls.List) < 2 {
			t.Fatalf("%q reads a row outside of an aggregate", s)
		}
		return true
	})
	for _, c := range calls.List {
		for _, a := range c.Args {
			tree(t, s, a.Root)
		}
		if c.Where != nil {
			tree(t, s, c.Where.Root)
		}
	}
}

// inside holds a diagnostic's range to the text, and to not being empty but at the end.
func inside(t *testing.T, s string, d diag.Diagnostic) {
	t.Helper()
	n := utf8.RuneCountInString(s)
	if d.Range.Start.Byte < 0 || d.Range.End.Byte > n || d.Range.Start.Byte > d.Range.End.Byte {
		t.Fatalf("%q: %v spans %d to %d of %d", s, d, d.Range.Start.Byte, d.Range.End.Byte, n)
	}
	if d.Summary == "" || d.Detail == "" || strings.Contains(d.Detail, "%!") {
		t.Fatalf("%q: %+v", s, d)
	}
	for _, c := range check.Codes() {
		if c.Code == d.Code {
			return
		}
	}
	t.Fatalf("%q: code %s is not documented", s, d.Code)
}

// tree holds what the engines rely on.
func tree(t *testing.T, s string, root *ir.Node) {
	t.Helper()
	n := utf8.RuneCountInString(s)
	root.Walk(func(x *ir.Node) bool {
		if x.Span.Start < 0 || x.Span.End > n || x.Span.Start > x.Span.End || x.Token.Start < 0 || x.Token.End > n {
			t.Fatalf("%q: op %d has span %v, token %v", s, x.Op, x.Span, x.Token)
		}
		for i, k := range x.Kids {
			if k == nil {
				if x.Op != ir.Slice {
					t.Fatalf("%q: op %d has no kid %d", s, x.Op, i)
				}
				continue
			}
			if k.Span.Start < x.Span.Start || k.Span.End > x.Span.End {
				t.Fatalf("%q: op %d %v does not hold its kid %v", s, x.Op, x.Span, k.Span)
			}
		}
		return true
	})
}
