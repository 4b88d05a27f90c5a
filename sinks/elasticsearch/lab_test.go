package elasticsearch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/pipeline/record"
	"keystone/sinks"
)

func TestMain(m *testing.M) {
	zerolog.SetGlobalLevel(zerolog.Disabled) // the proxy's
	os.Exit(m.Run())
}

// lab is a real cluster.
type lab struct {
	t    testing.TB
	urls []string
	sh   string // the recipe that started it, where it is the test's own
	data string
}

// shared is the cluster that `make e2e` started.
func shared(t testing.TB) *lab {
	urls := os.Getenv("KEYSTONE_TEST_ELASTICSEARCH")
	if urls == "" {
		t.Skip("no real Elasticsearch: set KEYSTONE_TEST_ELASTICSEARCH=http://host:port, or run `make e2e`, which starts one")
	}
	return &lab{t: t, urls: strings.Split(urls, ",")}
}

// private starts a cluster for one test, which may stop and start it.
func private(t *testing.T, args ...string) *lab {
	sh := os.Getenv("KEYSTONE_TEST_ELASTICSEARCH_SH")
	if sh == "" {
		t.Skip("no real Elasticsearch: run `make e2e`, which sets KEYSTONE_TEST_ELASTICSEARCH_SH to the script that starts one")
	}
	l := &lab{t: t, sh: sh, data: t.TempDir()}
	t.Cleanup(func() { _ = exec.Command(sh, "stop", "--kill", "--data", l.data).Run() })
	l.urls = strings.Split(strings.TrimSpace(l.run(append([]string{"start", "--port", "0", "--data", l.data}, args...)...)), ",")
	return l
}

func (l *lab) run(args ...string) string {
	l.t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(l.sh, args...)
	cmd.Env = append(os.Environ(), "ELASTICSEARCH_START_TIMEOUT=300")
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		l.t.Fatalf("%s %v: %v\n%s", l.sh, args, err, stderr.String())
	}
	return string(out)
}

func (l *lab) kill() { l.run("stop", "--kill", "--data", l.data) }

// start revives it at the same port, with other settings if wanted.
func (l *lab) start(args ...string) { l.run(append([]string{"start", "--data", l.data}, args...)...) }

// call asks the cluster something that must work.
func (l *lab) call(method, path, body string) []byte {
	l.t.Helper()
	req, err := http.NewRequest(method, l.urls[0]+path, strings.NewReader(body))
	if err != nil {
		l.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		l.t.Fatal(err)
	}
	defer res.Body.Close()
	out, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode >= 300 {
		l.t.Fatalf("%s %s: %d %s %v", method, path, res.StatusCode, out, err)
	}
	return out
}

var serial atomic.Int64

// index makes an index with p and n as numbers, and gives its name.
func (l *lab) index() string {
	l.t.Helper()
	name := fmt.Sprintf("t-%s-%d", strconv.FormatInt(time.Now().UnixNano(), 36), serial.Add(1))
	l.create(name)
	l.t.Cleanup(func() {
		req, _ := http.NewRequest(http.MethodDelete, l.urls[0]+"/"+name, nil)
		if res, err := http.DefaultClient.Do(req); err == nil {
			res.Body.Close()
		}
	})
	return name
}

func (l *lab) create(name string) {
	l.t.Helper()
	l.call(http.MethodPut, "/"+name, `{"settings":{"number_of_shards":2,"number_of_replicas":0},"mappings":{"properties":{"p":{"type":"integer"},"n":{"type":"integer"},"_ks":{"type":"object","enabled":false}}}}`)
}

type document struct {
	ID      string          `json:"_id"`
	Index   string          `json:"_index"`
	Version int64           `json:"_version"`
	Source  json.RawMessage `json:"_source"`
}

// docs gives all documents of an index, sorted by partition and number.
func (l *lab) docs(index string) []document {
	l.t.Helper()
	l.call(http.MethodPost, "/"+index+"/_refresh", "")
	var out []document
	after := ""
	for {
		var page struct {
			Hits struct {
				Hits []struct {
					document
					Sort json.RawMessage
				}
			}
		}
		body := `{"size":10000,"version":true,"sort":[{"p":{"order":"asc","unmapped_type":"integer"}},{"n":{"order":"asc","unmapped_type":"integer"}},"_seq_no"]` + after + `}`
		if err := json.Unmarshal(l.call(http.MethodPost, "/"+index+"/_search", body), &page); err != nil {
			l.t.Fatal(err)
		}
		for _, h := range page.Hits.Hits {
			out = append(out, h.document)
		}
		if len(page.Hits.Hits) < 10000 {
			return out
		}
		after = `,"search_after":` + string(page.Hits.Hits[9999].Sort)
	}
}

func (l *lab) sources(index string) (out []string) {
	l.t.Helper()
	for _, d := range l.docs(index) {
		out = append(out, string(d.Source))
	}
	return out
}

// wall stands in front of a cluster's first node, and has holes or not.
type wall struct {
	t     testing.TB
	proxy *toxiproxy.Proxy
	url   string
}

func (l *lab) wall() *wall {
	l.t.Helper()
	w := &wall{t: l.t, proxy: toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop()), "es", "127.0.0.1:0", strings.TrimPrefix(l.urls[0], "http://"))}
	if err := w.proxy.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(w.proxy.Stop)
	w.url = "http://" + w.proxy.Listen
	return w
}

