package pipeline

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"keystone/configs"
	"keystone/pipeline/record"
	"keystone/sources"
)

// chainRig is a route into a calm table.
func chainRig(t *testing.T, src *memSource, edit ...func(*configs.Route)) (*rig, *chainSink, *table) {
	t.Helper()
	tab := newTable(1)
	tab.calm = true
	sink := newChainSink(tab)
	t.Cleanup(func() {
		if err := errors.Join(tab.errs...); err != nil {
			t.Error(err)
		}
	})
	return newRig(src, sink, testRoute(edit...)), sink, tab
}

func (s *chainSink) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// pass lets time pass, and all that it brings happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// resume has what is queued published again.
func (s *chainSink) resume() { s.wg.Go(s.publish) }

func (t *table) values(part int32) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.rows[part])
}

// TestChainCommitsWhereItEnds: a source that stands behind the chain hears so though nothing is new.
func TestChainCommitsWhereItEnds(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(5).add(0, values("v", 0, 4)...)
		src.endless = true
		g, sink, tab := chainRig(t, src)
		tab.end[0] = record.Position{Offset: 4}
		g.start(t.Context())
		pass(time.Hour)
		if src.committedAt(0) != 4 || sink.cuts != 0 || src.commits != 1 {
			t.Errorf("committed %d with %d commits, cut %d times", src.committedAt(0), src.commits, sink.cuts)
		}
		g.w.Drain(t.Context())
		g.wait(t)
	})
}

// TestChainWaitsForWhatIsNotDurable: nothing is committed and nothing has an outcome while the store
// is away, and the route says so; it goes on writing.
func TestChainWaitsForWhatIsNotDurable(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(5).add(0, values("v", 0, 10)...)
		src.endless = true
		g, sink, tab := chainRig(t, src)
		sink.stalled, sink.err = true, errors.New("disk quota exceeded")
		g.w.spec.Source = lagging{src}
		g.start(t.Context())
		pass(time.Minute)
		src.add(0, values("v", 10, 20)...)
		pass(time.Minute)
		s := g.w.Stats()
		if s.Activity != Retrying || !strings.Contains(s.Error, "disk quota exceeded") || s.Total.Delivered != 0 || s.InFlightRecords != 20 || s.Unsettled != 20 || s.Lag != 0 || s.Lanes[0].Finished.Offset != 0 {
			t.Errorf("%s: %s, %+v, %d in flight", s.Activity, s.Error, s.Total, s.InFlightRecords)
		}
		if src.committedAt(0) != 0 {
			t.Errorf("committed %d", src.committedAt(0))
		}
		sink.set(func() { sink.stalled, sink.err = false, nil })
		sink.resume()
		pass(time.Minute)
		s = g.w.Stats()
		if s.Activity != Fetching || s.Error != "" || s.Total.Delivered != 20 || s.InFlightRecords != 0 {
			t.Errorf("%s: %s, %+v, %d in flight", s.Activity, s.Error, s.Total, s.InFlightRecords)
		}
		if end := s.Lanes[0].Next.Offset; src.committedAt(0) != end || s.Lanes[0].Committed.Offset != end || !slices.Equal(tab.values(0), values("v", 0, 20)) {
			t.Errorf("committed %d of %d, the table has %v", src.committedAt(0), end, tab.values(0))
		}
		g.w.Drain(t.Context())
		g.wait(t)
	})
}

// lagging is a source that knows where its logs end.
type lagging struct{ *memSource }

func (l lagging) Ends() map[int32]int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	ends := map[int32]int64{}
	for p, log := range l.logs {
		if n := len(log); n > 0 {
			ends[p] = log[n-1].Offset + 1
		}
	}
	return ends
}

// TestChainDrainSaysWhatIsRepeated: within drain_timeout, and with where it will be read again.
func TestChainDrainSaysWhatIsRepeated(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(5).add(0, values("v", 0, 7)...).add(1, "v0")
		src.endless = true
		g, sink, _ := chainRig(t, src)
		g.start(t.Context())
		pass(3 * time.Second)
		sink.set(func() { sink.stalled, sink.err, sink.noDue = true, errors.New("the store is away"), true })
		src.add(0, values("v", 7, 9)...)
		pass(3 * time.Second)
		begun := time.Now()
		g.w.Drain(t.Context())
		err := <-g.ended
		if err == nil || !strings.Contains(err.Error(), "read again: partition 0 from offset 7: ") || !strings.Contains(err.Error(), "the store is away") {
			t.Errorf("it ended with %v", err)
		}
		if d := time.Since(begun); d != testRoute().Delivery.DrainTimeout {
			t.Errorf("it took %v", d)
		}
		s := g.w.Stats()
		if c := s.Total; checkCounts(s) != nil || c.Delivered != 8 || c.Abandoned != 2 || src.committedAt(0) != 7 || src.committedAt(1) != 1 {
			t.Errorf("%+v, committed %d and %d", c, src.committedAt(0), src.committedAt(1))
		}
	})
}

