package check_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keystone/configs/diag"
	"keystone/dsl/check"
	"keystone/dsl/ir"
	"keystone/dsl/types"
)

var update = flag.Bool("update", false, "rewrite the expected results in testdata")

// TestScripts runs testdata/*.txt: a case is an expression and what the
// checker makes of it, its type or its errors with the token underlined.
// Lines with @ set what follows: @schema TYPE, @source TYPE (before a
// projection), @dropped PATH, @const NAME JSON, @format raw, @jobs, @mode condition.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) { runScript(t, file) })
	}
}

func runScript(t *testing.T, file string) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	env := check.Env{Event: types.AnyType, Consts: map[string]any{}}
	run := check.Expr
	var out strings.Builder
	lines := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		if line == "" || strings.HasPrefix(line, "##") {
			out.WriteString(line + "\n")
			continue
		}
		if strings.HasPrefix(line, "@") {
			out.WriteString(line + "\n")
			if err := directive(&env, line); err != nil {
				t.Fatalf("%s:%d: %v", file, i+1, err)
			}
			if strings.HasPrefix(line, "@mode") {
				run = map[string]func(diag.Text, check.Env) (*ir.Expr, diag.Diagnostics){"condition": check.Condition, "list": check.List, "expr": check.Expr, "aggregate": aggregate,
					"pattern": func(t diag.Text, env check.Env) (*ir.Expr, diag.Diagnostics) {
						_, d := check.Pattern(t, env)
						return &ir.Expr{Root: &ir.Node{Type: types.StringType}}, d
					}}[strings.TrimPrefix(line, "@mode ")]
			}
			continue
		}
		at, source := i+1, strings.ReplaceAll(line, "⏎", "\n")
		var want strings.Builder
		for i+1 < len(lines) && lines[i+1] != "" && !strings.HasPrefix(lines[i+1], "@") {
			i++
			want.WriteString(lines[i] + "\n")
		}
		expr, diags := run(text(source), env)
		got := show(line, expr, diags)
		out.WriteString(line + "\n" + got)
		if !*update && got != want.String() {
			t.Errorf("%s:%d: %s\ngot:\n%swant:\n%s", file, at, line, got, want.String())
		}
	}
	if *update {
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func directive(env *check.Env, line string) error {
	word, rest, _ := strings.Cut(line[1:], " ")
	var err error
	switch word {
	case "schema":
		env.Event, err = types.Parse(rest)
	case "source":
		var s types.Type
		s, err = types.Parse(rest)
		env.Source = &s
	case "dropped":
		env.Dropped = append(env.Dropped, strings.Split(rest, "."))
	case "format":
		env.Format = ir.Format(rest)
	case "jobs":
		env.Jobs = true
	case "const":
		name, value, _ := strings.Cut(rest, " ")
		var v any
		if err = json.Unmarshal([]byte(value), &v); err == nil {
			env.Consts[name] = goConst(v)
		}
	case "mode":
	default:
		err = fmt.Errorf("unknown directive %s", line)
	}
	return err
}

// goConst makes whole numbers ints, as the configuration does.
func goConst(v any) any {
	switch v := v.(type) {
	case float64:
		if v == float64(int64(v)) {
			return int64(v)
		}
	case []any:
		for i := range v {
			v[i] = goConst(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = goConst(v[k])
		}
	}
	return v
}

func show(line string, expr *ir.Expr, diags diag.Diagnostics) string {
	if !diags.HasErrors() {
		return "= " + expr.Root.Type.String() + "\n"
	}
	var b strings.Builder
	for _, d := range diags {
		from, to := d.Range.Start.Byte, d.Range.End.Byte // the test's texts count runes
		if d.Range.Start.Line > 1 {
			from, to = 0, 0
		}
		if len(line) < 400 {
			b.WriteString(strings.Repeat(" ", from) + strings.Repeat("^", max(to-from, 1)) + "\n")
		}
		fmt.Fprintf(&b, "%s %s\n", d.Code, d.Detail)
	}
	return b.String()
}

// aggregate shows the calls that an expression makes in its tree's place.
func aggregate(t diag.Text, env check.Env) (*ir.Expr, diag.Diagnostics) {
	var calls check.Calls
	e, diags := check.Aggregate(t, env, &calls)
	if e != nil {
		names := make([]string, len(calls.List))
		for i, c := range calls.List {
			names[i] = fmt.Sprintf("%s/%d%v %s", c.Func, len(c.Args), c.Params, c.Type)
			if c.Where != nil {
				names[i] += " where"
			}
		}
		root := *e.Root
		root.Type = types.ObjectOf(types.Field{Name: strings.Join(names, "; "), Type: root.Type})
		e.Root = &root
	}
	return e, diags
}
