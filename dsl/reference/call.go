package reference

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	"keystone/dsl/ir"
)

func (m *machine) call(n *ir.Node) (any, *Error) {
	if n.Func.Name == "coalesce" {
		for _, k := range n.Kids {
			if v, err := m.eval(k); v != nil || err != nil {
				return v, err
			}
		}
		return nil, nil
	}
	args := make([]any, len(n.Kids))
	for i, k := range n.Kids {
		if i == n.Func.Predicate {
			continue
		}
		v, err := m.eval(k)
		if err != nil {
			return nil, err
		}
		args[i] = v
	}
	if n.Func.Predicate >= 0 {
		if args[0] == nil {
			return nil, nil
		}
		list, ok := args[0].([]any)
		if !ok {
			return nil, failure(ir.CodeType, "%s takes a list, and this is %s", n.Func.Name, kindName(args[0]))
		}
		v, err := m.over(n, list, args)
		if err != nil {
			return nil, err
		}
		return read(v, n.Type)
	}
	if n.Func.Nil == ir.NilGivesNil && slices.Contains(args, nil) {
		return nil, nil
	}
	v, err := m.function(n.Func.Name, args)
	if err != nil {
		return nil, err
	}
	return read(v, n.Type)
}

// body evaluates the second argument for one element.
func (m *machine) body(n *ir.Node, f frame) (any, *Error) {
	m.frames = append(m.frames, f)
	v, err := m.eval(n.Kids[1])
	m.frames = m.frames[:len(m.frames)-1]
	if err == nil {
		if num, ok := v.(Number); ok {
			return num.wide()
		}
	}
	return v, err
}

// holds evaluates a predicate: nil does not hold.
func (m *machine) holds(n *ir.Node, f frame) (bool, *Error) {
	v, err := m.body(n, f)
	if err != nil {
		return false, err
	}
	b, ok := v.(bool)
	if v != nil && !ok {
		return false, failure(ir.CodeType, "a predicate must be a bool, and it is %s", kindName(v))
	}
	return b, nil
}

// over evaluates the functions that go through a list with an expression.
func (m *machine) over(n *ir.Node, list []any, args []any) (any, *Error) {
	name := n.Func.Name
	if len(n.Kids) == 1 { // count(list), sum(list)
		total := any(int64(0))
		for _, e := range list {
			v, err := read(e, anyType)
			if err != nil {
				return nil, err
			}
			if name == "count" {
				b, ok := v.(bool)
				if v != nil && !ok {
					return nil, failure(ir.CodeType, "count without a predicate takes bools, and this is %s", kindName(v))
				}
				v = int64(0)
				if b {
					v = int64(1)
				}
			}
			if total, err = binary(ir.Add, total, v); err != nil || total == nil {
				return nil, err
			}
		}
		return total, nil
	}
	switch name {
	case "map", "sortBy", "groupBy", "sum":
		values := make([]any, len(list))
		total := any(int64(0))
		for i, e := range list {
			v, err := m.body(n, frame{elem: e, index: i})
			if err != nil {
				return nil, err
			}
			values[i] = v
			if name == "sum" {
				if total, err = binary(ir.Add, total, v); err != nil || total == nil {
					return nil, err
				}
			}
		}
		switch name {
		case "sum":
			return total, nil
		case "map":
			return values, nil
		case "groupBy":
			return group(list, values)
		}
		return sorted(list, values, orderOf(args, 2))
	case "reduce":
		var acc any
		from := 0
		if len(args) > 2 {
			acc = args[2]
		} else {
			if len(list) == 0 {
				return nil, nil
			}
			acc, from = list[0], 1
		}
		for i := from; i < len(list); i++ {
			v, err := m.body(n, frame{elem: list[i], index: i, acc: acc})
			if err != nil {
				return nil, err
			}
			acc = v
		}
		return acc, nil
	}
	return m.search(n, list)
}

