package job

import (
	"encoding/binary"
	"errors"
	"slices"

	"keystone/configs"
	"keystone/pipeline/job/agg"
	"keystone/pipeline/state"
)

// windowValue is the aggregates of a key and window.
type windowValue struct {
	st      *agg.State
	rev     uint32 // how often its row was given
	waiting bool   // it changed since
	last    int64  // event time of the last row, where windows have no end
}

func (v *windowValue) append(dst []byte) []byte {
	n := uint64(v.rev) << 1
	if v.waiting {
		n |= 1
	}
	dst = binary.AppendUvarint(dst, n)
	dst = binary.AppendVarint(dst, v.last)
	return v.st.Append(dst)
}

func (v *windowValue) size() int { return 48 + v.st.Size() }

var errState = errors.New("the bytes are not what this Keystone writes")

func decodeWindow(plan *agg.Plan) func(b []byte) (*windowValue, error) {
	return func(b []byte) (*windowValue, error) {
		n, k := binary.Uvarint(b)
		if k <= 0 {
			return nil, errState
		}
		last, l := binary.Varint(b[k:])
		if l <= 0 {
			return nil, errState
		}
		v := &windowValue{st: plan.New(), rev: uint32(n >> 1), waiting: n&1 != 0, last: last} //nolint:gosec // as written
		return v, v.st.Decode(b[k+l:])
	}
}

// windows are tumbling, hopping and global windows, and the one without end of the operator aggregate.
type windows struct {
	t       *task
	w       *rowWriter
	table   *table[*windowValue]
	touched []*entry[*windowValue]
	m       int64
	next    int64 // when a window fires or is freed
	emitted int64 // to which time rows at intervals were given

	bounded               bool // windows have an end
	size, every, lateness int64
	interval, ttl         int64
	onUpdate              bool
}

func newWindows(t *task, plan *agg.Plan, w *rowWriter) *windows {
	o := t.n.op.Window
	b := &windows{t: t, w: w, m: beginOfTime, next: endOfTime, emitted: beginOfTime, size: o.Size.Milliseconds(), every: o.Every.Milliseconds(), lateness: o.Lateness.Milliseconds(), ttl: o.TTL.Milliseconds()}
	b.bounded = o.Kind == configs.WindowTumbling || o.Kind == configs.WindowHopping
	if o.Kind == configs.WindowTumbling {
		b.every = b.size
	}
	b.onUpdate = o.Emit == configs.EmitOnUpdate
	if o.Emit == configs.EmitInterval {
		b.interval = max(1, o.Interval.Milliseconds())
	}
	t.lag = b.lateness
	t.hold = !b.bounded && o.Emit == configs.EmitOnClose
	b.table = newTable(t, func() *windowValue { return &windowValue{st: plan.New()} }, decodeWindow(plan))
	return b
}

func (b *windows) end(start int64) int64 {
	if !b.bounded {
		return endOfTime
	}
	return after(start, b.size)
}

func (b *windows) open(m int64) error {
	b.m, b.emitted = m, m
	if err := b.table.open(); err != nil {
		return err
	}
	for _, p := range b.table.spaces {
		p.fired = b.end(p.start) <= m
		b.plan(p)
	}
	return nil
}

// plan has advance look at a window in time.
func (b *windows) plan(p *space[*windowValue]) {
	at := b.end(p.start)
	if p.fired {
		at = after(at, b.lateness)
	}
	b.next = min(b.next, at)
}

func (b *windows) add(p *packet, h *head) error {
	if !b.bounded {
		return b.into(b.table.at(0), p, h)
	}
	for start := h.space; start > h.time-b.size; start -= b.every {
		if start != h.space && after(start, b.size+b.lateness) <= h.mark {
			break // and so are those before it
		}
		s := b.table.at(start)
		if len(s.entries) == 0 {
			s.fired = s.fired || b.end(start) <= b.m
			b.plan(s)
		}
		if err := b.into(s, p, h); err != nil {
			return err
		}
	}
	return nil
}

