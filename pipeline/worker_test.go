package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"keystone/configs"
	"keystone/configs/addr"
	"keystone/dsl/eval"
	"keystone/pipeline/record"
	"keystone/sinks"
	"keystone/sources"
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

func TestOnError(t *testing.T) {
	for _, test := range []struct {
		policy    configs.OnError
		got       []string
		counts    Counts
		committed int64
		halts     bool
	}{
		{configs.DeadLetter, []string{"v0", "v2"}, Counts{Delivered: 2, DeadLettered: 1}, 3, false},
		{configs.DropRecord, []string{"v0", "v2"}, Counts{Delivered: 2, Dropped: 1}, 3, false},
		{configs.PassRecord, []string{"v0", "e1", "v2"}, Counts{Delivered: 3}, 3, false},
		{configs.StopRoute, []string{"v0"}, Counts{Delivered: 1, Abandoned: 2}, 1, true},
	} {
		t.Run(string(test.policy), func(t *testing.T) {
			in(t, func(t *testing.T) {
				src := newMemSource(10).add(0, "v0", "e1", "v2")
				sink := newMemSink()
				g := newRig(src, sink, testRoute(func(r *configs.Route) { r.OnError = test.policy }))
				g.start(t.Context())
				err := <-g.ended
				var halt *HaltError
				if errors.As(err, &halt) != test.halts || !test.halts && err != nil {
					t.Fatalf("ended with %v", err)
				}
				if test.halts && (halt.Offset != 1 || halt.Code != "type") {
					t.Errorf("halted at %+v", halt)
				}
				if got := sink.values(0); !slices.Equal(got, test.got) {
					t.Errorf("delivered %v, want %v", got, test.got)
				}
				c := g.w.Stats().Total
				if c.Delivered != test.counts.Delivered || c.DeadLettered != test.counts.DeadLettered || c.Dropped != test.counts.Dropped || c.Abandoned != test.counts.Abandoned {
					t.Errorf("counts %+v, want %+v", c, test.counts)
				}
				if got := src.committedAt(0); got != test.committed {
					t.Errorf("committed %d, want %d", got, test.committed)
				}
				if test.policy == configs.DeadLetter {
					l := g.letters.letters[0]
					if l.Code != "type" || l.Error != "not a number" || string(l.Record.Value) != "e1" || string(l.Record.Key) != "k1" || l.Record.Offset != 1 || l.Attempts != 1 || l.Route != addr.New("route", "r") {
						t.Errorf("letter %+v", l)
					}
				}
			})
		})
	}
}

func TestRecordsThatAreTooLargeAreEvaluationErrors(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(10).add(0, "v0", "v"+strings.Repeat("1", 100), "v2", "v3")
		src.logs[0][3].Bad = record.TooLarge
		sink := newMemSink()
		g := newRig(src, sink, testRoute(func(r *configs.Route) { r.Limits.MaxRecordBytes = 50 }))
		g.start(t.Context())
		g.wait(t)
		if got := sink.values(0); !slices.Equal(got, []string{"v0", "v2"}) {
			t.Errorf("delivered %v", got)
		}
		if n := len(g.letters.letters); n != 2 || g.letters.letters[0].Code != "too_large" || g.letters.letters[1].Code != "too_large" {
			t.Errorf("letters %+v", g.letters.letters)
		}
	})
}

