package configs

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"keystone/configs/addr"
	"keystone/configs/diag"
)

// block is one declared block with its overlays merged in; for_each makes
// several instances of it.
type block struct {
	addr   addr.Addr // without a key
	kind   string    // of a source or sink
	body   *hclsyntax.Body
	header diag.Range
	layers map[*hclsyntax.Attribute]bool // attributes that an overlay wrote

	expansion expansion
	each      bool       // it has for_each
	addresses cty.Value  // by key, once something has referred to it
	instances []instance // in key order; one without a key where there is no for_each
}

// instance is one instance of a block.
type instance struct {
	addr  addr.Addr
	block *block
	value eachValue
}

type blockType struct {
	name   string
	labels []string
	note   string // of a type that is not in this version
}

// blockTypes lists the top-level blocks and their labels.
var blockTypes = []blockType{
	{name: "keystone"},
	{name: "variable", labels: []string{"name"}},
	{name: "locals"},
	{name: "defaults"},
	{name: "cluster", labels: []string{"name"}},
	{name: "stream", labels: []string{"name"}},
	{name: "source", labels: []string{"kind", "name"}},
	{name: "sink", labels: []string{"kind", "name"}},
	{name: "route", labels: []string{"name"}},
	{name: "job", labels: []string{"name"}},
	{name: "moved"},
	{name: "removed"},
	{name: "alert", labels: []string{"name"}, note: "Alerts come with a later version."},
	{name: "notify", labels: []string{"name"}, note: "Notifications come with a later version."},
	{name: "runner", labels: []string{"name"}, note: "Every route runs in the process of `keystone serve`."},
}

func blockTypeNames() []string {
	var names []string
	for _, t := range blockTypes {
		if t.note == "" {
			names = append(names, t.name)
		}
	}
	return names
}

// tree is the blocks of all files, sorted by type but not evaluated.
type tree struct {
	blocks    map[addr.Addr]*block // cluster, stream, source, sink, route
	order     []*block             // as declared
	variables map[string]*block
	locals    map[string]*hclsyntax.Attribute
	settings  *block
	defaults  *block
	moved     []*block
	removed   []*block
}

// collect sorts the blocks of all files: base files first, then overlays
// merged into what the base declares.
func collect(files []*file) (*tree, diag.Diagnostics) {
	t := &tree{blocks: map[addr.Addr]*block{}, variables: map[string]*block{}, locals: map[string]*hclsyntax.Attribute{}}
	var diags diag.Diagnostics
	for _, overlay := range []bool{false, true} {
		for _, f := range files {
			if f == nil || f.body == nil || f.overlay != overlay {
				continue
			}
			for _, a := range sortedAttrs(f.body) {
				diags.Addf(toRange(a.NameRange), codeBlockType, "Option outside of a block", "%q stands outside of any block. Options belong in blocks such as route %q { … }; shared values belong in locals { … }.", a.Name, "name")
			}
			for _, b := range f.body.Blocks {
				t.add(b, overlay, &diags)
			}
		}
	}
	return t, diags
}

func (t *tree) add(b *hclsyntax.Block, overlay bool, diags *diag.Diagnostics) {
	i := slices.IndexFunc(blockTypes, func(x blockType) bool { return x.name == b.Type })
	rng := toRange(b.DefRange())
	if i < 0 {
		diags.Addf(toRange(b.TypeRange), codeBlockType, "Unknown block type", "There is no block %q.%s The blocks are %s.", b.Type, diag.DidYouMean(b.Type, blockTypeNames()), strings.Join(blockTypeNames(), ", "))
		return
	}
	if blockTypes[i].note != "" {
		diags.Addf(rng, codeNotYet, "Block not in this version", "This version of Keystone has no %q blocks. %s", b.Type, blockTypes[i].note)
		return
	}
	if !checkLabels(b, blockTypes[i].labels, diags) {
		return
	}
	bothForms(b.Body, diags)
	x := &block{body: b.Body, header: rng, layers: map[*hclsyntax.Attribute]bool{}}
	if n := len(b.Labels); n > 0 {
		x.addr = addr.New(b.Type, b.Labels[n-1])
		if n == 2 {
			x.kind = b.Labels[0]
		}
	}
	switch b.Type {
	case "locals":
		t.addLocals(b, overlay, diags)
	case "keystone":
		addSingle(&t.settings, x, overlay, b.Type, diags)
	case "defaults":
		addSingle(&t.defaults, x, overlay, b.Type, diags)
	case "moved":
		t.moved = append(t.moved, x)
	case "removed":
		t.removed = append(t.removed, x)
	case "variable":
		old := t.variables[x.addr.Name]
		addSingle(&old, x, overlay, fmt.Sprintf("variable %q", x.addr.Name), diags)
		if old != nil {
			t.variables[x.addr.Name] = old
		}
	default:
		t.addBlock(x, overlay, diags)
	}
}

