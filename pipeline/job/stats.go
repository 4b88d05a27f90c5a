package job

import (
	"sync"
	"sync/atomic"
	"time"

	"keystone/pipeline/job/commit"
	"keystone/pipeline/state"
)

// count is a number that several tasks add to.
type count struct{ atomic.Int64 }

func (c *count) add(n int64) { c.Add(n) }

// counts are those of an operator, over all its tasks.
type counts struct {
	read, in, out, late, failed, tombstones count
	state                                   count // bytes in memory
}

// Stats is how a job is doing.
type Stats struct {
	Operators []OperatorStats // in the order of the job
	Epoch     state.Epoch     // the last one that is committed
	Committed time.Time       // when that was; zero: none in this run
	Pause     time.Duration   // how long the last epoch held up the reads
	LongPause time.Duration   // the longest of the run
	Commit    time.Duration   // how long the last commit took
	Rows      int64           // written by all committed epochs of the run
}

// OperatorStats is how an operator is doing.
type OperatorStats struct {
	Name       string
	In, Out    int64
	Late       int64   // rows that came after their window had been freed
	Failed     int64   // rows that could not be evaluated
	Tombstones int64   // null values that were passed over
	Idle       int64   // of a read: how often an idle partition let the watermark go on
	Lost       int64   // of a read: offsets that were gone before they were read
	Memory     int64   // bytes of its state that are in memory
	Watermark  int64   // milliseconds since 1970, of the slowest task; the least int64: none yet; the largest: its input has ended
	Fill       float64 // of the fullest queue into its tasks, from 0 to 1
}

// epochStats is what is known of epochs.
type epochStats struct {
	mu    sync.Mutex // guards s
	s     Stats
	wrote int64
}

func (e *epochStats) pause(d time.Duration) {
	e.mu.Lock()
	e.s.Pause, e.s.LongPause = d, max(e.s.LongPause, d)
	e.mu.Unlock()
}

func (e *epochStats) describe(c commit.Epoch) {
	e.mu.Lock()
	e.wrote = int64(len(c.Out))
	e.mu.Unlock()
}

func (e *epochStats) done(at state.Epoch, took time.Duration) {
	e.mu.Lock()
	e.s.Epoch, e.s.Committed, e.s.Commit = at, time.Now(), took
	e.s.Rows += e.wrote
	e.mu.Unlock()
}

// Stats tells how the job is doing; it may be called at any time.
func (j *Job) Stats() Stats {
	j.epochs.mu.Lock()
	s := j.epochs.s
	j.epochs.mu.Unlock()
	for _, o := range j.cfg.Operators {
		c := j.graph.counts[o]
		st := OperatorStats{Name: o.Name(), In: c.in.Load(), Out: c.out.Load(), Late: c.late.Load(), Failed: c.failed.Load(), Tombstones: c.tombstones.Load(), Memory: c.state.Load(), Watermark: beginOfTime}
		if n := j.graph.nodes[o]; n != nil {
			st.Watermark, st.Fill = watermark(n), n.fill()
			if n.read != nil {
				st.In, st.Idle, st.Lost = c.read.Load(), n.read.idled.Load(), n.read.lost.Load()
			}
		}
		s.Operators = append(s.Operators, st)
	}
	return s
}

func watermark(n *node) int64 {
	if n.read != nil {
		m, some := n.read.least()
		if !some {
			return beginOfTime
		}
		return m
	}
	return n.mark.Load()
}

// fill tells how full the fullest queue into the node's tasks is.
func (n *node) fill() (most float64) {
	for _, t := range n.started() {
		if t.front != nil {
			most = max(most, t.front.in.fill())
		} else {
			most = max(most, t.in.fill())
		}
	}
	return most
}