// search evaluates the functions whose expression is a predicate.
func (m *machine) search(n *ir.Node, list []any) (any, *Error) {
	name := n.Func.Name
	var hits []int
	backwards := name == "findLast" || name == "findLastIndex"
	for j := range list {
		i := j
		if backwards {
			i = len(list) - 1 - j
		}
		yes, err := m.holds(n, frame{elem: list[i], index: i})
		if err != nil {
			return nil, err
		}
		if yes {
			hits = append(hits, i)
		}
		// What is decided ends here: later elements are not looked at.
		switch {
		case name == "all" && !yes:
			return false, nil
		case yes && (name == "any" || name == "none"):
			return name == "any", nil
		case yes && (name == "find" || name == "findLast"):
			return list[i], nil
		case yes && (name == "findIndex" || name == "findLastIndex"):
			return int64(i), nil
		case name == "one" && len(hits) > 1:
			return false, nil
		}
	}
	switch name {
	case "all", "none":
		return true, nil
	case "any":
		return false, nil
	case "one":
		return len(hits) == 1, nil
	case "count":
		return int64(len(hits)), nil
	case "filter":
		out := []any{}
		for _, i := range hits {
			out = append(out, list[i])
		}
		return out, nil
	case "find", "findLast", "findIndex", "findLastIndex":
		return nil, nil
	}
	panic(fmt.Sprintf("reference: no function %s", name))
}

func group(list, keys []any) (any, *Error) {
	o := NewObject()
	for i, k := range keys {
		var name string
		switch k := k.(type) {
		case string:
			name = k
		case int64:
			name = strconv.FormatInt(k, 10)
		case bool:
			name = strconv.FormatBool(k)
		default:
			return nil, failure(ir.CodeType, "a group is named by a string, int or bool, and this is %s", kindName(k))
		}
		group, _ := o.Values[name].([]any)
		o.Put(name, append(group, list[i]))
	}
	return o, nil
}

func orderOf(args []any, i int) string {
	if i < len(args) {
		return args[i].(string)
	}
	return "asc"
}

// sorted gives the list in the order of its keys, nil last.
func sorted(list, keys []any, order string) (any, *Error) {
	for _, k := range keys {
		switch k.(type) {
		case nil, bool, int64, float64, string:
		default:
			if kindName(k) != "time" {
				return nil, failure(ir.CodeType, "%s has no order", kindName(k))
			}
		}
	}
	index := make([]int, len(list))
	for i := range index {
		index[i] = i
	}
	var failed *Error
	// The first element that does not fit the first one decides, whatever the algorithm compares.
	var first any
	for _, k := range keys {
		if k == nil {
			continue
		}
		if first == nil {
			first = k
		}
		if _, err := compareKeys(first, k); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(index, func(a, b int) int {
		x, y := keys[a], keys[b]
		switch {
		case x == nil && y == nil:
			return 0
		case x == nil:
			return 1
		case y == nil:
			return -1
		}
		c, err := compareKeys(x, y)
		if err != nil {
			failed = err
		}
		if order == "desc" {
			return -c
		}
		return c
	})
	if failed != nil {
		return nil, failed
	}
	out := make([]any, len(list))
	for i, j := range index {
		out[i] = list[j]
	}
	return out, nil
}

func compareKeys(x, y any) (int, *Error) {
	if a, ok := x.(bool); ok {
		if b, ok := y.(bool); ok {
			return compareNumbers(bit(a), bit(b)), nil
		}
	}
	return compare(x, y)
}

func bit(b bool) any {
	if b {
		return int64(1)
	}
	return int64(0)
}

// wides reads the elements of a list as values of no declared type.
func wides(list []any) ([]any, *Error) {
	out := make([]any, len(list))
	for i, e := range list {
		v, err := read(e, anyType)
		if err != nil {
			return nil, err
		}
		out[i] = v
	}
	return out, nil
}

// extreme gives the largest (sign 1) or smallest (sign -1) value.
func extreme(values []any, sign int) (any, *Error) {
	var best any
	for i, v := range values {
		if v == nil {
			return nil, nil
		}
		switch kindName(v) {
		case "int", "float", "time":
		default:
			return nil, failure(ir.CodeType, "%s is neither a number nor a time", kindName(v))
		}
		if i == 0 {
			best = v
			continue
		}
		c, err := compare(v, best)
		if err != nil {
			return nil, err
		}
		if c*sign > 0 {
			best = v
		}
	}
	return best, nil
}

// floats gives the numbers of a list; ok is false where one is nil.
func floats(list []any) (out []float64, ok bool, err *Error) {
	for _, e := range list {
		v, err := read(e, anyType)
		if err != nil {
			return nil, false, err
		}
		if v == nil {
			return nil, false, nil
		}
		f, isNumber := float(v)
		if !isNumber {
			return nil, false, failure(ir.CodeType, "%s is not a number", kindName(v))
		}
		out = append(out, f)
	}
	return out, len(out) > 0, nil
}

func finite(f float64) (any, *Error) {
	if math.IsInf(f, 0) || math.IsNaN(f) {
		return nil, failure(ir.CodeOverflow, "the result is beyond float64")
	}
	return f, nil
}
