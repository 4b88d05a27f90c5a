package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"keystone/pipeline/mutation"
	"keystone/pipeline/record"
	"keystone/sinks"
)

// chain is what a worker needs for a sinks.Chained. Worker.mu guards it, but for sink.
//
// A lane begins where its partition's chain ends, not where the source stands: what lies between was
// written by an earlier incarnation and is skipped. What the lane writes is
// accepted by the sink, and becomes durable with a cut: the lane writes nothing new, what it wrote gets its answer, the
// sink hears the position, and the lane goes on. Only when the sink says that the
// cut is durable do its outcomes count, and its position goes to the source.
//
//   - A: batch 7 was accepted, its answer is on its way. B: Cut at the position before batch 7. The sink
//     would put batch 7 into that commit, and whoever begins at its position would write it again. So a cut waits.
//   - A: the partition is lost with a write under way. B: it comes back. The sink must not take that write for
//     one of the new lane. So the new lane begins when the write has its answer and was forgotten.
//   - A: a cut of ours is on its way when the partition is revoked. B: another worker begins the chain, and writes. A: the cut
//     lands. B's own next one does not follow any more, which the sink finds out (ErrFenced), and B begins anew behind ours.
type chain struct {
	sink      sinks.Chained
	calling   bool              // one of Cut, Durable and Forget is under way
	beginning int               // lanes that are about to begin
	asking    int               // calls of Begin under way
	left      map[int32][]*lane // lanes that ended, of which the sink still has something
	err       error             // why cuts are not durable, while they are tried again
	closing   context.Context   // ends when no lane may begin any more
	close     context.CancelFunc
}

// beginnings bounds how many lanes ask the sink at once where their chains end.
const beginnings = 16

// link is what a lane has of its partition's chain.
type link struct {
	beginning bool            // Begin is about to be called, or is
	begun     bool            // it was
	end       record.Position // where the chain ended then: all before it is there
	again     bool            // the last cut is made once more: the sink may have left it
	hold      bool            // nothing new is written until a cut
	spoiled   bool            // the sink has records behind the prefix that will not be followed up: no cut any more
	rows      int             // that the sink took since the last cut
	cut       record.Position // of the last cut
	cutAt     time.Time
	durable   record.Position // of the last one that is durable
	cuts      []piece         // that are not, oldest first
}

// piece is a commit on its way: where it ends, and the outcomes in it.
type piece struct {
	at     record.Position
	counts Counts
}

func newChain(s sinks.Chained) *chain {
	x := &chain{sink: s, left: map[int32][]*lane{}}
	x.closing, x.close = context.WithCancel(context.Background())
	return x
}

// unbegun tells that the lane takes nothing yet.
func (l *lane) unbegun() bool { return l.link != nil && !l.link.begun }

// beginChains has lanes that were just assigned begin. mu is held; it waits for nothing.
func (w *Worker) beginChains(parts []record.Position) {
	if w.chain == nil || w.stopping {
		return
	}
	for _, p := range parts {
		l := w.lanes[p.Partition]
		l.link.beginning = true
		w.chain.beginning++
		w.runners++
		l.balance()
		go l.begin()
	}
}

// mayBegin tells whether the lane is still to begin. Where the source ended by itself it is: what a
// predecessor left half done is completed also for a partition that has nothing new.
func (l *lane) mayBegin() bool { return !l.dead() && !(l.w.stopping && l.w.bounded) }

// begin asks where the chain of the lane's partition ends, for as long as it takes. It is a runner.
func (l *lane) begin() {
	w, x := l.w, l.w.chain
	w.mu.Lock()
	for l.mayBegin() && (len(x.left[l.part]) > 0 || x.asking >= beginnings) {
		if !x.forget(w, l.part) {
			w.changed.Wait()
		}
	}
	for l.mayBegin() {
		x.asking++
		w.unlock()
		var end record.Position
		err := guard("begin", func() (err error) {
			ctx, cancel := context.WithCancel(l.ctx)
			defer cancel()
			defer context.AfterFunc(x.closing, cancel)()
			end, err = x.sink.Begin(ctx, l.start)
			return err
		})
		w.mu.Lock()
		x.asking--
		if err == nil && l.joins(end) || !l.mayBegin() {
			break
		}
		if isPanic(err) || sinks.IsPermanent(err) {
			w.note(err)
			w.abortLocked(fmt.Errorf("sink %s: %w", w.spec.Route.To.Addr, err))
			break
		}
		l.wait = Retrying
		l.fail(fmt.Errorf("find the end of the chain of partition %d: %w", l.part, err))
		if l.backoff == nil {
			l.startBackoff()
		}
		l.restUntil(time.Now().Add(l.backoff.NextBackOff()), l.mayBegin)
	}
	l.link.beginning = false
	x.beginning--
	w.runners--
	w.markDirty()
	w.changed.Broadcast()
	w.unlock()
}

// joins begins the lane at the end of its chain. False: the worker was aborted, since that is not possible.
func (l *lane) joins(end record.Position) bool {
	if l.over {
		return true
	}
	if end.Partition != l.part || end.Offset < l.start.Offset {
		l.w.abortLocked(fmt.Errorf("sink %s: the chain of partition %d ends at %d, and reading begins at %d", l.w.spec.Route.To.Addr, l.part, end.Offset, l.start.Offset))
		return false
	}
	k := l.link
	if end.Offset == l.start.Offset {
		end = l.start
	} else if mutation.On(mutation.IgnoreChain) {
		end = l.start
	}
	k.begun, k.end, k.cut, k.durable, k.cutAt = true, end, end, end, time.Now()
	l.next, l.finished = end, end
	if l.err != nil {
		l.fail(nil)
	}
	l.balance()
	return true
}

