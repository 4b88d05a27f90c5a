package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"keystone/configs"
	"keystone/configs/diag"
	"keystone/dsl"
	"keystone/pipeline/record"
	"keystone/sinks"
)

var orders = []configs.Order{configs.OrderPartition, configs.OrderKey, configs.OrderNone}

// forOrders runs a test once per order.
func forOrders(t *testing.T, f func(t *testing.T, order configs.Order)) {
	for _, order := range orders {
		t.Run(string(order), func(t *testing.T) { in(t, func(t *testing.T) { f(t, order) }) })
	}
}

// picky is a destination that does not take some records for a while. Where it keeps the order of keys,
// no later record of a batch is written with the key of one that failed.
type picky struct {
	keys bool
	mu   sync.Mutex
	hold func(r *record.Record) bool // nil: takes everything
}

func (p *picky) set(hold func(*record.Record) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hold = hold
}

func (p *picky) write(_ context.Context, b *record.Batch, take func(int)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var failures []sinks.Failure
	stuck := map[string]bool{}
	for i := range b.Records {
		r := &b.Records[i]
		if stuck[string(r.Key)] || p.hold != nil && p.hold(r) {
			stuck[string(r.Key)] = p.keys
			failures = append(failures, sinks.Failure{Index: i, Err: errors.New("not now")})
			continue
		}
		take(i)
	}
	if failures != nil {
		return &sinks.PartialError{Failures: failures}
	}
	return nil
}

// TestStuckRecord: a record that the sink does not take holds up its partition, what has its key, or
// nothing, as order says; the position stays in front of it in any case.
func TestStuckRecord(t *testing.T) {
	forOrders(t, func(t *testing.T, order configs.Order) {
		src := newMemSource(8)
		src.key = fewKeys
		src.add(0, values("v", 0, 200)...)
		src.endless = true
		log := src.logs[0]
		stuck := log[9]
		sink, p := newMemSink(), &picky{keys: order == configs.OrderKey}
		p.set(func(r *record.Record) bool { return r.Offset == stuck.Offset })
		sink.hook = p.write
		g := newRig(src, sink, testRoute(func(r *configs.Route) { r.Order = order }))
		g.start(t.Context())
		time.Sleep(time.Hour)

		var want []string // by offset
		for i, r := range log {
			behind := order == configs.OrderPartition && i > 15 || // those of the same batch are written by this sink
				order == configs.OrderKey && i > 9 && string(r.Key) == string(stuck.Key)
			if i != 9 && !behind {
				want = append(want, string(r.Value))
			}
		}
		got := sink.values(0)
		slices.SortFunc(got, byNumber)
		if !slices.Equal(got, want) {
			t.Errorf("delivered %v\nwant %v", got, want)
		}
		s := g.w.Stats()
		if src.committedAt(0) != stuck.Offset || s.Activity != Retrying || s.Attempt < 10 || !strings.Contains(s.Error, "not now") {
			t.Errorf("committed %d, the stuck one is at %d; %s, attempt %d: %s", src.committedAt(0), stuck.Offset, s.Activity, s.Attempt, s.Error)
		}
		if err := checkCounts(s); err != nil {
			t.Error(err)
		}

		p.set(nil)
		time.Sleep(time.Minute)
		got = sink.values(0)
		if len(got) != 200 || src.committedAt(0) != log[199].Offset+1 {
			t.Errorf("delivered %d, committed %d", len(got), src.committedAt(0))
		}
		checkOrder(t, order, log, got)
		if s := g.w.Stats(); s.Activity != Fetching || s.Error != "" {
			t.Errorf("%s: %s", s.Activity, s.Error)
		}
		g.w.Drain(t.Context())
		g.wait(t)
	})
}

func byNumber(a, b string) int { return number(a) - number(b) }

