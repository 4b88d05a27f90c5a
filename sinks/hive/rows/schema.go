package rows

import (
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v15/parquet/schema"

	"keystone/dsl/types"
	"keystone/pipeline/json"
)

const (
	nestingMax = 32     // levels of lists, maps and objects in a column
	leavesMax  = 10_000 // columns of a file, those in nested objects counted
	nameMax    = 128    // bytes of a name, as metastores have room for
)

// SchemaOptions say how a type becomes columns.
type SchemaOptions struct {
	// Partitions are the names of the table's partition columns, which Hive
	// takes from the directory: no field may have the name of one.
	Partitions []string
	// Omit are top-level fields that are left out of the file, such as those that a
	// partition column of the same name holds.
	Omit []string
	// JSONText stores fields of type any and open objects within the event as
	// their JSON text. Without it they are problems: a column that holds text
	// today can never become the number that it should have been.
	JSONText bool
}

// Problem is why a type cannot be a table, or why two schemas cannot be one,
// and the way out.
type Problem struct {
	Column  string // path of the field, "" for the event itself
	Summary string
	Detail  string
}

func (p Problem) String() string {
	if p.Column == "" {
		return p.Summary + ": " + p.Detail
	}
	return p.Summary + ": " + p.Column + ": " + p.Detail
}

// Column is a column of the table.
type Column struct {
	Name     string
	Type     types.Type
	Hive     string // type in Hive's words, such as struct<a:bigint>
	Optional bool
}

// Schema is the columns of a table and of its files. It never changes and may
// be shared.
type Schema struct {
	root   *node
	leaves []*node // in the order of the file
	scopes []scope
	file   *schema.Schema
}

// NewSchema gives the columns for events of a type, or all the reasons why there are none.
func NewSchema(t types.Type, opts SchemaOptions) (*Schema, []Problem) {
	b := builder{opts: opts}
	root := b.event(t)
	if len(b.problems) > 0 {
		return nil, b.problems
	}
	s, problem := newSchema(root)
	if problem != nil {
		return nil, []Problem{*problem}
	}
	return s, nil
}

// newSchema numbers the leaves and levels of a tree and makes the file's schema of it.
func newSchema(root *node) (*Schema, *Problem) {
	s := &Schema{root: root}
	s.number(root, 0, 0)
	if len(s.leaves) > leavesMax {
		return nil, &Problem{Summary: "Too many columns", Detail: fmt.Sprintf("The type has %d columns, those in nested objects counted, and a file at most %d. Use a map for fields that are many and alike.", len(s.leaves), leavesMax)}
	}
	s.scopes = []scope{{trie: json.NewTrie()}}
	s.place(root, 0, nil)
	file, err := fileSchema(root)
	if err != nil {
		return nil, &Problem{Summary: "No Parquet schema", Detail: err.Error()}
	}
	s.file = file
	return s, nil
}

// Columns gives the table's columns, without those of partitions.
func (s *Schema) Columns() []Column {
	out := make([]Column, len(s.root.fields))
	for i, n := range s.root.fields {
		out[i] = Column{Name: n.name, Type: n.typ(), Hive: n.hive(), Optional: n.optional}
	}
	return out
}

// Paths gives the names of the file's columns, which are the leaves of nested ones, in order.
func (s *Schema) Paths() []string {
	out := make([]string, len(s.leaves))
	for i, n := range s.leaves {
		out[i] = n.path
	}
	return out
}

