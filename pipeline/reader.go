package pipeline

import (
	"context"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/cenkalti/backoff/v5"

	"keystone/pipeline/mutation"
	"keystone/pipeline/record"
	"keystone/sources"
)

// read reads until the source or the limit ends (then ended is true), or
// reading is stopped; an error is one that ends the route.
func (w *Worker) read(ctx context.Context) (ended bool, err error) {
	left := w.spec.Limit
	if left <= 0 {
		left = math.MaxInt64
	}
	var in *record.Batch
	var retry *backoff.ExponentialBackOff
	defer func() {
		if in != nil {
			w.giveBack(in)
		}
	}()
	for left > 0 && w.room() {
		if in == nil {
			in = w.batch()
		}
		p := w.plan.Load()
		in.Want = p.want
		if w.spec.Limit > 0 && (in.Want.Records == 0 || int64(in.Want.Records) > left) {
			in.Want.Records = int(min(left, math.MaxInt))
		}
		serial := w.lastSerial()
		err := guard("read", func() error { return w.spec.Source.Read(ctx, in) })
		switch {
		case err == nil:
		case err == io.EOF: //nolint:errorlint // within another error it is a connection that ended, and the source goes on
			return true, nil
		case isPanic(err) || sources.IsFatal(err):
			return false, fmt.Errorf("read %s: %w", w.spec.Route.From.Addr, err)
		case ctx.Err() != nil:
			return false, nil
		default:
			if retry == nil {
				retry = newBackoff(p.retry)
			}
			w.readFailed(err)
			in.Reset()
			if w.rest(ctx, retry.NextBackOff()) {
				retry = newBackoff(w.plan.Load().retry)
			}
			continue
		}
		if retry != nil {
			retry = nil
			w.readFailed(nil)
		}
		if int64(len(in.Records)) > left {
			cut(in, int(left))
		}
		left -= int64(len(in.Records))
		records, bytes := len(in.Records), in.Bytes
		if len(in.Records) == 0 && in.Next == (record.Position{}) {
			if cap(in.Records) > keepRecords {
				in.Records = nil // an idle route keeps no large memory
			}
			continue // its linger passed
		}
		w.heed()
		p = w.plan.Load()
		if p.portion(in.Records) < records {
			w.trickle(in, serial)
			in = nil
			continue
		}
		w.dispatch(in, p, serial, nil)
		in = nil
		if d := p.debt(records, bytes); d > 0 && left > 0 {
			w.throttle(d, p)
		}
	}
	return left == 0, nil
}

// heed keeps what was read until the worker is not paused.
//
// A: Read waits for records. B: Pause, and whoever paused the route sees that it is. C: a record is
// written. A: Read returns it. Nobody expects it at the sink before Resume.
func (w *Worker) heed() {
	w.mu.Lock()
	defer w.unlock()
	for w.held && !w.stopping {
		w.changed.Wait()
	}
}

// keepRecords is how many records' memory the reader keeps while nothing comes.
const keepRecords = 256

// cut ends a batch before record n.
func cut(b *record.Batch, n int) {
	b.Next.Offset = b.Records[n].Offset
	clear(b.Records[n:])
	b.Records = b.Records[:n]
	b.Bytes = 0
	for i := range b.Records {
		b.Bytes += len(b.Records[i].Key) + len(b.Records[i].Value)
	}
}

func (w *Worker) readFailed(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.readErr = err
	if err == nil {
		w.readTries = 0
		return
	}
	w.readTries++
	w.note(err)
}

func (w *Worker) lastSerial() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.serial
}

// room waits until at least one lane may take a batch; false: reading ends.
// While all are full nothing is paused: the source's own buffers fill up.
func (w *Worker) room() bool {
	w.mu.Lock()
	defer w.unlock()
	for !w.stopping && (w.held || w.full()) {
		w.waiting = !w.held
		w.changed.Wait()
	}
	w.waiting = false
	return !w.stopping
}

func (w *Worker) full() bool {
	ahead := w.plan.Load().parallelism + 1
	share := w.share()
	some := false
	for _, l := range w.lanes {
		if l.dead() {
			continue
		}
		if some = true; l.unbegun() {
			continue
		}
		if l.bytes < share && l.unevaluated() < ahead && l.endSeq-l.base < tasksPerLane {
			return false
		}
	}
	return some
}

// share is what a lane may have in flight: the route's bytes in equal parts.
func (w *Worker) share() int64 {
	return max(1, w.plan.Load().maxInFlight/int64(max(1, len(w.lanes))))
}

