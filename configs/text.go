package configs

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/dsl"
)

// Expressions over events are never evaluated by HCL: they are read as text,
// with the place in the file of each character. They may stand in a local.

// maxLocalHops bounds locals that stand for locals.
const maxLocalHops = 100

// written follows parentheses and locals to the expression that is written out.
func (l *loader) written(expr hclsyntax.Expression) (hclsyntax.Expression, bool) {
	for range maxLocalHops {
		switch e := expr.(type) {
		case *hclsyntax.ParenthesesExpr:
			expr = e.Expression
			continue
		case *hclsyntax.ScopeTraversalExpr:
			t := e.Traversal
			if t.RootName() != "local" || len(t) != 2 {
				return expr, true
			}
			name, ok := t[1].(hcl.TraverseAttr)
			if !ok {
				return expr, true
			}
			if !l.checkTraversal(t, "local", name.Name, nil) {
				return nil, false
			}
			l.localState(name.Name).used = true
			expr = l.tree.locals[name.Name].Expr
			continue
		}
		return expr, true
	}
	if t, ok := expr.(*hclsyntax.ScopeTraversalExpr); ok {
		l.reportCycle(t.Traversal[1].(hcl.TraverseAttr).Name)
	}
	return nil, false
}

// text reads one expression over events.
func (l *loader) text(expr hclsyntax.Expression) spec.Value {
	at, ok := l.written(expr)
	if !ok {
		return spec.Invalid{}
	}
	if isNull(at) {
		return nil
	}
	if _, ok := at.(*hclsyntax.TemplateExpr); !ok {
		if _, wrapped := at.(*hclsyntax.TemplateWrapExpr); !wrapped {
			l.textForm(expr, at)
			return spec.Invalid{}
		}
	}
	t, diags := dsl.TextOf(at, l.src(at.Range()))
	l.diags.Append(diags...)
	if diags.HasErrors() {
		return spec.Invalid{}
	}
	return t
}

// textForm reports what is no literal string where an expression is wanted.
func (l *loader) textForm(expr, at hclsyntax.Expression) {
	detail := "An expression over events is written out in quotes, here or in a local, so that errors point at its tokens: it cannot be computed."
	switch e := at.(type) {
	case *hclsyntax.ScopeTraversalExpr:
		if root := e.Traversal.RootName(); root == "var" || root == "each" {
			detail += " Inside of the quotes " + root + " is known by name, as a value."
		} else if len(e.Traversal) == 1 {
			detail = "Write the expression in quotes: \"" + root + "\"."
		}
	case *hclsyntax.LiteralValueExpr, *hclsyntax.BinaryOpExpr, *hclsyntax.UnaryOpExpr, *hclsyntax.RelativeTraversalExpr:
		detail = "Write the expression in quotes."
	}
	l.diags.Addf(toRange(expr.Range()), codeTextForm, "Not the text of an expression", "%s", detail)
}

// texts reads one condition or a list of them.
func (l *loader) texts(expr hclsyntax.Expression) spec.Value {
	at, ok := l.written(expr)
	if !ok {
		return spec.Invalid{}
	}
	list, isList := at.(*hclsyntax.TupleConsExpr)
	if !isList {
		switch t := l.text(expr).(type) {
		case diag.Text:
			return []diag.Text{t}
		case nil:
			return nil
		}
		return spec.Invalid{}
	}
	out := make([]diag.Text, 0, len(list.Exprs))
	for _, e := range list.Exprs {
		switch t := l.text(e).(type) {
		case diag.Text:
			out = append(out, t)
		case nil:
			l.textForm(e, e)
			ok = false
		default:
			ok = false
		}
	}
	if !ok {
		return spec.Invalid{}
	}
	return out
}

// fields reads a literal map of names to expressions.
func (l *loader) fields(o *spec.Option, expr hclsyntax.Expression) spec.Value {
	at, ok := l.written(expr)
	if !ok {
		return spec.Invalid{}
	}
	if isNull(at) {
		return nil
	}
	if _, isMap := at.(*hclsyntax.ObjectConsExpr); !isMap {
		l.diags.Addf(toRange(expr.Range()), codeTextForm, "Not a map of expressions", "Write it out, here or in a local: { user = \"user_id\" }. It cannot be computed, since the order of its names counts.")
		return spec.Invalid{}
	}
	f, diags := dsl.FieldsOf(at, l.src(at.Range()), namesOf(o))
	l.diags.Append(diags...)
	if diags.HasErrors() {
		return spec.Invalid{}
	}
	if f == nil {
		f = []spec.Field{}
	}
	return f
}

// namesOf says what the names of a map of expressions stand for.
func namesOf(o *spec.Option) dsl.Names {
	switch o.Name {
	case "set":
		return dsl.PathNames
	case "headers":
		return dsl.FreeNames
	}
	return dsl.FieldNames
}

// pattern reads text with {PATH} placeholders. A template may put values
// known at load into it, which costs the way back to its characters.
func (l *loader) pattern(expr hclsyntax.Expression, in *instance) spec.Value {
	at, ok := l.written(expr)
	if !ok {
		return spec.Invalid{}
	}
	if t, isText := at.(*hclsyntax.TemplateExpr); isText && t.IsStringLiteral() {
		return l.text(expr)
	}
	v, ok := l.value(expr, in)
	rng := toRange(expr.Range())
	switch {
	case v.ContainsMarked():
		l.diags.Addf(rng, codeSensitive, "Sensitive value in a plain option", "A pattern is stored and shown as it is, so it cannot hold a sensitive value.")
		return spec.Invalid{}
	case !ok:
		return spec.Invalid{}
	}
	x, err := fromCty(v)
	if err != nil {
		l.diags.Addf(rng, codeEvaluate, "Wrong type of value", "A pattern is text: %v.", err)
		return spec.Invalid{}
	}
	if s, isText := x.(string); isText {
		return diag.Text{S: s, Range: rng}
	}
	return x
}

func isNull(expr hclsyntax.Expression) bool {
	lit, ok := expr.(*hclsyntax.LiteralValueExpr)
	return ok && lit.Val.IsNull()
}