func (w *wall) poison(kind, stream, attributes string) {
	w.t.Helper()
	if _, err := w.proxy.Toxics.AddToxicJson(strings.NewReader(fmt.Sprintf(`{"type": %q, "stream": %q, "attributes": {%s}}`, kind, stream, attributes))); err != nil {
		w.t.Fatal(err)
	}
}

func (w *wall) heal() {
	w.t.Helper()
	w.proxy.Toxics.ResetToxics(context.Background())
	if !w.proxy.Enabled {
		if err := w.proxy.Start(); err != nil {
			w.t.Fatal(err)
		}
	}
}

// config is a sink's options with their defaults, as spec.Decode sets them.
func config(t testing.TB, index string, urls ...string) *Config {
	t.Helper()
	c := &Config{}
	attrs := map[string]spec.Attr{"index": {Value: index}}
	list := []spec.Value{}
	for _, u := range urls {
		list = append(list, u)
	}
	attrs["urls"] = spec.Attr{Value: list}
	if err := spec.Decode(c.Options(), spec.Body{Attrs: attrs}).Err(); err != nil {
		t.Fatal(err)
	}
	c.Linger = time.Millisecond
	return c
}

func deps() sinks.Deps {
	return sinks.Deps{Log: slog.New(slog.DiscardHandler), Route: "route.test", ID: "test", Resolve: func(s spec.Secret) (string, error) {
		if s.IsZero() {
			return "", errors.New("resolve of a secret that is not there")
		}
		return s.Parts[0].Literal, nil
	}}
}

func opened(t testing.TB, c *Config, d sinks.Deps) *Sink {
	t.Helper()
	s, err := c.New(d)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	if err := s.Open(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	return s.(*Sink)
}

func text(s string) diag.Text { return diag.Text{S: s} }

// row is one record of a batch: its value and what the sink's expressions give of it.
type row struct {
	value   string // "": null
	derived []string
}

// batch makes consecutive records of a partition.
func batch(part int32, from int64, rows ...row) *record.Batch {
	b := &record.Batch{Topic: "test", Partition: part, Next: record.Position{Partition: part, Offset: from + int64(len(rows)), Identity: "topic-1"}, Revision: 1}
	for i, r := range rows {
		rec := record.Record{Offset: from + int64(i), Source: int32(i)}
		if r.value != "" {
			rec.Value = []byte(r.value)
		}
		for _, d := range r.derived {
			if d == "nil" {
				rec.Derived = append(rec.Derived, nil)
			} else {
				rec.Derived = append(rec.Derived, []byte(d))
			}
		}
		b.Records = append(b.Records, rec)
		b.Bytes += len(r.value)
	}
	return b
}

func value(part int32, n int64) string { return fmt.Sprintf(`{"p":%d,"n":%d}`, part, n) }

// numbers makes a batch of the values [from, to) of a partition.
func numbers(part int32, from, to int64) *record.Batch {
	var rows []row
	for n := from; n < to; n++ {
		rows = append(rows, row{value: value(part, n)})
	}
	return batch(part, from, rows...)
}

func write(s sinks.Sink, b *record.Batch) error {
	answer := make(chan error, 1)
	s.Write(context.Background(), b, func(err error) { answer <- err })
	return <-answer
}

// failures names what is not simply written, as "index outcome code".
func failures(t testing.TB, err error) (out []string) {
	t.Helper()
	if err == nil {
		return nil
	}
	var p *sinks.PartialError
	if !errors.As(err, &p) {
		t.Fatalf("got %v, want a *PartialError", err)
	}
	for _, f := range p.Failures {
		out = append(out, fmt.Sprintf("%d %s %s", f.Index, [...]string{"retryable", "applied", "rejected", "unknown"}[f.Outcome], f.Code))
	}
	return out
}

// insist writes a batch as a worker does: what has to be written again is, in order, until all has an outcome.
// It gives the codes of what was refused and how often something was repeated.
func insist(t testing.TB, s sinks.Sink, b *record.Batch) (rejected []string, repeats map[string]int) {
	t.Helper()
	repeats = map[string]int{}
	end := time.Now().Add(3 * time.Minute)
	for {
		err := write(s, b)
		if err == nil {
			return rejected, repeats
		}
		if sinks.IsPermanent(err) {
			t.Fatalf("the sink gives up: %v", err)
		}
		var p *sinks.PartialError
		if !errors.As(err, &p) {
			t.Fatalf("got %v, want a *PartialError", err)
		}
		next := &record.Batch{}
		next.Of(b)
		for _, f := range p.Failures {
			switch f.Outcome {
			case sinks.Rejected:
				rejected = append(rejected, f.Code)
			case sinks.Retryable, sinks.Unknown:
				repeats[f.Code]++
				r := b.Records[f.Index]
				next.Records = append(next.Records, r)
				next.Bytes += len(r.Value)
			}
		}
		if len(next.Records) == 0 {
			return rejected, repeats
		}
		if time.Now().After(end) {
			t.Fatalf("%d records are not written: %v", len(next.Records), err)
		}
		b = next
		pause()
	}
}

// pause stands for the back-off of a worker; nothing is asserted about it.
func pause() {
	timer := time.NewTimer(50 * time.Millisecond)
	<-timer.C
}

func equal[T comparable](t testing.TB, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %v\nwant %v", what, got, want)
	}
}
