package dsl

import (
	"fmt"

	"keystone/configs/diag"
	"keystone/dsl/types"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// maxTypeDepth bounds nested types.
const maxTypeDepth = 100

// ResolveType gives the type that a reference in a type expression stands
// for (stream.other.schema, local.x); ok is false for what is no reference.
type ResolveType func(hcl.Traversal) (t types.Type, ok bool, diags diag.Diagnostics)

// TypeOf reads a schema or another type expression: string, list(int),
// object({ a = string, b = optional(int) }). src is the whole file that e is
// from, resolve may be nil. The type is any if there are errors.
func TypeOf(e hclsyntax.Expression, src []byte, resolve ResolveType) (types.Type, diag.Diagnostics) {
	r := typeReader{src: src, resolve: resolve}
	t := r.read(e, 0)
	if r.diags.HasErrors() {
		return types.AnyType, r.diags
	}
	return t, r.diags
}

type typeReader struct {
	src     []byte
	resolve ResolveType
	diags   diag.Diagnostics
}

func (r *typeReader) fail(rng hcl.Range, code, summary, detail string, args ...any) types.Type {
	r.diags.Addf(rangeOf(rng), code, summary, detail, args...)
	return types.AnyType
}

func (r *typeReader) read(e hclsyntax.Expression, depth int) types.Type {
	if depth > maxTypeDepth {
		return r.fail(e.Range(), codeType, "Not a type", "Types nest deeper than %d.", maxTypeDepth)
	}
	switch x := e.(type) {
	case *hclsyntax.ParenthesesExpr:
		return r.read(x.Expression, depth)
	case *hclsyntax.FunctionCallExpr:
		return r.call(x, depth)
	case *hclsyntax.ObjectConsExpr:
		return r.fail(e.Range(), codeType, "Not a type", "Write object({ name = type }).")
	case *hclsyntax.TupleConsExpr:
		if len(x.Exprs) == 1 {
			return r.fail(e.Range(), codeType, "Not a type", "Write list(type).")
		}
	case *hclsyntax.TemplateExpr:
		return r.fail(e.Range(), codeType, "Not a type", "Types are written without quotes: string, not \"string\".")
	case *hclsyntax.ScopeTraversalExpr:
		return r.word(x)
	}
	return r.fail(e.Range(), codeType, "Not a type", "A type is a word as string, or a form as list(int) or object({ a = string }).")
}

func (r *typeReader) word(x *hclsyntax.ScopeTraversalExpr) types.Type {
	if len(x.Traversal) == 1 {
		name := x.Traversal.RootName()
		if t, ok := types.Scalar(name); ok {
			return t
		}
		switch name {
		case "list", "map", "sensitive":
			return r.fail(x.Range(), codeType, "Not a type", "%s needs a type: %s(string).", name, name)
		case "optional":
			return r.fail(x.Range(), codeType, "Not a type", "optional(type) marks a field of an object.")
		case "object":
			return r.fail(x.Range(), codeType, "Not a type", "object needs its fields: object({ name = string }).")
		case "decimal":
			return r.fail(x.Range(), codeType, "Not a type", "decimal needs its precision and scale: decimal(10, 2).")
		}
		return r.unknown(name, x.Range())
	}
	if r.resolve != nil {
		t, ok, diags := r.resolve(x.Traversal)
		r.diags.Append(diags...)
		if ok || diags.HasErrors() {
			return t
		}
	}
	return r.fail(x.Range(), codeType, "Not a type", "A type is a word as string, or another stream's: stream.NAME.schema.")
}

func (r *typeReader) unknown(name string, rng hcl.Range) types.Type {
	instead := map[string]string{
		"number": "int or float", "integer": "int", "long": "int", "bigint": "int", "int64": "int", "int32": "int", "double": "float", "float64": "float", "real": "float", "numeric": "decimal(P, S)",
		"text": "string", "varchar": "string", "str": "string", "uuid": "string", "boolean": "bool", "timestamp": "timestamp_ms or timestamp_rfc3339", "datetime": "timestamp_rfc3339", "time": "timestamp_ms or timestamp_rfc3339",
		"binary": "bytes", "array": "list(type)", "set": "list(type)", "tuple": "list(type)", "struct": "object({ name = type })", "record": "object({ name = type })", "dict": "map(type)", "json": "any",
	}[name]
	if instead != "" {
		return r.fail(rng, codeTypeName, "Unknown type", "There is no type %q. Write %s.", name, instead)
	}
	return r.fail(rng, codeTypeName, "Unknown type", "There is no type %q.%s", name, diag.DidYouMean(name, types.Names()))
}

func (r *typeReader) call(x *hclsyntax.FunctionCallExpr, depth int) types.Type {
	switch x.Name {
	case "list", "map", "sensitive":
		if len(x.Args) != 1 {
			r.fail(x.Range(), codeType, "Not a type", "%s takes one type: %s(string).", x.Name, x.Name)
			return types.AnyType
		}
		t := r.read(x.Args[0], depth+1)
		switch x.Name {
		case "list":
			return types.ListOf(t)
		case "map":
			return types.MapOf(t)
		}
		t.Sensitive = true
		return t
	case "decimal":
		return r.decimal(x)
	case "object":
		return r.object(x, depth)
	case "optional":
		return r.fail(x.NameRange, codeType, "Not a type", "optional(type) marks a field of an object, and stands outermost there.")
	}
	if _, ok := types.Scalar(x.Name); ok {
		return r.fail(x.Range(), codeType, "Not a type", "%s takes nothing: write %s.", x.Name, x.Name)
	}
	return r.unknown(x.Name, x.NameRange)
}

func (r *typeReader) decimal(x *hclsyntax.FunctionCallExpr) types.Type {
	if len(x.Args) != 2 {
		return r.fail(x.Range(), codeType, "Not a type", "decimal takes precision and scale: decimal(10, 2).")
	}
	var n [2]int
	for i, a := range x.Args {
		lit, ok := a.(*hclsyntax.LiteralValueExpr)
		if !ok || lit.Val.IsNull() || lit.Val.Type() != cty.Number || !lit.Val.AsBigFloat().IsInt() {
			return r.fail(a.Range(), codeType, "Not a type", "decimal takes two whole numbers: decimal(10, 2).")
		}
		v, _ := lit.Val.AsBigFloat().Int64()
		n[i] = int(min(max(v, -1), 1000))
	}
	t, err := types.DecimalOf(n[0], n[1])
	if err != nil {
		return r.fail(x.Range(), codeType, "Not a type", "%s.", sentence(err))
	}
	return t
}

func sentence(err error) string {
	s := err.Error()
	return fmt.Sprintf("%c%s", s[0]-'a'+'A', s[1:])
}

func (r *typeReader) object(x *hclsyntax.FunctionCallExpr, depth int) types.Type {
	var cons *hclsyntax.ObjectConsExpr
	if len(x.Args) == 1 {
		cons, _ = x.Args[0].(*hclsyntax.ObjectConsExpr)
	}
	if cons == nil {
		return r.fail(x.Range(), codeType, "Not a type", "object takes its fields in braces: object({ name = string }).")
	}
	t := types.Type{Kind: types.Object}
	first := map[string]hcl.Range{}
	for _, item := range cons.Items {
		rng := item.KeyExpr.Range()
		name := hcl.ExprAsKeyword(item.KeyExpr)
		if name == "" {
			var text diag.Text
			if key, ok := item.KeyExpr.(*hclsyntax.ObjectConsKeyExpr); ok && !key.ForceNonLiteral {
				text, _ = TextOf(key.Wrapped, r.src)
			}
			if text.S == "" {
				r.fail(rng, codeType, "Not a type", "The name of a field is an identifier, or text in quotes.")
				continue
			}
			name = text.S
		}
		if at, dup := first[name]; dup {
			r.fail(rng, codeType, "Not a type", "The field %q is there already, at %s.", name, rangeOf(at))
			continue
		}
		first[name] = rng
		f := types.Field{Name: name}
		value := item.ValueExpr
		if call, ok := value.(*hclsyntax.FunctionCallExpr); ok && call.Name == "optional" {
			f.Optional = true
			if len(call.Args) != 1 {
				r.fail(call.Range(), codeType, "Not a type", "optional takes one type: optional(string).")
				continue
			}
			value = call.Args[0]
		}
		f.Type = r.read(value, depth+1)
		t.Fields = append(t.Fields, f)
	}
	return t
}