// checkOrder holds deliveries of one partition to what order "key" promises.
func checkOrder(t *testing.T, order configs.Order, log []record.Record, got []string) {
	t.Helper()
	if order != configs.OrderKey {
		return
	}
	by := map[string][]int{}
	key := map[string]string{}
	for _, r := range log {
		key[string(r.Value)] = string(r.Key)
	}
	for _, v := range got {
		by[key[v]] = append(by[key[v]], number(v))
	}
	for k, numbers := range by {
		if !slices.IsSorted(numbers) {
			t.Errorf("key %q: %v", k, numbers)
		}
	}
}

// TestWaitingDeadLetterHoldsNothingElse where the order of the partition is not kept.
func TestWaitingDeadLetterHoldsNothingElse(t *testing.T) {
	forOrders(t, func(t *testing.T, order configs.Order) {
		src := newMemSource(2)
		src.key = fewKeys
		src.add(0, "v0", "e1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9")
		src.endless = true
		g := newRig(src, newMemSink(), testRoute(func(r *configs.Route) { r.Order = order }))
		var mu sync.Mutex
		down := errors.New("away")
		g.letters.fail = func() error { mu.Lock(); defer mu.Unlock(); return down }
		g.start(t.Context())
		time.Sleep(time.Minute)
		want := 9
		if order == configs.OrderPartition {
			want = 1
		}
		if got := g.sink.values(0); len(got) != want {
			t.Errorf("delivered %v, want %d", got, want)
		}
		if s := g.w.Stats(); s.Activity != WaitingDeadLetters || src.committedAt(0) != 1 {
			t.Errorf("%s, committed %d", s.Activity, src.committedAt(0))
		}
		mu.Lock()
		down = nil
		mu.Unlock()
		time.Sleep(time.Minute)
		if next := src.logs[0][9].Offset + 1; src.committedAt(0) != next || len(g.sink.values(0)) != 9 {
			t.Errorf("committed %d, want %d; delivered %v", src.committedAt(0), next, g.sink.values(0))
		}
		g.w.Drain(t.Context())
		g.wait(t)
	})
}