func TestRejectedRecordsFollowOnError(t *testing.T) {
	for _, policy := range []configs.OnError{configs.DeadLetter, configs.DropRecord, configs.PassRecord, configs.StopRoute} {
		t.Run(string(policy), func(t *testing.T) {
			in(t, func(t *testing.T) {
				src := newMemSource(4).add(0, "v0", "x1", "v2", "v3", "v4")
				sink := newMemSink()
				sink.hook = func(_ context.Context, b *record.Batch, take func(int)) error {
					var p sinks.PartialError
					for i := range b.Records {
						if strings.HasPrefix(string(b.Records[i].Value), "x1") { // both children of one record
							p.Failures = append(p.Failures, sinks.Failure{Index: i, Outcome: sinks.Rejected, Code: "mapping", Err: errors.New("no such field")})
							continue
						}
						take(i)
					}
					if p.Failures != nil {
						return &p
					}
					return nil
				}
				g := newRig(src, sink, testRoute(func(r *configs.Route) { r.OnError = policy }))
				g.start(t.Context())
				err := <-g.ended
				s := g.w.Stats()
				if e := checkCounts(s); e != nil {
					t.Error(e)
				}
				c, want, committed := s.Total, Counts{Read: 5, Delivered: 4, DeadLettered: 1}, int64(5)
				switch policy {
				case configs.DropRecord, configs.PassRecord:
					want = Counts{Read: 5, Delivered: 4, Dropped: 1}
				case configs.StopRoute:
					want, committed = Counts{Read: c.Read, Abandoned: c.Read}, 1
				}
				if IsHalt(err) != (policy == configs.StopRoute) {
					t.Errorf("ended with %v", err)
				}
				if c.Read != want.Read || c.Delivered != want.Delivered || c.DeadLettered != want.DeadLettered || c.Dropped != want.Dropped || c.Abandoned != want.Abandoned {
					t.Errorf("counts %+v, want %+v", c, want)
				}
				if got := src.committedAt(0); got != committed {
					t.Errorf("committed %d, want %d", got, committed)
				}
				if n := len(g.letters.letters); policy == configs.DeadLetter && (n != 1 || string(g.letters.letters[0].Record.Value) != "x1" || g.letters.letters[0].Code != "mapping") {
					t.Errorf("letters %+v", g.letters.letters)
				}
			})
		})
	}
}

func TestRetriesAreBounded(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(10).add(0, values("v", 0, 5)...)
		sink := newMemSink()
		sink.hook = func(context.Context, *record.Batch, func(int)) error { return errors.New("down") }
		g := newRig(src, sink, testRoute(func(r *configs.Route) { r.Retry.MaxAttempts = 3 }))
		g.start(t.Context())
		g.wait(t)
		if c := g.w.Stats().Total; c.DeadLettered != 5 || c.Retried != 10 || sink.writes != 3 {
			t.Errorf("counts %+v after %d writes", c, sink.writes)
		}
		if l := g.letters.letters[0]; l.Code != "retries_exhausted" || l.Error != "down" || l.Attempts != 3 {
			t.Errorf("letter %+v", l)
		}
	})
}

func TestRetriesShowAndEnd(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(10).add(0, values("v", 0, 5)...)
		sink := newMemSink()
		var mu sync.Mutex
		down := true
		sink.hook = func(_ context.Context, b *record.Batch, take func(int)) error {
			mu.Lock()
			defer mu.Unlock()
			if down {
				return errors.New("connection refused")
			}
			for i := range b.Records {
				take(i)
			}
			return nil
		}
		g := newRig(src, sink, testRoute())
		g.start(t.Context())
		time.Sleep(time.Hour) // for ever
		s := g.w.Stats()
		if s.Activity != Draining || s.Attempt < 1000 || s.Error != "connection refused" { // the source ended, so it drains
			t.Errorf("%s (%d, %s)", s.Activity, s.Attempt, s.Error)
		}
		if err := checkCounts(s); err != nil || s.InFlightRecords != 5 {
			t.Errorf("%v, %d in flight", err, s.InFlightRecords)
		}
		mu.Lock()
		down = false
		mu.Unlock()
		g.wait(t)
		if got := sink.values(0); !slices.Equal(got, values("v", 0, 5)) {
			t.Errorf("delivered %v", got)
		}
	})
}

