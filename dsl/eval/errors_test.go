package eval_test

import (
	"strings"
	"testing"

	"keystone/configs/diag"
	"keystone/dsl/check"
	"keystone/dsl/eval"
	"keystone/dsl/types"
	"keystone/pipeline/record"
)

// An error points at its token, and never shows what the event holds.
func TestErrorsPointAtTheirToken(t *testing.T) {
	in := types.ObjectOf(types.Field{Name: "n", Type: types.IntType}, types.Field{Name: "s", Type: types.StringType}, types.Field{Name: "x", Type: types.AnyType})
	event := `{"n":0,"s":5,"x":"secret"}`
	for _, c := range []struct{ text, token, code string }{
		{"1 + 2 / n", "/", "division_by_zero"},
		{"n + (s + 'a' == 'b' ? 1 : 2)", "s", "type"},
		{"x.y > 1", "y", "type"},
		{"n == 0 && x - 1 > 0", "-", "type"},
		{"true && x", "x", "type"},
		{"x < 5", "<", "type"},
		{"x[-1].s", "s", "type"},
		{"upper(x) + string(int(x))", "int", "conversion"},
		{"map([1, 0], 1 / #)", "/", "division_by_zero"},
		{"9223372036854775807 + n + 1", "+", "overflow"},
	} {
		text := diag.Text{S: c.text, Range: diag.Range{File: "f"}, Runs: []diag.Run{{Line: 1, Column: 1, Bytes: 1, Columns: 1}}}
		e, diags := check.Expr(text, check.Env{Event: in})
		if diags.HasErrors() {
			t.Errorf("%s: %v", c.text, diags.Err())
			continue
		}
		p, err := eval.CompileExpr(e, in)
		if err != nil {
			t.Fatal(err)
		}
		_, fail := p.NewEval().Append(nil, "", 0, &record.Record{Value: []byte(event)})
		if fail == nil {
			t.Errorf("%s: no error", c.text)
			continue
		}
		if got := c.text[fail.Range.Start.Byte:fail.Range.End.Byte]; got != c.token || fail.Code != c.code {
			t.Errorf("%s: %s at %q, want %s at %q (%s)", c.text, fail.Code, got, c.code, c.token, fail.Text)
		}
		if strings.Contains(fail.Error(), "secret") || !strings.HasSuffix(fail.Text, ".") {
			t.Errorf("%s: the message is %q", c.text, fail.Text)
		}
	}
}