// restUntil waits until due, another retry policy, or the end of what may tells. mu is held.
func (l *lane) restUntil(due time.Time, may func() bool) {
	w := l.w
	timer := time.AfterFunc(time.Until(due), func() {
		w.mu.Lock()
		w.changed.Broadcast()
		w.mu.Unlock()
	})
	defer timer.Stop()
	policy := w.plan.Load().retry
	for may() && time.Now().Before(due) {
		if w.plan.Load().retry != policy {
			l.backoff = nil
			return
		}
		w.changed.Wait()
	}
}

// skip takes off the records that are before the end of the chain: they had their outcome in an
// earlier incarnation. An error says that they are other ones.
//
// A: the chain ends at 500, in epoch 3. B: an unclean election cuts the log off at 450, and new
// records get the offsets from 450 on, in epoch 4. They are in nobody's chain. Skipping them would lose
// them without a word.
func (l *lane) skip(in *record.Batch) error {
	end := &l.link.end
	if in.Next.Identity != end.Identity || end.Offset <= l.start.Offset {
		return nil // also where positions count something else than offsets
	}
	if in.Next.Offset <= end.Offset && len(in.Records) > 0 && end.LeaderEpoch > 0 && in.Next.LeaderEpoch > end.LeaderEpoch {
		return l.w.cutOff(l.part, in.Records[0].Offset, end.Offset)
	}
	n := 0
	for n < len(in.Records) && in.Records[n].Offset < end.Offset {
		n++
	}
	if n > 0 {
		l.counts.Skipped += int64(n)
		for i := range in.Records[:n] {
			in.Bytes -= size(&in.Records[i])
		}
		kept := copy(in.Records, in.Records[n:])
		clear(in.Records[kept:])
		in.Records = in.Records[:kept]
	}
	return nil
}

// chained gives from where on the records before to, which are not in the log any more, are not in the
// partition's chain either.
func (w *Worker) chained(part int32, from, to int64) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if l := w.lanes[part]; l != nil && l.link != nil && l.link.begun && from < to {
		if from = max(from, min(to, l.link.end.Offset)); from == to {
			l.before = record.Position{} // see DataLoss
		}
	}
	return from
}

// cutOff is a log that was cut off behind a chain.
func (w *Worker) cutOff(part int32, at, end int64) error {
	return fmt.Errorf("the log of %s, partition %d, was cut off: it has other records from %d on, and %s has what was there before, up to %d; `keystone rewind` begins a chain of its own and writes all of it again",
		w.spec.Route.From.Addr, part, at, w.spec.Route.To.Addr, end)
}

// tapers waits while a cut of the lane is due; false: the lane ended.
func (l *lane) tapers() bool {
	for l.link != nil && l.link.hold && !l.dead() {
		l.w.changed.Wait()
	}
	return !l.dead()
}

// leaveChain is for a lane that ends: what is not known to be durable has no outcome here.
func (l *lane) leaveChain() {
	k := l.link
	if k == nil {
		return
	}
	l.giveUp(&l.pending)
	for i := range k.cuts {
		l.giveUp(&k.cuts[i].counts)
	}
	k.cuts, k.hold = nil, false
	if k.begun || k.beginning {
		x := l.w.chain
		x.left[l.part] = append(x.left[l.part], l)
		l.w.markDirty()
	}
}

// giveUp counts outcomes as none.
func (l *lane) giveUp(c *Counts) {
	l.counts.Abandoned += c.outcomes() + c.Abandoned
	*c = Counts{}
}

// unsettled is how many records wait for a cut to be durable.
func (l *lane) unsettled() int64 {
	n := l.pending.outcomes() + l.pending.Abandoned
	if l.link != nil {
		for i := range l.link.cuts {
			n += l.link.cuts[i].counts.outcomes() + l.link.cuts[i].counts.Abandoned
		}
	}
	return n
}

// forget has the sink give up what lanes of the partition left there, if none of them has a call under
// way. It tells whether it did; mu is held, and given up meanwhile.
func (x *chain) forget(w *Worker, part int32) bool {
	left := x.left[part]
	if len(left) == 0 || x.calling {
		return false
	}
	for _, l := range left {
		if l.writing > 0 || l.link.beginning {
			return false
		}
	}
	err := x.call(w, "forget", func() error {
		if !mutation.On(mutation.KeepOpen) {
			x.sink.Forget([]int32{part})
		}
		return nil
	})
	if x.left[part] = x.left[part][len(left):]; len(x.left[part]) == 0 {
		delete(x.left, part)
	}
	if err != nil {
		w.abortLocked(err)
	}
	return true
}

// sweep forgets what can be. mu is held, and given up meanwhile.
func (x *chain) sweep(w *Worker) {
	for again := true; again; {
		again = false
		for part := range x.left {
			if x.forget(w, part) {
				again = true
				break // the map may be another
			}
		}
	}
}

// call calls the sink, one call at a time. mu is held, and given up meanwhile.
func (x *chain) call(w *Worker, what string, f func() error) error {
	for x.calling {
		w.changed.Wait()
	}
	x.calling = true
	w.unlock()
	err := guard(what, f)
	w.mu.Lock()
	x.calling = false
	w.changed.Broadcast()
	return err
}

// chainEnds tells that the error of a chained sink ends the worker.
func chainEnds(err error) bool {
	return isPanic(err) || sinks.IsPermanent(err) || errors.Is(err, sinks.ErrFenced)
}

// sweep has the sink forget what lanes left there that have ended. mu is held, and given up meanwhile.
func (w *Worker) sweep() {
	if w.chain != nil {
		w.chain.sweep(w)
	}
}
