package eval

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/bits"
	"slices"

	"keystone/dsl/ir"
	"keystone/dsl/types"
	"keystone/pipeline/json"
)

// EncodingVersion is that of the encoding of values which AppendValue writes. It is part of the format of a job's
// state: keys and accumulators hold values in it.
//
// An encoded value ends itself, and two of them have equal bytes exactly if the language's == says that the
// values are equal. The first byte says what follows:
//
//	00         the end of a list or object
//	01         nil
//	02, 03     false, true
//	04         a string: its length as a uvarint, its UTF-8 with escapes decoded
//	05         bytes: their length as a uvarint, themselves
//	06         a time: seconds since 1970 UTC as an int64 whose sign bit is turned over, nanoseconds as a uint32
//	07         a number that no int64 is equal to: a float64, its bits turned over if it is negative, else its sign bit
//	08         a list: its elements, 00
//	09         an object: its members ordered by the bytes of their names, of equal names the last one: 0A, the name
//	           like a string, the value; after them 00
//	18 to 28   a number that an int64 is equal to, 1 as well as 1.0 and 1e0: 20 is zero, 20 + n a positive
//	           one of n bytes, 20 - n a negative one, whose two's complement ends with the n bytes
//
// Numbers are big-endian. The order of the bytes is that of the
// values among ints, among times and among floats.
const EncodingVersion = 1

const (
	codeEnd    = 0x00
	codeNil    = 0x01
	codeFalse  = 0x02
	codeTrue   = 0x03
	codeString = 0x04
	codeBytes  = 0x05
	codeTime   = 0x06
	codeFloat  = 0x07
	codeList   = 0x08
	codeObject = 0x09
	codeName   = 0x0A
	codeZero   = 0x20
	codeMinInt = codeZero - 8
	codeMaxInt = codeZero + 8
)

// maxEncoded bounds the nesting of what is decoded; a multiple of 64 above maxNesting.
const maxEncoded = 1024

// maxNesting is how deep an encoded value may be nested: as JSON, with a few levels around it, it can be read again.
const maxNesting = json.MaxDepth - 10

// encoder has the memory of what is being encoded.
type encoder struct {
	members []memberSpan // of objects under way: a stack
	flat    []byte       // members of one object, in their order
}

// memberSpan is where a member of an object stands in what is appended to.
type memberSpan struct{ start, name, value, end int }

// encoded compiles a node for AppendValue.
func (c *compiler) encoded(n *ir.Node) outF {
	switch n.Op {
	case ir.Field:
		if f := c.encodedField(n); f != nil {
			return f
		}
	case ir.Neg, ir.Add, ir.Sub, ir.Mul, ir.Div, ir.Mod, ir.Pow:
		if n.Type.Kind != types.Decimal {
			return c.encodedNumber(n)
		}
	}
	f, t, st := c.val(n), n.Type, c.site(n)
	return func(m *machine, dst []byte) ([]byte, bool) {
		v := f(m)
		if t.Kind == types.Decimal && !m.fits(v, t, st) {
			return dst, false
		}
		return m.appendEncoded(dst, v, 0, st)
	}
}

func (c *compiler) encodedNumber(n *ir.Node) outF {
	f, st := c.num(n), c.site(n)
	return func(m *machine, dst []byte) ([]byte, bool) {
		switch x := f(m); x.k {
		case numInt:
			return AppendIntValue(dst, x.i), true
		case numFloat:
			return AppendFloatValue(dst, x.f), true
		default:
			return m.appendEncoded(dst, m.valueOf(x), 0, st)
		}
	}
}

// encodedField encodes a field of text or a number straight from its slot.
func (c *compiler) encodedField(n *ir.Node) outF {
	k := n.Type.Kind
	if k != types.Any && k != types.String && k != types.Int && k != types.Float {
		return nil
	}
	id, rest := c.path(n.Path)
	if rest != nil {
		return nil
	}
	slow, st := c.val(n), c.site(n)
	return func(m *machine, dst []byte) ([]byte, bool) {
		s := &m.slots[id]
		switch {
		case s.Marked:
		case s.Kind == json.String && (k == types.Any || k == types.String):
			return AppendStringValue(dst, m.doc[s.Start+1:s.End-1]), true
		case s.Kind == json.Number && k != types.String && s.End-s.Start < 16: // a float64 holds 15 digits exactly
			return AppendIntValue(dst, smallInt(m.doc[s.Start:s.End])), true
		}
		return m.appendEncoded(dst, slow(m), 0, st)
	}
}

