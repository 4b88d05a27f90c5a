package eval_test

import (
	"slices"
	"testing"

	"keystone/configs/diag"
	"keystone/dsl/check"
	"keystone/dsl/eval"
	"keystone/dsl/ir"
	"keystone/dsl/types"
	"keystone/pipeline/record"
)

// TestExpressionsDoNotAllocate runs the examples of all functions and more.
func TestExpressionsDoNotAllocate(t *testing.T) {
	cases := map[string]string{
		"a + ' ' + b.c":                               `{"a":"x\ny","b":{"c":"\u0041"}}`,
		"[a, b, {c: a}]":                              `{"a":1,"b":"x"}`,
		"a ** 2 + a % 7 - -a":                         `{"a":12}`,
		"a matches `^x+$` && b contains 'y'":          `{"a":"xxx","b":"xyz"}`,
		"a in [1, 'x', nil] || 'k' in b":              `{"a":5,"b":{"j":1,"k":2}}`,
		"a == b && a[1:] == [2, 3]":                   `{"a":[1,2,3],"b":[1.0,2,3e0]}`,
		"let x = a.b; x > 1 ? x[0:2] : x ?? 'n'":      `{"a":{}}`,
		"meta.headers.h + meta.topic":                 `{}`,
		"map(filter(a, .v > 1), [.n, #index])[-1][1]": `{"a":[{"n":"p","v":1},{"n":"q","v":2},{"n":"r","v":3}]}`,
		"groupBy(a, .k)":                              `{"a":[{"k":"x"},{"k":"y"},{"k":"x"}]}`,
		"1.5 * a / 3 > 2.25 ? 'much' : 'little'":      `{"a":12.5}`,
	}
	for _, f := range ir.Functions() {
		for _, ex := range f.Examples {
			if ex.Error == "" {
				event := ex.Event
				if event == "" {
					event = "{}"
				}
				cases[ex.Expr] = event
			}
		}
	}
	// What may allocate, and why.
	except := map[string]string{
		"url_host('/a/b')":                                  "package url looks at unusual forms",
		"url_host('http://[2001:db8::1]:80/')":              "package url looks at unusual forms",
		"url_host('https://User@WWW.Example.com:8443/a?b')": "package url looks at unusual forms",
		"duration('7d')":                                    "days are rewritten as hours",
	}
	for text, event := range cases {
		tree, diags := check.Expr(diag.Text{S: text}, check.Env{Event: types.AnyType})
		if diags.HasErrors() {
			t.Errorf("%s: %v", text, diags.Err())
			continue
		}
		unfold(tree)
		p, err := eval.CompileExpr(tree, types.AnyType)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		e := p.NewEval()
		rec := &record.Record{Value: []byte(event), Headers: []record.Header{{Key: "h", Value: []byte("1")}}}
		var dst []byte
		n := testing.AllocsPerRun(20, func() {
			var fail *eval.Error
			if dst, fail = e.Append(dst[:0], "plays", 0, rec); fail != nil {
				t.Fatalf("%s: %v", text, fail)
			}
		})
		if n != 0 && except[text] == "" {
			t.Errorf("%s on %s: %v allocations, want 0", text, event, n)
		}
	}
}

func TestRoutesDoNotAllocate(t *testing.T) {
	in := types.AnyType
	event := `{"a":1,"d":{"x":"\u0041","y":2},"l":[{"id":"p"},{"id":"q"}],"ts":"2026-01-01T00:00:00Z","pad":"0123456789012345678901234567890123456789"}`
	for name, r := range map[string]*ir.Route{
		"set":               {Set: set(t, in, "d.y", "a + 1", "new.z", "d.x"), Drop: drops("l", "nope")},
		"explode":           {Explode: untyped(t, "l"), HasProject: true, Project: fields(t, in, "id", "l.id", "a", "a")},
		"explode untouched": {Explode: untyped(t, "l"), Key: untyped(t, "l.id")},
		"address": {HasProject: true, Project: fields(t, in, "x", "d.x", "ts", "ts"), Key: untyped(t, "x"), Headers: fields(t, in, "h", "x", "g", "nil"),
			Derived: []ir.Derived{{Expr: untyped(t, "x")}, {Pattern: []ir.PatternPart{{Lit: "p-"}, {Expr: untyped(t, "ts"), Layout: "2006-01-02"}}}}},
		"lazy": {Decode: ir.DecodeLazy, Filter: []*ir.Expr{untyped(t, "d.y == 2")}},
	} {
		r.Format = ir.JSON
		e := program(t, r).NewEval()
		batch := &record.Batch{Records: []record.Record{{Value: []byte(event), Key: []byte("k"), Headers: []record.Header{{Key: "g"}}}}}
		out := &record.Batch{}
		n := testing.AllocsPerRun(20, func() {
			out.Reset()
			if v, err := e.Run(batch, 0, out); err != nil || v != eval.Passed {
				t.Fatalf("%s: %d %v", name, v, err)
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
	}
}

// unfold binds the constants of calls to variables, so that the calls are
// made for each record and not once by the compiler.
func unfold(e *ir.Expr) {
	slot := 1000
	var bound []*ir.Node
	e.Root.Walk(func(n *ir.Node) bool {
		if n.Op != ir.Call {
			return true
		}
		for i, k := range n.Kids {
			if k == nil || k.Op != ir.Const || slices.Contains(n.Func.ConstArgs, i) {
				continue
			}
			bound = append(bound, &ir.Node{Op: ir.Let, Slot: slot, Kids: []*ir.Node{k}})
			n.Kids[i] = &ir.Node{Op: ir.Var, Type: k.Type, Slot: slot}
			slot++
		}
		return true
	})
	for _, let := range bound {
		let.Type, let.Kids = e.Root.Type, append(let.Kids, e.Root)
		e.Root = let
	}
}
