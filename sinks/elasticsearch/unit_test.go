package elasticsearch

import (
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"keystone/configs/spec"
	"keystone/pipeline/record"
	"keystone/sinks"
)

func secret(s string) spec.Secret {
	return spec.Secret{Parts: []spec.SecretPart{{Literal: s}}}
}

func TestCheck(t *testing.T) {
	for _, test := range []struct {
		name string
		set  func(c *Config)
		want string // code; "": none
	}{
		{"as it is", func(*Config) {}, ""},
		{"no node", func(c *Config) { c.URLs = nil }, codeURL},
		{"no scheme", func(c *Config) { c.URLs = []string{"127.0.0.1:9200"} }, codeURL},
		{"no host", func(c *Config) { c.URLs = []string{"http:///x"} }, codeURL},
		{"other scheme", func(c *Config) { c.URLs = []string{"ftp://x"} }, codeURL},
		{"with a user", func(c *Config) { c.URLs = []string{"http://u:p@x"} }, codeURL},
		{"with a query", func(c *Config) { c.URLs = []string{"http://x?y=1"} }, codeURL},
		{"no index", func(c *Config) { c.Index = text("") }, codeIndex},
		{"update without id", func(c *Config) { c.Action = Update }, codeAction},
		{"delete without id", func(c *Config) { c.Action = Delete }, codeAction},
		{"delete = without id", func(c *Config) { c.Delete = text("x") }, codeAction},
		{"delete = and delete", func(c *Config) { c.ID, c.Delete, c.Action = text("i"), text("x"), Delete }, codeAction},
		{"delete = and create", func(c *Config) { c.ID, c.Delete, c.Action = text("i"), text("x"), Create }, codeAction},
		{"delete = and update", func(c *Config) { c.ID, c.Delete, c.Action = text("i"), text("x"), Update }, ""},
		{"routing of a data stream", func(c *Config) {
			c.Action, c.Template.Written, c.DataStream, c.Routing = Create, true, true, text("u")
		}, codeIndex},
		{"no pipeline at all", func(c *Config) { c.Pipeline = "_none" }, codeIndex},
		{"two pipelines", func(c *Config) { c.Pipeline = "a,b" }, codeIndex},
		{"a pipeline", func(c *Config) { c.Pipeline = "enrich v2" }, codeIndex},
		{"version without id", func(c *Config) { c.Version = text("x") }, codeVersion},
		{"version and update", func(c *Config) { c.ID, c.Version, c.Action = text("i"), text("x"), Update }, codeVersion},
		{"version and create", func(c *Config) { c.ID, c.Version, c.Action = text("i"), text("x"), Create }, codeVersion},
		{"version and delete", func(c *Config) { c.ID, c.Version, c.Action = text("i"), text("x"), Delete }, ""},
		{"user alone", func(c *Config) { c.Auth = Auth{Written: true, Username: secret("u")} }, codeAuth},
		{"password alone", func(c *Config) { c.Auth = Auth{Written: true, Password: secret("u")} }, codeAuth},
		{"two ways", func(c *Config) { c.Auth = Auth{Written: true, APIKey: secret("u"), Token: secret("t")} }, codeAuth},
		{"no way", func(c *Config) { c.Auth = Auth{Written: true} }, codeAuth},
		{"in the clear", func(c *Config) {
			c.URLs, c.Auth = []string{"http://example.org"}, Auth{Written: true, Token: secret("t")}
		}, codePlain},
		{"in the clear, at home", func(c *Config) { c.Auth = Auth{Written: true, Token: secret("t")} }, ""},
		{"tls without https", func(c *Config) { c.TLS.Written = true }, codeTLS},
		{"half a pair", func(c *Config) { c.URLs, c.TLS = []string{"https://x"}, TLS{Written: true, Cert: secret("c")} }, codeTLS},
		{"any and one", func(c *Config) {
			c.URLs, c.TLS = []string{"https://x"}, TLS{Written: true, SkipVerify: true, CA: secret("c")}
		}, codeTLS},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := config(t, "plays", "http://127.0.0.1:9200")
			test.set(c)
			var codes []string
			for _, d := range c.Check() {
				codes = append(codes, d.Code)
			}
			if test.want == "" && len(codes) > 0 || test.want != "" && !slices.Equal(codes, []string{test.want}) {
				t.Errorf("%v, want %q", c.Check(), test.want)
			}
		})
	}
}

