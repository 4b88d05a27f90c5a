package elasticsearch

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"keystone/dsl/types"
	"keystone/sinks"
)

func object(t testing.TB, text string) map[string]any {
	t.Helper()
	v, err := decode([]byte(text))
	if err != nil {
		t.Fatal(err, text)
	}
	return v.(map[string]any)
}

func TestTemplateDiffers(t *testing.T) {
	for _, test := range []struct {
		name, have, want string
		differs          []string
	}{
		{"as answered", `{"index_patterns":["p-*"],"priority":200,"composed_of":[],"_meta":{"managed_by":"keystone","more":1},"template":{"settings":{"index.number_of_shards":"2"},"mappings":{"dynamic":"true","properties":{"a":{"type":"scaled_float","scaling_factor":100.0},"o":{"properties":{"x":{"type":"long"}}}}},"aliases":{"p":{}}}}`,
			`{"index_patterns":["p-*"],"priority":200,"_meta":{"managed_by":"keystone"},"template":{"settings":{"index.number_of_shards":2},"mappings":{"properties":{"a":{"type":"scaled_float","scaling_factor":100},"o":{"type":"object","properties":{"x":{"type":"long"}}}}},"aliases":{"p":{}}}}`, nil},
		{"made by hand", `{"index_patterns":["p*"],"composed_of":["base"],"template":{"mappings":{"properties":{"pct":{"type":"long"},"gone":{"type":"text"}}}}}`,
			`{"index_patterns":["p-*"],"priority":200,"_meta":{"managed_by":"keystone"},"data_stream":{},"template":{"settings":{"index.number_of_shards":2},"mappings":{"dynamic":"strict","properties":{"pct":{"type":"double"},"day":{"type":"date","format":"strict_date"}}},"aliases":{"p":{}}}}`,
			[]string{"_meta.managed_by is missing, wanted keystone", "alias p is missing, wanted yes", "data stream: no, wanted yes", "dynamic: true, wanted strict", "mapping of day is missing, wanted date (format strict_date)",
				"mapping of pct: long, wanted double", "patterns: p*, wanted p-*", "priority: 0, wanted 200", "setting index.number_of_shards is missing, wanted 2", "composed_of: base, not wanted", "mapping of gone: text, not wanted"}},
	} {
		equal(t, test.name, differs(templateFacts(object(t, test.have)), templateFacts(object(t, test.want))), test.differs)
	}
}

func TestPolicyDiffers(t *testing.T) {
	c := templated(t, func(c *Config) {
		c.Lifecycle = Lifecycle{Written: true, MaxAge: day, MaxSize: 50 << 30, DeleteAfter: 30 * day}
	})
	for _, test := range []struct {
		name, have string
		differs    []string
	}{
		// the answer of the documentation of GET _ilm/policy has these forms
		{"as answered", `{"version":1,"modified_date":1,"policy":{"_meta":{"managed_by":"keystone"},"phases":{"hot":{"min_age":"0ms","actions":{"rollover":{"max_age":"24h","max_size":"50gb"}}},"delete":{"min_age":"30d","actions":{"delete":{"delete_searchable_snapshot":true}}}}},"in_use_by":{"indices":[]}}`, nil},
		{"made by hand", `{"policy":{"phases":{"hot":{"actions":{"rollover":{"max_age":"7d","max_docs":5},"set_priority":{"priority":100}}},"warm":{"min_age":"2d","actions":{}}}}}`,
			[]string{"_meta.managed_by is missing, wanted keystone", "delete after is missing, wanted 30d", "delete: delete is missing, wanted yes", "hot: rollover max_age: 7d, wanted 1d", "hot: rollover max_size is missing, wanted 50gb",
				"hot: rollover max_docs: 5, not wanted", "hot: set_priority priority: 100, not wanted", "warm after: 2d, not wanted"}},
	} {
		equal(t, test.name, differs(policyFacts(object(t, test.have)), policyFacts(c.policy())), test.differs)
	}
}

