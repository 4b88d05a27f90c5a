package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cenkalti/backoff/v5"

	"keystone/pipeline/record"
	"keystone/sinks"
	"keystone/sources"
)

// markDirty wakes the committer.
func (w *Worker) markDirty() {
	select {
	case w.dirty <- struct{}{}:
	default:
	}
}

// commitLoop commits finished prefixes, an interval after they moved.
func (w *Worker) commitLoop(ctx context.Context) {
	if w.chain != nil {
		w.chainLoop(ctx)
		return
	}
	var retry *backoff.ExponentialBackOff
	for {
		select {
		case <-w.dirty:
		case <-ctx.Done():
			return
		}
		if retry == nil {
			w.untilDue(ctx)
		} else if w.rest(ctx, retry.NextBackOff()) {
			retry = nil
		}
		if ctx.Err() != nil {
			return
		}
		err := w.commit(ctx, nil)
		if err == nil {
			retry = nil
			w.committed()
			continue
		}
		if ctx.Err() != nil {
			return
		}
		if !errors.Is(err, sources.ErrNotAssigned) && w.commitFailed(err) {
			return
		}
		if retry == nil {
			p := w.plan.Load().retry
			retry = backoff.NewExponentialBackOff()
			retry.InitialInterval, retry.MaxInterval = p.Initial, p.Max
			retry.Reset()
		}
		w.markDirty()
	}
}

// untilDue waits until it is time for a commit.
func (w *Worker) untilDue(ctx context.Context) {
	if w.tx != nil {
		w.transactionDue(ctx)
		return
	}
	w.interval(ctx)
}

// committed notes that no commit is being retried any more.
func (w *Worker) committed() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.commitErr, w.commitTries = nil, 0
}

// commitFailed notes the error, which Stats shows for as long as the commit is retried: all that was read may
// have an outcome meanwhile, and nothing else would say that it does not last. True: it ends the route.
func (w *Worker) commitFailed(err error) bool {
	w.log.Warn("commit failed", "error", err)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note(err)
	w.commitErr = err
	w.commitTries++
	if isPanic(err) || sources.IsFatal(err) || sinks.IsPermanent(err) {
		w.abortLocked(err)
		return true
	}
	return false
}

// commitLast commits at the end of a run, within drain_timeout, and tells
// whether that succeeded.
func (w *Worker) commitLast(life context.Context) bool {
	p := w.plan.Load()
	limit := p.drainTimeout
	w.mu.Lock()
	if w.aborted { // a part may be broken and never answer
		limit = min(limit, revokeWait)
	}
	w.mu.Unlock()
	ctx, cancel := context.WithTimeout(life, limit)
	defer cancel()
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval, retry.MaxInterval = p.retry.Initial, p.retry.Max
	retry.Reset()
	for {
		err := w.commit(ctx, nil)
		if err == nil || errors.Is(err, sources.ErrNotAssigned) {
			return true
		}
		if ctx.Err() != nil || isPanic(err) || sources.IsFatal(err) || sinks.IsPermanent(err) {
			switch {
			case w.tx != nil && !w.isAborted():
				err = fmt.Errorf("whether the last transaction was committed is not known; whoever reads on begins where the group stands: %w", err)
			case w.tx != nil:
				err = fmt.Errorf("the last transaction is given up, and what was in it will be read again: %w", err)
			case w.chain != nil:
				err = fmt.Errorf("the last commit failed; whoever reads on reads again what is durable, and skips it: %w", err)
			default:
				err = fmt.Errorf("the last commit failed, so records will be repeated: %w", err)
			}
			w.stop(err)
			return false
		}
		w.mu.Lock()
		w.note(err)
		w.commitErr = err
		w.commitTries++
		w.mu.Unlock()
		sleep(ctx, retry.NextBackOff())
	}
}

// wakeAfter lets those that wait for changed see that ctx ended.
func (w *Worker) wakeAfter(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() {
		w.mu.Lock()
		w.changed.Broadcast()
		w.mu.Unlock()
	})
}

// errNotCommitted is a commit that was given up before it began.
var errNotCommitted = errors.New("another commit did not end in time")

