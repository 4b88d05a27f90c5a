package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// search is a real Elasticsearch.
type search struct {
	t   *testing.T
	url string
	own *own // that of the test itself; nil: that of all
}

func elasticsearch(t *testing.T) *search {
	t.Helper()
	urls := os.Getenv("KEYSTONE_TEST_ELASTICSEARCH")
	if urls == "" {
		t.Skip("no real Elasticsearch: set KEYSTONE_TEST_ELASTICSEARCH=http://host:port, or run `make e2e`, which starts one")
	}
	url, _, _ := strings.Cut(urls, ",")
	return &search{t: t, url: url}
}

// ownElasticsearch starts one for a test, which may stop and start it.
func ownElasticsearch(t *testing.T) *search {
	t.Helper()
	sh := os.Getenv("KEYSTONE_TEST_ELASTICSEARCH_SH")
	if sh == "" {
		t.Skip("no real Elasticsearch: run `make e2e`, which sets KEYSTONE_TEST_ELASTICSEARCH_SH to the script that starts one")
	}
	o := &own{t: t, sh: sh, data: t.TempDir()}
	t.Setenv("ELASTICSEARCH_START_TIMEOUT", "300")
	t.Cleanup(func() { _ = exec.Command(o.sh, "stop", "--kill", "--data", o.data).Run() })
	o.addr = strings.TrimSpace(o.run("start", "--port", "0", "--data", o.data))
	return &search{t: t, url: o.addr, own: o}
}

// call asks something that must work.
func (s *search) call(method, path, body string) []byte {
	s.t.Helper()
	out, err := s.ask(method, path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

func (s *search) ask(method, path, body string) ([]byte, error) {
	req, err := http.NewRequest(method, s.url+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	out, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %d %s", method, path, res.StatusCode, out)
	}
	return out, err
}

// index makes an index and gives its name.
func (s *search) index() string {
	s.t.Helper()
	index := name("e2e-")
	s.call(http.MethodPut, "/"+index, `{"settings":{"number_of_shards":2,"number_of_replicas":0},"mappings":{"properties":{"p":{"type":"integer"},"seq":{"type":"integer"},"_ks":{"type":"object","enabled":false}}}}`)
	return index
}

// docs gives the documents, sorted by p and seq; at most 10,000 of them.
func (s *search) docs(index string) (out []string, versions []int64, err error) {
	hits, err := s.hits(index)
	for _, h := range hits {
		out, versions = append(out, string(h.Source)), append(versions, h.Version)
	}
	return out, versions, err
}

type hit struct {
	ID      string          `json:"_id"`
	Version int64           `json:"_version"`
	Source  json.RawMessage `json:"_source"`
}

func (s *search) hits(index string) (hits []hit, err error) {
	if _, err = s.ask(http.MethodPost, "/"+index+"/_refresh", ""); err != nil {
		return nil, err
	}
	text, err := s.ask(http.MethodPost, "/"+index+"/_search", `{"size":10000,"version":true,"sort":[{"p":{"order":"asc","unmapped_type":"integer"}},{"seq":{"order":"asc","unmapped_type":"integer"}}]}`)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Hits struct {
			Hits []hit
		}
	}
	err = json.Unmarshal(text, &answer)
	return answer.Hits.Hits, err
}

// TestRealElasticsearchRun: a file goes into an index, once, however often it is run; what the mapping
// does not take is a dead letter with the server's reason.
func TestRealElasticsearchRun(t *testing.T) {
	t.Parallel()
	s := elasticsearch(t)
	index, dir := s.index(), t.TempDir()
	config(t, dir, fmt.Sprintf(`
source "file" "in" {
  path = "in.ndjson"
}

sink "elasticsearch" "out" {
  urls  = [%q]
  index = %q
}

route "load" {
  from   = source.in
  filter = "kind == 'play'"
  to     = sink.out
}
`, s.url, index))
	var lines, want []string
	for seq := range 3000 {
		kind := "other"
		if seq%2 == 0 {
			kind = "play"
		}
		line := fmt.Sprintf(`{"p":0,"seq":%d,"kind":%q}`, seq, kind)
		switch {
		case seq == 1234:
			line = `{"p":0,"seq":"no number","kind":"play"}`
		case kind == "play":
			want = append(want, line)
		}
		lines = append(lines, line)
	}
	if err := os.WriteFile(filepath.Join(dir, "in.ndjson"), []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := run(t, "run", "route.load", dir); err != nil && !strings.Contains(err.Error(), "dead") {
			t.Fatal(err)
		}
		got, versions, err := s.docs(index)
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("%d documents, want %d: %v", len(got), len(want), err)
		}
		for _, v := range versions {
			if v != versions[0] {
				t.Fatalf("versions %v", versions)
			}
		}
	}
	letters, err := os.ReadFile(filepath.Join(dir, ".keystone", "default", "dead-letters", "load.ndjson"))
	if err != nil || !strings.Contains(string(letters), "document_parsing_exception") || !strings.Contains(string(letters), "failed to parse field [seq]") {
		t.Errorf("the dead letter does not have the server's reason: %v %s", err, letters)
	}
}

