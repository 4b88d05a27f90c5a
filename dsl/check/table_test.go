package check_test

import (
	"strings"
	"testing"
	"time"

	"keystone/configs/diag"
	"keystone/dsl/check"
	"keystone/dsl/ir"
	"keystone/dsl/reference"
	"keystone/dsl/types"
)

// text gives a Text written in one line of a file that begins with it.
func text(s string) diag.Text {
	n := len([]rune(s))
	return diag.Text{S: s, Range: diag.Range{File: "t", Start: diag.Pos{Line: 1, Column: 1}, End: diag.Pos{Line: 1, Column: n + 1, Byte: n}},
		Runs: []diag.Run{{Line: 1, Column: 1, Bytes: 1, Columns: 1}}}
}

// TestExamples holds the reference to the examples of every function.
func TestExamples(t *testing.T) {
	for _, f := range ir.Functions() {
		if len(f.Examples) < 2 {
			t.Errorf("%s has %d examples", f.Name, len(f.Examples))
		}
		for _, e := range f.Examples {
			expr, diags := check.Expr(text(e.Expr), check.Env{Event: types.AnyType})
			if diags.HasErrors() {
				t.Errorf("%s: %v", e.Expr, diags.Err())
				continue
			}
			event, err := reference.Decode([]byte("{}"))
			if e.Event != "" {
				event, err = reference.Decode([]byte(e.Event))
			}
			if err != nil {
				t.Errorf("%s: %v", e.Event, err)
				continue
			}
			v, failed := reference.Eval(expr.Root, reference.Input{Event: event, Now: time.Unix(1_800_000_000, 0)})
			if failed != nil {
				if failed.Code != e.Error {
					t.Errorf("%s on %s: %v, want %s%s", e.Expr, e.Event, failed, e.Want, e.Error)
				}
				continue
			}
			got, failed := reference.Append(nil, v, expr.Root.Type)
			if failed != nil || string(got) != e.Want {
				t.Errorf("%s on %s = %s, %v, want %s %s", e.Expr, e.Event, got, failed, e.Want, e.Error)
			}
		}
		if md := f.Markdown(); !strings.Contains(md, f.Signature) {
			t.Errorf("%s: its page has no signature:\n%s", f.Name, md)
		}
	}
}
