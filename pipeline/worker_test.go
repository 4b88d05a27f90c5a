package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"keystone/configs"
	"keystone/dsl/eval"
	"keystone/pipeline/record"
)

// values gives n values with a letter in front.
func values(letter string, from, to int) (v []string) {
	for i := from; i < to; i++ {
		v = append(v, fmt.Sprintf("%s%d", letter, i))
	}
	return v
}

// in runs f in a bubble: time passes when everybody waits.
func in(t *testing.T, f func(t *testing.T)) { t.Helper(); synctest.Test(t, f) }

func TestBoundedSourceEndsWithEverythingSettled(t *testing.T) {
	for _, async := range []bool{false, true} {
		t.Run(fmt.Sprintf("async=%v", async), func(t *testing.T) {
			in(t, func(t *testing.T) {
				src := newMemSource(3)
				var want []string
				for i := range 100 {
					switch i % 5 {
					case 0:
						src.add(0, fmt.Sprintf("f%d", i))
					case 1:
						src.add(0, fmt.Sprintf("x%d", i))
						want = append(want, fmt.Sprintf("x%da", i), fmt.Sprintf("x%db", i))
					case 2:
						src.add(0, fmt.Sprintf("e%d", i))
					case 3:
						src.add(0, fmt.Sprintf("t%d", i))
					default:
						src.add(0, fmt.Sprintf("v%d", i))
						want = append(want, fmt.Sprintf("v%d", i))
					}
				}
				sink := newMemSink()
				sink.async = async
				g := newRig(src, sink, testRoute())
				g.start(t.Context())
				g.wait(t)
				if got := sink.values(0); !slices.Equal(got, want) {
					t.Errorf("delivered %v\nwant %v", got, want)
				}
				s := g.w.Stats()
				c := s.Total
				if c.Read != 100 || c.Delivered != 40 || c.Filtered != 20 || c.DeadLettered != 20 || c.Dropped != 20 || c.Written != 60 {
					t.Errorf("counts %+v", c)
				}
				if err := checkCounts(s); err != nil {
					t.Error(err)
				}
				if n := len(g.letters.values()); n != 20 {
					t.Errorf("%d dead letters", n)
				}
				last := src.logs[0][99].Offset + 1
				if src.committed[0] != last {
					t.Errorf("committed %d, want %d", src.committed[0], last)
				}
				if !src.closed || !sink.closed || !g.letters.closed {
					t.Error("not all parts are closed")
				}
				if s.Activity != Stopped {
					t.Errorf("activity %s", s.Activity)
				}
			})
		})
	}
}

func TestLimit(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(10).add(0, values("v", 0, 100)...)
		src.endless = true
		g := newRig(src, newMemSink(), testRoute(), func(s *Spec) { s.Limit = 13 })
		g.start(t.Context())
		g.wait(t)
		if got := g.sink.values(0); !slices.Equal(got, values("v", 0, 13)) {
			t.Errorf("delivered %v", got)
		}
		if want := src.logs[0][13].Offset; src.committedAt(0) != want && src.committedAt(0) != src.logs[0][12].Offset+1 {
			t.Errorf("committed %d, want %d", src.committedAt(0), want)
		}
	})
}

func TestSwapAtBatchBoundary(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(1).add(0, "v0")
		src.endless = true
		g := newRig(src, newMemSink(), testRoute())
		g.start(t.Context())
		synctest.Wait()
		g.w.swap(newPlan(func() evaluator { return upper{} }, testRoute(), 2, true))
		src.add(0, "v1")
		synctest.Wait()
		if got := g.sink.values(0); !slices.Equal(got, []string{"v0", "V1"}) {
			t.Errorf("delivered %v", got)
		}
		s := g.w.Stats()
		if s.Revision != 2 || s.Lanes[0].Revision != 2 || s.Lanes[0].From != 1 {
			t.Errorf("%+v", s)
		}
		if err := g.w.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		g.wait(t)
		if src.committedAt(0) != 2 {
			t.Errorf("committed %d", src.committedAt(0))
		}
	})
}

// What was asked for before a pause, and comes after it, waits for the end of the pause; or it is read again.
func TestPauseWhileReading(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(1).add(0, "v0")
		src.endless = true
		g := newRig(src, newMemSink(), testRoute())
		g.start(t.Context())
		synctest.Wait() // it waits within Read
		g.w.Pause()
		src.add(0, "v1")
		synctest.Wait()
		if got := g.sink.values(0); !slices.Equal(got, []string{"v0"}) {
			t.Errorf("delivered %v while paused", got)
		}
		g.w.Resume()
		synctest.Wait()
		if got := g.sink.values(0); !slices.Equal(got, []string{"v0", "v1"}) {
			t.Errorf("delivered %v", got)
		}
		g.w.Pause()
		src.add(0, "v2")
		synctest.Wait()
		if err := g.w.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		g.wait(t)
		if got := g.sink.values(0); len(got) != 2 || src.committedAt(0) != 2 {
			t.Errorf("delivered %v, committed %d", got, src.committedAt(0))
		}
	})
}

