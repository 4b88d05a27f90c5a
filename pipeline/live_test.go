package pipeline

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"keystone/configs"
	"keystone/dsl/eval"
	"keystone/pipeline/record"
)

// change swaps in a route that differs in one option.
func (g *rig) change(edit ...func(*configs.Route)) {
	g.w.swap(newPlan(newCommands, testRoute(edit...), g.w.Stats().Revision+1, true))
}

func (g *rig) drain(t *testing.T) {
	t.Helper()
	g.w.Drain(t.Context())
	g.wait(t)
}

// endless gives a source of n records that has no end.
func endless(size, n int) *memSource {
	src := newMemSource(size).add(0, values("v", 0, n)...)
	src.endless = true
	return src
}

// stuckSink takes nothing until it is freed, is slow then, and counts the attempts.
func stuckSink() (sink *memSink, attempts func() int, free func()) {
	var mu sync.Mutex
	n, stuck := 0, true
	sink = newMemSink()
	sink.hook = func(_ context.Context, b *record.Batch, take func(int)) error {
		mu.Lock()
		defer mu.Unlock()
		n++
		if stuck {
			return errors.New("not now")
		}
		mu.Unlock()
		time.Sleep(20 * time.Millisecond)
		mu.Lock()
		for i := range b.Records {
			take(i)
		}
		return nil
	}
	return sink, func() int { mu.Lock(); defer mu.Unlock(); return n }, func() { mu.Lock(); defer mu.Unlock(); stuck = false }
}

// The tests below are of one option each: a change takes effect on the worker that
// runs, without a new one.

func TestLiveCommitInterval(t *testing.T) {
	in(t, func(t *testing.T) {
		src := endless(10, 10)
		long := func(r *configs.Route) { r.Delivery.CommitInterval = 10 * time.Minute }
		g := newRig(src, newMemSink(), testRoute(long))
		g.start(t.Context())
		time.Sleep(time.Minute)
		if got := src.committedAt(0); got != 0 || len(g.sink.values(0)) != 10 {
			t.Fatalf("committed %d, delivered %d", got, len(g.sink.values(0)))
		}
		g.change() // one second, which is over
		synctest.Wait()
		if got := src.committedAt(0); got == 0 {
			t.Error("the old interval is waited for")
		}
		before := src.committedAt(0)
		src.add(0, "v10")
		time.Sleep(900 * time.Millisecond)
		g.change(long)
		time.Sleep(9 * time.Minute)
		if got := src.committedAt(0); got != before {
			t.Errorf("committed %d after the shorter interval", got)
		}
		time.Sleep(time.Minute)
		if got := src.committedAt(0); got == before {
			t.Error("not committed after the longer interval")
		}
		g.drain(t)
	})
}

