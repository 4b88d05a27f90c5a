package wire

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"keystone/configs/addr"
)

// journal keeps what a server logs.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(p)
}

// count counts the lines that have all of these words.
func (j *journal) count(words ...string) (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
lines:
	for line := range strings.Lines(j.buf.String()) {
		for _, w := range words {
			if !strings.Contains(line, w) {
				continue lines
			}
		}
		n++
	}
	return n
}

// relay is a server between topics of a cluster of this test, under load: two
// partitions of each of in and spare get numbered records, r moves one of
// them and neighbour the same.
type relay struct {
	*lab
	log     *journal
	cluster *kfake.Cluster
	joins   atomic.Int64 // of groups
	refuse  atomic.Bool  // to tell the group's offsets
	serial  int64
	stop    context.CancelFunc
	loaded  sync.WaitGroup
	mu      sync.Mutex // guards sent
	sent    map[string]int
}

const relayConfig = `
keystone {
  namespace = "relay"
}

cluster "main" {
  brokers = [%q]
}

stream "in" {
  partitions = 2
}

stream "spare" {
  partitions = 2
}

stream "out" {}

stream "other" {}

stream "beside" {}

route "neighbour" {
  from = stream.in
  to   = stream.beside
}

route "r" {
%s
  batch {
    records = 50
  }
  delivery {
    redeploy        = %q
    commit_interval = "50ms"
  }
}
`

