package configs

import (
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"keystone/configs/diag"
)

// overlay merges a body of the environment into the block: attributes replace
// whole values, a nested block that is written once on both sides merges, others
// replace all of their type.
func (b *block) overlay(over *hclsyntax.Body, diags *diag.Diagnostics) {
	b.body = b.merge(b.body, over, diags)
}

func (b *block) merge(base, over *hclsyntax.Body, diags *diag.Diagnostics) *hclsyntax.Body {
	merged := *base
	merged.Attributes = maps.Clone(base.Attributes)
	if merged.Attributes == nil {
		merged.Attributes = hclsyntax.Attributes{}
	}
	for _, a := range sortedAttrs(over) {
		if slices.ContainsFunc(base.Blocks, func(x *hclsyntax.Block) bool { return x.Type == a.Name }) {
			diags.Addf(toRange(a.NameRange), codeBothForms, "Option and block of one name", "%q is a block in the files of every environment; write it as a block here too.", a.Name)
			continue
		}
		merged.Attributes[a.Name] = a
		b.layers[a] = true
	}
	merged.Blocks = slices.Clone(base.Blocks)
	done := map[string]bool{}
	for _, x := range over.Blocks {
		if len(x.Labels) > 0 {
			b.mergeLabelled(&merged, x, diags)
			continue
		}
		if done[x.Type] {
			continue
		}
		done[x.Type] = true
		if a, ok := base.Attributes[x.Type]; ok {
			diags.Addf(toRange(x.TypeRange), codeBothForms, "Option and block of one name", "%q is an option in the files of every environment (%s); write it as one here too.", x.Type, toRange(a.NameRange))
			continue
		}
		ofType := func(y *hclsyntax.Block) bool { return y.Type == x.Type }
		before := filter(base.Blocks, ofType)
		after := filter(over.Blocks, ofType)
		for _, y := range after {
			b.markOverlay(y.Body)
		}
		if len(before) == 1 && len(after) == 1 && slices.Equal(before[0].Labels, after[0].Labels) {
			one := *before[0]
			one.Body = b.merge(one.Body, x.Body, diags)
			after = []*hclsyntax.Block{&one}
		}
		merged.Blocks = slices.DeleteFunc(merged.Blocks, ofType)
		merged.Blocks = append(merged.Blocks, after...)
	}
	return &merged
}

// mergeLabelled merges a nested block with a name into the one of that name, which must be there.
func (b *block) mergeLabelled(merged *hclsyntax.Body, x *hclsyntax.Block, diags *diag.Diagnostics) {
	i := slices.IndexFunc(merged.Blocks, func(y *hclsyntax.Block) bool { return y.Type == x.Type && slices.Equal(y.Labels, x.Labels) })
	if i < 0 {
		diags.Addf(toRange(x.DefRange()), codeOverlay, "Overlay of nothing", "There is no %s %q in the files of every environment; an overlay only changes what they declare.", x.Type, strings.Join(x.Labels, " "))
		return
	}
	one := *merged.Blocks[i]
	one.Body = b.merge(one.Body, x.Body, diags)
	merged.Blocks[i] = &one
}

func (b *block) markOverlay(body *hclsyntax.Body) {
	for _, a := range body.Attributes {
		b.layers[a] = true
	}
	for _, x := range body.Blocks {
		b.markOverlay(x.Body)
	}
}

func filter[T any](list []T, keep func(T) bool) []T {
	var out []T
	for _, x := range list {
		if keep(x) {
			out = append(out, x)
		}
	}
	return out
}
