package wire

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"keystone/configs"
	"keystone/configs/addr"
	"keystone/pipeline"
	"keystone/reconcile"
)

// unit is one route in this process: its worker, if one runs, and how the last one ended.
// A unit outlives its workers, so that restarts are counted.
type unit struct {
	addr addr.Addr
	log  *slog.Logger
	tap  *taps

	programs *programs  // that ran
	mu       sync.Mutex // guards everything below; no I/O under it
	resource *configs.Resource
	group    string
	kept     reconcile.Identity
	worker   *pipeline.Worker // nil: none runs
	cancel   context.CancelCauseFunc
	gone     chan struct{} // closed when the worker has returned and ended was called
	since    time.Time
	health   reconcile.Health
	err      error
	lastErr  string         // of the worker before: shown until the next one is up
	last     pipeline.Stats // of the worker that ended
	restarts int
	draining bool
	stays    bool // another worker follows the one that stops
	seat     int  // of the worker, among the names of the route in its group
	seated   bool // a worker of this process has or had a name in the group

	replaying bool             // dead letters
	lent      bool             // the replay has the sink for itself: no worker starts
	replayed  map[string]int64 // records by outcome, since the server started
	held      *reconcile.Hold
}

// errTakenDown ends a worker that is not given the time to drain.
var errTakenDown = errors.New("taken down")

// start runs a worker; ended is called when it has returned.
func (u *unit) start(ctx context.Context, w *pipeline.Worker, r *configs.Resource, route *configs.Route, group string, kept reconcile.Identity, ended func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	u.mu.Lock()
	if u.drained() { // since the worker was made
		u.mu.Unlock()
		cancel(nil)
		u.rest(r)
		ended() // the worker was never run, and gives back what it was made with
		return
	}
	if u.held != nil {
		w.Pause()
	}
	if u.worker == nil && u.health == reconcile.Failed {
		u.restarts++
	}
	l := &launch{worker: w, cancel: cancel, gone: make(chan struct{}), ended: ended}
	u.adopt(l, r, group, kept)
	u.mu.Unlock()
	u.log.Info("route starts", "from", route.From.Addr.String(), "to", route.To.Addr.String())
	go u.run(ctx, l)
}

// launch is a worker that was started.
type launch struct {
	worker *pipeline.Worker
	cancel context.CancelCauseFunc
	gone   chan struct{} // closed when the worker has returned and ended was called
	ended  func()

	over bool // it has returned, with err; guarded by unit.mu, as err
	err  error
}

// adopt makes a worker the unit's own. u.mu is held.
func (u *unit) adopt(l *launch, r *configs.Resource, group string, kept reconcile.Identity) {
	u.gone, u.seated = l.gone, true
	u.worker, u.cancel, u.resource, u.group, u.kept = l.worker, l.cancel, r, group, kept
	u.since, u.health, u.err, u.draining, u.stays = time.Now(), reconcile.Starting, nil, false, false
}

// run runs a worker to its end.
func (u *unit) run(ctx context.Context, l *launch) {
	defer close(l.gone)
	err := l.worker.Run(ctx)
	l.cancel(nil)
	last := l.worker.Stats()
	u.mu.Lock()
	l.over, l.err = true, err
	u.end(l, last)
	u.mu.Unlock()
	l.ended()
}

// end notes how the unit's worker ended; another's is not its concern. u.mu is held.
func (u *unit) end(l *launch, last pipeline.Stats) {
	if u.worker != l.worker {
		return
	}
	err := l.err
	u.worker, u.last, u.since = nil, last, time.Now()
	switch {
	case u.draining || errors.Is(err, errTakenDown) || errors.Is(err, context.Canceled):
		u.health = reconcile.Stopped
		u.log.Info("route stopped", "read", last.Total.Read)
	case err != nil:
		u.health, u.err, u.lastErr = reconcile.Failed, err, err.Error()
		u.log.Error("route failed", "error", err)
	default:
		u.health = reconcile.Finished
		u.log.Info("route finished: its source ended and everything is delivered", "read", last.Total.Read)
	}
}

// fail notes that a worker could not even be made.
func (u *unit) fail(r *configs.Resource, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.health == reconcile.Failed {
		u.restarts++
	}
	u.resource, u.health, u.err, u.since = r, reconcile.Failed, err, time.Now()
}

// stop drains the worker, if one runs, and waits for its end; within ctx.
// What is in flight when ctx ends is given up and read again later.
func (u *unit) stop(ctx context.Context) error {
	u.mu.Lock()
	w, cancel, gone := u.worker, u.cancel, u.gone
	u.draining = w != nil
	if w != nil {
		u.health = reconcile.Draining
	}
	u.mu.Unlock()
	if w == nil {
		if gone != nil {
			<-gone // it has returned; what is left is quick
		}
		return nil
	}
	defer func() { <-gone }()
	if err := w.Drain(ctx); err != nil {
		cancel(errTakenDown)
		return fmt.Errorf("drain %s: %w", u.addr, err)
	}
	return nil
}

