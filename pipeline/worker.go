// Package pipeline runs routes: one worker per route, one lane per source
// partition, a ledger that gives every record one outcome.
//
// One goroutine reads and hands batches to lanes. A lane's batches are
// evaluated by as many runners as have work (so one partition may use all
// processors), and written by whichever runner holds the lane's writer role,
// in the order in which they were read. Runners exist only while there is work:
// an idle route costs its reader and its committer.
//
// Locks: Worker.flowMu before Worker.mu. No foreign code is called and nothing
// is waited for with mu held, except on the condition that belongs to it.
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"keystone/configs"
	"keystone/configs/addr"
	"keystone/dsl/eval"
	"keystone/pipeline/record"
	"keystone/sinks"
	"keystone/sources"
)

// Positions keeps, per route, where reading goes on and what its sink said at
// that point. Save is one transaction and durable when it returns; from is
// every position of the route that the worker knows.
type Positions interface {
	LoadPositions(ctx context.Context, route addr.Addr) (from []record.Position, sinkState []byte, err error)
	SavePositions(ctx context.Context, route addr.Addr, from []record.Position, sinkState []byte) error
}

// DeadLetters takes records that could not be processed. Write returns when
// all of them are acknowledged, and is repeated for as long as it fails; with
// a *sinks.PartialError only for those that it names. It is called by several lanes at
// once and keeps nothing of the letters.
type DeadLetters interface {
	Write(ctx context.Context, letters []DeadLetter) error
	Close(ctx context.Context) error
}

// DeadLetter is one record with why it is one.
type DeadLetter struct {
	Record    record.Record // original key, value, headers: verbatim
	Route     addr.Addr
	Topic     string
	Partition int32
	Identity  string
	Code      string
	Error     string
	At        string // file:line:column of the expression, if it was one
	Attempts  int
	Time      time.Time
	Revision  int64
}

// Spec is all that a worker needs. The worker closes Source, Sink and DeadLetters.
type Spec struct {
	Route       *configs.Route
	Program     *eval.Program
	Revision    int64
	Source      sources.Source
	Sink        sinks.Sink
	DeadLetters DeadLetters // nil where on_error is not dead_letter
	Positions   Positions   // nil: the source keeps its own and the sink has no state
	Limit       int64       // stop after reading so many records; 0: none
	Log         *slog.Logger
}

// Worker runs one route once.
type Worker struct {
	spec       Spec
	log        *slog.Logger
	sink       sinks.Sink
	cp         sinks.Checkpointer // the sink, if it is one
	ordered    sinks.Ordered      // the sink, if it is one
	window     int                // writes of one lane without done
	atMostOnce bool               // positions are committed before they are written
	plan       atomic.Pointer[plan]
	ran        atomic.Bool
	done       chan struct{} // closed when Run returns
	dirty      chan struct{} // holds one token when there may be something to commit

	batches sync.Pool // *record.Batch
	tasks   sync.Pool // *task

	flowMu sync.Mutex // serializes Pause and Resume of the source, so that the last word is the right one

	mu           sync.Mutex // guards everything below, lanes, and tasks but for what evaluation owns
	changed      sync.Cond  // of mu: something that somebody may wait for
	phase        Activity   // starting, fetching, draining, stopped
	held         bool       // by Pause
	throttled    bool       // the reader waits for the throttle
	waiting      bool       // the reader waits for room
	readErr      error      // of the last Read, while it is being retried
	readTries    int
	lastErr      error
	lastErrAt    time.Time
	started      time.Time
	lanes        map[int32]*lane
	known        map[int32]record.Position // stored positions of every partition not revoked
	sinkState    []byte                    // as last stored
	gone         map[int32]*lane           // ended lanes of partitions that have none now
	serial       int64                     // of the last lane
	ended        Counts                    // of lanes that are no more
	inFlight     int64                     // bytes
	writing      int                       // writes without done
	unsaved      bool                      // the sink gave a state that is not stored
	barrier      bool                      // a checkpoint waits for writing to be 0
	committing   bool                      // a commit is under way
	cancelCommit context.CancelFunc
	lostBefore   int64 // records removed before they were read
	stopping     bool  // no more reading
	bounded      bool  // the drain is bounded by drain_timeout
	aborted      bool  // nothing is waited for
	stopErr      error // why, if it is a failure
	stopRead     context.CancelFunc
	runners      int
	garbage      *task // to be recycled after mu is given up
	flowDue      bool  // a lane wants to be paused or resumed
}

// New makes a worker; it does no I/O and starts nothing.
func New(s Spec) *Worker {
	return newWorker(s, programEvals(s.Program))
}

func newWorker(s Spec, evals func() evaluator) *Worker {
	w := &Worker{
		spec: s, log: s.Log, sink: s.Sink, window: 1, phase: Starting,
		done: make(chan struct{}), dirty: make(chan struct{}, 1),
		lanes: map[int32]*lane{}, known: map[int32]record.Position{}, gone: map[int32]*lane{},
	}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	w.changed.L = &w.mu
	w.cp, _ = s.Sink.(sinks.Checkpointer)
	w.ordered, _ = s.Sink.(sinks.Ordered)
	if w.ordered != nil || s.Route.Order == configs.OrderNone {
		w.window = writesPerLane
	}
	w.atMostOnce = s.Route.Delivery.Guarantee == configs.AtMostOnce
	w.plan.Store(newPlan(evals, s.Route, s.Revision, s.DeadLetters != nil))
	return w
}