func TestLack(t *testing.T) {
	for _, test := range []struct {
		name, have, want string
		add              string
		differs, clashes []string
	}{
		{"nothing", `{"properties":{"a":{"type":"long"},"more":{"type":"text"}}}`, `{"dynamic":"true","properties":{"a":{"type":"long"}}}`, `{}`, nil, nil},
		{"fields", `{"properties":{"o":{"properties":{"x":{"type":"long"}}}}}`, `{"properties":{"o":{"type":"object","properties":{"x":{"type":"long"},"y":{"type":"long"}}},"n":{"type":"object","properties":{"z":{"type":"ip"}}},"_ks":{"type":"object","enabled":false}}}`,
			`{"properties":{"_ks":{"enabled":false,"type":"object"},"n":{"properties":{"z":{"type":"ip"}},"type":"object"},"o":{"properties":{"y":{"type":"long"}},"type":"object"}}}`,
			[]string{"mapping of _ks is missing, wanted object (enabled false)", "mapping of n.z is missing, wanted ip", "mapping of o.y is missing, wanted long"}, nil},
		{"what may change", `{"properties":{"a":{"type":"keyword","ignore_above":256,"index":false}}}`, `{"dynamic":"strict","properties":{"a":{"type":"keyword","ignore_above":8191}}}`,
			`{"dynamic":"strict","properties":{"a":{"ignore_above":8191,"index":false,"type":"keyword"}}}`,
			[]string{"mapping of a: keyword (ignore_above 256, index false), wanted keyword (ignore_above 8191)", "dynamic: true, wanted strict"}, nil},
		{"types", `{"properties":{"a":{"type":"long"},"o":{"properties":{"x":{"type":"long"}}}}}`, `{"properties":{"a":{"type":"double"},"o":{"type":"flattened"}}}`, `{}`, nil, []string{"a long double", "o object flattened"}},
		{"dates by themselves", `{"properties":{"a":{"type":"date"},"b":{"type":"date"}}}`, `{"properties":{"a":{"type":"date","format":"strict_date"},"b":{"type":"date","format":"epoch_second"}}}`, `{}`, nil, []string{"b date date (format epoch_second)"}},
		{"fields of fields", `{"properties":{"a":{"type":"text"},"b":{"type":"text","fields":{"keyword":{"type":"keyword","ignore_above":256}}}}}`,
			`{"properties":{"a":{"type":"text","fields":{"keyword":{"type":"keyword"}}},"b":{"type":"text","fields":{"keyword":{"type":"keyword","ignore_above":8191}}}}}`,
			`{"properties":{"a":{"fields":{"keyword":{"type":"keyword"}},"type":"text"}}}`, []string{"mapping of a: text, wanted text (fields {keyword {type keyword}})"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := lack(object(t, test.have), object(t, test.want))
			b, err := json.Marshal(g.add)
			if err != nil {
				t.Fatal(err)
			}
			if string(b) != test.add {
				t.Errorf("adds %s, want %s", b, test.add)
			}
			equal(t, "differs", g.differs, test.differs)
			var clashes []string
			for _, c := range g.clashes {
				clashes = append(clashes, c.path+" "+phraseOf(c.have)+" "+phraseOf(c.want))
			}
			equal(t, "clashes", clashes, test.clashes)
		})
	}
}

// kept is a sink with a template of names of its own, on the real cluster.
func (l *lab) kept(set func(c *Config)) *Config {
	l.t.Helper()
	name := l.index()
	l.call(http.MethodDelete, "/"+name, "")
	c := config(l.t, name, l.urls...)
	c.Template.Written, c.Template.CopiesSaid = true, true
	if set != nil {
		set(c)
	}
	l.t.Cleanup(func() {
		for _, path := range []string{"/_index_template/" + c.templateName(), "/" + name + "-*"} {
			req, _ := http.NewRequest(http.MethodDelete, l.urls[0]+path, nil)
			if res, err := http.DefaultClient.Do(req); err == nil {
				res.Body.Close()
			}
		}
	})
	return c
}

// seen writes things as plans do.
func seen(t testing.TB, c *Config, events []types.Type) (out []string) {
	t.Helper()
	things, err := c.Observe(t.Context(), deps(), events)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range things {
		text := x.Kind
		if !x.Exists {
			text += " is missing"
		}
		if len(x.Differs) > 0 {
			text += ": " + strings.Join(x.Differs, "; ")
		}
		if x.Blocked != "" {
			text += " blocked: " + x.Blocked
		}
		out = append(out, strings.ReplaceAll(text, c.Index.S, "INDEX"))
	}
	return out
}

func ensure(t testing.TB, c *Config, events []types.Type) {
	t.Helper()
	if err := c.Ensure(t.Context(), deps(), events); err != nil {
		t.Fatal(err)
	}
}