// fits refuses a number that does not fit a decimal, as the output does.
func (m *machine) fits(v value, t types.Type, st *site) bool {
	if !v.isNumber() || m.numOf(v, st).k == numErr {
		return v.k != kErr && !v.isNumber()
	}
	at := len(m.scratch)
	var ok bool
	m.scratch, ok = m.appendNumber(m.scratch, v, t, st)
	m.scratch = m.scratch[:at]
	return ok
}

// appendEncoded appends a value in the encoding. It is not ok where the value is an error.
func (m *machine) appendEncoded(dst []byte, v value, depth int, st *site) ([]byte, bool) {
	switch v.k {
	case kNil:
		return append(dst, codeNil), true
	case kBool:
		return append(dst, codeFalse+byte(v.n)), true
	case kInt:
		return AppendIntValue(dst, v.n), true
	case kFloat:
		x := m.numOf(v, st)
		return AppendFloatValue(dst, x.f), x.k != numErr
	case kString:
		if v.aux&escaped == 0 {
			return AppendStringValue(dst, v.s), true
		}
		return AppendStringValue(dst, m.text(v)), true
	case kBytes:
		dst = binary.AppendUvarint(append(dst, codeBytes), uint64(len(v.s)))
		return append(dst, v.s...), true
	case kTime:
		return AppendTimeValue(dst, v.n, uint32(v.aux)), true
	case kList, kObject:
		if v.s != nil {
			dst, _ = m.encodeRaw(dst, v.s, 0, depth, st)
			return dst, dst != nil
		}
		return m.encodeMade(dst, v, depth+1, st)
	}
	return dst, false
}

// encodeMade encodes a list or object that an expression made.
func (m *machine) encodeMade(dst []byte, v value, depth int, st *site) ([]byte, bool) {
	if depth > maxNesting {
		return dst, m.tooDeep(st)
	}
	var ok bool
	if v.k == kList {
		dst = append(dst, codeList)
		for _, e := range v.l {
			if dst, ok = m.appendEncoded(dst, e, depth, st); !ok {
				return dst, false
			}
		}
		return append(dst, codeEnd), true
	}
	dst = append(dst, codeObject)
	first := len(m.enc.members)
	for i := 0; i < len(v.l); i += 2 {
		span := memberSpan{start: len(dst)}
		dst = appendName(dst, v.l[i].s, &span)
		if dst, ok = m.appendEncoded(dst, v.l[i+1], depth, st); !ok {
			return dst, false
		}
		span.end = len(dst)
		m.enc.members = append(m.enc.members, span)
	}
	return append(m.enc.order(dst, first), codeEnd), true
}

func (m *machine) tooDeep(st *site) bool {
	m.fail(st, ir.CodeLimit, "Lists and objects are nested too deep here to be kept.")
	return false
}

func appendName(dst, name []byte, span *memberSpan) []byte {
	dst = binary.AppendUvarint(append(dst, codeName), uint64(len(name)))
	span.name = len(dst)
	dst = append(dst, name...)
	span.value = len(dst)
	return dst
}

// encodeRaw encodes the JSON value at raw[i], which has been checked, in one pass, and gives the position after it; nil
// if it has no value in the language.
func (m *machine) encodeRaw(dst, raw []byte, i, depth int, st *site) ([]byte, int) {
	i = blank(raw, i)
	c := raw[i]
	if c != '{' && c != '[' {
		end := json.End(raw, i)
		at := len(m.buf)
		dst, ok := m.appendEncoded(dst, fromRaw(raw[i:end:end]), depth, st)
		m.buf = m.buf[:at]
		if !ok {
			return nil, end
		}
		return dst, end
	}
	if depth++; depth > maxNesting {
		m.tooDeep(st)
		return nil, i
	}
	i = blank(raw, i+1)
	if c == '[' {
		dst = append(dst, codeList)
		for raw[i] != ']' {
			if dst, i = m.encodeRaw(dst, raw, i, depth, st); dst == nil {
				return nil, i
			}
			if i = blank(raw, i); raw[i] == ',' {
				i = blank(raw, i+1)
			}
		}
		return append(dst, codeEnd), i + 1
	}
	dst = append(dst, codeObject)
	first := len(m.enc.members)
	for raw[i] != '}' {
		end := json.End(raw, i)
		name := raw[i+1 : end-1]
		span := memberSpan{start: len(dst)}
		if bytes.IndexByte(name, '\\') >= 0 {
			m.enc.flat = json.Unescape(m.enc.flat[:0], name)
			name = m.enc.flat
		}
		dst = appendName(dst, name, &span)
		i = blank(raw, blank(raw, end)+1) // after the colon
		if dst, i = m.encodeRaw(dst, raw, i, depth, st); dst == nil {
			return nil, i
		}
		span.end = len(dst)
		m.enc.members = append(m.enc.members, span)
		if i = blank(raw, i); raw[i] == ',' {
			i = blank(raw, i+1)
		}
	}
	return append(m.enc.order(dst, first), codeEnd), i + 1
}

