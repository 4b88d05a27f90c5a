package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"keystone/pipeline/job/commit"
	"keystone/pipeline/record"
	"keystone/pipeline/state"
)

// metaVersion is that of what is kept with each epoch.
const metaVersion = 1

// meta is what the engine keeps with each epoch.
type meta struct {
	Version   int                   `json:"version"`
	KeyGroups int                   `json:"key_groups"`
	Operators map[string]uint16     `json:"operators"` // ids of keyed operators, also of those that are gone
	Reads     map[string][]partMeta `json:"reads"`
	Marks     map[string]int64      `json:"marks"` // watermarks of keyed operators
	// Idled counts how often an idle partition let the watermark go on: what a replay need not repeat.
	Idled int64 `json:"idled,omitempty"`
}

// partMeta is a partition as the epoch left it.
type partMeta struct {
	record.Position
	Mark int64 `json:"mark"`
	Idle bool  `json:"idle,omitempty"`
}

// answer is what a task gives for an epoch.
type answer struct {
	t     *task
	batch *state.Batch
	out   []commit.Out
	parts []partMeta
	mark  int64
}

func (j *Job) readMeta() error {
	_, b := j.spec.Store.Last()
	j.meta = meta{Version: metaVersion, KeyGroups: j.cfg.KeyGroups, Operators: map[string]uint16{}, Reads: map[string][]partMeta{}, Marks: map[string]int64{}}
	if len(b) == 0 {
		return nil
	}
	var m meta
	if err := json.Unmarshal(b, &m); err != nil {
		return fmt.Errorf("what the last epoch of the state says of the job: %w", err)
	}
	if m.Version != metaVersion {
		return fmt.Errorf("the state is of version %d, this Keystone knows %d: %w", m.Version, metaVersion, state.ErrFormat)
	}
	if m.KeyGroups != j.cfg.KeyGroups {
		return fmt.Errorf("the state has %d key groups, the job %d: key_groups cannot be changed without a fresh start", m.KeyGroups, j.cfg.KeyGroups)
	}
	j.meta = m
	if j.meta.Operators == nil {
		j.meta.Operators = map[string]uint16{}
	}
	if j.meta.Reads == nil {
		j.meta.Reads = map[string][]partMeta{}
	}
	if j.meta.Marks == nil {
		j.meta.Marks = map[string]int64{}
	}
	return nil
}

// coordinate makes epochs until the job is over.
func (j *Job) coordinate() error {
	reading, loading := 0, 0
	for _, n := range j.graph.order {
		switch {
		case n.table:
			loading++
		case n.read != nil:
			reading++
		}
	}
	if loading == 0 {
		close(j.ready)
	}
	c := &coordinator{j: j, meta: j.meta}
	last, _ := j.spec.Store.Last()
	c.next = last.Next()
	if g := j.spec.Store.Generation(); g > last.Generation {
		c.next = state.Epoch{Generation: g, N: 1}
	}
	epoch, tick := time.NewTicker(j.spec.Interval), time.NewTicker(j.clock.every)
	defer epoch.Stop()
	defer tick.Stop()
	for {
		var err error
		select {
		case <-j.ctx.Done():
			err = context.Cause(j.ctx)
		case <-j.spec.Commit.Done():
			err = j.spec.Commit.Err()
		case err = <-c.committing:
			c.committing = nil
		case <-j.drain:
			return c.finish()
		case r := <-j.ended:
			if !r.n.table {
				if reading--; reading == 0 {
					return c.finish()
				}
			}
		case <-j.loaded:
			if loading--; loading == 0 {
				err = c.epoch() // the tables' rows are where they belong
				close(j.ready)
			}
		case <-epoch.C:
			err = c.epoch()
		case <-j.early:
			err = c.epoch()
		case <-tick.C:
			j.clock.tick()
		}
		if err != nil {
			return errors.Join(err, c.wait())
		}
	}
}

// coordinator makes one epoch after the other. At most one is being committed while the next one's rows are read.
type coordinator struct {
	j          *Job
	next       state.Epoch
	meta       meta // of the last epoch
	seq        int64
	committing chan error
}

// wait waits for the commit under way.
func (c *coordinator) wait() error {
	if c.committing == nil {
		return nil
	}
	err := <-c.committing
	c.committing = nil
	return err
}

// finish makes the last epoch and waits until its rows are where they belong.
func (c *coordinator) finish() error {
	j := c.j
	if err := c.wait(); err != nil {
		return err
	}
	j.gate.Lock() // for good: nothing is read any more
	err := c.drained()
	if err == nil {
		err = c.wait()
	}
	if err == nil {
		err = j.spec.Commit.Wait(j.ctx)
	}
	if err == nil {
		err = j.spec.Commit.Err()
	}
	j.cancel(errEnded)
	j.gate.Unlock()
	return err
}

