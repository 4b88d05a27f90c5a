package agg

import (
	"encoding/binary"
	"math"
	"slices"
	"sort"
)

// The sketch of percentile counts values in buckets of their bits: sign, exponent, and the first bucketBits of the
// mantissa, so that each power of two has 64 buckets of equal width. The middle of a bucket is off by at most
// 1/128 of a value in it, 0.79 %; the least and the greatest value are exact. Values below 2^-1022 are 0.
// Unlike a logarithm this needs no rounding: it is the same on every processor.
const bucketBits = 6

type histogram struct {
	buckets    []bucket // by key
	n          uint64
	low, high  float64 // of n > 0
	lastBucket int     // where the last value went
}

type bucket struct {
	key   int32 // orders as the values do
	count uint64
}

func keyOf(f float64) int32 {
	b := math.Float64bits(f)
	k := int32(b &^ (1 << 63) >> (52 - bucketBits))
	if k < 1<<bucketBits {
		return 0
	}
	if b>>63 == 1 {
		return -k
	}
	return k
}

// middle gives the value that stands for a bucket.
func middle(key int32) float64 {
	switch {
	case key == 0:
		return 0
	case key < 0:
		return -middle(-key)
	}
	return math.Float64frombits(uint64(key)<<(52-bucketBits) | 1<<(51-bucketBits))
}

func (p *histogram) add(f float64) {
	if p.n == 0 {
		p.low, p.high = f, f
	}
	p.low, p.high = min(p.low, f), max(p.high, f)
	p.count(keyOf(f), 1)
}

func (p *histogram) count(key int32, n uint64) {
	p.n += n
	if i := p.lastBucket; i < len(p.buckets) && p.buckets[i].key == key {
		p.buckets[i].count += n
		return
	}
	i := sort.Search(len(p.buckets), func(i int) bool { return p.buckets[i].key >= key })
	p.lastBucket = i
	if i < len(p.buckets) && p.buckets[i].key == key {
		p.buckets[i].count += n
		return
	}
	p.buckets = slices.Insert(p.buckets, i, bucket{key, n})
}

func (p *histogram) merge(o part) {
	x := o.(*histogram)
	if x.n == 0 {
		return
	}
	if p.n == 0 {
		p.low, p.high = x.low, x.high
	}
	p.low, p.high = min(p.low, x.low), max(p.high, x.high)
	for _, b := range x.buckets {
		p.count(b.key, b.count)
	}
}

// append writes the bounds and the buckets, each key as its distance from the one before.
func (p *histogram) append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(p.buckets)))
	if len(p.buckets) == 0 {
		return dst
	}
	dst = binary.BigEndian.AppendUint64(dst, math.Float64bits(p.low))
	dst = binary.BigEndian.AppendUint64(dst, math.Float64bits(p.high))
	before := int32(0)
	for _, b := range p.buckets {
		dst = binary.AppendVarint(dst, int64(b.key-before))
		dst = binary.AppendUvarint(dst, b.count)
		before = b.key
	}
	return dst
}

func (p *histogram) decode(b []byte) ([]byte, bool) {
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)) {
		return b, false
	}
	if b = b[size:]; n == 0 {
		return b, true
	}
	if len(b) < 16 {
		return b, false
	}
	p.low, p.high = math.Float64frombits(binary.BigEndian.Uint64(b)), math.Float64frombits(binary.BigEndian.Uint64(b[8:]))
	b = b[16:]
	key := int64(0)
	for i := range n {
		by, size := binary.Varint(b)
		if size <= 0 {
			return b, false
		}
		b = b[size:]
		count, size := binary.Uvarint(b)
		key += by
		if size <= 0 || i > 0 && by <= 0 || by > 1<<20 || by < -1<<20 || key > int64(keyOf(math.MaxFloat64)) || -key > int64(keyOf(math.MaxFloat64)) || count == 0 || count > maxCount {
			return b, false
		}
		b = b[size:]
		p.buckets = append(p.buckets, bucket{int32(key), count})
		if p.n += count; p.n > maxCount {
			return b, false
		}
	}
	ok := p.low <= p.high && keyOf(p.low) == p.buckets[0].key && keyOf(p.high) == p.buckets[n-1].key
	return b, ok
}

func (p *histogram) size() int { return 80 + 16*cap(p.buckets) }

// percentile gives about the value at rank ⌈q n⌉ from the least one: the smallest for 0, the greatest for 1.
func (p *histogram) percentile(q float64) float64 {
	rank := max(uint64(math.Ceil(q*float64(p.n))), 1)
	if rank == 1 {
		return p.low
	}
	if rank >= p.n {
		return p.high
	}
	for _, b := range p.buckets {
		if rank <= b.count {
			return min(max(middle(b.key), p.low), p.high)
		}
		rank -= b.count
	}
	return p.high
}
