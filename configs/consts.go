package configs

import (
	"maps"
	"slices"
	"strings"

	"github.com/zclconf/go-cty/cty"

	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/dsl"
)

// addConsts evaluates the constants that the body's expressions name: var.x,
// local.x, each.key, each.value. A name that is nothing is left to the
// checker of expressions, which reports it at its token.
func (l *loader) addConsts(opts spec.Options, body *spec.Body, in *instance) {
	for _, text := range usesOf(opts, *body) {
		for _, name := range text.consts {
			if _, ok := body.Consts[name]; ok {
				continue
			}
			v, declared := l.constOf(name, in)
			if !declared {
				continue
			}
			if body.Consts == nil {
				body.Consts = map[string]any{}
			}
			body.Consts[name] = l.plainConst(name, v, text.rng)
		}
	}
}

// plainConst gives a constant as plain Go values; nil where it was reported.
func (l *loader) plainConst(name string, v cty.Value, rng diag.Range) any {
	if v.ContainsMarked() {
		l.diags.Addf(rng, codeSensitive, "Sensitive value in an expression", "The expression uses %s, which is sensitive. Expressions are stored and shown with their constants; only options that are declared secret can hold it.", name)
		return nil
	}
	x, err := fromCty(v)
	if err != nil {
		l.diags.Addf(rng, codeEvaluate, "Constant without a value", "The expression uses %s: %v.", name, err)
		return nil
	}
	if _, isRef := x.(spec.Ref); isRef {
		l.diags.Addf(rng, codeEvaluate, "Constant without a value", "The expression uses %s, which is a reference to a block and no value.", name)
		return nil
	}
	return spec.Plain(x)
}

// constOf gives the value of a constant, and whether there is one of the
// name; what could not be evaluated, which was reported, is null.
func (l *loader) constOf(name string, in *instance) (v cty.Value, declared bool) {
	root, rest, _ := strings.Cut(name, ".")
	switch root {
	case "var":
		if v := l.vars[rest]; v != nil {
			if x, _ := v.value.UnmarkDeep(); !x.IsWhollyKnown() && !v.sensitive {
				return cty.NullVal(cty.DynamicPseudoType), true
			}
			return v.value, true
		}
	case "local":
		if l.tree.locals[rest] == nil {
			break
		}
		if v, ok := l.local(rest); ok {
			return v, true
		}
		return cty.NullVal(cty.DynamicPseudoType), true
	case "each":
		if in != nil && in.value.set && rest == "key" {
			return in.value.key, true
		}
		if in != nil && in.value.set && rest == "value" {
			return in.value.value, true
		}
	}
	return cty.NilVal, false
}

// constsText writes the constants that texts use, for comparing values whose
// meaning depends on them.
func constsText(kind spec.Kind, texts []diag.Text, consts map[string]any) string {
	if len(consts) == 0 {
		return ""
	}
	used := map[string]string{}
	for _, t := range texts {
		for _, name := range constsOf(kind, t) {
			if v, ok := consts[name]; ok {
				used[name] = spec.ConstText(v)
			}
		}
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(used)) {
		parts = append(parts, name+" = "+used[name])
	}
	if len(parts) == 0 {
		return ""
	}
	return " where " + strings.Join(parts, ", ")
}

// use is an expression or pattern with the constants that it names.
type use struct {
	consts []string
	rng    diag.Range
}

func constsOf(kind spec.Kind, t diag.Text) []string {
	if kind == spec.KindPattern {
		return dsl.PatternReferences(t)
	}
	return dsl.References(t)
}

// usesOf lists the expressions and patterns of a body.
func usesOf(opts spec.Options, body spec.Body) []use {
	var uses []use
	for _, o := range opts {
		if o.Kind == spec.KindBlock {
			uses = append(uses, usesOf(o.Block, body.Blocks[o.Name])...)
			continue
		}
		if o.Kind == spec.KindLabelled {
			group := body.Blocks[o.Name]
			for _, label := range slices.Sorted(maps.Keys(group.Blocks)) {
				uses = append(uses, usesOf(o.Each(label), group.Blocks[label])...)
			}
			continue
		}
		var texts []diag.Text
		switch v := body.Attrs[o.Name].Value.(type) {
		case diag.Text:
			texts = []diag.Text{v}
		case []diag.Text:
			texts = v
		case []spec.Field:
			texts = fieldTexts(v)
		}
		for _, t := range texts {
			uses = append(uses, use{constsOf(o.Kind, t), t.Range})
		}
	}
	return uses
}

func fieldTexts(fields []spec.Field) []diag.Text {
	var texts []diag.Text
	for _, f := range fields {
		switch {
		case f.IsObject:
			texts = append(texts, fieldTexts(f.Object)...)
		case f.Lit == nil:
			texts = append(texts, f.Expr)
		}
	}
	return texts
}
