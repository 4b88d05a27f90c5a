package dsl

import (
	"slices"
	"strings"

	"keystone/configs/diag"
	"keystone/configs/spec"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// Names says what the names of a map of expressions stand for.
type Names uint8

const (
	// FieldNames are fields of an output: no dots. (project, aggregate, key)
	FieldNames Names = iota
	// PathNames are paths: a dot goes into an object. (set)
	PathNames
	// FreeNames are any text. (headers)
	FreeNames
)

// maxFieldDepth bounds nested { } of a projection.
const maxFieldDepth = 100

// FieldsOf reads a literal { name = "expression" } in the written order, with
// repetitions, which HCL's own value would hide. src is the whole file.
func FieldsOf(e hclsyntax.Expression, src []byte, names Names) ([]spec.Field, diag.Diagnostics) {
	r := fieldReader{src: src, names: names}
	fields := r.read(e, 0)
	return fields, r.diags
}

type fieldReader struct {
	src   []byte
	names Names
	diags diag.Diagnostics
}

func (r *fieldReader) read(e hclsyntax.Expression, depth int) []spec.Field {
	for {
		p, ok := e.(*hclsyntax.ParenthesesExpr)
		if !ok {
			break
		}
		e = p.Expression
	}
	object, ok := e.(*hclsyntax.ObjectConsExpr)
	if !ok {
		r.diags.Addf(rangeOf(e.Range()), codeFieldValue, "Invalid value of a field", "This must be a literal { name = \"expression\" }, or a local that is one: computed objects forget the order of their names.")
		return nil
	}
	if depth > maxFieldDepth {
		r.diags.Addf(rangeOf(e.Range()), codeFieldValue, "Invalid value of a field", "Objects nest deeper than %d.", maxFieldDepth)
		return nil
	}
	out := make([]spec.Field, 0, len(object.Items))
	first := map[string]diag.Range{}
	for _, item := range object.Items {
		f := spec.Field{NameRange: rangeOf(item.KeyExpr.Range())}
		name, ok := r.name(item.KeyExpr, depth)
		if valued := r.value(&f, item.ValueExpr, depth); !ok {
			continue
		} else if !valued {
			if _, dup := first[name]; !dup {
				first[name] = f.NameRange
			}
			continue
		}
		f.Name = name
		if at, dup := first[name]; dup {
			r.diags.Addf(f.NameRange, codeFieldTwice, "Repeated field", "%q is there already, at %s.", name, at)
			continue
		}
		if other := r.contradicts(name, out, depth); other != "" {
			r.diags.Addf(f.NameRange, codeFieldTwice, "Repeated field", "%q contradicts %q at %s: one of them is inside of the other.", name, other, first[other])
			continue
		}
		first[name] = f.NameRange
		out = append(out, f)
	}
	return out
}

// contradicts gives the path that lies above or below name, or "".
func (r *fieldReader) contradicts(name string, fields []spec.Field, depth int) string {
	if depth > 0 || r.names != PathNames {
		return ""
	}
	for _, f := range fields {
		if strings.HasPrefix(f.Name, name+".") || strings.HasPrefix(name, f.Name+".") {
			return f.Name
		}
	}
	return ""
}

func (r *fieldReader) name(e hclsyntax.Expression, depth int) (string, bool) {
	rng := rangeOf(e.Range())
	if key, ok := e.(*hclsyntax.ObjectConsKeyExpr); ok {
		if key.ForceNonLiteral {
			r.diags.Addf(rng, codeFieldName, "Invalid name of a field", "Names are fixed: write one without parentheses. Only values may differ between the instances of for_each.")
			return "", false
		}
		if word := hcl.ExprAsKeyword(key.Wrapped); word != "" {
			return word, true
		}
		e = key.Wrapped
	}
	var name string
	switch x := e.(type) {
	case *hclsyntax.TemplateExpr:
		text, diags := TextOf(x, r.src)
		if diags.HasErrors() {
			r.diags.Addf(rng, codeFieldName, "Invalid name of a field", "Names are fixed: templates stand in no name. Only values may differ between the instances of for_each.")
			return "", false
		}
		name = text.S
	case *hclsyntax.ScopeTraversalExpr:
		written := traversalText(x.Traversal, r.src)
		r.diags.Addf(rng, codeFieldName, "Invalid name of a field", "A name with a dot is written in quotes: \"%s\".", written)
		return "", false
	case *hclsyntax.LiteralValueExpr:
		r.diags.Addf(rng, codeFieldName, "Invalid name of a field", "A name that is no identifier is written in quotes.")
		return "", false
	default:
		r.diags.Addf(rng, codeFieldName, "Invalid name of a field", "Names are fixed: an identifier, or text in quotes. For a name as a-b write \"a-b\".")
		return "", false
	}
	names := r.names
	if depth > 0 && names == PathNames {
		names = FieldNames
	}
	switch {
	case name == "":
		r.diags.Addf(rng, codeFieldName, "Invalid name of a field", "A name is empty.")
		return "", false
	case names == FieldNames && strings.Contains(name, "."):
		top, rest, _ := strings.Cut(name, ".")
		r.diags.Addf(rng, codeFieldName, "Invalid name of a field", "A name is one field. For an object write %s = { %s = … }.", top, rest)
		return "", false
	case names == PathNames && slices.Contains(strings.Split(name, "."), ""):
		r.diags.Addf(rng, codeFieldName, "Invalid name of a field", "%q is no path: a name between dots is empty.", name)
		return "", false
	}
	return name, true
}

// value reads the value of a field into f, and tells whether it is one.
func (r *fieldReader) value(f *spec.Field, e hclsyntax.Expression, depth int) bool {
	rng := rangeOf(e.Range())
	switch x := e.(type) {
	case *hclsyntax.ParenthesesExpr:
		return r.value(f, x.Expression, depth)
	case *hclsyntax.TemplateExpr, *hclsyntax.TemplateWrapExpr:
		text, diags := TextOf(e, r.src)
		r.diags.Append(diags...)
		f.Expr = text
		return !diags.HasErrors()
	case *hclsyntax.ObjectConsExpr:
		f.IsObject, f.Object = true, r.read(x, depth+1)
		return true
	case *hclsyntax.LiteralValueExpr:
		if x.Val.IsNull() {
			r.diags.Addf(rng, codeFieldValue, "Invalid value of a field", "null is written \"nil\", as an expression.")
			return false
		}
		return r.literal(f, x.Val, rng)
	case *hclsyntax.UnaryOpExpr:
		if lit, ok := x.Val.(*hclsyntax.LiteralValueExpr); ok && x.Op == hclsyntax.OpNegate && lit.Val.Type() == cty.Number && !lit.Val.IsNull() {
			return r.literal(f, lit.Val.Negate(), rng)
		}
	case *hclsyntax.ScopeTraversalExpr:
		name := traversalText(x.Traversal, r.src)
		detail := "The value of a field is an expression in quotes: \"" + name + "\"."
		if len(x.Traversal) == 1 {
			detail += " Constant text is quoted twice: \"'" + name + "'\"."
		}
		r.diags.Addf(rng, codeFieldValue, "Invalid value of a field", "%s", detail)
		return false
	case *hclsyntax.TupleConsExpr:
		r.diags.Addf(rng, codeFieldValue, "Invalid value of a field", "A list is an expression in quotes: \"[a, b]\".")
		return false
	}
	r.diags.Addf(rng, codeFieldValue, "Invalid value of a field", "A value is an expression in quotes, a number, a bool, or a nested { }. HCL does not compute it.")
	return false
}

func (r *fieldReader) literal(f *spec.Field, v cty.Value, rng diag.Range) bool {
	if v.Type() == cty.Bool {
		f.Lit = v.True()
		return true
	}
	n := v.AsBigFloat()
	if i, acc := n.Int64(); acc == 0 && n.IsInt() {
		f.Lit = i
		return true
	}
	x, _ := n.Float64()
	if n.IsInt() || x > 1.7976931348623157e308 || x < -1.7976931348623157e308 {
		r.diags.Addf(rng, codeFieldValue, "Invalid value of a field", "The number does not fit an int (64 bits). In quotes, with a decimal point, it is a float.")
		return false
	}
	f.Lit = x
	return true
}
