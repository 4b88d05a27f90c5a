package job

import (
	"encoding/binary"
	"fmt"
	"slices"

	"keystone/configs"
	"keystone/dsl/eval"
	"keystone/pipeline/job/agg"
	"keystone/pipeline/record"
	"keystone/pipeline/state"
)

// joinRow is a row that waits for those of the other side.
type joinRow struct {
	at      agg.Order
	row     []byte
	matched bool
}

// sides are the rows of a key, left and right, by their order.
type sides struct {
	rows  [2][]joinRow
	bytes int
}

func (v *sides) append(dst []byte) []byte {
	for _, side := range v.rows {
		dst = binary.AppendUvarint(dst, uint64(len(side)))
		for i := range side {
			r := &side[i]
			dst = r.at.Append(dst)
			if r.matched {
				dst = append(dst, 1)
			} else {
				dst = append(dst, 0)
			}
			dst = appendBytes(dst, r.row)
		}
	}
	return dst
}

func (v *sides) size() int { return v.bytes }

const joinRowBytes = 64

func decodeSides(b []byte) (*sides, error) {
	v := &sides{}
	d := decoder{b: b}
	for s := range v.rows {
		for n := d.uint(); n > 0 && !d.bad; n-- {
			var r joinRow
			var ok bool
			if r.at, d.b, ok = agg.ReadOrder(d.b); !ok || len(d.b) == 0 {
				return nil, errState
			}
			r.matched = d.b[0] == 1
			d.b = d.b[1:]
			r.row = d.copy()
			v.bytes += len(r.row) + joinRowBytes
			v.rows[s] = append(v.rows[s], r)
		}
	}
	return v, d.end()
}

func (v *sides) add(side uint8, r joinRow) {
	list := v.rows[side]
	i, _ := slices.BinarySearchFunc(list, r, compareRows)
	v.rows[side] = slices.Insert(list, i, r)
	v.bytes += len(r.row) + joinRowBytes
}

func compareRows(a, b joinRow) int {
	if c := a.at.Compare(b.at); c != 0 {
		return c
	}
	return slices.Compare(a.row, b.row)
}

// joiner writes pairs.
type joiner struct {
	t       *task
	outer   [2]bool // rows of a side without one of the other are given
	project *eval.Eval
	in, out record.Batch
	buf, id []byte
	lag     int64
	r       row
	rec     record.Record
}

func newJoin(t *task) (body, error) {
	o := t.n.op.Join
	w := &joiner{t: t}
	w.outer[0] = o.Type == configs.JoinLeft || o.Type == configs.JoinFull
	w.outer[1] = o.Type == configs.JoinRight || o.Type == configs.JoinFull
	if o.Project != nil {
		p, err := eval.Compile(o.Project)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.n.name(), err)
		}
		w.project = p.NewEval()
	}
	if o.Window == configs.WindowTumbling || o.Window == configs.WindowHopping {
		return newWindowJoin(t, w), nil
	}
	return newIntervalJoin(t, w), nil
}

// give gives a pair; one of the two may be nil. start is that of the window.
func (w *joiner) give(key []byte, l, r *joinRow, start int64) error {
	w.buf = append(w.buf[:0], `{"left":`...)
	w.id = append(append(w.id[:0], w.t.n.op.Label...), 0)
	w.id = appendID(append(w.id, key...), uint64(start)) //nolint:gosec // bits
	at := int64(beginOfTime)
	for i, x := range [2]*joinRow{l, r} {
		if i == 1 {
			w.buf = append(w.buf, `,"right":`...)
		}
		if x == nil {
			w.buf, w.id = append(w.buf, "null"...), append(w.id, 0)
			continue
		}
		w.buf, w.id = append(w.buf, x.row...), x.at.Append(append(w.id, 1))
		at = max(at, x.at.Time)
	}
	w.buf = append(w.buf, '}')
	w.r = row{time: at, mark: before(at, w.lag+1), id: w.id}
	w.r.tie = hashTie(w.id)
	if w.project == nil {
		return w.t.emit(&w.r, w.buf)
	}
	w.rec = record.Record{Value: w.buf, Timestamp: at}
	w.in.Records = append(w.in.Records[:0], w.rec)
	w.out.Reset()
	if verdict, err := w.project.Run(&w.in, 0, &w.out); verdict == eval.Failed {
		w.r.rec = &w.rec
		return w.t.fail(w.t.n.op, &w.r, err)
	}
	for i := range w.out.Records {
		if err := w.t.emit(&w.r, w.out.Records[i].Value); err != nil {
			return err
		}
	}
	return nil
}

