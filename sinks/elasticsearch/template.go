package elasticsearch

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"keystone/configs/diag"
	"keystone/configs/spec"
)

// Template is the block template { }: the index template that Keystone keeps.
type Template struct {
	Written    bool
	Name       string
	Patterns   []string
	Priority   int
	Shards     int
	Replicas   int
	ShardsSaid bool
	CopiesSaid bool // replicas is written
	Settings   map[string]string
	ComposedOf []string
	Dynamic    Dynamic
	Strings    Strings
	Fields     map[string]string
}

// Dynamic says what becomes of fields that the mapping does not have.
type Dynamic string

// The ways.
const (
	DynamicTrue    Dynamic = "true"
	DynamicFalse   Dynamic = "false"
	DynamicStrict  Dynamic = "strict"
	DynamicRuntime Dynamic = "runtime"
)

// Strings says what strings are mapped to.
type Strings string

// The mappings of strings; they are words of fields, too.
const (
	Keyword Strings = "keyword"
	Text    Strings = "text"
	Both    Strings = "text+keyword"
)

// Lifecycle is the block lifecycle { }: the policy that ages indices.
type Lifecycle struct {
	Written     bool
	Name        string
	MaxAge      time.Duration
	MaxSize     int64
	MaxDocs     int
	DeleteAfter time.Duration
}

// rolls tells whether a new index is begun by age or size.
func (l *Lifecycle) rolls() bool { return l.Written && l.rolledBy() != "" }

// rolledBy names the first option that begins new indices; "" if there is none.
func (l *Lifecycle) rolledBy() string {
	switch {
	case l.MaxAge > 0:
		return "max_age"
	case l.MaxSize > 0:
		return "max_size"
	case l.MaxDocs > 0:
		return "max_docs"
	}
	return ""
}

// outsideOptions are about what the sink keeps in the cluster. Nothing that runs has to
// stop when they change.
func (c *Config) outsideOptions() spec.Options {
	live := func(opts spec.Options) spec.Options {
		for _, o := range opts {
			o.Effect(spec.Live)
		}
		return opts
	}
	t, l := &c.Template, &c.Lifecycle
	return live(spec.Options{
		spec.Nested("template", "Keep an index template, from which Elasticsearch makes the indices that documents are written to. Its mapping follows from the types of what the routes write. "+
			"Without the block Keystone manages nothing in the cluster.", live(spec.Options{
			spec.String("name", &t.Name, "Name of the template. Unless said, what is fixed in `index`: `plays` for `plays-{ts:2006.01.02}`."),
			spec.Strings("patterns", &t.Patterns, "Names of indices that it is for, with `*`. Unless said, `index` with `*` for each placeholder.").Eg(`["plays-*"]`).Also("index_patterns"),
			spec.Int("priority", &t.Priority, "Of several templates for an index, the one with the highest priority counts. Those that come with Elasticsearch have 100 or 101.").Default(200).Between(0, 1<<31-1),
			spec.Int("shards", &t.Shards, "Primary shards of an index. Unless said, as the cluster has it: 1.").Between(1, 1024).Written(&t.ShardsSaid).Also("number_of_shards"),
			spec.Int("replicas", &t.Replicas, "Copies of each shard. Unless said, as the cluster has it: 1.").Between(0, 100).Written(&t.CopiesSaid).Also("number_of_replicas"),
			spec.StringMap("settings", &t.Settings, "Other settings of indices, with or without `index.` before their names.").Eg(`{ refresh_interval = "30s" }`),
			spec.Strings("composed_of", &t.ComposedOf, "Component templates to begin with, in this order. What is said here goes over theirs."),
			spec.Strings("aliases", &c.Aliases, "Names under which all of the indices are searched.").Eg(`["plays"]`),
			spec.Bool("data_stream", &c.DataStream, "`index` names a data stream, which Keystone makes. Events need the field `@timestamp`. Needs `action = \"create\"`."),
			spec.Enum("dynamic", &t.Dynamic, "What becomes of a field that the mapping does not have: it is added to it, it is kept and not searchable, its document is refused, or it is searchable at the cost of the search.", DynamicTrue, DynamicFalse, DynamicStrict, DynamicRuntime).Default(DynamicTrue),
			spec.Enum("strings", &t.Strings, "What strings are mapped to: a value as a whole, words, or words with the whole as the field `keyword` below it.", Keyword, Text, Both).Default(Keyword),
			spec.StringMap("fields", &t.Fields, "Mappings of single fields by path, in place of what their types give: a type of Elasticsearch (`text`, `text+keyword`, `ip`, `nested`, …), or a mapping in JSON.").Eg(`{ title = "text", client = "ip" }`),
		})).Presence(&t.Written),
		spec.Nested("lifecycle", "Keep a lifecycle policy (ILM) and give it to the indices that the template makes. Needs `template`.", live(spec.Options{
			spec.String("name", &l.Name, "Name of the policy. Unless said, that of the template."),
			spec.Duration("max_age", &l.MaxAge, "Begin a new index when the one that is written to is that old. For a data stream, or an `index` without placeholders, which then is an alias of `INDEX-000001` and those that follow.").Between(1, 10*366*86400),
			spec.Bytes("max_size", &l.MaxSize, "Begin a new index when the primary shards have that much together.").Between(1<<20, 1<<50),
			spec.Int("max_docs", &l.MaxDocs, "Begin a new index when it has that many documents.").AtLeast(1),
			spec.Duration("delete_after", &l.DeleteAfter, "Delete an index that long after it was made or, where new ones are begun by age or size, after the next one was.").Between(60, 100*366*86400).Eg(`"30d"`).Also("min_age", "retention"),
		})).Presence(&l.Written),
		spec.Enum("on_destroy", &c.OnDestroy, "Whether what Keystone made goes when the block does: the template, the policy, and the data stream or the indices behind the alias with all documents. Indices that Elasticsearch made from the template stay.", "keep", "delete").Default("keep"),
	})
}

