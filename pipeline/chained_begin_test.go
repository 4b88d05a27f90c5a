package pipeline

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"keystone/pipeline/record"
	"keystone/sinks"
)

// TestChainBeginsBesideTheOthers: the source is not kept waiting while a partition's chain cannot be
// found, other partitions go on, and it is seen why this one does not.
func TestChainBeginsBesideTheOthers(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(5).add(0, values("v", 0, 20)...).add(1, values("v", 0, 20)...)
		src.endless = true
		g, sink, tab := chainRig(t, src)
		away := true
		sink.onBegin = func(ctx context.Context, from record.Position) error {
			sink.mu.Lock()
			defer sink.mu.Unlock()
			if from.Partition == 1 && away {
				return errors.New("503 slow down")
			}
			return nil
		}
		g.start(t.Context())
		pass(10 * time.Second)
		if got := tab.values(0); !slices.Equal(got, values("v", 0, 20)) {
			t.Errorf("the other partition has %v", got)
		}
		if s := g.w.Stats(); s.Activity != Retrying || !strings.Contains(s.Error, "503 slow down") || s.Attempt < 5 || s.Lanes[1].Activity != Retrying {
			t.Errorf("%s (%d): %s", s.Activity, s.Attempt, s.Error)
		}
		sink.set(func() { away = false })
		pass(5 * time.Second)
		if got := tab.values(1); !slices.Equal(got, values("v", 0, 20)) {
			t.Errorf("the partition has %v", got)
		}
		if s := g.w.Stats(); s.Activity != Fetching || s.Error != "" {
			t.Errorf("%s: %s", s.Activity, s.Error)
		}
		g.w.Drain(t.Context())
		g.wait(t)
	})
}

// TestChainBeginIsNotWaitedForByTheSource: a call of Begin that hangs keeps neither the listener nor a drain.
func TestChainBeginIsNotWaitedForByTheSource(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(5).add(0, values("v", 0, 20)...)
		g, sink, _ := chainRig(t, src)
		sink.onBegin = func(ctx context.Context, _ record.Position) error { <-ctx.Done(); return ctx.Err() }
		g.start(t.Context())
		synctest.Wait()
		begun := time.Now()
		src.revoke(t.Context(), 0)
		src.assign(0)
		src.lose(0)
		src.assign(0)
		g.w.Drain(t.Context())
		g.wait(t)
		if d := time.Since(begun); d != 0 {
			t.Errorf("it took %v", d)
		}
	})
}

// TestChainSkipsWhatItHas: what is read again and is before the end of the chain is in no
// count but its own, and is said to have run with no program of this incarnation.
func TestChainSkipsWhatItHas(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(5).add(0, "v0", "f1", "v2", "x3", "v4", "v5")
		h := &history{}
		g, _, tab := chainRig(t, src)
		g.w.spec.Programs = h
		tab.end[0], tab.rows[0] = record.Position{Offset: 4}, []string{"v0", "v2", "x3a", "x3b"}
		g.start(t.Context())
		g.wait(t)
		if got := tab.values(0); !slices.Equal(got, []string{"v0", "v2", "x3a", "x3b", "v4", "v5"}) {
			t.Errorf("the table has %v", got)
		}
		c := g.w.Stats().Total
		if c.Read != 2 || c.Delivered != 2 || c.Skipped != 4 || c.Filtered != 0 || c.ReadBytes != int64(2*len("k4v4")) {
			t.Errorf("%+v", c)
		}
		if len(h.starts) != 1 || h.starts[0].At.Offset != 4 {
			t.Errorf("programs %+v", h.starts)
		}
		if src.committedAt(0) != 6 {
			t.Errorf("committed %d", src.committedAt(0))
		}
	})
}

// TestChainBehindTheSource: rows between the chain's end and the source would be missing.
func TestChainBehindTheSource(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(5).add(0, values("v", 0, 4)...)
		src.committed[0] = 3
		g, _, tab := chainRig(t, src)
		tab.end[0] = record.Position{Offset: 1}
		g.start(t.Context())
		if err := <-g.ended; !sinks.IsPermanent(err) || !strings.Contains(err.Error(), "ends at 1") {
			t.Errorf("it ended with %v", err)
		}
		if src.committedAt(0) != 3 || len(tab.rows[0]) != 0 {
			t.Errorf("committed %d, wrote %v", src.committedAt(0), tab.rows[0])
		}
	})
}

