// Package job runs the stateful jobs of a configuration: a graph of operators over event time, whose result is a
// function of what its sources hold and not of how their partitions interleave.
//
// Reads and keyed operators are nodes and have tasks, one goroutine each, that own the partitions or the key groups
// they are given. Operators without a key run in the tasks of the node whose rows they get. Between nodes rows go
// over bounded queues, by key group, in packets that end with the watermark of the sender. Expressions are evaluated
// by the sender, where the record is.
//
// An epoch is made thus: no batch is given to the tasks of reads any more; a barrier goes through the graph behind all rows; each
// task answers with what changed of its state; reading goes on, and the committer makes state, positions and written
// rows durable in one commit meanwhile. After a crash the job goes on from the last epoch, at any parallelism.
//
// Lock order: Job.gate, then Job.mu, then those of queues.
package job

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"keystone/configs"
	"keystone/dsl/eval"
	"keystone/pipeline/job/commit"
	"keystone/pipeline/record"
	"keystone/pipeline/state"
	"keystone/sources"
)

// Committer makes epochs final: a commit.Committer.
type Committer interface {
	Recover(ctx context.Context) error
	Commit(ctx context.Context, e commit.Epoch) error
	Wait(ctx context.Context) error
	Done() <-chan struct{}
	Err() error
}

// Failure is a row that could not be evaluated.
type Failure struct {
	Operator  string // "window.by_user"
	Topic     string // of the record as read; "" of a row that an operator made
	Partition int32
	Record    *record.Record // borrowed
	Identity  string         // of what the offset counts in
	Err       *eval.Error
	Time      time.Time
}

// Letters makes the dead letter of a failure, as a row that is written with the epoch. It is called from several goroutines.
type Letters interface {
	Letter(f *Failure) (commit.Out, error)
}

// Spec is what a job is made of. The job closes none of it.
type Spec struct {
	Job *configs.Job
	// Sources by the names of reads, "read.plays", and of lookups whose tables they are, "lookup.title". They are opened and closed by Run.
	Sources map[string]sources.Source
	Store   *state.Store
	Commit  Committer
	Letters Letters // needed where Job.OnError is dead_letter
	Log     *slog.Logger
	// Parallelism is the number of tasks of each node; 0: the job's, or as many as there are processors.
	Parallelism int
	// Interval is the time between epochs; 0: one second.
	Interval time.Duration
	// OutBytes is how much may be written in an epoch before it is ended early. 0: 16 MiB.
	OutBytes int64
	Now      func() time.Time // nil: time.Now
}

// Job runs once.
type Job struct {
	spec  Spec
	cfg   *configs.Job
	log   *slog.Logger
	graph *graph
	tasks int
	meta  meta // that the job begins with
	now   func() time.Time

	// gate is held for reading while a batch is given to the tasks of a read, and for writing while an epoch drains.
	gate    sync.RWMutex
	early   chan struct{} // asks for an epoch before its time
	drain   chan struct{}
	drained sync.Once
	ended   chan *reader // a bounded source was read to its end
	acks    chan *answer
	loaded  chan *reader  // the table of a lookup was read to where it ended when the job began
	ready   chan struct{} // closed when all tables are there: reads begin

	committed atomic.Int64 // number of the last committed epoch
	outBytes  atomic.Int64 // written since the last epoch
	clock     *clock
	workers   sync.WaitGroup
	ctx       context.Context // of the run
	cancel    context.CancelCauseFunc
	epochs    epochStats
	running   atomic.Bool

	leastMemory int64 // of a task; tests make it small
	evictions   atomic.Int64
}