// TestItems pins what a request says: ids and versions are kept by clusters, so they must never change.
func TestItems(t *testing.T) {
	d := deps()
	d.Generation = 3
	encode := func(c *Config, b *record.Batch) string {
		t.Helper()
		e := &delivery{b: b}
		if err := e.encode(&Sink{cfg: *c, deps: d, cols: c.columns()}); err != nil {
			t.Fatal(err)
		}
		out := string(e.buf)
		for _, f := range e.failures {
			out += f.Code + ": " + f.Err.Error() + "\n"
		}
		return out
	}
	b := batch(2, 258, row{`{"a":1}`, nil}, row{"\n { }", nil}, row{"", nil}, row{`"x"`, nil})
	b.Records[1].Child = 1
	for _, test := range []struct {
		name string
		set  func(c *Config)
		want string
	}{
		{"index", func(*Config) {}, `{"index":{"_index":"plays","_id":"vrLlU-JzIfj4Wt5yAAAAAAAAAQI","version":12884901889,"version_type":"external_gte"}}
{"a":1}
{"index":{"_index":"plays","_id":"vrLlU-JzIfj4Wt5yAAAAAAAAAQMAAAAB","version":12884901889,"version_type":"external_gte"}}
  { }
null_value: a null value deletes by id, and the id is not the user's: give the sink an id, or let the route drop null values (tombstones = "drop")
not_an_object: a document is a JSON object, and the event is none
`},
		{"create", func(c *Config) { c.Action = Create }, `{"create":{"_index":"plays","_id":"vrLlU-JzIfj4Wt5yAAAAAAAAAQI"}}
{"_ks":{"route":"route.test","topic":"topic-1","partition":2,"offset":258,"child":0,"generation":3},"a":1}
{"create":{"_index":"plays","_id":"vrLlU-JzIfj4Wt5yAAAAAAAAAQMAAAAB"}}
{"_ks":{"route":"route.test","topic":"topic-1","partition":2,"offset":259,"child":1,"generation":3}}
null_value: a null value deletes by id, and the id is not the user's: give the sink an id, or let the route drop null values (tombstones = "drop")
not_an_object: a document is a JSON object, and the event is none
`},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := config(t, "plays", "http://127.0.0.1:9200")
			test.set(c)
			if got := encode(c, b); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
	t.Run("routing", func(t *testing.T) {
		c := config(t, "plays", "http://127.0.0.1:9200")
		c.ID, c.Routing, c.Version = text("id"), text("user"), text("v")
		got := encode(c, batch(0, 0, row{`{"a":1}`, []string{"plays", "x", `u"1`, "7"}}, row{`{"a":1}`, []string{"plays", "x", "nil", "7"}}, row{`{"a":1}`, []string{"plays", "x", "\xff", "7"}}, row{`{"a":1}`, []string{"plays", "x", strings.Repeat("a", 513), "7"}}))
		want := `{"index":{"_index":"plays","_id":"x","routing":"u\"1","version":7,"version_type":"external_gte"}}
{"a":1}
no_routing: the routing of the document is nil or empty, and where it belongs is unknown; take it from what every event has (a null value has meta.key alone)
routing_not_utf8: the routing of the document is no text in UTF-8
routing_too_long: the routing of the document has 513 bytes; 512 are taken at most
`
		if got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
	t.Run("allocations", func(t *testing.T) {
		c := config(t, "plays", "http://127.0.0.1:9200")
		s := &Sink{cfg: *c, deps: d, cols: c.columns()}
		e := &delivery{}
		big := numbers(0, 0, 1000)
		run := func() {
			e.reset()
			e.b = big
			if err := e.encode(s); err != nil {
				t.Fatal(err)
			}
		}
		run()
		if n := testing.AllocsPerRun(20, run); n > 10 {
			t.Errorf("%v allocations per batch of 1000 records, want none per record", n)
		}
	})
}

// TestClean: only an answer in which all items succeeded is taken as such without being taken apart.
func TestClean(t *testing.T) {
	good := `{"errors":false,"items":[{"index":{"status":201}},{"delete":{"status":200}}]}`
	if !clean([]byte(good), 2) {
		t.Error("a clean answer is not seen")
	}
	for _, bad := range []string{
		good[:len(good)-1], good[:40], strings.Replace(good, "false", "true", 1), `{"errors":false,"items":[{"index":{"status":201}}]}`, `{"errors":false}`, ``,
	} {
		if clean([]byte(bad), 2) {
			t.Errorf("%s is taken as clean", bad)
		}
	}
}

// TestClassify is the table of what each answer means.
func TestClassify(t *testing.T) {
	const (
		applied  = "applied"
		retry    = "retryable"
		rejected = "rejected"
		route    = "unknown" // the route stops
	)
	for _, test := range []struct {
		did    Action
		status int
		typ    string
		want   string
	}{
		{Index, 429, "es_rejected_execution_exception", retry},
		{Index, 429, "circuit_breaking_exception", retry},
		{Index, 429, clusterBlock, retry}, // the disk is full
		{Index, 503, "unavailable_shards_exception", retry},
		{Index, 503, "process_cluster_event_timeout_exception", retry},
		{Index, 500, "node_closed_exception", retry},
		{Index, 500, "not_x_content_exception", rejected},
		{Index, 504, "timeout_exception", retry},
		{Index, 408, "timeout", retry},
		{Index, 400, "document_parsing_exception", rejected},
		{Index, 400, "strict_dynamic_mapping_exception", rejected},
		{Index, 400, "illegal_argument_exception", rejected},
		{Index, 400, "index_closed_exception", retry},
		{Index, 400, "validation_exception", retry}, // too many shards; see the reason below
		{Index, 404, "index_not_found_exception", retry},
		{Delete, 404, "index_not_found_exception", applied},
		{Update, 404, "document_missing_exception", rejected},
		{Index, 413, "too_large", rejected},
		{Index, 401, "security_exception", route},
		{Index, 403, "security_exception", route},
		{Index, 403, clusterBlock, retry},
		{Index, 409, "version_conflict_engine_exception", applied},
		{Delete, 409, "version_conflict_engine_exception", applied},
		{Update, 409, "version_conflict_engine_exception", retry},
		{Create, 409, "version_conflict_engine_exception", rejected},
	} {
		s := &Sink{client: &client{}}
		r := s.classify(test.did, &itemAnswer{Status: test.status, Error: &itemError{Type: test.typ, Reason: "this action would add [2] shards"}}, "node")
		got := [...]string{retry, applied, rejected, route}[r.outcome]
		if r.ok || got != test.want || r.err == nil {
			t.Errorf("%s %d %s is %s, want %s", test.did, test.status, test.typ, got, test.want)
		}
		if sinks.IsPermanent(r.err) != (test.want == route) {
			t.Errorf("%d %s: permanent is %v", test.status, test.typ, sinks.IsPermanent(r.err))
		}
	}
	s := &Sink{}
	if r := s.classify(Delete, &itemAnswer{Status: http.StatusNotFound}, ""); !r.ok {
		t.Errorf("deleting what is not there is %v", r)
	}
	if r := s.classify(Index, &itemAnswer{Status: http.StatusCreated}, ""); !r.ok {
		t.Errorf("201 is %v", r)
	}
	if r := s.classify(Index, &itemAnswer{}, ""); r.ok || r.outcome == sinks.Applied {
		t.Errorf("an item without a status is %v", r)
	}
}

// TestSupersede: what failed is not written again behind what came later and replaced it.
func TestSupersede(t *testing.T) {
	c := config(t, "plays", "http://127.0.0.1:9200")
	c.ID = text("id")
	d := &delivery{b: batch(0, 0, row{`{}`, []string{"plays", "a"}}, row{`{}`, []string{"plays", "b"}}, row{`{}`, []string{"plays", "a"}}, row{`{}`, []string{"plays", "b"}}, row{`{}`, []string{"plays", "c"}})}
	if err := d.encode(&Sink{cfg: *c, deps: deps(), cols: c.columns()}); err != nil {
		t.Fatal(err)
	}
	b := &bulk{}
	for k := range d.ends {
		b.add(d, k, d.size(k))
	}
	again := result{outcome: sinks.Retryable, err: errors.New("429")}
	tr := trial{results: []result{again, {ok: true}, {ok: true}, again, again}}
	tr.supersede(b)
	want := []sinks.Outcome{sinks.Applied, 0, 0, sinks.Retryable, sinks.Retryable}
	for i, r := range tr.results {
		if r.ok != (i == 1 || i == 2) || !r.ok && r.outcome != want[i] {
			t.Errorf("item %d: %+v", i, r)
		}
	}
}

// TestHalves: splitting keeps all items in order.
func TestHalves(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 0))
		b := &bulk{}
		var want []byte
		for range 1 + rng.IntN(4) {
			d := &delivery{}
			for range 1 + rng.IntN(5) {
				d.buf = append(d.buf, byte('a'+rng.IntN(26)), '\n')
				d.ends = append(d.ends, len(d.buf))
				b.add(d, len(d.ends)-1, 2)
			}
			want = append(want, d.buf...)
		}
		if b.count < 2 {
			continue
		}
		x, y := b.halves()
		var got []byte
		for _, h := range []*bulk{x, y} {
			if h.count == 0 || h.bytes != 2*h.count {
				t.Fatalf("seed %d: a half has %d items and %d bytes", seed, h.count, h.bytes)
			}
			for _, g := range h.segs {
				got = append(got, g.text()...)
			}
		}
		if string(got) != string(want) {
			t.Fatalf("seed %d: got %q, want %q", seed, got, want)
		}
	}
}