func TestLiveDrainTimeout(t *testing.T) {
	in(t, func(t *testing.T) {
		sink, _, _ := stuckSink()
		g := newRig(endless(10, 10), sink, testRoute(func(r *configs.Route) { r.Delivery.DrainTimeout = time.Hour }))
		g.start(t.Context())
		synctest.Wait()
		g.change(func(r *configs.Route) { r.Delivery.DrainTimeout = 3 * time.Second })
		begin := time.Now()
		g.drain(t)
		if took := time.Since(begin); took != 3*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestLiveMaxInFlightBytes(t *testing.T) {
	forOrders(t, func(t *testing.T, order configs.Order) {
		src := endless(10, 4000).add(1, values("v", 4000, 8000)...) // with two lanes the source is told to pause
		sink, _, free := stuckSink()
		bound := func(n int64) func(*configs.Route) {
			return func(r *configs.Route) { r.Order, r.Limits.MaxInFlightBytes = order, n }
		}
		g := newRig(src, sink, testRoute(bound(40_000)))
		g.start(t.Context())
		time.Sleep(time.Hour)
		if n := g.w.Stats().InFlightBytes; n < 40_000 || n > 80_000 {
			t.Errorf("%d bytes in flight with a bound of 40,000", n)
		}
		g.change(bound(400_000))
		synctest.Wait() // nothing got an outcome
		if n := g.w.Stats().InFlightBytes; n < 400_000 || n > 440_000 {
			t.Errorf("%d bytes in flight with a bound of 400,000", n)
		}
		g.change(bound(80_000))
		free()
		low := 0
		for range 600 {
			time.Sleep(100 * time.Millisecond)
			switch n := g.w.Stats().InFlightBytes; {
			case n > 0 && n < 100_000:
				low++
			case low > 0 && n > 160_000: // a lane may be over its share by what was read at once
				t.Errorf("%d bytes in flight with a bound of 80,000", n)
			}
		}
		if low == 0 {
			t.Error("too fast to see")
		}
		if c := g.w.Stats().Total; c.Delivered != 8000 {
			t.Errorf("%+v", c)
		}
		g.drain(t)
	})
}

func TestLiveMaxRecordBytes(t *testing.T) {
	in(t, func(t *testing.T) {
		src := endless(1, 0)
		src.add(0, "v-long")
		g := newRig(src, newMemSink(), testRoute())
		g.start(t.Context())
		synctest.Wait()
		g.change(func(r *configs.Route) { r.Limits.MaxRecordBytes = 5 })
		src.add(0, "v-more")
		synctest.Wait()
		if got := g.letters.values(); !slices.Equal(got, []string{"v-more"}) || g.letters.letters[0].Code != "too_large" {
			t.Errorf("%v", got)
		}
		g.drain(t)
	})
}

// wanting notes what the worker asks its source for.
type wanting struct {
	*memSource
	mu   sync.Mutex
	want record.Want
}

func (s *wanting) Read(ctx context.Context, b *record.Batch) error {
	s.mu.Lock()
	s.want = b.Want
	s.mu.Unlock()
	return s.memSource.Read(ctx, b)
}

func TestLiveBatch(t *testing.T) {
	in(t, func(t *testing.T) {
		src := &wanting{memSource: endless(1000, 10)}
		batch := configs.Batch{Bytes: 10_000, Records: 10, Linger: time.Second}
		w := newWorker(Spec{Route: testRoute(func(r *configs.Route) { r.Batch = batch }), Source: src, Sink: newMemSink(), DeadLetters: &memLetters{}}, newCommands)
		ended := make(chan error, 1)
		go func() { ended <- w.Run(t.Context()) }()
		asked := func() record.Want {
			src.add(0, "v") // ends the read that was begun
			synctest.Wait()
			src.mu.Lock()
			defer src.mu.Unlock()
			return src.want
		}
		for _, b := range []configs.Batch{batch, {Bytes: 20_000, Records: 10, Linger: time.Second}, {Bytes: 20_000, Records: 20, Linger: time.Second}, {Bytes: 20_000, Records: 20, Linger: time.Minute}} {
			w.swap(newPlan(newCommands, testRoute(func(r *configs.Route) { r.Batch = b }), 2, true))
			if got := asked(); got != (record.Want{Records: b.Records, Bytes: int(b.Bytes), Linger: b.Linger}) {
				t.Errorf("%+v, want %+v", got, b)
			}
		}
		w.Drain(t.Context())
		<-ended
	})
}

// TestBatchIsLeftToTheSource: a route that says nothing of its batches does not do so later, either.
// With a limit, what is left of it is a bound.
func TestBatchIsLeftToTheSource(t *testing.T) {
	for _, limit := range []int64{0, 5} {
		in(t, func(t *testing.T) {
			src := &wanting{memSource: endless(1000, 1)}
			w := newWorker(Spec{Route: testRoute(), Source: src, Sink: newMemSink(), DeadLetters: &memLetters{}, Limit: limit}, newCommands)
			ended := make(chan error, 1)
			go func() { ended <- w.Run(t.Context()) }()
			for n := range 4 { // batches that were read before
				synctest.Wait()
				want := record.Want{}
				if limit > 0 {
					want.Records = int(limit) - n - 1
				}
				src.mu.Lock()
				if src.want != want {
					t.Errorf("limit %d, after %d batches: the source was asked for %+v, want %+v", limit, n+1, src.want, want)
				}
				src.mu.Unlock()
				src.add(0, "v")
			}
			w.Drain(t.Context())
			<-ended
		})
	}
}

// TestLiveRetryWaits: initial and max. What waits by the old policy is tried at once, and then by the new one.
func TestLiveRetryWaits(t *testing.T) {
	forOrders(t, func(t *testing.T, order configs.Order) {
		policy := func(initial, most time.Duration) func(*configs.Route) {
			return func(r *configs.Route) { r.Order, r.Retry.Initial, r.Retry.Max = order, initial, most }
		}
		sink, attempts, free := stuckSink()
		g := newRig(endless(10, 10), sink, testRoute(policy(time.Hour, time.Hour)))
		g.start(t.Context())
		time.Sleep(time.Minute)
		first := attempts()
		if first == 0 || first > writesPerLane {
			t.Errorf("%d attempts in the first minute", first)
		}
		g.change(policy(time.Hour, time.Hour), func(r *configs.Route) { r.Delivery.CommitInterval = time.Minute })
		synctest.Wait()
		if n := attempts(); n != first {
			t.Errorf("another option had it tried again")
		}
		g.change(policy(time.Second, time.Hour)) // initial
		synctest.Wait()
		if n := attempts(); n != 2*first {
			t.Errorf("%d attempts after the change, before there were %d", n, first)
		}
		time.Sleep(2 * time.Second)
		if n := attempts(); n < 3*first {
			t.Errorf("%d attempts two seconds after", n)
		}
		time.Sleep(10 * time.Hour) // it has grown to an hour
		g.change(policy(time.Second, 2*time.Second))
		time.Sleep(time.Minute)
		before := attempts()
		time.Sleep(time.Minute)
		if n := attempts() - before; n < 20*first || n > 60*first {
			t.Errorf("%d attempts in a minute with max = 2s, of %d", n, first)
		}
		free()
		time.Sleep(5 * time.Second)
		if got := g.sink.values(0); len(got) != 10 {
			t.Errorf("%v", got)
		}
		g.drain(t)
	})
}

// TestLiveRetryBounds: what is being tried again is given up when the new policy says so.
func TestLiveRetryBounds(t *testing.T) {
	for name, bound := range map[string]func(*configs.Route){
		"max_attempts": func(r *configs.Route) { r.Retry.MaxAttempts = 3 },
		"max_elapsed":  func(r *configs.Route) { r.Retry.MaxElapsed = time.Minute },
	} {
		t.Run(name, func(t *testing.T) {
			forOrders(t, func(t *testing.T, order configs.Order) {
				keep := func(r *configs.Route) { r.Order = order }
				sink, _, _ := stuckSink()
				g := newRig(endless(10, 10), sink, testRoute(keep))
				g.start(t.Context())
				time.Sleep(time.Hour)
				if n := g.w.Stats().InFlightRecords; n != 10 {
					t.Errorf("%d in flight", n)
				}
				g.change(keep, bound)
				synctest.Wait()
				if c := g.w.Stats().Total; c.DeadLettered != 10 || g.letters.letters[0].Code != "retries_exhausted" {
					t.Errorf("%+v", c)
				}
				g.drain(t)
			})
		})
	}
}

func TestLiveRetryOfReading(t *testing.T) {
	in(t, func(t *testing.T) {
		src := endless(10, 10)
		var mu sync.Mutex
		away := errors.New("away")
		src.onRead = func() error { mu.Lock(); defer mu.Unlock(); return away }
		g := newRig(src, newMemSink(), testRoute(func(r *configs.Route) { r.Retry.Initial, r.Retry.Max = time.Hour, time.Hour }))
		g.start(t.Context())
		time.Sleep(time.Minute)
		mu.Lock()
		away = nil
		mu.Unlock()
		g.change()
		synctest.Wait()
		if s := g.w.Stats(); s.Total.Delivered != 10 || s.Activity != Fetching || s.Error != "" {
			t.Errorf("%s %s %+v", s.Activity, s.Error, s.Total)
		}
		g.drain(t)
	})
}

func TestLiveThrottle(t *testing.T) {
	for name, limit := range map[string]func(*configs.Route, int64){
		"records_per_second": func(r *configs.Route, n int64) { r.Throttle.RecordsPerSecond = int(n) },
		"bytes_per_second":   func(r *configs.Route, n int64) { r.Throttle.BytesPerSecond = n * 8 }, // a record has 8 to 10
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T) {
				g := newRig(endless(1000, 10_000), newMemSink(), testRoute(func(r *configs.Route) { limit(r, 1) }))
				g.start(t.Context())
				time.Sleep(time.Minute)
				first := g.w.Stats().Total.Read
				if first < 45 || first > 110 {
					t.Errorf("read %d in a minute", first)
				}
				g.change(func(r *configs.Route) { limit(r, 100) })
				time.Sleep(10 * time.Second)
				if n := g.w.Stats().Total.Read - first; n < 750 || n > 1100 {
					t.Errorf("read %d in ten seconds with a hundredfold", n)
				}
				g.change()
				synctest.Wait()
				if n := g.w.Stats().Total.Read; n != 10_000 {
					t.Errorf("read %d without a throttle", n)
				}
				g.drain(t)
			})
		})
	}
}

