package eval

import "keystone/dsl/types"

// fitsDecimal tells whether a number in JSON's form, rounded to the scale of
// a decimal type, has no more digits than the type.
func fitsDecimal(text []byte, t types.Type) bool {
	return wholeDigits(text, t.Scale) <= t.Precision-t.Scale
}

// wholeDigits counts the digits before the point of a number that is rounded
// to a scale, halves away from zero. It reads the text itself: a float64 cannot tell
// 38 nines from 1e38.
func wholeDigits(text []byte, scale int) int {
	d := digitsOf(text)
	if d.first < 0 {
		return 0
	}
	whole := d.whole // digits before the point; not above 0 for a fraction
	if keep := whole + scale; keep >= 0 && d.roundsUp(text, keep) {
		whole++
	}
	return max(whole, 0)
}

// digits is where the digits of a number stand in its text, from the first one that is
// not 0, and how many of them (or zeros after them) are before the point.
type digits struct {
	first, end int // in the text, where the point may be among them; first is -1 for zero
	whole      int // below 0: as many zeros follow the point
}

// hugeExponent stands for all that are larger: no decimal has as many digits.
const hugeExponent = 1 << 20

func digitsOf(text []byte) digits {
	d := digits{first: -1, end: len(text)}
	point := false
	for i, c := range text {
		switch {
		case c == '-':
		case c == '.':
			point = true
		case c == 'e' || c == 'E':
			d.end = i
			d.whole += exponent(text[i+1:])
			return d
		case d.first < 0 && c == '0':
			if point {
				d.whole--
			}
		default:
			if d.first < 0 {
				d.first = i
			}
			if !point {
				d.whole++
			}
		}
	}
	return d
}

// exponent reads what stands after the e of a number, up to ±hugeExponent.
func exponent(text []byte) int {
	n, sign := 0, 1
	for _, c := range text {
		switch {
		case c == '-':
			sign = -1
		case c != '+':
			n = min(n*10+int(c-'0'), hugeExponent)
		}
	}
	return sign * n
}

// roundsUp tells whether rounding to the first n digits gives one digit more.
func (d digits) roundsUp(text []byte, n int) bool {
	for _, c := range text[d.first:d.end] {
		switch {
		case c == '.':
			continue
		case n == 0:
			return c >= '5'
		case c != '9':
			return false
		}
		n--
	}
	return false
}