// writesPerLane bounds the writes of one lane that have no answer yet, for
// sinks that keep the order; bytes in flight bound them too.
const writesPerLane = 16

// Swap changes program and live options (throttle, limits, retry, on_error,
// batch) from the next batch on. Group, source and sink stay untouched.
func (w *Worker) Swap(p *eval.Program, route *configs.Route, revision int64) {
	w.swap(programEvals(p), route, revision)
}

func (w *Worker) swap(evals func() evaluator, route *configs.Route, revision int64) {
	w.plan.Store(newPlan(evals, route, revision, w.spec.DeadLetters != nil))
	w.mu.Lock()
	w.changed.Broadcast()
	w.mu.Unlock()
}

// Pause stops reading until Resume; what is in flight goes on.
func (w *Worker) Pause() { w.hold(true) }

// Resume ends Pause.
func (w *Worker) Resume() { w.hold(false) }

func (w *Worker) hold(on bool) {
	w.mu.Lock()
	w.held = on
	w.changed.Broadcast()
	w.mu.Unlock()
}

// Drain stops reading, finishes what is in flight within drain_timeout,
// commits and closes. It returns when Run has, or with ctx's error. It is
// for a worker that runs or is about to.
func (w *Worker) Drain(ctx context.Context) error {
	w.stop(nil, true)
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Done is closed when Run has returned.
func (w *Worker) Done() <-chan struct{} { return w.done }

// stop ends reading; err is why, if it is a failure. The first failure stays.
func (w *Worker) stop(err error, bounded bool) {
	w.mu.Lock()
	w.stopLocked(err, bounded)
	w.mu.Unlock()
}

func (w *Worker) stopLocked(err error, bounded bool) {
	w.stopping = true
	w.bounded = w.bounded || bounded
	if w.stopErr == nil {
		w.stopErr = err
	}
	if w.stopRead != nil {
		w.stopRead()
	}
	w.changed.Broadcast()
}

// abort ends everything that can be ended; only finished prefixes are committed then.
func (w *Worker) abort(err error) {
	w.mu.Lock()
	w.abortLocked(err)
	w.mu.Unlock()
}

func (w *Worker) abortLocked(err error) {
	w.aborted = true
	w.stopLocked(err, true)
	for _, l := range w.lanes {
		l.cancel()
	}
}

// Run opens the sink, then the source, and moves records until ctx ends (its
// cause is returned), a bounded source ends or the limit is reached (nil, when everything
// is settled and committed), Drain is called (nil), or something fails for
// good. A panic of a part becomes an error with its stack. Run is called once.
func (w *Worker) Run(ctx context.Context) error {
	if w.ran.Swap(true) {
		return errors.New("a worker runs only once")
	}
	if g := w.spec.Route.Delivery.Guarantee; g == configs.ExactlyOnce {
		close(w.done)
		return fmt.Errorf("%s wants guarantee = %q, which this version does not have; use %q", w.spec.Route.Addr, g, configs.AtLeastOnce)
	}
	defer close(w.done)
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
		w.stop(err, true)
	default:
		committed := make(chan struct{})
		commitCtx, stopCommits := context.WithCancel(life)
		go func() {
			defer close(committed)
			w.commitLoop(commitCtx)
		}()
		ended, err := w.read(readCtx)
		if err != nil {
			w.stop(err, true)
		}
		w.settleAll()
		stopCommits()
		<-committed
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
		if l.flying() {
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
		w.stop(fmt.Errorf("finish sink %s: %w", w.spec.Route.To.Addr, err), true)
	}
}

// close frees source, sink and dead letters, whatever happened before.
func (w *Worker) close(life context.Context) {
	ctx, cancel := context.WithTimeout(life, w.plan.Load().drainTimeout)
	defer cancel()
	report := func(what string, err error) {
		if err != nil {
			w.stop(fmt.Errorf("close %s: %w", what, err), true)
		}
	}
	w.mu.Lock()
	for _, l := range w.lanes {
		l.end() // all that can be committed is; a revocation by Close finds nothing to do
	}
	w.unlock()
	report("source "+w.spec.Route.From.Addr.String(), guard("close", func() error { return w.spec.Source.Close(ctx) }))
	report("sink "+w.spec.Route.To.Addr.String(), guard("close", func() error { return w.sink.Close(ctx) }))
	if w.spec.DeadLetters != nil {
		report("dead letters", guard("close", func() error { return w.spec.DeadLetters.Close(ctx) }))
	}
}

// unlock gives up mu and does what could not be done under it.
func (w *Worker) unlock() {
	g, flow := w.garbage, w.flowDue
	w.garbage, w.flowDue = nil, false
	w.mu.Unlock()
	for g != nil {
		next := g.free
		g.recycle()
		g = next
	}
	if flow {
		w.flow()
	}
}

// note keeps err for Stats.
func (w *Worker) note(err error) {
	w.lastErr, w.lastErrAt = err, time.Now()
}

// PanicError is a panic of a source, a sink, a program or a store, caught.
type PanicError struct {
	During string
	Value  any
	Stack  []byte
}

// Error gives the value and the stack.
func (e *PanicError) Error() string {
	return fmt.Sprintf("panic during %s: %v\n%s", e.During, e.Value, e.Stack)
}

// guard calls f and turns its panic into an error.
func guard(during string, f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{During: during, Value: v, Stack: debug.Stack()}
		}
	}()
	return f()
}

func isPanic(err error) bool {
	var p *PanicError
	return errors.As(err, &p)
}
