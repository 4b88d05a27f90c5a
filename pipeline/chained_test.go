package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"keystone/configs"
	"keystone/pipeline/record"
	"keystone/sinks"
)

// chainPast is one random past of a route whose sink is a chain.
type chainPast struct {
	seed                         uint64
	partitions, records, size    int
	parallelism                  int
	inFlight                     int64
	lives                        int
	retry, busy, reject          int
	drains, zombies, swap, stale bool
	lazy                         bool
}

// TestChainHasEveryRowOnce is the promise of a chained sink: whatever crashes, is revoked, lost, fenced or
// fails for a while, each row is in the table once and in order, the source is never
// ahead of the chain, and the counters add up.
func TestChainHasEveryRowOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		percent := rapid.SampledFrom([]int{0, 0, 5, 30})
		h := chainPast{
			seed:       rapid.Uint64().Draw(rt, "seed"),
			partitions: rapid.IntRange(1, 4).Draw(rt, "partitions"), records: rapid.IntRange(0, 200).Draw(rt, "records"),
			size: rapid.IntRange(1, 20).Draw(rt, "size"), parallelism: rapid.IntRange(1, 3).Draw(rt, "parallelism"),
			inFlight: rapid.SampledFrom([]int64{1, 5_000, 0}).Draw(rt, "in flight"), lives: rapid.IntRange(0, 4).Draw(rt, "lives"),
			retry: percent.Draw(rt, "retry"), busy: percent.Draw(rt, "busy"), reject: percent.Draw(rt, "reject"),
			drains: rapid.Bool().Draw(rt, "drains"), zombies: rapid.Bool().Draw(rt, "zombies"), swap: rapid.Bool().Draw(rt, "swap"),
			stale: rapid.Bool().Draw(rt, "stale"), lazy: rapid.Bool().Draw(rt, "lazy"),
		}
		synctest.Test(t, func(t *testing.T) {
			if err := h.play(t); err != nil {
				rt.Errorf("%+v\n%v", h, err)
			}
		})
		if t.Failed() {
			rt.FailNow()
		}
	})
}

