package job

import (
	"encoding/binary"
	"fmt"

	"keystone/configs"
	"keystone/dsl/eval"
	"keystone/pipeline/job/agg"
	"keystone/pipeline/json"
	"keystone/pipeline/record"
	"keystone/pipeline/state"
)

// asOfEventTime is a lookup that finds what the table had at the time of the row.
const asOfEventTime = "event_time"

// version is a row of the table from a time on; nil: there is none.
type version struct {
	at  agg.Order
	row []byte
}

// versions are what the table has and had of a key, by time, and the rows that wait for what it will have.
type versions struct {
	list  []version
	wait  []waiting
	bytes int
}

// waiting is a row that waits until the table is known at its time.
type waiting struct {
	at   agg.Order
	mark int64
	row  []byte
}

func (v *versions) append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(v.list)))
	for i := range v.list {
		dst = v.list[i].at.Append(dst)
		dst = binary.AppendUvarint(dst, b2u(v.list[i].row != nil))
		dst = appendBytes(dst, v.list[i].row)
	}
	dst = binary.AppendUvarint(dst, uint64(len(v.wait)))
	for i := range v.wait {
		dst = binary.AppendVarint(v.wait[i].at.Append(dst), v.wait[i].mark)
		dst = appendBytes(dst, v.wait[i].row)
	}
	return dst
}

