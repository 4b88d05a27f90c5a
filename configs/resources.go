package configs

import (
	"slices"

	"keystone/configs/addr"
	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/dsl/types"
)

// resources evaluates every instance of every block, in address order.
func (l *loader) resources() []Resource {
	l.checkDefaults()
	var out []Resource
	declared := map[string]spec.Options{} // by type and kind; evaluation reads only the declaration
	for _, b := range l.tree.order {
		key := b.addr.Type + " " + b.kind
		opts, known := declared[key]
		if !known {
			opts = l.opts.Catalog.declaration(b.addr.Type, b.kind)
			declared[key] = opts
		}
		if opts == nil {
			l.opts.Catalog.unknownKind(b, &l.diags)
			l.failed[b.addr] = true
			continue
		}
		if !l.expand(b) {
			l.failed[b.addr] = true
			continue
		}
		for i := range b.instances {
			in := &b.instances[i]
			from := len(l.diags)
			body := l.body(b, b.body, b.header, opts, in)
			l.mergeDefaults(b, opts, &body)
			l.applySets(in.addr, opts, &body)
			l.addConsts(opts, &body, in)
			l.addressFrom(in.addr, from)
			out = append(out, Resource{Addr: in.addr, Kind: b.kind, Decl: b.header, Body: body})
		}
	}
	slices.SortFunc(out, func(a, b Resource) int { return addr.Compare(a.Addr, b.Addr) })
	return out
}

// addressFrom says on diagnostics from index from on whom they are about.
func (l *loader) addressFrom(a addr.Addr, from int) {
	for i := range l.diags[from:] {
		l.diags[from+i].Address = a.String()
	}
}

// declaration gives the options of a type of block, bound to a block that
// nobody else has; nil for a kind that is not in the catalog.
func (c Catalog) declaration(typ, kind string) spec.Options {
	switch typ {
	case "cluster":
		return new(Cluster).Options()
	case "stream":
		return new(Stream).Options()
	case "route":
		return new(Route).Options()
	case "job":
		return new(Job).Options()
	case "source":
		for _, k := range c.Sources {
			if k.Name == kind {
				return sourceOptions(&Source{}, k.New().Options())
			}
		}
	case "sink":
		for _, k := range c.Sinks {
			if k.Name == kind {
				return append(spec.Options{}, k.New().Options()...) // never nil, also for a kind without options
			}
		}
	}
	return nil
}

// sourceOptions are those of the kind and those of every source.
func sourceOptions(s *Source, of spec.Options) spec.Options {
	return append(spec.Options{schemaOption(&s.Schema)}, of...)
}

func schemaOption(t *types.Type) *spec.Option {
	return spec.Schema("schema", t, "Type of the events. Without one, names in expressions are unchecked.").Effect(spec.Live).Eg("object({ user_id = string, ts = timestamp_ms })")
}

func (c Catalog) kinds(typ string) []string {
	var names []string
	if typ == "source" {
		for _, k := range c.Sources {
			names = append(names, k.Name)
		}
	} else {
		for _, k := range c.Sinks {
			names = append(names, k.Name)
		}
	}
	slices.Sort(names)
	return names
}

func (c Catalog) unknownKind(b *block, diags *diag.Diagnostics) {
	near := diag.DidYouMean(b.kind, c.kinds(b.addr.Type))
	if near == "" {
		near = " There are " + joinWords(c.kinds(b.addr.Type)) + "."
	}
	if b.kind == "kafka" {
		near = " Topics of Kafka are streams: declare a cluster and a stream, and route from or to the stream."
	}
	diags.Append(diag.Diagnostic{Severity: diag.Error, Code: codeKind, Summary: "Unknown " + b.addr.Type + " kind", Detail: "There is no " + b.addr.Type + " kind \"" + b.kind + "\"." + near, Range: b.header, Address: b.addr.String()})
}

func joinWords(words []string) string {
	s := ""
	for i, w := range words {
		switch {
		case i == 0:
		case i == len(words)-1:
			s += " and "
		default:
			s += ", "
		}
		s += w
	}
	return s
}