// TestChainRevocationIsBounded: what can be made durable in time is, and is committed; the rest does not
// keep the group.
func TestChainRevocationIsBounded(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(5).add(0, values("v", 0, 5)...).add(1, values("v", 0, 5)...)
		src.endless = true
		g, sink, tab := chainRig(t, src)
		sink.noDue = true
		g.start(t.Context())
		pass(3 * time.Second)
		begun := time.Now()
		src.revoke(t.Context(), 0)
		if d := time.Since(begun); d > time.Second || src.committedAt(0) != 5 || len(tab.values(0)) != 5 || len(tab.values(1)) != 0 {
			t.Errorf("it took %v, committed %d, the table has %v and %v", d, src.committedAt(0), tab.values(0), tab.values(1))
		}
		sink.set(func() { sink.stalled = true })
		begun = time.Now()
		src.revoke(t.Context(), 1)
		if d := time.Since(begun); d > revokeWait || src.committedAt(1) != 0 {
			t.Errorf("it took %v, committed %d", d, src.committedAt(1))
		}
		sink.set(func() { sink.stalled = false })
		sink.resume()
		pass(time.Second)
		src.assign(0, 1) // what became durable late is skipped
		src.add(0, "v5")
		src.add(1, "v5")
		pass(time.Second)
		g.w.Drain(t.Context())
		g.wait(t)
		for p := range int32(2) {
			if got := tab.values(p); !slices.Equal(got, values("v", 0, 6)) {
				t.Errorf("partition %d has %v", p, got)
			}
		}
		if c := g.w.Stats().Total; c.Skipped != 5 || c.Abandoned != 5 || c.Delivered != 7 {
			t.Errorf("%+v", c)
		}
	})
}

// TestChainCutHoldsOneLaneBack: a lane whose write does not end keeps nobody else from its cut.
func TestChainCutHoldsOneLaneBack(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(5).add(0, values("v", 0, 500)...).add(1, values("v", 0, 500)...)
		src.endless = true
		g, sink, tab := chainRig(t, src)
		stuck := make(chan struct{})
		first := true
		sink.onWrite = func(_ context.Context, b *record.Batch) error {
			sink.mu.Lock()
			once := first && b.Partition == 0 && b.Records[0].Offset > 0
			first = first && !once
			sink.mu.Unlock()
			if once {
				<-stuck
			}
			time.Sleep(time.Millisecond)
			return nil
		}
		g.start(t.Context())
		pass(3 * time.Second)
		if got := tab.values(1); !slices.Equal(got, values("v", 0, 500)) {
			t.Errorf("the other lane has %d rows", len(got))
		}
		if got := tab.values(0); len(got) != 0 {
			t.Errorf("the stuck lane has %d rows", len(got))
		}
		close(stuck)
		pass(10 * time.Second)
		if got := tab.values(0); !slices.Equal(got, values("v", 0, 500)) {
			t.Errorf("the stuck lane has %d rows", len(got))
		}
		g.w.Drain(t.Context())
		g.wait(t)
	})
}

