package job

import (
	"encoding/binary"
	"slices"

	"keystone/configs"
	"keystone/pipeline/job/agg"
	"keystone/pipeline/state"
)

// session is a stretch of rows of a key with no gap as long as the session gap.
type session struct {
	start, last int64 // event times of the first and the last row
	st          *agg.State
	rev         uint32 // how often its row was given, by this start
	waiting     bool   // the row that was given, if one was, is not what it is now
	given       []byte // the row that was given, which may have to be withdrawn
	withdraw    []given
}

// given is a row that was given and is not true any more.
type given struct {
	start, time int64
	rev         uint32
	row         []byte
}

// sessionsValue is the sessions of a key, by start.
type sessionsValue struct {
	plan *agg.Plan
	list []session
	buf  []byte
}

func appendBytes(dst, b []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}

func (v *sessionsValue) append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(v.list)))
	for i := range v.list {
		s := &v.list[i]
		dst = binary.AppendVarint(binary.AppendVarint(dst, s.start), s.last)
		n := uint64(s.rev) << 1
		if s.waiting {
			n |= 1
		}
		dst = binary.AppendUvarint(dst, n)
		dst = appendBytes(dst, s.given)
		dst = binary.AppendUvarint(dst, uint64(len(s.withdraw)))
		for _, w := range s.withdraw {
			dst = binary.AppendVarint(binary.AppendVarint(dst, w.start), w.time)
			dst = binary.AppendUvarint(dst, uint64(w.rev))
			dst = appendBytes(dst, w.row)
		}
		v.buf = s.st.Append(v.buf[:0])
		dst = appendBytes(dst, v.buf)
	}
	return dst
}

func (v *sessionsValue) size() int {
	n := 0
	for i := range v.list {
		n += 120 + v.list[i].st.Size() + len(v.list[i].given)
	}
	return n
}

func decodeSessions(plan *agg.Plan) func(b []byte) (*sessionsValue, error) {
	return func(b []byte) (*sessionsValue, error) {
		d := decoder{b: b}
		v := &sessionsValue{plan: plan}
		for n := d.uint(); n > 0 && !d.bad; n-- {
			s := session{start: d.int(), last: d.int(), st: plan.New()}
			k := d.uint()
			s.rev, s.waiting = uint32(k>>1), k&1 != 0 //nolint:gosec // as written
			s.given = d.copy()
			for w := d.uint(); w > 0 && !d.bad; w-- {
				s.withdraw = append(s.withdraw, given{start: d.int(), time: d.int(), rev: uint32(d.uint()), row: d.copy()}) //nolint:gosec // as written
			}
			if st := d.bytes(); !d.bad {
				if err := s.st.Decode(st); err != nil {
					return nil, err
				}
			}
			v.list = append(v.list, s)
		}
		return v, d.end()
	}
}

// sessions are session windows.
type sessions struct {
	t             *task
	w             *rowWriter
	plan          *agg.Plan
	table         *table[*sessionsValue]
	m             int64
	emitted       int64
	gap, lateness int64
	interval      int64
	onUpdate      bool
	revises       bool // rows may be given and change afterwards
	touched       []*entry[*sessionsValue]
}

func newSessions(t *task, plan *agg.Plan, w *rowWriter) *sessions {
	o := t.n.op.Window
	b := &sessions{t: t, w: w, plan: plan, m: beginOfTime, emitted: beginOfTime, gap: o.Gap.Milliseconds(), lateness: o.Lateness.Milliseconds(), onUpdate: o.Emit == configs.EmitOnUpdate}
	if o.Emit == configs.EmitInterval {
		b.interval = max(1, o.Interval.Milliseconds())
	}
	b.revises = b.lateness > 0 || b.onUpdate || b.interval > 0
	t.lag = b.lateness + 1
	b.table = newTable(t, func() *sessionsValue { return &sessionsValue{plan: plan} }, decodeSessions(plan))
	return b
}

func (b *sessions) open(m int64) error {
	b.m, b.emitted = m, m
	return b.table.open()
}

func (b *sessions) add(p *packet, h *head) error {
	e, _, err := b.table.get(b.table.at(0), h.group, p.key(h))
	if err != nil {
		return err
	}
	s := b.merged(e.v, h.time)
	if err := s.st.Add(p.load(h), agg.Order{Time: h.time, Tie: h.tie}); err != nil {
		return err
	}
	s.waiting = true
	b.table.change(e)
	b.schedule(e)
	if (b.onUpdate || s.last+b.gap < b.m) && !e.touched {
		e.touched = true
		b.touched = append(b.touched, e)
	}
	return nil
}