func TestPermanentErrorStopsWithFinishedPrefix(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(5).add(0, values("v", 0, 20)...)
		sink := newMemSink()
		sink.hook = func(_ context.Context, b *record.Batch, take func(int)) error {
			if b.Records[0].Offset >= 5 {
				return sinks.Permanent{Err: errors.New("credentials refused")}
			}
			for i := range b.Records {
				take(i)
			}
			return nil
		}
		g := newRig(src, sink, testRoute())
		g.start(t.Context())
		if err := <-g.ended; !sinks.IsPermanent(err) || !strings.Contains(err.Error(), "sink.out") {
			t.Errorf("ended with %v", err)
		}
		if src.committedAt(0) != 5 || !src.closed || !sink.closed {
			t.Errorf("committed %d, want 5", src.committedAt(0))
		}
		if err := checkCounts(g.w.Stats()); err != nil {
			t.Error(err)
		}
	})
}

func TestPanicsBecomeErrors(t *testing.T) {
	program := func(g *rig) { g.src.add(0, "P") }
	for name, break_ := range map[string]func(*rig){
		"program": program,
		"read":    func(g *rig) { g.src.onRead = func() error { panic("broken") } },
		"write":   func(g *rig) { g.sink.hook = func(context.Context, *record.Batch, func(int)) error { panic("broken") } },
		"commit":  func(g *rig) { g.src.onCommit = func(context.Context) error { panic("broken") } },
		"letters": func(g *rig) { g.src.add(0, "e"); g.letters.fail = func() error { panic("broken") } },
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T) {
				g := newRig(newMemSource(5).add(0, "v1"), newMemSink(), testRoute())
				break_(g)
				g.start(t.Context())
				var p *PanicError
				if err := <-g.ended; !errors.As(err, &p) || !strings.Contains(err.Error(), "_test.go") {
					t.Errorf("ended with %v, want a panic with its stack", err)
				}
				if !g.src.closed || !g.sink.closed {
					t.Error("not everything is closed")
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
		g.w.swap(func() evaluator { return upper{} }, testRoute(), 2)
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

func TestRevokedLaneCommitsWhatIsFinished(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(5).add(0, values("v", 0, 100)...)
		src.endless = true
		sink := newMemSink()
		sink.async = true
		block := make(chan struct{})
		sink.hook = func(ctx context.Context, b *record.Batch, take func(int)) error {
			if b.Records[0].Offset > 20 {
				select {
				case <-block:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		}
		g := newRig(src, sink, testRoute(func(r *configs.Route) { r.Delivery.CommitInterval = time.Hour }))
		g.start(t.Context())
		synctest.Wait()
		begin := time.Now()
		src.revoke(t.Context(), 0)
		if took := time.Since(begin); took > revokeWait {
			t.Errorf("the revocation took %v", took)
		}
		at := src.committedAt(0)
		if at == 0 || at > 30 {
			t.Errorf("committed %d", at)
		}
		close(block)
		synctest.Wait()
		time.Sleep(2 * time.Hour)
		if src.committedAt(0) != at || len(g.w.Stats().Lanes) != 0 {
			t.Errorf("the lane went on: committed %d", src.committedAt(0))
		}
		src.assign(0)
		g.w.Drain(t.Context())
		g.wait(t)
		if err := checkCounts(g.w.Stats()); err != nil {
			t.Error(err)
		}
	})
}

func TestLostLaneCommitsNothing(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(5).add(0, values("v", 0, 100)...)
		src.endless = true
		g := newRig(src, newMemSink(), testRoute(func(r *configs.Route) { r.Delivery.CommitInterval = time.Hour }))
		g.start(t.Context())
		synctest.Wait()
		src.l.Lost([]int32{0}) // while the source would still commit it
		g.w.Drain(t.Context())
		g.wait(t)
		if src.commits != 0 {
			t.Errorf("%d commits, at %d", src.commits, src.committedAt(0))
		}
	})
}

// TestRevocationWaitsForTheCommitOnItsWay: a commit that is under way when the
// permits close ends before Revoked returns, or is cancelled at the bound.
func TestRevocationWaitsForTheCommitOnItsWay(t *testing.T) {
	for _, stuck := range []bool{false, true} {
		t.Run(fmt.Sprintf("stuck=%v", stuck), func(t *testing.T) {
			in(t, func(t *testing.T) {
				src := newMemSource(5).add(0, values("v", 0, 5)...)
				src.endless = true
				under := make(chan struct{}, 10)
				answer, cancelled := make(chan struct{}), make(chan struct{})
				src.onCommit = func(ctx context.Context) error {
					under <- struct{}{}
					select {
					case <-answer:
						return nil
					case <-ctx.Done():
						close(cancelled)
						return ctx.Err()
					}
				}
				g := newRig(src, newMemSink(), testRoute())
				g.start(t.Context())
				<-under
				returned := make(chan struct{})
				go func() { src.revoke(t.Context(), 0); close(returned) }()
				synctest.Wait()
				select {
				case <-returned:
					t.Error("the revocation did not wait")
				default:
				}
				if !stuck {
					close(answer)
				}
				<-returned
				if stuck {
					<-cancelled // else the bubble deadlocks here
				}
				if got := src.committedAt(0); (got == 5) == stuck {
					t.Errorf("committed %d", got)
				}
				src.onCommit = nil
				g.w.Drain(t.Context())
				g.wait(t)
			})
		})
	}
}

// TestBatchOfAnEarlierAssignment: records that Read took before the partition
// was given up and assigned again belong to nobody.
func TestBatchOfAnEarlierAssignment(t *testing.T) {
	for _, times := range []int{1, 2} {
		in(t, func(t *testing.T) {
			src := newMemSource(5).add(0, values("v", 0, 20)...)
			reads := 0
			src.onFilled = func() {
				if reads++; reads == 2 { // [5, 10) are on their way
					synctest.Wait()
					for range times {
						src.lose(0)
						src.assign(0)
					}
				}
			}
			g := newRig(src, newMemSink(), testRoute(func(r *configs.Route) { r.Delivery.CommitInterval = time.Hour }))
			g.start(t.Context())
			g.wait(t)
			want := append(values("v", 0, 5), values("v", 0, 20)...)
			if got := g.sink.values(0); !slices.Equal(got, want) {
				t.Errorf("assigned %d times: delivered %v", times, got)
			}
		})
	}
}

// TestNextIncarnationWaitsForWritesOfTheLast: they would overtake it.
func TestNextIncarnationWaitsForWritesOfTheLast(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(5).add(0, values("v", 0, 5)...)
		src.endless = true
		sink := newMemSink()
		sink.async = true
		answer := make(chan struct{})
		sink.hook = func(context.Context, *record.Batch, func(int)) error { <-answer; return nil }
		g := newRig(src, sink, testRoute())
		g.start(t.Context())
		synctest.Wait()
		for range 2 {
			src.lose(0)
			src.assign(0)
			synctest.Wait()
		}
		if sink.writes != 1 {
			t.Errorf("%d writes while the first has no answer", sink.writes)
		}
		close(answer)
		synctest.Wait()
		if sink.writes != 2 {
			t.Errorf("%d writes, want 2", sink.writes)
		}
		g.w.Drain(t.Context())
		g.wait(t)
	})
}

