package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const reloadsConfig = `
keystone { namespace = %q }

cluster "main" { brokers = [%q] }

stream "in" {
  topic      = %q
  partitions = 4
}

stream "changed" {
  topic      = %q
  partitions = 4
}

stream "neighbour" {
  topic      = %q
  partitions = 4
}

route "changed" {
  from    = stream.in
  filter  = %q
  project = { p = "p", seq = "seq", at = "at", program = "%d" }
  to      = stream.changed
}

route "neighbour" {
  from    = stream.in
  filter  = "true"
  project = { p = "p", seq = "seq", at = "at", program = "0" }
  to      = stream.neighbour
}
`

// stamped is an event of the load and which program processed it.
type stamped struct {
	P       int   `json:"p"`
	Seq     int   `json:"seq"`
	At      int64 `json:"at"`
	Program int   `json:"program"`
}

// pauses is how long events took, and the longest a partition had nothing to show.
type pauses struct{ latency, gap []time.Duration }

func (p pauses) String() string {
	return fmt.Sprintf("latency p50 %v p99 %v max %v; gap between deliveries p50 %v p99 %v max %v",
		quantile(p.latency, 0.5), quantile(p.latency, 0.99), largest(p.latency), quantile(p.gap, 0.5), quantile(p.gap, 0.99), largest(p.gap))
}

// quantile gives a quantile of a sample, 0 of none.
func quantile(d []time.Duration, q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	d = slices.Sorted(slices.Values(d))
	return d[int(float64(len(d)-1)*q)].Round(10 * time.Microsecond)
}

func largest(d []time.Duration) time.Duration { return quantile(d, 1) }

// TestRealReloads edits the files of a route while events flow, again as soon as
// the last edit is seen in the output: nothing is lost, repeated or out of order, each program
// takes over from the one before at one place of each partition. KEYSTONE_RELOADS is how often; the log
// has the pauses of that route and of another one, with reloads and without (`make reloads`).
func TestRealReloads(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("KEYSTONE_RELOADS"))
	if err != nil {
		n = 50
	}
	addr, dir, namespace, in := broker(t), t.TempDir(), name("reloads-"), name("in-")
	targets := []string{name("changed-"), name("neighbour-")}
	edit := func(program int) {
		config(t, dir, fmt.Sprintf(reloadsConfig, namespace, addr, in, targets[0], targets[1], fmt.Sprintf("seq >= %d", -program), program))
	}
	edit(0)
	p := serve(t, dir)
	p.healthy("route.changed", "running")
	p.healthy("route.neighbour", "running")

	var phase, program atomic.Int64 // what is going on, and the last program seen
	sent := [4]atomic.Int64{}
	ctx, cancel := context.WithCancel(context.Background())
	flowing, stop := context.WithCancel(ctx)
	producer := make(chan error, 1)
	cl := client(t, addr)
	go func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		var failed atomic.Pointer[error]
		for flowing.Err() == nil {
			for part := range sent {
				v, _ := json.Marshal(stamped{P: part, Seq: int(sent[part].Load()), At: time.Now().UnixNano()}) // cannot fail
				sent[part].Add(1)
				cl.Produce(ctx, &kgo.Record{Topic: in, Partition: int32(part), Value: v}, func(_ *kgo.Record, err error) {
					if err != nil {
						failed.Store(&err)
					}
				})
			}
			<-tick.C
		}
		err := cl.Flush(ctx)
		if f := failed.Load(); err == nil && f != nil {
			err = *f
		}
		producer <- err
	}()

	// One reader for each target: figures by phase, and what is wrong.
	type reading struct {
		figures [2]pauses
		err     error
	}
	got := make([][4]atomic.Int64, 2)
	readers := make([]chan reading, 2)
	for i, target := range targets {
		readers[i] = make(chan reading, 1)
		r := client(t, addr, kgo.ConsumeTopics(target), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		go func() {
			var out reading
			var next, programs [4]int
			var before [4]time.Time
			for out.err == nil {
				fs := r.PollFetches(ctx)
				if ctx.Err() != nil {
					break
				}
				now, in := time.Now(), phase.Load()
				fs.EachRecord(func(rec *kgo.Record) {
					var e stamped
					err := json.Unmarshal(rec.Value, &e)
					switch {
					case out.err != nil:
						return
					case err != nil:
						out.err = fmt.Errorf("%s: %w", rec.Value, err)
						return
					case e.Seq != next[e.P] || e.Program < programs[e.P]:
						out.err = fmt.Errorf("%s after event %d and program %d", rec.Value, next[e.P]-1, programs[e.P])
						return
					}
					next[e.P], programs[e.P] = e.Seq+1, e.Program
					got[i][e.P].Store(int64(e.Seq + 1))
					if in > 0 {
						f := &out.figures[in-1]
						f.latency = append(f.latency, now.Sub(time.Unix(0, e.At)))
						if !before[e.P].IsZero() && now != before[e.P] {
							f.gap = append(f.gap, now.Sub(before[e.P]))
						}
					}
					before[e.P] = now
					if i == 0 {
						program.Store(int64(slices.Min(programs[:])))
					}
				})
			}
			readers[i] <- out
		}()
	}

	phase.Store(1)
	began := time.Now()
	for i := 1; i <= n; i++ {
		edit(i)
		until(t, "program "+strconv.Itoa(i), func() error {
			if at := program.Load(); at != int64(i) {
				return fmt.Errorf("the output is of program %d", at)
			}
			return nil
		})
	}
	took := time.Since(began)
	phase.Store(2)
	time.Sleep(took) // the run without reloads, as long
	phase.Store(0)
	stop()
	if err := <-producer; err != nil {
		t.Fatal(err)
	}
	until(t, "everything is delivered", func() error {
		for i := range targets {
			for part := range sent {
				if g, s := got[i][part].Load(), sent[part].Load(); g != s {
					return fmt.Errorf("%s: %d of %d events of partition %d", targets[i], g, s, part)
				}
			}
		}
		return nil
	})
	s, err := p.status()
	if err != nil || s.Serial != int64(n+1) {
		t.Errorf("the revision is %d after %d edits: %v", s.Serial, n, err)
	}
	p.stop()
	cancel()
	for i, who := range []string{"the changed route", "its neighbour"} {
		r := <-readers[i]
		if r.err != nil {
			t.Errorf("%s: %v", who, r.err)
		}
		t.Logf("%s, %d reloads in %v: %v", who, n, took.Round(time.Millisecond), r.figures[0])
		t.Logf("%s, without reloads:  %v", who, r.figures[1])
	}
}