func (b *windows) into(s *space[*windowValue], p *packet, h *head) error {
	e, _, err := b.table.get(s, h.group, p.key(h))
	if err != nil {
		return err
	}
	v := e.v
	if b.ttl > 0 {
		if v.last != 0 && h.mark > v.last+b.ttl {
			v.st.Reset()
		}
		b.table.wake(e, max(v.last, h.time)+b.ttl+1)
	}
	if !b.bounded {
		v.last = max(v.last, h.time)
	}
	if err := v.st.Add(p.load(h), agg.Order{Time: h.time, Tie: h.tie}); err != nil {
		return err
	}
	if b.onUpdate || b.interval > 0 || s.fired {
		v.waiting = true
		if !e.touched && (b.onUpdate || s.fired) {
			e.touched = true
			b.touched = append(b.touched, e)
		}
	}
	b.table.change(e)
	return nil
}

// flush gives the rows that changed and are given at once.
func (b *windows) flush() error {
	for i, e := range b.touched {
		b.touched[i] = nil
		e.touched = false
		if e.dead || !e.v.waiting {
			continue
		}
		if err := b.give(e); err != nil {
			return err
		}
	}
	b.touched = b.touched[:0]
	return nil
}

// give gives the row of a key and window as it is now.
func (b *windows) give(e *entry[*windowValue]) error {
	v := e.v
	start, end := e.space.start, b.end(e.space.start)
	at := end - 1
	if !b.bounded {
		at = v.last
	}
	key := []byte(e.key)
	row, ok, err := b.w.append(b.w.buf[:0], key, start, end, v.st)
	b.w.buf = row
	v.waiting = false
	if err != nil || !ok {
		return err
	}
	what := insert
	if v.rev > 0 {
		what = update
	}
	rev := v.rev
	v.rev++
	return b.w.emit(row, key, start, at, what, rev)
}

func (b *windows) advance(m int64) error {
	b.m = m
	if b.ttl > 0 {
		if err := b.table.dueBy(m, func(e *entry[*windowValue]) error {
			if at := e.v.last + b.ttl + 1; at > m {
				b.table.wake(e, at)
				return nil
			}
			if m != endOfTime {
				b.table.remove(e)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	if b.interval > 0 && m != endOfTime {
		if at := floorTo(m, b.interval); at > b.emitted {
			b.emitted = at
			if err := b.giveWaiting(); err != nil {
				return err
			}
		}
	}
	if m < b.next {
		return nil
	}
	var due []*space[*windowValue]
	for _, s := range b.table.spaces {
		if b.end(s.start) <= m {
			due = append(due, s)
		}
	}
	slices.SortFunc(due, func(x, y *space[*windowValue]) int {
		if x.start < y.start {
			return -1
		}
		return 1
	})
	for _, s := range due {
		if err := b.close(s, m); err != nil {
			return err
		}
	}
	b.next = endOfTime
	for _, s := range b.table.spaces {
		b.plan(s)
	}
	return nil
}

// close gives the rows of a window that has ended, and frees it when nothing can come any more.
func (b *windows) close(s *space[*windowValue], m int64) error {
	if !s.fired {
		s.fired = true
		err := b.table.each(s, func(e *entry[*windowValue]) error {
			if (b.onUpdate || b.interval > 0) && !e.v.waiting {
				return nil
			}
			if err := b.give(e); err != nil {
				return err
			}
			if b.lateness > 0 || !b.bounded {
				return b.keep(s, e)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if !b.bounded {
		return nil // it may be gone on with
	}
	if after(b.end(s.start), b.lateness) <= m {
		b.table.drop(s)
	}
	return nil
}

// keep notes that the row of an entry was given, also of one that is in the store alone.
func (b *windows) keep(s *space[*windowValue], e *entry[*windowValue]) error {
	if s.entries[e.key] == nil {
		s.entries[e.key] = e
		e.bytes = entryBytes + len(e.key) + e.v.size()
		e.kept, e.seq = e.due, -1
		b.t.mem.used += int64(e.bytes)
	}
	b.table.change(e)
	return nil
}

// giveWaiting gives all rows that changed since they were given.
func (b *windows) giveWaiting() error {
	for _, s := range b.table.spaces {
		err := b.table.each(s, func(e *entry[*windowValue]) error {
			if !e.v.waiting {
				return nil
			}
			if err := b.give(e); err != nil {
				return err
			}
			return b.keep(s, e)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *windows) snapshot(batch *state.Batch) { b.table.snapshot(batch) }
