package reference

import (
	"fmt"
	"math"
	"slices"

	"keystone/dsl/ir"
	"keystone/dsl/types"
)

var anyType = types.AnyType

// function evaluates a function without predicate; its arguments are not nil
// unless nil is a value to it.
func (m *machine) function(name string, a []any) (any, *Error) {
	if v, err, ok := m.temporal(name, a); ok {
		return v, err
	}
	if v, err, ok := textual(name, a); ok {
		return v, err
	}
	if v, err, ok := numeric(name, a); ok {
		return v, err
	}
	switch name {
	case "type":
		return kindName(a[0]), nil
	case "string":
		if s, ok := a[0].(string); ok {
			return s, nil
		}
		if b, ok := a[0].(Bytes); ok {
			s, err := Append(nil, b, anyType)
			return string(s[1 : len(s)-1]), err
		}
		if kindName(a[0]) == "time" {
			s, err := Append(nil, a[0], anyType)
			return string(s[1 : len(s)-1]), err
		}
		s, err := text(a[0])
		return s, err
	case "toJSON":
		s, err := text(a[0])
		return s, err
	case "json":
		s, ok := a[0].(string)
		if !ok {
			return nil, wrong(name, a[0])
		}
		v, err := Decode([]byte(s))
		if err != nil {
			return nil, failure(ir.CodeConversion, "the text is not JSON: %v", err)
		}
		return v, nil
	case "get":
		switch a[1].(type) {
		case string, int64:
		default:
			return nil, wrong(name, a[1])
		}
		v, err := member(a[0], a[1])
		if err != nil {
			return nil, nil //nolint:nilerr // get never fails
		}
		return v, nil
	case "keys", "values", "toPairs":
		o, ok := a[0].(*Object)
		if !ok {
			return nil, wrong(name, a[0])
		}
		out := []any{}
		for _, n := range o.Names {
			switch name {
			case "keys":
				out = append(out, n)
			case "values":
				out = append(out, o.Values[n])
			default:
				out = append(out, []any{n, o.Values[n]})
			}
		}
		return out, nil
	}
	return listed(name, a)
}

// text gives a value as JSON; numbers of the event are read first, so that they are written as computed ones.
func text(v any) (string, *Error) {
	s, err := Append(nil, v, anyType)
	return string(s), err
}

func wrong(name string, v any) *Error {
	return failure(ir.CodeType, "%s does not take %s", name, kindName(v))
}

// listed has the functions over lists.
func listed(name string, a []any) (any, *Error) {
	list, ok := a[0].([]any)
	if !ok {
		return nil, wrong(name, a[0])
	}
	switch name {
	case "first":
		if len(list) == 0 {
			return nil, nil
		}
		return list[0], nil
	case "last":
		if len(list) == 0 {
			return nil, nil
		}
		return list[len(list)-1], nil
	case "take":
		n, ok := a[1].(int64)
		if !ok {
			return nil, wrong(name, a[1])
		}
		if n < 0 {
			return nil, failure(ir.CodeRange, "take cannot take %d elements", n)
		}
		return list[:min(n, int64(len(list)))], nil
	case "reverse":
		out := slices.Clone(list)
		slices.Reverse(out)
		return out, nil
	case "uniq":
		out := []any{}
	next:
		for _, e := range list {
			for _, o := range out {
				same, err := equal(e, o)
				if err != nil {
					return nil, err
				}
				if same {
					continue next
				}
			}
			out = append(out, e)
		}
		return out, nil
	case "concat":
		out := []any{}
		for _, x := range a {
			l, ok := x.([]any)
			if !ok {
				return nil, wrong(name, x)
			}
			out = append(out, l...)
		}
		return out, nil
	case "flatten":
		return flat([]any{}, list), nil
	case "sort":
		keys, err := wides(list)
		if err != nil {
			return nil, err
		}
		return sorted(list, keys, orderOf(a, 1))
	case "fromPairs":
		o := NewObject()
		for _, e := range list {
			pair, ok := e.([]any)
			if !ok || len(pair) != 2 {
				return nil, failure(ir.CodeType, "a pair is a list of a name and a value")
			}
			n, ok := pair[0].(string)
			if !ok {
				return nil, failure(ir.CodeType, "a name is a string, and this is %s", kindName(pair[0]))
			}
			o.Put(n, pair[1])
		}
		return o, nil
	}
	panic(fmt.Sprintf("reference: no function %s", name))
}

func flat(dst, list []any) []any {
	for _, e := range list {
		if l, ok := e.([]any); ok {
			dst = flat(dst, l)
		} else {
			dst = append(dst, e)
		}
	}
	return dst
}

// numeric has the functions over numbers.
func numeric(name string, a []any) (any, *Error, bool) {
	switch name {
	case "int":
		v, err := toInt(a[0])
		return v, err, true
	case "float":
		v, err := toFloat(a[0])
		return v, err, true
	case "abs", "ceil", "floor", "round":
		v, err := rounded(name, a[0])
		return v, err, true
	case "max", "min":
		sign := map[string]int{"max": 1, "min": -1}[name]
		values := a
		if list, ok := a[0].([]any); ok && len(a) == 1 {
			var err *Error
			if values, err = wides(list); err != nil {
				return nil, err, true
			}
		}
		v, err := extreme(values, sign)
		return v, err, true
	case "mean", "median":
		v, err := average(name, a[0])
		return v, err, true
	case "bitand", "bitor", "bitxor", "bitnot", "bitshl", "bitshr":
		v, err := bits(name, a)
		return v, err, true
	}
	return nil, nil, false
}

func rounded(name string, x any) (any, *Error) {
	switch x := x.(type) {
	case int64:
		if name != "abs" || x >= 0 {
			return x, nil
		}
		return unary(ir.Neg, x)
	case float64:
		return map[string]func(float64) float64{"abs": math.Abs, "ceil": math.Ceil, "floor": math.Floor, "round": math.Round}[name](x), nil
	}
	return nil, wrong(name, x)
}

func average(name string, x any) (any, *Error) {
	list, ok := x.([]any)
	if !ok {
		return nil, wrong(name, x)
	}
	values, ok, err := floats(list)
	if err != nil || !ok {
		return nil, err
	}
	if name == "mean" {
		sum := 0.0
		for _, f := range values {
			sum += f
		}
		return finite(sum / float64(len(values)))
	}
	slices.Sort(values)
	mid := len(values) / 2
	if len(values)%2 == 1 {
		return values[mid], nil
	}
	return finite((values[mid-1] + values[mid]) / 2)
}

func bits(name string, a []any) (any, *Error) {
	x, ok := a[0].(int64)
	if !ok {
		return nil, wrong(name, a[0])
	}
	if name == "bitnot" {
		return ^x, nil
	}
	y, ok := a[1].(int64)
	if !ok {
		return nil, wrong(name, a[1])
	}
	switch name {
	case "bitand":
		return x & y, nil
	case "bitor":
		return x | y, nil
	case "bitxor":
		return x ^ y, nil
	}
	if y < 0 || y > 63 {
		return nil, failure(ir.CodeRange, "bits move by 0 to 63 places, not %d", y)
	}
	if name == "bitshl" {
		return x << y, nil
	}
	return x >> y, nil
}
