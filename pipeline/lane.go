package pipeline

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"keystone/configs"
	"keystone/pipeline/mutation"
	"keystone/pipeline/record"
)

// tasksPerLane bounds the batches of one lane in flight, beside their bytes.
const tasksPerLane = 1024

// lane is one incarnation of a source partition: what is read, from the
// oldest unfinished batch to the newest, and the counters. All of it is
// guarded by Worker.mu.
//
// Tasks have consecutive numbers. Those from base to writeSeq were given to the
// sink, those up to evalSeq are evaluated or being evaluated, those up to endSeq wait for that.
type lane struct {
	w                         *Worker
	part                      int32
	serial                    int64
	ctx                       context.Context // ends when the lane does, or with the worker's abort
	cancel                    context.CancelFunc
	ring                      []*task // of a power of two; number n is at n & (len-1)
	base                      uint64
	writeSeq, evalSeq, endSeq uint64

	par       *parallel // how it is written when the order of the partition is not kept; nil: in order
	runners   int       // goroutines at work for the lane
	calling   int       // those of them that are inside the sink or the dead letters; of a parallel lane
	writer    bool      // one of them writes, or decides what is written next
	writing   int       // writes without done
	cleared   bool      // Ordered.Go was called
	attention int       // tasks that were written and have records to be written again, or letters
	bytes     int64
	records   int64
	wait      Activity // what the writer waits for, if it does
	attempt   int      // of what is being retried
	backoff   *backoff.ExponentialBackOff
	err       error     // of the last attempt
	failing   time.Time // since when

	revoking bool // nothing more is written; only the revocation commits
	halted   bool // stopped before a record; keeps its finished prefix
	over     bool // ended: nothing of it counts any more

	want   bool // that the source pauses it
	paused bool // it was told to; guarded by flowMu

	follows   bool            // it had a predecessor
	last      *lane           // an earlier incarnation that may still be writing
	before    record.Position // how far the source had read for earlier incarnations; zero if there were none
	refused   record.Position // after the last batch that came when the lane took none any more
	start     record.Position // where reading began
	next      record.Position // after the last record read
	finished  record.Position // the longest prefix with outcomes ends here
	claimed   record.Position // at most once: committed before it is written
	committed record.Position
	counts    Counts
	lost      int64          // records removed before they were read
	link      *link          // of the partition's chain; nil: the sink has none
	pending   Counts         // exactly once: outcomes in the open transaction; of a chain: since the last cut
	touched   bool           // exactly once: something of the lane is in the open transaction
	revision  int64          // of the last batch read
	from      int64          // first offset read with it
	ran       *plan          // of the last batch read
	starts    []ProgramStart // not stored yet
}

func (w *Worker) newLane(start record.Position) *lane {
	w.serial++
	l := &lane{w: w, part: start.Partition, serial: w.serial, start: start, next: start, finished: start, claimed: start, committed: start}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	if w.chain != nil {
		l.link = &link{cut: start, durable: start}
	}
	if w.order != configs.OrderPartition {
		l.par = newParallel(l)
	}
	if w.aborted {
		l.cancel()
	}
	return l
}

// dead tells that nothing of the lane is to be started any more.
func (l *lane) dead() bool { return l.over || l.halted || l.revoking || l.w.aborted }

// flying tells that something of the lane will still get an outcome.
func (l *lane) flying() bool { return l.base < l.endSeq && !l.halted && !l.over }

func (l *lane) at(n uint64) *task { return l.ring[n&uint64(len(l.ring)-1)] }

