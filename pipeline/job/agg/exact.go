package agg

import (
	"encoding/binary"
	"math"
	"math/big"
	"math/bits"
	"slices"
)

// Sums of floats are exact and rounded once. Nearly all floats lie in a window of fixed point: words of two's
// complement, the lowest first, which hold multiples of 2^-128. A value that does not (a bit of it below 2^-128, or 2^64 and more) goes
// to a big integer beside them. Which of the two is decided by the value alone, so that both are sums in their own
// right. 2^63 values of up to 2^64 do not overflow the window.
const (
	fraction    = 128 // bits of a sum behind the point
	sumWords    = 4
	squareWords = 7 // twice as many behind the point, and 192 bits before it
	bigScale    = 1074
)

// add128 adds an int to a sum of ints.
func add128(w []uint64, v int64) {
	var carry uint64
	w[0], carry = bits.Add64(w[0], uint64(v), 0)
	w[1] += uint64(v>>63) + carry
}

// addWords adds two sums of the same width.
func addWords(w, o []uint64) {
	var carry uint64
	for i := range w {
		w[i], carry = bits.Add64(w[i], o[i], carry)
	}
}

// addAt adds three words of a magnitude, the lowest at w[i], or subtracts them.
func addAt(w []uint64, i int, m [3]uint64, negative bool) {
	var carry uint64
	for k := 0; i < len(w); i, k = i+1, k+1 {
		var x uint64
		if k < len(m) {
			x = m[k]
		} else if carry == 0 {
			return
		}
		if negative {
			w[i], carry = bits.Sub64(w[i], x, carry)
		} else {
			w[i], carry = bits.Add64(w[i], x, carry)
		}
	}
}

// shifted gives hi:lo << n for n below 64.
func shifted(hi, lo uint64, n uint) [3]uint64 {
	return [3]uint64{lo << n, hi<<n | lo>>(64-n), hi >> (64 - n)} // a shift by 64 gives 0
}

// split gives f as ±m × 2^e. Bits of m that are 0 at its end are only dropped where that brings e into the window.
func split(f float64) (m uint64, e int, negative bool) {
	b := math.Float64bits(f)
	m, e = b&(1<<52-1), int(b>>52&0x7ff)
	if e == 0 {
		e = 1
	} else {
		m |= 1 << 52
	}
	e -= 1075
	if e < -fraction && m != 0 {
		z := bits.TrailingZeros64(m)
		m, e = m>>z, e+z
	}
	return m, e, b>>63 == 1
}

// inWindow tells whether m × 2^e goes to the window.
func inWindow(m uint64, e int) bool { return e >= -fraction && e+bits.Len64(m) <= 64 }

// addFloat adds a float to a sum; it is not done for one outside of the window.
func addFloat(w []uint64, f float64) bool {
	m, e, negative := split(f)
	if !inWindow(m, e) {
		return m == 0
	}
	n := uint(e + fraction)
	addAt(w, int(n/64), shifted(0, m, n%64), negative)
	return true
}

// addSquare adds the square of what addFloat would add.
func addSquare(w []uint64, f float64) bool {
	m, e, _ := split(f)
	if !inWindow(m, e) {
		return m == 0
	}
	hi, lo := bits.Mul64(m, m)
	n := uint(2 * (e + fraction))
	addAt(w, int(n/64), shifted(hi, lo, n%64), false)
	return true
}

func addInt(w []uint64, v int64) { addAt(w, fraction/64, [3]uint64{magnitude(v)}, v < 0) }

func addIntSquare(w []uint64, v int64) {
	hi, lo := bits.Mul64(magnitude(v), magnitude(v))
	addAt(w, 2*fraction/64, [3]uint64{lo, hi}, false)
}

func magnitude(v int64) uint64 {
	if v < 0 {
		return -uint64(v)
	}
	return uint64(v)
}

// bigOf gives the number that words hold as an integer.
func bigOf(w []uint64) *big.Int {
	negative := w[len(w)-1]>>63 == 1
	b := make([]byte, 8*len(w))
	for i, x := range w {
		if negative {
			x = ^x
		}
		binary.BigEndian.PutUint64(b[8*(len(w)-1-i):], x)
	}
	v := new(big.Int).SetBytes(b)
	if negative {
		v.Not(v)
	}
	return v
}

// far is what lies outside of the windows: sums of values, and of their squares, in units of 2^-1074 and of 2^-2148.
type far struct{ sum, squares big.Int }

func (p *far) add(f float64, square bool) {
	m, e, negative := split(f)
	v := new(big.Int).SetUint64(m)
	v.Lsh(v, uint(e+bigScale))
	if square {
		p.squares.Add(&p.squares, new(big.Int).Mul(v, v))
	}
	if negative {
		v.Neg(v)
	}
	p.sum.Add(&p.sum, v)
}

func (p *far) merge(o part) {
	x := o.(*far)
	p.sum.Add(&p.sum, &x.sum)
	p.squares.Add(&p.squares, &x.squares)
}

