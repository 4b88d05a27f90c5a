package wire

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"keystone/configs"
	"keystone/configs/addr"
	"keystone/dsl/types"
	engine "keystone/pipeline/job"
	"keystone/pipeline/job/commit"
	"keystone/pipeline/state"
	"keystone/reconcile"
	"keystone/sources"
	sourcekafka "keystone/sources/kafka"
)

// jobBuild says which job to build, and with what names.
type jobBuild struct {
	cfg     *configs.Config
	job     *configs.Job
	group   string                 // shows the position; prefix of transactional ids; the identity of the state
	topics  func(addr.Addr) string // of streams
	dir     string                 // of the state; "": the job's own below the state directory
	oneShot bool                   // `keystone run`
	lost    []string               // operators whose state is given up
	fresh   bool                   // all state is given up
	keeps   bool                   // checkpoints are made
}

// jobParts is a job that is ready to run, with all that it was made of.
type jobParts struct {
	job    *engine.Job
	store  *state.Store
	commit *commit.Committer
	out    *jobOutputs
	keeps  *jobCheckpoints // nil: no checkpoints are made
}

// jobDir is where the state of a job is.
func jobDir(stateDir string, a addr.Addr) string {
	name := strings.NewReplacer("/", "_", "\\", "_", "\x00", "_").Replace(strings.TrimPrefix(a.String(), "job."))
	return filepath.Join(stateDir, "jobs", name)
}

// moveJobState gives the state of a job to its new name; idempotent.
func moveJobState(stateDir string, from, to addr.Addr) error {
	was, is := jobDir(stateDir, from), jobDir(stateDir, to)
	if _, err := os.Stat(was); errors.Is(err, fs.ErrNotExist) {
		return nil // it never had any, or has moved
	}
	if _, err := os.Stat(is); err == nil {
		return fmt.Errorf("%s has state in %s, and %s, which moves there, has state in %s: take one of them away", to, is, from, was)
	}
	return os.Rename(was, is)
}

// buildJob makes a job. It opens the job's state, which only one process can have open, and does no other I/O.
func (p *plant) buildJob(ctx context.Context, b jobBuild) (_ *jobParts, err error) {
	if b.dir == "" {
		b.dir = jobDir(p.stateDir, b.job.Addr)
	}
	parts := &jobParts{}
	defer func() {
		if err != nil {
			err = errors.Join(err, parts.close(context.WithoutCancel(ctx)))
		}
	}()
	generation := int64(1)
	if b.fresh {
		if generation, err = setAside(b.dir, b.group); err != nil {
			return nil, err
		}
	}
	if b.keeps {
		var known int64
		if parts.keeps, known, err = p.checkpoints(ctx, b); err != nil {
			return nil, err
		}
		generation = max(generation, known)
	}
	parts.store, err = state.Open(b.dir, state.Options{Job: b.group, Generation: generation, Memory: b.job.State.Memory, Log: p.log.With("job", b.job.Addr.String())})
	if err != nil {
		return nil, fmt.Errorf("open the state of %s: %w", b.job.Addr, err)
	}
	if len(b.lost) > 0 {
		if err := engine.Forget(parts.store, b.lost); err != nil {
			return nil, fmt.Errorf("give up the state of %s: %w", strings.Join(b.lost, ", "), err)
		}
	}
	reads := map[string]sources.Source{}
	for _, o := range b.job.Operators {
		switch {
		case o.Read != nil:
			reads[o.Name()], err = p.jobSource(ctx, b, o.Read.From.Addr, o.Read.Start, o.Read.Input)
		case o.Lookup != nil:
			reads[o.Name()], err = p.jobSource(ctx, b, o.Lookup.From.Addr, "earliest", o.Lookup.Input)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.Name(), err)
		}
	}
	out, err := p.jobOutputs(ctx, b, parts.store)
	if err != nil {
		return nil, err
	}
	parts.out = out
	log := p.log.With("job", b.job.Addr.String())
	parts.commit, err = commit.New(commit.Options{Store: parts.store, Writers: out.writers, Targets: out.targets, Log: log})
	if err != nil {
		return nil, err
	}
	spec := engine.Spec{Job: b.job, Sources: reads, Store: parts.store, Commit: parts.commit, Log: log}
	if out.letters != nil {
		spec.Letters = out.letters
	}
	parts.job, err = engine.New(spec)
	return parts, err
}