// push appends a task that was read.
func (l *lane) push(t *task) {
	if int(l.endSeq-l.base) == len(l.ring) {
		bigger := make([]*task, max(8, 2*len(l.ring)))
		for n := l.base; n < l.endSeq; n++ {
			bigger[n&uint64(len(bigger)-1)] = l.at(n)
		}
		l.ring = bigger
	}
	l.ring[l.endSeq&uint64(len(l.ring)-1)] = t
	l.endSeq++
	l.next = t.next
	l.counts.Read += int64(t.read)
	l.counts.ReadBytes += int64(t.in.Bytes)
	l.bytes += t.bytes
	l.records += int64(t.read)
	l.w.inFlight += t.bytes
	if t.read > 0 && l.ran != t.plan {
		l.began(t)
		l.ran, l.revision, l.from = t.plan, t.plan.revision, t.in.Records[0].Offset
	}
}

// unevaluated is how many tasks wait for evaluation.
func (l *lane) unevaluated() int { return int(l.endSeq - l.evalSeq) }

// toWrite gives the next task in order, if it is evaluated.
func (l *lane) toWrite() *task {
	if l.writeSeq == l.evalSeq {
		return nil
	}
	if t := l.at(l.writeSeq); t.ready {
		return t
	}
	return nil
}

// mayWrite tells whether the writer has something to do now.
func (l *lane) mayWrite() bool {
	if l.par != nil {
		return !l.dead() && l.par.mayWrite()
	}
	if l.writer || l.dead() {
		return false
	}
	if l.attention > 0 {
		return l.writing == 0 || l.hasLetters()
	}
	return l.writing < l.w.window && l.toWrite() != nil
}

// kick starts a runner where there is work for one more.
func (l *lane) kick() {
	if l.dead() {
		return
	}
	free := l.runners - l.calling
	parallelism := l.w.plan.Load().parallelism
	idle := free == 0 && l.unevaluated() > 0
	behind := free > 0 && free < parallelism && l.unevaluated() > 1
	// One that is not inside the sink looks for itself what there is to write.
	if idle || behind || (l.par == nil || free <= parallelism) && l.mayWrite() {
		l.runners++
		l.w.runners++
		go l.run()
	}
}

// run evaluates and writes until there is nothing to do for this goroutine.
func (l *lane) run() {
	w := l.w
	var last *plan
	var ev evaluator
	w.mu.Lock()
	for !l.dead() {
		if l.par != nil && l.mayWrite() {
			l.par.write()
			continue
		}
		if l.mayWrite() {
			l.writer = true
			l.write()
			l.writer = false
			continue
		}
		if l.unevaluated() == 0 || l.runners-l.calling > w.plan.Load().parallelism {
			break // the second: one that only came to write
		}
		t := l.at(l.evalSeq)
		l.evalSeq++
		t.evaluating = true
		w.unlock()
		if t.plan != last {
			if ev != nil {
				last.giveBack(ev)
			}
			last, ev = t.plan, t.plan.eval()
		}
		err := t.evaluateGuarded(ev)
		if w.order == configs.OrderKey && err == nil {
			t.group()
		}
		w.mu.Lock()
		t.evaluating = false
		switch {
		case t.abandoned:
			t.leave()
		case err != nil:
			w.abortLocked(fmt.Errorf("lane %d: %w", l.part, err))
			ev = nil // it may be broken
			last = nil
		default:
			t.ready = true
		}
		w.changed.Broadcast()
	}
	l.runners--
	w.runners--
	w.changed.Broadcast()
	w.unlock()
	if ev != nil {
		last.giveBack(ev)
	}
}

// settle takes finished tasks off the front and moves the prefix. It runs
// whenever something of the lane got an outcome.
func (l *lane) settle() {
	if l.over || l.halted {
		return
	}
	for l.base < l.writeSeq {
		t := l.at(l.base)
		if !t.finished() {
			break
		}
		if t.refused {
			if l.link != nil {
				l.link.spoiled = true // the sink may have taken what follows in the batch
			}
			l.halt(t, l.prefix())
			return
		}
		l.pop(t)
		if err := t.account(l.ledger()); err != nil {
			l.w.abortLocked(err)
		}
		if l.link != nil {
			l.link.rows += len(t.out.Records) - t.refusals
		}
		l.finished = t.next
		if halt := t.halt; halt != nil {
			l.halt(t, t.next)
			t.leave()
			return
		}
		t.leave()
	}
	l.w.markDirty()
	l.balance()
}