// String gives the columns in Hive's words, one a line.
func (s *Schema) String() string {
	var b strings.Builder
	for _, n := range s.root.fields {
		b.WriteString(n.name + " " + n.hive())
		if !n.optional {
			b.WriteString(" not null")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// Equal tells whether files of both schemas are alike and take the same events.
func (s *Schema) Equal(t *Schema) bool { return s == t || s.root.equal(t.root) }

// builder makes a tree of a type and collects what is wrong with it.
type builder struct {
	opts     SchemaOptions
	problems []Problem
}

func (b *builder) problem(path, summary, format string, args ...any) {
	b.problems = append(b.problems, Problem{Column: path, Summary: summary, Detail: fmt.Sprintf(format, args...)})
}

func (b *builder) event(t types.Type) *node {
	if t.Kind != types.Object && t.Kind != types.Any {
		b.problem("", "Events are not objects", "A table has one column per field, and the route's output is %s.", t)
		return nil
	}
	if t.Kind == types.Any || t.Open {
		b.problem("", "Unknown fields", "The fields of the route's output are not known, so neither are the table's columns. Declare a schema on the stream, or name the fields in project = { … }.")
		return nil
	}
	t.Fields = slices.DeleteFunc(slices.Clone(t.Fields), func(f types.Field) bool { return slices.Contains(b.opts.Omit, f.Name) })
	for _, f := range t.Fields {
		if i := slices.IndexFunc(b.opts.Partitions, func(p string) bool { return fold(p) == fold(f.Name) }); i >= 0 {
			b.problem(f.Name, "Field with the name of a partition", "The table's partition column %q comes from the directory, and a file must not have it, too. Rename one of the two.", b.opts.Partitions[i])
		}
	}
	if len(t.Fields) == 0 && len(b.problems) == 0 {
		b.problem("", "No columns", "The route's output has no fields for the table's files.")
	}
	return b.object(t, "", 0)
}

func (b *builder) object(t types.Type, path string, depth int) *node {
	n := &node{shape: objectShape}
	seen := map[string]string{}
	for _, f := range t.Fields {
		at := join(path, f.Name)
		b.name(f.Name, at)
		if other, is := seen[fold(f.Name)]; is {
			b.problem(at, "Names that Hive does not tell apart", "%q and %q differ in upper and lower case alone, which Hive and Spark ignore. Rename one of them in project = { … }.", other, f.Name)
		}
		seen[fold(f.Name)] = f.Name
		child := b.node(f.Type, at, depth+1)
		child.name, child.optional = f.Name, child.optional || f.Optional
		n.fields = append(n.fields, child)
	}
	return n
}

// name checks the name of a column or of a field in one.
func (b *builder) name(name, at string) {
	plain := name != ""
	for _, c := range name {
		plain = plain && (c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z')
	}
	switch {
	case !plain:
		b.problem(at, "Name that Hive cannot take", "%q is no name for a column, which has letters, digits and underscores. Rename the field, in project = { name = \"event[\\\"…\\\"]\" } or where it comes from.", name)
	case len(name) > nameMax:
		b.problem(at, "Name that Hive cannot take", "The name has %d bytes, and a metastore has room for %d.", len(name), nameMax)
	}
}

func (b *builder) node(t types.Type, path string, depth int) *node {
	if depth > nestingMax {
		b.problem(path, "Nested too deeply", "Columns nest up to %d levels.", nestingMax)
		return &node{}
	}
	switch t.Kind {
	case types.List:
		return &node{shape: listShape, elem: b.element(*t.Elem, join(path, "element"), depth)}
	case types.Map:
		key := &node{shape: leafShape, form: formString, kind: types.String, name: "key"}
		return &node{shape: mapShape, key: key, elem: b.element(*t.Elem, join(path, "value"), depth)}
	case types.Object:
		switch {
		case t.Open && !b.opts.JSONText:
			b.problem(path, "Unknown fields", "This object may have fields that its type does not name. Declare its fields, or map(T), in the schema; or store it as its JSON text with json_text = true.")
			return &node{}
		case t.Open:
			return &node{shape: leafShape, form: formJSON, optional: true}
		case len(t.Fields) == 0:
			b.problem(path, "Object without fields", "Neither Parquet nor Hive has a struct without fields. Declare its fields, or drop it.")
		}
		return b.object(t, path, depth)
	case types.Any, types.Nil:
		if !b.opts.JSONText {
			b.problem(path, "Field without a type", "A column has one type for good, and this field's is not known. Declare it in the stream's schema, or convert the value in project, as with int(…) or string(…); or store it as its JSON text with json_text = true.")
			return &node{}
		}
		return &node{shape: leafShape, form: formJSON, optional: true}
	}
	return &node{shape: leafShape, form: forms[t.Kind], kind: t.Kind, precision: t.Precision, scale: t.Scale}
}

func (b *builder) element(t types.Type, path string, depth int) *node {
	n := b.node(t, path, depth+1)
	n.name, n.optional = path[strings.LastIndexByte(path, '.')+1:], true
	return n
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// fold gives a name as Hive stores it.
func fold(name string) string { return strings.ToLower(name) }