// TestRealElasticsearch: from a stream into an index, while the worker and the cluster are killed, each event is there once; a
// rewind writes all again and changes no set; null values delete what has their key as id.
func TestRealElasticsearch(t *testing.T) {
	kafka := broker(t)
	s := ownElasticsearch(t)
	index, latest := s.index(), s.index()
	l := load{topic: name("in-"), partitions: 4, each: 10_000}
	changes := name("changes-")
	dir := t.TempDir()
	config(t, dir, fmt.Sprintf(`
keystone {
  namespace = %q
}

cluster "main" {
  brokers = [%q]
}

stream "in" {
  topic      = %q
  partitions = 4
}

stream "changes" {
  topic      = %q
  partitions = 2
}

sink "elasticsearch" "plays" {
  urls            = [%q]
  index           = %q
  request_timeout = "10s"
}

sink "elasticsearch" "latest" {
  urls  = [%q]
  index = %q
  id    = "meta.key"
}

route "plays" {
  from   = stream.in
  filter = "kind == 'play'"
  project = {
    p   = "p"
    seq = "seq"
  }
  to = sink.plays

  retry {
    max = "1s"
  }
}

route "latest" {
  from = stream.changes
  to   = sink.latest
}
`, name("e2e-"), kafka, l.topic, changes, s.url, index, s.url, latest))
	p := serve(t, dir)
	p.healthy("route.plays", "running")
	p.healthy("route.latest", "running")
	cl := client(t, kafka)
	l.produce(t, cl, func(sent int) {
		switch sent {
		case 2000, 6000:
			p.kill()
			p = serve(t, dir)
		case 4000:
			s.own.kill()
		case 5000:
			s.own.start()
		case 8000:
			s.own.kill()
			p.kill()
			p = serve(t, dir)
			s.own.start()
		}
	})
	var want []string
	for part := range l.partitions {
		for seq := 0; seq < l.each; seq += 5 {
			want = append(want, fmt.Sprintf(`{"p":%d,"seq":%d}`, part, seq))
		}
	}
	arrived := func(since int64) {
		t.Helper()
		until(t, "all events are in the index", func() error {
			got, versions, err := s.docs(index)
			if err != nil {
				return err
			}
			if len(got) < len(want) {
				return fmt.Errorf("%d documents of %d", len(got), len(want))
			}
			if !slices.Equal(got, want) {
				t.Fatalf("the documents are not the events: %d and %d", len(got), len(want))
			}
			if v := slices.Min(versions); v <= since {
				return fmt.Errorf("a document has version %d, want more than %d", v, since)
			}
			return nil
		})
	}
	arrived(0)

	// After a rewind everything is written once more, with a higher version.
	p.healthy("route.plays", "running")
	_, versions, err := s.docs(index)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := run(t, "rewind", "-to-start", "-auto-approve", "route.plays", dir); err != nil {
		t.Fatal(err)
	}
	arrived(slices.Max(versions))

	// The last value of each key, and nothing of those that are gone.
	keyed := func(key, value string) *kgo.Record {
		r := &kgo.Record{Topic: changes, Partition: int32(key[0] % 2), Key: []byte(key)}
		if value != "" {
			r.Value = []byte(value)
		}
		return r
	}
	if err := cl.ProduceSync(t.Context(), keyed("a", `{"seq":1}`), keyed("b", `{"seq":2}`), keyed("c", `{"seq":3}`), keyed("a", `{"seq":4}`), keyed("b", ""), keyed("d", ""), keyed("e", `{"seq":5}`)).FirstErr(); err != nil {
		t.Fatal(err)
	}
	until(t, "the last values", func() error {
		got, _, err := s.docs(latest)
		if err == nil && !slices.Equal(got, []string{`{"seq":3}`, `{"seq":4}`, `{"seq":5}`}) {
			err = fmt.Errorf("documents %q", got)
		}
		return err
	})
	for _, a := range states(t, p).Addresses {
		if a.Counters != nil && (a.Counters.DeadLettered > 0 || a.Counters.Dropped > 0) {
			t.Errorf("%s: %+v", a.Address, a.Counters)
		}
	}

	// What the mapping refuses is a dead letter. Once the route is mended its replay writes the document that
	// the route would have written.
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: l.topic, Partition: 1, Value: []byte(`{"p":1,"seq":"no number","kind":"play"}`)}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	until(t, "a dead letter", func() error {
		for _, a := range states(t, p).Addresses {
			if a.Address == "route.plays" && a.Counters != nil && a.Counters.DeadLettered == 1 {
				return nil
			}
		}
		return errors.New("not yet")
	})
	before := states(t, p)
	text, err := os.ReadFile(filepath.Join(dir, "main.ks.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	config(t, dir, strings.Replace(string(text), `seq = "seq"`, `seq = "type(seq) == 'int' ? seq : 99999"`, 1))
	until(t, "the edit is taken", func() error {
		st, err := p.status()
		if err == nil && st.Serial == before.Serial {
			err = errors.New("not yet")
		}
		return err
	})
	p.healthy("route.plays", "running")
	if out, err := run(t, "dead-letters", "replay", "-auto-approve", "route.plays", dir); err != nil || !strings.Contains(out, "1 delivered") {
		t.Fatalf("replay: %v %s", err, out)
	}
	hits, err := s.hits(index)
	if err != nil || len(hits) != len(want)+1 {
		t.Fatalf("%d documents, want %d: %v", len(hits), len(want)+1, err)
	}
	prefix := func(source string) string {
		for _, h := range hits {
			if string(h.Source) == source {
				return h.ID[:16]
			}
		}
		t.Fatalf("there is no document %s", source)
		return ""
	}
	if a, b := prefix(`{"p":1,"seq":99999}`), prefix(`{"p":1,"seq":0}`); a != b {
		t.Errorf("the id of a replayed record begins with %s, those of its partition with %s", a, b)
	}
	p.stop()
}

func states(t *testing.T, p *process) status {
	t.Helper()
	st, err := p.status()
	if err != nil {
		t.Fatal(err)
	}
	return st
}