// merged gives the session that a row at t belongs to, after it has joined those that it connects.
func (b *sessions) merged(v *sessionsValue, t int64) *session {
	first := 0
	for first < len(v.list) && v.list[first].last+b.gap < t {
		first++
	}
	end := first
	for end < len(v.list) && v.list[end].start <= t+b.gap {
		end++
	}
	if first == end {
		v.list = slices.Insert(v.list, first, session{start: t, last: t, st: b.plan.New()})
		return &v.list[first]
	}
	s := &v.list[first]
	if t < s.start {
		b.withdraw(s, s) // its row goes by another start
		s.start = t
	}
	s.last = max(s.last, t)
	for i := first + 1; i < end; i++ {
		o := &v.list[i]
		s.st.Merge(o.st)
		s.last = max(s.last, o.last)
		s.withdraw = append(s.withdraw, o.withdraw...)
		b.withdraw(s, o)
	}
	v.list = slices.Delete(v.list, first+1, end)
	return &v.list[first]
}

// withdraw has the row that was given of o withdrawn when s's is given.
func (b *sessions) withdraw(s, o *session) {
	if o.rev > 0 {
		s.withdraw = append(s.withdraw, given{start: o.start, time: o.last + b.gap - 1, rev: o.rev, row: o.given})
	}
	if s == o {
		s.rev, s.given = 0, nil
	}
}

// schedule has the key looked at when its next session is over, or is freed.
func (b *sessions) schedule(e *entry[*sessionsValue]) {
	at := int64(endOfTime)
	for i := range e.v.list {
		s := &e.v.list[i]
		end := s.last + b.gap + 1
		if end <= b.m {
			end += b.lateness
		}
		at = min(at, end)
	}
	b.table.wake(e, at)
}

func (b *sessions) flush() error {
	for i, e := range b.touched {
		b.touched[i] = nil
		e.touched = false
		if e.dead {
			continue
		}
		for k := range e.v.list {
			s := &e.v.list[k]
			if s.waiting && (b.onUpdate || s.last+b.gap < b.m) {
				if err := b.give(e, s); err != nil {
					return err
				}
			}
		}
	}
	b.touched = b.touched[:0]
	return nil
}

// give gives the row of a session, after what it replaces was withdrawn.
func (b *sessions) give(e *entry[*sessionsValue], s *session) error {
	key := []byte(e.key)
	b.table.change(e)
	for _, w := range s.withdraw {
		if w.start == s.start { // a session that began here was moved, and another came: the new row replaces it
			s.rev = max(s.rev, w.rev)
			continue
		}
		if err := b.w.emit(w.row, key, w.start, w.time, remove, w.rev); err != nil {
			return err
		}
	}
	s.withdraw, s.waiting = nil, false
	end := s.last + b.gap
	row, ok, err := b.w.append(b.w.buf[:0], key, s.start, end, s.st)
	b.w.buf = row
	if err != nil || !ok {
		return err
	}
	what := insert
	if s.rev > 0 {
		what = update
	}
	rev := s.rev
	s.rev++
	if b.revises {
		s.given = append(s.given[:0:0], row...)
	}
	return b.w.emit(row, key, s.start, end-1, what, rev)
}

func (b *sessions) advance(m int64) error {
	b.m = m
	if b.interval > 0 && m != endOfTime {
		if at := floorTo(m, b.interval); at > b.emitted {
			b.emitted = at
			if err := b.giveWaiting(); err != nil {
				return err
			}
		}
	}
	return b.table.dueBy(m, func(e *entry[*sessionsValue]) error {
		keep := e.v.list[:0]
		for i := range e.v.list {
			s := e.v.list[i]
			if s.waiting && after(s.last, b.gap) < m {
				if err := b.give(e, &s); err != nil {
					return err
				}
			}
			if after(s.last, b.gap+b.lateness) >= m {
				keep = append(keep, s)
			}
		}
		clear(e.v.list[len(keep):])
		e.v.list = keep
		if len(keep) == 0 {
			b.table.remove(e)
			return nil
		}
		b.schedule(e)
		return nil
	})
}

// giveWaiting gives the rows of all sessions that changed since they were given.
func (b *sessions) giveWaiting() error {
	s := b.table.at(0)
	return b.table.each(s, func(e *entry[*sessionsValue]) error {
		if !slices.ContainsFunc(e.v.list, func(x session) bool { return x.waiting }) {
			return nil
		}
		e, err := b.table.find(s, e.group, []byte(e.key))
		if err != nil || e == nil {
			return err
		}
		for i := range e.v.list {
			if e.v.list[i].waiting {
				if err := b.give(e, &e.v.list[i]); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func (b *sessions) snapshot(batch *state.Batch) { b.table.snapshot(batch) }

// decoder reads what the operators write of their state.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uint() uint64 {
	n, k := binary.Uvarint(d.b)
	if k <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[k:]
	return n
}

func (d *decoder) int() int64 {
	n, k := binary.Varint(d.b)
	if k <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[k:]
	return n
}

// bytes gives a piece of what is read; it is borrowed.
func (d *decoder) bytes() []byte {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return nil
	}
	b := d.b[:n:n]
	d.b = d.b[n:]
	return b
}

// copy gives a copy of a piece; nil if it is empty.
func (d *decoder) copy() []byte { return append([]byte(nil), d.bytes()...) }

func (d *decoder) end() error {
	if d.bad || len(d.b) > 0 {
		return errState
	}
	return nil
}
