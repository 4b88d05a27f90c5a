package elasticsearch

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"keystone/configs/diag"
	"keystone/dsl/types"
	"keystone/sinks"
)

// A mapping is the JSON object that Elasticsearch has for a field: type, parameters, and the properties of an object.
type mapping = map[string]any

// maxKeyword is how many characters a keyword may have to be indexed: Lucene takes 32766 bytes, and refuses the
// document for more. What is longer is kept in the document all the same.
const maxKeyword = 8191

// exactDigits is how many decimal digits a double always keeps. scaled_float goes through one.
const exactDigits = 15

// mapper makes the mapping of what routes write.
type mapper struct {
	strings Strings
	fields  map[string]string // overrides by path
	misfits []sinks.Misfit
}

func (c *Config) mapper() *mapper {
	return &mapper{strings: c.Template.Strings, fields: c.Template.Fields}
}

// mapping gives the whole mapping for events of these types. Where they contradict each other the first one counts.
func (c *Config) mapping(events []types.Type) mapping {
	m := c.mapper()
	root := mapping{}
	for _, t := range events {
		if t.Kind == types.Object {
			root, _ = unite(root, m.object(t, ""), "")
		}
	}
	for _, path := range slices.Sorted(maps.Keys(c.Template.Fields)) {
		if o, err := override(c.Template.Fields[path]); err == nil {
			place(root, path, o)
		}
	}
	if c.DataStream {
		if _, ok := at(root, timestampField); !ok {
			place(root, timestampField, mapping{"type": "date"})
		}
	}
	if c.origin() {
		place(root, originField, mapping{"type": "object", "enabled": false})
	}
	root["dynamic"] = string(c.Template.Dynamic)
	return root
}

const (
	timestampField = "@timestamp"
	originField    = "_ks"
)

// object gives the mapping of an object's fields.
func (m *mapper) object(t types.Type, path string) mapping {
	out := mapping{}
	for _, f := range t.Fields {
		at := f.Name
		if path != "" {
			at = path + "." + f.Name
		}
		if fm := m.field(f.Type, at); fm != nil {
			if !wellFormed(f.Name) {
				continue // checkNames says so
			}
			one := mapping{}
			place(one, f.Name, fm) // a name with dots is a path to Elasticsearch
			out, _ = unite(out, one, path)
		}
	}
	return out
}

// field gives the mapping of a field; nil where nothing is known of it: then Elasticsearch
// goes by the first document that has it.
func (m *mapper) field(t types.Type, path string) mapping {
	for t.Kind == types.List { // a field may have several values, each of its type
		t = *t.Elem
	}
	if text, ok := m.fields[path]; ok {
		o, err := override(text)
		if err != nil {
			return nil // Check says so
		}
		name, _ := o["type"].(string)
		if !takes(name, t.Kind) {
			m.misfit(path, "%q is %s, and template.fields maps it to %s, which has no place for that.", path, t, name)
		}
		if t.Kind == types.Object && (isObject(o) && o["enabled"] != false) {
			o, _ = unite(m.object(t, path), o, path)
		}
		return o
	}
	if below := m.below(path); below != "" && t.Kind != types.Object && t.Kind != types.Any && t.Kind != types.Nil {
		if t.Kind == types.Map {
			return mapping{"type": "object"}
		}
		m.misfit(path, "%q is %s, which has no fields, and template.fields has %q.", path, t, below)
	}
	switch t.Kind {
	case types.Bool:
		return mapping{"type": "boolean"}
	case types.Int:
		return mapping{"type": "long"}
	case types.Float:
		return mapping{"type": "double"}
	case types.String:
		return ofString(m.strings)
	case types.Decimal:
		return ofDecimal(t)
	case types.TimestampMs:
		return mapping{"type": "date", "format": "epoch_millis"}
	case types.TimestampRFC3339:
		return mapping{"type": "date", "format": "strict_date_optional_time"}
	case types.Date:
		return mapping{"type": "date", "format": "strict_date"}
	case types.Bytes:
		return mapping{"type": "binary"}
	case types.Map: // one field for all keys: a mapping must not grow with what keys there are
		return mapping{"type": "flattened", "ignore_above": maxKeyword}
	case types.Object:
		out := m.object(t, path)
		out["type"] = "object"
		return out
	}
	return nil // Any and Nil
}

// below gives a path of template.fields that is below another; "" if there is none.
func (m *mapper) below(path string) string {
	for _, other := range slices.Sorted(maps.Keys(m.fields)) {
		if strings.HasPrefix(other, path+".") {
			return other
		}
	}
	return ""
}

func (m *mapper) misfit(path, text string, args ...any) {
	m.misfits = append(m.misfits, sinks.Misfit{Path: path, Text: fmt.Sprintf(text, args...)})
}

func ofString(s Strings) mapping {
	switch s {
	case Text:
		return mapping{"type": "text"}
	case Both:
		return mapping{"type": "text", "fields": mapping{"keyword": mapping{"type": "keyword", "ignore_above": maxKeyword}}}
	}
	return mapping{"type": "keyword", "ignore_above": maxKeyword}
}