// types of the fields of an index, by path.
func (l *lab) fields(index string) map[string]string {
	l.t.Helper()
	answer := object(l.t, string(l.call(http.MethodGet, "/"+index+"/_mapping", "")))
	out := map[string]string{}
	for _, x := range answer {
		f := facts{}
		f.mapping(x.(map[string]any)["mappings"].(map[string]any))
		for what, v := range f {
			if path, ok := strings.CutPrefix(what, "mapping of "); ok {
				out[path] = v
			}
		}
	}
	return out
}

// TestRealTemplate makes a template, writes documents whose index is made from it, takes
// changes by hand back, and follows a type that grows.
func TestRealTemplate(t *testing.T) {
	l := shared(t)
	c := l.kept(func(c *Config) {
		c.Aliases = []string{c.Index.S + "-all"}
		c.Template.Settings = map[string]string{"refresh_interval": "7s"}
		c.Template.Fields = map[string]string{"title": "text+keyword"}
		c.Template.Dynamic = DynamicStrict
	})
	events := []types.Type{schema(t, "p = int, n = int, title = string, ts = timestamp_ms, day = date, at = timestamp_rfc3339, raw = bytes, tags = list(string), labels = map(string), o = object({pct = float})")}
	equal(t, "before", seen(t, c, events), []string{"index template is missing"})
	ensure(t, c, events)
	equal(t, "after", seen(t, c, events), []string{"index template"})
	ensure(t, c, events)

	doc := `{"p":0,"n":0,"title":"A b","ts":1700000000000,"day":"2024-02-29","at":"2024-02-29T01:02:03.456789+05:30","raw":"AAE=","tags":["a","b"],"labels":{"x":"y"},"o":{"pct":1}}`
	s := opened(t, c, deps())
	if err := write(s, batch(0, 0, row{value: doc}, row{value: `{"p":0,"n":1,"unknown":1}`})); err == nil || !slices.Equal(failures(t, err), []string{"1 rejected strict_dynamic_mapping_exception"}) {
		t.Errorf("a field that the mapping does not have: %v", err)
	}
	got := l.fields(c.Index.S)
	for path, want := range map[string]string{"p": "long", "title": "text (fields {keyword {ignore_above 8191, type keyword}})", "ts": "date (format epoch_millis)", "day": "date (format strict_date)", "raw": "binary",
		"at": "date (format strict_date_optional_time)", "tags": "keyword (ignore_above 8191)", "labels": "flattened (ignore_above 8191)", "o.pct": "double"} {
		if got[path] != want {
			t.Errorf("mapping of %s: %q, want %q", path, got[path], want)
		}
	}
	if n := len(l.docs(c.Index.S + "-all")); n != 1 {
		t.Errorf("%d documents behind the alias, want 1", n)
	}
	equal(t, "with an index", seen(t, c, events), []string{"index template"})

	// By hand: another mapping, a setting, a pattern.
	l.call(http.MethodPut, "/_index_template/"+c.templateName(), `{"index_patterns":["`+c.Index.S+`","`+c.Index.S+`-x"],"priority":200,"_meta":{"managed_by":"keystone"},"template":{"settings":{"number_of_replicas":3,"refresh_interval":"7s"},"aliases":{"`+c.Index.S+`-all":{}},
		"mappings":{"dynamic":"strict","properties":{"p":{"type":"double"}}}}}`)
	drift := seen(t, c, events)
	for _, part := range []string{"mapping of p: double, wanted long", "mapping of o.pct is missing, wanted double", "setting index.number_of_replicas: 3, wanted 0", "patterns: INDEX, INDEX-x, wanted INDEX"} {
		if len(drift) != 1 || !strings.Contains(drift[0], part) {
			t.Errorf("drift %q lacks %q", drift, part)
		}
	}
	// and an alias that is gone
	l.call(http.MethodPost, "/_aliases", `{"actions":[{"remove":{"index":"`+c.Index.S+`","alias":"`+c.Index.S+`-all"}}]}`)
	if drift = seen(t, c, events); len(drift) != 2 || drift[1] != "indices: alias INDEX-all is missing (INDEX)" {
		t.Errorf("drift: %q", drift)
	}
	ensure(t, c, events)
	equal(t, "mended", seen(t, c, events), []string{"index template"})

	// The routes write more: what is there takes it.
	events = append(events, schema(t, "more = object({x = int}), pct = float"))
	drift = seen(t, c, events)
	if len(drift) != 2 || drift[1] != "indices: mapping of more.x is missing, wanted long (INDEX); mapping of pct is missing, wanted double (INDEX)" {
		t.Errorf("more fields: %q", drift)
	}
	ensure(t, c, events)
	equal(t, "with more fields", seen(t, c, events), []string{"index template"})
	if err := write(s, batch(0, 2, row{value: `{"p":0,"n":2,"more":{"x":1},"pct":0.5}`})); err != nil {
		t.Error(err)
	}

	// Another type: an index keeps what it has.
	events[1] = schema(t, "more = object({x = string}), pct = float")
	drift = seen(t, c, events)
	if len(drift) != 2 || !strings.Contains(drift[1], "blocked: mapping of more.x in INDEX: long, wanted keyword (ignore_above 8191). Elasticsearch does not change what a field is. Write to an index of another name") {
		t.Errorf("another type: %q", drift)
	}
	if err := c.Ensure(t.Context(), deps(), events); err == nil || !strings.Contains(err.Error(), "does not change what a field is") {
		t.Errorf("another type: %v", err)
	}
	if l.fields(c.Index.S)["more.x"] != "long" {
		t.Error("the mapping of the index changed")
	}
	c.Template.Fields["more.x"] = "long" // the way out
	ensure(t, c, events)

	if err := c.Destroy(t.Context(), deps()); err != nil {
		t.Fatal(err)
	}
	equal(t, "kept", seen(t, c, events), []string{"index template"})
	c.OnDestroy = "delete"
	for range 2 {
		if err := c.Destroy(t.Context(), deps()); err != nil {
			t.Fatal(err)
		}
	}
	equal(t, "destroyed", seen(t, c, events), []string{"index template is missing"})
	if n := len(l.docs(c.Index.S)); n != 2 {
		t.Errorf("%d documents are left, want 2", n)
	}
}

