package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"keystone/pipeline/mutation"
	"keystone/pipeline/record"
	"keystone/sources"
)

const (
	// holdLongest bounds how long a lane is held back for a cut. It is over when one write was
	// answered; where that takes long, others should not wait for their cuts.
	holdLongest = 5 * time.Second
	// idleCut is how often a position moves in the chain that has no records before it.
	idleCut = 10 * time.Second
	// settleSlice is how often it is looked what has become durable while cuts are waited for.
	settleSlice = time.Second
	// settleReserve is what a revocation keeps for the commit.
	settleReserve = revokeWait / 5
)

// chainLoop cuts what is due, and commits what has become durable. It looks at every commit_interval while
// there is something open.
func (w *Worker) chainLoop(ctx context.Context) {
	for {
		select {
		case <-w.dirty:
		case <-ctx.Done():
			return
		}
		w.interval(ctx)
		if ctx.Err() != nil {
			return
		}
		switch err := w.chainTick(ctx); {
		case err == nil:
			w.committed()
		case ctx.Err() != nil || w.broken():
			return
		case !errors.Is(err, sources.ErrNotAssigned) && w.commitFailed(err):
			return
		}
		w.mu.Lock()
		if w.openChains() {
			w.markDirty()
		}
		w.mu.Unlock()
	}
}

// openChains tells that the sink has something that is not committed.
func (w *Worker) openChains() bool {
	for _, l := range w.lanes {
		if l.link.begun && !l.over && (l.finished != l.link.durable || l.link.durable != l.committed) {
			return true
		}
	}
	return len(w.chain.left) > 0 || w.chain.err != nil
}

func (w *Worker) chainTick(ctx context.Context) error {
	x := w.chain
	w.mu.Lock()
	x.sweep(w)
	var due []int32
	if err := x.call(w, "due", func() error { due = x.sink.Due(); return nil }); err != nil {
		w.mu.Unlock()
		return err
	}
	var lanes []*lane
	for _, l := range w.lanes {
		k := l.link
		idle := k.rows == 0 && time.Since(k.cutAt) >= idleCut
		k.again = idle && len(k.cuts) > 0
		if l.uncut() && !l.revoking && (idle || slices.Contains(due, l.part)) {
			lanes = append(lanes, l)
		}
	}
	w.cut(ctx, lanes)
	err := w.settled()
	w.unlock()
	if err != nil {
		return err
	}
	return w.commit(ctx, nil)
}

// uncut tells that the lane's position may be cut, and was not.
func (l *lane) uncut() bool {
	k := l.link
	return k != nil && k.begun && !k.spoiled && !l.over && (k.again || l.prefix().Offset > k.cut.Offset || l.base < l.writeSeq)
}

// answered tells that everything that the sink has of the lane is before its position.
func (l *lane) answered() bool {
	if mutation.On(mutation.CutUnanswered) {
		return true
	}
	return l.writing == 0 && l.base == l.writeSeq
}

// stuck tells that what is not answered will not be: the lane may not write any more.
func (l *lane) stuck() bool { return l.dead() && l.writing == 0 && l.w.lettersOut == 0 }

// cut ends a commit of each lane as soon as what it wrote has its answer. Each lane is held back
// only until its own cut. mu is held, and given up meanwhile.
func (w *Worker) cut(ctx context.Context, lanes []*lane) {
	if len(lanes) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, holdLongest)
	defer cancel()
	defer w.wakeAfter(ctx)()
	waiting := slices.Clone(lanes)
	for _, l := range waiting {
		l.link.hold = true
	}
	hastened := false
	for {
		var ready []*lane
		waiting = slices.DeleteFunc(waiting, func(l *lane) bool {
			switch {
			case !l.uncut() || !l.answered() && l.stuck():
				l.link.hold = false
			case l.answered():
				ready = append(ready, l)
			default:
				return false
			}
			return true
		})
		if len(ready) > 0 {
			w.cutNow(ctx, ready)
			continue
		}
		if len(waiting) == 0 || ctx.Err() != nil {
			break
		}
		if !hastened {
			hastened = true
			w.unlock()
			w.flush()
			w.mu.Lock()
			continue
		}
		w.changed.Wait()
	}
	for _, l := range waiting {
		l.link.hold = false
	}
	w.changed.Broadcast()
}

// cutNow ends a commit of lanes that are held back and have their answers.
func (w *Worker) cutNow(ctx context.Context, lanes []*lane) {
	x := w.chain
	defer func() {
		for _, l := range lanes {
			l.link.hold = false
		}
		w.changed.Broadcast()
	}()
	if w.spec.Programs != nil && slices.ContainsFunc(lanes, func(l *lane) bool { return len(l.starts) > 0 }) {
		// A cut may be durable at any time after it was made.
		if err := w.saveProgramsLocked(ctx, lanes); err != nil {
			w.note(err)
			w.log.Warn("nothing is cut before it is stored which program ran", "error", err)
			return
		}
	}
	for x.calling {
		w.changed.Wait()
	}
	var at []record.Position
	for _, l := range lanes {
		if !l.uncut() || !l.answered() {
			continue // it ended meanwhile
		}
		k := l.link
		if p := l.prefix(); p.Offset > k.cut.Offset {
			k.cut = p
			k.cuts = append(k.cuts, piece{p, l.pending})
			l.pending = Counts{}
		}
		k.cutAt, k.rows, k.again = time.Now(), 0, false
		at = append(at, k.cut)
		if mutation.On(mutation.SourceFirst) {
			k.durable = k.cut
		}
	}
	if len(at) == 0 {
		return
	}
	if err := x.call(w, "cut", func() error { x.sink.Cut(at); return nil }); err != nil {
		w.abortLocked(err)
	}
	w.markDirty()
}