// stay says that the worker is stopped for another to start in its place.
func (u *unit) stay() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.stays = true
}

// staying is asked by a source that closes: others need not have its partitions.
func (u *unit) staying() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.stays
}

// running gives the worker, or nil.
func (u *unit) running() *pipeline.Worker {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.worker
}

// state is what Observe tells.
func (u *unit) state() reconcile.State {
	u.mu.Lock()
	w, stats := u.worker, u.last
	st := reconcile.State{
		Resource: u.resource, Health: u.health, Since: u.since, Restarts: u.restarts,
		Group: u.group, Kept: u.kept, Lag: -1,
	}
	if u.err != nil {
		st.Error = u.err.Error()
	}
	lastErr := u.lastErr
	u.mu.Unlock()
	if w != nil {
		stats = w.Stats()
		st.Activity, st.Health, st.Error = describe(stats)
		st.Lag, st.Hints, st.Sink = stats.Lag, stats.Hints, stats.Sink
		if st.Health == reconcile.Starting && st.Error == "" {
			st.Error = lastErr
		}
	}
	u.showHold(&st, w != nil)
	st.Counters = counters(stats)
	u.showReplay(&st)
	if len(stats.Lanes) > 0 {
		st.Reading = reading(stats)
	}
	if w != nil {
		st.Lanes = lanes(stats)
	}
	return st
}

// describe turns a worker's activity into words for people, and health.
func describe(s pipeline.Stats) (activity string, health reconcile.Health, err string) {
	activity = string(s.Activity)
	switch s.Activity {
	case pipeline.Starting:
		health = reconcile.Starting
	case pipeline.Draining, pipeline.Stopped:
		health = reconcile.Draining
	case pipeline.Retrying, pipeline.WaitingDeadLetters:
		health = reconcile.Degraded
		activity = fmt.Sprintf("%s (%d, %s)", s.Activity, s.Attempt, s.Error)
	case pipeline.Partitioned:
		health = reconcile.Degraded
		activity = fmt.Sprintf("%s (since %s, %s)", s.Activity, s.CutOff.UTC().Format("15:04:05 UTC"), s.Error)
	default:
		health = reconcile.Running
	}
	return activity, health, s.Error
}

func counters(s pipeline.Stats) reconcile.Counters {
	c := countersOf(&s.Total, s.InFlightRecords)
	c.LostBeforeRead, c.Unsettled = s.LostBeforeRead, s.Unsettled
	c.SinkLimit, c.SinkRequests = s.SinkLimit, s.SinkRequests
	return c
}

func countersOf(n *pipeline.Counts, inFlight int64) reconcile.Counters {
	c := reconcile.Counters{
		Read: n.Read, Delivered: n.Delivered, Filtered: n.Filtered, DeadLettered: n.DeadLettered, Dropped: n.Dropped, InFlight: inFlight,
		Written: n.Written, Retries: n.Retried, Abandoned: n.Abandoned, Skipped: n.Skipped, SchemaViolations: n.SchemaViolations,
	}
	for _, r := range n.Reasons {
		if c.Reasons == nil {
			c.Reasons = map[string]int64{}
		}
		c.Reasons[r.Outcome.String()+"/"+r.Code] += r.N
	}
	return c
}

// lanes gives the partitions that a worker has, in order.
func lanes(s pipeline.Stats) []reconcile.Lane {
	out := make([]reconcile.Lane, len(s.Lanes))
	for i := range s.Lanes {
		l := &s.Lanes[i]
		out[i] = reconcile.Lane{
			Partition: l.Partition, Counters: countersOf(&l.Counts, l.InFlightRecords),
			Start: l.Start.Offset, Next: l.Next.Offset, Finished: l.Finished.Offset, Committed: l.Committed.Offset,
			Identity: l.Next.Identity, Revision: l.Revision, From: l.From, Activity: string(l.Activity), Error: l.Error, Paused: l.Paused,
		}
		out[i].Counters.LostBeforeRead, out[i].Counters.Unsettled = l.LostBeforeRead, l.Unsettled
		if l.Lag >= 0 {
			out[i].Lag = &l.Lag
		}
	}
	return out
}

func reading(s pipeline.Stats) reconcile.Reading {
	r := reconcile.Reading{Known: true, Retained: -1}
	for _, l := range s.Lanes {
		if l.Committed.Offset > 0 {
			r.Committed++
		}
	}
	return r
}

// disable notes that the route is not wanted to run.
func (u *unit) disable(r *configs.Resource) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.resource, u.health, u.err, u.since = r, reconcile.Disabled, nil, time.Now()
}
