package elasticsearch

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"keystone/sinks"
)

// drive writes n records of each partition, several batches at once as a route of order "none" does, and wants each
// of them once, whatever happens meanwhile: break is called when a third is under way, and mends behind itself.
func (l *lab) drive(s sinks.Sink, index string, n int64, brk func()) (repeats map[string]int) {
	l.t.Helper()
	const parts, size = 3, 50
	var mu sync.Mutex
	repeats = map[string]int{}
	third := make(chan struct{})
	broken := make(chan struct{})
	go func() {
		defer close(broken)
		<-third
		brk()
	}()
	var g errgroup.Group
	g.SetLimit(12)
	for from := int64(0); from < n; from += size {
		if from >= n/3 && from-size < n/3 {
			close(third)
		}
		if from >= 2*n/3 && from-size < 2*n/3 {
			<-broken // so that something is written with the fault and something without
		}
		for p := range int32(parts) {
			g.Go(func() error {
				rejected, r := insist(l.t, s, numbers(p, from, min(from+size, n)))
				mu.Lock()
				defer mu.Unlock()
				for code, k := range r {
					repeats[code] += k
				}
				if len(rejected) > 0 {
					return fmt.Errorf("rejected: %v", rejected)
				}
				return nil
			})
		}
	}
	if err := g.Wait(); err != nil {
		l.t.Error(err)
	}
	l.expect(index, parts, n)
	return repeats
}

// expect is the oracle: the set of documents is the input.
func (l *lab) expect(index string, parts int32, n int64) {
	l.t.Helper()
	var want []string
	for p := range parts {
		for k := range n {
			want = append(want, value(p, k))
		}
	}
	got := l.sources(index)
	if len(got) != len(want) {
		l.t.Fatalf("%d documents, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			l.t.Fatalf("document %d is %s, want %s", i, got[i], want[i])
		}
	}
}

// TestRealNetworkFaults breaks the network between the sink and the cluster in each way while documents are written.
func TestRealNetworkFaults(t *testing.T) {
	l := shared(t)
	for _, test := range []struct {
		name  string
		brk   func(w *wall)
		codes []string // one of them is the reason of a repetition; none: nothing has to be repeated
	}{
		{"connections are refused", func(w *wall) { w.proxy.Stop(); pause(); w.heal() }, []string{"unreachable", "no_answer"}},
		{"connections are reset", func(w *wall) { w.poison("reset_peer", "downstream", `"timeout": 20`); pause(); pause(); w.heal() }, []string{"no_answer"}},
		{"applied, and the answer does not come", func(w *wall) { w.poison("timeout", "downstream", `"timeout": 0`); patience(3 * time.Second); w.heal() }, []string{"timeout"}},
		{"applied, and the answer breaks off", func(w *wall) { w.poison("limit_data", "downstream", `"bytes": 700`); patience(time.Second); w.heal() }, []string{"no_answer", "malformed_answer"}},
		{"half a request arrives", func(w *wall) { w.poison("limit_data", "upstream", `"bytes": 1500`); patience(time.Second); w.heal() }, []string{"no_answer"}},
		{"a narrow wire", func(w *wall) { w.poison("bandwidth", "upstream", `"rate": 40`); patience(time.Second); w.heal() }, nil},
		{"a long way", func(w *wall) {
			w.poison("latency", "downstream", `"latency": 400, "jitter": 300`)
			patience(time.Second)
			w.heal()
		}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := &lab{t: t, urls: l.urls}
			index, w := l.index(), l.wall()
			c := config(t, index, w.url)
			c.RequestTimeout, c.BatchRecords = 2*time.Second, 100
			s := opened(t, c, deps())
			s.cfg.RequestTimeout = 2 * time.Second
			got := l.drive(s, index, 1500, func() { test.brk(w) })
			seen := len(test.codes) == 0
			for _, code := range test.codes {
				seen = seen || got[code] > 0
			}
			if !seen {
				t.Errorf("repeated %v, want some for one of %v", got, test.codes)
			}
			t.Logf("repeated: %v", got)
		})
	}
}

// patience is how long a fault lasts.
func patience(d time.Duration) { <-time.After(d) }

