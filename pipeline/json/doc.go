// Package json finds fields in the raw bytes of JSON documents (RFC 8259).
//
// A Trie holds the paths that somebody wants; a Scanner goes over a document
// once and leaves, for each of them, where its value begins and ends. Nothing
// is decoded and nothing is allocated. By default the whole document is
// checked, used or not: syntax, escapes, numbers, UTF-8, nothing after the
// end. What is accepted is what RFC 8259 accepts, with these decisions where
// it leaves room:
//
//   - Repeated keys: the last one wins, with all that is below it.
//   - Keys are compared after their escapes are decoded.
//   - A lone surrogate (\ud800) is accepted, as the grammar allows; decoded, it is U+FFFD.
//   - Raw bytes that are not UTF-8 are refused, in keys and values alike; so is a byte order mark.
//   - Numbers of any size are accepted; NumberOf says what they are worth.
//   - Nesting deeper than MaxDepth, and documents over MaxBytes, are refused.
//
// It is a leaf: it imports nothing of Keystone's.
package json

import "strconv"

const (
	// MaxDepth is the deepest nesting of lists and objects that is accepted.
	MaxDepth = 1000
	// MaxBytes is the largest document that is accepted.
	MaxBytes = 1 << 30
)

// Kind is the form of a JSON value.
type Kind uint8

// The kinds. Missing is the kind of a path that the document does not have.
const (
	Missing Kind = iota
	Null
	False
	True
	Number
	String
	Array
	Object
)

var kindNames = [...]string{"nothing", "null", "a bool", "a bool", "a number", "a string", "a list", "an object"}

// String names the kind with its article, for messages.
func (k Kind) String() string { return kindNames[k] }

// Slot is where the value of a path is: doc[Start:End], quotes and brackets included.
type Slot struct {
	Start, End uint32
	Kind       Kind
	// Marked tells, of a String, that it has escapes; of a Number, that it
	// has a fraction or an exponent.
	Marked bool
}

// Raw gives the bytes of the value, nil if it is missing.
func (s Slot) Raw(doc []byte) []byte {
	if s.Kind == Missing {
		return nil
	}
	return doc[s.Start:s.End:s.End]
}

// problem is what is wrong with a document.
type problem int

const (
	errEnd problem = iota
	errNotObject
	errValue
	errKey
	errColon
	errComma
	errControl
	errEscape
	errUTF8
	errNumber
	errDepth
	errTrailing
	errTooLarge
)

var problems = [...]string{
	errEnd:       "the document ends too early",
	errNotObject: "the document is not a JSON object",
	errValue:     "a value was expected",
	errKey:       "a quoted key was expected",
	errColon:     "a colon was expected after the key",
	errComma:     "a comma or the closing bracket was expected",
	errControl:   "a control character stands in a string; it must be escaped",
	errEscape:    "an invalid escape in a string",
	errUTF8:      "a string is not valid UTF-8",
	errNumber:    "an invalid number",
	errDepth:     "lists and objects are nested deeper than " + strconv.Itoa(MaxDepth),
	errTrailing:  "there is something after the end of the document",
	errTooLarge:  "the document is larger than " + strconv.Itoa(MaxBytes) + " bytes",
}

// SyntaxError says why a document is not accepted.
type SyntaxError struct {
	Offset int // of the byte where it was noticed
	what   problem
}

// Error gives the reason and the byte.
func (e *SyntaxError) Error() string {
	return "invalid JSON at byte " + strconv.Itoa(e.Offset) + ": " + problems[e.what]
}

// Positions below zero carry an error: where and what.
func fail(at int, what problem) int { return -1 - (at<<4 | int(what)) }

func problemOf(pos int) (at int, what problem) {
	v := -1 - pos
	return v >> 4, problem(v & 15)
}
