package job

import "time"

// clock looks at the partitions of all reads: who is too far ahead waits, and tasks without a partition of their own
// hear how far the others are.
type clock struct {
	j     *Job
	every time.Duration
}

// The bounds of the time between looks.
const (
	shortTick = 20 * time.Millisecond
	longTick  = time.Second
)

func newClock(j *Job) *clock {
	c := &clock{j: j, every: longTick}
	for _, n := range j.graph.order {
		if n.op.Kind == "read" && n.op.Read.Idle > 0 {
			c.every = min(c.every, max(shortTick, n.op.Read.Idle/8))
		}
		if n.op.Kind == "read" && n.op.Read.Align > 0 || j.tasks > 1 {
			c.every = min(c.every, 5*shortTick)
		}
	}
	return c
}

// others gives the watermark of a task of a read that has no active partition: the least of the read's active
// partitions, or, where there is none, of all reads'.
func (c *clock) others(r *reader) int64 {
	if m, some := r.least(); some {
		return m
	}
	m, some := int64(endOfTime), false
	for _, n := range c.j.graph.order {
		if n.read == nil || n.table || n.read.over.Load() {
			continue
		}
		if o, ok := n.read.least(); ok {
			m, some = min(m, o), true
		}
	}
	if !some {
		return beginOfTime
	}
	return m
}

// least gives the least watermark of the active partitions; of a read that is not open yet the beginning of time.
func (r *reader) least() (int64, bool) {
	if !r.opened.Load() {
		return beginOfTime, true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	m, some := int64(endOfTime), false
	for _, v := range r.views {
		if !v.idle.Load() {
			m, some = min(m, v.mark.Load()), true
		}
	}
	return m, some
}

// tick tells the tasks of reads to look again, and pauses and resumes partitions.
func (c *clock) tick() {
	for _, n := range c.j.graph.order {
		if n.read == nil {
			continue
		}
		for _, t := range n.tasks {
			if !t.front.ticked.Swap(true) {
				t.front.in.force(word{tick: true})
			}
		}
	}
	c.align()
}

// align has partitions wait that are too far ahead of the slowest one that has something to read.
func (c *clock) align() {
	slowest, some := int64(endOfTime), false
	for _, n := range c.j.graph.order {
		if n.op.Kind != "read" || n.read.over.Load() {
			continue
		}
		ends := n.read.ends()
		n.read.mu.Lock()
		for p, v := range n.read.views {
			m, end := v.mark.Load(), ends[p]
			if m != beginOfTime && !v.idle.Load() && (end < 0 || v.next.Load() < end) {
				slowest, some = min(slowest, m), true
			}
		}
		n.read.mu.Unlock()
	}
	for _, n := range c.j.graph.order {
		if n.op.Kind != "read" || n.op.Read.Align <= 0 || n.read.over.Load() {
			continue
		}
		var pause, resume []int32
		n.read.mu.Lock()
		for p, v := range n.read.views {
			ahead := some && v.mark.Load() > after(slowest, n.op.Read.Align.Milliseconds())
			if ahead != v.paused {
				v.paused = ahead
				if ahead {
					pause = append(pause, p)
				} else {
					resume = append(resume, p)
				}
			}
		}
		n.read.mu.Unlock()
		if pause != nil {
			n.read.src.Pause(pause)
		}
		if resume != nil {
			n.read.src.Resume(resume)
		}
	}
}
