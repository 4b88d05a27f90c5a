package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"keystone/pipeline/mutation"
	"keystone/pipeline/record"
	"keystone/sources"
)

// listener is what the source tells about its partitions.
type listener struct{ w *Worker }

// Assigned makes a lane for each partition. One that it had is lost first.
func (s listener) Assigned(parts []record.Position) {
	w := s.w
	w.mu.Lock()
	defer w.unlock()
	for _, p := range parts {
		l := w.newLane(p)
		old := w.lanes[p.Partition]
		if old == nil {
			old = w.gone[p.Partition]
		}
		if old != nil {
			old.end()
			l.follow(old)
		}
		delete(w.gone, p.Partition)
		w.lanes[p.Partition] = l
	}
	w.beginChains(parts)
	w.changed.Broadcast()
}

// revokeWait bounds a revocation. Half of it is for writes that are on their
// way, so that the next owner does not overtake them; the rest for the commit.
const revokeWait = 10 * time.Second

// Revoked commits what is finished and forgets the lanes. What was not given
// to the sink is not waited for.
func (s listener) Revoked(ctx context.Context, parts []int32) {
	w := s.w
	ctx, cancel := context.WithTimeout(ctx, revokeWait)
	defer cancel()
	defer w.wakeAfter(ctx)()
	deadline, _ := ctx.Deadline()
	half, cancelHalf := context.WithTimeout(ctx, time.Until(deadline)/2)
	defer cancelHalf()
	defer w.wakeAfter(half)()

	lanes := s.close(parts)
	w.flush()
	w.mu.Lock()
	if w.tx != nil && w.tx.broken != nil && w.cancelCommit != nil {
		w.cancelCommit() // it waits for the source, which waits for us
	}
	writing := func() (n int) {
		for _, l := range lanes {
			n += l.writing
		}
		return n
	}
	for writing() > 0 && half.Err() == nil && !w.aborted {
		w.changed.Wait()
	}
	w.mu.Unlock()
	if w.chain != nil {
		w.handOver(ctx, half, lanes)
	}
	for _, l := range lanes {
		if w.atMostOnce {
			break // everything written is committed
		}
		if w.tx != nil && w.isAborted() {
			break // the rest is the committer's
		}
		if err := w.commit(ctx, l); err != nil && !errors.Is(err, sources.ErrNotAssigned) {
			w.log.Warn("commit at revocation failed: records will be repeated", "partition", l.part, "error", err)
		}
	}
	w.mu.Lock()
	for w.committing && ctx.Err() == nil && (w.tx == nil || w.tx.broken == nil) {
		w.changed.Wait() // it may hold a position of these lanes from before
	}
	s.forget(lanes)
	w.sweep()
	w.unlock()
}

// close takes the permits of lanes: from now on only Revoked commits them.
func (s listener) close(parts []int32) (lanes []*lane) {
	w := s.w
	w.mu.Lock()
	defer w.unlock()
	for _, p := range parts {
		if l := w.lanes[p]; l != nil && !l.over {
			l.revoking = true
			lanes = append(lanes, l)
		}
	}
	w.changed.Broadcast()
	return lanes
}

// forget ends lanes. A commit that is still under way is cancelled.
func (s listener) forget(lanes []*lane) {
	w := s.w
	if w.committing && w.cancelCommit != nil && len(lanes) > 0 {
		w.cancelCommit()
	}
	for _, l := range lanes {
		l.end()
		w.gone[l.part] = l
		delete(w.known, l.part)
		if w.lanes[l.part] == l {
			delete(w.lanes, l.part)
		}
	}
	for _, l := range w.lanes {
		l.balance() // their shares are larger now
	}
	w.changed.Broadcast()
}

// Lost forgets lanes at once: others own the partitions.
func (s listener) Lost(parts []int32) {
	w := s.w
	if mutation.On(mutation.NoFence) {
		return
	}
	lanes := s.close(parts)
	ctx, cancel := context.WithTimeout(context.Background(), revokeWait)
	defer cancel()
	defer w.wakeAfter(ctx)()
	w.mu.Lock()
	defer w.unlock()
	s.forget(lanes)
	w.sweep()
	for w.committing && ctx.Err() == nil {
		w.changed.Wait() // cancelled; it must not land after the partitions were assigned again
	}
}

// DataLoss counts, and stops the route where on_data_loss says so. It is heard within Read.
func (s listener) DataLoss(part int32, from, to int64) {
	w := s.w
	if from = w.chained(part, from, to); from == to {
		w.log.Info("records were removed that the sink has already", "partition", part, "before", to)
		return
	}
	err := fmt.Errorf("records %d to %d of %s, partition %d, were removed before they were read", from, to-1, w.spec.Route.From.Addr, part)
	w.log.Error("data loss", "error", err)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lostBefore += max(to-from, 0)
	if l := w.lanes[part]; l != nil {
		l.lost += max(to-from, 0)
		// What is read from here on is this lane's: the source says so from within the Read that
		// gives it. Without this a batch that begins behind what the lane's predecessor had read, since
		// all before it was removed, would be taken for the predecessor's (see stale).
		l.before = record.Position{}
		if l.link != nil && to < from && to < l.next.Offset {
			w.abortLocked(w.cutOff(part, to, l.next.Offset))
		}
	}
	w.note(err)
	if w.plan.Load().dataLossStops {
		w.stopLocked(fmt.Errorf("%w; the route stops because on_data_loss is \"stop\"", err))
	}
}
