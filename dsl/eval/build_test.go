package eval_test

import (
	"testing"

	"keystone/configs/diag"
	"keystone/dsl/check"
	"keystone/dsl/eval"
	"keystone/dsl/ir"
	"keystone/dsl/types"
	"keystone/pipeline/record"
)

// expr checks an expression over events of a type.
func expr(t testing.TB, text string, input types.Type) *ir.Expr {
	t.Helper()
	e, diags := check.Expr(diag.Text{S: text}, check.Env{Event: input})
	if diags.HasErrors() {
		t.Fatalf("%s: %v", text, diags.Err())
	}
	return e
}

// fields makes a projection or set of names and expressions in turn.
func fields(t testing.TB, input types.Type, pairs ...string) (out []ir.Output) {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		e := expr(t, pairs[i+1], input)
		out = append(out, ir.Output{Name: pairs[i], Expr: e, Type: e.Root.Type})
	}
	return out
}

func program(t testing.TB, r *ir.Route) *eval.Program {
	t.Helper()
	p, err := eval.Compile(r)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// value evaluates one expression on an event and gives its JSON or the code of its error.
func value(t testing.TB, text, event string, input types.Type) (string, *eval.Error) {
	t.Helper()
	p, err := eval.CompileExpr(expr(t, text, input), input)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if event == "" {
		event = "{}"
	}
	got, fail := p.NewEval().Append(nil, "plays", 3, &record.Record{Value: []byte(event), Offset: 7, Timestamp: 1700000000123})
	return string(got), fail
}