func (p *far) size() int { return 64 + 8*(len(p.sum.Bits())+len(p.squares.Bits())) }

func (p *far) append(dst []byte) []byte { return appendBig(appendBig(dst, &p.sum), &p.squares) }

func (p *far) decode(b []byte) (rest []byte, ok bool) {
	if b, ok = decodeBig(b, &p.sum); ok {
		b, ok = decodeBig(b, &p.squares)
	}
	return b, ok && p.squares.Sign() >= 0
}

func appendBig(dst []byte, v *big.Int) []byte {
	sign := byte(v.Sign() + 1)
	b := v.Bytes()
	dst = binary.AppendUvarint(append(dst, sign), uint64(len(b)))
	return append(dst, b...)
}

// decodeBig bounds what it reads: 2^63 of the largest squares have 4160 bits.
func decodeBig(b []byte, v *big.Int) (rest []byte, ok bool) {
	if len(b) < 2 || b[0] > 2 {
		return b, false
	}
	n, size := binary.Uvarint(b[1:])
	if size <= 0 || n > 1024 || n > uint64(len(b)-1-size) {
		return b, false
	}
	at := 1 + size
	v.SetBytes(b[at : at+int(n)])
	if b[0] == 0 {
		v.Neg(v)
	}
	return b[at+int(n):], true
}

// exactSum gives a sum as an integer in units of 2^-unit.
func exactSum(w []uint64, p *far) (sum *big.Int, unit int) {
	sum = bigOf(w)
	if p == nil {
		return sum, fraction
	}
	sum.Lsh(sum, bigScale-fraction)
	return sum.Add(sum, &p.sum), bigScale
}

func exactSquares(w []uint64, p *far) (sum *big.Int, unit int) {
	sum = bigOf(w)
	if p == nil {
		return sum, 2 * fraction
	}
	sum.Lsh(sum, 2*(bigScale-fraction))
	return sum.Add(sum, &p.squares), 2 * bigScale
}

// rounded gives v × 2^-unit ÷ n as the nearest float64, which may be infinite.
func rounded(v *big.Int, unit int, n uint64) float64 {
	if n == 1 {
		x := new(big.Float).SetInt(v) // exact: of as many bits as v has
		f, _ := x.SetMantExp(x, -unit).Float64()
		return f
	}
	d := new(big.Int).SetUint64(n)
	f, _ := new(big.Rat).SetFrac(v, d.Lsh(d, uint(unit))).Float64()
	return f
}

// nearest gives a sum in the window divided by n as the nearest float64, without making integers of it. It is not ok
// where the quotient has too few bits in the window.
func nearest(w []uint64, n uint64) (f float64, ok bool) {
	var m [sumWords]uint64
	copy(m[:], w)
	negative := m[sumWords-1]>>63 == 1
	if negative {
		carry := uint64(1)
		for i := range m {
			m[i], carry = bits.Add64(^m[i], 0, carry)
		}
	}
	var rest uint64 // not 0 where there is anything below the bits that are looked at
	if n > 1 {
		for i, x := range slices.Backward(m[:]) {
			m[i], rest = bits.Div64(rest, x, n)
		}
	}
	top := sumWords - 1
	for top > 0 && m[top] == 0 {
		top--
	}
	if top == 0 && rest != 0 {
		return 0, false
	}
	if m[top] == 0 {
		return 0, true
	}
	zeros := uint(bits.LeadingZeros64(m[top]))
	x := m[top] << zeros
	if top > 0 {
		x |= m[top-1] >> (64 - zeros)
		rest |= m[top-1] << zeros
	}
	for i := top - 2; i >= 0; i-- {
		rest |= m[i]
	}
	if rest != 0 {
		x |= 1 // below what is rounded away: it only has to be there
	}
	// x has 64 bits, of which 53 stay; halves go to the even one.
	kept, lost := x>>11, x&(1<<11-1)
	if lost > 1<<10 || lost == 1<<10 && kept&1 == 1 {
		kept++
	}
	f = math.Ldexp(float64(kept), 64*top-int(zeros)+11-fraction)
	if negative {
		f = -f
	}
	return f, true
}

// deviation gives the standard deviation of a sample of n > 1 values, rounded once from more than 400 bits.
func deviation(w []uint64, p *far, n uint64) float64 {
	sum, unit := exactSum(w[:sumWords], p)
	squares, _ := exactSquares(w[sumWords:sumWords+squareWords], p)
	count := new(big.Int).SetUint64(n)
	squares.Mul(squares, count).Sub(squares, sum.Mul(sum, sum)) // n Σx² − (Σx)², exact
	if squares.Sign() <= 0 {
		return 0
	}
	x := new(big.Float).SetPrec(512).SetInt(squares)
	x.Quo(x, new(big.Float).SetInt(count.Mul(count, new(big.Int).SetUint64(n-1))))
	x.SetMantExp(x, -2*unit)
	f, _ := x.Sqrt(x).Float64()
	return f
}