// TestRealStranger leaves a template of somebody else, and says what its own would change.
func TestRealStranger(t *testing.T) {
	l := shared(t)
	c := l.kept(func(c *Config) { c.OnDestroy = "delete" })
	events := []types.Type{schema(t, "p = int")}
	l.call(http.MethodPut, "/_index_template/"+c.templateName(), `{"index_patterns":["`+c.Index.S+`"],"priority":200,"template":{"settings":{"number_of_replicas":0},"mappings":{"dynamic":"true","properties":{"p":{"type":"long"}}}}}`)
	equal(t, "differs", seen(t, c, events), []string{"index template: _meta.managed_by is missing, wanted keystone"})
	if err := c.Destroy(t.Context(), deps()); err != nil {
		t.Fatal(err)
	}
	equal(t, "left", seen(t, c, events), []string{"index template: _meta.managed_by is missing, wanted keystone"})
}

// TestRealPeriods looks at the indices of several years: the one of now blocks as a plain index does, where it has another
// type; old ones are told of, and those that are closed to changes are left.
func TestRealPeriods(t *testing.T) {
	l := shared(t)
	year := time.Now().UTC().Year()
	c := l.kept(func(c *Config) {
		c.Index = text(c.Index.S + "-{ts:2006}")
		c.Template.Settings = map[string]string{"refresh_interval": "7s"}
	})
	base := strings.TrimSuffix(c.templateName(), "-")
	index := func(year int) string { return fmt.Sprintf("%s-%d", base, year) }
	now := index(year)
	put := func(name, body string) { l.call(http.MethodPut, "/"+name, body) }
	put(index(year-2), `{"settings":{"number_of_replicas":0},"mappings":{"properties":{"p":{"type":"text"}}}}`)
	put(index(year-1), `{"settings":{"number_of_replicas":0,"index.blocks.write":true},"mappings":{"properties":{"p":{"type":"text"}}}}`)
	put(now, `{"settings":{"number_of_replicas":0,"refresh_interval":"7s"},"mappings":{"properties":{"p":{"type":"long"}}}}`)
	t.Cleanup(func() {
		l.call(http.MethodDelete, "/"+index(year-2)+","+index(year-1)+","+now+"?ignore_unavailable=true", "")
	})
	events := []types.Type{schema(t, "p = int, n = int")}
	look := func() sinks.Thing {
		t.Helper()
		got, err := c.Observe(t.Context(), deps(), events)
		if err != nil || len(got) != 2 {
			t.Fatalf("%+v %v", got, err)
		}
		return got[1]
	}
	kept := "mapping of p in " + index(year-2) + ": text, wanted long. Elasticsearch does not change what a field is: late events that go there and do not fit become dead letters. New indices get the new mapping."
	got := look()
	equal(t, "mended", got.Differs, []string{"mapping of n is missing, wanted long (" + index(year-2) + ", " + now + ")"})
	equal(t, "left", got.Notes, []string{kept, "setting index.refresh_interval = 7s is for indices made from now on; those that are there keep theirs (" + index(year-2) + ": not set). PUT /INDEX/_settings changes it there."})
	if got.Blocked != "" {
		t.Errorf("blocked: %s", got.Blocked)
	}
	ensure(t, c, events)
	got = look()
	equal(t, "after", append(got.Differs, got.Notes...), []string{kept})

	// A setting that changes, and one that no index takes any more.
	c.Template.Settings["refresh_interval"] = "9s"
	c.Template.Shards, c.Template.ShardsSaid = 2, true
	equal(t, "a change", look().Notes, []string{kept,
		"setting index.number_of_shards = 2 is for indices made from now on; those that are there keep theirs (" + index(year-2) + ": 1, " + now + ": 1). It cannot change there: copy the documents (POST /_reindex) where it matters.",
		"setting index.refresh_interval = 9s is for indices made from now on; those that are there keep theirs (" + index(year-2) + ": not set, " + now + ": 7s). PUT /INDEX/_settings changes it there."})

	// Another type for what is written now.
	events[0] = schema(t, "p = string, n = int")
	if got = look(); !strings.HasPrefix(got.Blocked, "mapping of p in "+now+": long, wanted keyword (ignore_above 8191). Elasticsearch does not change") {
		t.Errorf("blocked: %q", got.Blocked)
	}
	if err := c.Ensure(t.Context(), deps(), events); err == nil || !strings.Contains(err.Error(), "mapping of p in "+now) {
		t.Errorf("made all the same: %v", err)
	}
}

