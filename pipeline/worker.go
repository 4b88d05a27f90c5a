// Package pipeline runs routes: one worker per route, one lane per source
// partition, a ledger that gives every record one outcome.
//
// One goroutine reads and hands batches to lanes. A lane's batches are
// evaluated by as many runners as have work (so one partition may use all
// processors), and written by whichever runner holds the lane's writer role,
// in the order in which they were read, unless the route's order lets several write at once
// (parallel). Runners exist only while there is work:
// an idle route costs its reader and its committer.
//
// Locks: Worker.flowMu before Worker.mu. No foreign code is called and nothing
// is waited for with mu held, except on the condition that belongs to it.
package pipeline

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"keystone/configs"
	"keystone/dsl/eval"
	"keystone/pipeline/record"
	"keystone/sinks"
	"keystone/sources"
)

// Tap is shown what goes to the sink, while somebody watches.
type Tap interface {
	Watched() bool        // asked per batch: it must be quick
	Show(b *record.Batch) // keeps nothing of the batch, and waits for nobody
}

// Worker runs one route once.
type Worker struct {
	spec       Spec
	log        *slog.Logger
	sink       sinks.Sink
	cp         sinks.Checkpointer // the sink, if it is one
	ordered    sinks.Ordered      // the sink, if it is one
	order      configs.Order      // that is kept; never empty
	chain      *chain             // the sink keeps its own positions; nil: it does not
	tx         *transaction       // exactly once; nil: it is not asked for
	window     int                // writes of one lane without done
	atMostOnce bool               // positions are committed before they are written
	plan       atomic.Pointer[plan]
	ran        atomic.Bool
	opened     chan struct{} // closed when source and sink are open
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
	commitErr    error // of the last commit, while it is being retried
	commitTries  int
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
	lettersOut   int                       // writes of dead letters without an answer
	unsaved      bool                      // the sink gave a state that is not stored
	barrier      bool                      // a checkpoint waits for writing to be 0
	saving       bool                      // programs are being stored
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
	w := newWorker(s, programEvals(s.Program))
	w.plan.Load().sample = newSample(s.Program, s.Route)
	return w
}

func newWorker(s Spec, evals func() evaluator) *Worker {
	w := &Worker{
		spec: s, log: s.Log, sink: s.Sink, window: 1, phase: Starting,
		opened: make(chan struct{}), done: make(chan struct{}), dirty: make(chan struct{}, 1),
		lanes: map[int32]*lane{}, known: map[int32]record.Position{}, gone: map[int32]*lane{},
	}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	w.changed.L = &w.mu
	w.cp, _ = s.Sink.(sinks.Checkpointer)
	w.ordered, _ = s.Sink.(sinks.Ordered)
	if w.order = orderOf(s.Route, s.Sink); w.ordered != nil || w.order != configs.OrderPartition {
		w.window = writesPerLane
	}
	if c, ok := s.Sink.(sinks.Chained); ok {
		w.chain = newChain(c)
	}
	if s.Route.Delivery.Guarantee == configs.ExactlyOnce && w.chain == nil {
		w.tx = &transaction{hurry: make(chan struct{}, 1), poison: map[int32]map[child]verdict{}}
		w.tx.sink, _ = s.Sink.(sinks.Transactional)
		w.tx.source, _ = s.Source.(sources.Transacted)
	}
	w.atMostOnce = s.Route.Delivery.Guarantee == configs.AtMostOnce
	w.plan.Store(newPlan(evals, s.Route, s.Revision, s.DeadLetters != nil))
	return w
}

// writesPerLane bounds the writes of one lane that have no answer yet, where the sink keeps the
// order or the route wants less than that of the partition; bytes in flight bound them too.
const writesPerLane = 16

// Swap changes program and live options (throttle, limits, retry, on_error,
// batch) from the next batch on. Group, source and sink stay untouched.
func (w *Worker) Swap(p *eval.Program, route *configs.Route, revision int64) {
	next := newPlan(programEvals(p), route, revision, w.spec.DeadLetters != nil)
	next.sample = newSample(p, route)
	w.swap(next)
}

func (w *Worker) swap(next *plan) {
	w.mu.Lock()
	defer w.unlock()
	old := w.plan.Load()
	next.follow(old)
	w.plan.Store(next)
	close(old.replaced)
	for _, l := range w.lanes {
		if l.par != nil && old.retry != next.retry {
			l.par.anew()
		}
		if !l.dead() {
			l.balance() // the share may be another
		}
	}
	w.changed.Broadcast()
}

// Source gives what the worker reads.
func (w *Worker) Source() sources.Source { return w.spec.Source }

// Sink gives what the worker writes to.
func (w *Worker) Sink() sinks.Sink { return w.spec.Sink }

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
	w.stop(nil)
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Leave stops at once: what is in flight is not waited for, the prefix that is finished is
// committed, and whoever reads on repeats the rest. It returns when Run has, or with ctx's error.
func (w *Worker) Leave(ctx context.Context) error {
	w.abort(nil)
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Ready returns when source and sink are open and those that the source shares its
// partitions with have taken it in: another reader may leave then. An error says that Run returned
// before, or is ctx's.
func (w *Worker) Ready(ctx context.Context) error {
	if err := w.await(ctx, w.opened); err != nil {
		return err
	}
	if j, ok := w.spec.Source.(sources.Joiner); ok {
		return w.await(ctx, j.Joined())
	}
	return nil
}

func (w *Worker) await(ctx context.Context, c <-chan struct{}) error {
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-w.done:
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopErr != nil {
		return w.stopErr
	}
	return errStopped
}

// errStopped is a worker that was stopped before it was ready.
var errStopped = errors.New("the route was stopped")

// Done is closed when Run has returned.
func (w *Worker) Done() <-chan struct{} { return w.done }

// stop ends reading; err is why, if it is a failure. The first failure stays.
func (w *Worker) stop(err error) {
	w.mu.Lock()
	w.stopLocked(err)
	w.mu.Unlock()
}

func (w *Worker) stopLocked(err error) {
	w.stopping = true
	w.bounded = true
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
	w.stopLocked(err)
	for _, l := range w.lanes {
		l.cancel()
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
