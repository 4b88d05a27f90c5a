package configs

import (
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"keystone/configs/addr"
	"keystone/configs/diag"
	"keystone/configs/spec"
)

const setPrefix = "KEYSTONE_SET_"

// defaultTypes are the blocks that may stand in defaults.
var defaultTypes = []string{"cluster", "stream", "source", "sink", "route", "job"}

// defaultsFor gives the block of defaults for a type and kind, or nil.
func (l *loader) defaultsFor(typ, kind string) *hclsyntax.Block {
	if l.tree.defaults == nil {
		return nil
	}
	for _, b := range l.tree.defaults.body.Blocks {
		if b.Type == typ && (kind == "" && len(b.Labels) == 0 || len(b.Labels) == 1 && b.Labels[0] == kind) {
			return b
		}
	}
	return nil
}

// checkDefaults reports what is wrong with the block defaults by itself.
func (l *loader) checkDefaults() {
	if l.tree.defaults == nil {
		return
	}
	body := l.tree.defaults.body
	for _, a := range sortedAttrs(body) {
		l.diags.Addf(toRange(a.NameRange), codeBlockType, "Option outside of a block", "defaults { } has blocks only, such as route { … }.")
	}
	seen := map[string]diag.Range{}
	for _, b := range body.Blocks {
		rng := toRange(b.DefRange())
		want := 0
		if b.Type == "source" || b.Type == "sink" {
			want = 1
		}
		kind := strings.Join(b.Labels, " ")
		opts := l.opts.Catalog.declaration(b.Type, kind)
		switch first, twice := seen[b.Type+" "+kind]; {
		case !slices.Contains(defaultTypes, b.Type):
			l.diags.Addf(toRange(b.TypeRange), codeBlockType, "Unknown block in defaults", "There are no defaults for %q.%s", b.Type, diag.DidYouMean(b.Type, defaultTypes))
		case len(b.Labels) != want:
			l.diags.Addf(rng, codeLabels, "Wrong number of labels", "Defaults are written for a type of block, %s { … }, and for a kind of source or sink, such as sink \"file\" { … }.", b.Type)
		case twice:
			l.diags.Addf(rng, codeTwice, "Block written twice", "These defaults are already written at %s.", first)
		case opts == nil:
			l.opts.Catalog.unknownKind(&block{addr: addr.New(b.Type, kind), kind: kind, header: rng}, &l.diags)
		default:
			seen[b.Type+" "+kind] = rng
			opts = slices.DeleteFunc(opts, func(o *spec.Option) bool { return o.Kind == spec.KindLabelled }) // operators are a job's own
			for _, o := range opts {
				o.IsRequired = false
			}
			if a := b.Body.Attributes["for_each"]; a != nil {
				l.diags.Addf(toRange(a.NameRange), codeForEach, "for_each in defaults", "Defaults cannot make instances.")
			}
			l.diags.Append(spec.Decode(opts, l.body(l.tree.defaults, b.Body, rng, opts, nil))...)
		}
	}
}

// mergeDefaults puts the options of defaults under those of the block.
func (l *loader) mergeDefaults(b *block, opts spec.Options, body *spec.Body) {
	d := l.defaultsFor(b.addr.Type, b.kind)
	if d == nil {
		return
	}
	key := b.addr.Type + " " + b.kind
	under, ok := l.defaults[key]
	if !ok {
		silent := len(l.diags) // checkDefaults has reported all
		under = l.body(l.tree.defaults, d.Body, toRange(d.DefRange()), opts, nil)
		l.diags = l.diags[:silent]
		l.defaults[key] = under
	}
	*body = mergeUnder(*body, under)
}

// mergeUnder gives body with what only under has.
func mergeUnder(body, under spec.Body) spec.Body {
	attrs := make(map[string]spec.Attr, len(body.Attrs)+len(under.Attrs))
	for name, a := range under.Attrs {
		a.Layer = spec.LayerDefaults
		attrs[name] = a
	}
	maps.Copy(attrs, body.Attrs)
	body.Attrs = attrs
	if len(under.Blocks) > 0 {
		blocks := maps.Clone(body.Blocks)
		if blocks == nil {
			blocks = map[string]spec.Body{}
		}
		for name, b := range under.Blocks {
			own, written := blocks[name]
			if !written {
				own.Range = b.Range
			}
			blocks[name] = mergeUnder(own, b)
		}
		body.Blocks = blocks
	}
	return body
}

// applySets puts KEYSTONE_SET_<ADDR>_<OPTION> over the block.
func (l *loader) applySets(a addr.Addr, opts spec.Options, body *spec.Body) {
	if !l.hasSets {
		return
	}
	l.applySet(a.Block(), setName(a.Block())+"_", "", opts, body)
	if a.Each {
		l.applySet(a, setName(a)+"_", "", opts, body) // the instance's own is stronger
	}
}

// useSet refuses a name that means options of two blocks: route.a_b's c and
// route.a's b_c.
func (l *loader) useSet(name, option string) {
	first, used := l.setUses[name]
	if used && first != option {
		l.diags.Addf(diag.Range{}, codeSet, "Ambiguous environment variable", "%s means two options: %s and %s. Rename one of the blocks, or set the option in a file.", name, strings.Replace(first, " ", "'s ", 1), strings.Replace(option, " ", "'s ", 1))
	}
	l.setUses[name] = option
}