// TestChainStopsBeforeARecord: what the sink took of a batch behind a record that stops the
// route is in no commit.
func TestChainStopsBeforeARecord(t *testing.T) {
	for name, test := range map[string]struct {
		value string
		rows  int
	}{
		"refused":  {"vbad", 3}, // those of the batch before
		"evaluate": {"e", 4},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T) {
				src := newMemSource(3).add(0, values("v", 0, 3)...)
				src.endless = true
				g, sink, tab := chainRig(t, src, func(r *configs.Route) { r.OnError = configs.StopRoute })
				sink.reject = func(v string) bool { return v == "vbad" }
				g.start(t.Context())
				pass(5 * time.Second)
				src.add(0, append([]string{"v3", test.value}, values("v", 5, 9)...)...)
				if err := <-g.ended; !IsHalt(err) || !strings.Contains(err.Error(), "before offset 4") {
					t.Errorf("it ended with %v", err)
				}
				if got := tab.values(0); !slices.Equal(got, values("v", 0, test.rows)) || src.committedAt(0) != int64(test.rows) {
					t.Errorf("the table has %v, committed %d", got, src.committedAt(0))
				}
				if err := checkCounts(g.w.Stats()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestChainWaitsForLetters: a position is not cut before the dead letters before it are acknowledged.
func TestChainWaitsForLetters(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(5).add(0, "v0", "e1", "v2").add(1, "v0")
		src.endless = true
		g, _, tab := chainRig(t, src)
		away := make(chan struct{})
		g.letters.fail = func() error {
			select {
			case <-away:
				return nil
			default:
				return errors.New("away")
			}
		}
		g.start(t.Context())
		pass(time.Minute)
		if src.committedAt(0) != 0 || len(tab.values(0)) != 0 || src.committedAt(1) != 1 {
			t.Errorf("committed %d and %d, the table has %v", src.committedAt(0), src.committedAt(1), tab.values(0))
		}
		close(away)
		pass(time.Minute)
		if src.committedAt(0) != 3 || len(tab.values(0)) != 2 || !slices.Equal(g.letters.values(), []string{"e1"}) {
			t.Errorf("committed %d, the table has %v, letters %v", src.committedAt(0), tab.values(0), g.letters.values())
		}
		g.w.Drain(t.Context())
		g.wait(t)
	})
}

// TestChainMovesWithoutRecords: what is filtered out is not read again for ever.
func TestChainMovesWithoutRecords(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(5).add(0, values("f", 0, 99)...).add(0, "v99")
		src.endless = true
		g, sink, _ := chainRig(t, src)
		sink.reject = func(string) bool { return true } // what is refused makes no row either
		g.start(t.Context())
		pass(idleCut + 3*time.Second)
		if s := g.w.Stats(); src.committedAt(0) != s.Lanes[0].Next.Offset || sink.cuts != 1 || s.Total.Filtered != 99 || s.Total.DeadLettered != 1 {
			t.Errorf("committed %d of %d with %d cuts, %+v", src.committedAt(0), s.Lanes[0].Next.Offset, sink.cuts, s.Total)
		}
		pass(time.Hour)
		if sink.cuts != 1 {
			t.Errorf("cut %d times with nothing new", sink.cuts)
		}
		sink.set(func() { sink.lazy = true })
		src.add(0, "v100") // refused
		pass(idleCut + 3*time.Second)
		src.add(0, "f101")
		pass(time.Hour)
		if s := g.w.Stats(); src.committedAt(0) != s.Lanes[0].Next.Offset || sink.cuts > 2+int(3*time.Minute/idleCut) || s.InFlightRecords != 0 {
			t.Errorf("committed %d of %d with %d cuts, %d in flight", src.committedAt(0), s.Lanes[0].Next.Offset, sink.cuts, s.InFlightRecords)
		}
		g.w.Drain(t.Context())
		g.wait(t)
	})
}

// TestChainCountsAnything: positions may count something else than the offsets of records, as those of a
// replay of dead letters do.
func TestChainCountsAnything(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(1).add(0, values("v", 0, 20)...)
		g, _, tab := chainRig(t, src)
		g.w.spec.Source = far{src}
		src.committed[0] = farAway
		src.at[0] = 0
		g.start(t.Context())
		g.wait(t)
		if got := tab.values(0); !slices.Equal(got, values("v", 0, 20)) || tab.end[0].Offset != farAway+int64(26) {
			t.Errorf("the table has %v, up to %d", got, tab.end[0].Offset-farAway)
		}
		if c := g.w.Stats().Total; c.Skipped != 0 || c.Delivered != 20 {
			t.Errorf("%+v", c)
		}
	})
}

const farAway = int64(1) << 62

// far is a source whose positions are far behind its offsets.
type far struct{ *memSource }

func (f far) Open(ctx context.Context, from []record.Position, l sources.Listener) error {
	f.manual = true
	if err := f.memSource.Open(ctx, from, l); err != nil {
		return err
	}
	l.Assigned([]record.Position{{Offset: farAway}})
	return nil
}

func (f far) Read(ctx context.Context, b *record.Batch) error {
	err := f.memSource.Read(ctx, b)
	if len(b.Records) > 0 {
		b.Next.Offset += farAway
	}
	return err
}