// TestRealCountries holds an index for each value of a field against what is written: events may go to any of them.
func TestRealCountries(t *testing.T) {
	l := shared(t)
	c := l.kept(func(c *Config) { c.Index = text(c.Index.S + "-{country}") })
	base := strings.TrimSuffix(c.templateName(), "-")
	for _, country := range []string{"br", "us"} {
		l.call(http.MethodPut, "/"+base+"-"+country, `{"settings":{"number_of_replicas":0},"mappings":{"properties":{"o":{"properties":{"pct":{"type":"long"}}}}}}`)
	}
	t.Cleanup(func() { l.call(http.MethodDelete, "/"+base+"-br,"+base+"-us", "") })
	got, err := c.Observe(t.Context(), deps(), []types.Type{schema(t, "country = string, o = object({pct = float})")})
	want := "mapping of o.pct in " + base + "-br: long, wanted double, mapping of o.pct in " + base + "-us: long, wanted double. Elasticsearch does not change what a field is"
	if err != nil || len(got) != 2 || !strings.HasPrefix(got[1].Blocked, want) {
		t.Errorf("%+v %v", got, err)
	}
}

// TestRealManyIndices looks at no more than the newest indices for their mappings, and says so.
func TestRealManyIndices(t *testing.T) {
	l := shared(t)
	name := l.index()
	l.call(http.MethodDelete, "/"+name, "")
	const many = 5
	for i := range many {
		l.call(http.MethodPut, fmt.Sprintf("/%s-%d", name, i), `{"settings":{"number_of_replicas":0},"mappings":{"properties":{"p":{"type":"text"}}}}`)
	}
	t.Cleanup(func() {
		for i := range many {
			l.call(http.MethodDelete, fmt.Sprintf("/%s-%d", name, i), "")
		}
	})
	c := config(t, name+"-{n}", l.urls...)
	a, ctx, done, err := c.administer(t.Context(), deps())
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	in := &indices{names: []string{name + "-*"}, most: 2, mapping: mapping{"dynamic": "true", "properties": map[string]any{"p": mapping{"type": "ip"}}}}
	thing, err := in.look(ctx, a)
	if err != nil || !strings.HasPrefix(thing.Blocked, fmt.Sprintf("mapping of p in %s-3: text, wanted ip, mapping of p in %s-4: text, wanted ip. ", name, name)) {
		t.Errorf("%+v %v", thing, err)
	}
	equal(t, "left", thing.Notes, []string{"3 older indices than the newest 2 were not looked at for their mappings."})
}