// TestStopCommitsNothingBehind: with on_error = "stop" nothing behind the record is committed, whatever
// was written of it, and no batch behind the one with the record is begun.
func TestStopCommitsNothingBehind(t *testing.T) {
	for _, c := range []struct {
		name   string
		values []string
	}{{"evaluation", []string{"v0", "v1", "v2", "v3", "e4", "v5"}}, {"refused", []string{"v0", "v1", "v2", "v3", "R4", "v5"}}} {
		t.Run(c.name, func(t *testing.T) {
			forOrders(t, func(t *testing.T, order configs.Order) {
				src := newMemSource(3)
				src.key = fewKeys
				src.add(0, c.values...).add(0, values("v", 6, 300)...)
				sink := newMemSink()
				sink.hook = func(_ context.Context, b *record.Batch, take func(int)) error {
					time.Sleep(time.Duration(100-b.Records[0].Offset) * time.Millisecond) // later ones are faster
					var p sinks.PartialError
					for i := range b.Records {
						if b.Records[i].Value[0] == 'R' {
							p.Failures = append(p.Failures, sinks.Failure{Index: i, Outcome: sinks.Rejected, Code: "no", Err: errors.New("no")})
							continue
						}
						take(i)
					}
					if p.Failures != nil {
						return &p
					}
					return nil
				}
				g := newRig(src, sink, testRoute(func(r *configs.Route) { r.Order, r.OnError = order, configs.StopRoute }))
				g.start(t.Context())
				if err := <-g.ended; !IsHalt(err) || !strings.Contains(err.Error(), "before offset 4") {
					t.Errorf("%v", err)
				}
				if got := src.committedAt(0); got != 4 {
					t.Errorf("committed %d, want 4", got)
				}
				got := sink.values(0)
				for _, v := range values("v", 0, 4) {
					if !slices.Contains(got, v) {
						t.Errorf("%s was not written: %v", v, got)
					}
				}
				if c.name == "evaluation" && len(got) != 4 {
					t.Errorf("wrote %v behind the end", got)
				}
				if err := checkCounts(g.w.Stats()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestWritersOfALaneOverlap: with a slow sink the orders that allow it take a fraction of the time.
func TestWritersOfALaneOverlap(t *testing.T) {
	took := map[configs.Order]time.Duration{}
	forOrders(t, func(t *testing.T, order configs.Order) {
		src := newMemSource(16).add(0, values("v", 0, 16*160)...) // every record has a key of its own
		sink := newMemSink()
		var mu sync.Mutex
		under, most := 0, 0
		sink.hook = func(_ context.Context, b *record.Batch, take func(int)) error {
			mu.Lock()
			under++
			most = max(most, under)
			mu.Unlock()
			time.Sleep(5 * time.Millisecond)
			mu.Lock()
			under--
			mu.Unlock()
			for i := range b.Records {
				take(i)
			}
			return nil
		}
		begin := time.Now()
		g := newRig(src, sink, testRoute(func(r *configs.Route) { r.Order, r.Parallelism = order, 1 }))
		g.start(t.Context())
		g.wait(t)
		took[order] = time.Since(begin)
		if got := sink.values(0); len(got) != 16*160 {
			t.Errorf("delivered %d", len(got))
		}
		want := writesPerLane
		if order == configs.OrderPartition {
			want = 1
		}
		if most != want {
			t.Errorf("%d writes at once, want %d", most, want)
		}
	})
	if p := took[configs.OrderPartition]; p != 800*time.Millisecond || took[configs.OrderNone] != p/writesPerLane || took[configs.OrderKey] > p/10 {
		t.Errorf("%v", took)
	}
}

// TestBoundsHoldBehindAStuckRecord: what is read behind it is bounded by max_in_flight_bytes.
func TestBoundsHoldBehindAStuckRecord(t *testing.T) {
	forOrders(t, func(t *testing.T, order configs.Order) {
		src := newMemSource(10).add(0, values("v", 0, 5000)...)
		sink, p := newMemSink(), &picky{}
		p.set(func(r *record.Record) bool { return r.Offset == 0 })
		sink.hook = p.write
		const budget = 100_000
		g := newRig(src, sink, testRoute(func(r *configs.Route) { r.Order, r.Limits.MaxInFlightBytes = order, budget }))
		g.start(t.Context())
		time.Sleep(time.Hour)
		s := g.w.Stats()
		if s.InFlightBytes > budget+2000 || order != configs.OrderPartition && s.InFlightBytes < budget {
			t.Errorf("%d bytes in flight", s.InFlightBytes)
		}
		p.set(nil)
		g.wait(t)
		if c := g.w.Stats().Total; c.Delivered != 5000 || c.Written != 5000 {
			t.Errorf("%+v", c)
		}
	})
}

// TestDestinationThatIsAwayIsNotHammered: all that fails is tried again with back-off, and little more is
// begun; when it answers again, everything goes on at once.
func TestDestinationThatIsAwayIsNotHammered(t *testing.T) {
	forOrders(t, func(t *testing.T, order configs.Order) {
		src := newMemSource(10).add(0, values("v", 0, 5000)...)
		sink := newMemSink()
		var mu sync.Mutex
		away, refused := true, 0
		sink.hook = func(_ context.Context, b *record.Batch, take func(int)) error {
			mu.Lock()
			defer mu.Unlock()
			if away {
				refused++
				return errors.New("away")
			}
			for i := range b.Records {
				take(i)
			}
			return nil
		}
		g := newRig(src, sink, testRoute(func(r *configs.Route) { r.Order, r.Retry.Max = order, 10*time.Second }))
		g.start(t.Context())
		time.Sleep(10 * time.Minute)
		mu.Lock()
		if most := 60*2*2 + 4*writesPerLane; refused > most {
			t.Errorf("%d attempts in ten minutes, want at most %d", refused, most)
		}
		t.Logf("%d attempts", refused)
		away = false
		mu.Unlock()
		begin := time.Now()
		g.wait(t)
		if took := time.Since(begin); took > 16*time.Second {
			t.Errorf("went on after %v", took)
		}
		if c := g.w.Stats().Total; c.Delivered != 5000 || c.Written != 5000 {
			t.Errorf("%+v", c)
		}
	})
}

// TestParallelRetriesAreBounded: max_attempts counts for what failed, not for what is written beside it.
func TestParallelRetriesAreBounded(t *testing.T) {
	for _, bound := range []func(*configs.Route){
		func(r *configs.Route) { r.Retry.MaxAttempts = 4 },
		func(r *configs.Route) { r.Retry.MaxElapsed = 5 * time.Second },
	} {
		forOrders(t, func(t *testing.T, order configs.Order) {
			src := newMemSource(8)
			src.key = fewKeys
			src.add(0, values("v", 0, 100)...)
			sink, p := newMemSink(), &picky{}
			p.set(func(r *record.Record) bool { return string(r.Value) == "v3" || string(r.Value) == "v42" })
			sink.hook = p.write
			g := newRig(src, sink, testRoute(bound, func(r *configs.Route) { r.Order = order }))
			g.start(t.Context())
			g.wait(t)
			c := g.w.Stats().Total
			if c.Delivered != 98 || c.DeadLettered != 2 {
				t.Errorf("%+v", c)
			}
			letters := g.letters.values()
			slices.SortFunc(letters, byNumber)
			if !slices.Equal(letters, []string{"v3", "v42"}) || g.letters.letters[0].Code != "retries_exhausted" || g.letters.letters[0].Attempts < 4 {
				t.Errorf("%+v", g.letters.letters)
			}
		})
	}
}

// TestExplodedKeys: the children of a record go each by its own key. While one waits, the position
// stays before their record; a tombstone keeps its place among the records of its key.
func TestExplodedKeys(t *testing.T) {
	in(t, func(t *testing.T) {
		route := testRoute(func(r *configs.Route) {
			r.Order = configs.OrderKey
			r.Events = dsl.RouteSpec{Explode: diag.Text{S: "items"}, Key: diag.Text{S: "items ?? meta.key"}, Tombstones: "pass"}
		})
		program := compile(t, route)
		stuck := "a"
		free := "b"
		for slotOf([]byte(free)) == slotOf([]byte(stuck)) {
			free += "b"
		}
		src := newMemSource(1)
		src.endless = true
		src.add(0, fmt.Sprintf(`{"items":["%s","%s"]}`, stuck, free), fmt.Sprintf(`{"items":["%s","%s"]}`, free, stuck), `{"items":[]}`)
		src.logs[0] = append(src.logs[0],
			record.Record{Offset: 3, Key: []byte(stuck)}, record.Record{Offset: 4, Key: []byte(free)}, // tombstones
			record.Record{Offset: 5, Value: []byte(`{"items":"no list"}`)})
		var mu sync.Mutex
		holding := true
		got := map[string][]int64{}
		sink := newMemSink()
		sink.hook = func(_ context.Context, b *record.Batch, _ func(int)) error {
			mu.Lock()
			defer mu.Unlock()
			var p sinks.PartialError
			for i := range b.Records {
				r := &b.Records[i]
				if holding && string(r.Key) == stuck {
					p.Failures = append(p.Failures, sinks.Failure{Index: i, Err: errors.New("not now")})
					continue
				}
				if (r.Value == nil) != (r.Offset > 2) {
					t.Errorf("offset %d has the value %q", r.Offset, r.Value)
				}
				got[string(r.Key)] = append(got[string(r.Key)], r.Offset)
			}
			if p.Failures != nil {
				return &p
			}
			return nil
		}
		letters := &memLetters{}
		w := New(Spec{Route: route, Program: program, Source: src, Sink: sink, DeadLetters: letters})
		ended := make(chan error, 1)
		go func() { ended <- w.Run(t.Context()) }()
		time.Sleep(time.Minute)
		mu.Lock()
		if fmt.Sprint(got) != fmt.Sprintf("map[%s:[0 1 4]]", free) || src.committedAt(0) != 0 {
			t.Errorf("%v, committed %d", got, src.committedAt(0))
		}
		holding = false
		mu.Unlock()
		time.Sleep(2 * time.Minute)
		mu.Lock()
		if fmt.Sprint(got) != fmt.Sprintf("map[%s:[0 1 3] %s:[0 1 4]]", stuck, free) || src.committedAt(0) != 6 {
			t.Errorf("%v, committed %d", got, src.committedAt(0))
		}
		mu.Unlock()
		if c := w.Stats().Total; c.Read != 6 || c.Delivered != 4 || c.Filtered != 1 || c.DeadLettered != 1 || c.Written != 6 {
			t.Errorf("%+v", c)
		}
		w.Drain(t.Context())
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestRevokedParallelLane commits up to the stuck record and nothing behind it; the next lane
// writes again what was behind.
func TestRevokedParallelLane(t *testing.T) {
	for _, order := range orders[1:] {
		t.Run(string(order), func(t *testing.T) {
			in(t, func(t *testing.T) {
				src := newMemSource(5)
				src.key = fewKeys
				src.add(0, values("v", 0, 40)...)
				src.endless = true
				sink, p := newMemSink(), &picky{}
				p.set(func(r *record.Record) bool { return string(r.Value) == "v12" })
				sink.hook = p.write
				g := newRig(src, sink, testRoute(func(r *configs.Route) { r.Order = order; r.Delivery.CommitInterval = time.Hour }))
				g.start(t.Context())
				synctest.Wait()
				stuck := src.logs[0][12].Offset
				src.revoke(t.Context(), 0)
				if got := src.committedAt(0); got != stuck {
					t.Errorf("committed %d, the stuck one is at %d", got, stuck)
				}
				p.set(nil)
				time.Sleep(time.Hour) // nothing of the old lane is written any more
				if got := sink.values(0); slices.Contains(got, "v12") {
					t.Errorf("%v", got)
				}
				src.assign(0)
				synctest.Wait()
				for _, v := range values("v", 0, 40) {
					if !slices.Contains(sink.values(0), v) {
						t.Errorf("%s is lost", v)
					}
				}
				g.w.Drain(t.Context())
				g.wait(t)
				if got := src.committedAt(0); got != src.logs[0][39].Offset+1 {
					t.Errorf("committed %d", got)
				}
			})
		})
	}
}

// checkpointed and hasty are sinks that say something about the order.
type checkpointed struct{ *memSink }

func (checkpointed) Restore([]byte)                       {}
func (checkpointed) Sync(context.Context) ([]byte, error) { return nil, nil }

type hasty struct{ *memSink }

func (hasty) DefaultOrder() string { return "none" }

func TestWhoDecidesTheOrder(t *testing.T) {
	for _, c := range []struct {
		asked configs.Order
		sink  sinks.Sink
		want  configs.Order
	}{
		{"", newMemSink(), configs.OrderPartition},
		{configs.OrderKey, newMemSink(), configs.OrderKey},
		{"", hasty{newMemSink()}, configs.OrderNone},
		{configs.OrderPartition, hasty{newMemSink()}, configs.OrderPartition},
		{configs.OrderNone, checkpointed{newMemSink()}, configs.OrderPartition},
	} {
		w := newWorker(Spec{Route: testRoute(func(r *configs.Route) { r.Order = c.asked }), Sink: c.sink}, newCommands)
		if w.order != c.want {
			t.Errorf("%q to %T: %s, want %s", c.asked, c.sink, w.order, c.want)
		}
		once := testRoute(func(r *configs.Route) { r.Order, r.Delivery.Guarantee = c.asked, configs.ExactlyOnce })
		if order := orderOf(once, c.sink); order != configs.OrderPartition {
			t.Errorf("%q to %T in transactions: %s", c.asked, c.sink, order)
		}
	}
}