// settled takes note of what has become durable: its outcomes count. An error ends the
// worker. mu is held, and given up meanwhile.
func (w *Worker) settled() error {
	x := w.chain
	var at []record.Position
	err := x.call(w, "durable", func() (err error) { at, err = x.sink.Durable(); return err })
	for _, p := range at {
		l := w.lanes[p.Partition]
		if l == nil || l.over || !l.link.begun {
			continue // of an incarnation that is no more; the next one begins behind it
		}
		k := l.link
		for len(k.cuts) > 0 && p.Identity == k.cuts[0].at.Identity && p.Offset >= k.cuts[0].at.Offset {
			l.counts.add(&k.cuts[0].counts)
			k.durable = k.cuts[0].at
			k.cuts = append(k.cuts[:0], k.cuts[1:]...)
		}
	}
	if x.err = nil; err != nil {
		err = fmt.Errorf("sink %s: %w", w.spec.Route.To.Addr, err)
		w.note(err)
		if chainEnds(err) {
			w.abortLocked(err)
			return err
		}
		if x.err = err; !w.stopping {
			w.log.Warn("what was written does not become durable yet", "error", err)
		}
	}
	return nil
}

// settle waits until the cuts of lanes are durable. mu is held, and given up meanwhile.
func (w *Worker) settle(ctx context.Context, lanes []*lane) {
	for {
		var parts []int32
		for _, l := range lanes {
			if !l.over && len(l.link.cuts) > 0 {
				parts = append(parts, l.part)
			}
		}
		if len(parts) == 0 || ctx.Err() != nil || w.failed() {
			return
		}
		begin := time.Now()
		slice, cancel := context.WithTimeout(ctx, settleSlice)
		w.unlock()
		err := guard("settle", func() error { return w.chain.sink.Settle(slice, parts) })
		w.mu.Lock()
		if w.settled() != nil {
			cancel()
			return
		}
		if isPanic(err) {
			w.abortLocked(err)
		}
		if err == nil && w.chain.err == nil {
			cancel()
			return // what is not durable was left for the next cut
		}
		w.unlock()
		sleep(slice, settleSlice-time.Since(begin))
		w.mu.Lock()
		cancel()
	}
}

// failed tells that the worker was aborted because something broke: then the sink is not relied on any more.
func (w *Worker) failed() bool { return w.aborted && w.stopErr != nil }

func (w *Worker) broken() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed()
}

// handOver cuts lanes that are being revoked and waits for it: until half ends for what is on its way to
// the sink, and then until it has to commit.
func (w *Worker) handOver(ctx, half context.Context, lanes []*lane) {
	w.mu.Lock()
	defer w.unlock()
	if w.failed() {
		return
	}
	w.cut(half, lanes)
	deadline, _ := ctx.Deadline()
	bounded, cancel := context.WithDeadline(ctx, deadline.Add(-settleReserve))
	defer cancel()
	w.settle(bounded, lanes)
	if list := w.repeated(lanes); list != "" {
		w.log.Warn("not everything became durable before the partitions were given up: who has them next reads again what did not", "from", list, "error", w.chain.err)
	}
}

// settleChains cuts everything and waits until it is durable, when nothing is read any more. Where
// the end is bounded it waits for drain_timeout.
func (w *Worker) settleChains(life, read context.Context) {
	if w.chain == nil {
		return
	}
	ctx, cancel := context.WithCancel(life)
	defer cancel()
	// The source may have ended by itself, and somebody loses patience later.
	defer context.AfterFunc(read, func() {
		limit := w.plan.Load().drainTimeout
		w.mu.Lock()
		if w.aborted { // a part may be broken and never answer
			limit = min(limit, revokeWait)
		}
		w.mu.Unlock()
		sleep(ctx, limit)
		cancel()
	})()
	w.mu.Lock()
	defer w.unlock()
	lanes := make([]*lane, 0, len(w.lanes))
	for _, l := range w.lanes {
		lanes = append(lanes, l)
	}
	defer w.wakeAfter(ctx)()
	if !w.failed() {
		w.cut(ctx, lanes)
		w.settle(ctx, lanes)
	}
	if w.failed() {
		_ = w.settled() // for what is durable nevertheless
		return
	}
	list := w.repeated(lanes)
	if list == "" {
		return
	}
	err := fmt.Errorf("not everything became durable in time, so it will be read again: %s", list)
	if w.chain.err != nil {
		err = fmt.Errorf("%w: %w", err, w.chain.err)
	}
	if w.aborted {
		w.log.Warn("the sink is left", "error", err) // somebody did not want to wait
		return
	}
	w.stopLocked(err)
}

// repeated lists where lanes are read again though they were read further.
func (w *Worker) repeated(lanes []*lane) string {
	var list []string
	for _, l := range lanes {
		if k := l.link; k.begun && !l.over && (k.spoiled || l.unsettled() > 0) {
			list = append(list, fmt.Sprintf("partition %d from offset %d", l.part, k.durable.Offset))
		}
	}
	slices.Sort(list)
	if n := len(list); n > 10 {
		list = append(list[:10], fmt.Sprintf("and %d more", n-10))
	}
	return strings.Join(list, ", ")
}

// leaveChains has the sink forget what is in no cut, and waits for lanes that are asking it. It is for
// lanes that have ended; a write that has no answer keeps its partition.
func (w *Worker) leaveChains() {
	if w.chain == nil {
		return
	}
	w.chain.close()
	w.mu.Lock()
	defer w.unlock()
	for w.chain.beginning > 0 {
		w.changed.Wait()
	}
	w.chain.sweep(w)
}