// pop takes the front task out of the flight.
func (l *lane) pop(t *task) {
	l.ring[l.base&uint64(len(l.ring)-1)] = nil
	l.base++
	t.popped = true
	l.bytes -= t.bytes
	l.records -= int64(t.read)
	l.w.inFlight -= t.bytes
}

// prefix gives where the longest prefix with outcomes ends, within the oldest
// task where only a part of it is unsettled.
func (l *lane) prefix() record.Position {
	if mutation.On(mutation.CommitUnwritten) && !l.over && !l.halted {
		return l.next
	}
	if mutation.On(mutation.CommitPastGap) && !l.over && !l.halted {
		for n := l.writeSeq; n > l.base; n-- {
			if t := l.at(n - 1); t.finished() {
				return t.next
			}
		}
	}
	if l.base == l.writeSeq || l.over || l.halted {
		return l.finished
	}
	t := l.at(l.base)
	if i := t.firstOpen(); i > 0 {
		return t.position(i)
	}
	return l.finished
}

// halt stops the lane for good at a position and the route with t's error.
func (l *lane) halt(t *task, at record.Position) {
	l.finished = at
	l.abandon()
	l.halted = true
	err := t.halt
	l.w.note(err)
	l.w.stopLocked(err)
	l.w.markDirty()
}

// abandon gives up everything in flight: it gets no outcome here.
func (l *lane) abandon() {
	for l.base < l.endSeq {
		t := l.at(l.base)
		l.pop(t)
		l.counts.Abandoned += int64(t.read)
		t.abandoned = true
		t.leave()
	}
	l.writeSeq, l.evalSeq, l.attention = l.base, l.base, 0
	if l.par != nil {
		l.par.forget()
	}
}

// end is the end of this incarnation; its counters go to the route's.
func (l *lane) end() {
	if l.over {
		return
	}
	l.finished = l.prefix()
	l.abandon()
	l.leaveTransaction()
	l.leaveChain()
	l.over = true
	l.cancel()
	l.w.ended.add(&l.counts)
	l.w.changed.Broadcast()
}

// follow makes l the next incarnation of old, which has ended.
func (l *lane) follow(old *lane) {
	l.follows = true
	l.before = old.next
	if old.refused.Identity == old.next.Identity && old.refused.Offset > old.next.Offset {
		l.before = old.refused // the source was further than the lane
	}
	if old.before.Identity == l.before.Identity && old.before.Offset > l.before.Offset {
		l.before = old.before // old was assigned for a moment and has read nothing
	}
	if l.last = old; old.writing == 0 {
		l.last = old.last
	}
	old.last = nil
}

// fail notes why an attempt failed; nil ends the retrying.
func (l *lane) fail(err error) {
	l.err = err
	if err == nil {
		l.attempt, l.wait, l.backoff = 0, "", nil
		if l.par != nil {
			l.par.show()
		}
		return
	}
	if l.attempt == 0 {
		l.failing = time.Now()
	}
	l.attempt++
	l.w.note(err)
}

// HaltError says that a route stopped before a record, because on_error says so.
type HaltError struct {
	Topic     string
	Partition int32
	Offset    int64
	Code      string
	At        string // place of the expression, if it was one
	Err       error
}

// Error names the record.
func (e *HaltError) Error() string {
	at := ""
	if e.At != "" {
		at = e.At + ": "
	}
	text := strings.TrimSuffix(e.Err.Error(), ".")
	return fmt.Sprintf("%s%s (%s): the route stopped before offset %d of %s, partition %d, because on_error is \"stop\"", at, text, e.Code, e.Offset, e.Topic, e.Partition)
}

// Unwrap gives the cause.
func (e *HaltError) Unwrap() error { return e.Err }

// IsHalt tells whether err says that a route stopped before a record.
func IsHalt(err error) bool { var h *HaltError; return errors.As(err, &h) }