// setAside puts state that is given up out of the way, and gives the generation that comes next.
func setAside(dir, group string) (int64, error) {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return 1, nil
	}
	s, err := state.Open(dir, state.Options{Job: group})
	if err != nil {
		return 0, fmt.Errorf("the state that is to be given up: %w", err)
	}
	next := s.Generation() + 1
	if err := s.Close(); err != nil {
		return 0, err
	}
	old := fmt.Sprintf("%s.generation-%d", dir, next-1)
	if err := os.RemoveAll(old); err != nil {
		return 0, err
	}
	return next, os.Rename(dir, old)
}

// jobSource makes what a read or lookup reads: a stream without a group, since the job keeps its positions, or a source block.
func (p *plant) jobSource(ctx context.Context, b jobBuild, from addr.Addr, start string, t types.Type) (sources.Source, error) {
	deps := sources.Deps{Log: p.log.With("job", b.job.Addr.String()), Dir: p.dir, Resolve: p.resolve, Route: b.job.Addr.String(), Type: t}
	deps.Scan.All = true
	if s := b.cfg.Sources[from]; s != nil {
		return s.Config.New(deps)
	}
	stream := b.cfg.Streams[from]
	if stream == nil {
		return nil, fmt.Errorf("there is no %s", from)
	}
	opts, err := p.clientOptions(ctx, b.cfg.ClusterOf(from))
	if err != nil {
		return nil, err
	}
	c := sourcekafka.Config{Client: opts, Topic: b.topics(from), Start: start, ReadCommitted: true}
	if !b.oneShot {
		c.Group = b.group
	}
	return c.NewDirect(deps)
}

// close gives everything back; also of a job that was not finished being made.
func (p *jobParts) close(ctx context.Context) error {
	var errs []error
	if p.commit != nil {
		errs = append(errs, p.commit.Close(ctx))
	}
	if p.store != nil {
		errs = append(errs, p.store.Close())
	}
	if p.keeps != nil {
		errs = append(errs, p.keeps.place.Close())
	}
	return errors.Join(errs...)
}

// counters gives how many records were read and rows were written.
func (p *jobParts) counters() reconcile.Counters {
	return jobCounters(p.job.Stats())
}

func jobCounters(s engine.Stats) reconcile.Counters {
	var c reconcile.Counters
	for i := range s.Operators {
		o := &s.Operators[i]
		c.DeadLettered += o.Failed
		if strings.HasPrefix(o.Name, "read.") {
			c.Read += o.In
			c.LostBeforeRead += o.Lost
		}
		if strings.HasPrefix(o.Name, "write.") {
			c.Written += o.In - o.Failed
		}
	}
	c.Delivered = c.Written
	return c
}

// describe fills in what a running job says of itself.
func (p *jobParts) describe(st *reconcile.State) {
	s := p.job.Stats()
	st.Counters = jobCounters(s)
	run := &reconcile.JobRun{Generation: s.Epoch.Generation, Epoch: s.Epoch.N, Committed: s.Committed, Pause: s.Pause, LongPause: s.LongPause, Commit: s.Commit, Rows: s.Rows}
	for i := range s.Operators {
		o := &s.Operators[i]
		x := reconcile.JobOperator{Name: o.Name, In: o.In, Out: o.Out, Late: o.Late, Failed: o.Failed, Tombstones: o.Tombstones, Memory: o.Memory, Lost: o.Lost}
		switch o.Watermark {
		case math.MinInt64:
		case math.MaxInt64:
			x.Ended = true
		default:
			t := time.UnixMilli(o.Watermark).UTC()
			x.Watermark = &t
		}
		run.Operators = append(run.Operators, x)
	}
	st.Job, st.Activity = run, "reading"
	if p.keeps != nil {
		if run.Checkpoint = p.keeps.describe(); run.Checkpoint != nil && run.Checkpoint.Error != "" {
			st.Health, st.Error = reconcile.Degraded, "a checkpoint could not be made: "+run.Checkpoint.Error
		}
	}
	if err := p.commit.Err(); err != nil {
		st.Health, st.Error = reconcile.Degraded, err.Error()
	}
}
