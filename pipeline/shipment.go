package pipeline

import (
	"container/heap"
	"fmt"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"

	"keystone/pipeline/record"
)

// shipment is what a parallel lane writes at once: all of a task's output, or records of one slot
// from one task or several. What of it fails stays a shipment, until all its records have an outcome.
type shipment struct {
	p       *parallel
	slot    *slot // nil: of order none
	segs    []segment
	batch   *record.Batch // what the sink has
	made    bool          // batch was made for this write
	tries   int
	err     error     // of the last write, if it is to be repeated
	since   time.Time // of the first failure
	due     time.Time // when it is written again
	backoff *backoff.ExponentialBackOff
	doneFn  func(error) // done, bound once
}

// shipment lends an empty one.
func (p *parallel) shipment(k *slot) *shipment {
	if n := len(p.spare); n > 0 {
		s := p.spare[n-1]
		p.spare = p.spare[:n-1]
		s.slot = k
		return s
	}
	s := &shipment{p: p, slot: k}
	s.doneFn = s.done
	return s
}

// ship gives a shipment to the sink. It gives mu up meanwhile.
func (p *parallel) ship(s *shipment) {
	l := p.lane
	w := l.w
	for _, g := range s.segs {
		g.t.holds++
	}
	if s.tries > 0 {
		l.counts.Retried += int64(s.len())
	}
	p.underway = append(p.underway, s)
	l.writing++
	w.writing++
	l.calling++
	l.kick()
	w.unlock()
	s.pack()
	if tap := w.spec.Tap; tap != nil && tap.Watched() {
		tap.Show(s.batch) // before the sink owns it
	}
	b := s.batch
	err := guard("write", func() error { w.sink.Write(l.ctx, b, s.doneFn); return nil })
	w.mu.Lock()
	l.calling--
	if err != nil {
		w.abortLocked(fmt.Errorf("sink %s: %w", w.spec.Route.To.Addr, err))
	}
}

// len is how many records it has.
func (s *shipment) len() (n int) {
	for _, g := range s.segs {
		if g.idx == nil {
			return len(g.t.out.Records)
		}
		n += len(g.idx)
	}
	return n
}

// pack makes the batch. The tasks are held, so nobody changes them.
func (s *shipment) pack() {
	if g := s.segs[0]; g.idx == nil {
		s.batch = g.t.out
		s.batch.Loose = true
		return
	}
	b := s.p.lane.w.batch()
	for _, g := range s.segs {
		out := g.t.out
		b.Of(out)
		for _, i := range g.idx {
			r := out.Records[i]
			b.Records = append(b.Records, r)
			b.Bytes += len(r.Key) + len(r.Value)
		}
	}
	b.Loose = true
	s.batch, s.made = b, true
}

// find tells which output record i of the batch is.
func (s *shipment) find(i int) (*task, int32) {
	for _, g := range s.segs {
		if g.idx == nil {
			return g.t, int32(i)
		}
		if i < len(g.idx) {
			return g.t, g.idx[i]
		}
		i -= len(g.idx)
	}
	panic(fmt.Sprintf("pipeline: record %d behind the end of a shipment", i))
}

// done is what the sink calls, once per write.
func (s *shipment) done(err error) {
	p := s.p
	l := p.lane
	w := l.w
	w.mu.Lock()
	l.writing--
	w.writing--
	p.underway = slices.DeleteFunc(p.underway, func(o *shipment) bool { return o == s })
	if s.made {
		w.giveBack(s.batch)
	}
	s.batch, s.made = nil, false
	given := s.segs[0].t.abandoned // the tasks of a lane are given up together
	for _, g := range s.segs {
		g.t.holds--
		if given {
			g.t.leave()
		}
	}
	if !given {
		s.answer(err)
	}
	w.changed.Broadcast()
	l.kick()
	w.unlock()
}

// answer gives the records their outcomes; what has none is written again later.
func (s *shipment) answer(err error) {
	p := s.p
	l := p.lane
	n := s.len()
	s.tries++
	var again []int
	if err != nil {
		again = l.judge(err, n, s.tries, s.find)
	}
	if len(again) < n { // something got an outcome
		if p.away() {
			p.hasten()
		}
		p.silent = 0
	} else {
		p.silent++
	}
	tasks := slices.Clone(s.segs) // settle and attend look at them when their records are sorted
	s.keep(again)
	policy := l.w.plan.Load().retry
	if len(again) > 0 && s.err == nil {
		s.since = time.Now()
	}
	if len(again) > 0 && (policy.MaxAttempts > 0 && s.tries >= policy.MaxAttempts || policy.MaxElapsed > 0 && time.Since(s.since) >= policy.MaxElapsed) {
		for i := range len(again) {
			t, k := s.find(i)
			t.reject(k, "retries_exhausted", err, s.tries)
		}
		s.keep(nil)
		again = nil
	}
	if len(again) > 0 {
		s.wait(err)
	} else {
		s.end()
	}
	for _, g := range tasks {
		g.t.attend()
	}
	l.settle()
}

// keep takes out all records but those of the given indexes, which are in order.
func (s *shipment) keep(again []int) {
	kept := s.segs[:0]
	first := 0
	for _, g := range s.segs {
		n := len(g.idx)
		if g.idx == nil {
			n = len(g.t.out.Records)
		}
		var idx []int32
		if g.idx == nil {
			idx = g.t.bySlot[:0] // unused with order none
		} else {
			idx = g.idx[:0]
		}
		for len(again) > 0 && again[0] < first+n {
			k := int32(again[0] - first)
			if g.idx != nil {
				k = g.idx[k]
			}
			idx = append(idx, k)
			again = again[1:]
		}
		first += n
		if len(idx) == 0 {
			g.t.open--
			continue
		}
		kept = append(kept, segment{g.t, idx})
	}
	clear(s.segs[len(kept):])
	s.segs = kept
}

// wait puts a shipment that failed aside until its time.
func (s *shipment) wait(err error) {
	p := s.p
	l := p.lane
	if s.backoff == nil {
		s.backoff = newBackoff(l.w.plan.Load().retry)
	}
	s.err = err
	s.due = time.Now().Add(s.backoff.NextBackOff())
	heap.Push(&p.failing, s)
	p.arm()
	l.w.note(err)
	p.show()
}

// end frees the slot of a shipment whose records all have their outcome.
func (s *shipment) end() {
	p := s.p
	l := p.lane
	if k := s.slot; k != nil {
		k.busy = false
		if len(k.queue) > 0 {
			p.runnable = append(p.runnable, k)
		}
	}
	if s.err != nil && l.wait == Retrying { // it may be the one that is shown
		l.err, l.attempt, l.wait = nil, 0, ""
		p.show()
	}
	clear(s.segs)
	*s = shipment{p: p, segs: s.segs[:0], doneFn: s.doneFn}
	p.spare = append(p.spare, s)
}
