package json

import "bytes"

// shortString is up to where a string is searched byte by byte before the
// vectorised search takes over.
const shortString = 16

// skipString gives the position after the closing quote of a string whose
// first byte is doc[i]; the contents are not checked.
func skipString(doc []byte, i int) int {
	for n := 0; n < shortString && i < len(doc); n++ {
		switch doc[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
		i++
	}
	for i < len(doc) {
		q := bytes.IndexByte(doc[i:], '"')
		if q < 0 {
			break
		}
		// An odd number of backslashes before the quote escapes it. Those
		// before i have been read as pairs already.
		n := 0
		for q-1-n >= 0 && doc[i+q-1-n] == '\\' {
			n++
		}
		i += q + 1
		if n%2 == 0 {
			return i
		}
	}
	return fail(len(doc), errEnd)
}

// skipValue gives where the value at doc[i] begins and ends.
// Of strings, numbers and words only so much is checked as is needed to find the end.
func skipValue(doc []byte, i, depth int) (start, end int) {
	i = space(doc, i)
	if i >= len(doc) {
		return i, fail(i, errEnd)
	}
	switch c := doc[i]; c {
	case '"':
		return i, skipString(doc, i+1)
	case '{':
		return i, skipNested(doc, i, depth)
	case '[':
		return i, skipNested(doc, i, depth)
	case 't', 'f', 'n':
		end, _ = checkWord(doc, i)
		return i, end
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		j := i + 1
		for j < len(doc) && (isDigit(doc[j]) || doc[j] == '.' || doc[j]|0x20 == 'e' || doc[j] == '+' || doc[j] == '-') {
			j++
		}
		return i, j
	}
	return i, fail(i, errValue)
}

// skipNested gives the position after the list or object that begins at
// doc[i], within depth others.
func skipNested(doc []byte, i, depth int) int {
	outer := depth
	for i < len(doc) {
		switch doc[i] {
		case '"':
			if i = skipString(doc, i+1); i < 0 {
				return i
			}
			continue
		case '{', '[':
			if depth++; depth > MaxDepth {
				return fail(i, errDepth)
			}
		case '}', ']':
			if depth--; depth == outer {
				return i + 1
			}
		}
		i++
	}
	return fail(i, errEnd)
}
