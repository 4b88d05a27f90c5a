package agg

import (
	"bytes"
	"encoding/binary"
	"slices"

	"keystone/dsl/eval"
)

// part is what an aggregate keeps of a size that is not known beforehand.
type part interface {
	// merge adds what another part of the same aggregate keeps, which stays as it is.
	merge(o part)
	append(dst []byte) []byte
	// decode reads what append wrote into an empty part and gives what follows it.
	decode(b []byte) (rest []byte, ok bool)
	size() int // bytes of memory, about
}

// item is a value and the row that it is of.
type item struct {
	at    Order
	value []byte // encoded
}

// compare orders items by row, those of one Order by value.
func (a *item) compare(at Order, value []byte) int {
	if o := a.at.Compare(at); o != 0 {
		return o
	}
	return bytes.Compare(a.value, value)
}

func decodeItem(b []byte, dst *item) (rest []byte, ok bool) {
	if dst.at, b, ok = ReadOrder(b); !ok {
		return b, false
	}
	return decodeValue(b, &dst.value)
}

// decodeValue copies the encoded value that b begins with.
func decodeValue(b []byte, dst *[]byte) (rest []byte, ok bool) {
	n := eval.SizeOfValue(b)
	if n < 0 {
		return b, false
	}
	*dst = append((*dst)[:0], b[:n]...)
	return b[n:], true
}

// extreme keeps the one value that comes first: by row, or by itself.
type extreme struct {
	by   byte // how two values compare; not kept, the plan has it
	item item // value nil: none
}

const (
	byFirst = iota // the first row
	byLast
	byLeast // the least value, as the language orders them
	byGreatest
	byBytes // any order that is fixed
)

func (p *extreme) add(at Order, value []byte) {
	if p.item.value != nil {
		var o int
		switch p.by {
		case byFirst:
			o = p.item.compare(at, value)
		case byLast:
			o = -p.item.compare(at, value)
		case byLeast:
			o = eval.CompareValues(p.item.value, value)
		case byGreatest:
			o = -eval.CompareValues(p.item.value, value)
		case byBytes:
			o = bytes.Compare(p.item.value, value)
		}
		if o <= 0 {
			return
		}
	}
	p.item.at, p.item.value = at, append(p.item.value[:0], value...)
}

func (p *extreme) merge(o part) {
	if x := &o.(*extreme).item; x.value != nil {
		p.add(x.at, x.value)
	}
}

func (p *extreme) append(dst []byte) []byte {
	if p.by <= byLast {
		dst = p.item.at.Append(dst)
	}
	return append(dst, p.item.value...)
}

func (p *extreme) decode(b []byte) ([]byte, bool) {
	if p.by <= byLast {
		return decodeItem(b, &p.item)
	}
	return decodeValue(b, &p.item.value)
}

func (p *extreme) size() int { return 80 + cap(p.item.value) }

// collected keeps the values of the earliest rows: at most limit, and of at most max bytes. Whatever is
// left out leaves a mark, so that no row behind it is taken later, when others have gone: what is kept is always the
// beginning of all rows in their order. (Rows that equal the mark may be taken: they go again if it had to.)
type collected struct {
	limit int // not kept, the plan has it
	max   int // bytes; the same
	items []item
	bytes int
	cut   bool // rows behind mark are left out
	mark  item

	fresh      []item // rows that came out of order, not looked at yet
	freshBytes int
	spare      []item // memory of items
	free       [][]byte
}

func (p *collected) add(at Order, value []byte) {
	n := len(p.items)
	if p.cut && p.mark.compare(at, value) < 0 {
		return
	}
	x := item{at, append(p.buffer(), value...)}
	if len(p.fresh) == 0 && n < p.limit && p.bytes+len(value) <= p.max && (n == 0 || p.items[n-1].compare(at, value) <= 0) {
		p.items = append(p.items, x)
		p.bytes += len(value)
		return
	}
	p.fresh = append(p.fresh, x)
	if p.freshBytes += len(value); len(p.fresh) >= 32+n/4 || p.freshBytes > p.max/4 {
		p.settle()
	}
}

