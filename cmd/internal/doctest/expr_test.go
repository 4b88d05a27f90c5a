package doctest

import (
	"fmt"
	"strings"
	"testing"

	"keystone/configs/diag"
	"keystone/dsl"
	"keystone/dsl/eval"
	"keystone/dsl/types"
	"keystone/pipeline/record"
)

// TestExpressions evaluates the blocks named "eval". A line that begins with
// { is the event of those after it; the others are `EXPRESSION => JSON`,
// `EXPRESSION => error: CODE` for an evaluation error, and
// `EXPRESSION => refused: KSnnnn` for one of validate.
func TestExpressions(t *testing.T) {
	lines := 0
	for _, p := range pages(t) {
		blocks, _ := p.blocks(t)
		for _, b := range blocks {
			if !b.is("eval") {
				continue
			}
			event := "{}"
			for i, line := range strings.Split(strings.TrimSuffix(b.text, "\n"), "\n") {
				at := fmt.Sprintf("%s:%d", b.page, b.line+i)
				expr, want, isExpr := cutLast(line, " => ")
				switch {
				case strings.TrimSpace(line) == "":
				case !isExpr:
					event = line
				default:
					lines++
					if got := value(strings.TrimSpace(expr), event); got != want {
						t.Errorf("%s: %s is %s", at, strings.TrimSpace(expr), got)
					}
				}
			}
		}
	}
	if lines < 10 {
		t.Errorf("only %d expressions were found", lines)
	}
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], strings.TrimSpace(s[i+len(sep):]), true
}

// value gives what an expression is over an event without a schema.
func value(expr, event string) string {
	tree, diags := dsl.CheckExpr(diag.Text{S: expr}, dsl.Env{Event: types.AnyType})
	if diags.HasErrors() {
		return "refused: " + diags[0].Code
	}
	program, err := eval.CompileExpr(tree, types.AnyType)
	if err != nil {
		return err.Error()
	}
	got, failure := program.NewEval().Append(nil, "", 0, &record.Record{Value: []byte(event)})
	if failure != nil {
		return "error: " + failure.Code
	}
	return string(got)
}