// checkOutside reports what cannot work of what is kept in the cluster.
func (c *Config) checkOutside(ds *diag.Diagnostics) {
	t, l := &c.Template, &c.Lifecycle
	if !t.Written {
		if l.Written {
			ds.AddOptionf("lifecycle", codeTemplate, "Nothing to give it to", "lifecycle { } reaches indices by the template that they are made from. Add template { }.")
		}
		return
	}
	pattern, fixed := wildcard(c.Index.S)
	if c.templateName() == "" {
		ds.AddOptionf("index", codeTemplate, "Template without a name", "index = %q has nothing in it that is fixed. Name the template: template { name = \"…\"  patterns = [\"…\"] }.", c.Index.S)
	}
	if len(t.Patterns) == 0 && strings.Trim(pattern, "*") == "" {
		ds.AddOptionf("index", codeTemplate, "Template for everything", "index = %q would make a template for all indices of the cluster. Say which: template { patterns = [\"…\"] }.", c.Index.S)
	}
	for i, p := range t.Patterns {
		if strings.Trim(p, "*") == "" {
			ds.AddOptionf("template.patterns."+strconv.Itoa(i), codeTemplate, "Template for everything", "template.patterns has %q, which is for all indices of the cluster.", p)
		}
	}
	c.checkFields(ds)
	if c.DataStream && c.Action != Create {
		ds.AddOptionf("template.data_stream", codeTemplate, "Data stream that cannot be written to", "A data stream takes new documents alone: set action = \"create\".")
	}
	for i, a := range c.Aliases {
		if a == c.Index.S {
			ds.AddOptionf("template.aliases."+strconv.Itoa(i), codeTemplate, "Alias of its own name", "template.aliases has %q, which index names already.", a)
		}
	}
	if !l.Written {
		return
	}
	switch {
	case !l.rolls() && l.DeleteAfter == 0:
		ds.AddOptionf("lifecycle", codeLifecycle, "Policy without a purpose", "lifecycle { } says neither when a new index begins (max_age, max_size, max_docs) nor when one goes (delete_after).")
	case l.rolls() && !fixed && !c.DataStream:
		ds.AddOptionf("lifecycle."+l.rolledBy(), codeLifecycle, "Two ways to begin an index", "index = %q begins indices by what events say, so max_age, max_size and max_docs have no meaning. Remove them, or write index without placeholders.", c.Index.S)
	case l.rolls() && !c.DataStream && c.ID.S != "" && c.Action != Create:
		ds.AddOptionf("lifecycle."+l.rolledBy(), codeLifecycle, "Documents out of reach", "id finds the document to replace in the newest index alone; where one begins by max_age, max_size or max_docs, an older one would keep its document beside the new one. Remove them, or set action = \"create\".")
	}
}

func (c *Config) checkFields(ds *diag.Diagnostics) {
	for _, path := range slices.Sorted(maps.Keys(c.Template.Fields)) {
		text := c.Template.Fields[path]
		if path == "" || strings.HasPrefix(path, ".") || strings.HasSuffix(path, ".") || strings.Contains(path, "..") {
			ds.AddOptionf("template.fields."+path, codeField, "Not a path of a field", "template.fields has %q; write the path of a field, such as \"device.os\".", path)
		}
		o, err := override(text)
		if err != nil {
			ds.AddOptionf("template.fields."+path, codeField, "Unknown mapping", "template.fields maps %q to %q: %s.", path, text, err)
			continue
		}
		for _, other := range slices.Sorted(maps.Keys(c.Template.Fields)) {
			if strings.HasPrefix(other, path+".") && !isObject(o) {
				ds.AddOptionf("template.fields."+other, codeField, "Field below a field", "template.fields maps %q to %s, which has no fields, and has %q, too.", path, typeOf(o), other)
			}
		}
	}
}

// wildcard gives the name of an index with * for each placeholder; fixed tells that there is none.
func wildcard(index string) (pattern string, fixed bool) {
	fixed = true
	pattern = expand(index, func(string) string {
		fixed = false
		return "*"
	})
	for strings.Contains(pattern, "**") {
		pattern = strings.ReplaceAll(pattern, "**", "*")
	}
	return pattern, fixed
}

