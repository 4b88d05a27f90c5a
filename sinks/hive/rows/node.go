package rows

import (
	"slices"
	"strconv"
	"strings"

	"keystone/dsl/types"
	"keystone/pipeline/json"
)

// shape tells the nodes of a schema apart.
type shape uint8

const (
	leafShape shape = iota
	objectShape
	listShape
	mapShape
)

// form is how the values of a leaf are read and stored.
type form uint8

const (
	formBool form = iota
	formInt
	formFloat
	formDecimal
	formTimestamp
	formDate
	formString
	formBytes
	formJSON // text of a value of any type
)

var forms = map[types.Kind]form{
	types.Bool: formBool, types.Int: formInt, types.Float: formFloat, types.Decimal: formDecimal,
	types.TimestampMs: formTimestamp, types.TimestampRFC3339: formTimestamp, types.Date: formDate,
	types.String: formString, types.Bytes: formBytes,
}

// node is a column, or a part of a nested one.
type node struct {
	name     string
	path     string // of a leaf, as in the file
	shape    shape
	optional bool

	form             form       // of a leaf
	kind             types.Kind // of a leaf: what was declared; Any for JSON text
	bothTimes        bool       // of a timestamp: either form is taken, since two schemas meet here
	precision, scale int        // of a decimal

	fields []*node // of an object
	key    *node   // of a map
	elem   *node   // of a list or map

	def, rep   uint8 // levels of it where it is there
	first, end int   // its leaves
	slot       int   // of its value in its scope
	scope      int   // of the element or value of a list or map, if that is an object: where its fields are found
}

// scope is a set of paths that are found in one scan: those of the event, and
// of each object that is an element of a list or a value of a map.
type scope struct{ trie *json.Trie }

// number gives the nodes their levels, and the leaves their places and paths.
func (s *Schema) number(n *node, def, rep uint8) {
	if n.optional {
		def++
	}
	n.def, n.rep, n.first = def, rep, len(s.leaves)
	switch n.shape {
	case leafShape:
		s.leaves = append(s.leaves, n)
	case objectShape:
		for _, f := range n.fields {
			f.path = join(n.path, f.name)
			s.number(f, def, rep)
		}
	case listShape:
		n.elem.path = n.path + ".list.element"
		s.number(n.elem, def+1, rep+1)
	case mapShape:
		n.key.path, n.elem.path = n.path+".key_value.key", n.path+".key_value.value"
		s.number(n.key, def+1, rep+1)
		s.number(n.elem, def+1, rep+1)
	}
	n.end = len(s.leaves)
}

// place gives the nodes their scopes and their slots in them.
func (s *Schema) place(n *node, at int, path []json.Step) {
	if len(path) > 0 {
		n.slot = s.scopes[at].trie.Add(path...)
	}
	switch n.shape {
	case objectShape:
		for _, f := range n.fields {
			s.place(f, at, append(slices.Clone(path), json.Step{Name: f.name}))
		}
	case listShape, mapShape:
		if n.elem.shape == objectShape {
			n.scope = len(s.scopes)
			s.scopes = append(s.scopes, scope{trie: json.NewTrie()})
		}
		s.place(n.elem, n.scope, nil)
	}
}

// width is the size of a leaf's plain values, 0 where it varies.
func (n *node) width() int {
	switch n.form {
	case formBool:
		return 1
	case formDate:
		return 4
	case formInt, formFloat, formTimestamp:
		return 8
	case formDecimal:
		return decimalBytes(n.precision)
	}
	return 0
}

// hive gives the type in Hive's words.
func (n *node) hive() string {
	switch n.shape {
	case listShape:
		return "array<" + n.elem.hive() + ">"
	case mapShape:
		return "map<string," + n.elem.hive() + ">"
	case objectShape:
		parts := make([]string, len(n.fields))
		for i, f := range n.fields {
			parts[i] = f.name + ":" + f.hive()
		}
		return "struct<" + strings.Join(parts, ",") + ">"
	}
	if n.form == formDecimal {
		return "decimal(" + strconv.Itoa(n.precision) + "," + strconv.Itoa(n.scale) + ")"
	}
	return [...]string{formBool: "boolean", formInt: "bigint", formFloat: "double", formTimestamp: "timestamp", formDate: "date", formString: "string", formBytes: "binary", formJSON: "string"}[n.form]
}

// typ gives the type that the node is made of; an element does not say that it is optional.
func (n *node) typ() types.Type {
	switch n.shape {
	case listShape:
		return types.ListOf(n.elem.typ())
	case mapShape:
		return types.MapOf(n.elem.typ())
	case objectShape:
		t := types.Type{Kind: types.Object}
		for _, f := range n.fields {
			t.Fields = append(t.Fields, types.Field{Name: f.name, Type: f.typ(), Optional: f.optional})
		}
		return t
	}
	return types.Type{Kind: n.kind, Precision: n.precision, Scale: n.scale}
}

func (n *node) equal(m *node) bool {
	if n == nil || m == nil {
		return n == m
	}
	return n.name == m.name && n.shape == m.shape && n.optional == m.optional && n.form == m.form && n.kind == m.kind &&
		n.bothTimes == m.bothTimes && n.precision == m.precision && n.scale == m.scale &&
		n.key.equal(m.key) && n.elem.equal(m.elem) && slices.EqualFunc(n.fields, m.fields, (*node).equal)
}

// clone copies a tree, to be numbered anew.
func (n *node) clone() *node {
	if n == nil {
		return nil
	}
	c := *n
	c.key, c.elem = n.key.clone(), n.elem.clone()
	c.fields = make([]*node, len(n.fields))
	for i, f := range n.fields {
		c.fields[i] = f.clone()
	}
	return &c
}

// shown gives the path of a node as users write it.
func (n *node) shown() string {
	return strings.NewReplacer(".list.element", "[]", ".key_value.value", "[]").Replace(n.path)
}
