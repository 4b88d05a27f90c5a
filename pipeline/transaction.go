package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

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
	if l.w.tx != nil {
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
	l.counts.Abandoned += l.pending.outcomes()
	l.pending = Counts{}
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
	var last, ordinal int32 = -1, 0
	for i := range t.out.Records {
		src := t.out.Records[i].Source
		if ordinal++; src != last {
			last, ordinal = src, 0
		}
		f(int32(i), src, child{t.in.Records[src].Offset, ordinal})
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
	b.Topic, b.Partition, b.Next = t.out.Topic, t.out.Partition, t.out.Next
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

// endTransaction stores positions and makes visible what was written. An
// error that leaves the transaction unbroken is one of storing positions alone.
func (w *Worker) endTransaction(ctx context.Context) error {
	x := w.tx
	lanes := w.unstored()
	done := make([]record.Position, len(lanes))
	for i, l := range lanes {
		done[i] = l.finished
	}
	if len(done) == 0 {
		if x.wrote {
			w.breakTransaction(errors.New("the transaction has records, and no position that moved"))
		}
		x.plan = nil
		return nil
	}
	wrote := x.wrote
	longest := w.plan.Load().longest()
	ctx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	w.cancelCommit = cancel
	w.unlock()
	unsure := false
	err := guard("commit", func() error {
		if err := w.savePrograms(ctx, lanes); err != nil {
			return err
		}
		if wrote {
			at, err := x.source.Offsets(done)
			if err != nil {
				return err
			}
			if mutation.On(mutation.OffsetsOutside) {
				if err := x.source.Commit(ctx, done); err != nil {
					return err
				}
			}
			x.sink.Bound(longest)
			if err := x.sink.Commit(ctx, at); !errors.Is(err, sinks.ErrNothingWritten) {
				unsure = err != nil
				return err
			}
			wrote = false
		}
		return x.source.Commit(ctx, done)
	})
	w.mu.Lock()
	if err != nil {
		err = fmt.Errorf("commit %s: %w", w.spec.Route.Addr, err)
		x.wrote = wrote
		if unsure {
			for i, l := range lanes {
				x.unsure = append(x.unsure, tried{l, done[i]})
			}
		}
		if wrote {
			w.breakTransaction(err)
		}
		return err
	}
	for i, l := range lanes {
		if !l.over {
			l.committed = done[i]
			l.keep()
			w.known[l.part] = done[i]
			w.forgive(l.part, done[i].Offset)
		}
	}
	*x = transaction{sink: x.sink, source: x.source, hurry: x.hurry, poison: x.poison}
	for _, l := range w.lanes {
		l.touched = false
		l.fail(nil)
	}
	w.mirror(ctx)
	return nil
}

// longest is how long a transaction may last: that of a worker that is well, and its end.
func (p *plan) longest() time.Duration { return p.commitInterval + p.drainTimeout + endTimeout }

// endTimeout bounds the end of a transaction.
const endTimeout = 30 * time.Second

// forgive forgets what was refused before an offset.
func (w *Worker) forgive(part int32, before int64) {
	for c := range w.tx.poison[part] {
		if c.offset < before {
			delete(w.tx.poison[part], c)
		}
	}
}

// mirror stores what is committed where the route is remembered. mu is held.
func (w *Worker) mirror(ctx context.Context) {
	if w.spec.Positions == nil {
		return
	}
	all := make([]record.Position, 0, len(w.known))
	for _, p := range w.known {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b record.Position) int { return cmp.Compare(a.Partition, b.Partition) })
	w.unlock()
	err := guard("save positions", func() error { return w.spec.Positions.SavePositions(ctx, w.spec.Route.Addr, all, nil) })
	w.mu.Lock()
	if err != nil {
		// The group has them; the next commit tries again.
		w.note(fmt.Errorf("save positions of %s: %w", w.spec.Route.Addr, err))
		w.log.Warn("positions are committed and not stored", "error", err)
	}
}

// abortTransaction ends a broken transaction and has the lanes begin again. It is
// repeated while it fails.
func (w *Worker) abortTransaction(ctx context.Context) error {
	x := w.tx
	cause := x.broken
	if x.backoff == nil {
		p := w.plan.Load().retry
		x.backoff = backoff.NewExponentialBackOff()
		x.backoff.InitialInterval, x.backoff.MaxInterval, x.backoff.Multiplier = p.Initial, p.Max, 2
		x.backoff.Reset()
	}
	if !x.aborted {
		x.tries++
		if x.unsure == nil {
			w.log.Warn("the transaction is aborted: its records are read again", "error", cause, "attempt", x.tries)
		}
		if wait := x.backoff.NextBackOff(); x.tries > 1 && !w.stopping {
			w.unlock()
			sleep(ctx, wait)
			w.mu.Lock()
		}
		if err := w.abortSink(ctx); err != nil {
			return err
		}
	}
	if _, err := w.findOut(ctx); err != nil {
		return err
	}
	for w.underWay() && ctx.Err() == nil {
		w.changed.Wait()
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if x.late {
		// A write that had not reached the sink by then, as of letters whose topic is
		// being made, began a transaction of its own there, and is read again, too.
		if err := w.abortSink(ctx); err != nil {
			return err
		}
	}
	if w.stopping {
		for _, l := range w.lanes {
			l.end() // whoever comes next reads it again
		}
	} else {
		if w.leaving() {
			// The source waits for the revocation, and the revocation for us.
			return fmt.Errorf("read %s again after partitions have changed hands: %w", w.spec.Route.From.Addr, sources.ErrNotAssigned)
		}
		w.unlock()
		err := guard("rewind", func() error { return x.source.Rewind(ctx) })
		w.mu.Lock()
		if err != nil {
			return fmt.Errorf("read %s again after an aborted transaction: %w", w.spec.Route.From.Addr, err)
		}
	}
	x.wrote, x.plan, x.broken, x.aborted, x.short = false, nil, nil, false, true
	return nil
}

// leaving tells that a revocation is under way.
func (w *Worker) leaving() bool {
	for _, l := range w.lanes {
		if l.revoking && !l.over {
			return true
		}
	}
	return false
}

// underWay tells that the sink or the dead letters have something without an answer.
func (w *Worker) underWay() bool { return w.writing > 0 || w.lettersOut > 0 }

// abortSink ends what is open in the sink. mu is held, and given up meanwhile.
func (w *Worker) abortSink(ctx context.Context) error {
	late := w.underWay()
	w.unlock()
	err := guard("abort", func() error { return w.tx.sink.Abort(ctx) })
	w.mu.Lock()
	if err != nil {
		return fmt.Errorf("abort the transaction of %s: %w", w.spec.Route.Addr, err)
	}
	w.tx.aborted, w.tx.late = true, late
	for _, l := range w.lanes {
		l.touched = false
	}
	return nil
}

// findOut decides a commit of unknown outcome, if there was one: the group has the positions
// that were tried, or the transaction is aborted. Those of lanes that ended meanwhile are not
// looked at: they may be another owner's. mu is held, and given up meanwhile.
func (w *Worker) findOut(ctx context.Context) (taken bool, err error) {
	x := w.tx
	if x.unsure == nil {
		return false, nil
	}
	if !x.aborted {
		if err := w.abortSink(ctx); err != nil {
			return false, err
		}
	}
	var stored []record.Position
	w.unlock()
	err = guard("stored", func() (err error) { stored, err = x.source.Stored(ctx); return err })
	w.mu.Lock()
	if err != nil {
		return false, fmt.Errorf("find out whether the transaction of %s was committed: %w", w.spec.Route.Addr, err)
	}
	for _, e := range x.unsure {
		l := e.lane
		at := slices.IndexFunc(stored, func(p record.Position) bool { return p.Partition == l.part })
		if l.over || at < 0 || stored[at].Offset != e.at.Offset {
			continue
		}
		taken = true
		l.committed = e.at
		l.keep()
		w.known[l.part] = e.at
		w.forgive(l.part, e.at.Offset)
	}
	x.unsure = nil
	w.log.Warn("the outcome of a commit was not known, and the group was asked", "committed", taken, "error", x.broken)
	if taken {
		w.mirror(ctx)
		return true, nil
	}
	return false, nil
}

// transactionDue waits until it is time to end the transaction. That is also when another plan
// was swapped in: its options may bound the next one otherwise.
func (w *Worker) transactionDue(ctx context.Context) {
	p := w.plan.Load()
	wait := p.commitInterval
	w.mu.Lock()
	if w.tx.short {
		// A record that Kafka refuses costs an abort; where there are many, each
		// transaction gets past those that are known and ends before it meets the next.
		wait = min(wait, shortTransaction)
	}
	w.mu.Unlock()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-w.tx.hurry:
	case <-p.replaced:
	case <-ctx.Done():
	}
}

const shortTransaction = 100 * time.Millisecond

// isAborted tells that the transaction is broken, and that no commit of it was tried that could have taken effect.
func (w *Worker) isAborted() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.tx.broken != nil && w.tx.unsure == nil
}