func TestExactlyOnceIsRefused(t *testing.T) {
	g := newRig(newMemSource(1), newMemSink(), testRoute(func(r *configs.Route) { r.Delivery.Guarantee = configs.ExactlyOnce }))
	if err := g.w.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "a stream on the same cluster") {
		t.Errorf("%v", err)
	}
}

func TestDrainGivesUpAtItsBound(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(5).add(0, values("v", 0, 10)...)
		src.endless = true
		sink := newMemSink()
		sink.hook = func(ctx context.Context, _ *record.Batch, _ func(int)) error { <-ctx.Done(); return ctx.Err() }
		g := newRig(src, sink, testRoute())
		g.start(t.Context())
		synctest.Wait()
		begin := time.Now()
		if err := g.w.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		g.wait(t)
		if took := time.Since(begin); took != 10*time.Second {
			t.Errorf("the drain took %v, the bound is 10s", took)
		}
		s := g.w.Stats()
		if s.Total.Abandoned != s.Total.Read || src.committedAt(0) != 0 {
			t.Errorf("%+v, committed %d", s.Total, src.committedAt(0))
		}
	})
}

// lingering is a sink that answers only when it is flushed.
type lingering struct {
	memSink
	waiting []func(error)
}

func (s *lingering) Write(_ context.Context, _ *record.Batch, done func(error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = append(s.waiting, done)
}

func (s *lingering) Flush() {
	s.mu.Lock()
	w := s.waiting
	s.waiting = nil
	s.mu.Unlock()
	for _, done := range w {
		done(nil)
	}
}

func TestDrainFlushes(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(10).add(0, values("v", 0, 10)...)
		src.endless = true
		g := newRig(src, &lingering{}, testRoute())
		g.start(t.Context())
		synctest.Wait()
		begin := time.Now()
		g.w.Drain(t.Context())
		g.wait(t)
		if took := time.Since(begin); took > 0 || src.committedAt(0) == 0 {
			t.Errorf("took %v, committed %d", took, src.committedAt(0))
		}
	})
}

func TestPause(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(10).add(0, values("v", 0, 50)...)
		g := newRig(src, newMemSink(), testRoute())
		g.w.Pause()
		g.start(t.Context())
		synctest.Wait()
		if s := g.w.Stats(); s.Activity != Paused || s.Total.Read != 0 {
			t.Errorf("%s, read %d", s.Activity, s.Total.Read)
		}
		g.w.Resume()
		g.wait(t)
	})
}

func TestContextEndsAtOnce(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(5).add(0, values("v", 0, 20)...)
		src.endless = true
		g := newRig(src, newMemSink(), testRoute(func(r *configs.Route) { r.Delivery.CommitInterval = time.Hour }))
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("the process ends")
		g.start(ctx)
		synctest.Wait()
		cancel(why)
		if err := <-g.ended; !errors.Is(err, why) {
			t.Errorf("ended with %v", err)
		}
		if got := src.committedAt(0); got != src.logs[0][19].Offset+1 {
			t.Errorf("committed %d: what was finished is committed", got)
		}
	})
}

// upper is another program.
type upper struct{}

func (upper) Run(in *record.Batch, i int, out *record.Batch) (eval.Verdict, *eval.Error) {
	out.Records = append(out.Records, record.Record{Value: bytes.ToUpper(in.Records[i].Value), Source: int32(i)})
	return eval.Passed, nil
}

// TestReadyAndLeave: a worker that is ready has opened source and sink; one that
// cannot says why; one that leaves does not wait for its sink, and commits what is finished.
func TestReadyAndLeave(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(5).add(0, "a")
		src.openErr = errors.New("no such host")
		g := newRig(src, newMemSink(), testRoute())
		g.start(t.Context())
		if err := g.w.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "no such host") {
			t.Errorf("ready: %v", err)
		}
		<-g.w.Done()
	})
	in(t, func(t *testing.T) {
		src := newMemSource(1).add(0, "a", "stuck", "c")
		src.endless = true
		sink := newMemSink()
		sink.hook = func(ctx context.Context, b *record.Batch, take func(int)) error {
			if string(b.Records[0].Value) == "stuck" {
				<-ctx.Done() // it never answers by itself
				return context.Cause(ctx)
			}
			take(0)
			return nil
		}
		g := newRig(src, sink, testRoute())
		g.start(t.Context())
		if err := g.w.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		begun := time.Now()
		if err := g.w.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(begun); d >= testRoute().Delivery.DrainTimeout {
			t.Errorf("it took %v to leave", d)
		}
		if got, want := src.committedAt(0), src.logs[0][1].Offset; got != want {
			t.Errorf("committed %d, want %d: what was stuck is read again", got, want)
		}
	})
}
