package elasticsearch

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// facts are the parts of a thing that are compared, by what sentences call them.
type facts map[string]string

// differs tells field by field how what is there is not what is wanted.
func differs(have, want facts) []string {
	var out []string
	for _, what := range slices.Sorted(maps.Keys(want)) {
		h, ok := have[what]
		switch {
		case !ok:
			out = append(out, fmt.Sprintf("%s is missing, wanted %s", what, want[what]))
		case h != want[what]:
			out = append(out, fmt.Sprintf("%s: %s, wanted %s", what, h, want[what]))
		}
	}
	for _, what := range slices.Sorted(maps.Keys(have)) {
		if _, ok := want[what]; !ok {
			out = append(out, fmt.Sprintf("%s: %s, not wanted", what, have[what]))
		}
	}
	return out
}

// settingFact begins what a setting is called.
const settingFact = "setting "

// templateFacts takes apart an index template, as it is put or, with flat settings, answered.
func templateFacts(t map[string]any) facts {
	f := facts{"priority": "0", "data stream": "no"}
	for key, v := range t {
		switch key {
		case "priority":
			f[key] = word(v)
		case "index_patterns":
			f["patterns"] = word(v)
		case "composed_of", "ignore_missing_component_templates":
			if list, _ := v.([]any); len(list) > 0 {
				f[key] = word(v)
			}
		case "data_stream":
			f["data stream"] = "yes"
		case "_meta":
			f.meta(v)
		case "version":
			f[key] = word(v)
		}
	}
	inner, _ := t["template"].(map[string]any)
	settings, _ := inner["settings"].(map[string]any)
	for name, v := range settings {
		f[settingFact+name] = word(v)
	}
	aliases, _ := inner["aliases"].(map[string]any)
	for name, v := range aliases {
		f["alias "+name] = "yes"
		if how, _ := v.(map[string]any); len(how) > 0 {
			f["alias "+name] = word(v)
		}
	}
	m, _ := inner["mappings"].(map[string]any)
	f.mapping(m)
	return f
}

// meta is who made a thing; what others write beside it is theirs.
func (f facts) meta(v any) {
	m, _ := v.(map[string]any)
	if by, ok := m["managed_by"]; ok {
		f["_meta.managed_by"] = word(by)
	}
}

// mapping adds a whole mapping.
func (f facts) mapping(m mapping) {
	for key, v := range m {
		switch key {
		case "properties", "type":
		default:
			f[key] = word(v)
		}
	}
	if _, ok := m["dynamic"]; !ok {
		f["dynamic"] = "true"
	}
	f.properties(m, "")
}

func (f facts) properties(m mapping, prefix string) {
	for name, v := range properties(m) {
		p, _ := v.(map[string]any)
		path := prefix + name
		if !isObject(p) || typeOf(p) != "object" || len(properties(p)) == 0 || len(parameters(p)) > 0 {
			f["mapping of "+path] = phraseOf(p)
		}
		f.properties(p, path+".")
	}
}

// parameters gives what a mapping says beside its type and its fields.
func parameters(m mapping) []string {
	var out []string
	for key := range m {
		if key != "type" && key != "properties" {
			out = append(out, key)
		}
	}
	slices.Sort(out)
	return out
}

// phraseOf writes the mapping of a field as sentences do: "date (format epoch_millis)".
func phraseOf(m mapping) string {
	var list []string
	for _, key := range parameters(m) {
		list = append(list, key+" "+word(m[key]))
	}
	if len(list) == 0 {
		return typeOf(m)
	}
	return typeOf(m) + " (" + strings.Join(list, ", ") + ")"
}

