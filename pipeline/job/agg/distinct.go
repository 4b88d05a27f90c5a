package agg

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"hash/maphash"
	"slices"

	"keystone/dsl/eval"
)

// bounds of what is kept for a key, those of package ir; tests have smaller ones. There are more different values or
// there are not, in whatever order they came: beyond the bounds the result is an error.
type bounds struct{ distinct, distinctBytes, collectedBytes int }

// distinct is a set of encoded values, and how often each occurs where counts are kept.
type distinct struct {
	counted bool // not kept, the plan has it, as the two below
	max     bounds
	seed    maphash.Seed
	arena   []byte
	starts  []uint32 // of the values in arena
	counts  []uint64
	table   []uint32 // by a hash that nobody can foresee: index into starts + 1, 0 is free; a power of two long, at most three quarters full
	over    bool     // there were too many; none are kept then
}

func (p *distinct) value(i int) []byte {
	if i+1 < len(p.starts) {
		return p.arena[p.starts[i]:p.starts[i+1]]
	}
	return p.arena[p.starts[i]:]
}

func (p *distinct) add(value []byte, n uint64) {
	if p.over {
		return
	}
	if 4*(len(p.starts)+1) > 3*len(p.table) {
		p.grow()
	}
	mask := uint64(len(p.table) - 1)
	slot := maphash.Bytes(p.seed, value) & mask
	for ; p.table[slot] != 0; slot = (slot + 1) & mask {
		i := int(p.table[slot] - 1)
		if bytes.Equal(p.value(i), value) {
			if p.counted {
				p.counts[i] += n
			}
			return
		}
	}
	if len(p.starts) == p.max.distinct || len(p.arena)+len(value) > p.max.distinctBytes {
		*p = distinct{counted: p.counted, max: p.max, seed: p.seed, over: true}
		return
	}
	p.starts = append(p.starts, uint32(len(p.arena)))
	p.arena = append(p.arena, value...)
	if p.counted {
		p.counts = append(p.counts, n)
	}
	p.table[slot] = uint32(len(p.starts))
}

func (p *distinct) grow() {
	p.table = make([]uint32, max(8, 2*len(p.table)))
	mask := uint64(len(p.table) - 1)
	for i := range p.starts {
		slot := maphash.Bytes(p.seed, p.value(i)) & mask
		for p.table[slot] != 0 {
			slot = (slot + 1) & mask
		}
		p.table[slot] = uint32(i + 1)
	}
}

func (p *distinct) count(i int) uint64 {
	if p.counted {
		return p.counts[i]
	}
	return 1
}

func (p *distinct) merge(o part) {
	x := o.(*distinct)
	if x.over {
		*p = distinct{counted: p.counted, max: p.max, seed: p.seed, over: true}
		return
	}
	for i := range x.starts {
		p.add(x.value(i), x.count(i))
	}
}

// append writes the number of values plus one, 0 for too many, and the values in the order of their arrival.
func (p *distinct) append(dst []byte) []byte {
	if p.over {
		return append(dst, 0)
	}
	dst = binary.AppendUvarint(dst, uint64(len(p.starts)+1))
	if !p.counted {
		return append(dst, p.arena...)
	}
	for i := range p.starts {
		dst = append(dst, p.value(i)...)
		dst = binary.AppendUvarint(dst, p.counts[i])
	}
	return dst
}

func (p *distinct) decode(b []byte) ([]byte, bool) {
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)) {
		return b, false
	}
	b = b[size:]
	if p.over = n == 0; p.over {
		return b, true
	}
	for range n - 1 {
		k := eval.SizeOfValue(b)
		if k < 0 {
			return b, false
		}
		v, count := b[:k], uint64(1)
		if b = b[k:]; p.counted {
			if count, k = binary.Uvarint(b); k <= 0 || count == 0 || count > maxCount {
				return b, false
			}
			b = b[k:]
		}
		p.add(v, count)
	}
	return b, !p.over && len(p.starts) == int(n-1)
}

func (p *distinct) size() int {
	return 120 + cap(p.arena) + 4*cap(p.starts) + 8*cap(p.counts) + 4*cap(p.table)
}

// top gives the indices of the k values that occur most often, of equally many those that are less first.
func (p *distinct) top(dst []int, k int) []int {
	before := func(a, b int) int {
		return cmp.Or(cmp.Compare(p.counts[b], p.counts[a]), eval.CompareValues(p.value(a), p.value(b)))
	}
	for i := range p.starts {
		if len(dst) == k && before(i, dst[k-1]) > 0 {
			continue
		}
		at, _ := slices.BinarySearchFunc(dst, i, before)
		if len(dst) == k {
			dst = dst[:k-1]
		}
		dst = slices.Insert(dst, at, i)
	}
	return dst
}