func (h chainPast) play(t *testing.T) error {
	rng := rand.New(rand.NewPCG(h.seed, 3))
	tab := newTable(h.seed)
	base := newMemSource(h.size)
	for p := range int32(h.partitions) {
		base.logs[p] = []record.Record{} // all of them exist
	}
	rejected := map[string]bool{}
	want := map[int32][]string{}
	var letters []string
	for n := range h.records {
		part := int32(rng.IntN(h.partitions))
		v := fmt.Sprintf("%c%d", "vvvvvxfte0"[rng.IntN(10)], n)
		base.add(part, v)
		out := (&world{policy: configs.DeadLetter}).outputs(v)
		bad := false
		for _, o := range out {
			if rng.IntN(100) < h.reject {
				rejected[o], bad = true, true
				continue
			}
			want[part] = append(want[part], o)
		}
		if bad || v[0] == 'e' {
			letters = append(letters, v)
		}
	}
	// What the source has stored; a process that is taken for dead cannot change it.
	stored := map[int32]int64{}
	sent := map[string]bool{}
	var zombies []*rig
	for life := 0; ; life++ {
		last := life >= h.lives
		if last {
			tab.mu.Lock()
			tab.calm = true
			tab.mu.Unlock()
		}
		if life > h.lives+20 {
			return errors.New("the route does not come to an end")
		}
		src := newMemSource(h.size)
		src.logs, src.endless = base.logs, !last
		for p, o := range stored {
			src.committed[p] = o
			if h.stale && !last {
				src.committed[p] = max(0, o-int64(rng.IntN(20))) // the group's offsets are only informational
			}
		}
		src.check = func(part int32, next int64) error {
			tab.mu.Lock()
			defer tab.mu.Unlock()
			if end := tab.end[part].Offset; end < next {
				return fmt.Errorf("partition %d: %d is committed, and the chain ends at %d", part, next, end)
			}
			return nil
		}
		sink := newChainSink(tab)
		sink.lazy = h.lazy
		sink.retry, sink.busy, sink.reject = h.retry, h.busy, func(v string) bool { return rejected[v] }
		if last {
			sink.retry, sink.busy = 0, 0
		}
		route := testRoute(func(r *configs.Route) {
			r.Parallelism, r.Limits.MaxInFlightBytes = h.parallelism, h.inFlight
			r.Delivery.CommitInterval = 20 * time.Millisecond
		})
		g := newRig(src, sink, route)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		g.letters.fail = func() error {
			if tab.chance(h.busy) {
				return errors.New("the dead-letter stream is away")
			}
			return nil
		}
		g.start(ctx)
		synctest.Wait()
		if !last {
			h.disturb(ctx, g, rng, route)
		}
		keep := func() {
			src.mu.Lock()
			defer src.mu.Unlock()
			for p, o := range src.committed {
				stored[p] = max(stored[p], o)
			}
		}
		var err error
		switch {
		case last:
			err = <-g.ended
			keep()
		case h.drains && rng.IntN(2) == 0:
			if err := g.w.Drain(ctx); err != nil {
				return err
			}
			keep()
			err = <-g.ended
		case h.zombies && rng.IntN(2) == 0:
			keep() // the group takes it for dead, and it goes on
			src.mu.Lock()
			src.dead = true
			src.mu.Unlock()
			zombies = append(zombies, g)
			continue
		default:
			keep()
			sink.crash()
			src.mu.Lock()
			src.dead = true
			src.mu.Unlock()
			cancel()
			<-g.ended
		}
		cancel()
		for _, v := range g.letters.values() {
			sent[v] = true
		}
		if err := errors.Join(append(append(tab.errs, src.violations...), checkCounts(g.w.Stats()))...); err != nil {
			return fmt.Errorf("life %d: %w", life, err)
		}
		if errors.Is(err, sinks.ErrFenced) {
			continue // it begins anew
		}
		if err != nil {
			return err
		}
		if last {
			s := g.w.Stats()
			if s.InFlightRecords != 0 || s.Total.Abandoned != 0 {
				return fmt.Errorf("a finished run has %d in flight and %d abandoned", s.InFlightRecords, s.Total.Abandoned)
			}
			for p, log := range base.logs {
				if n := len(log); n > 0 && src.committedAt(p) != log[n-1].Offset+1 {
					return fmt.Errorf("partition %d: committed %d, want %d", p, src.committedAt(p), log[n-1].Offset+1)
				}
			}
			break
		}
	}
	for _, g := range zombies { // they wake late
		time.Sleep(time.Second)
		_ = g.w.Drain(t.Context())
		<-g.ended
		if err := errors.Join(append(tab.errs, checkCounts(g.w.Stats()))...); err != nil {
			return fmt.Errorf("zombie: %w", err)
		}
		for _, v := range g.letters.values() {
			sent[v] = true
		}
	}
	for p := range int32(h.partitions) {
		if !slices.Equal(tab.rows[p], want[p]) {
			return fmt.Errorf("partition %d has %d rows, want %d\n%v\n%v", p, len(tab.rows[p]), len(want[p]), tab.rows[p], want[p])
		}
	}
	for _, v := range letters {
		if !sent[v] {
			return fmt.Errorf("there is no dead letter of %s", v)
		}
	}
	return nil
}

// disturb lets time pass, and partitions change hands.
func (h chainPast) disturb(ctx context.Context, g *rig, rng *rand.Rand, route *configs.Route) {
	for range 1 + rng.IntN(4) {
		time.Sleep(time.Duration(rng.IntN(200)) * time.Millisecond)
		if h.swap {
			g.w.swap(newPlan(newCommands, route, g.w.Stats().Revision+1, true))
		}
		select {
		case <-g.w.done:
			return
		default:
		}
		part := int32(rng.IntN(h.partitions))
		switch rng.IntN(4) {
		case 0:
			g.src.lose(part)
			time.Sleep(time.Duration(rng.IntN(2)*rng.IntN(20)) * time.Millisecond)
			g.src.assign(part)
		case 1:
			bounded, stop := context.WithTimeout(ctx, time.Second)
			g.src.revoke(bounded, part)
			stop()
			time.Sleep(time.Duration(rng.IntN(2)*rng.IntN(20)) * time.Millisecond)
			g.src.assign(part)
		}
	}
}