// TestLimit: it grows while answers come as soon as before, and shrinks when the cluster says that it is too much, or
// answers clearly later.
func TestLimit(t *testing.T) {
	l := newLimit(8)
	round := func(d time.Duration, full, over bool) int {
		for range l.now {
			l.answer(d, true, full, over)
		}
		return l.now
	}
	for want := 2; want <= 8; want++ {
		if got := round(10*time.Millisecond, true, false); got != want {
			t.Fatalf("after a good round: %d, want %d", got, want)
		}
	}
	if got := round(10*time.Millisecond, true, false); got != 8 {
		t.Errorf("it grew to %d, beyond its bound", got)
	}
	l.answer(time.Millisecond, true, true, true)
	if l.now != 7 {
		t.Errorf("after a refusal: %d, want 7", l.now)
	}
	if got := round(50*time.Millisecond, true, false); got != 6 {
		t.Errorf("after late answers: %d, want 6", got)
	}
	if got := round(10*time.Millisecond, false, false); got != 6 {
		t.Errorf("it grew to %d, though less was under way than could have been", got)
	}
	for range 20 {
		l.answer(time.Millisecond, true, true, true)
	}
	if l.now != 1 {
		t.Errorf("after many refusals: %d, want 1", l.now)
	}
}

// TestLoan: once a request is over, nobody reads its body any more.
func TestLoan(t *testing.T) {
	var l loan
	r := request{method: http.MethodPost, path: "/", length: 4, body: func() io.Reader { return strings.NewReader("text") }}
	req, err := r.make(t.Context(), &l)
	if err != nil {
		t.Fatal(err)
	}
	again, err := req.GetBody()
	if err != nil {
		t.Fatal(err)
	}
	two := make([]byte, 2)
	if n, err := req.Body.Read(two); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	l.end()
	for _, b := range []io.Reader{req.Body, again} {
		if n, err := b.Read(two); n != 0 || err == nil {
			t.Errorf("%d bytes are read after the end, %v", n, err)
		}
	}
}
