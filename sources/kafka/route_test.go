package kafka_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"keystone/pipeline/record"
	"keystone/sinks"
	sinkkafka "keystone/sinks/kafka"
	"keystone/sources"
	"keystone/sources/kafka"
	"keystone/sources/kafka/client"
)

// route copies a topic into another: it commits what the sink has
// acknowledged, in order, as a worker does.
type route struct {
	t      testing.TB
	src    sources.Source
	sink   sinks.Sink
	cancel context.CancelFunc
	done   chan struct{}

	mu       sync.Mutex
	lanes    map[int32]*copyLane
	problems []error
	behind   map[int32]record.Position // acknowledged, not committed
	kick     chan struct{}
	commits  sync.WaitGroup
}

type copyLane struct {
	flying []*flight // in order of reading
}

type flight struct {
	next  record.Position
	acked bool
}

func startRoute(t testing.TB, src kafka.Config, dst sinkkafka.Config) *route {
	t.Helper()
	src.Instance = "route"
	s, err := src.New(sources.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := dst.New(sinks.Deps{Route: "route.copy"})
	if err != nil {
		t.Fatal(err)
	}
	r := &route{t: t, src: s, sink: d, done: make(chan struct{}), lanes: map[int32]*copyLane{}, behind: map[int32]record.Position{}, kick: make(chan struct{}, 1)}
	if err := d.Open(within(t)); err != nil {
		t.Fatal(err)
	}
	if err := s.Open(within(t), nil, r); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	r.commits.Go(func() {
		for ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-r.kick:
			}
			r.commitAll(within(t))
		}
	})
	go r.run(ctx)
	return r
}

// commit notes a position for the next round of commitAll.
func (r *route) commit(p record.Position) {
	r.mu.Lock()
	r.behind[p.Partition] = p
	r.mu.Unlock()
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

func (r *route) commitAll(ctx context.Context) {
	r.mu.Lock()
	all := slices.Collect(maps.Values(r.behind))
	clear(r.behind)
	r.mu.Unlock()
	if err := r.src.Commit(ctx, all); err != nil {
		r.t.Log("commit:", err)
		for _, p := range all {
			r.mu.Lock()
			if _, newer := r.behind[p.Partition]; !newer {
				r.behind[p.Partition] = p
			}
			r.mu.Unlock()
		}
	}
}

func (r *route) run(ctx context.Context) {
	defer close(r.done)
	for ctx.Err() == nil {
		b := &record.Batch{}
		err := r.src.Read(ctx, b)
		if sources.IsFatal(err) {
			r.t.Error(err)
			return
		}
		if err != nil && ctx.Err() == nil {
			r.mu.Lock()
			r.problems = append(r.problems, err)
			r.mu.Unlock()
		}
		if len(b.Records) == 0 {
			continue
		}
		r.mu.Lock()
		l := r.lanes[b.Partition]
		f := &flight{next: b.Next}
		if l != nil {
			l.flying = append(l.flying, f)
		}
		r.mu.Unlock()
		if l != nil {
			r.write(ctx, l, f, b)
		}
	}
}

// write repeats what fails, as a worker does.
func (r *route) write(ctx context.Context, l *copyLane, f *flight, b *record.Batch) {
	r.sink.Write(ctx, b, func(err error) {
		if err != nil {
			if ctx.Err() == nil {
				r.t.Log("write again:", err)
				go r.write(ctx, l, f, b)
			}
			return
		}
		r.mu.Lock()
		f.acked = true
		var commit []record.Position
		for len(l.flying) > 0 && l.flying[0].acked {
			commit = []record.Position{l.flying[0].next}
			l.flying = l.flying[1:]
		}
		r.mu.Unlock()
		if len(commit) > 0 {
			r.commit(commit[0])
		}
	})
}

func (r *route) close() {
	r.cancel()
	<-r.done
	if err := r.sink.Close(within(r.t)); err != nil {
		r.t.Error(err)
	}
	r.commits.Wait()
	r.commitAll(within(r.t))
	if err := r.src.Close(within(r.t)); err != nil {
		r.t.Error(err)
	}
}

func (r *route) Assigned(ps []record.Position) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range ps {
		r.lanes[p.Partition] = &copyLane{}
	}
}

func (r *route) Revoked(_ context.Context, parts []int32) { r.Lost(parts) }

func (r *route) Lost(parts []int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range parts {
		delete(r.lanes, p)
	}
}

func (r *route) DataLoss(p int32, from, to int64) {
	r.t.Errorf("partition %d lost %d to %d", p, from, to)
}