// epoch ends one: it stops the reads, has all tasks answer, and lets the reads go on while it is committed.
func (c *coordinator) epoch() error {
	if err := c.wait(); err != nil {
		return err
	}
	begin := time.Now()
	c.j.gate.Lock()
	err := c.drained()
	c.j.gate.Unlock()
	c.j.epochs.pause(time.Since(begin))
	return err
}

// drained sends the barrier and takes the answers; the gate is held.
func (c *coordinator) drained() error {
	j := c.j
	c.seq++
	tasks := 0
	for _, n := range j.graph.order {
		tasks += len(n.tasks)
		if n.read == nil {
			continue
		}
		for _, t := range n.tasks {
			t.front.in.force(word{barrier: true})
		}
	}
	e := commit.Epoch{E: c.next}
	m := meta{Version: metaVersion, KeyGroups: j.cfg.KeyGroups, Operators: c.meta.Operators, Reads: map[string][]partMeta{}, Marks: map[string]int64{}, Idled: c.meta.Idled}
	answers := make([]*answer, 0, tasks)
	for len(answers) < tasks {
		select {
		case a := <-j.acks:
			answers = append(answers, a)
		case <-j.ctx.Done():
			return context.Cause(j.ctx)
		case <-j.spec.Commit.Done():
			return j.spec.Commit.Err()
		}
	}
	parts := map[string]map[int32]partMeta{}
	for name, list := range c.meta.Reads {
		parts[name] = map[int32]partMeta{}
		for _, p := range list {
			parts[name][p.Partition] = p
		}
	}
	moved := false
	for _, a := range answers {
		name := a.t.n.name()
		for _, p := range a.parts {
			if parts[name] == nil {
				parts[name] = map[int32]partMeta{}
			}
			if parts[name][p.Partition] != p {
				parts[name][p.Partition], moved = p, true
			}
		}
		if a.t.front == nil {
			m.Marks[name] = a.mark
			moved = moved || c.meta.Marks[name] != a.mark
		}
		e.Out = append(e.Out, a.out...)
		if a.batch == nil {
			continue
		}
		switch {
		case a.batch.Empty():
			a.batch.Close()
		case e.Batch == nil:
			e.Batch = a.batch
		default:
			e.Batch.Append(a.batch)
			a.batch.Close()
		}
	}
	for name, marks := range c.meta.Marks { // of operators that are gone
		if _, ok := m.Marks[name]; !ok {
			m.Marks[name] = marks
		}
	}
	for name, byPart := range parts {
		for _, p := range slices.Sorted(maps.Keys(byPart)) {
			m.Reads[name] = append(m.Reads[name], byPart[p])
		}
	}
	for _, n := range j.graph.order {
		if n.read != nil {
			m.Idled += n.read.idled.Swap(0)
		}
	}
	j.outBytes.Store(0)
	if !moved && e.Batch == nil && len(e.Out) == 0 {
		j.committed.Store(c.seq)
		return nil
	}
	var err error
	if e.Meta, err = json.Marshal(&m); err != nil {
		return fmt.Errorf("write what the epoch says of the job: %w", err)
	}
	c.commit(e, m)
	return nil
}

// commit makes an epoch final in the background.
func (c *coordinator) commit(e commit.Epoch, m meta) {
	j := c.j
	before := c.meta.Reads
	j.epochs.describe(e)
	c.meta = m
	c.next = e.E.Next()
	done := make(chan error, 1)
	c.committing = done
	seq := c.seq
	go func() {
		begin := time.Now()
		if err := j.spec.Commit.Commit(j.ctx, e); err != nil {
			done <- fmt.Errorf("commit epoch %s: %w", e.E, err)
			return
		}
		j.committed.Store(seq)
		if e.Batch != nil {
			e.Batch.Close()
		}
		j.epochs.done(e.E, time.Since(begin))
		j.show(before, m.Reads)
		done <- nil
	}()
}

// show stores positions where the source shows them. They are not read back: those of the epoch count.
func (j *Job) show(old, reads map[string][]partMeta) {
	for _, n := range j.graph.order {
		if n.read == nil || !n.read.opened.Load() {
			continue
		}
		var at []record.Position
		was := map[int32]partMeta{}
		for _, p := range old[n.name()] {
			was[p.Partition] = p
		}
		for _, p := range reads[n.name()] {
			if was[p.Partition].Position != p.Position {
				at = append(at, p.Position)
			}
		}
		if len(at) == 0 {
			continue
		}
		if err := n.read.src.Commit(j.ctx, at); err != nil {
			j.log.Debug("positions are not shown", "operator", n.name(), "error", err)
		}
	}
}
