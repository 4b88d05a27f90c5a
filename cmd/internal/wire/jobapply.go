package wire

import (
	"context"
	"fmt"
	"time"

	"keystone/configs"
	"keystone/configs/addr"
	"keystone/reconcile"
)

// jobDrainTimeout is how long the last epoch of a job that stops may take.
const jobDrainTimeout = 30 * time.Second

// applyJob carries out a change of a job. It has no group to share with another process: the state directory's
// lock, and the transactional id of its target, see to it that one runs.
func (r *runtime) applyJob(ctx context.Context, goal *configs.Config, c reconcile.Change) error {
	if !c.MovedFrom.IsZero() {
		if err := r.moveJob(ctx, c.MovedFrom, c.Addr); err != nil {
			return err
		}
	}
	j := goal.Jobs[c.Addr]
	gone := c.Action == reconcile.Delete || c.Action == reconcile.Forget
	if !gone && j == nil {
		return fmt.Errorf("%s is not in the goal", c.Addr)
	}
	u := r.jobUnit(c.Addr, !gone)
	if u == nil {
		return nil
	}
	if c.Action == reconcile.Update && j.Enabled {
		u.mu.Lock()
		runs := u.parts != nil
		if runs {
			u.resource = c.After
		}
		u.mu.Unlock()
		if runs {
			return nil // what is live of a job is for people
		}
	}
	stopping, cancel := context.WithTimeout(ctx, jobDrainTimeout)
	err := u.stop(stopping)
	cancel()
	if err != nil {
		r.log.Warn("the job did not end with an epoch; what it read since the last one is read again", "job", c.Addr.String(), "error", err)
	}
	switch {
	case gone:
		r.mu.Lock()
		delete(r.jobs, c.Addr)
		r.mu.Unlock()
		return nil
	case !j.Enabled:
		u.rest(c.After, reconcile.Disabled)
		return nil
	}
	group := j.Group
	if c.Kept.Group != "" {
		group = c.Kept.Group
	}
	b := jobBuild{cfg: goal, job: j, group: group, topics: r.topicNames(goal), keeps: !r.ephemeral}
	if c.Action == reconcile.Replace {
		b.lost, b.fresh = reconcile.LostOperators(c)
	}
	parts, err := r.buildJob(ctx, b)
	if err != nil {
		u.fail(c.After, err)
		return err
	}
	u.start(r.base, parts, c.After, group, c.Kept, r.changed)
	return nil
}

// moveJob gives the state of a job to its new name; idempotent.
func (r *runtime) moveJob(ctx context.Context, from, to addr.Addr) error {
	if old := r.jobUnit(from, false); old != nil {
		stopping, cancel := context.WithTimeout(ctx, jobDrainTimeout)
		defer cancel()
		if err := old.stop(stopping); err != nil {
			r.log.Warn("the moved job did not end with an epoch", "error", err)
		}
		r.mu.Lock()
		delete(r.jobs, from)
		r.mu.Unlock()
	}
	return moveJobState(r.stateDir, from, to)
}

// jobUnit gives the unit of a job, made if there is none and create is set.
func (r *runtime) jobUnit(a addr.Addr, create bool) *jobUnit {
	r.mu.Lock()
	defer r.mu.Unlock()
	u := r.jobs[a]
	if u == nil && create {
		u = &jobUnit{addr: a, log: r.log.With("job", a.String()), health: reconcile.Stopped}
		r.jobs[a] = u
	}
	return u
}
