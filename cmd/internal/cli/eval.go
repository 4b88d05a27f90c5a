package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"keystone/cmd/internal/api"
	"keystone/cmd/internal/view"
	"keystone/configs/diag"
	"keystone/dsl/check"
	"keystone/dsl/eval"
	"keystone/dsl/types"
	"keystone/pipeline/record"
)

func (a *App) evalCommand() *command {
	var event string
	cmd := &command{
		Use:   "eval [flags] EXPR",
		Short: "Evaluate an expression on an event",
		Long: "Evaluates an expression as a route would and prints its value as JSON. An expression that\n" +
			"begins with a dash comes after --. It is by itself: var.x, local.x and each.x of a configuration\n" +
			"are written as the values that they have.",
		Example: "  keystone eval \"position_ms / duration_ms * 100\" -event '{\"position_ms\": 5, \"duration_ms\": 20}'\n" +
			"  keystone eval \"upper(country)\" -event @event.json",
		Args: between(1, 1, "one expression, in quotes"),
		RunE: func(_ *command, args []string) error {
			return a.eval(args[0], event)
		},
	}
	cmd.Flags().StringVar(&event, "event", "{}", "the event: `JSON`, - for stdin, or @FILE")
	return cmd
}

// codeUnknownConstant is the checker's code for a var.x, local.x or each.x that is not there.
const codeUnknownConstant = "KS2012"

const maxEvent = 100 << 20

func (a *App) eval(expr, event string) error {
	value, err := a.readEvent(event)
	if err != nil {
		return err
	}
	if !utf8.ValidString(expr) {
		return usagef("the expression is not UTF-8")
	}
	const file = "EXPR"
	tree, ds := check.Expr(diag.LineText(file, expr), check.Env{Event: types.AnyType})
	for i := range ds {
		if ds[i].Code == codeUnknownConstant {
			ds[i].Detail += " An expression of the command line is by itself: write the value instead."
		}
	}
	if err := view.Diagnostics(a.err, a.style(a.err), api.NewDiagnostics(ds.Sort(), map[string][]byte{file: []byte(expr)})); err != nil {
		return err
	}
	if ds.HasErrors() {
		return silent(Invalid)
	}
	program, err := eval.CompileExpr(tree, types.AnyType)
	if err != nil {
		return fmt.Errorf("compile: %w", err)
	}
	got, failure := program.NewEval().Append(nil, "", 0, &record.Record{Value: value})
	if failure != nil {
		return a.evalFailed(failure, file, expr)
	}
	_, err = fmt.Fprintf(a.out, "%s\n", got)
	return err
}

// evalFailed shows an evaluation error as a diagnostic at its token.
func (a *App) evalFailed(e *eval.Error, file, expr string) error {
	var ds diag.Diagnostics
	ds.Addf(e.Range, "", "Evaluation error: "+e.Code, "%s", e.Text)
	if err := view.Diagnostics(a.err, a.style(a.err), api.NewDiagnostics(ds, map[string][]byte{file: []byte(expr)})); err != nil {
		return err
	}
	return silent(Failed)
}

// readEvent gives the event's bytes, without the line end that editors add.
func (a *App) readEvent(event string) ([]byte, error) {
	var r io.Reader
	path, isFile := strings.CutPrefix(event, "@")
	switch {
	case event == "-":
		r = a.in
	case isFile:
		f, err := os.Open(path)
		if err != nil {
			return nil, usagef("-event: %v", err)
		}
		defer f.Close()
		r = f
	default:
		return []byte(event), nil
	}
	b, err := io.ReadAll(io.LimitReader(r, maxEvent+1))
	if err != nil {
		return nil, fmt.Errorf("read the event: %w", err)
	}
	if len(b) > maxEvent {
		return nil, usagef("-event: larger than 100 MiB")
	}
	return bytes.TrimSpace(b), nil
}