// settle puts the rows that came out of order where they belong.
func (p *collected) settle() {
	if len(p.fresh) == 0 {
		return
	}
	slices.SortFunc(p.fresh, func(a, b item) int { return a.compare(b.at, b.value) })
	p.join(p.fresh, false)
	clear(p.fresh)
	p.fresh, p.freshBytes = p.fresh[:0], 0
}

// join takes other items in, which are in their order, and leaves out what is too much; theirs are copied if they are not its own.
func (p *collected) join(other []item, foreign bool) {
	mine, merged, total := p.items, p.spare[:0], 0
	for len(mine)+len(other) > 0 {
		var x item
		theirs := len(mine) == 0 || len(other) > 0 && mine[0].compare(other[0].at, other[0].value) > 0
		if theirs {
			x, other = other[0], other[1:]
		} else {
			x, mine = mine[0], mine[1:]
		}
		if theirs && foreign {
			x.value = append(p.buffer(), x.value...)
		}
		if p.cut && p.mark.compare(x.at, x.value) < 0 {
			p.release(x.value)
			break
		}
		if len(merged) == p.limit || total+len(x.value) > p.max {
			p.release(p.mark.value)
			p.cut, p.mark = true, x
			break
		}
		merged = append(merged, x)
		total += len(x.value)
	}
	for _, x := range mine {
		p.release(x.value)
	}
	if !foreign {
		for _, x := range other {
			p.release(x.value)
		}
	}
	clear(p.items)
	p.items, p.spare, p.bytes = merged, p.items[:0], total
}

// release keeps a few buffers of what was left out, so that rows which come and go need no new ones.
func (p *collected) release(b []byte) {
	if b != nil && len(p.free) < 32 {
		p.free = append(p.free, b)
	}
}

func (p *collected) buffer() []byte {
	n := len(p.free)
	if n == 0 {
		return nil
	}
	b := p.free[n-1]
	p.free = p.free[:n-1]
	return b[:0]
}

// over tells whether rows within the limit were left out for their bytes.
func (p *collected) over() bool { return p.cut && len(p.items) < p.limit }

func (p *collected) merge(o part) {
	x := o.(*collected)
	p.settle()
	x.settle()
	if x.cut && (!p.cut || p.mark.compare(x.mark.at, x.mark.value) > 0) {
		p.cut, p.mark = true, item{x.mark.at, append([]byte(nil), x.mark.value...)}
	}
	p.join(x.items, true)
}

func (p *collected) append(dst []byte) []byte {
	p.settle()
	dst = binary.AppendUvarint(dst, uint64(len(p.items)))
	for i := range p.items {
		dst = append(p.items[i].at.Append(dst), p.items[i].value...)
	}
	if !p.cut {
		return append(dst, 0)
	}
	return append(p.mark.at.Append(append(dst, 1)), p.mark.value...)
}

func (p *collected) decode(b []byte) ([]byte, bool) {
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)) || n > uint64(p.limit) {
		return b, false
	}
	b = b[size:]
	var ok bool
	for range n {
		var x item
		if b, ok = decodeItem(b, &x); !ok {
			return b, false
		}
		if k := len(p.items); k > 0 && p.items[k-1].compare(x.at, x.value) > 0 {
			return b, false
		}
		p.items = append(p.items, x)
		p.bytes += len(x.value)
	}
	if len(b) == 0 || b[0] > 1 {
		return b, false
	}
	if p.cut = b[0] == 1; !p.cut {
		return b[1:], true
	}
	return decodeItem(b[1:], &p.mark)
}

func (p *collected) size() int {
	return 240 + 56*(cap(p.items)+cap(p.fresh)+cap(p.spare)) + p.bytes + p.freshBytes
}
