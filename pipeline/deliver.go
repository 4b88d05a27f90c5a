package pipeline

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"keystone/configs"
	"keystone/pipeline/mutation"
	"keystone/pipeline/record"
	"keystone/sinks"
)

// write gives the lane's tasks to the sink, in order, for as long as there is
// one to give. It holds the writer role, and mu, which it gives up for foreign calls.
func (l *lane) write() {
	for !l.dead() && l.sound() {
		if l.attention > 0 {
			if t := l.withLetters(); t != nil {
				l.sendLetters(t)
				continue
			}
			if l.writing > 0 {
				return // done goes on
			}
			l.again(l.withRetry())
			continue
		}
		t := l.toWrite()
		if t == nil || l.writing >= l.w.window {
			return
		}
		l.send(t)
	}
}

// send writes a task for the first time.
func (l *lane) send(t *task) {
	if !l.tapers() {
		return
	}
	empty := len(t.out.Records) == 0
	if !l.cleared {
		if l.clear(); l.dead() {
			return
		}
	}
	if (!empty || len(t.letters) > 0) && !l.told() {
		return
	}
	if l.w.atMostOnce && !l.claim(t, empty && len(t.letters) == 0) || !empty && !l.pass() {
		return
	}
	if l.w.tx != nil {
		if !l.join(t) {
			return
		}
		if l.poisoned(t) {
			l.writeSeq++
			l.sendRest(t)
			return
		}
	}
	l.writeSeq++
	t.attend()
	if empty {
		l.settle()
		return
	}
	l.call(t, t.out)
}

// clear tells a sink that keeps the order to go on, once the lane's earlier
// incarnation has its answers. Nothing of the lane is being written, and nothing else
// will be before this returns: the caller has the writer role.
func (l *lane) clear() {
	for l.last != nil && l.last.writing > 0 && !l.dead() {
		l.w.changed.Wait()
	}
	if l.dead() {
		return
	}
	l.last, l.cleared = nil, true
	if s := l.w.ordered; s != nil {
		l.w.unlock()
		s.Go(l.part)
		l.w.mu.Lock()
	}
}

// pass waits while a checkpoint is made.
func (l *lane) pass() bool {
	for l.w.barrier && !l.dead() {
		l.w.changed.Wait()
	}
	return !l.dead()
}

// call gives a batch of the task to the sink.
func (l *lane) call(t *task, b *record.Batch) {
	w := l.w
	t.inWrite = true
	l.writing++
	w.writing++
	if w.tx != nil {
		w.tx.wrote, l.touched = true, true
	}
	w.unlock()
	if tap := w.spec.Tap; tap != nil && tap.Watched() {
		tap.Show(b) // before the sink owns it
	}
	err := guard("write", func() error { w.sink.Write(l.ctx, b, t.doneFn); return nil })
	w.mu.Lock()
	if err != nil {
		w.abortLocked(fmt.Errorf("sink %s: %w", w.spec.Route.To.Addr, err))
	}
}

// done is what the sink calls, once per write.
func (t *task) done(err error) {
	l := t.lane
	w := l.w
	w.mu.Lock()
	t.inWrite = false
	l.writing--
	w.writing--
	switch {
	case t.abandoned:
		t.leave()
	case err == nil:
		if l.err != nil {
			l.fail(nil)
		}
		l.settle()
	default:
		n := len(t.out.Records)
		if t.sent != nil {
			n = len(t.sent)
		}
		t.tries++
		again := l.judge(err, n, t.tries, func(i int) (*task, int32) { return t, t.index(i) })
		t.retry = t.retry[:0]
		for _, i := range again {
			t.retry = append(t.retry, t.index(i))
		}
		if len(again) < n && l.err != nil {
			l.fail(nil) // it takes something; what has to be retried says so again
		}
		if len(t.retry) > 0 {
			l.wait = Retrying
			l.fail(err)
		}
		if w.tx != nil && (len(t.retry) > 0 || t.refused) {
			w.breakTransaction(err)
		}
		t.attend()
		l.settle()
	}
	w.changed.Broadcast()
	l.kick()
	w.unlock()
}

