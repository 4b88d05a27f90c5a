package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cenkalti/backoff/v5"

	"keystone/pipeline/mutation"
	"keystone/pipeline/record"
	"keystone/sinks"
	"keystone/sources"
)

// transaction is what a worker needs for exactly once. Worker.mu guards it,
// but for sink, source and hurry.
//
// All lanes write into one transaction of the sink. At a commit nothing new is
// written (Worker.barrier), what was written gets its outcomes, the lanes'
// positions go into the transaction, and it ends. Outcomes are counted only
// then: until that they are pending in their lane.
//
// A transaction in which a write failed, or whose lane ended before its
// position was in it, is broken: nothing more is written, the sink aborts it,
// and every lane begins again where the group is.
//
//   - A: batch 7 of a lane is in the transaction. B: the partition is lost.
//     A: the transaction must not be committed: the position after batch 7 is
//     not ours to store, and the next owner writes batch 7 again.
//   - A: Commit is sent, the answer is lost. A: Abort ends what is open, so the
//     outcome cannot change any more; then the source asks where the group is.
//     What stands at the position that was tried was committed, and counts. That is
//     asked before the lanes end or begin again, whatever ends them: a route that stops
//     or loses the partition has its last commit too, and nobody to ask after it.
type transaction struct {
	sink   sinks.Transactional
	source sources.Transacted
	hurry  chan struct{} // holds one token when a commit should not wait for its interval

	wrote   bool    // something was given to the sink
	plan    *plan   // of what was given to it; one program per transaction
	broken  error   // why it cannot be committed
	aborted bool    // it is broken, and the sink has ended it
	late    bool    // with writes under way, which may have begun another one there
	unsure  []tried // it may have been committed with these
	short   bool    // the one before was aborted: this one ends soon
	backoff *backoff.ExponentialBackOff
	tries   int // that were aborted since the last commit

	poison map[int32]map[child]verdict // by partition: what the sink refused and would refuse again
}

// tried is a position that a commit had for a lane.
type tried struct {
	lane *lane
	at   record.Position
}

// child is one output of the record at an offset; several with explode.
type child struct {
	offset  int64
	ordinal int32
}

// verdict is why the sink refused an output.
type verdict struct {
	code  string
	err   error
	tries int
}

// hurryUp has the committer not wait for its interval.
func (w *Worker) hurryUp() {
	select {
	case w.tx.hurry <- struct{}{}:
	default:
	}
	w.markDirty()
}

// breakTransaction says that what was written must not become visible.
func (w *Worker) breakTransaction(err error) {
	if w.tx.broken == nil {
		w.tx.broken, w.tx.aborted = err, false
		w.barrier = true
		w.note(err)
	}
	w.hurryUp()
	w.changed.Broadcast()
}

// ledger is where outcomes of the lane count: at once, or when the transaction ends.
func (l *lane) ledger() *Counts {
	if l.w.tx != nil || l.link != nil {
		return &l.pending
	}
	return &l.counts
}

// outcomes is how many source records have one.
func (c *Counts) outcomes() int64 { return c.Delivered + c.Filtered + c.DeadLettered + c.Dropped }

// keep makes pending outcomes count.
func (l *lane) keep() {
	l.counts.add(&l.pending)
	l.pending, l.touched = Counts{}, false
}

// leaveTransaction is for a lane that ends: what is pending has no outcome.
func (l *lane) leaveTransaction() {
	l.giveUp(&l.pending)
	if l.touched {
		l.touched = false
		l.w.breakTransaction(fmt.Errorf("partition %d was given up with records in the open transaction", l.part))
	}
}

// sound waits while the transaction is broken; false: the lane ended.
func (l *lane) sound() bool {
	for l.w.tx != nil && l.w.tx.broken != nil && !l.dead() {
		l.w.changed.Wait()
	}
	return !l.dead()
}

// join waits until the task may be part of the transaction: while none is
// being ended, and one with an older or newer program first has to.
func (l *lane) join(t *task) bool {
	w := l.w
	for !l.dead() && (w.barrier || w.tx.plan != nil && w.tx.plan != t.plan) {
		if !w.barrier {
			w.hurryUp()
		}
		w.changed.Wait()
	}
	if l.dead() {
		return false
	}
	w.tx.plan = t.plan
	return true
}

// eachOutput calls f for every output with what names it in tx.poison.
func (t *task) eachOutput(f func(i, src int32, c child)) {
	for i := range t.out.Records {
		r := &t.out.Records[i]
		f(int32(i), r.Source, child{t.in.Records[r.Source].Offset, r.Child})
	}
}