func (l *loader) applySet(owner addr.Addr, prefix, path string, opts spec.Options, body *spec.Body) {
	for _, o := range opts {
		name := prefix + upper(o.Name)
		if o.Kind == spec.KindLabelled {
			l.applyLabelled(owner, name+"_", path+o.Name+".", o, body)
			continue
		}
		if o.Kind == spec.KindBlock {
			if !l.anySet(name + "_") {
				continue
			}
			nested, ok := body.Blocks[o.Name]
			if !ok {
				nested.Range = diag.Range{File: name}
			}
			before := len(nested.Attrs)
			l.applySet(owner, name+"_", path+o.Name+".", o.Block, &nested)
			if ok || len(nested.Attrs) > before {
				body.Blocks = maps.Clone(body.Blocks)
				if body.Blocks == nil {
					body.Blocks = map[string]spec.Body{}
				}
				body.Blocks[o.Name] = nested
			}
			continue
		}
		text, ok := l.environ[name]
		if !ok {
			continue
		}
		l.useSet(name, owner.String()+" "+path+o.Name)
		rng := diag.Range{File: name, Start: diag.Pos{Line: 1, Column: 1}, End: diag.Pos{Line: 1, Column: 1}}
		body.Attrs = maps.Clone(body.Attrs)
		if body.Attrs == nil {
			body.Attrs = map[string]spec.Attr{}
		}
		body.Attrs[o.Name] = spec.Attr{Value: l.setValue(o, name, text, rng), Range: rng, NameRange: rng, Layer: spec.LayerEnvironment}
	}
}

// applyLabelled puts what is set over blocks with a name; it adds none.
func (l *loader) applyLabelled(owner addr.Addr, prefix, path string, o *spec.Option, body *spec.Body) {
	group, ok := body.Blocks[o.Name]
	if !ok || !l.anySet(prefix) {
		return
	}
	group.Blocks = maps.Clone(group.Blocks)
	for label, b := range group.Blocks {
		l.applySet(owner, prefix+upper(label)+"_", path+label+".", o.Each(label), &b)
		group.Blocks[label] = b
	}
	body.Blocks = maps.Clone(body.Blocks)
	body.Blocks[o.Name] = group
}

func (l *loader) anySet(prefix string) bool {
	for name := range l.environ {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// setValue reads the text of an environment variable as the option's kind:
// text as it is, everything else as HCL. A secret stays where it is.
func (l *loader) setValue(o *spec.Option, name, text string, rng diag.Range) spec.Value {
	switch o.Kind {
	case spec.KindString, spec.KindEnum, spec.KindDuration, spec.KindBytes:
		return text
	case spec.KindSecret:
		return spec.Secret{Parts: []spec.SecretPart{{Env: name}}, Range: rng}
	case spec.KindExpr, spec.KindPattern:
		return diag.Text{S: text, Range: rng}
	case spec.KindExprs:
		if !strings.HasPrefix(strings.TrimSpace(text), "[") {
			return []diag.Text{{S: text, Range: rng}}
		}
	}
	expr, diags := parseText(text, name)
	l.diags.Append(diags...)
	if diags.HasErrors() {
		return spec.Invalid{}
	}
	l.files[name] = &file{name: name, src: []byte(text)}
	return l.option(o, expr, nil)
}

// checkSetNames warns of names that set nothing.
func (l *loader) checkSetNames() {
	for _, name := range slices.Sorted(maps.Keys(l.environ)) {
		if !strings.HasPrefix(name, setPrefix) {
			continue
		}
		if _, used := l.setUses[name]; !used {
			l.diags.Warnf(diag.Range{}, codeSet, "Unknown environment variable", "%s sets nothing: there is no option at this place.%s Names are %sTYPE_NAME_OPTION, such as %sROUTE_PLAYS_ENABLED.", name, diag.DidYouMean(name, l.setNames()), setPrefix, setPrefix)
		}
	}
}

// setNames lists the names for the options of declared blocks.
func (l *loader) setNames() []string {
	var names []string
	var add func(prefix string, opts spec.Options)
	add = func(prefix string, opts spec.Options) {
		for _, o := range opts {
			switch o.Kind {
			case spec.KindBlock:
				add(prefix+upper(o.Name)+"_", o.Block)
			case spec.KindLabelled: // which names there are is not known here
			default:
				names = append(names, prefix+upper(o.Name))
			}
		}
	}
	for _, b := range l.tree.order {
		add(setName(b.addr)+"_", l.opts.Catalog.declaration(b.addr.Type, b.kind))
	}
	return names
}

// setName gives KEYSTONE_SET_ROUTE_TV_EU_WEST_1 for route.tv["eu-west-1"].
func setName(a addr.Addr) string {
	s := setPrefix + a.Type
	if a.Name != "" {
		s += "_" + a.Name
	}
	if a.Each {
		s += "_" + a.Key
	}
	return upper(s)
}

// upper gives s as part of the name of an environment variable.
func upper(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, s)
}
