package dsl_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/dsl"
	"keystone/dsl/ir"
	"keystone/dsl/types"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// reader makes a RouteSpec of a block of testdata.
type reader struct {
	src   []byte
	diags diag.Diagnostics
}

func (r *reader) text(e hclsyntax.Expression) diag.Text {
	t, d := dsl.TextOf(e, r.src)
	r.diags.Append(d...)
	return t
}

func (r *reader) texts(e hclsyntax.Expression) (out []diag.Text) {
	list, ok := e.(*hclsyntax.TupleConsExpr)
	if !ok {
		return []diag.Text{r.text(e)}
	}
	for _, x := range list.Exprs {
		out = append(out, r.text(x))
	}
	return out
}

func (r *reader) fields(e hclsyntax.Expression, names dsl.Names) []spec.Field {
	f, d := dsl.FieldsOf(e, r.src, names)
	r.diags.Append(d...)
	return f
}

func (r *reader) typ(e hclsyntax.Expression) types.Type {
	t, d := dsl.TypeOf(e, r.src, nil)
	r.diags.Append(d...)
	return t
}

func (r *reader) spec(t *testing.T, b *hclsyntax.Body) dsl.RouteSpec {
	s := dsl.RouteSpec{Consts: map[string]any{"var.region": "eu", "each.key": "k", "local.limit": int64(10)}}
	for name, a := range b.Attributes {
		e := a.Expr
		switch name {
		case "input":
			s.Input = r.typ(e)
		case "target":
			s.Target = r.typ(e)
		case "format":
			s.Format = ir.Format(r.text(e).S)
		case "decode":
			s.Decode = ir.Decode(r.text(e).S)
		case "filter":
			s.Filter = r.texts(e)
		case "explode":
			s.Explode = r.text(e)
		case "project":
			s.Project = r.fields(e, dsl.FieldNames)
		case "set":
			s.Set = r.fields(e, dsl.PathNames)
		case "drop":
			s.Drop = r.texts(e)
		case "key":
			s.Key = r.text(e)
		case "headers":
			s.Headers = r.fields(e, dsl.FreeNames)
		case "index":
			s.Derived = append(s.Derived, dsl.Derived{Name: name, Text: r.text(e), Pattern: true})
		case "id":
			s.Derived = append(s.Derived, dsl.Derived{Name: name, Text: r.text(e)})
		default:
			t.Fatalf("attribute %s", name)
		}
	}
	return s
}

// TestRoutes checks the routes of testdata/*.hcl. "# ERROR: CODE part of the
// detail" stands on the line of each error, and "# OUT type" in a route that
// is right.
func TestRoutes(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.hcl")
	if len(files) == 0 {
		t.Fatal("no routes")
	}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		f, diags := hclsyntax.ParseConfig(src, file, hcl.InitialPos)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		lines := strings.Split(string(src), "\n")
		for _, b := range f.Body.(*hclsyntax.Body).Blocks {
			t.Run(b.Labels[0], func(t *testing.T) {
				r := reader{src: src}
				s := r.spec(t, b.Body)
				route, more := dsl.CheckRoute(s)
				if !r.diags.HasErrors() && more.HasErrors() != (route == nil) {
					t.Errorf("route %v with %v", route, more)
				}
				expectations(t, b, lines, append(r.diags, more...), route)
			})
		}
	}
}

func expectations(t *testing.T, b *hclsyntax.Block, lines []string, diags diag.Diagnostics, route *ir.Route) {
	for n := b.OpenBraceRange.Start.Line; n <= b.CloseBraceRange.Start.Line; n++ {
		line := lines[n-1]
		if _, want, ok := strings.Cut(line, "# OUT "); ok {
			if route == nil {
				t.Errorf("line %d: %v", n, diags)
			} else if got := route.OutputType.String(); got != want {
				t.Errorf("line %d: the output is %s, want %s", n, got, want)
			}
		}
		_, wants, _ := strings.Cut(line, "# ERROR: ")
		for _, want := range strings.Split(wants, " # ERROR: ") {
			code, part, _ := strings.Cut(want, " ")
			if code == "" {
				continue
			}
			i := slices.IndexFunc(diags, func(d diag.Diagnostic) bool {
				return d.Range.Start.Line == n && d.Code == code && strings.Contains(d.Detail, part)
			})
			if i < 0 {
				t.Errorf("line %d: no %s %q in %v", n, code, part, diags)
				continue
			}
			diags = slices.Delete(diags, i, i+1)
		}
	}
	for _, d := range diags {
		t.Errorf("unexpected: %v", d)
	}
	known := map[string]bool{}
	for _, c := range dsl.Codes() {
		known[c.Code] = true
	}
	for _, d := range diags {
		if !known[d.Code] {
			t.Errorf("the code of %v is not documented", d)
		}
	}
}

// TestCodes holds the table of codes to be complete and without repetitions.
func TestCodes(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range dsl.Codes() {
		if seen[c.Code] || c.Summary == "" || c.Doc == "" || !strings.HasPrefix(c.Code, "KS2") {
			t.Errorf("%+v", c)
		}
		seen[c.Code] = true
	}
}

func TestReferences(t *testing.T) {
	for s, want := range map[string]string{
		"region == var.region && n > local.min && var.region != 'x'": "[var.region local.min]",
		"a.var.x + event.local": "[]",
		"each.key == 'local.x'": "[each.key]",
		"local['a'] ??? (":      "[local.a]",
		"var.cfg.a[0]":          "[var.cfg]",
		"local.in":              "[local.in]",
		"'unclosed + var.x":     "[]",
	} {
		if got := fmt.Sprint(dsl.References(diag.Text{S: s})); got != want {
			t.Errorf("References(%s) = %s, want %s", s, got, want)
		}
	}
	if got := fmt.Sprint(dsl.PatternReferences(diag.Text{S: "var.no-{each.key}-{{local.x}}-{local.y:2006}"})); got != "[each.key local.y]" {
		t.Error(got)
	}
}