// TestRealServerFaults kills the cluster and makes it refuse work in each way while documents are written.
func TestRealServerFaults(t *testing.T) {
	l := private(t, "--set", "thread_pool.write.queue_size=1", "--set", "http.max_content_length=64kb", "--set", "action.auto_create_index=false")
	t.Run("killed and started", func(t *testing.T) {
		l := l.of(t)
		index := l.index()
		c := config(t, index, l.urls...)
		c.BatchBytes = 32 << 10
		c.RequestTimeout = 5 * time.Second
		got := l.drive(opened(t, c, deps()), index, 1500, func() {
			l.kill()
			l.start("--set", "thread_pool.write.queue_size=1", "--set", "http.max_content_length=64kb", "--set", "action.auto_create_index=false")
		})
		if got["unreachable"]+got["no_answer"] == 0 {
			t.Errorf("repeated %v, want some", got)
		}
		t.Logf("repeated: %v", got)
	})
	t.Run("too many requests", func(t *testing.T) {
		l := l.of(t)
		index := l.index()
		// Several sinks, since one learns how much it may ask for.
		var g errgroup.Group
		var mu sync.Mutex
		total := map[string]int{}
		for p := range int32(6) {
			c := config(t, index, l.urls...)
			c.BatchRecords, c.Linger = 20, 0
			s := opened(t, c, deps())
			s.limit.now = 8
			g.Go(func() error {
				var inner errgroup.Group
				for from := int64(0); from < 800; from += 40 {
					inner.Go(func() error {
						_, r := insist(t, s, numbers(p, from, from+40))
						mu.Lock()
						defer mu.Unlock()
						for code, k := range r {
							total[code] += k
						}
						return nil
					})
				}
				return inner.Wait()
			})
		}
		_ = g.Wait()
		l.expect(index, 6, 800)
		if total["es_rejected_execution_exception"] == 0 {
			t.Errorf("repeated %v, want some for es_rejected_execution_exception", total)
		}
		t.Logf("repeated: %v", total)
	})
	t.Run("an answer of 503", func(t *testing.T) {
		l := l.of(t)
		index := l.index() + "-x"
		// No shard is allocated, so none takes a document.
		l.call(http.MethodPut, "/"+index+"?wait_for_active_shards=0", `{"settings":{"number_of_shards":2,"number_of_replicas":0,"index.routing.allocation.enable":"none"},"mappings":{"properties":{"p":{"type":"integer"},"n":{"type":"integer"}}}}`)
		c := config(t, index, l.urls...)
		c.RequestTimeout = 2 * time.Second
		s := opened(t, c, deps())
		equal(t, "failures", failures(t, write(s, numbers(0, 0, 2))), []string{"0 retryable unavailable_shards_exception", "1 retryable unavailable_shards_exception"})
		l.call(http.MethodPut, "/"+index+"/_settings", `{"index.routing.allocation.enable":"all"}`)
		insist(t, s, numbers(0, 0, 2))
		l.expect(index, 1, 2)
	})
	t.Run("a missing index", func(t *testing.T) {
		l := l.of(t)
		index := l.index() + "-missing"
		s := opened(t, config(t, index, l.urls...), deps())
		err := write(s, numbers(0, 0, 2))
		equal(t, "failures", failures(t, err), []string{"0 retryable index_not_found_exception", "1 retryable index_not_found_exception"})
		if !strings.Contains(err.Error(), "create the index") {
			t.Errorf("%v does not say what to do", err)
		}
		l.create(index)
		insist(t, s, numbers(0, 0, 2))
		l.expect(index, 1, 2)
	})
	t.Run("a closed index, one that is read only", func(t *testing.T) {
		l := l.of(t)
		index := l.index()
		s := opened(t, config(t, index, l.urls...), deps())
		l.call(http.MethodPost, "/"+index+"/_close", "")
		equal(t, "closed", failures(t, write(s, numbers(0, 0, 1))), []string{"0 retryable index_closed_exception"})
		l.call(http.MethodPost, "/"+index+"/_open", "")
		l.call(http.MethodPut, "/"+index+"/_settings", `{"index.blocks.write":true}`)
		equal(t, "read only", failures(t, write(s, numbers(0, 0, 1))), []string{"0 retryable cluster_block_exception"})
		l.call(http.MethodPut, "/"+index+"/_settings", `{"index.blocks.write":false}`)
		insist(t, s, numbers(0, 0, 1))
		l.expect(index, 1, 1)
	})
	t.Run("requests that are too large", func(t *testing.T) {
		l := l.of(t)
		index := l.index()
		s := opened(t, config(t, index, l.urls...), deps()) // of 5 MiB, and the server takes 64 KiB
		var rows []row
		for n := range int64(200) {
			rows = append(rows, row{value: fmt.Sprintf(`{"p":0,"n":%d,"x":%q}`, n, strings.Repeat("x", 3000))})
		}
		rows[77].value = fmt.Sprintf(`{"p":0,"n":77,"x":%q}`, strings.Repeat("y", 70<<10))
		rejected, _ := insist(t, s, batch(0, 0, rows...))
		equal(t, "rejected", rejected, []string{"too_large"})
		if got := len(l.docs(index)); got != 199 {
			t.Errorf("%d documents, want 199", got)
		}
		if s.maxBytes > 64<<10 {
			t.Errorf("requests still have up to %d bytes", s.maxBytes)
		}
	})
}

