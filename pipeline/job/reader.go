package job

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"keystone/pipeline/record"
	"keystone/sources"
)

// reader brings the records of one source to the tasks of its node.
type reader struct {
	j      *Job
	n      *node
	src    sources.Source
	opened atomic.Bool
	over   atomic.Bool  // read to its end
	idled  atomic.Int64 // how often a partition was found idle
	lost   atomic.Int64 // offsets that were gone before they were read
	free   chan *record.Batch

	mu    sync.Mutex // guards views
	views map[int32]*view
}

func newReader(j *Job, n *node, src sources.Source) *reader {
	return &reader{j: j, n: n, src: src, free: make(chan *record.Batch, 16), views: map[int32]*view{}}
}

// The waits between tries of a read that failed.
const (
	firstWait = 50 * time.Millisecond
	lastWait  = 10 * time.Second
)

func (r *reader) run() error {
	var from []record.Position
	for _, p := range r.j.meta.Reads[r.n.name()] {
		from = append(from, p.Position)
	}
	if err := r.try(func() error { return r.src.Open(r.j.ctx, from, r) }); err != nil {
		return r.asEnd(fmt.Errorf("open: %w", err))
	}
	r.opened.Store(true)
	if !r.n.table {
		select {
		case <-r.j.ready:
		case <-r.j.ctx.Done():
			return nil
		}
	}
	return r.readAll()
}

func (r *reader) readAll() error {
	l := newLoading(r)
	for {
		if l.over() && !r.say(r.j.loaded) {
			return nil
		}
		b := r.batch()
		err := r.try(func() error {
			b.Reset()
			return r.src.Read(r.j.ctx, b)
		})
		if err == io.EOF { //nolint:errorlint // the contract says io.EOF itself
			if l.end() && !r.say(r.j.loaded) {
				return nil
			}
			return r.end()
		}
		if err != nil {
			return r.asEnd(fmt.Errorf("read: %w", err))
		}
		if len(b.Records) == 0 && b.Next == (record.Position{}) {
			r.giveBack(b)
			if !l.known && l.end() && !r.say(r.j.loaded) {
				return nil
			}
			continue
		}
		l.read(b)
		if !r.deliver(int(b.Partition), word{batch: b}, b.Bytes+len(b.Records)*64) {
			return nil
		}
	}
}

// say tells the coordinator; false where the run is over.
func (r *reader) say(to chan *reader) bool {
	select {
	case to <- r:
		return true
	case <-r.j.ctx.Done():
		return false
	}
}

// loading is how much of a table is still to be read that was there when the job began.
type loading struct {
	done  bool
	known bool
	ends  map[int32]int64 // of partitions that are not there yet
}

func newLoading(r *reader) *loading {
	l := &loading{done: !r.n.table}
	ends := r.ends()
	l.known, l.ends = ends != nil, map[int32]int64{}
	r.mu.Lock()
	defer r.mu.Unlock()
	for p, end := range ends {
		v := r.views[p]
		if v == nil || v.next.Load() < end || end < 0 {
			l.ends[p] = end
		}
	}
	return l
}

// read takes a batch into account. A source that does not know its ends is there when it has nothing more to give.
func (l *loading) read(b *record.Batch) {
	if end, ok := l.ends[b.Partition]; ok && b.Next.Offset >= end {
		delete(l.ends, b.Partition)
	}
}

// over tells once that the table is there.
func (l *loading) over() bool { return l.known && len(l.ends) == 0 && l.end() }

func (l *loading) end() bool {
	first := !l.done
	l.done = true
	return first
}

// try calls f until it works, is fatal, or the run is over.
func (r *reader) try(f func() error) error {
	wait := firstWait
	for {
		err := f()
		if err == nil || err == io.EOF || sources.IsFatal(err) || r.j.ctx.Err() != nil { //nolint:errorlint // the contract says io.EOF itself
			return err
		}
		r.j.log.Warn("a source is tried again", "operator", r.n.name(), "in", wait, "error", err)
		t := time.NewTimer(wait)
		select {
		case <-r.j.ctx.Done():
			t.Stop()
			return err
		case <-t.C:
		}
		wait = min(2*wait, lastWait)
	}
}

