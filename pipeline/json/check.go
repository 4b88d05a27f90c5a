package json

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// special marks the bytes of w at which a string needs a look: quotes,
// backslashes, control characters, bytes above ASCII. The lowest mark is
// exact; those above it may be false, since subtraction borrows. Quotes and control
// characters are found together: with bit 1 flipped they are what is below 0x21.
func special(w uint64) uint64 {
	quote := (w ^ ones*2) - ones*0x21
	slash := (w ^ ones*'\\') - ones
	return (quote | slash | w) & highs
}

// checkString checks a string whose first byte after the quote is doc[i]. It
// gives the position after the closing quote and whether there are escapes.
func checkString(doc []byte, i int) (end int, escaped bool) {
	for {
		for i+16 <= len(doc) {
			w := doc[i : i+16]
			a, b := special(binary.LittleEndian.Uint64(w)), special(binary.LittleEndian.Uint64(w[8:]))
			if a|b == 0 {
				i += 16
				continue
			}
			if a == 0 {
				a = b
				i += 8
			}
			i += bits.TrailingZeros64(a) >> 3
			goto found
		}
		for i+8 <= len(doc) {
			if m := special(binary.LittleEndian.Uint64(doc[i:])); m != 0 {
				i += bits.TrailingZeros64(m) >> 3
				break
			}
			i += 8
		}
		if i >= len(doc) {
			return fail(len(doc), errEnd), false
		}
	found:
		switch c := doc[i]; {
		case c == '"':
			return i + 1, escaped
		case c == '\\':
			escaped = true
			if i = checkEscape(doc, i); i < 0 {
				return i, false
			}
		case c < 0x20:
			return fail(i, errControl), false
		case c < utf8.RuneSelf:
			i++ // near the end of the document
		default:
			if i = checkRunes(doc, i); i < 0 {
				return i, false
			}
		}
	}
}

// checkRunes checks a stretch of bytes above ASCII.
func checkRunes(doc []byte, i int) int {
	for i < len(doc) && doc[i] >= utf8.RuneSelf {
		// The most frequent form, two bytes, without a call.
		if c := doc[i]; c >= 0xC2 && c <= 0xDF && i+1 < len(doc) && doc[i+1]&0xC0 == 0x80 {
			i += 2
			continue
		}
		r, n := utf8.DecodeRune(doc[i:])
		if r == utf8.RuneError && n <= 1 {
			return fail(i, errUTF8)
		}
		i += n
	}
	return i
}

// checkEscape checks the escape that begins at doc[i].
func checkEscape(doc []byte, i int) int {
	if i+1 >= len(doc) {
		return fail(len(doc), errEnd)
	}
	switch doc[i+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 2
	case 'u':
		if i+6 > len(doc) {
			return fail(len(doc), errEnd)
		}
		for _, c := range doc[i+2 : i+6] {
			if hexValue[c] < 0 {
				return fail(i, errEscape)
			}
		}
		return i + 6
	}
	return fail(i, errEscape)
}

var hexValue = func() (t [256]int8) {
	for i := range t {
		t[i] = -1
	}
	for i, c := range "0123456789" {
		t[c] = int8(i)
	}
	for i := range 6 {
		t['a'+i], t['A'+i] = int8(10+i), int8(10+i)
	}
	return t
}()

func isDigit(c byte) bool { return c-'0' <= 9 }

// checkNumber checks the number that begins at doc[i]. It gives the position
// after it and whether it has a fraction or an exponent.
func checkNumber(doc []byte, i int) (end int, fraction bool) {
	start := i
	if doc[i] == '-' {
		i++
	}
	switch {
	case i >= len(doc):
		return fail(i, errEnd), false
	case doc[i] == '0':
		i++
	case isDigit(doc[i]):
		for i++; i < len(doc) && isDigit(doc[i]); i++ {
		}
	default:
		return fail(start, errNumber), false
	}
	if i >= len(doc) || doc[i] > 'e' || doc[i] == ',' {
		return i, false
	}
	if doc[i] == '.' {
		fraction = true
		first := i + 1
		for i = first; i < len(doc) && isDigit(doc[i]); i++ {
		}
		if i == first {
			return fail(start, errNumber), false
		}
	}
	if i < len(doc) && doc[i]|0x20 == 'e' {
		fraction = true
		i++
		if i < len(doc) && (doc[i] == '+' || doc[i] == '-') {
			i++
		}
		first := i
		for ; i < len(doc) && isDigit(doc[i]); i++ {
		}
		if i == first {
			return fail(start, errNumber), false
		}
	}
	if i < len(doc) && isDigit(doc[i]) { // 01
		return fail(start, errNumber), false
	}
	return i, fraction
}

