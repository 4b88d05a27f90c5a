package eval_test

import (
	stdjson "encoding/json"
	"testing"
	"unicode/utf8"

	"keystone/dsl/eval"
	"keystone/dsl/ir"
	"keystone/dsl/types"
	"keystone/pipeline/record"
)

// FuzzRun gives routes of every form documents of every form: nothing
// panics, and what goes out of a checked document is JSON again.
func FuzzRun(f *testing.F) {
	in := types.AnyType
	var programs []*eval.Program
	var full []bool
	for _, d := range []ir.Decode{ir.DecodeFull, ir.DecodeLazy} {
		for _, r := range []*ir.Route{
			mainRoute(f),
			{Set: set(f, in, "a.b.c", "l[0]", "d", "a"), Drop: drops("a.x", "l", "e")},
			{Explode: untyped(f, "l"), Set: set(f, in, "l.n", "l.m ?? 1")},
			{Explode: untyped(f, "a.l"), HasProject: true, Project: fields(f, in, "e", "event", "x", "a.l[-1]", "k", "keys(a)")},
			{HasProject: true, Project: fields(f, in, "k", "toJSON(event)", "a", "a[0].b", "m", "map(l, .x)", "s", "string(a)", "f", "flatten(l)"), Key: untyped(f, "k"), Derived: []ir.Derived{{Expr: untyped(f, "m")}}},
			{Filter: []*ir.Expr{untyped(f, "a.b == event.a.b && l == l && a in [l, nil, a]")}},
		} {
			r.Format, r.Decode = ir.JSON, d
			programs, full = append(programs, program(f, r)), append(full, d == ir.DecodeFull)
		}
	}
	for _, doc := range []string{
		`{"a":{"b":{"c":1},"x":2,"l":[1,{"y":"\u0041"}]},"l":[{"n":1},2,[3]],"e":"x"}`, `{"a":[{"b":null}],"l":[]}`, `{"a":{"b" 1}}`, `{"l":[1,}`,
		`{"a":{"l":[[}]]},"l":{]}`, `{"l":[{"n" 1}]}`, `{"a":{"x":tru,"l":["\q"]}}`, `{"country":"BR","device":{"type":"tv"},"position_ms":5000,"duration_ms":1e3}`, `{"a":1,"a":{"b":"` + "\xff" + `"}}`,
	} {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		for i, p := range programs {
			e := p.NewEval()
			batch := &record.Batch{Records: []record.Record{{Value: doc}}}
			for range 2 {
				var out record.Batch
				v, err := e.Run(batch, 0, &out)
				if (v == eval.Failed) != (err != nil) || err != nil && (err.Code == "" || err.Text == "" || len(out.Records) > 0) {
					t.Fatalf("program %d on %q: %d %v, %d records", i, doc, v, err, len(out.Records))
				}
				for _, r := range out.Records {
					if full[i] && (!stdjson.Valid(r.Value) || !utf8.Valid(r.Value)) {
						t.Fatalf("program %d makes %q of %q", i, r.Value, doc)
					}
				}
			}
		}
	})
}
