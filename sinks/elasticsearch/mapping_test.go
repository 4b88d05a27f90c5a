package elasticsearch

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"keystone/configs/diag"
	"keystone/dsl/types"
	"keystone/sinks"
)

// schema reads a type as it is written in a schema.
func schema(t testing.TB, text string) types.Type {
	t.Helper()
	if text == "any" {
		return types.AnyType
	}
	typ, err := types.Parse("object({" + text + "})")
	if err != nil {
		t.Fatal(err)
	}
	return typ
}

// templated is a sink that keeps a template, with other options set.
func templated(t testing.TB, set func(c *Config)) *Config {
	t.Helper()
	c := config(t, "plays", "http://127.0.0.1:9200")
	c.Template.Written = true
	if set != nil {
		set(c)
	}
	if err := c.Check().Err(); err != nil {
		t.Fatal(err)
	}
	return c
}

func mapped(t testing.TB, c *Config, schemas ...string) string {
	t.Helper()
	var events []types.Type
	for _, s := range schemas {
		events = append(events, schema(t, s))
	}
	b, err := json.Marshal(c.mapping(events)["properties"])
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestMapping(t *testing.T) {
	for _, test := range []struct {
		name    string
		schemas []string
		fields  map[string]string
		set     func(c *Config)
		want    string
	}{
		{name: "scalars", schemas: []string{"b = bool, i = int, f = float, s = string, d = date, y = bytes"},
			want: `{"b":{"type":"boolean"},"d":{"format":"strict_date","type":"date"},"f":{"type":"double"},"i":{"type":"long"},"s":{"ignore_above":8191,"type":"keyword"},"y":{"type":"binary"}}`},
		{name: "times", schemas: []string{"m = timestamp_ms, r = timestamp_rfc3339"},
			want: `{"m":{"format":"epoch_millis","type":"date"},"r":{"format":"strict_date_optional_time","type":"date"}}`},
		{name: "decimals", schemas: []string{"whole = decimal(18, 0), money = decimal(12, 2), long = decimal(38, 10), huge = decimal(38, 0)"},
			want: `{"huge":{"ignore_above":8191,"type":"keyword"},"long":{"ignore_above":8191,"type":"keyword"},"money":{"scaling_factor":100,"type":"scaled_float"},"whole":{"type":"long"}}`},
		{name: "nested", schemas: []string{"tags = list(string), parts = list(object({n = int})), device = object({os = optional(string)}), labels = map(string)"},
			want: `{"device":{"properties":{"os":{"ignore_above":8191,"type":"keyword"}},"type":"object"},"labels":{"ignore_above":8191,"type":"flattened"},"parts":{"properties":{"n":{"type":"long"}},"type":"object"},"tags":{"ignore_above":8191,"type":"keyword"}}`},
		{name: "any is left to the documents", schemas: []string{"x = any, y = int"}, want: `{"y":{"type":"long"}}`},
		{name: "unknown events", schemas: []string{"any"}, want: `null`},
		{name: "strings are text", schemas: []string{"s = string"}, set: func(c *Config) { c.Template.Strings = Both },
			want: `{"s":{"fields":{"keyword":{"ignore_above":8191,"type":"keyword"}},"type":"text"}}`},
		{name: "overrides", schemas: []string{"s = string, o = object({a = string, n = int}), l = list(object({a = int}))"},
			fields: map[string]string{"s": "ip", "o.a": "text", "l": "nested", "new.path": "integer"},
			want:   `{"l":{"properties":{"a":{"type":"long"}},"type":"nested"},"new":{"properties":{"path":{"type":"integer"}},"type":"object"},"o":{"properties":{"a":{"type":"text"},"n":{"type":"long"}},"type":"object"},"s":{"type":"ip"}}`},
		{name: "in JSON", schemas: []string{"title = string, o = object({a = string})"},
			fields: map[string]string{"title": `{"type":"text","analyzer":"german"}`, "o": `{"type":"object","enabled":false}`},
			want:   `{"o":{"enabled":false,"type":"object"},"title":{"analyzer":"german","type":"text"}}`},
		{name: "below a map", schemas: []string{"labels = map(string)"}, fields: map[string]string{"labels.env": "keyword"},
			want: `{"labels":{"properties":{"env":{"ignore_above":8191,"type":"keyword"}},"type":"object"}}`},
		{name: "dots are paths", schemas: []string{`"a.b" = int, a = object({c = int})`},
			want: `{"a":{"properties":{"b":{"type":"long"},"c":{"type":"long"}},"type":"object"}}`},
		{name: "of several routes", schemas: []string{"a = int, n = int, t = timestamp_ms, o = object({x = int})", "b = string, n = float, t = date, o = object({y = bool})"},
			want: `{"a":{"type":"long"},"b":{"ignore_above":8191,"type":"keyword"},"n":{"type":"double"},"o":{"properties":{"x":{"type":"long"},"y":{"type":"boolean"}},"type":"object"},"t":{"format":"epoch_millis||strict_date","type":"date"}}`},
		{name: "origin", schemas: []string{"n = int"}, set: func(c *Config) { c.Action = Create },
			want: `{"_ks":{"enabled":false,"type":"object"},"n":{"type":"long"}}`},
		{name: "data stream", schemas: []string{"n = int"}, set: func(c *Config) { c.Action, c.DataStream, c.OriginSaid = Create, true, true },
			want: `{"@timestamp":{"type":"date"},"n":{"type":"long"}}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := templated(t, func(c *Config) {
				c.Template.Fields = test.fields
				if test.set != nil {
					test.set(c)
				}
			})
			if got := mapped(t, c, test.schemas...); got != test.want {
				t.Errorf("\n got %s\nwant %s", got, test.want)
			}
			slices.Reverse(test.schemas)
			if got := mapped(t, c, test.schemas...); got != test.want {
				t.Errorf("in the other order:\n got %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestMisfits(t *testing.T) {
	for _, test := range []struct {
		name, schema string
		set          func(c *Config)
		want         string // path and the start of the text
	}{
		{"fits", "a = string, b = object({_id = int})", nil, ""},
		{"reserved", "_id = string", nil, "_id Elasticsearch takes no document"},
		{"a dot too much", `"a..b" = string`, nil, "a..b Elasticsearch makes a path"},
		{"origin twice", "_ks = string", func(c *Config) { c.Origin, c.OriginSaid = true, true }, "_ks Keystone adds the field"},
		{"no place", "o = object({a = int})", func(c *Config) { c.Template.Fields = map[string]string{"o": "keyword"} }, `o "o" is object({a = int})`},
		{"no place for a scalar", "s = list(string)", func(c *Config) { c.Template.Fields = map[string]string{"s": "nested"} }, `s "s" is string`},
		{"below a scalar", "s = string", func(c *Config) { c.Template.Fields = map[string]string{"s.x": "keyword"} }, `s "s" is string, which has no fields`},
		{"strict", "o = object({a = any})", func(c *Config) { c.Template.Dynamic = DynamicStrict }, `o.a The type of "o.a" is not known`},
		{"strict and said", "o = object({a = any})", func(c *Config) {
			c.Template.Dynamic, c.Template.Fields = DynamicStrict, map[string]string{"o.a": "keyword"}
		}, ""},
		{"strict and nothing known", "any", func(c *Config) { c.Template.Dynamic = DynamicStrict }, " The type of what is written is not known"},
		{"no time", "a = string", func(c *Config) { c.DataStream, c.Action = true, Create }, " A data stream needs the field"},
		{"no time, but a number", `"@timestamp" = bool`, func(c *Config) { c.DataStream, c.Action = true, Create }, "@timestamp A data stream needs a time"},
		{"a time", `"@timestamp" = timestamp_ms`, func(c *Config) { c.DataStream, c.Action = true, Create }, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, m := range templated(t, test.set).Misfits(schema(t, test.schema)) {
				got = append(got, m.Path+" "+m.Text)
			}
			if test.want == "" && len(got) == 0 || len(got) == 1 && test.want != "" && strings.HasPrefix(got[0], test.want) {
				return
			}
			t.Errorf("got %q, want %q", got, test.want)
		})
	}
	if m := config(t, "plays", "http://127.0.0.1:9200").Misfits(schema(t, "_id = string")); len(m) != 1 {
		t.Errorf("without a template: %v", m)
	}
}

func TestClashes(t *testing.T) {
	for _, test := range []struct {
		mine, other string
		fields      map[string]string
		want        string
	}{
		{"a = int", "a = float", nil, ""},
		{"a = timestamp_ms", "a = date", nil, ""},
		{"a = any", "a = date", nil, ""},
		{"o = object({a = int})", "o = object({a = string})", nil, `o.a "o.a" is mapped to long here, and to keyword (ignore_above 8191) by what route.other writes`},
		{"a = object({b = int})", "a = map(int)", nil, `a "a" is mapped to object here, and to flattened`},
		{"a = int", "a = string", map[string]string{"a": "keyword"}, ""},
	} {
		c := templated(t, func(c *Config) { c.Template.Fields = test.fields })
		var got []string
		for _, m := range c.Clashes(schema(t, test.mine), []sinks.Writer{{Route: "route.other", Type: schema(t, test.other)}}) {
			got = append(got, m.Path+" "+m.Text)
		}
		if test.want == "" && len(got) > 0 || test.want != "" && (len(got) != 1 || !strings.HasPrefix(got[0], test.want)) {
			t.Errorf("%s beside %s: got %q, want %q", test.mine, test.other, got, test.want)
		}
	}
}

func TestNames(t *testing.T) {
	for _, test := range []struct{ index, name, pattern string }{
		{"plays", "plays", "plays"},
		{"plays-{ts:2006.01.02}", "plays", "plays-*"},
		{"{tenant}-plays-{ts:2006}", "plays", "*-plays-*"},
		{"logs-{o['a}b']}{x}.v1", "logs-v1", "logs-*.v1"},
		{"a{{b}}-{x}", "a{b}", "a{b}-*"},
	} {
		c := config(t, test.index, "http://127.0.0.1:9200")
		if p := c.patterns(); c.templateName() != test.name || !slices.Equal(p, []string{test.pattern}) {
			t.Errorf("%s: got %q %q, want %q %q", test.index, c.templateName(), p, test.name, test.pattern)
		}
	}
}

func TestCheckOutside(t *testing.T) {
	for _, test := range []struct {
		name string
		set  func(c *Config)
		want string
	}{
		{"nothing", func(c *Config) { c.Template.Written = false }, ""},
		{"lifecycle alone", func(c *Config) { c.Template.Written, c.Lifecycle.Written = false, true }, codeTemplate},
		{"all indices", func(c *Config) { c.Index, c.Template.Name = text("{a}"), "x" }, codeTemplate},
		{"all indices, said", func(c *Config) { c.Template.Patterns = []string{"*"} }, codeTemplate},
		{"own name", func(c *Config) { c.Aliases = []string{"plays"} }, codeTemplate},
		{"data stream", func(c *Config) { c.DataStream = true }, codeTemplate},
		{"no purpose", func(c *Config) { c.Lifecycle.Written = true }, codeLifecycle},
		{"two ways", func(c *Config) { c.Index, c.Lifecycle = text("p-{a}"), Lifecycle{Written: true, MaxDocs: 5} }, codeLifecycle},
		{"out of reach", func(c *Config) { c.ID, c.Lifecycle = text("a"), Lifecycle{Written: true, MaxDocs: 5} }, codeLifecycle},
		{"delete alone", func(c *Config) { c.Index, c.Lifecycle = text("p-{a}"), Lifecycle{Written: true, DeleteAfter: 5} }, ""},
		{"word", func(c *Config) { c.Template.Fields = map[string]string{"a": "keywords"} }, codeField},
		{"JSON", func(c *Config) { c.Template.Fields = map[string]string{"a": "{"} }, codeField},
		{"no type", func(c *Config) { c.Template.Fields = map[string]string{"a": `{"index":false}`} }, codeField},
		{"path", func(c *Config) { c.Template.Fields = map[string]string{"a..b": "text"} }, codeField},
		{"below", func(c *Config) { c.Template.Fields = map[string]string{"a": "flattened", "a.b": "text"} }, codeField},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := config(t, "plays", "http://127.0.0.1:9200")
			c.Template.Written = true
			test.set(c)
			var got diag.Diagnostics
			c.checkOutside(&got)
			if test.want == "" && len(got) > 0 || test.want != "" && (len(got) != 1 || got[0].Code != test.want) {
				t.Errorf("%v, want %q", got, test.want)
			}
		})
	}
}