// current gives the pattern of the indices that events of a time are written to.
func current(index string, now time.Time) string {
	return expand(index, func(placeholder string) string {
		if layout := layoutOf(placeholder); layout != "" {
			return now.UTC().Format(layout)
		}
		return "*"
	})
}

// timed tells whether times are in the name of an index.
func timed(index string) (yes bool) {
	expand(index, func(placeholder string) string {
		yes = yes || layoutOf(placeholder) != ""
		return ""
	})
	return yes
}

// expand gives the name of an index with its placeholders replaced.
func expand(index string, replace func(placeholder string) string) string {
	var b strings.Builder
	rest := index
	for rest != "" {
		switch {
		case strings.HasPrefix(rest, "{{"), strings.HasPrefix(rest, "}}"):
			b.WriteByte(rest[0])
			rest = rest[2:]
		case rest[0] == '{':
			n := placeholderLen(rest)
			b.WriteString(replace(rest[:n]))
			rest = rest[n:]
		default:
			b.WriteByte(rest[0])
			rest = rest[1:]
		}
	}
	return b.String()
}

// layoutOf gives the layout of a placeholder: what is behind a colon that stands in no quotes and no brackets.
func layoutOf(placeholder string) string {
	quote, depth := byte(0), 0
	for i := range len(placeholder) {
		switch c := placeholder[i]; {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case c == '[':
			depth++
		case c == ']':
			depth--
		case c == ':' && depth == 0:
			return strings.TrimSuffix(placeholder[i+1:], "}")
		}
	}
	return ""
}

// placeholderLen is the length of the placeholder that text begins with: up to the brace that stands in no quotes.
func placeholderLen(text string) int {
	quote := byte(0)
	for i := range len(text) {
		switch c := text[i]; {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case c == '}':
			return i + 1
		}
	}
	return len(text)
}

// templateName is the name that the user gave or that follows from index.
func (c *Config) templateName() string {
	if c.Template.Name != "" {
		return c.Template.Name
	}
	pattern, _ := wildcard(c.Index.S)
	var parts []string
	for part := range strings.SplitSeq(pattern, "*") {
		if part = strings.Trim(part, "-_.+"); part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "-")
}

func (c *Config) policyName() string {
	if c.Lifecycle.Name != "" {
		return c.Lifecycle.Name
	}
	return c.templateName()
}

// alias is the alias that is written to where indices are begun by age or size; "" if there is none.
func (c *Config) alias() string {
	if c.Lifecycle.rolls() && !c.DataStream {
		return c.Index.S
	}
	return ""
}

func (c *Config) patterns() []string {
	if len(c.Template.Patterns) > 0 {
		return c.Template.Patterns
	}
	pattern, _ := wildcard(c.Index.S)
	if c.alias() != "" {
		pattern += "-*"
	}
	return []string{pattern}
}

// meta marks what Keystone made.
func meta() map[string]any { return map[string]any{"managed_by": managedBy} }

const managedBy = "keystone"

// settings gives those of indices, with flat names.
func (c *Config) settings() map[string]any {
	settings := map[string]any{}
	for name, v := range c.Template.Settings {
		if !strings.HasPrefix(name, "index.") {
			name = "index." + name
		}
		settings[name] = v
	}
	if c.Template.ShardsSaid {
		settings["index.number_of_shards"] = strconv.Itoa(c.Template.Shards)
	}
	if c.Template.CopiesSaid {
		settings["index.number_of_replicas"] = strconv.Itoa(c.Template.Replicas)
	}
	if c.Lifecycle.Written {
		settings["index.lifecycle.name"] = c.policyName()
		if a := c.alias(); a != "" {
			settings["index.lifecycle.rollover_alias"] = a
		}
	}
	return settings
}

// template gives the body of the index template.
func (c *Config) template(mapping map[string]any) map[string]any {
	inner := map[string]any{"mappings": mapping}
	if settings := c.settings(); len(settings) > 0 {
		inner["settings"] = settings
	}
	if len(c.Aliases) > 0 {
		aliases := map[string]any{}
		for _, a := range c.Aliases {
			aliases[a] = map[string]any{}
		}
		inner["aliases"] = aliases
	}
	out := map[string]any{"index_patterns": c.patterns(), "priority": c.Template.Priority, "_meta": meta(), "template": inner}
	if c.DataStream {
		out["data_stream"] = map[string]any{}
	}
	if len(c.Template.ComposedOf) > 0 {
		out["composed_of"] = c.Template.ComposedOf
	}
	return out
}

// plain gives a value as it is after a way through JSON: maps, slices, strings, json.Numbers.
func plain(v any) any {
	b, err := json.Marshal(v)
	if err != nil {
		panic("elasticsearch: what is made of options has no JSON form: " + err.Error())
	}
	out, err := decode(b)
	if err != nil {
		panic("elasticsearch: " + err.Error())
	}
	return out
}

// decode reads JSON, numbers as they are written.
func decode(b []byte) (any, error) {
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	var v any
	return v, d.Decode(&v)
}