// checkWord checks true, false or null.
func checkWord(doc []byte, i int) (end int, k Kind) {
	rest := doc[i:]
	switch {
	case len(rest) >= 4 && string(rest[:4]) == "true":
		return i + 4, True
	case len(rest) >= 4 && string(rest[:4]) == "null":
		return i + 4, Null
	case len(rest) >= 5 && string(rest[:5]) == "false":
		return i + 5, False
	}
	return fail(i, errValue), Missing
}

// space gives the first position from i on that is not white space.
func space(doc []byte, i int) int {
	for i < len(doc) && (doc[i] == ' ' || doc[i] == '\n' || doc[i] == '\t' || doc[i] == '\r') {
		i++
	}
	return i
}

// checkValue checks the value at doc[i], white space before it allowed, and
// gives what it is and where: the position after it is end.
func checkValue(doc []byte, i, depth int) (start, end int, k Kind, marked bool) {
	for {
		if i >= len(doc) {
			return i, fail(i, errEnd), Missing, false
		}
		switch c := doc[i]; c {
		case '"':
			end, marked = checkString(doc, i+1)
			return i, end, String, marked
		case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
			end, marked = checkNumber(doc, i)
			return i, end, Number, marked
		case '{':
			return i, checkObject(doc, i+1, depth+1), Object, false
		case '[':
			return i, checkArray(doc, i+1, depth+1), Array, false
		case ' ', '\t', '\n', '\r':
			i++
		default:
			end, k = checkWord(doc, i)
			return i, end, k, false
		}
	}
}

// checkObject checks an object from after its opening brace on.
func checkObject(doc []byte, i, depth int) int {
	if depth > MaxDepth {
		return fail(i-1, errDepth)
	}
	i = space(doc, i)
	if i < len(doc) && doc[i] == '}' {
		return i + 1
	}
	for {
		i = space(doc, i)
		if i >= len(doc) {
			return fail(i, errEnd)
		}
		if doc[i] != '"' {
			return fail(i, errKey)
		}
		if i, _ = checkString(doc, i+1); i < 0 {
			return i
		}
		if i = colon(doc, i); i < 0 {
			return i
		}
		if _, i, _, _ = checkValue(doc, i, depth); i < 0 {
			return i
		}
		i = space(doc, i)
		if i >= len(doc) {
			return fail(i, errEnd)
		}
		switch doc[i] {
		case ',':
			i++
		case '}':
			return i + 1
		default:
			return fail(i, errComma)
		}
	}
}

// checkArray checks a list from after its opening bracket on.
func checkArray(doc []byte, i, depth int) int {
	if depth > MaxDepth {
		return fail(i-1, errDepth)
	}
	i = space(doc, i)
	if i < len(doc) && doc[i] == ']' {
		return i + 1
	}
	for {
		if _, i, _, _ = checkValue(doc, i, depth); i < 0 {
			return i
		}
		i = space(doc, i)
		if i >= len(doc) {
			return fail(i, errEnd)
		}
		switch doc[i] {
		case ',':
			i++
		case ']':
			return i + 1
		default:
			return fail(i, errComma)
		}
	}
}

// colon gives the position after the colon, which white space may precede.
func colon(doc []byte, i int) int {
	i = space(doc, i)
	if i >= len(doc) {
		return fail(i, errEnd)
	}
	if doc[i] != ':' {
		return fail(i, errColon)
	}
	return i + 1
}

// Check tells whether doc is one valid JSON value of any kind.
func Check(doc []byte) error {
	if len(doc) > MaxBytes {
		return &SyntaxError{what: errTooLarge}
	}
	_, end, _, _ := checkValue(doc, 0, 0)
	if end >= 0 {
		if end = space(doc, end); end < len(doc) {
			end = fail(end, errTrailing)
		}
	}
	if end < 0 {
		at, what := problemOf(end)
		return &SyntaxError{Offset: at, what: what}
	}
	return nil
}
