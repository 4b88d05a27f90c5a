package elasticsearch

import (
	"maps"
	"reflect"
	"slices"
	"strings"
)

// clash is a field that two routes write with types that have no common mapping.
type clash struct {
	path       string
	have, want mapping
}

// unite gives a mapping for what fits either of two. Where they have nothing in common the first one stays.
func unite(a, b mapping, path string) (mapping, []clash) {
	out := maps.Clone(a)
	var clashes []clash
	for key, v := range b {
		if key != "properties" {
			if _, ok := out[key]; !ok {
				out[key] = v
			}
		}
	}
	if len(properties(a))+len(properties(b)) == 0 {
		return out, nil
	}
	fields := maps.Clone(properties(a))
	if fields == nil {
		fields = map[string]any{}
	}
	for _, name := range slices.Sorted(maps.Keys(properties(b))) {
		theirs, _ := properties(b)[name].(map[string]any)
		ours, ok := fields[name].(map[string]any)
		if !ok {
			fields[name] = theirs
			continue
		}
		at := name
		if path != "" {
			at = path + "." + name
		}
		one, more := uniteField(ours, theirs, at)
		fields[name] = one
		clashes = append(clashes, more...)
	}
	out["properties"] = fields
	return out, clashes
}

func uniteField(a, b mapping, path string) (mapping, []clash) {
	ta, tb := typeOf(a), typeOf(b)
	numeric := []string{"long", "scaled_float", "double"}
	switch {
	case reflect.DeepEqual(a, b):
		return a, nil
	case isObject(a) && ta == tb:
		return unite(a, b, path)
	case ta == "date" && tb == "date":
		return uniteDates(a, b), nil
	case slices.Contains(numeric, ta) && slices.Contains(numeric, tb):
		return mapping{"type": "double"}, nil
	}
	return a, []clash{{path, a, b}}
}

// uniteDates takes what either format takes.
func uniteDates(a, b mapping) mapping {
	formats := func(m mapping) []string {
		f, _ := m["format"].(string)
		if f == "" {
			f = defaultFormat
		}
		return strings.Split(f, "||")
	}
	all := formats(a)
	for _, f := range formats(b) {
		if !slices.Contains(all, f) {
			all = append(all, f)
		}
	}
	slices.Sort(all) // whichever of the routes comes first
	out := maps.Clone(a)
	out["format"] = strings.Join(all, "||")
	return out
}

// defaultFormat is what a date takes where its mapping does not say it.
const defaultFormat = "strict_date_optional_time||epoch_millis"
