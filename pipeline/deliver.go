package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"keystone/configs"
	"keystone/pipeline/record"
	"keystone/sinks"
)

// write gives the lane's tasks to the sink, in order, for as long as there is
// one to give. It holds the writer role, and mu, which it gives up for foreign calls.
func (l *lane) write() {
	for !l.dead() {
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
	empty := len(t.out.Records) == 0
	if !l.cleared {
		if l.clear(); l.dead() {
			return
		}
	}
	if l.w.atMostOnce && !l.claim(t, empty && len(t.letters) == 0) || !empty && !l.pass() {
		return
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
	w.unlock()
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
		t.classify(err)
		t.attend()
		l.settle()
	}
	w.changed.Broadcast()
	l.kick()
	w.unlock()
}

// classify gives the records of a failed write their fates, or has them written again.
func (t *task) classify(err error) {
	l := t.lane
	n := len(t.out.Records)
	if t.sent != nil {
		n = len(t.sent)
	}
	t.tries++
	t.retry = t.retry[:0]
	var partial *sinks.PartialError
	switch {
	case sinks.IsPermanent(err):
		t.retryAll(n)
		l.w.note(err)
		l.w.abortLocked(fmt.Errorf("sink %s: %w", l.w.spec.Route.To.Addr, err))
	case errors.As(err, &partial):
		l.fail(nil) // it answers; what has to be retried says so again
		for _, f := range partial.Failures {
			if f.Index < 0 || f.Index >= n {
				l.w.abortLocked(fmt.Errorf("sink %s named record %d of a batch of %d: %w", l.w.spec.Route.To.Addr, f.Index, n, err))
				t.retryAll(n)
				return
			}
			i := t.index(f.Index)
			switch {
			case f.Outcome == sinks.Applied:
				// it is there, which is all that was asked for
			case f.Outcome == sinks.Rejected:
				t.reject(i, or2(f.Code, "rejected"), f.Err)
			case f.Outcome == sinks.Unknown && l.w.atMostOnce:
				t.setFate(t.out.Records[i].Source, Dropped, "unknown")
			default:
				t.retry = append(t.retry, i)
			}
		}
		slices.Sort(t.retry)
		t.retry = slices.Compact(t.retry)
	case l.w.atMostOnce: // may have been written
		for i := range n {
			t.setFate(t.out.Records[t.index(i)].Source, Dropped, "unknown")
		}
		l.w.note(err)
	default:
		t.retryAll(n)
	}
	if len(t.retry) > 0 {
		l.wait = Retrying
		l.fail(err)
	}
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

func (t *task) retryAll(n int) {
	t.retry = t.retry[:0]
	for i := range n {
		t.retry = append(t.retry, t.index(i))
	}
}

// reject does what on_error says with output i, which the sink refuses for
// ever. There is nothing that could be passed on, so pass drops it.
func (t *task) reject(i int32, code string, cause error) {
	if cause == nil {
		cause = errors.New(code)
	}
	src := t.out.Records[i].Source
	switch t.plan.onError {
	case configs.DeadLetter:
		if t.setFate(src, DeadLettered, code) {
			t.letters = append(t.letters, letter{src: src, attempts: t.tries, code: strings.Clone(code), text: cause.Error()})
		}
	case configs.DropRecord, configs.PassRecord:
		t.setFate(src, Dropped, code)
	default:
		t.setFate(src, halted, code)
		if !t.refused || src < int32(t.end) {
			t.refused, t.end = true, int(src)
			t.halt = t.haltError(int(src), code, "", cause)
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

// withLetters gives the oldest written task that has letters.
func (l *lane) withLetters() *task {
	for n := l.base; n < l.writeSeq; n++ {
		if t := l.at(n); len(t.letters) > 0 {
			return t
		}
	}
	return nil
}

func (l *lane) hasLetters() bool { return l.withLetters() != nil }

// withRetry gives the oldest task that has records to be written again.
func (l *lane) withRetry() *task {
	for n := l.base; n < l.writeSeq; n++ {
		if t := l.at(n); len(t.retry) > 0 {
			return t
		}
	}
	panic(fmt.Sprintf("pipeline: %d tasks of partition %d want attention, none is found", l.attention, l.part))
}

// again writes the records of a task that were not written, after a back-off,
// and waits for the answer: nothing of the lane overtakes them.
func (l *lane) again(t *task) {
	t.held = true
	l.retry(t)
	t.held = false
	t.leave()
}

func (l *lane) retry(t *task) {
	w := l.w
	p := w.plan.Load().retry
	if l.backoff == nil {
		l.startBackoff()
	}
	if p.MaxAttempts > 0 && t.tries >= p.MaxAttempts || p.MaxElapsed > 0 && time.Since(l.failing) >= p.MaxElapsed {
		t.giveUp(l.err)
		l.fail(nil)
		t.attend()
		l.settle()
		return
	}
	if !l.sleep(l.backoff.NextBackOff()) {
		return
	}
	if l.clear(); !l.pass() {
		return
	}
	b := w.batch()
	b.Topic, b.Partition, b.Next = t.out.Topic, t.out.Partition, t.out.Next
	for _, i := range t.retry {
		r := t.out.Records[i]
		b.Records = append(b.Records, r)
		b.Bytes += len(r.Key) + len(r.Value)
	}
	t.sent = append(t.sent[:0], t.retry...)
	t.retry = t.retry[:0]
	t.attend()
	l.counts.Retried += int64(len(t.sent))
	l.call(t, b)
	for t.inWrite && !l.over && !w.aborted {
		w.changed.Wait()
	}
	if !t.inWrite {
		w.giveBack(b)
	}
}

// giveUp treats what was retried long enough as rejected.
func (t *task) giveUp(err error) {
	retry := t.retry
	t.retry = nil
	for _, i := range retry {
		t.reject(i, "retries_exhausted", err)
	}
}

func (l *lane) startBackoff() {
	p := l.w.plan.Load().retry
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval, b.Multiplier = p.Initial, p.Max, 2
	b.Reset()
	l.backoff = b
}

// sleep waits; false means that the lane ended.
func (l *lane) sleep(d time.Duration) bool {
	l.w.unlock()
	sleep(l.ctx, d)
	l.w.mu.Lock()
	return !l.dead()
}

// sleep waits for d or for the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// sendLetters writes the dead letters of a task, for as long as it takes.
func (l *lane) sendLetters(t *task) {
	w := l.w
	t.held = true
	letters := t.deadLetters()
	for {
		w.unlock()
		err := guard("dead letters", func() error { return w.spec.DeadLetters.Write(l.ctx, letters) })
		w.mu.Lock()
		if t.abandoned {
			break
		}
		n := len(letters) // the sink may have added some meanwhile
		rest := unacknowledged(t.letters[:n], letters, err)
		t.lettered += n - rest
		t.letters = slices.Delete(t.letters, rest, n)
		letters = letters[:rest]
		if rest == 0 {
			l.fail(nil)
			t.attend()
			l.settle()
			break
		}
		if isPanic(err) {
			w.abortLocked(err)
		}
		if l.dead() {
			break
		}
		l.wait = WaitingDeadLetters
		l.fail(fmt.Errorf("dead letters: %w", err))
		if l.backoff == nil {
			l.startBackoff()
		}
		if !l.sleep(l.backoff.NextBackOff()) {
			break
		}
	}
	t.held = false
	t.leave()
}

// unacknowledged moves the letters that were not taken to the front of both
// slices and counts them.
func unacknowledged(sent []letter, letters []DeadLetter, err error) int {
	var partial *sinks.PartialError
	switch {
	case err == nil:
		return 0
	case !errors.As(err, &partial):
		return len(sent)
	}
	n := 0
	for i := range sent {
		if slices.ContainsFunc(partial.Failures, func(f sinks.Failure) bool { return f.Index == i && f.Outcome != sinks.Applied }) {
			sent[n], letters[n] = sent[i], letters[i]
			n++
		}
	}
	return n
}

func (t *task) deadLetters() []DeadLetter {
	w := t.lane.w
	now := time.Now()
	out := make([]DeadLetter, len(t.letters))
	for i, x := range t.letters {
		out[i] = DeadLetter{
			Record: t.in.Records[x.src], Route: w.spec.Route.Addr, Topic: t.in.Topic, Partition: t.in.Partition,
			Identity: t.in.Next.Identity, Code: x.code, Error: x.text, At: x.at, Attempts: x.attempts,
			Time: now, Revision: t.plan.revision,
		}
	}
	return out
}

// claim commits the position after the task before it is written. What was
// claimed is not read again, whatever becomes of it: at most once.
func (l *lane) claim(t *task, later bool) bool {
	before := l.claimed
	l.claimed = t.next
	if later {
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
