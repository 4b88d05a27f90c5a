package job

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"slices"

	"keystone/dsl/eval"
	"keystone/pipeline/job/agg"
	"keystone/pipeline/state"
)

// ranked is a row among the first of its key.
type ranked struct {
	order []byte // what it is ordered by, encoded
	at    agg.Order
	row   []byte
}

// ranks are the first rows of a key, in order.
type ranks struct {
	list  []ranked
	given [][]byte // the row that was given of each rank, where ranks are given as they change
	revs  []uint32
	last  int64
}

func (v *ranks) append(dst []byte) []byte {
	dst = binary.AppendVarint(dst, v.last)
	dst = binary.AppendUvarint(dst, uint64(len(v.list)))
	for i := range v.list {
		r := &v.list[i]
		dst = appendBytes(r.at.Append(dst), r.order)
		dst = appendBytes(dst, r.row)
	}
	dst = binary.AppendUvarint(dst, uint64(len(v.given)))
	for i, g := range v.given {
		dst = binary.AppendUvarint(appendBytes(dst, g), uint64(v.revs[i]))
	}
	return dst
}

func (v *ranks) size() int {
	n := 0
	for i := range v.list {
		n += len(v.list[i].row) + len(v.list[i].order) + 100
	}
	for _, g := range v.given {
		n += len(g) + 28
	}
	return n
}

func decodeRanks(b []byte) (*ranks, error) {
	d := decoder{b: b}
	v := &ranks{last: d.int()}
	for n := d.uint(); n > 0 && !d.bad; n-- {
		var r ranked
		var ok bool
		if r.at, d.b, ok = agg.ReadOrder(d.b); !ok {
			return nil, errState
		}
		r.order, r.row = d.copy(), d.copy()
		v.list = append(v.list, r)
	}
	for n := d.uint(); n > 0 && !d.bad; n-- {
		v.given = append(v.given, d.copy())
		v.revs = append(v.revs, uint32(d.uint())) //nolint:gosec // as written
	}
	return v, d.end()
}

// top keeps the first rows of each key. With the window among the key they are given once, when it is over;
// else each change of a rank is given.
type top struct {
	t        *task
	table    *table[*ranks]
	touched  []*entry[*ranks]
	n        int
	down     bool
	windowed bool
	ttl      int64
	buf      []byte
	r        row
}

func newTop(t *task) *top {
	o := t.n.op.Top
	b := &top{t: t, n: o.N, down: o.Descending, windowed: o.Windowed, ttl: o.TTL.Milliseconds()}
	if b.windowed {
		t.lag = 1
	}
	b.table = newTable(t, func() *ranks { return &ranks{last: beginOfTime} }, decodeRanks)
	return b
}

func (b *top) open(int64) error { return b.table.open() }

func (b *top) add(p *packet, h *head) error {
	load := p.load(h)
	n := eval.SizeOfValue(load)
	if n < 0 {
		return errState
	}
	e, _, err := b.table.get(b.table.at(0), h.group, p.key(h))
	if err != nil {
		return err
	}
	v := e.v
	if !b.windowed && b.ttl > 0 && v.last != beginOfTime && h.mark > after(v.last, b.ttl) {
		v.list = nil
	}
	v.last = max(v.last, h.time)
	switch {
	case b.windowed:
		b.table.wake(e, after(v.last, 1))
	case b.ttl > 0:
		b.table.wake(e, after(v.last, b.ttl+1))
	}
	b.table.change(e)
	r := ranked{order: load[:n], at: agg.Order{Time: h.time, Tie: h.tie}, row: load[n:]}
	i, _ := slices.BinarySearchFunc(v.list, r, b.compare)
	if i >= b.n {
		return nil
	}
	r.order, r.row = bytes.Clone(r.order), bytes.Clone(r.row)
	v.list = slices.Insert(v.list, i, r)
	if len(v.list) > b.n {
		v.list = v.list[:b.n]
	}
	b.table.resize(e)
	if !b.windowed && !e.touched {
		e.touched = true
		b.touched = append(b.touched, e)
	}
	return nil
}

// compare orders rows as they are ranked. nil is last, ascending or descending; rows that are equal are ordered by time.
func (b *top) compare(x, y ranked) int {
	nx, ny := x.order[0] == encodedNil, y.order[0] == encodedNil
	switch {
	case nx && !ny:
		return 1
	case ny && !nx:
		return -1
	}
	c := compareEncoded(x.order, y.order)
	if b.down {
		c = -c
	}
	return cmp.Or(c, x.at.Compare(y.at), bytes.Compare(x.row, y.row))
}

