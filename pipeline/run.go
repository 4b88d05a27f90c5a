package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"keystone/configs"
	"keystone/pipeline/record"
	"keystone/sinks"
)

// Run opens the sink, then the source, and moves records until ctx ends (its
// cause is returned), a bounded source ends or the limit is reached (nil, when everything
// is settled and committed), Drain is called (nil), or something fails for
// good. A panic of a part becomes an error with its stack. Run is called once.
func (w *Worker) Run(ctx context.Context) error {
	if w.ran.Swap(true) {
		return errors.New("a worker runs only once")
	}
	defer close(w.done)
	if w.tx != nil && (w.tx.sink == nil || w.tx.source == nil) {
		return fmt.Errorf("%s wants guarantee = %q, which takes a stream that is read and a stream on the same cluster that is written", w.spec.Route.Addr, configs.ExactlyOnce)
	}
	if w.chain != nil && w.atMostOnce {
		return fmt.Errorf("%s wants guarantee = %q, which %s cannot keep: it stores positions together with what was written before", w.spec.Route.Addr, configs.AtMostOnce, w.spec.Route.To.Addr)
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	readCtx, stopRead := context.WithCancel(life)
	defer stopRead()

	w.mu.Lock()
	w.started = time.Now()
	w.stopRead = stopRead
	if w.stopping {
		stopRead()
	}
	w.mu.Unlock()
	defer context.AfterFunc(ctx, func() { w.abort(context.Cause(ctx)) })()

	switch err := w.open(life, readCtx); {
	case errors.Is(err, errInterrupted):
	case err != nil:
		w.stop(err)
	default:
		close(w.opened)
		committed := make(chan struct{})
		commitCtx, stopCommits := context.WithCancel(life)
		go func() {
			defer close(committed)
			w.commitLoop(commitCtx)
		}()
		ended, err := w.read(readCtx)
		if err != nil {
			w.stop(err)
		}
		w.settleAll()
		stopCommits()
		<-committed
		w.settleChains(life, readCtx)
		if w.commitLast(life) && ended {
			w.finish(life)
		}
	}
	w.close(life)

	w.mu.Lock()
	defer w.mu.Unlock()
	w.phase = Stopped
	return w.stopErr
}

// errInterrupted is an open that was cancelled by Drain or the end of the context.
var errInterrupted = errors.New("interrupted")

// open restores and opens the sink and opens the source. Draining while it
// waits cancels it.
func (w *Worker) open(life, read context.Context) error {
	ctx, cancel := context.WithCancel(life)
	// Once opened, ctx lives as long as the run, for those that keep it.
	defer context.AfterFunc(read, cancel)()
	var from []record.Position
	var state []byte
	route := w.spec.Route.Addr
	err := guard("open", func() (err error) {
		if w.spec.Positions != nil {
			if from, state, err = w.spec.Positions.LoadPositions(ctx, route); err != nil {
				return fmt.Errorf("load positions of %s: %w", route, err)
			}
		}
		w.mu.Lock()
		w.sinkState = state
		for _, p := range from {
			w.known[p.Partition] = p
		}
		w.mu.Unlock()
		if w.cp != nil {
			w.cp.Restore(state)
		}
		if w.tx != nil {
			w.tx.sink.Bound(w.plan.Load().longest())
		}
		if err := w.sink.Open(ctx); err != nil {
			return fmt.Errorf("open sink %s: %w", w.spec.Route.To.Addr, err)
		}
		if err := w.spec.Source.Open(ctx, from, listener{w}); err != nil {
			return fmt.Errorf("open source %s: %w", w.spec.Route.From.Addr, err)
		}
		return nil
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil && w.stopping && read.Err() != nil && !isPanic(err) {
		return errInterrupted
	}
	if err == nil && !w.stopping {
		w.phase = Fetching
	}
	return err
}

// settleAll waits until nothing is in flight, within drain_timeout where that
// counts, and then for every runner to leave.
func (w *Worker) settleAll() {
	w.flush()
	w.mu.Lock()
	defer w.unlock()
	w.stopping = true
	w.phase = Draining
	w.changed.Broadcast()
	var timer *time.Timer
	for w.busy() && !w.aborted {
		if w.bounded && timer == nil {
			limit := w.plan.Load().drainTimeout
			timer = time.AfterFunc(limit, func() {
				w.log.Warn("drain timed out: what is in flight is given up and will be read again", "after", limit)
				w.abort(nil)
			})
			defer timer.Stop()
		}
		w.changed.Wait()
	}
	for _, l := range w.lanes {
		if w.aborted {
			l.cancel()
		}
	}
	if w.chain != nil {
		w.chain.close()
	}
	for w.runners > 0 {
		w.changed.Wait()
	}
}

// flush hastens what the sink has not answered yet, where it waits for more.
func (w *Worker) flush() {
	f, ok := w.sink.(sinks.Flusher)
	if !ok {
		return
	}
	if err := guard("flush", func() error { f.Flush(); return nil }); err != nil {
		w.abort(err)
	}
}

func (w *Worker) busy() bool {
	for _, l := range w.lanes {
		if l.flying() || l.link != nil && l.link.beginning && l.mayBegin() {
			return true
		}
	}
	return false
}

// finish tells the sink that the run is complete: the source or the limit
// ended it, and nothing is left over.
func (w *Worker) finish(life context.Context) {
	f, ok := w.sink.(sinks.Finisher)
	w.mu.Lock()
	whole := w.stopErr == nil && !w.aborted && !w.busy()
	w.mu.Unlock()
	if !ok || !whole {
		return
	}
	if err := guard("finish", func() error { return f.Finish(life) }); err != nil {
		w.stop(fmt.Errorf("finish sink %s: %w", w.spec.Route.To.Addr, err))
	}
}

// close frees source, sink and dead letters, whatever happened before.
func (w *Worker) close(life context.Context) {
	ctx, cancel := context.WithTimeout(life, w.plan.Load().drainTimeout)
	defer cancel()
	report := func(what string, err error) {
		if err != nil {
			w.stop(fmt.Errorf("close %s: %w", what, err))
		}
	}
	w.mu.Lock()
	for _, l := range w.lanes {
		l.end() // all that can be committed is; a revocation by Close finds nothing to do
	}
	w.unlock()
	w.leaveChains()
	report("source "+w.spec.Route.From.Addr.String(), guard("close", func() error { return w.spec.Source.Close(ctx) }))
	report("sink "+w.spec.Route.To.Addr.String(), guard("close", func() error { return w.sink.Close(ctx) }))
	if w.spec.DeadLetters != nil {
		report("dead letters", guard("close", func() error { return w.spec.DeadLetters.Close(ctx) }))
	}
}
