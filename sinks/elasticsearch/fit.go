package elasticsearch

import (
	"fmt"
	"slices"
	"strings"

	"keystone/dsl/types"
	"keystone/sinks"
)

// reserved are names of the document itself, which Elasticsearch refuses among its fields.
var reserved = []string{"_id", "_index", "_source", "_routing", "_version", "_seq_no", "_field_names", "_ignored", "_nested_path", "_data_stream_timestamp", "_ignored_source"}

// Misfits tells what of a route's output Elasticsearch refuses.
func (c *Config) Misfits(t types.Type) []sinks.Misfit {
	m := c.mapper()
	if t.Kind != types.Object {
		if c.Template.Written && c.Template.Dynamic == DynamicStrict && len(c.Template.Fields) == 0 {
			m.misfit("", "The type of what is written is not known, so the mapping has no fields, and template.dynamic = %q refuses all that have one. Give the stream a schema, project the fields, or name them in template.fields.", DynamicStrict)
		}
		return m.misfits
	}
	m.names(t, "", c.origin())
	if !c.Template.Written {
		return m.misfits
	}
	root := m.object(t, "")
	if c.Template.Dynamic == DynamicStrict {
		m.unknown(t, "")
	}
	if f, ok := t.Field(timestampField); c.DataStream && !ok && !t.Open {
		m.misfit("", "A data stream needs the field %q, and the output does not have it. Add it: project = { %q = \"…\" }.", timestampField, timestampField)
	} else if tm, mapped := at(root, timestampField); c.DataStream && ok && mapped && !strings.HasPrefix(typeOf(tm), "date") {
		m.misfit(timestampField, "A data stream needs a time in the field %q, and it is %s. Make one of it by parse_time().", timestampField, f.Type)
	}
	return m.misfits
}

// names holds the names of fields against what Elasticsearch takes.
func (m *mapper) names(t types.Type, path string, origin bool) {
	for _, f := range t.Fields {
		at := f.Name
		if path != "" {
			at = path + "." + f.Name
		}
		switch {
		case path == "" && slices.Contains(reserved, f.Name):
			m.misfit(at, "Elasticsearch takes no document with a field %q: it is a name of the document itself. Give the field another name.", f.Name)
		case path == "" && f.Name == originField && origin:
			m.misfit(at, "Keystone adds the field %q, and the output has one. Give the field another name, or set origin = false in the sink.", f.Name)
		case !wellFormed(f.Name):
			m.misfit(at, "Elasticsearch makes a path of a name with dots, and %q is none. Give the field another name.", f.Name)
		}
		in := f.Type
		for in.Kind == types.List {
			in = *in.Elem
		}
		if in.Kind == types.Object {
			m.names(in, at, origin)
		}
	}
}

// unknown reports fields that have no mapping where the mapping must have all.
func (m *mapper) unknown(t types.Type, path string) {
	for _, f := range t.Fields {
		at := f.Name
		if path != "" {
			at = path + "." + f.Name
		}
		in := f.Type
		for in.Kind == types.List {
			in = *in.Elem
		}
		_, said := m.fields[at]
		switch {
		case said || m.below(at) != "":
		case in.Kind == types.Any, in.Kind == types.Nil:
			m.misfit(at, "The type of %q is not known, so the mapping lacks it, and template.dynamic = %q refuses its documents. Name its type: template { fields = { %q = \"…\" } }.", at, DynamicStrict, at)
		case in.Kind == types.Object:
			m.unknown(in, at)
		}
	}
}

// Clashes tells which fields of a route's output other routes write with types that have no common mapping.
func (c *Config) Clashes(t types.Type, others []sinks.Writer) []sinks.Misfit {
	if !c.Template.Written || t.Kind != types.Object {
		return nil
	}
	var out []sinks.Misfit
	mine := c.mapper().object(t, "")
	for _, o := range others {
		if o.Type.Kind != types.Object {
			continue
		}
		by := o.Route + " writes"
		if o.Letters {
			by = "dead letters of " + o.Route + " bring"
		}
		_, clashes := unite(c.mapper().object(o.Type, ""), mine, "")
		for _, x := range clashes {
			if slices.ContainsFunc(out, func(m sinks.Misfit) bool { return m.Path == x.path }) {
				continue
			}
			out = append(out, sinks.Misfit{Path: x.path, Text: fmt.Sprintf("%q is mapped to %s here, and to %s by what %s to the same indices. Convert it in one of the routes, or say what it is: template { fields = { %q = \"…\" } }.",
				x.path, phraseOf(x.want), phraseOf(x.have), by, x.path)})
		}
	}
	return out
}

var _ interface {
	sinks.Provisioner
	sinks.Fitter
	sinks.Uniter
	sinks.Claimer
} = (*Config)(nil)