func TestExactlyOnceIsRefused(t *testing.T) {
	g := newRig(newMemSource(1), newMemSink(), testRoute(func(r *configs.Route) { r.Delivery.Guarantee = configs.ExactlyOnce }))
	if err := g.w.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "at_least_once") {
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

func TestDeadLettersHoldTheLane(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(2).add(0, "v0", "e1", "v2", "v3")
		src.endless = true
		g := newRig(src, newMemSink(), testRoute())
		var mu sync.Mutex
		down := errors.New("away")
		g.letters.fail = func() error { mu.Lock(); defer mu.Unlock(); return down }
		g.start(t.Context())
		time.Sleep(time.Minute)
		s := g.w.Stats()
		if s.Activity != WaitingDeadLetters || s.Attempt == 0 || src.committedAt(0) != 1 {
			t.Errorf("%s (%d, %s), committed %d", s.Activity, s.Attempt, s.Error, src.committedAt(0))
		}
		if got := g.sink.values(0); !slices.Equal(got, []string{"v0"}) {
			t.Errorf("the lane went on: %v", got)
		}
		mu.Lock()
		down = nil
		mu.Unlock()
		time.Sleep(time.Minute)
		if got := src.committedAt(0); got != 4 {
			t.Errorf("committed %d, want 4", got)
		}
		g.w.Drain(t.Context())
		g.wait(t)
	})
}

