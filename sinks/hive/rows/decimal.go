package rows

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// decimal is an unscaled number in two's complement.
type decimal struct {
	hi int64
	lo uint64
}

func (a decimal) less(b decimal) bool { return a.hi < b.hi || a.hi == b.hi && a.lo < b.lo }

// append appends the n low bytes, most significant first.
func (a decimal) append(dst []byte, n int) []byte {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], uint64(a.hi))
	binary.BigEndian.PutUint64(b[8:], a.lo)
	return append(dst, b[16-n:]...)
}

// decimalOf reads what append wrote.
func decimalOf(b []byte) decimal {
	var full [16]byte
	if b[0]&0x80 != 0 {
		for i := range full {
			full[i] = 0xff
		}
	}
	copy(full[16-len(b):], b)
	return decimal{hi: int64(binary.BigEndian.Uint64(full[:])), lo: binary.BigEndian.Uint64(full[8:])}
}

// text gives the number with its point.
func (a decimal) text(scale int) string {
	hi, lo := uint64(a.hi), a.lo
	sign := ""
	if a.hi < 0 {
		sign = "-"
		var borrow uint64
		lo, borrow = bits.Sub64(0, lo, 0)
		hi, _ = bits.Sub64(0, hi, borrow)
	}
	var digits [40]byte
	at := len(digits)
	for n := 0; hi != 0 || lo != 0 || n <= scale; n++ {
		if n == scale && scale > 0 {
			at--
			digits[at] = '.'
		}
		var r uint64
		hi, r = hi/10, hi%10
		lo, r = bits.Div64(r, lo, 10)
		at--
		digits[at] = byte('0' + r)
	}
	return sign + string(digits[at:])
}

// decimalBytes is how many bytes hold all numbers of a precision.
func decimalBytes(precision int) int {
	return int(math.Ceil((float64(precision)*math.Log2(10) + 1) / 8))
}

// The two ways in which a number may not be a decimal of a type.
type decimalFault uint8

const (
	decimalFits decimalFault = iota
	decimalLarge
	decimalFine // it has digits behind the last one that is kept
)

// parseDecimal reads a JSON number exactly.
func parseDecimal(raw []byte, precision, scale int) (decimal, decimalFault) {
	i, negative := 0, false
	if raw[0] == '-' {
		i, negative = 1, true
	}
	if len(raw) <= 18 {
		if d, ok := shortDecimal(raw[i:], scale); ok && int64(d.lo) < powers[min(precision, 18)] {
			return d.signed(negative), decimalFits
		}
	}
	// The digits from the first that counts on, and where the point is among them.
	mantissa, exp := raw[i:], 0
	for j, c := range mantissa {
		if c|0x20 == 'e' {
			mantissa, exp = mantissa[:j], exponent(mantissa[j+1:])
			break
		}
	}
	behind := 0 // digits behind the point
	point := false
	digits := 0 // significant ones
	zeros := 0  // not yet taken: they count only if another digit follows
	var d decimal
	for _, c := range mantissa {
		if c == '.' {
			point = true
			continue
		}
		if point {
			behind++
		}
		if c == '0' {
			if digits > 0 {
				zeros++
			}
			continue
		}
		for ; zeros > 0; zeros-- {
			d = d.times10(0)
			digits++
		}
		d = d.times10(uint64(c - '0'))
		if digits++; digits > precision {
			return d, tooManyDigits(mantissa, exp, precision-scale)
		}
	}
	if digits == 0 {
		return decimal{}, decimalFits
	}
	// d × 10^(zeros - behind + exp) is the number; d × 10^shift is unscaled.
	shift := zeros - behind + exp + scale
	switch {
	case shift < 0:
		return d, decimalFine
	case digits+shift > precision:
		return d, decimalLarge
	}
	for ; shift > 0; shift-- {
		d = d.times10(0)
	}
	return d.signed(negative), decimalFits
}

// tooManyDigits tells of a number with more digits than there is room for whether it is
// those in front of the point that are too many.
func tooManyDigits(mantissa []byte, exp, room int) decimalFault {
	whole, point, seen := exp, false, false
	for _, c := range mantissa {
		switch {
		case c == '.':
			point = true
		case seen || c != '0':
			seen = true
			if !point {
				whole++
			}
		case point:
			whole--
		}
	}
	if whole > room {
		return decimalLarge
	}
	return decimalFine
}

// shortDecimal reads a number without an exponent and with at most scale digits behind its
// point, whose unscaled form has at most 18 digits.
func shortDecimal(raw []byte, scale int) (decimal, bool) {
	var v uint64
	digits, behind := 0, -1
	for _, c := range raw {
		switch {
		case c-'0' <= 9:
			v = v*10 + uint64(c-'0')
			digits++
			if behind >= 0 {
				behind++
			}
		case c == '.':
			behind = 0
		default:
			return decimal{}, false
		}
	}
	behind = max(behind, 0)
	if behind > scale || digits+scale-behind > 18 {
		return decimal{}, false
	}
	return decimal{lo: v * uint64(powers[scale-behind])}, true
}

var powers = func() (p [19]int64) {
	p[0] = 1
	for i := 1; i < len(p); i++ {
		p[i] = p[i-1] * 10
	}
	return p
}()

func (a decimal) times10(plus uint64) decimal {
	hi, lo := bits.Mul64(a.lo, 10)
	lo, carry := bits.Add64(lo, plus, 0)
	return decimal{hi: a.hi*10 + int64(hi+carry), lo: lo}
}

func (a decimal) signed(negative bool) decimal {
	if !negative {
		return a
	}
	lo, borrow := bits.Sub64(0, a.lo, 0)
	return decimal{hi: int64(0 - uint64(a.hi) - borrow), lo: lo}
}

// exponent reads what stands after the e of a number, up to a size beyond all decimals.
func exponent(text []byte) int {
	n, sign := 0, 1
	for _, c := range text {
		switch {
		case c == '-':
			sign = -1
		case c != '+':
			n = min(n*10+int(c-'0'), 1<<30)
		}
	}
	return sign * n
}
