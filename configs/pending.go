package configs

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/dsl"
	"keystone/dsl/ir"
	"keystone/dsl/types"
)

func textOf(expr hclsyntax.Expression, src []byte) (diag.Text, diag.Diagnostics) {
	v, d := expr.Value(nil)
	if d.HasErrors() {
		return diag.Text{}, fromHCL(d, codeTextForm)
	}
	return diag.Text{S: v.AsString(), Range: toRange(expr.Range())}, nil
}

func fieldsOf(expr hclsyntax.Expression, src []byte) ([]spec.Field, diag.Diagnostics) {
	pairs, _ := hcl.ExprMap(expr)
	var out []spec.Field
	for _, p := range pairs {
		k, _ := p.Key.Value(nil)
		v, d := p.Value.Value(nil)
		if d.HasErrors() {
			return nil, fromHCL(d, codeTextForm)
		}
		f := spec.Field{Name: k.AsString(), NameRange: toRange(p.Key.Range())}
		x, _ := fromCty(v)
		if s, ok := x.(string); ok {
			f.Expr = diag.Text{S: s, Range: toRange(p.Value.Range())}
		} else {
			f.Lit = x
		}
		out = append(out, f)
	}
	return out, nil
}

func (l *loader) declaredType(expr hclsyntax.Expression) (types.Type, diag.Diagnostics) {
	return types.AnyType, nil
}

func referencesOf(t diag.Text) []string { return nil }

func checkRoute(s dsl.RouteSpec) (*ir.Route, diag.Diagnostics) { return &ir.Route{}, nil }

func checkOutput(r *Route, target *Stream, body spec.Body, diags *diag.Diagnostics) {}
