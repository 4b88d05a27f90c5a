//go:build unix

package wire

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"keystone/cmd/internal/api"
	"keystone/configs"
)

const handedOver = `
keystone {
  namespace = %q
}

cluster "main" {
  brokers = [%q]
}

stream "in" {
  topic      = %q
  partitions = 2
}

stream "out" {
  topic      = %q
  partitions = 2
}

route "copy" {
  from   = stream.in
  to     = stream.out
  format = %q
  delivery {
    commit_interval = "50ms"
  }
}
`

// TestHandOverKilledAtAnyStep kills the server, as kill -9 does, at each step at which an edit hands a route over to
// a new worker while events flow. The next start goes on with the edit: nothing is lost, and the first deliveries of each
// partition keep their order.
func TestHandOverKilledAtAnyStep(t *testing.T) {
	handOverKilledAtAnyStep(t, startBroker(t))
}

// TestRealHandOverKilledAtAnyStep is the same on a real Kafka.
func TestRealHandOverKilledAtAnyStep(t *testing.T) {
	broker := os.Getenv("KEYSTONE_TEST_KAFKA")
	if broker == "" {
		t.Skip("no real Kafka: run `make e2e`, which starts one")
	}
	handOverKilledAtAnyStep(t, broker)
}

func handOverKilledAtAnyStep(t *testing.T, broker string) {
	r := newRewound(t, broker, "at_least_once")
	namespace := strings.TrimSuffix(strings.TrimPrefix(r.group, "keystone."), ".default.route.copy")
	edits := 0
	edit := func() {
		t.Helper()
		edits++
		text := fmt.Sprintf(handedOver, namespace, broker, r.in, r.out, []string{"json", "raw"}[edits%2])
		path := filepath.Join(r.dir, "main.ks.hcl")
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	sent := each
	stopLoad := r.load(&sent)
	var steps []string
	for step := 0; ; step++ {
		if step > 20 {
			t.Fatalf("there is no end: %v", steps)
		}
		stop := r.serve(step)
		r.until("the route runs", r.runs)
		status, err := r.client().Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		before := status.Serial
		edit()
		serial := before
		r.until("the edit is taken", func() error {
			now, err := r.client().Status(t.Context())
			if err == nil {
				serial = now.Serial
			}
			if err == nil && serial == before {
				return fmt.Errorf("the serial is still %d", before)
			}
			return nil // it was taken, or the server is killed
		})
		cfg, diags := configs.Load(configs.LoadOptions{Dir: r.dir, Catalog: Catalog(), Version: "0.0.0"})
		if err := diags.Err(); err != nil {
			t.Fatal(err)
		}
		// The same goal again is not stored again: this only waits.
		_, ended := r.client().Apply(t.Context(), cfg, api.ApplyOptions{Serial: serial}, func(api.ApplyEvent) {})
		log := stop()
		_, at, dead := strings.Cut(log, "killed: ")
		if !dead {
			if ended != nil {
				t.Fatalf("step %d: %v\n%s", step, ended, log)
			}
			break // there are no more steps
		}
		at, _, _ = strings.Cut(at, "\n")
		steps = append(steps, at)
		stop = r.serve(-1)
		r.until("the route runs again", r.runs)
		stop()
	}
	stopLoad()
	stop := r.serve(-1)
	defer stop()
	r.until("everything is committed", func() error {
		offsets, err := r.adm.FetchOffsets(t.Context(), r.group)
		if err != nil {
			return err
		}
		for p := range int32(2) {
			if o, ok := offsets.Lookup(r.in, p); !ok || o.At != int64(sent) {
				return fmt.Errorf("partition %d is committed at %d of %d", p, o.At, sent)
			}
		}
		return nil
	})
	r.inOrder(sent)
	want := "the new worker is made|the new worker is a member|the route is the new worker's|the old worker is gone"
	if got := strings.Join(steps, "|"); got != want {
		t.Errorf("killed at %s, want %s", got, want)
	}
}

// load writes events until it is told to stop: *sent is then how many each partition has.
func (r *rewound) load(sent *int) (stop func()) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(r.broker), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		defer cl.Close()
		ticks := time.NewTicker(5 * time.Millisecond)
		defer ticks.Stop()
		for {
			select {
			case <-ctx.Done():
				done <- nil
				return
			case <-ticks.C:
			}
			var both []*kgo.Record
			for p := range int32(2) {
				both = append(both, &kgo.Record{Topic: r.in, Partition: p, Value: fmt.Appendf(nil, `{"n":%d}`, *sent)})
			}
			if err := cl.ProduceSync(context.Background(), both...).FirstErr(); err != nil {
				done <- err
				return
			}
			*sent++
		}
	}()
	var ended bool
	stop = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
	}
	r.t.Cleanup(stop)
	return stop
}

// inOrder wants the events 0 to n-1 in each partition of the target, their first deliveries in order.
func (r *rewound) inOrder(n int) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(r.broker), kgo.ConsumeTopics(r.out), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		r.t.Fatal(err)
	}
	defer cl.Close()
	next, repeats := [2]int{}, 0
	for next[0] < n || next[1] < n {
		fs := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			r.t.Fatalf("the target has %v events in order, of %d in each partition", next, n)
		}
		fs.EachRecord(func(rec *kgo.Record) {
			var i int
			if _, err := fmt.Sscanf(string(rec.Value), `{"n":%d}`, &i); err != nil {
				r.t.Fatalf("%s: %v", rec.Value, err)
			}
			switch at := &next[rec.Partition]; {
			case i < *at:
				repeats++
			case i > *at:
				r.t.Fatalf("partition %d: %d came before %d", rec.Partition, i, *at)
			default:
				*at++
			}
		})
	}
	r.t.Logf("%d events in each partition, %d repeated", n, repeats)
}
