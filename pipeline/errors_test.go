package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"keystone/configs"
	"keystone/configs/addr"
	"keystone/pipeline/record"
	"keystone/sinks"
	"keystone/sources"
)

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
				if r := c.Reasons.find(Delivered, "passed"); (r != nil && r.N == 1) != (test.policy == configs.PassRecord) {
					t.Errorf("reasons %+v", c.Reasons)
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
				if policy != configs.StopRoute {
					if c.Written != 4 || c.WrittenBytes != 4*int64(len("k0v0")) {
						t.Errorf("%d outputs of %d bytes are counted as written; two were refused", c.Written, c.WrittenBytes)
					}
					if r := c.Reasons; len(r) != 1 || r[0].Code != "mapping" || r[0].N != 1 || r[0].Outcome == Delivered {
						t.Errorf("reasons %+v", r)
					}
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

// TestPartsAreRetriedInOrder: a sink may name its failures in any order and
// twice; the records are written again once each, and as they were read.
func TestPartsAreRetriedInOrder(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(10).add(0, values("v", 0, 6)...)
		sink := newMemSink()
		sink.hook = func(_ context.Context, b *record.Batch, take func(int)) error {
			if sink.writes > 1 {
				for i := range b.Records {
					take(i)
				}
				return nil
			}
			take(0)
			take(3)
			var p sinks.PartialError
			for _, i := range []int{4, 1, 5, 2, 4} {
				p.Failures = append(p.Failures, sinks.Failure{Index: i, Outcome: sinks.Retryable})
			}
			return &p
		}
		g := newRig(src, sink, testRoute())
		g.start(t.Context())
		g.wait(t)
		if got, want := sink.values(0), []string{"v0", "v3", "v1", "v2", "v4", "v5"}; !slices.Equal(got, want) {
			t.Errorf("delivered %v, want %v", got, want)
		}
		if c := g.w.Stats().Total; c.Delivered != 6 || c.Retried != 4 {
			t.Errorf("%+v", c)
		}
	})
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
		if c := g.w.Stats().Total; c.DeadLettered != 4 || !slices.Equal(c.Reasons, Reasons{{DeadLettered, "type", 4}}) {
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

func TestReadErrors(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(10).add(0, values("v", 0, 50)...)
		fails := []error{errors.New("leader not available"), fmt.Errorf("a broker closed the connection: %w", io.EOF), errors.New("again")}
		src.onRead = func() error {
			if len(fails) == 0 {
				return nil
			}
			err := fails[0]
			fails = fails[1:]
			return err
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