// TestChainThatOthersContinue ends the worker, which has no outcome for what it wrote since.
func TestChainThatOthersContinue(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(5).add(0, values("v", 0, 10)...)
		src.endless = true
		g, _, tab := chainRig(t, src)
		g.start(t.Context())
		pass(5 * time.Second)
		tab.mu.Lock()
		tab.end[0] = record.Position{Offset: 40} // by somebody else
		tab.mu.Unlock()
		src.add(0, values("v", 10, 20)...)
		if err := <-g.ended; !errors.Is(err, sinks.ErrFenced) || sinks.IsPermanent(err) {
			t.Errorf("it ended with %v", err)
		}
		s := g.w.Stats()
		if err := checkCounts(s); err != nil || s.Total.Delivered != 10 || s.Total.Abandoned != 10 {
			t.Errorf("%+v, %v", s.Total, err)
		}
		if got := tab.values(0); !slices.Equal(got, values("v", 0, 10)) {
			t.Errorf("the table has %v", got)
		}
	})
}

// TestChainOfALogThatWasCutOff: other records at offsets that the chain has are not skipped in silence.
func TestChainOfALogThatWasCutOff(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(5).add(0, values("v", 0, 4)...)
		src.endless = true
		g, _, tab := chainRig(t, src)
		tab.end[0] = record.Position{Offset: 6, LeaderEpoch: 3}
		g.w.spec.Source = epochs{src, 4}
		g.start(t.Context())
		if err := <-g.ended; err == nil || !strings.Contains(err.Error(), "was cut off") || !strings.Contains(err.Error(), "rewind") {
			t.Errorf("it ended with %v", err)
		}
	})
	in(t, func(t *testing.T) {
		src := newMemSource(5).add(0, values("v", 0, 4)...)
		src.endless = true
		g, _, _ := chainRig(t, src)
		g.start(t.Context())
		pass(5 * time.Second)
		src.l.DataLoss(0, 4, 2)
		if err := <-g.ended; err == nil || !strings.Contains(err.Error(), "was cut off") {
			t.Errorf("it ended with %v", err)
		}
	})
}

// TestChainThatIsAheadOfWhatWasRemoved: records that the chain has may be removed from the log before the
// source has passed them.
func TestChainThatIsAheadOfWhatWasRemoved(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(5).add(0, values("v", 0, 7)...)
		src.endless = true
		g, _, tab := chainRig(t, src)
		tab.end[0] = record.Position{Offset: 6}
		g.start(t.Context())
		synctest.Wait()
		src.l.DataLoss(0, 0, 4)
		pass(5 * time.Second)
		if got := tab.values(0); !slices.Equal(got, []string{"v6"}) {
			t.Errorf("the table has %v", got)
		}
		if s := g.w.Stats(); s.LostBeforeRead != 0 || s.Lanes[0].LostBeforeRead != 0 || s.LastError != "" {
			t.Errorf("%d are said to be lost: %s", s.LostBeforeRead, s.LastError)
		}
		src.l.DataLoss(0, 7, 10)
		if s := g.w.Stats(); s.LostBeforeRead != 3 {
			t.Errorf("%d are said to be lost", s.LostBeforeRead)
		}
		g.w.Drain(t.Context())
		g.wait(t)
	})
}

// epochs is a source whose records are of a leader's epoch.
type epochs struct {
	*memSource
	epoch int32
}

func (e epochs) Read(ctx context.Context, b *record.Batch) error {
	err := e.memSource.Read(ctx, b)
	b.Next.LeaderEpoch = e.epoch
	return err
}

// TestChainsBeginAFewAtATime bounds what a thousand partitions ask of the store at once.
func TestChainsBeginAFewAtATime(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(5)
		for p := range int32(100) {
			src.logs[p] = []record.Record{}
		}
		g, sink, _ := chainRig(t, src)
		asking, most := 0, 0
		sink.onBegin = func(context.Context, record.Position) error {
			sink.set(func() { asking++; most = max(most, asking) })
			time.Sleep(time.Second)
			sink.set(func() { asking-- })
			return nil
		}
		g.start(t.Context())
		g.wait(t)
		if most != beginnings || len(sink.begun) != 100 {
			t.Errorf("%d at once, %d begun", most, len(sink.begun))
		}
	})
}
