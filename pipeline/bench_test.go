package pipeline

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"keystone/configs"
	"keystone/pipeline/record"
	"keystone/sources"
)

// endlessSource gives one prepared block again and again, without copying.
type endlessSource struct {
	values [][]byte
	keys   [][]byte
	parts  int32
	left   int
	turn   int32
	offset int64
}

func (s *endlessSource) Open(_ context.Context, _ []record.Position, l sources.Listener) error {
	var p []record.Position
	for i := range s.parts {
		p = append(p, record.Position{Partition: i})
	}
	l.Assigned(p)
	return nil
}

func (s *endlessSource) Read(_ context.Context, b *record.Batch) error {
	if s.left <= 0 {
		return io.EOF
	}
	s.turn = (s.turn + 1) % s.parts
	b.Partition = s.turn
	for _, v := range s.values {
		b.Records = append(b.Records, record.Record{Offset: s.offset, Key: s.keys[s.offset&7], Value: v})
		b.Bytes += len(v)
		s.offset++
	}
	s.left -= len(s.values)
	b.Next = record.Position{Partition: s.turn, Offset: s.offset}
	return nil
}

func (s *endlessSource) Commit(context.Context, []record.Position) error { return nil }
func (s *endlessSource) Pause([]int32)                                   {}
func (s *endlessSource) Resume([]int32)                                  {}
func (s *endlessSource) Close(context.Context) error                     { return nil }

// nullSink takes everything.
type nullSink struct{ n atomic.Int64 }

func (s *nullSink) Open(context.Context) error { return nil }
func (s *nullSink) Write(_ context.Context, b *record.Batch, done func(error)) {
	s.n.Add(int64(len(b.Records)))
	done(nil)
}
func (s *nullSink) Close(context.Context) error { return nil }

func benchWorker(n int, parts int32, parallelism int, order configs.Order) *Worker {
	src := &endlessSource{left: n, parts: parts, keys: eightKeys()}
	for i := range 2500 {
		v := strings.Repeat("v", 400)
		if i%5 != 0 {
			v = "f" + v
		}
		src.values = append(src.values, []byte(v))
	}
	route := testRoute(func(r *configs.Route) { r.Parallelism, r.Order = parallelism, order; r.Limits.MaxRecordBytes = 1 << 20 })
	return newWorker(Spec{Route: route, Revision: 1, Source: src, Sink: &nullSink{}}, newCommands)
}

// BenchmarkRecord is what the pipeline adds to a record: reading a prepared
// batch, a program that only looks at one byte, a sink that takes everything.
func BenchmarkRecord(b *testing.B) {
	for _, c := range []struct {
		parallelism int
		order       configs.Order
	}{{1, configs.OrderPartition}, {2, configs.OrderPartition}, {1, configs.OrderKey}, {1, configs.OrderNone}} {
		b.Run(fmt.Sprintf("parallelism=%d/order=%s", c.parallelism, c.order), func(b *testing.B) {
			w := benchWorker(b.N, 1, c.parallelism, c.order)
			b.ReportAllocs()
			b.ResetTimer()
			if err := w.Run(b.Context()); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// TestNothingIsAllocatedPerRecord holds the hot path to its promise: what a
// run allocates does not grow with the records that it moves.
func TestNothingIsAllocatedPerRecord(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	const records = 2_000_000
	for _, order := range orders {
		run := func(n int) float64 {
			return testing.AllocsPerRun(3, func() {
				if err := benchWorker(n, 4, 2, order).Run(t.Context()); err != nil {
					t.Fatal(err)
				}
			})
		}
		few, many := run(100_000), run(records)
		perBatch := (many - few) / ((records - 100_000) / 2500)
		t.Logf("order %s: %.0f allocations for 100,000 records, %.0f for %d: %.2f per batch of 2500", order, few, many, records, perBatch)
		if perBatch > 20 || order == configs.OrderPartition && perBatch > 5 { // starting runners, pools that the collector emptied
			t.Errorf("order %s: %.1f allocations per batch, so they grow with the records", order, perBatch)
		}
	}
}

// BenchmarkStats is a scrape of an idle route with eight lanes.
func BenchmarkStats(b *testing.B) {
	src := newMemSource(10)
	src.endless = true
	for p := range int32(8) {
		src.add(p, values("v", 0, 100)...)
	}
	g := newRig(src, newMemSink(), testRoute())
	g.start(b.Context())
	defer g.w.Drain(b.Context())
	b.ReportAllocs()
	for b.Loop() {
		g.w.Stats()
	}
}

// BenchmarkIdleRoute is what a route that has nothing to do holds in memory.
func BenchmarkIdleRoute(b *testing.B) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const routes = 1000
	var rigs []*rig
	for range routes {
		src := newMemSource(100).add(0, values("v", 0, 1000)...)
		src.endless = true
		g := newRig(src, &nullSink{}, testRoute())
		g.start(b.Context())
		rigs = append(rigs, g)
	}
	for _, g := range rigs {
		for g.w.Stats().Total.Delivered < 1000 {
			runtime.Gosched()
		}
	}
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc+after.StackInuse-before.HeapAlloc-before.StackInuse)/routes, "B/route")
	for _, g := range rigs {
		g.w.Drain(b.Context())
	}
}

// slowSink answers each write after a while, as a destination across a network does.
type slowSink struct {
	nullSink
	wait time.Duration
}

func (s *slowSink) Write(ctx context.Context, b *record.Batch, done func(error)) {
	time.Sleep(s.wait)
	s.nullSink.Write(ctx, b, done)
}

// BenchmarkSlowSink is one partition to a sink that takes 5 ms for every write: what
// the orders that allow several writes at once buy. An op is a record.
func BenchmarkSlowSink(b *testing.B) {
	for _, order := range orders {
		b.Run("order="+string(order), func(b *testing.B) {
			w := benchWorker(b.N, 1, 1, order)
			w.sink = &slowSink{wait: 5 * time.Millisecond}
			b.ResetTimer()
			if err := w.Run(b.Context()); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}