func (t *tree) addBlock(x *block, overlay bool, diags *diag.Diagnostics) {
	old := t.blocks[x.addr]
	if old != nil && old.kind != x.kind {
		if overlay {
			diags.Addf(x.header, codeOverlay, "Overlay of another kind", "%s is of kind %q (%s); an overlay cannot make it %q.", x.addr, old.kind, old.header, x.kind)
		} else {
			diags.Addf(x.header, codeDuplicate, "Name used twice", "%s is declared at %s, as kind %q. The kind is not part of an address, so names are unique over all kinds of %ss.", x.addr, old.header, old.kind, x.addr.Type)
		}
		return
	}
	was := old
	addSingle(&old, x, overlay, x.addr.String(), diags)
	if old != nil && was == nil {
		t.blocks[x.addr] = old
		t.order = append(t.order, old)
	}
}

// addSingle keeps x as the one block of its name, or merges an overlay into it.
func addSingle(old **block, x *block, overlay bool, what string, diags *diag.Diagnostics) {
	switch {
	case *old == nil && overlay:
		diags.Addf(x.header, codeOverlay, "Overlay of nothing", "There is no %s in the files of every environment; an overlay only changes what they declare.", what)
	case *old == nil:
		*old = x
	case !overlay:
		diags.Addf(x.header, codeDuplicate, "Declared twice", "%s is already declared at %s.", what, (*old).header)
	default:
		(*old).overlay(x.body, diags)
	}
}

func (t *tree) addLocals(b *hclsyntax.Block, overlay bool, diags *diag.Diagnostics) {
	for _, nested := range b.Body.Blocks {
		diags.Addf(toRange(nested.DefRange()), codeBlockType, "Block in locals", "locals { } has values only: write %s = …", nested.Type)
	}
	for _, a := range sortedAttrs(b.Body) {
		if old := t.locals[a.Name]; old != nil && !overlay {
			diags.Addf(toRange(a.NameRange), codeDuplicate, "Declared twice", "local.%s is already declared at %s.", a.Name, toRange(old.NameRange))
			continue
		}
		t.locals[a.Name] = a
	}
}

func checkLabels(b *hclsyntax.Block, want []string, diags *diag.Diagnostics) bool {
	if len(b.Labels) != len(want) {
		form := b.Type
		for _, l := range want {
			form += fmt.Sprintf(" %q", strings.ToUpper(l))
		}
		detail := fmt.Sprintf("Write %s { … }.", form)
		if len(want) == 2 && len(b.Labels) == 1 {
			detail = fmt.Sprintf("A %s has a kind and a name: write %s.", b.Type, form)
		}
		diags.Addf(toRange(b.DefRange()), codeLabels, "Wrong number of labels", "%s", detail)
		return false
	}
	ok := true
	for i, l := range b.Labels {
		if !addr.IsLabel(l) || len(l) > 100 {
			diags.Addf(toRange(b.LabelRanges[i]), codeLabels, "Not a name", "%q cannot be a %s: it begins with a letter a to z, goes on with a to z, 0 to 9 and _, and has at most 100 of them.", l, want[i])
			ok = false
		}
	}
	return ok
}

// bothForms refuses an attribute and a block of one name in one body, which
// HCL accepts silently.
func bothForms(body *hclsyntax.Body, diags *diag.Diagnostics) {
	for _, b := range body.Blocks {
		if a, ok := body.Attributes[b.Type]; ok {
			diags.Addf(toRange(b.TypeRange), codeBothForms, "Option and block of one name", "%q is written as an option at %s and as a block here. Keep one.", b.Type, toRange(a.NameRange))
		}
		bothForms(b.Body, diags)
	}
}

func sortedAttrs(body *hclsyntax.Body) []*hclsyntax.Attribute {
	attrs := make([]*hclsyntax.Attribute, 0, len(body.Attributes))
	for _, a := range body.Attributes {
		attrs = append(attrs, a)
	}
	slices.SortFunc(attrs, func(a, b *hclsyntax.Attribute) int { return a.NameRange.Start.Byte - b.NameRange.Start.Byte })
	return attrs
}
