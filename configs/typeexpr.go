package configs

import (
	"maps"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"keystone/configs/addr"
	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/dsl"
	"keystone/dsl/types"
)

// typeWords are the names that only types have.
var typeWords = []string{"string", "bool", "int", "float", "timestamp_ms", "timestamp_rfc3339", "date", "bytes", "any", "decimal", "list", "map", "object", "optional", "sensitive"}

// isTypeExpr tells an expression that declares a type: HCL cannot evaluate it.
func isTypeExpr(expr hclsyntax.Expression) bool {
	if call, ok := expr.(*hclsyntax.FunctionCallExpr); ok {
		return slices.Contains(typeWords, call.Name)
	}
	word := hcl.ExprAsKeyword(expr)
	return word != "" && slices.Contains(typeWords, word)
}

// typeOf reads a schema: a type written out, a local that is one, or the
// schema of another stream or source.
func (l *loader) typeOf(expr hclsyntax.Expression) spec.Value {
	at, ok := l.schemaOf(expr, map[addr.Addr]bool{})
	if !ok {
		return spec.Invalid{}
	}
	if at == nil || isNull(at) {
		return nil
	}
	t, diags := dsl.TypeOf(at, l.src(at.Range()), l.resolveType(map[addr.Addr]bool{}, 0))
	l.diags.Append(diags...)
	if diags.HasErrors() {
		return spec.Invalid{}
	}
	return t
}

// maxTypeHops bounds types that stand for types.
const maxTypeHops = 100

// resolveType gives the types that references inside of a type stand for.
func (l *loader) resolveType(seen map[addr.Addr]bool, hops int) dsl.ResolveType {
	return func(t hcl.Traversal) (types.Type, bool, diag.Diagnostics) {
		rng := t.SourceRange()
		var diags diag.Diagnostics
		if hops > maxTypeHops {
			diags.Addf(toRange(rng), codeLocalCycle, "Types in a circle", "The type needs itself, over others.")
			return types.AnyType, false, diags
		}
		before := len(l.diags)
		ref := &hclsyntax.ScopeTraversalExpr{Traversal: t, SrcRange: rng}
		at, ok := l.schemaOf(ref, maps.Clone(seen))
		if !ok {
			diags = append(diags, l.diags[before:]...)
			l.diags = l.diags[:before]
			return types.AnyType, false, diags
		}
		if at == hclsyntax.Expression(ref) {
			return types.AnyType, false, nil // no reference to a type
		}
		typ, diags := dsl.TypeOf(at, l.src(at.Range()), l.resolveType(seen, hops+1))
		return typ, !diags.HasErrors(), diags
	}
}

// schemaOf follows locals and stream.x.schema to the type as written; nil if
// the other stream has none.
func (l *loader) schemaOf(expr hclsyntax.Expression, seen map[addr.Addr]bool) (hclsyntax.Expression, bool) {
	at, ok := l.written(expr)
	if !ok {
		return nil, false
	}
	t, isRef := traversalOf(at)
	if !isRef || len(t) < 3 || t.RootName() != "stream" && t.RootName() != "source" {
		return at, true
	}
	rng := toRange(at.Range())
	name, isAttr := t[1].(hcl.TraverseAttr)
	last, lastIsAttr := t[len(t)-1].(hcl.TraverseAttr)
	if !isAttr || !lastIsAttr {
		return at, true
	}
	if !l.checkBlockReference(t[:2], t.RootName(), name.Name, rng) {
		return nil, false
	}
	if last.Name != "schema" || len(t) > 4 {
		l.diags.Addf(toRange(last.SrcRange), codeReference, "Unknown reference", "Of another %s only its schema can be read: %s.%s.schema.", t.RootName(), t.RootName(), name.Name)
		return nil, false
	}
	a := addr.New(t.RootName(), name.Name)
	if seen[a] {
		l.diags.Addf(rng, codeReference, "Schemas in a circle", "The schema of %s is its own, over others.", a)
		return nil, false
	}
	seen[a] = true
	schema := l.tree.blocks[a].body.Attributes["schema"]
	if schema == nil {
		l.diags.Addf(rng, codeReference, "No schema", "%s has no schema.", a)
		return nil, false
	}
	return l.schemaOf(schema.Expr, seen)
}

// traversalOf gives a reference, also one with an index that is computed.
func traversalOf(expr hclsyntax.Expression) (hcl.Traversal, bool) {
	switch e := expr.(type) {
	case *hclsyntax.ScopeTraversalExpr:
		return e.Traversal, true
	case *hclsyntax.RelativeTraversalExpr:
		if index, ok := e.Source.(*hclsyntax.IndexExpr); ok {
			if base, ok := index.Collection.(*hclsyntax.ScopeTraversalExpr); ok {
				return slices.Concat(base.Traversal, hcl.Traversal{hcl.TraverseIndex{SrcRange: index.BracketRange}}, e.Traversal), true
			}
		}
	}
	return nil, false
}
