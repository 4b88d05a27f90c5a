package pipeline

import (
	"context"
	"slices"
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

// greedy is a source that gives more than is asked for.
type greedy struct{ *memSource }

func (g greedy) Read(ctx context.Context, b *record.Batch) error {
	b.Want = record.Want{}
	return g.memSource.Read(ctx, b)
}

// TestThrottleOfAGreedySource: what is read at once goes on bit by bit.
func TestThrottleOfAGreedySource(t *testing.T) {
	for name, edit := range map[string]func(*configs.Route){
		"records": func(r *configs.Route) { r.Throttle.RecordsPerSecond = 100 },
		"bytes":   func(r *configs.Route) { r.Throttle.BytesPerSecond = 800 }, // a record has 8, the first ones less
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T) {
				src := newMemSource(1000).add(0, values("v", 100, 1000)...)
				sink := newMemSink()
				w := newWorker(Spec{Route: testRoute(edit), Source: greedy{src}, Sink: sink, DeadLetters: &memLetters{}}, newCommands)
				ended := make(chan error, 1)
				begin := time.Now()
				go func() { ended <- w.Run(t.Context()) }()
				for second := range 5 {
					time.Sleep(time.Second)
					synctest.Wait()
					s := w.Stats()
					if got, want := s.Total.Read, int64(100*(second+1)); got < want-10 || got > want+30 || s.Activity != Throttled {
						t.Errorf("read %d after %d s, %s", got, second+1, s.Activity)
					}
				}
				if got := len(sink.values(0)); got < 490 || got > 530 {
					t.Errorf("delivered %d after 5 s", got)
				}
				w.swap(newPlan(newCommands, testRoute(), 2, true)) // lifts it, also for what was read
				if err := <-ended; err != nil {
					t.Fatal(err)
				}
				if got := sink.values(0); !slices.Equal(got, values("v", 100, 1000)) {
					t.Errorf("delivered %d: %v", len(got), got)
				}
				if took := time.Since(begin); took > 6*time.Second {
					t.Errorf("took %v", took)
				}
				if err := checkCounts(w.Stats()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestWhatIsThrottledBelongsToItsLane: A: a batch is read and waits for the throttle. B: the
// partition is revoked and comes back. A: the rest is not given to the new lane, which reads it itself.
func TestWhatIsThrottledBelongsToItsLane(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(1000).add(0, values("v", 0, 300)...)
		src.endless = true
		sink := newMemSink()
		w := newWorker(Spec{Route: testRoute(func(r *configs.Route) { r.Throttle.RecordsPerSecond = 100 }), Source: greedy{src}, Sink: sink, DeadLetters: &memLetters{}}, newCommands)
		ended := make(chan error, 1)
		go func() { ended <- w.Run(t.Context()) }()
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		src.revoke(t.Context(), 0)
		src.assign(0)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if got := sink.values(0); !slices.Equal(got, values("v", 0, 300)) {
			t.Errorf("delivered %d: %v", len(got), got)
		}
		if err := w.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := checkCounts(w.Stats()); err != nil || src.violations != nil {
			t.Error(err, src.violations)
		}
		if got, want := src.committedAt(0), src.logs[0][299].Offset+1; got != want {
			t.Errorf("committed %d, want %d", got, want)
		}
	})
}

// TestDrainDoesNotWaitForTheThrottle: what was read and not given to a lane is left.
func TestDrainDoesNotWaitForTheThrottle(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(1000).add(0, values("v", 0, 1000)...)
		released := 0
		w := newWorker(Spec{Route: testRoute(func(r *configs.Route) { r.Throttle.RecordsPerSecond = 10 }), Source: lending{greedy{src}, &released}, Sink: newMemSink(), DeadLetters: &memLetters{}}, newCommands)
		ended := make(chan error, 1)
		go func() { ended <- w.Run(t.Context()) }()
		time.Sleep(2*time.Second + time.Millisecond)
		begin := time.Now()
		w.Drain(t.Context())
		if err := <-ended; err != nil || time.Since(begin) > time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		s := w.Stats()
		if err := checkCounts(s); err != nil || s.Total.Read > 30 || src.committedAt(0) != src.logs[0][s.Total.Read].Offset {
			t.Errorf("%v, %+v, committed %d", err, s.Total, src.committedAt(0))
		}
		if released != 1 {
			t.Errorf("the batch was released %d times", released)
		}
	})
}

// lending counts the batches that come back.
type lending struct {
	greedy
	released *int
}

func (l lending) Read(ctx context.Context, b *record.Batch) error {
	err := l.greedy.Read(ctx, b)
	b.OnRelease(func(b *record.Batch) { *l.released++; b.OnRelease(nil) })
	return err
}
