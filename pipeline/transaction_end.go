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
