package agg

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
)

// The sketch of approx_count_distinct is a HyperLogLog of 2^14 registers over the 64-bit XXH64 (seed 0) of the encoded
// value, read by the estimator of Ertl (arXiv:1702.01284): a standard error of 0.81 %. Up to maxHashes different
// hashes are kept themselves and counted exactly; whether there are more does not depend on their order.
const (
	precision = 14
	registers = 1 << precision
	maxHashes = 1024
	// maxRank is the largest register: the bits that do not choose it, and one.
	maxRank = 64 - precision + 1
)

type approx struct {
	hashes []uint64 // in their order; nil once there are registers
	ranks  *[registers]uint8
}

func (p *approx) add(h uint64) {
	if p.ranks != nil {
		p.observe(h)
		return
	}
	i, found := slices.BinarySearch(p.hashes, h)
	if found {
		return
	}
	if len(p.hashes) < maxHashes {
		p.hashes = slices.Insert(p.hashes, i, h)
		return
	}
	p.spread()
	p.observe(h)
}

// spread goes over to registers.
func (p *approx) spread() {
	p.ranks = new([registers]uint8)
	for _, h := range p.hashes {
		p.observe(h)
	}
	p.hashes = nil
}

func (p *approx) observe(h uint64) {
	r := &p.ranks[h>>(64-precision)]
	*r = max(*r, uint8(bits.LeadingZeros64(h<<precision|1<<(precision-1))+1))
}

func (p *approx) merge(o part) {
	x := o.(*approx)
	for _, h := range x.hashes {
		p.add(h)
	}
	if x.ranks == nil {
		return
	}
	if p.ranks == nil {
		p.spread()
	}
	for i, r := range x.ranks {
		p.ranks[i] = max(p.ranks[i], r)
	}
}

// append writes the number of hashes and them, or maxHashes + 1 and the registers, six bits each.
func (p *approx) append(dst []byte) []byte {
	if p.ranks == nil {
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(p.hashes)))
		for _, h := range p.hashes {
			dst = binary.BigEndian.AppendUint64(dst, h)
		}
		return dst
	}
	dst = binary.BigEndian.AppendUint16(dst, maxHashes+1)
	for i := 0; i < registers; i += 4 {
		r := p.ranks[i : i+4 : i+4]
		dst = append(dst, r[0]<<2|r[1]>>4, r[1]<<4|r[2]>>2, r[2]<<6|r[3])
	}
	return dst
}

func (p *approx) decode(b []byte) ([]byte, bool) {
	if len(b) < 2 {
		return b, false
	}
	n := int(binary.BigEndian.Uint16(b))
	b = b[2:]
	if n <= maxHashes {
		if len(b) < 8*n {
			return b, false
		}
		for i := range n {
			h := binary.BigEndian.Uint64(b[8*i:])
			if i > 0 && h <= p.hashes[i-1] {
				return b, false
			}
			p.hashes = append(p.hashes, h)
		}
		return b[8*n:], true
	}
	const size = registers * 6 / 8
	if n != maxHashes+1 || len(b) < size {
		return b, false
	}
	p.ranks = new([registers]uint8)
	for i := 0; i < registers; i += 4 {
		x := b[i/4*3 : i/4*3+3]
		r := p.ranks[i : i+4 : i+4]
		r[0], r[1], r[2], r[3] = x[0]>>2, x[0]<<4&63|x[1]>>4, x[1]<<2&63|x[2]>>6, x[2]&63
		if max(r[0], r[1], r[2], r[3]) > maxRank {
			return b, false
		}
	}
	return b[size:], true
}

func (p *approx) size() int {
	if p.ranks != nil {
		return 40 + registers
	}
	return 40 + 8*cap(p.hashes)
}

// estimate gives about how many different hashes there were.
func (p *approx) estimate() int64 {
	if p.ranks == nil {
		return int64(len(p.hashes))
	}
	var count [maxRank + 1]int
	for _, r := range p.ranks {
		count[r]++
	}
	const m = float64(registers)
	z := float64(m * tau(1-float64(count[maxRank])/m))
	for k := maxRank - 1; k >= 1; k-- {
		z = 0.5 * (z + float64(count[k]))
	}
	z += float64(m * sigma(float64(count[0])/m)) // a product that is converted is rounded, on every processor
	return int64(math.Round(m * m / (2 * math.Ln2 * z)))
}

func sigma(x float64) float64 {
	if x == 1 {
		return math.Inf(1)
	}
	y, z := 1.0, x
	for {
		x *= x
		before := z
		z += float64(x * y)
		y += y
		if z == before {
			return z
		}
	}
}

func tau(x float64) float64 {
	if x == 0 || x == 1 {
		return 0
	}
	y, z := 1.0, 1-x
	for {
		x = math.Sqrt(x)
		before := z
		y *= 0.5
		z -= float64(float64((1-x)*(1-x)) * y)
		if z == before {
			return z / 3
		}
	}
}