func TestLiveOnError(t *testing.T) {
	in(t, func(t *testing.T) {
		src := endless(1, 0)
		src.add(0, "e0")
		g := newRig(src, newMemSink(), testRoute())
		g.start(t.Context())
		synctest.Wait()
		g.change(func(r *configs.Route) { r.OnError = configs.DropRecord })
		src.add(0, "e1")
		synctest.Wait()
		if c := g.w.Stats().Total; c.DeadLettered != 1 || c.Dropped != 1 {
			t.Errorf("%+v", c)
		}
		g.change(func(r *configs.Route) { r.OnError = configs.StopRoute })
		src.add(0, "e2")
		if err := <-g.ended; !IsHalt(err) {
			t.Errorf("%v", err)
		}
	})
}

func TestLiveOnDataLoss(t *testing.T) {
	in(t, func(t *testing.T) {
		g := newRig(endless(1, 1), newMemSink(), testRoute())
		g.start(t.Context())
		synctest.Wait()
		listener{g.w}.DataLoss(0, 5, 7)
		g.change(func(r *configs.Route) { r.OnDataLoss = "stop" })
		synctest.Wait()
		listener{g.w}.DataLoss(0, 8, 9)
		if err := <-g.ended; err == nil || !strings.Contains(err.Error(), "on_data_loss") || g.w.Stats().LostBeforeRead != 3 {
			t.Errorf("%v", err)
		}
	})
}

