package pipeline

import (
	"context"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"

	"keystone/configs"
)

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
	t.kept = true
	l.retry(t)
	t.kept = false
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
	b.Of(t.out)
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
		t.reject(i, "retries_exhausted", err, t.tries)
	}
}

func (l *lane) startBackoff() {
	l.backoff = newBackoff(l.w.plan.Load().retry)
}

func newBackoff(p configs.Retry) *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval, b.Multiplier = p.Initial, p.Max, 2
	b.Reset()
	return b
}

// sleep waits; false means that the lane ended. Another retry policy ends it at once.
func (l *lane) sleep(d time.Duration) bool {
	l.w.unlock()
	anew := l.w.rest(l.ctx, d)
	l.w.mu.Lock()
	if anew {
		l.backoff = nil
	}
	return !l.dead()
}

// rest waits for d before something that failed is tried again, or until ctx ends. True means that the
// retry policy was changed meanwhile: it is to be tried now, and then by the new policy.
func (w *Worker) rest(ctx context.Context, d time.Duration) (anew bool) {
	p := w.plan.Load()
	due := time.Now().Add(d)
	for now := p; ; now = w.plan.Load() {
		if now.retry != p.retry {
			return true
		}
		if !now.wait(ctx, time.Until(due)) {
			return false
		}
	}
}

// interval waits for commit_interval, which may be changed meanwhile.
func (w *Worker) interval(ctx context.Context) {
	begin := time.Now()
	for p := w.plan.Load(); p.wait(ctx, time.Until(begin.Add(p.commitInterval))); p = w.plan.Load() {
	}
}

// wait waits for d, or until ctx ends; true means that another plan was swapped in before.
func (p *plan) wait(ctx context.Context, d time.Duration) (replaced bool) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-p.replaced:
		return true
	}
	return false
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
