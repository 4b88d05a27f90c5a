package pipeline

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"keystone/configs"
	"keystone/pipeline/record"
)

// TestBackPressureStaysInItsLane: a lane whose writes do not end stops its own
// reading and nobody else's.
func TestBackPressureStaysInItsLane(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(10).add(0, values("v", 0, 10_000)...).add(1, values("v", 0, 2_000)...)
		src.endless = true
		sink := newMemSink()
		sink.async = true
		free := make(chan struct{})
		sink.hook = func(ctx context.Context, b *record.Batch, take func(int)) error {
			if b.Partition == 0 {
				<-free
			}
			for i := range b.Records {
				take(i)
			}
			return nil
		}
		const budget = 20_000
		g := newRig(src, sink, testRoute(func(r *configs.Route) { r.Limits.MaxInFlightBytes = budget }))
		g.start(t.Context())
		synctest.Wait()
		s := g.w.Stats()
		if got := len(sink.values(1)); got != 2_000 {
			t.Errorf("the free lane delivered %d of 2000", got)
		}
		if s.InFlightBytes > budget || s.InFlightBytes < budget/4 {
			t.Errorf("%d bytes in flight, the bound is %d", s.InFlightBytes, budget)
		}
		if !s.Lanes[0].Paused || s.Lanes[1].Paused || s.Activity != WaitingForSink {
			t.Errorf("paused %v and %v, %s", s.Lanes[0].Paused, s.Lanes[1].Paused, s.Activity)
		}
		close(free)
		synctest.Wait()
		if got := len(sink.values(0)); got != 10_000 {
			t.Errorf("the slow lane delivered %d of 10000", got)
		}
		g.w.Drain(t.Context())
		g.wait(t)
	})
}

// TestSinkThatBlocksHoldsReading: with one lane nothing is paused, reading waits.
func TestSinkThatBlocksHoldsReading(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(10).add(0, values("v", 0, 100_000)...)
		sink := newMemSink()
		free := make(chan struct{})
		sink.hook = func(context.Context, *record.Batch, func(int)) error { <-free; return nil }
		g := newRig(src, sink, testRoute(func(r *configs.Route) { r.Limits.MaxInFlightBytes = 100_000; r.Parallelism = 2 }))
		g.start(t.Context())
		synctest.Wait()
		if s := g.w.Stats(); s.Activity != WaitingForSink || s.InFlightBytes > 110_000 {
			t.Errorf("%s with %d bytes in flight", s.Activity, s.InFlightBytes)
		}
		close(free)
		g.wait(t)
		if c := g.w.Stats().Total; c.Delivered != 100_000 {
			t.Errorf("%+v", c)
		}
	})
}

// deaf is a source that does not heed Pause.
type deaf struct{ *memSource }

func (deaf) Pause([]int32) {}

// TestSourceThatDoesNotPauseIsHeldToo: its records do not fill the memory, and
// the drain is still bounded.
func TestSourceThatDoesNotPauseIsHeldToo(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(10).add(0, values("v", 0, 1_000)...).add(1, values("f", 0, 1_000)...)
		src.endless = true
		sink := newMemSink()
		sink.hook = func(ctx context.Context, _ *record.Batch, _ func(int)) error { <-ctx.Done(); return ctx.Err() }
		const budget = 10_000
		w := newWorker(Spec{Route: testRoute(func(r *configs.Route) { r.Limits.MaxInFlightBytes = budget }), Source: deaf{src}, Sink: sink}, newCommands)
		ended := make(chan error, 1)
		go func() { ended <- w.Run(t.Context()) }()
		synctest.Wait()
		if s := w.Stats(); s.InFlightBytes > 2*budget || s.Activity != WaitingForSink {
			t.Errorf("%d bytes in flight, %s", s.InFlightBytes, s.Activity)
		}
		begin := time.Now()
		w.Drain(t.Context())
		if err := <-ended; err != nil || time.Since(begin) != 10*time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		if err := checkCounts(w.Stats()); err != nil {
			t.Error(err)
		}
	})
}

func TestThrottle(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(1000).add(0, values("v", 0, 1000)...)
		g := newRig(src, newMemSink(), testRoute(func(r *configs.Route) { r.Throttle.RecordsPerSecond = 100 }))
		begin := time.Now()
		g.start(t.Context())
		time.Sleep(5*time.Second + time.Millisecond)
		s := g.w.Stats()
		if s.Total.Read < 490 || s.Total.Read > 520 || s.Activity != Throttled {
			t.Errorf("read %d after 5s, %s", s.Total.Read, s.Activity)
		}
		g.w.swap(newPlan(newCommands, testRoute(), 2, true)) // lifts it
		g.wait(t)
		if took := time.Since(begin); took > 6*time.Second {
			t.Errorf("took %v", took)
		}
	})
}