func b2u(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

func (v *versions) size() int { return v.bytes }

func decodeVersions(b []byte) (*versions, error) {
	d := decoder{b: b}
	v := &versions{}
	order := func() (o agg.Order) {
		var ok bool
		if o, d.b, ok = agg.ReadOrder(d.b); !ok {
			d.bad, d.b = true, nil
		}
		return o
	}
	for n := d.uint(); n > 0 && !d.bad; n-- {
		x := version{at: order()}
		some := d.uint() == 1
		x.row = d.copy()
		if some && x.row == nil {
			x.row = []byte{}
		}
		v.bytes += len(x.row) + joinRowBytes
		v.list = append(v.list, x)
	}
	for n := d.uint(); n > 0 && !d.bad; n-- {
		x := waiting{at: order(), mark: d.int(), row: d.copy()}
		v.bytes += len(x.row) + joinRowBytes
		v.wait = append(v.wait, x)
	}
	return v, d.end()
}

// lookup adds the row of a table to each row.
type lookup struct {
	t     *task
	c     *counts
	table *table[*versions]
	cfg   *configs.JobLookup
	asOf  bool
	inner bool
	m     int64
	buf   []byte
	r     row
}

func newLookup(t *task) (body, error) {
	o := t.n.op
	if len(o.Key) != 1 {
		return nil, fmt.Errorf("%s: the key of a lookup is one field, the message key of the table", o.Name())
	}
	b := &lookup{t: t, c: t.j.graph.counts[o], cfg: o.Lookup, asOf: o.Lookup.AsOf == asOfEventTime, inner: o.Lookup.Type != configs.JoinLeft, m: beginOfTime}
	if b.asOf {
		t.lag = 1
	}
	b.table = newTable(t, func() *versions { return &versions{} }, decodeVersions)
	return b, nil
}

func (b *lookup) open(m int64) error {
	b.m = m
	return b.table.open()
}

func (b *lookup) add(p *packet, h *head) error {
	e, isNew, err := b.table.get(b.table.at(0), h.group, p.key(h))
	if err != nil {
		return err
	}
	at := agg.Order{Time: h.time, Tie: h.tie}
	load := p.load(h)
	if h.side == 1 {
		b.put(e, at, load)
		return nil
	}
	b.c.in.add(1)
	if b.asOf && h.time >= b.m && b.m != endOfTime {
		e.v.wait = append(e.v.wait, waiting{at, h.mark, append([]byte(nil), load...)})
		e.v.bytes += len(load) + joinRowBytes
		b.table.change(e)
		b.table.resize(e)
		b.table.wake(e, min(e.due, after(h.time, 1)))
		return nil
	}
	err = b.give(e, at, h.mark, load)
	if isNew {
		b.table.remove(e)
	}
	return err
}

// put takes a row of the table; without bytes behind its first it is taken away.
func (b *lookup) put(e *entry[*versions], at agg.Order, load []byte) {
	var row []byte
	if load[0] == 1 {
		row = append([]byte{}, load[1:]...)
	}
	v := e.v
	i := len(v.list)
	if b.asOf {
		for i > 0 && v.list[i-1].at.Compare(at) > 0 {
			i--
		}
	} else {
		v.list, i, v.bytes = v.list[:0], 0, 0
	}
	v.list = append(v.list, version{})
	copy(v.list[i+1:], v.list[i:])
	v.list[i] = version{at, row}
	v.bytes += len(row) + joinRowBytes
	b.trim(v)
	b.table.change(e)
	b.table.resize(e)
	if len(v.list) == 1 && v.list[0].row == nil && len(v.wait) == 0 && (!b.asOf || at.Time < b.m) {
		b.table.remove(e)
	}
}

// trim forgets versions that no row can ask for any more.
func (b *lookup) trim(v *versions) {
	n := 0
	for n+1 < len(v.list) && v.list[n+1].at.Time < b.m {
		v.bytes -= len(v.list[n].row) + joinRowBytes
		n++
	}
	if n > 0 {
		v.list = append(v.list[:0:0], v.list[n:]...)
	}
}

// give gives a row with what the table had at its time.
func (b *lookup) give(e *entry[*versions], at agg.Order, mark int64, load []byte) error {
	var found []byte
	for i := len(e.v.list) - 1; i >= 0; i-- {
		if !b.asOf || e.v.list[i].at.Time <= at.Time {
			found = e.v.list[i].row
			break
		}
	}
	if found == nil && b.inner {
		return nil
	}
	b.buf = appendName(appendOpen(b.buf[:0], load), b.cfg.As)
	b.buf = append(b.buf, ':')
	if found == nil {
		b.buf = append(b.buf, "null"...)
	} else {
		b.buf = append(b.buf, found...)
	}
	b.buf = append(b.buf, '}')
	b.r = row{time: at.Time, mark: mark, tie: at.Tie}
	b.t.id = at.Append(append(append(append(b.t.id[:0], b.t.n.op.Label...), 0), e.key...))
	b.r.id = b.t.id
	return b.t.emit(&b.r, b.buf)
}

func (b *lookup) advance(m int64) error {
	b.m = m
	return b.table.dueBy(m, func(e *entry[*versions]) error {
		keep, next := e.v.wait[:0], int64(endOfTime)
		for _, w := range e.v.wait {
			if at := after(w.at.Time, 1); at > m {
				keep, next = append(keep, w), min(next, at)
				continue
			}
			e.v.bytes -= len(w.row) + joinRowBytes
			if err := b.give(e, w.at, w.mark, w.row); err != nil {
				return err
			}
		}
		clear(e.v.wait[len(keep):])
		e.v.wait = keep
		b.trim(e.v)
		b.table.resize(e)
		if len(e.v.list) == 0 && len(keep) == 0 {
			b.table.remove(e)
			return nil
		}
		b.table.wake(e, next)
		return nil
	})
}

func (b *lookup) flush() error { return nil }

func (b *lookup) snapshot(batch *state.Batch) { b.table.snapshot(batch) }

// tableRow sends a record of a lookup's table to the task that owns its key.
func (f *front) tableRow(b *record.Batch, i int, p *part) error {
	rec := &b.Records[i]
	if rec.Key == nil {
		return nil // it is nobody's row
	}
	load := append(f.load[:0], 0)
	if rec.Value != nil || rec.Bad != record.Whole {
		if err := f.check.Begin(b.Topic, b.Partition, rec); err != nil {
			return f.t.fail(f.t.n.op, &row{topic: b.Topic, partition: b.Partition, rec: rec, time: rec.Timestamp}, err)
		}
		load = append(append(load[:0], 1), json.Trim(rec.Value)...)
	}
	f.load = load
	p.mark = max(p.mark, rec.Timestamp)
	return f.t.outs[0].add(head{time: rec.Timestamp, mark: p.mark, side: 1, tie: agg.Tie{Partition: b.Partition, Offset: rec.Offset}}, rec.Key, load)
}

// messageKey turns an encoded value into the bytes that it is as a message key.
func messageKey(dst, enc []byte, k *configs.KeyField) []byte {
	if len(enc) > 0 && enc[0] == encodedString {
		d := decoder{b: enc[1:]}
		return append(dst, d.bytes()...)
	}
	dst, _ = eval.JSONOfValue(dst, enc, k.Expr.Root.Type)
	return dst
}