// dispatch hands a batch to its lane, and gives that, or nil if nobody takes it. serial
// is that of the newest lane when the read began. A lane that took what was read just before
// is the only one that takes this.
func (w *Worker) dispatch(in *record.Batch, p *plan, serial int64, only *lane) *lane {
	w.mu.Lock()
	l := w.lanes[in.Partition]
	// One slow lane must not stop the others, so it is paused below. A source that
	// does not heed that must not fill the memory either.
	for l != nil && !l.dead() && !w.stopping && (l.unbegun() || l.bytes >= 2*w.share() || l.endSeq-l.base >= tasksPerLane) {
		w.waiting = true
		w.changed.Wait()
	}
	w.waiting = false
	if mutation.On(mutation.SwapDrops) && l != nil && l.ran != nil && p != l.ran {
		l.ran, l.next = p, in.Next
		w.mu.Unlock()
		w.giveBack(in)
		return l
	}
	if l == nil || l.dead() || w.stopping || l.serial > serial && l.stale(in) || only != nil && only != l {
		// Nobody owns it any more: it is read again by whoever comes next.
		if l == nil {
			l = w.gone[in.Partition]
		}
		if l != nil {
			l.refused = in.Next
		}
		w.mu.Unlock()
		w.giveBack(in)
		return nil
	}
	if l.link != nil {
		if err := l.skip(in); err != nil {
			w.abortLocked(err)
			w.mu.Unlock()
			w.giveBack(in)
			return nil
		}
	}
	if l.repeats(in) {
		l.trim(in)
	}
	if len(in.Records) == 0 && (in.Next == l.next || l.repeats(in) || l.link != nil && in.Next.Offset <= l.next.Offset) {
		w.mu.Unlock()
		w.giveBack(in)
		return l
	}
	l.push(w.newTask(l, p, in))
	l.balance()
	l.kick()
	w.unlock()
	return l
}

// stale tells a batch that the lane's predecessor should have got.
//
// A: Read takes records [300, 400) of a partition. B: the partition is revoked and assigned again,
// at 100, which is what was committed. A: Read returns. Giving [300, 400) to the new lane would
// commit past [100, 300). The predecessor had read up to 300; what the new lane
// gets first begins before that, because there are records that the
// predecessor got. Of a batch without records only its end is known. Where it is behind
// 300 the batch may be the new lane's first all the same; then the next one moves the position.
func (l *lane) stale(in *record.Batch) bool {
	if l.before.Identity != in.Next.Identity || l.start.Offset >= l.before.Offset {
		return false
	}
	if len(in.Records) == 0 {
		return in.Next.Offset > l.before.Offset
	}
	return in.Records[0].Offset >= l.before.Offset
}

// repeats tells that the batch, or its first part, is behind what the lane has read.
//
// A: Read takes records [300, 400) of a partition. B: the partition is revoked with all before 300
// committed, and comes back at 300, or at 320 since another member had it. A: Read returns.
// For the new lane that may as well be its first batch, so it takes what is not behind
// its start. C: the source, which was told to begin there, reads the same again.
// A lane without a predecessor takes what comes, and so does one whose partition has
// another leader epoch: a log that was cut off has other records at the same offsets.
func (l *lane) repeats(in *record.Batch) bool {
	first := in.Next.Offset
	if len(in.Records) > 0 {
		first = in.Records[0].Offset
	}
	return l.follows && first < l.next.Offset && in.Next.Identity == l.next.Identity && in.Next.LeaderEpoch == l.next.LeaderEpoch
}

// trim takes off the records that the lane has read.
func (l *lane) trim(in *record.Batch) {
	n := 0
	for n < len(in.Records) && in.Records[n].Offset < l.next.Offset {
		in.Bytes -= size(&in.Records[n])
		n++
	}
	kept := copy(in.Records, in.Records[n:])
	clear(in.Records[kept:])
	in.Records = in.Records[:kept]
}

// balance decides whether the source should read the lane: not above its
// share, again below half of it.
func (l *lane) balance() {
	want := l.want
	share := l.w.share()
	switch {
	case l.unbegun():
		want = len(l.w.lanes) > 1
	case l.bytes >= share || l.endSeq-l.base >= tasksPerLane:
		want = len(l.w.lanes) > 1 // with one lane the reader itself waits
	case l.bytes <= share/2:
		want = false
	}
	if want != l.want {
		l.want = want
		l.w.flowDue = true
	}
}

// flow tells the source what is wanted. It compares with what the source was
// told last, under a lock of its own: two calls cannot leave the older word standing.
func (w *Worker) flow() {
	w.flowMu.Lock()
	defer w.flowMu.Unlock()
	var pause, resume []int32
	w.mu.Lock()
	for _, l := range w.lanes {
		if l.want != l.paused && !l.over {
			l.paused = l.want
			if l.want {
				pause = append(pause, l.part)
			} else {
				resume = append(resume, l.part)
			}
		}
	}
	w.mu.Unlock()
	if len(pause) > 0 {
		w.spec.Source.Pause(pause)
	}
	if len(resume) > 0 {
		w.spec.Source.Resume(resume)
	}
}

// throttle waits before reading again; another throttle or the end of reading cuts it short.
func (w *Worker) throttle(d time.Duration, p *plan) {
	due := time.Now().Add(d)
	timer := time.AfterFunc(d, func() {
		w.mu.Lock()
		w.changed.Broadcast()
		w.mu.Unlock()
	})
	defer timer.Stop()
	w.mu.Lock()
	defer w.unlock()
	w.throttled = true
	for !w.stopping && w.plan.Load().paces(p) && time.Now().Before(due) {
		w.changed.Wait()
	}
	w.throttled = false
}