func TestCurrent(t *testing.T) {
	now := time.Date(2026, 1, 31, 23, 0, 0, 0, time.FixedZone("", -2*3600))
	for index, want := range map[string]string{
		"plays": "plays", "plays-{ts:2006.01.02}": "plays-2026.02.01", "{country}-{ts:2006}": "*-2026", "a-{x['}:']:2006}": "a-2026", "{x['a:b']}-{{y": "*-{y",
	} {
		if got := current(index, now); got != want {
			t.Errorf("%s is %s, want %s", index, got, want)
		}
	}
	if timed("a-{x['a:b']}") || !timed("a-{b}-{ts:01}") {
		t.Error("times in names are not told from others")
	}
}

// TestRealAbsent says what a cluster without lifecycle policies and data streams cannot have.
func TestRealAbsent(t *testing.T) {
	l := shared(t)
	c := l.kept(func(c *Config) {
		c.Action, c.DataStream, c.Lifecycle = Create, true, Lifecycle{Written: true, DeleteAfter: day}
	})
	events := []types.Type{schema(t, `"@timestamp" = timestamp_ms`)}
	got := seen(t, c, events)
	if len(got) != 3 || !strings.HasPrefix(got[0], "lifecycle policy is missing blocked: ") || !strings.Contains(got[0], "does not know _ilm/policy: ") || !strings.Contains(got[0], "leave lifecycle { } out") ||
		got[1] != "index template is missing" || !strings.Contains(got[2], "does not know _data_stream") {
		t.Errorf("%q", got)
	}
	if err := c.Ensure(t.Context(), deps(), events); err == nil {
		t.Error("made what cannot be")
	}
	c.OnDestroy = "delete"
	if err := c.Destroy(t.Context(), deps()); err != nil {
		t.Error(err)
	}
}

// TestRealFirstIndex begins the chain of indices behind an alias, and takes it away.
func TestRealFirstIndex(t *testing.T) {
	l := shared(t)
	c := l.kept(nil)
	ctx := t.Context()
	a, ctx, done, err := c.administer(ctx, deps())
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	f := &firstIndex{c.Index.S}
	look := func() sinks.Thing {
		t.Helper()
		thing, err := f.look(ctx, a)
		if err != nil {
			t.Fatal(err)
		}
		return thing
	}
	first := look()
	if first.Exists || first.Name != c.Index.S+"-000001" {
		t.Fatalf("%+v", first)
	}
	if err := f.mend(ctx, a, first); err != nil {
		t.Fatal(err)
	}
	if !look().Exists {
		t.Error("it was not made")
	}
	if err := write(opened(t, c, deps()), numbers(0, 0, 1)); err != nil {
		t.Fatal(err)
	}
	l.call(http.MethodPost, "/"+c.Index.S+"/_rollover", "")
	if err := write(opened(t, c, deps()), numbers(0, 1, 2)); err != nil {
		t.Fatal(err)
	}
	if one, both := len(l.docs(c.Index.S+"-000002")), len(l.docs(c.Index.S)); one != 1 || both != 2 {
		t.Errorf("%d documents in the new index and %d behind the alias, want 1 and 2", one, both)
	}
	in := &indices{names: []string{c.Index.S}, alias: c.Index.S, mapping: mapping{"dynamic": "true", "properties": map[string]any{"q": mapping{"type": "ip"}}}}
	thing, err := in.look(ctx, a)
	if err != nil || !slices.Equal(thing.Differs, []string{"mapping of q is missing, wanted ip (" + c.Index.S + "-000002)"}) {
		t.Errorf("only the index that is written to takes new fields: %+v %v", thing, err)
	}
	if err := f.destroy(ctx, a, func(text string) { t.Error(text) }); err != nil {
		t.Fatal(err)
	}
	if look().Exists {
		t.Error("it is still there")
	}
	l.create(c.Index.S)
	if b := look().Blocked; !strings.Contains(b, "is an index, and new ones can be begun only behind an alias") {
		t.Errorf("an index of the name: %q", b)
	}
	l.call(http.MethodDelete, "/"+c.Index.S, "")
}

const day = 24 * time.Hour
