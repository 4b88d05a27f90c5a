package json

import (
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
)

// What follows reads values that a Scanner or Check has accepted.

// End gives the position after the value that begins at doc[i].
func End(doc []byte, i int) int {
	_, end := skipValue(doc, i, 0)
	return end
}

// Trim gives a valid value without the white space around it.
func Trim(doc []byte) []byte {
	i := space(doc, 0)
	end := End(doc, i)
	return doc[i:end:end]
}

// KindOf gives the kind of a raw value from its first byte.
func KindOf(raw []byte) Kind {
	if len(raw) == 0 {
		return Missing
	}
	switch raw[0] {
	case '{':
		return Object
	case '[':
		return Array
	case '"':
		return String
	case 't':
		return True
	case 'f':
		return False
	case 'n':
		return Null
	}
	return Number
}

// Iter goes over the elements of a list or the members of an object.
//
//	for it := json.Over(raw); it.Next(); { it.Value … }
type Iter struct {
	Key     []byte // of a member: between the quotes, escapes not decoded
	Escaped bool   // whether Key has escapes
	Start   int    // of the value in raw
	Value   []byte // the raw value
	Begin   int    // of the element or member in raw, after the comma or bracket before it
	Stop    int    // of it: the comma or bracket after it

	raw    []byte
	at     int
	object bool
}

// Over goes over the raw list or object.
func Over(raw []byte) Iter { return Iter{raw: raw, at: 1, object: raw[0] == '{'} }

// Next moves on to the next one, if there is one.
func (it *Iter) Next() bool {
	i := space(it.raw, it.at)
	if c := it.raw[i]; c == ']' || c == '}' {
		it.at = i
		return false
	}
	it.Begin = it.at
	if it.object {
		end := skipString(it.raw, i+1)
		it.Key = it.raw[i+1 : end-1]
		it.Escaped = false
		for _, c := range it.Key {
			if c == '\\' {
				it.Escaped = true
				break
			}
		}
		i = colon(it.raw, end)
	}
	start, end := skipValue(it.raw, i, 0)
	it.Start, it.Value = start, it.raw[start:end:end]
	it.Stop = space(it.raw, end)
	it.at = it.Stop
	if it.raw[it.at] == ',' {
		it.at++
	}
	return true
}

// AppendKey appends the decoded key of the member.
func (it *Iter) AppendKey(dst []byte) []byte {
	if it.Escaped {
		return Unescape(dst, it.Key)
	}
	return append(dst, it.Key...)
}

// Unescape appends what stands between the quotes of a string, its escapes
// decoded. A lone surrogate becomes U+FFFD.
func Unescape(dst, s []byte) []byte {
	for i := 0; i < len(s); {
		if s[i] != '\\' {
			j := i + 1
			for j < len(s) && s[j] != '\\' {
				j++
			}
			dst = append(dst, s[i:j]...)
			i = j
			continue
		}
		switch c := s[i+1]; c {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r := hex4(s[i+2:])
			i += 6
			if utf16.IsSurrogate(r) {
				r2 := rune(-1)
				if i+6 <= len(s) && s[i] == '\\' && s[i+1] == 'u' {
					r2 = hex4(s[i+2:])
				}
				if r = utf16.DecodeRune(r, r2); r != utf8.RuneError {
					i += 6
				}
			}
			dst = utf8.AppendRune(dst, r)
			continue
		default:
			dst = append(dst, c)
		}
		i += 2
	}
	return dst
}

func hex4(s []byte) rune {
	return rune(hexValue[s[0]])<<12 | rune(hexValue[s[1]])<<8 | rune(hexValue[s[2]])<<4 | rune(hexValue[s[3]])
}

const hexDigits = "0123456789abcdef"

