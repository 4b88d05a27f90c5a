package elasticsearch

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestRealRouting puts documents onto the shards that their routing names, where a repeat finds them, also for
// action create, and a delete takes away the right one.
func TestRealRouting(t *testing.T) {
	l := shared(t)
	index := l.index()
	l.call(http.MethodDelete, "/"+index, "")
	l.call(http.MethodPut, "/"+index, `{"settings":{"number_of_shards":5,"number_of_replicas":0}}`)
	count := func(routing string) int {
		t.Helper()
		l.call(http.MethodPost, "/"+index+"/_refresh", "")
		var answer struct{ Count int }
		if err := json.Unmarshal(l.call(http.MethodGet, "/"+index+"/_count?routing="+routing+"&q=u:"+routing, ""), &answer); err != nil {
			t.Fatal(err)
		}
		return answer.Count
	}
	c := config(t, index, l.urls...)
	c.Routing = text("u")
	s := opened(t, c, deps())
	b := batch(0, 0)
	users := []string{"ann", "bob", "eve"}
	for n := range 30 {
		one := batch(0, int64(n), row{fmt.Sprintf(`{"p":0,"n":%d,"u":%q}`, n, users[n%3]), []string{index, users[n%3]}})
		b.Records = append(b.Records, one.Records...)
	}
	for range 2 {
		if err := write(s, b); err != nil {
			t.Fatal(err)
		}
	}
	for _, u := range users {
		if n := count(u); n != 10 {
			t.Errorf("%d documents of %s are on its shard, want 10", n, u)
		}
	}
	if n := len(l.docs(index)); n != 30 {
		t.Errorf("%d documents, want 30", n)
	}

	// One id twice, on different shards: they are two documents, and each item is about its own.
	c.ID = text("id")
	s = opened(t, c, deps())
	err := write(s, batch(1, 0, row{`{"p":1,"n":0,"u":"ann"}`, []string{index, "same", "ann"}}, row{`{"p":1,"n":1,"u":"bob"}`, []string{index, "same", "bob"}}, row{"", []string{index, "same", "ann"}}))
	if err != nil {
		t.Fatal(err)
	}
	if ann, bob := count("ann"), count("bob"); ann != 10 || bob != 11 {
		t.Errorf("%d documents of ann and %d of bob, want 10 and 11", ann, bob)
	}

	// A repeat of a creation is found where it is.
	c.Action, c.ID = Create, text("")
	first := opened(t, c, deps())
	made := batch(2, 0, row{`{"p":2,"n":0,"u":"eve"}`, []string{index, "eve"}})
	if err := write(first, made); err != nil {
		t.Fatal(err)
	}
	equal(t, "a repeat", failures(t, write(opened(t, c, deps()), made)), []string{"0 applied repeated"})
}

// TestRealPipeline has documents go through an ingest pipeline. The cluster of the tests has no processors, so that an empty
// one is what there is: it counts the bytes that it gets. While it is missing documents wait, and none is refused.
func TestRealPipeline(t *testing.T) {
	l := shared(t)
	index := l.index()
	name := index + "-pipe"
	c := config(t, index, l.urls...)
	c.Pipeline = name
	s := opened(t, c, deps())
	if err := write(s, numbers(0, 0, 2)); err == nil || !slices.Equal(failures(t, err), []string{"0 retryable no_pipeline", "1 retryable no_pipeline"}) ||
		!strings.Contains(err.Error(), "make it (PUT /_ingest/pipeline/"+name+")") {
		t.Fatalf("without the pipeline: %v", err)
	}
	l.call(http.MethodPut, "/_ingest/pipeline/"+name, `{"processors":[]}`)
	t.Cleanup(func() { l.call(http.MethodDelete, "/_ingest/pipeline/"+name, "") })
	if rejected, _ := insist(t, s, numbers(0, 0, 2)); len(rejected) > 0 {
		t.Fatalf("rejected: %v", rejected)
	}
	if n := len(l.docs(index)); n != 2 {
		t.Errorf("%d documents, want 2", n)
	}
	var stats struct {
		Nodes map[string]struct {
			Ingest struct {
				Pipelines map[string]struct {
					In int `json:"ingested_as_first_pipeline_in_bytes"`
				}
			}
		}
	}
	if err := json.Unmarshal(l.call(http.MethodGet, "/_nodes/stats/ingest", ""), &stats); err != nil {
		t.Fatal(err)
	}
	in := 0
	for _, n := range stats.Nodes {
		in += n.Ingest.Pipelines[name].In
	}
	if in == 0 {
		t.Error("nothing went through the pipeline")
	}
}

// TestConcurrency tells the limit as it follows the answers, and what is under way.
func TestConcurrency(t *testing.T) {
	c := config(t, "plays", "http://127.0.0.1:9200")
	s := newSink(*c, deps())
	if limit, away := s.Concurrency(); limit != 1 || away != 0 {
		t.Errorf("%d of %d at the start, want 0 of 1", away, limit)
	}
	for range 3 {
		for range s.limit.now {
			s.limit.answer(time.Millisecond, true, true, false)
		}
	}
	s.sending = 2
	if limit, away := s.Concurrency(); limit != 4 || away != 2 {
		t.Errorf("%d of %d after three full rounds, want 2 of 4", away, limit)
	}
	s.limit.answer(time.Millisecond, true, true, true)
	if limit, _ := s.Concurrency(); limit != 3 {
		t.Errorf("%d after the cluster refused work, want 3", limit)
	}
}
