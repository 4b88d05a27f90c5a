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
	"keystone/reconcile"
)

// jobUnit is one job in this process: what runs, if it does, and how the last run ended. It
// outlives its runs, so that restarts are counted.
type jobUnit struct {
	addr addr.Addr
	log  *slog.Logger

	mu       sync.Mutex // guards everything below; no I/O under it
	resource *configs.Resource
	group    string
	kept     reconcile.Identity
	parts    *jobParts // nil: none runs
	cancel   context.CancelCauseFunc
	gone     chan struct{} // closed when the run has ended and gave everything back
	since    time.Time
	health   reconcile.Health
	err      error
	last     reconcile.Counters // of the run before
	restarts int
	draining bool
}

// start runs a job; ended is called when it has ended and gave everything back.
func (u *jobUnit) start(ctx context.Context, parts *jobParts, r *configs.Resource, group string, kept reconcile.Identity, ended func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	gone := make(chan struct{})
	u.mu.Lock()
	if u.health == reconcile.Failed {
		u.restarts++
	}
	u.parts, u.cancel, u.gone, u.resource, u.group, u.kept = parts, cancel, gone, r, group, kept
	u.since, u.health, u.err, u.draining = time.Now(), reconcile.Running, nil, false
	u.mu.Unlock()
	u.log.Info("job starts")
	go func() {
		defer close(gone)
		var saving sync.WaitGroup
		if parts.keeps != nil {
			saving.Go(func() { parts.keeps.run(ctx, parts.store, cancel) })
		}
		err := parts.job.Run(ctx)
		cancel(nil)
		saving.Wait() // it reads the state
		if err == nil && !u.drains() {
			err = parts.out.finish(ctx)
		}
		last := parts.counters()
		closing, stop := context.WithTimeout(context.WithoutCancel(ctx), jobCloseTimeout)
		closed := parts.close(closing)
		stop()
		if closed != nil && err == nil {
			u.log.Warn("the job ended, and something of it did not close", "error", closed)
		}
		u.mu.Lock()
		u.parts, u.last, u.since = nil, last, time.Now()
		switch {
		case u.draining, errors.Is(err, errTakenDown), errors.Is(err, context.Canceled):
			u.health = reconcile.Stopped
			u.log.Info("job stopped", "read", last.Read)
		case err != nil:
			u.health, u.err = reconcile.Failed, err
			u.log.Error("job failed", "error", err)
		default:
			u.health = reconcile.Finished
			u.log.Info("job finished: its sources ended and every window is closed", "read", last.Read)
		}
		u.mu.Unlock()
		ended()
	}()
}

// jobCloseTimeout bounds how long connections of a job that has ended may take to close.
const jobCloseTimeout = 15 * time.Second

func (u *jobUnit) drains() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.draining
}

// fail notes that a run could not even be made.
func (u *jobUnit) fail(r *configs.Resource, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.health == reconcile.Failed {
		u.restarts++
	}
	u.resource, u.health, u.err, u.since = r, reconcile.Failed, err, time.Now()
}

// rest notes that the job is not wanted to run.
func (u *jobUnit) rest(r *configs.Resource, h reconcile.Health) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.resource, u.health, u.err, u.since = r, h, nil, time.Now()
}

// stop ends the run, if there is one, with an epoch, and waits; within ctx. What was read after the last epoch
// is read again when ctx ends first.
func (u *jobUnit) stop(ctx context.Context) error {
	u.mu.Lock()
	parts, cancel, gone := u.parts, u.cancel, u.gone
	u.draining = parts != nil
	if parts != nil {
		u.health = reconcile.Draining
	}
	u.mu.Unlock()
	if gone == nil {
		return nil
	}
	if parts != nil {
		parts.job.Drain()
	}
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		cancel(errTakenDown)
		<-gone
		return fmt.Errorf("drain %s: %w", u.addr, ctx.Err())
	}
}

// state is what Observe tells.
func (u *jobUnit) state() reconcile.State {
	u.mu.Lock()
	parts := u.parts
	st := reconcile.State{Resource: u.resource, Health: u.health, Since: u.since, Restarts: u.restarts, Group: u.group, Kept: u.kept, Lag: -1, Counters: u.last}
	if u.err != nil {
		st.Error = u.err.Error()
	}
	u.mu.Unlock()
	if parts != nil {
		parts.describe(&st)
	}
	return st
}