// New checks a spec and makes a job; it does no I/O besides looking at the last epoch of the store.
func New(s Spec) (*Job, error) {
	j := &Job{spec: s, cfg: s.Job, log: s.Log, tasks: s.Parallelism, now: s.Now, early: make(chan struct{}, 1), drain: make(chan struct{}), ended: make(chan *reader), loaded: make(chan *reader), ready: make(chan struct{}), leastMemory: leastMemory}
	if j.log == nil {
		j.log = slog.New(slog.DiscardHandler)
	}
	if j.now == nil {
		j.now = time.Now
	}
	if j.tasks <= 0 {
		j.tasks = s.Job.Parallelism
	}
	if j.tasks <= 0 {
		j.tasks = runtime.GOMAXPROCS(0)
	}
	j.tasks = min(j.tasks, s.Job.KeyGroups)
	if j.tasks <= 0 {
		return nil, errors.New("a job without key groups")
	}
	if j.spec.Interval <= 0 {
		j.spec.Interval = time.Second
	}
	if j.spec.OutBytes <= 0 {
		j.spec.OutBytes = 16 << 20
	}
	if s.Letters == nil && s.Job.OnError == configs.DeadLetter {
		return nil, errors.New("a job with dead letters and nobody to take them")
	}
	if err := j.readMeta(); err != nil {
		return nil, err
	}
	var err error
	if j.graph, err = newGraph(s.Job, j.meta.Operators); err != nil {
		return nil, err
	}
	for _, n := range j.graph.order {
		if !n.reads() {
			continue
		}
		src := s.Sources[n.name()]
		if src == nil {
			return nil, fmt.Errorf("%s has no source", n.name())
		}
		n.read = newReader(j, n, src)
	}
	j.clock = newClock(j)
	return j, nil
}

// reads tells whether a source is read for the node.
func (n *node) reads() bool { return n.op.Kind == "read" || n.table }

// name is that of the operator.
func (n *node) name() string { return n.op.Name() }

// groupsOf gives the key groups of a task, from first to before end.
func (j *Job) groupsOf(task int) (first, end int) {
	g := j.cfg.KeyGroups
	return (task*g + j.tasks - 1) / j.tasks, ((task+1)*g + j.tasks - 1) / j.tasks
}

// taskOf gives the task that owns a key group.
func (j *Job) taskOf(group uint16) int { return int(group) * j.tasks / j.cfg.KeyGroups }

// Drain has Run stop reading, finish what was read and return. It does not wait for that.
func (j *Job) Drain() { j.drained.Do(func() { close(j.drain) }) }

// Run runs the job until its sources have ended, Drain was called, ctx ends or something fails. It returns nil when
// all that was read is committed and published. At the end of bounded sources every window has been closed.
func (j *Job) Run(ctx context.Context) error {
	if j.running.Swap(true) {
		return errors.New("a job runs once")
	}
	j.ctx, j.cancel = context.WithCancelCause(ctx)
	defer j.cancel(nil)
	if err := j.spec.Commit.Recover(j.ctx); err != nil {
		return fmt.Errorf("recover the last epoch: %w", err)
	}
	if err := j.open(); err != nil {
		return err
	}
	defer context.AfterFunc(j.ctx, j.endQueues)()
	j.start()
	err := j.coordinate()
	if cause := context.Cause(j.ctx); cause != nil && errors.Is(err, context.Canceled) {
		err = cause // what was interrupted says that it was
	}
	j.cancel(err)
	j.endQueues()
	j.workers.Wait()
	for _, n := range j.graph.order {
		if n.read != nil {
			err = errors.Join(err, n.read.close())
		}
	}
	return err
}

// open makes the tasks and restores what they need at once. Sources are opened by their readers.
func (j *Job) open() error {
	j.acks = make(chan *answer, len(j.graph.order)*j.tasks)
	for _, n := range j.graph.order {
		for i := range j.tasks {
			n.tasks = append(n.tasks, newTask(j, n, i))
		}
		n.open.Store(true)
	}
	for _, n := range j.graph.order {
		for _, t := range n.tasks {
			if err := t.open(); err != nil {
				return err
			}
		}
	}
	return nil
}

// start runs a goroutine for each task and each reader.
func (j *Job) start() {
	for _, n := range j.graph.order {
		for _, t := range n.tasks {
			j.workers.Go(func() { j.guard(n, t.run) })
		}
	}
	for _, n := range j.graph.order {
		if n.read != nil {
			j.workers.Go(func() { j.guard(n, n.read.run) })
		}
	}
}

// guard runs f and has its error, or its panic, end the job.
func (j *Job) guard(n *node, f func() error) {
	defer func() {
		if p := recover(); p != nil {
			buf := make([]byte, 16<<10)
			j.cancel(fmt.Errorf("%s: panic: %v\n%s", n.name(), p, buf[:runtime.Stack(buf, false)]))
		}
	}()
	if err := f(); err != nil {
		j.cancel(fmt.Errorf("%s: %w", n.name(), err))
	}
}

func (j *Job) endQueues() {
	for _, n := range j.graph.order {
		for _, t := range n.tasks {
			t.end()
		}
	}
}

// askEpoch has the next epoch begin soon.
func (j *Job) askEpoch() {
	select {
	case j.early <- struct{}{}:
	default:
	}
}
