package rows

import (
	"fmt"

	"keystone/dsl/types"
)

// ChangeKind says what became of a column.
type ChangeKind string

// The kinds of changes.
const (
	Added   ChangeKind = "added"    // it is new, at the end of the table or of its struct
	Widened ChangeKind = "widened"  // its type takes more values
	Loose   ChangeKind = "optional" // it may now be null
)

// Change is how a column of a union differs from the old schema's.
type Change struct {
	Column   string // path, without the names that Parquet adds
	Kind     ChangeKind
	From, To string // Hive's words for the types; From is "" for what is added
	Note     string // what readers of the old files should know, or ""
}

// Union gives the columns that hold events of both schemas: those of the old
// one in their order, then what is new. A column that only one has is
// optional, and a type is widened where Hive reads the old files as the new type:
// int to float, int to decimal, decimal to one with as many digits before and behind
// the point, either timestamp to the other. Anything else is a problem, and there is no union.
//
// Union(s, s) is s, and the order of the two matters for the columns' order only.
func Union(old, new *Schema) (*Schema, []Change, []Problem) {
	if old.Equal(new) {
		return old, nil, nil
	}
	u := uniter{}
	root := u.objects(old.root, new.root, "")
	if len(u.problems) > 0 {
		return nil, nil, u.problems
	}
	s, problem := newSchema(root)
	if problem != nil {
		return nil, nil, []Problem{*problem}
	}
	return s, u.changes, nil
}

type uniter struct {
	changes  []Change
	problems []Problem
}

func (u *uniter) change(at string, kind ChangeKind, from, to *node, note string) {
	c := Change{Column: at, Kind: kind, To: to.hive(), Note: note}
	if from != nil {
		c.From = from.hive()
	}
	u.changes = append(u.changes, c)
}

func (u *uniter) objects(old, new *node, at string) *node {
	out := old.clone()
	out.optional = old.optional || new.optional
	out.fields = nil
	for _, f := range old.fields {
		path := join(at, f.name)
		g := find(new.fields, f.name)
		if g == nil {
			c := f.clone()
			if !c.optional {
				c.optional = true
				u.change(path, Loose, f, c, "")
			}
			out.fields = append(out.fields, c)
			continue
		}
		if f.name != g.name {
			u.problems = append(u.problems, Problem{Column: path, Summary: "Names that Hive does not tell apart", Detail: fmt.Sprintf("The column %q has become %q, and Hive ignores upper and lower case. Keep the name.", f.name, g.name)})
			continue
		}
		out.fields = append(out.fields, u.field(f, g, path))
	}
	for _, g := range new.fields {
		if find(old.fields, g.name) == nil {
			c := g.clone()
			c.optional = true
			out.fields = append(out.fields, c)
			u.change(join(at, g.name), Added, nil, c, "")
		}
	}
	return out
}

// find gives the field of a name, as Hive compares names.
func find(fields []*node, name string) *node {
	for _, f := range fields {
		if fold(f.name) == fold(name) {
			return f
		}
	}
	return nil
}

func (u *uniter) field(old, new *node, at string) *node {
	if new.optional && !old.optional {
		u.change(at, Loose, old, old, "")
	}
	if old.shape != new.shape {
		return u.incompatible(old, new, at, "They are stored in different ways.")
	}
	switch old.shape {
	case objectShape:
		return u.objects(old, new, at)
	case listShape, mapShape:
		out := old.clone()
		out.optional = old.optional || new.optional
		name := "element"
		if old.shape == mapShape {
			name = "value"
		}
		out.elem = u.field(old.elem, new.elem, join(at, name))
		return out
	}
	return u.leaf(old, new, at)
}

func (u *uniter) incompatible(old, new *node, at, why string) *node {
	u.problems = append(u.problems, Problem{Column: at, Summary: "A column cannot change its type so", Detail: fmt.Sprintf("It is %s in the table and %s now. %s Keep the type, or give the field another name.", old.hive(), new.hive(), why)})
	return old.clone()
}

func (u *uniter) leaf(old, new *node, at string) *node {
	out := old.clone()
	out.optional = old.optional || new.optional
	if old.form == new.form && old.kind == new.kind && old.precision == new.precision && old.scale == new.scale {
		out.bothTimes = old.bothTimes || new.bothTimes
		return out
	}
	note := ""
	switch {
	case old.form == formTimestamp && new.form == formTimestamp:
		out.bothTimes = true // the same column, written in either form
		return out
	case old.form == formInt && new.form == formFloat, old.form == formFloat && new.form == formInt:
		out.form, out.kind = formFloat, types.Float
		note = "Hive reads the ints of older files as double; Spark refuses those files for this column until they are rewritten. Ints beyond 2^53 are rounded."
	case old.form == formDecimal && new.form == formDecimal, old.form == formInt && new.form == formDecimal, old.form == formDecimal && new.form == formInt:
		ow, os := digitsAround(old)
		nw, ns := digitsAround(new)
		whole, scale := max(ow, nw), max(os, ns)
		if whole+scale > 38 {
			return u.incompatible(old, new, at, fmt.Sprintf("A decimal for both needs %d digits, and the most are 38.", whole+scale))
		}
		out.form, out.kind, out.precision, out.scale = formDecimal, types.Decimal, whole+scale, scale
		if os != scale || old.form == formInt {
			note = "Hive reads the older files as the wider decimal; Spark before 4.0 refuses them for this column until they are rewritten."
		}
	case old.form == formJSON || new.form == formJSON:
		return u.incompatible(old, new, at, "JSON text and values are not the same column.")
	default:
		return u.incompatible(old, new, at, "Neither type holds the values of the other.")
	}
	if out.hive() != old.hive() {
		u.change(at, Widened, old, out, note)
	}
	return out
}

// digitsAround gives how many digits a number has before and behind the point.
func digitsAround(n *node) (whole, scale int) {
	if n.form == formInt {
		return 20, 0 // 19 are enough, and Spark asks for 20
	}
	return n.precision - n.scale, n.scale
}
