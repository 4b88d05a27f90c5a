package metastore

import (
	"fmt"
	"strconv"
	"strings"
)

// Evolve gives the columns that a table has to have so that rows of wanted
// columns can be written into it: those that it has, widened where needed, then those that it
// lacks. A column that is no longer wanted stays, for the rows that have it.
// changes says what is different from have, in words; a conflict is a
// column that can be neither kept nor widened.
func Evolve(have, want []Column) (cols []Column, changes, conflicts []string) {
	at := map[string]int{}
	for i, c := range have {
		at[strings.ToLower(c.Name)] = i
	}
	cols = append(cols, have...)
	for _, w := range want {
		i, there := at[w.Name]
		if !there {
			cols = append(cols, w)
			changes = append(changes, fmt.Sprintf("column %s is missing: %s", w.Name, w.Type))
			continue
		}
		is := have[i].Type
		typ, ok := wider(is, w.Type)
		switch {
		case !ok:
			conflicts = append(conflicts, fmt.Sprintf("column %s is %s, and %s cannot be written into it", w.Name, is, w.Type))
		case !sameType(typ, is):
			cols[i].Type = typ
			changes = append(changes, fmt.Sprintf("column %s is %s, wanted %s", w.Name, is, typ))
		}
	}
	return cols, changes, conflicts
}

func sameType(a, b string) bool {
	return strings.EqualFold(strings.ReplaceAll(a, " ", ""), strings.ReplaceAll(b, " ", ""))
}

// wider gives the type that holds the values of both, in the sense that readers of Parquet files
// with either (Hive, Spark, Trino) take them for it.
func wider(have, want string) (string, bool) {
	h, err := parseType(have)
	w, err2 := parseType(want)
	if err != nil || err2 != nil {
		return have, sameType(have, want)
	}
	t, ok := join(h, w)
	return t.String(), ok
}

// hiveType is a type as Hive writes it.
type hiveType struct {
	name   string // bigint, array, map, struct, decimal
	params []int  // of decimal, varchar, char
	names  []string
	of     []hiveType // of array, map, struct
}

func (t hiveType) String() string {
	switch {
	case t.name == "struct":
		parts := make([]string, len(t.of))
		for i, x := range t.of {
			parts[i] = t.names[i] + ":" + x.String()
		}
		return "struct<" + strings.Join(parts, ",") + ">"
	case len(t.of) > 0:
		parts := make([]string, len(t.of))
		for i, x := range t.of {
			parts[i] = x.String()
		}
		return t.name + "<" + strings.Join(parts, ",") + ">"
	case len(t.params) > 0:
		parts := make([]string, len(t.params))
		for i, x := range t.params {
			parts[i] = strconv.Itoa(x)
		}
		return t.name + "(" + strings.Join(parts, ",") + ")"
	}
	return t.name
}

// integers and floats, narrow to wide.
var (
	integers = map[string]int{"tinyint": 1, "smallint": 2, "int": 3, "bigint": 4}
	floats   = map[string]int{"float": 1, "double": 2}
)

func join(h, w hiveType) (hiveType, bool) {
	switch {
	case integers[h.name] > 0 && integers[w.name] > 0:
		if integers[w.name] > integers[h.name] {
			return w, true
		}
		return h, true
	case floats[h.name] > 0 && floats[w.name] > 0:
		if floats[w.name] > floats[h.name] {
			return w, true
		}
		return h, true
	case h.name != w.name:
		return h, false
	case h.name == "decimal":
		return joinDecimal(h, w)
	case h.name == "struct":
		return joinStruct(h, w)
	case len(h.of) != len(w.of) || fmt.Sprint(h.params) != fmt.Sprint(w.params):
		return h, false
	}
	out := h
	out.of = append([]hiveType(nil), h.of...)
	for i := range h.of {
		x, ok := join(h.of[i], w.of[i])
		if !ok || h.name == "map" && i == 0 && x.String() != h.of[0].String() {
			return h, false
		}
		out.of[i] = x
	}
	return out, true
}

// joinDecimal widens the precision: readers do not change the scale of what is stored.
func joinDecimal(h, w hiveType) (hiveType, bool) {
	if len(h.params) != 2 || len(w.params) != 2 || h.params[1] != w.params[1] {
		return h, fmt.Sprint(h.params) == fmt.Sprint(w.params)
	}
	if w.params[0] > h.params[0] {
		return w, true
	}
	return h, true
}

func joinStruct(h, w hiveType) (hiveType, bool) {
	out := hiveType{name: "struct", names: append([]string(nil), h.names...), of: append([]hiveType(nil), h.of...)}
	for i, name := range w.names {
		at := -1
		for j, n := range h.names {
			if strings.EqualFold(n, name) {
				at = j
			}
		}
		if at < 0 {
			out.names, out.of = append(out.names, name), append(out.of, w.of[i])
			continue
		}
		x, ok := join(h.of[at], w.of[i])
		if !ok {
			return h, false
		}
		out.of[at] = x
	}
	return out, true
}

// parseType reads a type as Hive writes it.
func parseType(s string) (hiveType, error) {
	p := typeParser{rest: strings.ReplaceAll(s, " ", "")}
	t, err := p.typ(0)
	if err == nil && p.rest != "" {
		err = p.fail()
	}
	return t, err
}

type typeParser struct{ rest string }

func (p *typeParser) fail() error { return fmt.Errorf("not a type of Hive's at %q", p.rest) }

// word takes everything up to a mark.
func (p *typeParser) word() string {
	n := strings.IndexAny(p.rest, "<>(),:")
	if n < 0 {
		n = len(p.rest)
	}
	w := p.rest[:n]
	p.rest = p.rest[n:]
	return w
}

func (p *typeParser) take(mark string) bool {
	rest, ok := strings.CutPrefix(p.rest, mark)
	p.rest = rest
	return ok
}

const typeDepth = 64

func (p *typeParser) typ(depth int) (t hiveType, err error) {
	t.name = strings.ToLower(p.word())
	if t.name == "" || depth > typeDepth {
		return t, p.fail()
	}
	switch {
	case p.take("("):
		for {
			n, err := strconv.Atoi(p.word())
			if err != nil {
				return t, p.fail()
			}
			t.params = append(t.params, n)
			if p.take(")") {
				return t, nil
			}
			if !p.take(",") {
				return t, p.fail()
			}
		}
	case p.take("<"):
		for {
			if t.name == "struct" {
				t.names = append(t.names, p.word())
				if !p.take(":") {
					return t, p.fail()
				}
			}
			x, err := p.typ(depth + 1)
			if err != nil {
				return t, err
			}
			t.of = append(t.of, x)
			if p.take(">") {
				return t, nil
			}
			if !p.take(",") {
				return t, p.fail()
			}
		}
	}
	return t, nil
}