// asEnd gives nil where the run is over.
func (r *reader) asEnd(err error) error {
	select {
	case <-r.j.ctx.Done():
		return nil
	default:
		return err
	}
}

// deliver gives a word to a task, when no epoch drains.
func (r *reader) deliver(to int, w word, size int) bool {
	r.j.gate.RLock()
	defer r.j.gate.RUnlock()
	if r.j.ctx.Err() != nil {
		return false
	}
	return r.n.tasks[to%r.j.tasks].front.in.put(w, size)
}

// end says that the source has no more.
func (r *reader) end() error {
	for i := range r.j.tasks {
		if !r.deliver(i, word{ended: true}, 0) {
			return nil
		}
	}
	r.over.Store(true)
	r.say(r.j.ended)
	return nil
}

// batch gives an empty batch.
func (r *reader) batch() *record.Batch {
	select {
	case b := <-r.free:
		b.Reset()
		return b
	default:
		return &record.Batch{}
	}
}

// giveBack takes a batch whose records nobody needs any more.
func (r *reader) giveBack(b *record.Batch) {
	if b.Lent() {
		b.Release() // it may be the source's from here on
		return
	}
	select {
	case r.free <- b:
	default:
	}
}

// newPart makes what is known of a partition, with what the last epoch knew of it.
func (r *reader) newPart(pos record.Position) *part {
	p := &part{next: pos, mark: beginOfTime, view: &view{}}
	for _, m := range r.j.meta.Reads[r.n.name()] {
		if m.Partition == pos.Partition {
			p.mark = m.Mark
			p.view.idle.Store(m.Idle)
		}
	}
	p.view.mark.Store(p.mark)
	p.view.next.Store(pos.Offset)
	r.mu.Lock()
	r.views[pos.Partition] = p.view
	r.mu.Unlock()
	return p
}

// Assigned implements sources.Listener.
func (r *reader) Assigned(parts []record.Position) {
	by := make([][]*part, r.j.tasks)
	for _, pos := range parts {
		i := int(pos.Partition) % r.j.tasks
		by[i] = append(by[i], r.newPart(pos))
	}
	for i, list := range by {
		if list != nil {
			r.n.tasks[i].front.in.force(word{parts: list})
		}
	}
}

// Revoked implements sources.Listener. A job assigns its partitions itself: nobody takes them.
func (r *reader) Revoked(_ context.Context, parts []int32) { r.Lost(parts) }

// Lost implements sources.Listener.
func (r *reader) Lost(parts []int32) {
	if r.j.ctx.Err() == nil {
		r.j.cancel(fmt.Errorf("%s: partitions %v were taken away: another reader has the job's place", r.n.name(), parts))
	}
}

// DataLoss implements sources.Listener.
func (r *reader) DataLoss(part int32, from, to int64) {
	r.lost.Add(max(0, to-from))
	r.j.log.Error("records were removed before they were read", "operator", r.n.name(), "partition", part, "from", from, "to", to)
}

// ends gives the ends of the log where the source knows them.
func (r *reader) ends() map[int32]int64 {
	if l, ok := r.src.(sources.Lagger); ok && r.opened.Load() {
		return l.Ends()
	}
	return nil
}

// active is told that a partition that was idle is not any more.
func (r *reader) active(part int32) {
	r.j.log.Debug("a partition that was idle goes on", "operator", r.n.name(), "partition", part)
}

func (r *reader) close() error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.j.ctx), closeWait)
	defer cancel()
	if err := r.src.Close(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("close %s: %w", r.n.name(), err)
	}
	return nil
}

// closeWait is how long a source may take to close.
const closeWait = 30 * time.Second
