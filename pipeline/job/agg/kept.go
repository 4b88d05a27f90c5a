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
	cut   bool // rows from mark on are left out
	mark  item
	free  [][]byte
}

func (p *collected) add(at Order, value []byte) {
	n := len(p.items)
	if p.cut && p.mark.compare(at, value) < 0 {
		return
	}
	i := n
	if n > 0 && p.items[n-1].compare(at, value) > 0 {
		i, _ = slices.BinarySearchFunc(p.items, 0, func(x item, _ int) int { return x.compare(at, value) })
	}
	p.items = slices.Insert(p.items, i, item{at, append(p.buffer(), value...)})
	p.bytes += len(value)
	for len(p.items) > p.limit || p.bytes > p.max {
		p.drop()
	}
}

// drop leaves the last row out.
func (p *collected) drop() {
	last := len(p.items) - 1
	x := p.items[last]
	p.items[last] = item{}
	p.items = p.items[:last]
	p.bytes -= len(x.value)
	if p.mark.value != nil && len(p.free) < 16 {
		p.free = append(p.free, p.mark.value)
	}
	p.cut, p.mark = true, x
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
	if x.cut {
		for n := len(p.items); n > 0 && x.mark.compare(p.items[n-1].at, p.items[n-1].value) < 0; n-- {
			p.drop()
		}
		if !p.cut || p.mark.compare(x.mark.at, x.mark.value) > 0 {
			p.cut, p.mark = true, item{x.mark.at, append([]byte(nil), x.mark.value...)}
		}
	}
	for i := range x.items {
		p.add(x.items[i].at, x.items[i].value)
	}
}

func (p *collected) append(dst []byte) []byte {
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

func (p *collected) size() int { return 160 + 56*cap(p.items) + p.bytes }