func (b *top) flush() error {
	for i, e := range b.touched {
		b.touched[i] = nil
		e.touched = false
		if e.dead {
			continue
		}
		if err := b.giveChanged(e); err != nil {
			return err
		}
	}
	b.touched = b.touched[:0]
	return nil
}

// giveChanged gives the ranks whose rows are others than those that were given.
func (b *top) giveChanged(e *entry[*ranks]) error {
	v := e.v
	for i := range v.list {
		what := update
		if i == len(v.given) {
			v.given, v.revs, what = append(v.given, nil), append(v.revs, 0), insert
		} else if bytes.Equal(v.given[i], v.list[i].row) {
			continue
		}
		v.given[i] = v.list[i].row
		if err := b.give(e, i, what, v.revs[i]); err != nil {
			return err
		}
		v.revs[i]++
	}
	for i := len(v.list); i < len(v.given); i++ { // the key was forgotten and begins anew
		b.buf = b.ranked(b.buf[:0], v.given[i], i)
		b.r = row{time: v.last, mark: before(v.last, 1), op: remove, rev: v.revs[i]}
		b.t.rowID(&b.r, []byte(e.key), int64(i))
		if err := b.t.emit(&b.r, b.buf); err != nil {
			return err
		}
	}
	if len(v.given) > len(v.list) {
		v.given, v.revs = v.given[:len(v.list)], v.revs[:len(v.list)]
	}
	return nil
}

func (b *top) ranked(dst, row []byte, i int) []byte {
	dst = append(appendOpen(dst, row), `"rank":`...)
	return append(appendInt(dst, int64(i)+1), '}')
}

func (b *top) give(e *entry[*ranks], i int, what op, rev uint32) error {
	r := &e.v.list[i]
	b.buf = b.ranked(b.buf[:0], r.row, i)
	b.r = row{time: e.v.last, mark: before(e.v.last, 1), op: what, rev: rev}
	b.t.rowID(&b.r, []byte(e.key), int64(i))
	return b.t.emit(&b.r, b.buf)
}

func (b *top) advance(m int64) error {
	if !b.windowed && m == endOfTime {
		return nil
	}
	return b.table.dueBy(m, func(e *entry[*ranks]) error {
		if b.windowed {
			for i := range e.v.list {
				if err := b.give(e, i, insert, 0); err != nil {
					return err
				}
			}
		}
		b.table.remove(e)
		return nil
	})
}

func (b *top) snapshot(batch *state.Batch) { b.table.snapshot(batch) }

// The encoding of values, as eval.EncodingVersion says.
const (
	encodedString = 4
	encodedTime   = 6
	encodedFloat  = 7
	encodedInts   = 0x18 // to 0x28
	encodedZero   = 0x20
)

// compareEncoded orders encoded values: numbers by value, texts by their bytes, times; what cannot be compared by its bytes.
func compareEncoded(a, b []byte) int {
	ka, kb := a[0], b[0]
	switch {
	case ka == encodedString && kb == encodedString:
		x, y := decoder{b: a[1:]}, decoder{b: b[1:]}
		return bytes.Compare(x.bytes(), y.bytes())
	case isInt(ka) && kb == encodedFloat:
		return -compareFloat(floatOf(b), a)
	case ka == encodedFloat && isInt(kb):
		return compareFloat(floatOf(a), b)
	}
	return bytes.Compare(a, b)
}

func isInt(k byte) bool { return k >= encodedInts && k <= encodedZero+8 }

func floatOf(b []byte) float64 {
	u := binary.BigEndian.Uint64(b[1:])
	if u>>63 != 0 {
		return math.Float64frombits(u &^ (1 << 63))
	}
	return math.Float64frombits(^u)
}

// compareFloat compares a number that no int64 is equal to with an encoded int.
func compareFloat(f float64, enc []byte) int {
	n := intOf(enc)
	switch {
	case f >= 1<<63:
		return 1
	case f < -(1 << 63):
		return -1
	}
	whole := math.Floor(f)
	if int64(whole) >= n { // f is not whole: it is above its floor
		return 1
	}
	return -1
}

func intOf(enc []byte) int64 {
	k := int(enc[0]) - encodedZero
	neg := k < 0
	if neg {
		k = -k
	}
	var u uint64
	for _, c := range enc[1 : 1+k] {
		if neg {
			c = ^c
		}
		u = u<<8 | uint64(c)
	}
	if neg {
		return int64(^u) //nolint:gosec // bits
	}
	return int64(u) //nolint:gosec // bits
}