// TestChainStoresPositions: what is durable goes where the route is remembered, too, and a program is
// stored before what it filtered out may become durable.
func TestChainStoresPositions(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(5).add(0, "v0", "f1", "v2")
		store, h := &memStore{}, &history{}
		tab := newTable(1)
		tab.calm = true
		w := newWorker(Spec{Route: testRoute(), Revision: 1, Source: positioned{src}, Sink: newChainSink(tab), Positions: store, Programs: h}, newCommands)
		if err := w.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(store.from) != 1 || store.from[0].Offset != 3 || len(h.starts) != 1 {
			t.Errorf("stored %+v, programs %+v", store.from, h.starts)
		}
	})
	in(t, func(t *testing.T) {
		src := newMemSource(5).add(0, "f0", "f1")
		h := &history{fail: errors.New("the disk is full")}
		g, sink, _ := chainRig(t, src)
		src.endless = true
		g.w.spec.Programs = h
		g.start(t.Context())
		pass(time.Hour)
		if s := g.w.Stats(); sink.cuts != 0 || !strings.Contains(s.LastError, "the disk is full") {
			t.Errorf("%d cuts, %s", sink.cuts, s.LastError)
		}
		h.set(nil)
		pass(time.Hour)
		if sink.cuts != 1 || src.committedAt(0) != 2 {
			t.Errorf("%d cuts, committed %d", sink.cuts, src.committedAt(0))
		}
		g.w.Drain(t.Context())
		g.wait(t)
	})
}

// TestChainGuarantees: a position that is claimed before it is written has no place in a chain.
func TestChainGuarantees(t *testing.T) {
	in(t, func(t *testing.T) {
		g, _, _ := chainRig(t, newMemSource(5), func(r *configs.Route) { r.Delivery.Guarantee = configs.AtMostOnce })
		g.start(t.Context())
		if err := <-g.ended; err == nil || !strings.Contains(err.Error(), "at_most_once") {
			t.Errorf("it ended with %v", err)
		}
	})
	in(t, func(t *testing.T) {
		g, _, tab := chainRig(t, newMemSource(5).add(0, "v0"), func(r *configs.Route) { r.Delivery.Guarantee = configs.ExactlyOnce })
		g.start(t.Context())
		g.wait(t)
		if len(tab.values(0)) != 1 {
			t.Errorf("the table has %v", tab.values(0))
		}
	})
}

// TestChainAbortForgets: a process that is told to end at once leaves nothing half done, and waits for nothing.
func TestChainAbortForgets(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(5).add(0, values("v", 0, 10)...)
		src.endless = true
		g, sink, tab := chainRig(t, src)
		sink.noDue = true
		ctx, cancel := context.WithCancel(t.Context())
		g.start(ctx)
		pass(10 * time.Second)
		begun := time.Now()
		cancel()
		if err := <-g.ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if sink.cuts != 0 || !slices.Equal(sink.forgot, []int32{0}) || len(tab.values(0)) != 0 || time.Since(begun) != 0 {
			t.Errorf("%d cuts, forgot %v, the table has %v after %v", sink.cuts, sink.forgot, tab.values(0), time.Since(begun))
		}
		if c := g.w.Stats().Total; c.Abandoned != 10 || c.Delivered != 0 {
			t.Errorf("%+v", c)
		}
	})
}

// TestChainLeaveCuts: a worker that makes way for another leaves what it has accepted durable.
func TestChainLeaveCuts(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(5).add(0, values("v", 0, 10)...)
		src.endless = true
		g, sink, tab := chainRig(t, src)
		sink.noDue = true
		g.start(t.Context())
		pass(10 * time.Second)
		g.w.Leave(t.Context())
		g.wait(t)
		if !slices.Equal(tab.values(0), values("v", 0, 10)) || src.committedAt(0) != src.logs[0][9].Offset+1 {
			t.Errorf("the table has %v, committed %d", tab.values(0), src.committedAt(0))
		}
	})
}

// TestChainEndCompletesPredecessors: a bounded run ends when all its partitions have begun, since what a predecessor
// left half done is completed then.
func TestChainEndCompletesPredecessors(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(5).add(0, "v0")
		src.logs[1] = []record.Record{}
		g, sink, _ := chainRig(t, src)
		tries := 0
		sink.onBegin = func(_ context.Context, from record.Position) error {
			time.Sleep(time.Second)
			sink.mu.Lock()
			defer sink.mu.Unlock()
			if from.Partition == 1 {
				if tries++; tries < 4 {
					return errors.New("busy")
				}
			}
			return nil
		}
		g.start(t.Context())
		g.wait(t)
		if tries != 4 || len(sink.begun) != 2 {
			t.Errorf("%d tries, %v", tries, sink.begun)
		}
	})
}