// intervalJoin joins rows whose times are within an interval of one another.
type intervalJoin struct {
	t             *task
	w             *joiner
	table         *table[*sides]
	m             int64
	before, after int64 // left - before <= right <= left + after
	lateness      int64
}

func newIntervalJoin(t *task, w *joiner) *intervalJoin {
	o := t.n.op.Join
	b := &intervalJoin{t: t, w: w, m: beginOfTime, before: o.Before.Milliseconds(), after: o.After.Milliseconds(), lateness: o.Lateness.Milliseconds()}
	t.lag = b.lateness + 1
	if w.outer[0] {
		t.lag = max(t.lag, b.lateness+1+b.after)
	}
	if w.outer[1] {
		t.lag = max(t.lag, b.lateness+1+b.before)
	}
	w.lag = t.lag
	b.table = newTable(t, func() *sides { return &sides{} }, decodeSides)
	return b
}

func (b *intervalJoin) open(m int64) error {
	b.m = m
	return b.table.open()
}

// reach gives how long after its own time a row of a side may meet another.
func (b *intervalJoin) reach(side int) int64 {
	if side == 0 {
		return b.after
	}
	return b.before
}

func (b *intervalJoin) add(p *packet, h *head) error {
	key := p.key(h)
	e, _, err := b.table.get(b.table.at(0), h.group, key)
	if err != nil {
		return err
	}
	r := joinRow{at: agg.Order{Time: h.time, Tie: h.tie}, row: append([]byte(nil), p.load(h)...)}
	if !hasNil(key) {
		if err := b.match(e.v, key, &r, int(h.side)); err != nil {
			return err
		}
	}
	e.v.add(h.side, r)
	b.table.change(e)
	b.table.resize(e)
	at := after(h.time, b.reach(int(h.side))+b.lateness+1)
	b.table.wake(e, min(e.due, at))
	return nil
}

// match gives the pairs of a row with those of the other side.
func (b *intervalJoin) match(v *sides, key []byte, r *joinRow, side int) error {
	lo, hi := r.at.Time-b.before, r.at.Time+b.after
	if side == 1 {
		lo, hi = r.at.Time-b.after, r.at.Time+b.before
	}
	others := v.rows[1-side]
	first, _ := slices.BinarySearchFunc(others, lo, func(x joinRow, t int64) int {
		if x.at.Time < t {
			return -1
		}
		return 1
	})
	for i := first; i < len(others) && others[i].at.Time <= hi; i++ {
		o := &others[i]
		o.matched, r.matched = true, true
		l, rt := r, o
		if side == 1 {
			l, rt = o, r
		}
		if err := b.w.give(key, l, rt, 0); err != nil {
			return err
		}
	}
	return nil
}