// remember keeps that output i was refused: where the transaction is aborted,
// the record is read again, and must not be tried again.
func (t *task) remember(i int32, code string, cause error, tries int) {
	w := t.lane.w
	part := t.lane.part
	if w.tx.poison[part] == nil {
		w.tx.poison[part] = map[child]verdict{}
	}
	t.eachOutput(func(j, _ int32, c child) {
		if _, had := w.tx.poison[part][c]; i == j && !had {
			w.tx.poison[part][c] = verdict{code, cause, tries}
		}
	})
}

// poisoned tells whether the task has outputs that were refused before.
func (l *lane) poisoned(t *task) (found bool) {
	bad := l.w.tx.poison[l.part]
	if len(bad) == 0 {
		return false
	}
	t.eachOutput(func(_, _ int32, c child) {
		_, ok := bad[c]
		found = found || ok
	})
	return found
}

// sendRest writes a task without the outputs that were refused before, and
// without what follows a record that stops the route.
func (l *lane) sendRest(t *task) {
	w := l.w
	bad := w.tx.poison[l.part]
	var rest []int32
	t.eachOutput(func(i, src int32, c child) {
		v, refused := bad[c]
		switch {
		case t.refused && int(src) >= t.end:
		case refused:
			t.reject(i, v.code, v.err, v.tries)
		default:
			rest = append(rest, i)
		}
	})
	if t.refused {
		rest = slices.DeleteFunc(rest, func(i int32) bool { return int(t.out.Records[i].Source) >= t.end })
	}
	t.attend()
	if len(rest) == 0 {
		l.settle()
		return
	}
	b := w.batch()
	b.Of(t.out)
	for _, i := range rest {
		r := t.out.Records[i]
		b.Records = append(b.Records, r)
		b.Bytes += size(&r)
	}
	t.sent = append(t.sent[:0], rest...)
	t.kept = true
	l.call(t, b)
	for t.inWrite && !l.over && !w.aborted {
		w.changed.Wait()
	}
	if !t.inWrite {
		w.giveBack(b)
	}
	t.kept = false
	t.leave()
}

// transact ends the transaction: with what was finished, or, if it is broken,
// by an abort. mu is held, and given up meanwhile. leaving tells that lanes
// are being revoked: then a broken one is left to the committer, since the source
// cannot begin again during a revocation.
func (w *Worker) transact(ctx context.Context, leaving bool) error {
	x := w.tx
	if x.broken == nil && x.plan == nil && !x.wrote && len(w.unstored()) == 0 {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer w.wakeAfter(ctx)()
	w.committing, w.cancelCommit = true, cancel
	defer func() {
		w.committing, w.cancelCommit, w.barrier = false, nil, x.broken != nil
		w.changed.Broadcast()
	}()
	if x.broken == nil {
		w.barrier = true
		if !mutation.On(mutation.UnsettledEnd) {
			w.settleTransaction(ctx)
		}
	}
	if x.broken == nil {
		end := ctx
		if !leaving {
			// An end that is not waited for has an unknown outcome, so that of the run does not cut it short.
			end = context.WithoutCancel(ctx)
		}
		if err := w.endTransaction(end); x.broken == nil {
			return err
		}
	}
	if leaving {
		if taken, err := w.findOut(ctx); taken || err != nil {
			return err
		}
		return fmt.Errorf("the transaction is aborted: %w", x.broken)
	}
	return w.abortTransaction(ctx)
}

// settleTransaction waits until everything that was given to the sink has its outcome.
func (w *Worker) settleTransaction(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, w.plan.Load().drainTimeout)
	defer cancel()
	defer w.wakeAfter(ctx)()
	if w.writing > 0 {
		w.unlock()
		w.flush()
		w.mu.Lock()
	}
	for w.tx.broken == nil && !w.quiet() {
		if ctx.Err() != nil || w.stuck() {
			w.breakTransaction(errors.New("what was written to the transaction was not acknowledged in time"))
			return
		}
		w.changed.Wait()
	}
}

// quiet tells that what was given to the sink is finished.
func (w *Worker) quiet() bool {
	if w.underWay() {
		return false
	}
	for _, l := range w.lanes {
		if !l.over && !l.halted && l.base < l.writeSeq {
			return false
		}
	}
	return true
}

// stuck tells that nothing will finish what is not: its lane may not write any more.
func (w *Worker) stuck() bool {
	if w.underWay() {
		return false
	}
	for _, l := range w.lanes {
		if !l.over && !l.halted && l.base < l.writeSeq && l.dead() {
			return true
		}
	}
	return false
}

// unstored gives the lanes whose position moved, also those that are being revoked.
func (w *Worker) unstored() (lanes []*lane) {
	for _, l := range w.lanes {
		if !l.over && l.finished != l.committed {
			lanes = append(lanes, l)
		}
	}
	return lanes
}
