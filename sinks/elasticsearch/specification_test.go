package elasticsearch

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"

	"github.com/elastic/go-elasticsearch/v8/typedapi/ilm/putlifecycle"
	"github.com/elastic/go-elasticsearch/v8/typedapi/indices/putindextemplate"
	"github.com/elastic/go-elasticsearch/v8/typedapi/indices/putmapping"

	"keystone/dsl/types"
)

// TestSpecification holds requests against the types that Elastic generates from the specification of the API: where
// no server runs that has policies and data streams, each name and form in them is at least one that is specified.
func TestSpecification(t *testing.T) {
	c := templated(t, func(c *Config) {
		c.Action, c.DataStream, c.Aliases = Create, true, []string{"all"}
		c.Template.ComposedOf, c.Template.Dynamic = []string{"base"}, DynamicStrict
		c.Template.ShardsSaid, c.Template.Shards, c.Template.CopiesSaid = true, 3, true
		c.Template.Settings = map[string]string{"refresh_interval": "30s"}
		c.Template.Fields = map[string]string{"title": "text+keyword", "client": "ip", "parts": "nested"}
		c.Lifecycle = Lifecycle{Written: true, MaxAge: day, MaxSize: 50 << 30, MaxDocs: 1000, DeleteAfter: 30 * day}
	})
	m := c.mapping([]types.Type{schema(t, `"@timestamp" = timestamp_ms, title = string, client = string, money = decimal(12, 2), day = date, raw = bytes, ok = bool, n = int, f = float, labels = map(string), parts = list(object({n = int}))`)})
	for _, test := range []struct {
		name string
		body any
		into any
	}{
		{"index template", c.template(m), putindextemplate.NewRequest()},
		{"lifecycle policy", c.policy(), putlifecycle.NewRequest()},
		{"mapping", m, putmapping.NewRequest()},
	} {
		sent, err := json.Marshal(test.body)
		if err != nil {
			t.Fatal(err)
		}
		d := json.NewDecoder(bytes.NewReader(sent))
		d.DisallowUnknownFields()
		if err := d.Decode(test.into); err != nil {
			t.Errorf("%s: %v\n%s", test.name, err, sent)
			continue
		}
		// Types with decoders of their own drop what they do not know: so all must come back.
		back, err := json.Marshal(test.into)
		if err != nil {
			t.Fatal(err)
		}
		if lost := missing(plain(json.RawMessage(sent)), plain(json.RawMessage(back)), ""); lost != "" {
			t.Errorf("%s: the specification has no %s\nsent %s\nback %s", test.name, lost, sent, back)
		}
	}
}

// missing gives the path of something in one value that another does not have.
func missing(sent, back any, path string) string {
	s, ok := sent.(map[string]any)
	if !ok {
		if !reflect.DeepEqual(word(sent), word(back)) {
			return path + " = " + word(sent) + " (" + word(back) + ")"
		}
		return ""
	}
	b, ok := back.(map[string]any)
	if !ok {
		return path
	}
	for key, v := range s {
		if _, ok := b[key]; !ok {
			return path + "/" + key
		}
		if lost := missing(v, b[key], path+"/"+key); lost != "" {
			return lost
		}
	}
	return ""
}