// AppendString appends s as a quoted JSON string. Bytes that are not UTF-8 become U+FFFD.
func AppendString(dst, s []byte) []byte {
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRune(s[i:])
			if r == utf8.RuneError && n <= 1 {
				dst = append(append(dst, s[from:i]...), "\ufffd"...)
				i++
				from = i
				continue
			}
			i += n
			continue
		}
		dst = append(dst, s[from:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\f':
			dst = append(dst, '\\', 'f')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		from = i
	}
	return append(append(dst, s[from:]...), '"')
}

// AppendFloat appends a finite number, the shortest text that reads back as
// the same float64: plain from 1e-6 up to 1e21, with an exponent beyond.
func AppendFloat(dst []byte, f float64) []byte {
	if a := math.Abs(f); a < 1e15 && f == math.Trunc(f) && (f != 0 || !math.Signbit(f)) {
		return strconv.AppendInt(dst, int64(f), 10)
	} else if a != 0 && (a < 1e-6 || a >= 1e21) {
		dst = strconv.AppendFloat(dst, f, 'e', -1, 64)
		if n := len(dst); n >= 4 && dst[n-4] == 'e' && dst[n-3] == '-' && dst[n-2] == '0' { // e-09 → e-9
			dst[n-2] = dst[n-1]
			dst = dst[:n-1]
		}
		return dst
	}
	return strconv.AppendFloat(dst, f, 'f', -1, 64)
}

// Num is the worth of a number: an int64 if it is written without fraction
// and exponent and fits, else the nearest float64.
type Num struct {
	Int     int64
	Float   float64
	IsFloat bool
}

var powersOfTen = [...]float64{1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22}

// NumberOf gives the worth of a raw number; !ok if it is beyond all float64.
func NumberOf(raw []byte) (n Num, ok bool) {
	if len(raw) <= 19 { // at most 18 digits and a sign
		if v, ok := shortInt(raw); ok {
			return Num{Int: v}, true
		}
		if f, ok := shortFloat(raw); ok {
			return Num{Float: f, IsFloat: true}, true
		}
	}
	return longNumber(raw)
}

func shortInt(raw []byte) (v int64, ok bool) {
	i := 0
	if raw[0] == '-' {
		i = 1
	}
	if len(raw)-i > 18 {
		return 0, false
	}
	for _, c := range raw[i:] {
		if !isDigit(c) {
			return 0, false
		}
		v = v*10 + int64(c-'0')
	}
	if i == 1 {
		v = -v
	}
	return v, true
}

// shortFloat reads a fraction of at most 15 digits: the quotient of two
// numbers that float64 holds exactly is correctly rounded.
func shortFloat(raw []byte) (float64, bool) {
	i, digits, after := 0, 0, -1
	var v int64
	if raw[0] == '-' {
		i = 1
	}
	for _, c := range raw[i:] {
		switch {
		case isDigit(c):
			v = v*10 + int64(c-'0')
			digits++
			if after >= 0 {
				after++
			}
		case c == '.':
			after = 0
		default:
			return 0, false
		}
	}
	if digits > 15 || after < 0 {
		return 0, false
	}
	f := float64(v) / powersOfTen[after]
	if i == 1 {
		f = -f
	}
	return f, true
}

func longNumber(raw []byte) (Num, bool) {
	if v, ok := longInt(raw); ok {
		return Num{Int: v}, true
	}
	s := unsafe.String(unsafe.SliceData(raw), len(raw)) // strconv does not keep it
	f, err := strconv.ParseFloat(s, 64)
	return Num{Float: f, IsFloat: true}, err == nil
}

// longInt reads 19 digits, as far as they fit.
func longInt(raw []byte) (int64, bool) {
	digits := raw
	if raw[0] == '-' {
		digits = raw[1:]
	}
	if len(digits) != 19 {
		return 0, false
	}
	v := uint64(0)
	for _, c := range digits {
		if !isDigit(c) {
			return 0, false
		}
		v = v*10 + uint64(c-'0')
	}
	if raw[0] == '-' {
		return -int64(v), v <= 1<<63
	}
	return int64(v), v < 1<<63
}