// word writes a value so that what means the same to Elasticsearch is the same: it takes "1" for 1 and "true" for true.
func word(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return v
	case json.Number:
		if f, err := strconv.ParseFloat(v.String(), 64); err == nil && strings.ContainsAny(v.String(), ".eE") {
			return strconv.FormatFloat(f, 'f', -1, 64)
		}
		return v.String()
	case []any:
		parts := make([]string, len(v))
		for i, x := range v {
			parts[i] = word(x)
		}
		return strings.Join(parts, ", ")
	case map[string]any:
		parts := make([]string, 0, len(v))
		for _, k := range slices.Sorted(maps.Keys(v)) {
			parts = append(parts, k+" "+word(v[k]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return fmt.Sprint(v)
}

// gap is what a mapping that is there lacks of the one that is wanted.
type gap struct {
	add     mapping  // to be put
	differs []string // what add mends
	clashes []clash  // what nothing mends: Elasticsearch keeps what a field is
}

// lack compares the mapping of an index with the wanted one. What the index has beside it is no matter.
func lack(have, want mapping) gap {
	g := gap{add: mapping{}}
	g.fields(have, want, "")
	if h, w := dynamicOf(have), dynamicOf(want); h != w {
		g.add["dynamic"] = w
		g.differs = append(g.differs, fmt.Sprintf("dynamic: %s, wanted %s", h, w))
	}
	return g
}

func dynamicOf(m mapping) string {
	if d, ok := m["dynamic"]; ok {
		return word(d)
	}
	return string(DynamicTrue)
}

func (g *gap) fields(have, want mapping, prefix string) {
	for _, name := range slices.Sorted(maps.Keys(properties(want))) {
		w, _ := properties(want)[name].(map[string]any)
		path := prefix + name
		h, ok := properties(have)[name].(map[string]any)
		switch {
		case !ok && isObject(w) && len(parameters(w)) == 0 && len(properties(w)) > 0:
			g.fields(mapping{}, w, path+".") // it comes with its fields
		case !ok:
			place(g.add, path, w)
			g.differs = append(g.differs, fmt.Sprintf("mapping of %s is missing, wanted %s", path, phraseOf(w)))
		case typeOf(h) != typeOf(w):
			g.clashes = append(g.clashes, clash{path, h, w})
		default:
			g.parameters(h, w, path)
			if isObject(w) {
				g.fields(h, w, path+".")
			}
		}
	}
}

// mendable are the parameters of a mapping that Elasticsearch lets change.
var mendable = []string{"ignore_above", "ignore_malformed", "dynamic", "meta", "fields"}

func (g *gap) parameters(h, w mapping, path string) {
	changed := maps.Clone(h)
	delete(changed, "properties")
	differ := false
	for _, key := range parameters(w) {
		have, ok := h[key]
		want := w[key]
		switch {
		case ok && word(have) == word(want):
		case key == "format" && (!ok || have == defaultFormat) && withinDefault(want):
		case !slices.Contains(mendable, key):
			g.clashes = append(g.clashes, clash{path, h, w})
			return
		case key == "fields":
			merged, clashed := subfields(have, want)
			if clashed {
				g.clashes = append(g.clashes, clash{path, h, w})
				return
			}
			if merged != nil {
				changed[key], differ = merged, true
			}
		default:
			changed[key], differ = want, true
		}
	}
	if differ {
		place(g.add, path, changed)
		g.differs = append(g.differs, fmt.Sprintf("mapping of %s: %s, wanted %s", path, phraseOf(h), phraseOf(w)))
	}
}

// subfields adds what is wanted of the fields of a field; nil if all of it is there.
func subfields(have, want any) (merged map[string]any, clashed bool) {
	h, _ := have.(map[string]any)
	w, _ := want.(map[string]any)
	merged = maps.Clone(h)
	if merged == nil {
		merged = map[string]any{}
	}
	added := false
	for name, v := range w {
		old, ok := h[name].(map[string]any)
		mine, _ := v.(map[string]any)
		switch {
		case !ok:
			merged[name], added = v, true
		case typeOf(old) != typeOf(mine):
			return nil, true
		}
	}
	if !added {
		return nil, false
	}
	return merged, false
}

// withinDefault tells whether a date of the format is one of the default format, too.
func withinDefault(format any) bool {
	for f := range strings.SplitSeq(word(format), "||") {
		if f != "epoch_millis" && f != "strict_date" && f != "strict_date_optional_time" {
			return false
		}
	}
	return true
}