// of is the same cluster in another test.
func (l *lab) of(t *testing.T) *lab { return &lab{t: t, urls: l.urls, sh: l.sh, data: l.data} }

// TestRealOrderUnderFaults: with ids of the user and no version, a document ends as the last record of its id says, though
// requests are lost, refused and repeated meanwhile.
func TestRealOrderUnderFaults(t *testing.T) {
	l := private(t, "--set", "thread_pool.write.queue_size=1")
	for _, action := range []Action{Index, Update} {
		t.Run(string(action), func(t *testing.T) {
			l := l.of(t)
			index, w := l.index(), l.wall()
			c := config(t, index, w.url)
			c.ID, c.Action, c.RequestTimeout, c.BatchRecords = text("id"), action, 2*time.Second, 30
			s := opened(t, c, deps())
			s.limit.now = 8
			const ids, rounds = 7, 60
			var g errgroup.Group
			for p := range int32(4) {
				g.Go(func() error {
					for round := range int64(rounds) {
						var rows []row
						for k := range int64(20) {
							n := round*20 + k
							id := fmt.Sprintf("%d-%d", p, n%ids)
							v := fmt.Sprintf(`{"p":%d,"n":%d}`, p, n)
							if action == Update {
								v = fmt.Sprintf(`{"p":%d,"n":%d,"f%d":%d}`, p, n, n%3, n)
							}
							rows = append(rows, row{v, []string{index, id}})
						}
						insist(t, s, batch(p, round*20, rows...))
					}
					return nil
				})
			}
			stop, broken := context.WithCancel(context.Background())
			done := make(chan struct{})
			go func() {
				defer close(done)
				for stop.Err() == nil {
					w.poison("reset_peer", "downstream", `"timeout": 30`)
					pause()
					w.heal()
					w.poison("limit_data", "downstream", `"bytes": 900`)
					pause()
					w.heal()
					pause()
				}
			}()
			_ = g.Wait()
			broken()
			<-done
			docs := l.docs(index)
			if len(docs) != 4*ids {
				t.Fatalf("%d documents, want %d", len(docs), 4*ids)
			}
			for _, d := range docs {
				var p, id int64
				if _, err := fmt.Sscanf(d.ID, "%d-%d", &p, &id); err != nil {
					t.Fatal(err)
				}
				last := int64(-1)
				fields := map[int64]int64{}
				for n := range int64(rounds * 20) {
					if n%ids == id {
						last = n
						fields[n%3] = n
					}
				}
				var got map[string]int64
				if err := json.Unmarshal(d.Source, &got); err != nil {
					t.Fatal(err)
				}
				want := map[string]int64{"p": p, "n": last}
				if action == Update {
					for f, n := range fields {
						want[fmt.Sprint("f", f)] = n
					}
				}
				if !maps.Equal(got, want) {
					t.Errorf("document %s is %v, want %v", d.ID, got, want)
				}
			}
		})
	}
}