func blank(raw []byte, i int) int {
	for raw[i] <= ' ' {
		i++
	}
	return i
}

// order puts the members from the first on, which end dst, into the order of their names, each name once with its last value.
func (e *encoder) order(dst []byte, first int) []byte {
	l := e.members[first:]
	e.members = e.members[:first]
	name := func(s memberSpan) []byte { return dst[s.name:s.value] }
	sorted := true
	for i := 1; i < len(l) && sorted; i++ {
		sorted = bytes.Compare(name(l[i-1]), name(l[i])) < 0
	}
	if sorted {
		return dst
	}
	start := l[0].start
	slices.SortFunc(l, func(a, b memberSpan) int {
		if o := bytes.Compare(name(a), name(b)); o != 0 {
			return o
		}
		return a.start - b.start
	})
	e.flat = e.flat[:0]
	for i, s := range l {
		if i+1 == len(l) || !bytes.Equal(name(s), name(l[i+1])) {
			e.flat = append(e.flat, dst[s.start:s.end]...)
		}
	}
	return append(dst[:start], e.flat...)
}

// AppendNilValue appends an encoded nil.
func AppendNilValue(dst []byte) []byte { return append(dst, codeNil) }

// AppendBoolValue appends an encoded bool.
func AppendBoolValue(dst []byte, b bool) []byte {
	if b {
		return append(dst, codeTrue)
	}
	return append(dst, codeFalse)
}

// AppendIntValue appends an encoded int.
func AppendIntValue(dst []byte, i int64) []byte {
	u := uint64(i ^ i>>63) // of a negative one the complement
	n := (bits.Len64(u) + 7) / 8
	switch {
	case i == 0:
		return append(dst, codeZero)
	case i < 0:
		if n == 0 { // -1
			n = 1
		}
		dst = append(dst, codeZero-byte(n))
		u = ^u
	default:
		dst = append(dst, codeZero+byte(n))
	}
	for n--; n >= 0; n-- {
		dst = append(dst, byte(u>>(8*n)))
	}
	return dst
}

// AppendFloatValue appends an encoded float, which must be finite.
func AppendFloatValue(dst []byte, f float64) []byte {
	if f >= -1<<63 && f < 1<<63 {
		if i := int64(f); float64(i) == f {
			return AppendIntValue(dst, i)
		}
	}
	b := math.Float64bits(f)
	if b>>63 == 1 {
		b = ^b
	} else {
		b |= 1 << 63
	}
	return binary.BigEndian.AppendUint64(append(dst, codeFloat), b)
}

// AppendTimeValue appends an encoded time: seconds since 1970 UTC, and nanoseconds.
func AppendTimeValue(dst []byte, sec int64, nanos uint32) []byte {
	dst = binary.BigEndian.AppendUint64(append(dst, codeTime), uint64(sec)^1<<63)
	return binary.BigEndian.AppendUint32(dst, nanos)
}

// AppendStringValue appends an encoded string, which must be UTF-8.
func AppendStringValue(dst, s []byte) []byte {
	if len(s) < 0x80 {
		dst = append(dst, codeString, byte(len(s)))
	} else {
		dst = binary.AppendUvarint(append(dst, codeString), uint64(len(s)))
	}
	return append(dst, s...)
}

// begin forgets what an error left, and memory that is much.
func (e *encoder) begin() {
	e.members = e.members[:0]
	if cap(e.flat) > keepText {
		e.flat = nil
	}
	if cap(e.members) > keepValues {
		e.members = nil
	}
}