// commit stores what moved since the last commit: of one lane, if only is not
// nil, which is then being revoked; else of all that are not. One at a time.
// With a Checkpointer nothing is written meanwhile.
func (w *Worker) commit(ctx context.Context, only *lane) error {
	w.mu.Lock()
	defer w.unlock()
	defer w.wakeAfter(ctx)()
	for w.committing && ctx.Err() == nil {
		w.changed.Wait()
	}
	if w.committing {
		return errNotCommitted
	}
	if w.tx != nil {
		return w.transact(ctx, only != nil)
	}
	if len(w.moved(only)) == 0 && !w.unsaved {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w.committing, w.cancelCommit = true, cancel
	defer func() {
		w.committing, w.cancelCommit, w.barrier = false, nil, w.unsaved
		w.changed.Broadcast()
	}()
	if w.cp != nil {
		w.barrier = true
		if w.writing > 0 {
			w.unlock()
			w.flush()
			w.mu.Lock()
		}
		for (w.writing > 0 || w.lettering()) && ctx.Err() == nil {
			w.changed.Wait()
		}
		if w.writing > 0 {
			return fmt.Errorf("checkpoint: writes did not end: %w", context.Cause(ctx))
		}
	}
	lanes := w.moved(only)
	done := make([]record.Position, len(lanes))
	for i, l := range lanes {
		done[i] = l.position()
		w.known[l.part] = done[i]
	}
	all := make([]record.Position, 0, len(w.known))
	for _, p := range w.known {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b record.Position) int { return cmp.Compare(a.Partition, b.Partition) })
	state := w.sinkState

	w.unlock()
	err := guard("commit", func() (err error) {
		if err := w.savePrograms(ctx, lanes); err != nil {
			return err
		}
		state, err = w.store(ctx, done, all, state)
		return err
	})
	w.mu.Lock()
	if w.unsaved = errors.Is(err, errNotSaved); w.unsaved {
		// The sink must not go on from a state that nobody has: writing waits
		// until a later commit stores one.
		w.markDirty()
	}
	if state != nil {
		w.sinkState = state
	}
	if err != nil {
		err = fmt.Errorf("commit %s: %w", w.spec.Route.Addr, err)
		if w.unsaved {
			w.note(err)
		}
		return err
	}
	for i, l := range lanes {
		l.committed = done[i]
	}
	return nil
}

// errNotSaved is a sink's state that was given and not stored.
var errNotSaved = errors.New("save positions and the sink's state")

// lettering tells that dead letters are on their way, so that a prefix is
// about to move past them. Where the letters' stream is down nothing is waited for.
func (w *Worker) lettering() bool {
	for _, l := range w.lanes {
		if l.attention > 0 && l.err == nil && !l.dead() && l.hasLetters() {
			return true
		}
	}
	return false
}

// moved gives the lanes that have something to commit and a permit to.
func (w *Worker) moved(only *lane) (lanes []*lane) {
	for _, l := range w.lanes {
		if !l.over && l.position() != l.committed && (l == only || only == nil && !l.revoking) {
			lanes = append(lanes, l)
		}
	}
	return lanes
}

// position is what may be committed of the lane.
func (l *lane) position() record.Position {
	if l.w.atMostOnce {
		return l.claimed
	}
	if l.link != nil {
		return l.link.durable
	}
	return l.prefix()
}

// store makes the sink durable, then the positions.
func (w *Worker) store(ctx context.Context, done, all []record.Position, state []byte) ([]byte, error) {
	var err error
	if w.cp != nil {
		if state, err = w.cp.Sync(ctx); err != nil {
			return nil, fmt.Errorf("sync sink %s: %w", w.spec.Route.To.Addr, err)
		}
	}
	if w.spec.Positions != nil {
		if err := w.spec.Positions.SavePositions(ctx, w.spec.Route.Addr, all, state); err != nil {
			if w.cp != nil {
				return nil, fmt.Errorf("%w: %w", errNotSaved, err)
			}
			return nil, fmt.Errorf("save positions: %w", err)
		}
	}
	return state, w.spec.Source.Commit(ctx, done)
}