// ofDecimal maps decimals to what keeps them exactly: whole numeric, doubles that are
// rounded to the scale or, where they have more digits than a double keeps, text.
func ofDecimal(t types.Type) mapping {
	switch {
	case t.Scale == 0 && t.Precision <= 18:
		return mapping{"type": "long"}
	case t.Precision <= exactDigits:
		factor := 1
		for range t.Scale {
			factor *= 10
		}
		return mapping{"type": "scaled_float", "scaling_factor": factor}
	}
	return ofString(Keyword)
}

// words are the types of Elasticsearch that template.fields may name, with the kinds of
// values that they take. Others, and parameters, are written in JSON.
var words = map[string][]types.Kind{
	"keyword": scalars, "text": scalars, "match_only_text": scalars, "wildcard": scalars, "constant_keyword": scalars,
	"search_as_you_type": {types.String}, "completion": {types.String, types.Object},
	"boolean": {types.Bool, types.String},
	"long":    numeric, "integer": numeric, "short": numeric, "byte": numeric, "unsigned_long": numeric,
	"double": numeric, "float": numeric, "half_float": numeric,
	"date": times, "date_nanos": times,
	"ip": {types.String}, "version": {types.String}, "binary": {types.String, types.Bytes},
	"geo_point": {types.String, types.Object, types.Float, types.Int}, "geo_shape": {types.String, types.Object},
	"object": objects, "nested": objects, "flattened": objects,
}

var (
	scalars = []types.Kind{types.Bool, types.Int, types.Float, types.String, types.Decimal, types.TimestampMs, types.TimestampRFC3339, types.Date, types.Bytes}
	numeric = []types.Kind{types.Int, types.Float, types.Decimal, types.String, types.TimestampMs}
	times   = []types.Kind{types.TimestampMs, types.TimestampRFC3339, types.Date, types.String, types.Int}
	objects = []types.Kind{types.Object, types.Map}
)

// takes tells whether a type of Elasticsearch has a place for values; of types that are not listed it does not know.
func takes(name string, k types.Kind) bool {
	kinds, ok := words[name]
	return !ok || k == types.Any || k == types.Nil || slices.Contains(kinds, k)
}

// override reads an entry of template.fields: a word, or a mapping in JSON.
func override(text string) (mapping, error) {
	if strings.HasPrefix(strings.TrimSpace(text), "{") {
		v, err := decode([]byte(text))
		if err != nil {
			return nil, fmt.Errorf("it is no JSON: %w", err)
		}
		m, _ := v.(map[string]any)
		if _, ok := m["type"].(string); !ok {
			if _, ok := m["properties"]; !ok {
				return nil, errors.New(`a mapping in JSON needs "type"`)
			}
			m["type"] = "object"
		}
		return m, nil
	}
	switch {
	case text == string(Both):
		return ofString(Both), nil
	case text == "keyword":
		return ofString(Keyword), nil
	case text == "flattened":
		return mapping{"type": "flattened", "ignore_above": maxKeyword}, nil
	case words[text] == nil:
		return nil, fmt.Errorf("there is no such type here.%s Write what needs parameters in JSON, as jsonencode({ type = \"scaled_float\", scaling_factor = 100 })", diag.DidYouMean(text, slices.Sorted(maps.Keys(words))))
	}
	return mapping{"type": text}, nil
}

// isObject tells whether a mapping is one of fields.
func isObject(m mapping) bool {
	t := typeOf(m)
	return t == "object" || t == "nested"
}

// typeOf gives the type of a field. Elasticsearch leaves out that of objects.
func typeOf(m mapping) string {
	if t, ok := m["type"].(string); ok {
		return t
	}
	return "object"
}

func properties(m mapping) map[string]any {
	p, _ := m["properties"].(map[string]any)
	return p
}

// wellFormed tells whether Elasticsearch can make a path of a name.
func wellFormed(name string) bool {
	for part := range strings.SplitSeq(name, ".") {
		if strings.TrimSpace(part) == "" {
			return false
		}
	}
	return true
}

// place puts the mapping of a field at its path, with the objects on the way.
func place(root mapping, path string, m mapping) {
	parts := strings.Split(path, ".")
	for i, part := range parts {
		p := properties(root)
		if p == nil {
			p = map[string]any{}
			root["properties"] = p
		}
		if i == len(parts)-1 {
			if old, ok := p[part].(map[string]any); ok && isObject(old) && isObject(m) {
				m, _ = unite(m, mapping{"properties": properties(old)}, path)
			}
			p[part] = m
			return
		}
		next, ok := p[part].(map[string]any)
		if !ok {
			next = mapping{"type": "object"}
			p[part] = next
		}
		root = next
	}
}

// at finds the mapping of a field.
func at(root mapping, path string) (mapping, bool) {
	m := root
	for part := range strings.SplitSeq(path, ".") {
		next, ok := properties(m)[part].(map[string]any)
		if !ok {
			return nil, false
		}
		m = next
	}
	return m, true
}