func (b *intervalJoin) advance(m int64) error {
	b.m = m
	return b.table.dueBy(m, func(e *entry[*sides]) error {
		next := int64(endOfTime)
		key := []byte(e.key)
		for side := range e.v.rows {
			list := e.v.rows[side]
			keep := list[:0]
			for i := range list {
				at := after(list[i].at.Time, b.reach(side)+b.lateness+1)
				if at > m {
					keep, next = append(keep, list[i]), min(next, at)
					continue
				}
				e.v.bytes -= len(list[i].row) + joinRowBytes
				if list[i].matched || !b.w.outer[side] {
					continue
				}
				pair := [2]*joinRow{}
				pair[side] = &list[i]
				if err := b.w.give(key, pair[0], pair[1], 0); err != nil {
					return err
				}
			}
			clear(list[len(keep):])
			e.v.rows[side] = keep
		}
		b.table.resize(e)
		if next == endOfTime {
			b.table.remove(e)
			return nil
		}
		b.table.wake(e, next)
		return nil
	})
}

func (b *intervalJoin) flush() error { return nil }

func (b *intervalJoin) snapshot(batch *state.Batch) { b.table.snapshot(batch) }

// windowJoin joins the rows of a window, when it can have no more.
type windowJoin struct {
	t        *task
	w        *joiner
	table    *table[*sides]
	size     int64
	every    int64
	lateness int64
	next     int64
}

func newWindowJoin(t *task, w *joiner) *windowJoin {
	o := t.n.op.Join
	b := &windowJoin{t: t, w: w, size: o.Size.Milliseconds(), every: o.Every.Milliseconds(), lateness: o.Lateness.Milliseconds(), next: endOfTime}
	if o.Window == configs.WindowTumbling {
		b.every = b.size
	}
	t.lag = b.lateness + b.size
	w.lag = t.lag
	b.table = newTable(t, func() *sides { return &sides{} }, decodeSides)
	return b
}

func (b *windowJoin) open(int64) error {
	if err := b.table.open(); err != nil {
		return err
	}
	for start := range b.table.spaces {
		b.next = min(b.next, after(start, b.size+b.lateness))
	}
	return nil
}

func (b *windowJoin) add(p *packet, h *head) error {
	for start := h.space; start > h.time-b.size; start -= b.every {
		if start != h.space && after(start, b.size+b.lateness) <= h.mark {
			break
		}
		e, _, err := b.table.get(b.table.at(start), h.group, p.key(h))
		if err != nil {
			return err
		}
		e.v.add(h.side, joinRow{at: agg.Order{Time: h.time, Tie: h.tie}, row: append([]byte(nil), p.load(h)...)})
		b.table.change(e)
		b.table.resize(e)
		b.next = min(b.next, after(start, b.size+b.lateness))
	}
	return nil
}

func (b *windowJoin) advance(m int64) error {
	if m < b.next {
		return nil
	}
	var due []int64
	for start := range b.table.spaces {
		if after(start, b.size+b.lateness) <= m {
			due = append(due, start)
		}
	}
	slices.Sort(due)
	for _, start := range due {
		s := b.table.spaces[start]
		if err := b.table.each(s, func(e *entry[*sides]) error { return b.pairs(e, start) }); err != nil {
			return err
		}
		b.table.drop(s)
	}
	b.next = endOfTime
	for start := range b.table.spaces {
		b.next = min(b.next, after(start, b.size+b.lateness))
	}
	return nil
}

// pairs gives the rows of a key and window.
func (b *windowJoin) pairs(e *entry[*sides], start int64) error {
	key := []byte(e.key)
	left, right := e.v.rows[0], e.v.rows[1]
	equal := !hasNil(key)
	if equal {
		for i := range left {
			for k := range right {
				if err := b.w.give(key, &left[i], &right[k], start); err != nil {
					return err
				}
			}
		}
	}
	if b.w.outer[0] && (!equal || len(right) == 0) {
		for i := range left {
			if err := b.w.give(key, &left[i], nil, start); err != nil {
				return err
			}
		}
	}
	if b.w.outer[1] && (!equal || len(left) == 0) {
		for k := range right {
			if err := b.w.give(key, nil, &right[k], start); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *windowJoin) flush() error { return nil }

func (b *windowJoin) snapshot(batch *state.Batch) { b.table.snapshot(batch) }
