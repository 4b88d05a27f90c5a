package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// jobKills is how often the server is killed while its job works.
const jobKills = 12

// TestRealJobExactlyOnce counts events in windows of event time, while the process that counts is killed with -9 again and
// again: who reads only what is committed finds each row of each window once, with all its events.
func TestRealJobExactlyOnce(t *testing.T) {
	t.Parallel()
	kafka := broker(t)
	dir, in, out := t.TempDir(), name("job-in-"), name("job-out-")
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
  schema = object({
    user = string
    ts   = timestamp_ms
    n    = int
  })
}

stream "out" {
  topic      = %q
  partitions = 3
}

job "counts" {
  read "in" {
    from       = stream.in
    event_time = "ts"
    watermark  = "2s"
  }

  filter "real" {
    input = read.in
    where = "n >= 0"
  }

  window "by_user" {
    input = filter.real
    key   = { user = "user" }
    tumbling {
      size = "1s"
    }
    aggregate = {
      events = "count()"
      total  = "sum(n)"
    }
  }

  write "out" {
    input = window.by_user
    to    = stream.out
  }
}
`, name("e2e-"), kafka, in, out))
	p := serve(t, dir)
	p.healthy("job.counts", "running")
	cl := client(t, kafka)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	type window struct {
		User  string
		Start int64
	}
	type row struct{ Events, Total int64 }
	want := map[window]row{}
	r := rand.New(rand.NewSource(1))
	const events, users, begin = 40_000, 7, 1_700_000_000_000
	for i := range events {
		at := int64(begin + i*3 - r.Intn(1500)) // out of order by less than the watermark allows
		user := fmt.Sprintf("u%d", r.Intn(users))
		w := window{user, at - at%1000}
		sum := want[w]
		sum.Events, sum.Total = sum.Events+1, sum.Total+int64(i)
		want[w] = sum
		cl.Produce(ctx, &kgo.Record{Topic: in, Partition: int32(i % 4), Value: fmt.Appendf(nil, `{"user":%q,"ts":%d,"n":%d}`, user, at, i)}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
		if i%(events/jobKills) == events/jobKills-1 {
			if err := cl.Flush(ctx); err != nil {
				t.Fatal(err)
			}
			// At whatever it is doing: reading, committing an epoch, publishing it, or recovering.
			time.Sleep(time.Duration(r.Intn(1500)) * time.Millisecond)
			p.kill()
			p = serve(t, dir)
		}
	}
	for part := range int32(4) { // what comes last closes all windows
		cl.Produce(ctx, &kgo.Record{Topic: in, Partition: part, Value: fmt.Appendf(nil, `{"user":"end","ts":%d,"n":-1}`, begin+events*3+60_000)}, nil)
	}
	if err := cl.Flush(ctx); err != nil {
		t.Fatal(err)
	}

	got := map[window][]row{}
	reader := client(t, kafka, kgo.ConsumeTopics(out), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	rows := 0
	read := func(wait time.Duration) {
		t.Helper()
		ctx, cancel := context.WithTimeout(ctx, wait)
		defer cancel()
		reader.PollFetches(ctx).EachRecord(func(rec *kgo.Record) {
			var x struct {
				User   string `json:"user"`
				Start  int64  `json:"window_start"`
				End    int64  `json:"window_end"`
				Events int64  `json:"events"`
				Total  int64  `json:"total"`
			}
			if err := json.Unmarshal(rec.Value, &x); err != nil || x.End != x.Start+1000 {
				t.Fatalf("row %s: %v", rec.Value, err)
			}
			w := window{x.User, x.Start}
			got[w] = append(got[w], row{x.Events, x.Total})
			rows++
		})
	}
	for rows < len(want) && ctx.Err() == nil {
		read(time.Second)
	}
	read(5 * time.Second) // nothing may follow
	for _, w := range slices.SortedFunc(maps.Keys(want), func(a, b window) int { return int(a.Start - b.Start) }) {
		if len(got[w]) != 1 || got[w][0] != want[w] {
			t.Fatalf("%s at %d: %v, want %v once; %d rows, want %d\n", w.User, w.Start, got[w], want[w], rows, len(want))
		}
	}
	if rows != len(want) {
		t.Errorf("%d rows, want %d", rows, len(want))
	}
	st := states(t, p)
	for _, a := range st.Addresses {
		if a.Address == "job.counts" && (a.Health != "running" || a.Counters == nil || a.Counters.DeadLettered > 0) {
			t.Errorf("the job: %+v", a)
		}
	}
}