// verify reads the target until it holds the values 0..n-1 of every
// partition, each first written in its order.
func verify(t testing.TB, o client.Options, topic string, partitions, n int) (repeats int) {
	t.Helper()
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	next := make([]int, partitions)
	err := kafka.Tap{Client: o, Topic: topic, Follow: true}.Read(ctx, func(b *record.Batch) error {
		for _, r := range b.Records {
			var v int
			if _, err := fmt.Sscan(string(r.Value), &v); err != nil {
				return err
			}
			switch p := b.Partition; {
			case v == next[p]:
				next[p]++
			case v < next[p]:
				repeats++
			default:
				return fmt.Errorf("partition %d: %d comes first, want %d", p, v, next[p])
			}
		}
		for _, at := range next {
			if at < n {
				return nil
			}
		}
		return kafka.ErrStop
	})
	if err != nil {
		t.Fatalf("%v; each partition is at %v of %d", err, next, n)
	}
	return repeats
}

// keyless writes values without keys.
func keyless(t testing.TB, o client.Options, topic string, partitions, from, to int) {
	t.Helper()
	s, err := (&sinkkafka.Config{Client: o, Topic: topic}).New(sinks.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Open(within(t)); err != nil {
		t.Fatal(err)
	}
	defer s.Close(within(t))
	for p := range partitions {
		b := &record.Batch{Partition: int32(p)}
		for i := from; i < to; i++ {
			v := fmt.Appendf(nil, "%d", i)
			b.Records, b.Bytes = append(b.Records, record.Record{Value: v}), b.Bytes+len(v)
		}
		done := make(chan error, 1)
		s.Write(within(t), b, func(err error) { done <- err })
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// A route that is closed midway and started again has copied everything.
func testRoute(t *testing.T, o client.Options) {
	in, _ := topic(t, o, 4, nil)
	out, _ := topic(t, o, 4, nil)
	keyless(t, o, in, 4, 0, 5000)
	src := kafka.Config{Client: o, Topic: in, Group: "g-" + in, BatchRecords: 100}
	dst := sinkkafka.Config{Client: o, Topic: out, Compression: "lz4", Origin: true}
	r := startRoute(t, src, dst)
	verify(t, o, out, 4, 1000)
	r.close()
	keyless(t, o, in, 4, 5000, 6000)
	r = startRoute(t, src, dst)
	repeats := verify(t, o, out, 4, 6000)
	r.close()
	if repeats != 0 {
		t.Errorf("%d records were written again, although everything was committed", repeats)
	}
}

// TestRealBrokerRestart kills a broker of its own under a route and starts
// it again: nothing is lost, and the order holds.
func TestRealBrokerRestart(t *testing.T) {
	script := os.Getenv("KEYSTONE_TEST_KAFKA_SH")
	if script == "" {
		t.Skip("no real Kafka: run `make e2e`, which sets KEYSTONE_TEST_KAFKA_SH to the script that starts one")
	}
	data := filepath.Join(t.TempDir(), "data")
	ctl := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(script, append(args, "--data", data)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	addr := ctl("start", "--port", "0")
	t.Cleanup(func() { ctl("stop", "--kill") })
	o := client.Options{Brokers: []string{addr[strings.LastIndexByte(addr, '\n')+1:]}}
	in, a := topic(t, o, 4, nil)
	out, _ := topic(t, o, 4, nil)
	r := startRoute(t, kafka.Config{Client: o, Topic: in, Group: "g-" + in, BatchRecords: 50, Linger: 50 * time.Millisecond}, sinkkafka.Config{Client: o, Topic: out})
	keyless(t, o, in, 4, 0, 2000)
	verify(t, o, out, 4, 500)
	for round := range 2 {
		how := []string{"stop"}
		if round == 1 {
			how = append(how, "--kill")
		}
		t0 := time.Now()
		ctl(how...)
		t1 := time.Now()
		r.awaitProblem(o.Brokers[0])
		t2 := time.Now()
		ctl("start")
		t3 := time.Now()
		keyless(t, o, in, 4, 2000+1000*round, 3000+1000*round)
		t4 := time.Now()
		t.Logf("stop %v, noticed %v, start %v, write %v", t1.Sub(t0), t2.Sub(t1), t3.Sub(t2), t4.Sub(t3))
		verify(t, o, out, 4, 3000+1000*round)
		t.Logf("caught up after %v", time.Since(t4))
	}
	repeats := verify(t, o, out, 4, 4000)
	t5 := time.Now()
	r.close()
	t.Logf("closed in %v", time.Since(t5))
	gs, err := a.Groups(within(t), "g-"+in)
	if err != nil {
		t.Fatal(err)
	}
	_, now, err := a.ObserveOffsets(within(t), in)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d records were written again; lag %v", repeats, gs["g-"+in].Lag(in, now[in]))
}

// awaitProblem waits until reading says that the broker is gone, with its address.
func (r *route) awaitProblem(addr string) {
	r.t.Helper()
	for ctx := within(r.t); ; {
		r.mu.Lock()
		for _, err := range r.problems {
			if strings.Contains(err.Error(), "cannot connect to the cluster at "+addr) {
				r.problems = nil
				r.mu.Unlock()
				return
			}
		}
		r.mu.Unlock()
		select {
		case <-ctx.Done():
			r.t.Fatalf("the broker is gone, and reading says %v", r.problems)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
