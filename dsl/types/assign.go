package types

import "fmt"

// Problem is a part of a type that does not fit another one.
type Problem struct {
	Path string // of the field, as device.os; "" for the whole
	Text string // a sentence
}

// Mismatches says why values of type from are not values of type to: each
// field that has another type, and each required field that is missing. What
// is any is left to run time; an int is a float and a decimal.
func Mismatches(from, to Type) []Problem { return mismatches(nil, "", from, to) }

func mismatches(out []Problem, path string, from, to Type) []Problem {
	if from.Kind == Any || to.Kind == Any || from.Kind == Nil {
		return out
	}
	switch {
	case from.IsTime() && to.IsTime():
		return out
	case from.IsNumber() && to.IsNumber() && (to.Kind != Int || from.Kind == Int):
		return out
	case from.Kind == List && to.Kind == List, from.Kind == Map && to.Kind == Map:
		return mismatches(out, path+"[]", *from.Elem, *to.Elem)
	case from.Kind == Object && to.Kind == Map:
		for _, f := range from.Fields {
			out = mismatches(out, join(path, f.Name), f.Type, *to.Elem)
		}
		return out
	case from.Kind == Map && to.Kind == Object:
		return out
	case from.Kind == Object && to.Kind == Object:
		for _, f := range to.Fields {
			has, ok := from.Field(f.Name)
			switch {
			case ok:
				out = mismatches(out, join(path, f.Name), has.Type, f.Type)
			case !f.Optional && !from.Open:
				out = append(out, Problem{join(path, f.Name), fmt.Sprintf("The field %q is missing: it must be %s.", join(path, f.Name), f.Type)})
			}
		}
		return out
	case from.Kind == to.Kind:
		return out
	}
	return append(out, Problem{path, fmt.Sprintf("%s must be %s, and it is %s.", quoted(path), to, from)})
}

func quoted(path string) string {
	if path == "" {
		return "The value"
	}
	return fmt.Sprintf("The field %q", path)
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
