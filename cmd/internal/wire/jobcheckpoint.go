package wire

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"keystone/configs"
	"keystone/pipeline/state"
	"keystone/pipeline/state/checkpoint"
	"keystone/reconcile"
	"keystone/sources/hive/storage"
)

// jobCheckpoints makes the checkpoints of a job that runs.
type jobCheckpoints struct {
	place   storage.Store
	options checkpoint.Options
	every   time.Duration
	log     *slog.Logger

	mu   sync.Mutex // guards last
	last reconcile.JobCheckpoint
}

// checkpointPlace opens where the checkpoints of a job are; folder is where that is on this machine, "" if it is elsewhere.
func (p *plant) checkpointPlace(ctx context.Context, j *configs.Job, group string) (_ storage.Store, folder string, err error) {
	at := strings.NewReplacer("{{", "{", "}}", "}").Replace(j.Checkpoint.Location.S)
	switch {
	case at == "":
		folder = filepath.Join(p.stateDir, "checkpoints", group)
		at = folder
	case strings.Contains(at, "://"):
		at = strings.TrimSuffix(at, "/") + "/" + group
	default:
		folder = filepath.Join(at, group)
		if !filepath.IsAbs(at) {
			folder = filepath.Join(p.dir, at, group)
		}
		at = folder
	}
	place, err := (&storage.Location{URL: at}).Open(ctx, p.dir, p.resolve)
	if err != nil {
		return nil, "", fmt.Errorf("checkpoints of %s: %w", j.Addr, err)
	}
	return place, folder, nil
}

// restore makes the state of a job that has none here, as its option restore says, and gives the generation to
// begin with where nothing is restored.
func (p *plant) restore(ctx context.Context, b jobBuild, place storage.Store, log *slog.Logger) (int64, error) {
	if _, err := os.Stat(b.dir); !errors.Is(err, fs.ErrNotExist) {
		return 1, err // it goes on from what it has
	}
	name, isSavepoint := strings.CutPrefix(b.job.Restore, "savepoint:")
	if !isSavepoint {
		name = ""
	}
	if b.job.Restore != "fresh" && !b.fresh {
		m, err := checkpoint.Restore(ctx, place, b.group, b.dir, name, 0, log)
		switch {
		case err == nil:
			log.Warn("the job goes on from a checkpoint: what it wrote after that is written again", "checkpoint", m.String())
			return 1, nil
		case !errors.Is(err, checkpoint.ErrNone) || isSavepoint:
			return 0, fmt.Errorf("restore %s: %w", b.job.Addr, err)
		}
	}
	all, _, err := checkpoint.List(ctx, place, b.group)
	if err != nil {
		return 0, fmt.Errorf("checkpoints of %s: %w", b.job.Addr, err)
	}
	generation := int64(1)
	for _, m := range all {
		generation = max(generation, m.Generation+1)
	}
	return generation, nil
}

// checkpoints opens the place of a job's checkpoints, makes its state of one where it has none, and gives what makes the next ones.
func (p *plant) checkpoints(ctx context.Context, b jobBuild) (_ *jobCheckpoints, generation int64, err error) {
	log := p.log.With("job", b.job.Addr.String())
	place, folder, err := p.checkpointPlace(ctx, b.job, b.group)
	if err != nil {
		return nil, 0, err
	}
	if generation, err = p.restore(ctx, b, place, log); err != nil {
		return nil, 0, errors.Join(err, place.Close())
	}
	return &jobCheckpoints{place: place, every: b.job.Checkpoint.Interval, log: log,
		options: checkpoint.Options{Job: b.group, Place: place, Folder: folder, Retain: b.job.Checkpoint.Retain, RetainFor: b.job.Checkpoint.RetainFor, Log: log}}, generation, nil
}

// run makes checkpoints until ctx ends. Where one fails the job goes on, status says so, and the next one is tried; but who is
// fenced must not go on with the job.
func (c *jobCheckpoints) run(ctx context.Context, s *state.Store, fenced func(error)) {
	if c.every <= 0 {
		return
	}
	tick := time.NewTicker(c.every)
	defer tick.Stop()
	var keeper *checkpoint.Keeper // opened when it is needed: a place that is away holds up no job that has its state
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		began := time.Now()
		var saved *checkpoint.Saved
		var err error
		if keeper == nil {
			keeper, err = checkpoint.Open(ctx, c.options)
		}
		if err == nil {
			saved, err = keeper.Save(ctx, s, nil, began)
		}
		if ctx.Err() != nil {
			return
		}
		c.mu.Lock()
		if err == nil {
			c.last = reconcile.JobCheckpoint{Number: saved.Number, Epoch: saved.Epoch, Time: saved.Time, Bytes: saved.Bytes(), Uploaded: saved.Uploaded, Took: time.Since(began)}
		} else {
			c.last.Error = err.Error()
		}
		c.mu.Unlock()
		switch {
		case errors.Is(err, checkpoint.ErrFenced):
			fenced(err)
			return
		case err != nil:
			c.log.Error("a checkpoint could not be made; the next one is tried in its time", "error", err)
		default:
			c.log.Info("checkpoint", "checkpoint", saved.String(), "uploaded", saved.Uploaded, "took", time.Since(began))
		}
	}
}

// describe gives the last checkpoint; nil before the first.
func (c *jobCheckpoints) describe() *reconcile.JobCheckpoint {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last == (reconcile.JobCheckpoint{}) {
		return nil
	}
	last := c.last
	return &last
}