// crowd is an evaluator that takes a second for each record and knows how many run beside it.
type crowd struct {
	mu        *sync.Mutex
	now, most *int
}

func (c crowd) Run(in *record.Batch, i int, out *record.Batch) (eval.Verdict, *eval.Error) {
	c.mu.Lock()
	*c.now++
	*c.most = max(*c.most, *c.now)
	c.mu.Unlock()
	time.Sleep(time.Second)
	c.mu.Lock()
	*c.now--
	c.mu.Unlock()
	return (&commands{}).Run(in, i, out)
}

func TestLiveParallelism(t *testing.T) {
	forOrders(t, func(t *testing.T, order configs.Order) {
		var mu sync.Mutex
		var now, most int
		evals := func() evaluator { return crowd{&mu, &now, &most} }
		route := func(n int) *configs.Route {
			return testRoute(func(r *configs.Route) { r.Order, r.Parallelism = order, n })
		}
		src := endless(1, 1000)
		sink := newMemSink()
		w := newWorker(Spec{Route: route(1), Source: src, Sink: sink, DeadLetters: &memLetters{}}, evals)
		ended := make(chan error, 1)
		go func() { ended <- w.Run(t.Context()) }()
		peak := func() int {
			mu.Lock()
			most = 0
			mu.Unlock()
			time.Sleep(20 * time.Second)
			mu.Lock()
			defer mu.Unlock()
			return most
		}
		for _, n := range []int{1, 4, 2, 8} {
			w.swap(newPlan(evals, route(n), int64(n), true))
			time.Sleep(20 * time.Second) // those that are too many finish
			if got := peak(); got != n {
				t.Errorf("%d evaluated at once, want %d", got, n)
			}
		}
		w.abort(nil)
		<-ended
		if order == configs.OrderPartition && !slices.IsSortedFunc(sink.values(0), byNumber) {
			t.Error("out of order")
		}
	})
}

// TestSwapsDoNotLoosenTheThrottle: a change of something else, however often, leaves the rate what it is.
func TestSwapsDoNotLoosenTheThrottle(t *testing.T) {
	in(t, func(t *testing.T) {
		limit := func(r *configs.Route) { r.Throttle.RecordsPerSecond, r.Throttle.BytesPerSecond = 100, 1<<20 }
		g := newRig(endless(1000, 10_000), newMemSink(), testRoute(limit))
		g.start(t.Context())
		for range 1000 {
			time.Sleep(10 * time.Millisecond)
			g.change(limit)
		}
		if n := g.w.Stats().Total.Read; n < 950 || n > 1050 {
			t.Errorf("read %d in ten seconds, want 1000", n)
		}
		g.drain(t)
	})
}