func TestPartOfTheDeadLettersIsRepeated(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(10).add(0, values("e", 0, 4)...)
		g := newRig(src, newMemSink(), testRoute())
		tries := 0
		g.w.spec.DeadLetters = &partialLetters{g.letters, &tries}
		g.start(t.Context())
		g.wait(t)
		if got := g.letters.values(); !slices.Equal(got, []string{"e0", "e2", "e1", "e3"}) || tries != 2 {
			t.Errorf("letters %v after %d tries", got, tries)
		}
		if c := g.w.Stats().Total; c.DeadLettered != 4 {
			t.Errorf("%+v", c)
		}
	})
}

// partialLetters takes every other letter at first.
type partialLetters struct {
	*memLetters
	tries *int
}

func (p *partialLetters) Write(ctx context.Context, letters []DeadLetter) error {
	if *p.tries++; *p.tries > 1 {
		return p.memLetters.Write(ctx, letters)
	}
	var err sinks.PartialError
	for i := range letters {
		if i%2 == 0 {
			p.memLetters.Write(ctx, letters[i:i+1])
			continue
		}
		err.Failures = append(err.Failures, sinks.Failure{Index: i, Err: io.ErrShortWrite})
	}
	return &err
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
		g.w.swap(newCommands, testRoute(), 2) // lifts it
		g.wait(t)
		if took := time.Since(begin); took > 6*time.Second {
			t.Errorf("took %v", took)
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

func TestReadErrors(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(10).add(0, values("v", 0, 50)...)
		fails := 3
		src.onRead = func() error {
			if fails--; fails >= 0 {
				return errors.New("leader not available")
			}
			return nil
		}
		g := newRig(src, newMemSink(), testRoute())
		g.start(t.Context())
		g.wait(t)
		if c := g.w.Stats().Total; c.Delivered != 50 {
			t.Errorf("%+v", c)
		}
		g = newRig(newMemSource(1).add(0, "v"), newMemSink(), testRoute())
		g.src.onRead = func() error { return sources.Fatal{Err: errors.New("credentials refused")} }
		g.start(t.Context())
		if err := <-g.ended; !sources.IsFatal(err) {
			t.Errorf("ended with %v", err)
		}
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

func TestDataLoss(t *testing.T) {
	for _, stop := range []bool{false, true} {
		in(t, func(t *testing.T) {
			src := newMemSource(5).add(0, values("v", 0, 5)...)
			src.endless = true
			g := newRig(src, newMemSink(), testRoute(func(r *configs.Route) {
				if r.OnDataLoss = "continue"; stop {
					r.OnDataLoss = "stop"
				}
			}))
			g.start(t.Context())
			synctest.Wait()
			src.l.DataLoss(0, 5, 105)
			if s := g.w.Stats(); s.LostBeforeRead != 100 || s.LastError == "" {
				t.Errorf("%+v", s)
			}
			if !stop {
				g.w.Drain(t.Context())
			}
			if err := <-g.ended; (err != nil) != stop {
				t.Errorf("ended with %v", err)
			}
		})
	}
}

// upper is another program.
type upper struct{}

func (upper) Run(in *record.Batch, i int, out *record.Batch) (eval.Verdict, *eval.Error) {
	out.Records = append(out.Records, record.Record{Value: bytes.ToUpper(in.Records[i].Value), Source: int32(i)})
	return eval.Passed, nil
}