func newRelay(t *testing.T, redeploy, route string, opts ...kfake.Opt) *relay {
	t.Helper()
	c, err := kfake.NewCluster(append(opts, kfake.NumBrokers(1), kfake.SleepOutOfOrder())...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	dir, err := os.MkdirTemp("", "ks-lab-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	j := &journal{}
	r := &relay{lab: &lab{t: t, dir: dir, log: slog.New(slog.NewTextHandler(j, nil))}, log: j, cluster: c, serial: 1, sent: map[string]int{}}
	c.ControlKey(int16(kmsg.JoinGroup), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		r.joins.Add(1)
		return nil, nil, false
	})
	c.ControlKey(int16(kmsg.OffsetFetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if !r.refuse.Load() {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.OffsetFetchResponse)
		resp.ErrorCode = kerr.GroupAuthorizationFailed.Code
		for _, g := range req.(*kmsg.OffsetFetchRequest).Groups {
			resp.Groups = append(resp.Groups, kmsg.OffsetFetchResponseGroup{Group: g.Group, ErrorCode: kerr.GroupAuthorizationFailed.Code})
		}
		return resp, nil, true
	})
	r.edit(r.text(redeploy, route))
	r.lab.kafka, err = kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	r.adm = kadm.NewClient(r.lab.kafka)
	r.serve()
	ctx, stop := context.WithCancel(t.Context())
	r.stop = stop
	for _, topic := range []string{"in", "spare"} {
		for p := range int32(2) {
			r.loaded.Go(func() { r.load(ctx, topic, p) })
		}
	}
	t.Cleanup(func() { stop(); r.loaded.Wait() })
	return r
}

func (r *relay) text(redeploy, route string) string {
	return fmt.Sprintf(relayConfig, r.cluster.ListenAddrs()[0], route, redeploy)
}

// turn changes the route, and waits until it is brought about.
func (r *relay) turn(redeploy, route string) {
	r.t.Helper()
	r.serial++
	r.change(r.text(redeploy, route), r.serial)
}

// load writes numbered records to one partition, some at a time.
func (r *relay) load(ctx context.Context, topic string, p int32) {
	pace := time.NewTicker(10 * time.Millisecond)
	defer pace.Stop()
	for n := 0; ctx.Err() == nil; <-pace.C {
		var rs []*kgo.Record
		for range 10 {
			rs = append(rs, &kgo.Record{Topic: topic, Partition: p, Value: fmt.Appendf(nil, `{"from":"%s/%d","n":%d}`, topic, p, n)})
			n++
		}
		if err := r.lab.kafka.ProduceSync(context.WithoutCancel(ctx), rs...).FirstErr(); err != nil {
			r.t.Errorf("load: %v", err)
			return
		}
		r.mu.Lock()
		r.sent[fmt.Sprintf("%s/%d", topic, p)] = n
		r.mu.Unlock()
	}
}

// grows waits until a topic has more records than it has now.
func (r *relay) grows(topic string) {
	r.t.Helper()
	first := int64(-1)
	r.until(topic+" grows", func() error {
		ends, err := r.adm.ListEndOffsets(r.t.Context(), topic)
		if err != nil {
			return err
		}
		n := int64(0)
		ends.Each(func(o kadm.ListedOffset) { n += o.Offset })
		if first < 0 {
			first = n
		}
		if n < first+100 {
			return errors.New("it does not")
		}
		return nil
	})
}

// end ends the load, waits until the route has committed all of a topic, and
// judges what came of it: the repeats. Whatever was sent is there, and the first of each in order.
func (r *relay) end(topic string, outs ...string) (repeats int) {
	r.t.Helper()
	r.stop()
	r.loaded.Wait()
	r.committed("keystone.relay.default.route.r", topic)
	seen := map[string]map[int]bool{}
	for _, out := range outs {
		last := map[string]int{}
		for _, rec := range r.topic(out) {
			var v struct {
				From string
				N    int
			}
			if err := json.Unmarshal(rec.Value, &v); err != nil {
				r.t.Fatal(err)
			}
			if seen[v.From] == nil {
				seen[v.From] = map[int]bool{}
			}
			if seen[v.From][v.N] {
				repeats++
				continue
			}
			if v.N < last[v.From] {
				r.t.Errorf("%s: the first %d comes after %d", v.From, v.N, last[v.From])
			}
			seen[v.From][v.N], last[v.From] = true, v.N
		}
	}
	for from, n := range r.sent {
		if strings.HasPrefix(from, topic+"/") && len(seen[from]) != n {
			r.t.Errorf("%s: %d of %d records arrived", from, len(seen[from]), n)
		}
	}
	return repeats
}

// untouched wants that the neighbour's worker is the first one.
func (r *relay) untouched() {
	r.t.Helper()
	if n := r.log.count(`msg="route starts"`, "route.neighbour"); n != 1 {
		r.t.Errorf("the neighbour started %d times", n)
	}
}

const (
	plainRoute = "  from = stream.in\n  to   = stream.out\n"
	keyedRoute = plainRoute + "  order = \"key\"\n"
)

// TestNewWorkerThatCannotOpen keeps the old one running, and says why.
func TestNewWorkerThatCannotOpen(t *testing.T) {
	r := newRelay(t, "prefer_latency", plainRoute)
	r.grows("out")
	r.refuse.Store(true)
	r.edit(r.text("prefer_latency", keyedRoute))
	r.until("the error is shown", func() error {
		st, err := r.client.StatusOf(t.Context(), addr.New("route", "r"))
		if err != nil {
			return err
		}
		for _, a := range st.Addresses {
			if a.Addr == "route.r" && a.Health == "degraded" && strings.Contains(a.Error, "give the user the missing permission") {
				return nil
			}
		}
		return fmt.Errorf("%+v", st.Addresses)
	})
	r.grows("out")
	r.refuse.Store(false)
	r.until("the new worker takes over", func() error {
		if r.log.count("change done", "addr=route.r", "action=drain") != 1 {
			return errors.New("not yet")
		}
		return nil
	})
	r.grows("out")
	r.end("in", "out")
	if n := r.log.count(`msg="route starts"`, "route.r"); n != 1 {
		t.Errorf("started %d times", n)
	}
	r.untouched()
}

// TestLiveChangeJoinsNothing changes the filter under load: no group hears of it.
func TestLiveChangeJoinsNothing(t *testing.T) {
	r := newRelay(t, "prefer_latency", plainRoute)
	r.grows("out")
	r.grows("beside")
	joins := r.joins.Load()
	for i := range 5 {
		r.turn("prefer_latency", plainRoute+fmt.Sprintf("  filter = \"n > -%d\"\n", i+1))
		r.grows("out")
	}
	if n := r.joins.Load(); n != joins {
		t.Errorf("members joined %d times", n-joins)
	}
	if repeats := r.end("in", "out"); repeats > 0 {
		t.Errorf("%d repeats", repeats)
	}
	if n := r.log.count(`msg="route starts"`, "route.r"); n != 1 {
		t.Errorf("started %d times", n)
	}
	r.untouched()
}

// TestSwitchInPlace changes from, and to, and back under load: the source
// goes on where it was left, and the neighbour notices nothing.
func TestSwitchInPlace(t *testing.T) {
	r := newRelay(t, "prefer_latency", plainRoute)
	r.grows("out")
	r.turn("prefer_latency", "  from = stream.spare\n  to   = stream.out\n")
	r.grows("out")
	r.turn("prefer_latency", "  from = stream.in\n  to   = stream.other\n")
	r.grows("other")
	r.turn("prefer_latency", plainRoute)
	r.grows("out")
	t.Logf("%d repeats", r.end("in", "out", "other"))
	r.untouched()
}