// judge gives the records of a failed write of n their outcomes, and the indexes of those
// that are to be written again, in order. find tells what record i of the write is: an
// output of a task. tries counts the writes, this one included.
func (l *lane) judge(err error, n, tries int, find func(i int) (*task, int32)) (again []int) {
	w := l.w
	all := func() []int {
		again = again[:0]
		for i := range n {
			again = append(again, i)
		}
		return again
	}
	var partial *sinks.PartialError
	switch {
	case sinks.IsPermanent(err), errors.Is(err, sinks.ErrFenced):
		w.note(err)
		w.abortLocked(fmt.Errorf("sink %s: %w", w.spec.Route.To.Addr, err))
		return all()
	case errors.As(err, &partial):
		for _, f := range partial.Failures {
			if f.Index < 0 || f.Index >= n {
				w.abortLocked(fmt.Errorf("sink %s named record %d of a batch of %d: %w", w.spec.Route.To.Addr, f.Index, n, err))
				return all()
			}
			t, i := find(f.Index)
			switch {
			case mutation.On(mutation.IgnorePartial) && f.Outcome == sinks.Retryable:
			case mutation.On(mutation.IgnoreUnknown) && f.Outcome == sinks.Unknown:
			case mutation.On(mutation.RetryUnknown) && f.Outcome == sinks.Unknown:
				again = append(again, f.Index)
			case f.Outcome == sinks.Applied:
				// it is there, which is all that was asked for
			case f.Outcome == sinks.Rejected:
				t.reject(i, or2(f.Code, "rejected"), f.Err, tries)
			case f.Outcome == sinks.Unknown && w.atMostOnce:
				t.unwritten(i)
				t.setFate(t.out.Records[i].Source, Dropped, "unknown")
			default:
				again = append(again, f.Index)
			}
		}
		slices.Sort(again)
		return slices.Compact(again)
	case w.atMostOnce && !mutation.On(mutation.RetryUnknown): // may have been written
		for i := range n {
			t, k := find(i)
			t.unwritten(k)
			t.setFate(t.out.Records[k].Source, Dropped, "unknown")
		}
		w.note(err)
		return nil
	}
	return all()
}

func or2(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// index maps an index of the last written batch to out.
func (t *task) index(i int) int32 {
	if t.sent == nil {
		return int32(i)
	}
	return t.sent[i]
}

// unwritten notes that output i is not known to be in the sink, and will not be written again.
func (t *task) unwritten(i int32) {
	r := &t.out.Records[i]
	t.refusals++
	t.outBytes -= int64(len(r.Key) + len(r.Value))
}

// reject does what on_error says with output i, which the sink refuses for
// ever. There is nothing that could be passed on, so pass drops it.
func (t *task) reject(i int32, code string, cause error, tries int) {
	if cause == nil {
		cause = errors.New(code)
	}
	t.unwritten(i)
	src := t.out.Records[i].Source
	if t.lane.w.tx != nil {
		t.remember(i, code, cause, tries)
	}
	switch t.plan.onError {
	case configs.DeadLetter:
		if t.setFate(src, DeadLettered, code) {
			t.letters = append(t.letters, letter{src: src, attempts: tries, code: strings.Clone(code), text: cause.Error()})
		}
	case configs.DropRecord, configs.PassRecord:
		t.setFate(src, Dropped, code)
	default:
		t.setFate(src, halted, code)
		if !t.refused || src < int32(t.end) {
			t.refused, t.end = true, int(src)
			t.halt = t.haltError(int(src), code, "", cause)
			if p := t.lane.par; p != nil {
				p.ended = true
			}
		}
	}
}

// attend keeps the lane's count of tasks that the writer has to come back to.
func (t *task) attend() {
	if need := len(t.retry) > 0 || len(t.letters) > 0; need != t.attention {
		t.attention = need
		if need {
			t.lane.attention++
		} else {
			t.lane.attention--
		}
	}
}

// claim commits the position after the task before it is written. What was
// claimed is not read again, whatever becomes of it: at most once.
func (l *lane) claim(t *task, later bool) bool {
	before := l.claimed
	l.claimed = t.next
	if later || mutation.On(mutation.ClaimLate) {
		return true // it has nothing that could be repeated; another commit takes it along
	}
	for !l.dead() && l.committed != l.claimed {
		l.w.unlock()
		err := l.w.commit(l.ctx, nil)
		l.w.mu.Lock()
		if err == nil {
			continue
		}
		if l.backoff == nil {
			l.startBackoff()
		}
		l.wait = Retrying
		l.fail(err)
		if !l.sleep(l.backoff.NextBackOff()) {
			break
		}
	}
	if l.committed != l.claimed {
		l.claimed = before
		return false
	}
	l.fail(nil)
	return !l.dead()
}
