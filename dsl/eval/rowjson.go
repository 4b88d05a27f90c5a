package eval

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"math"
	"strconv"

	"keystone/dsl/types"
	"keystone/pipeline/json"
)

// JSONOfValue appends an encoded value as JSON in the form of the type, types.AnyType where none is declared: times in
// their form, decimals with at least the digits of their scale, the members of objects by name. It gives what follows
// the value in enc too. Where enc does not begin with a value, as SizeOfValue says, it appends null and gives nil.
func JSONOfValue(dst, enc []byte, t types.Type) (json, rest []byte) {
	n := SizeOfValue(enc)
	if n < 0 {
		return append(dst, "null"...), nil
	}
	dst, _ = jsonOf(dst, enc, 0, t)
	return dst, enc[n:]
}

// jsonOf appends the value at enc[i] and gives the position after it.
func jsonOf(dst, enc []byte, i int, t types.Type) ([]byte, int) {
	switch c := enc[i]; c {
	case codeNil:
		return append(dst, "null"...), i + 1
	case codeFalse, codeTrue:
		return strconv.AppendBool(dst, c == codeTrue), i + 1
	case codeString:
		s, end := lengthed(enc, i)
		return json.AppendString(dst, s), end
	case codeBytes:
		s, end := lengthed(enc, i)
		return append(base64.StdEncoding.AppendEncode(append(dst, '"'), s), '"'), end
	case codeTime:
		v := value{k: kTime, n: int64(binary.BigEndian.Uint64(enc[i+1:]) ^ 1<<63), aux: int32(binary.BigEndian.Uint32(enc[i+9:]))}
		if t.Kind == types.TimestampMs {
			dst, _ = appendTime(dst, v, t.Kind)
			return dst, i + 13
		}
		k := types.TimestampRFC3339
		if t.IsTime() {
			k = t.Kind
		}
		dst, _ = appendTime(append(dst, '"'), v, k)
		return append(dst, '"'), i + 13
	case codeFloat:
		return appendFloatOf(dst, floatAt(enc, i), t), i + 9
	case codeList:
		return jsonOfList(dst, enc, i, t)
	case codeObject:
		return jsonOfObject(dst, enc, i, t)
	}
	n, end := intAt(enc, i)
	if t.Kind == types.Float || t.Kind == types.Decimal {
		return appendFloatOf(dst, float64(n), t), end
	}
	return appendInt(dst, n), end
}

// appendFloatOf appends a float; a decimal has its scale, unless it would no longer be the same number.
func appendFloatOf(dst []byte, f float64, t types.Type) []byte {
	if t.Kind != types.Decimal {
		return json.AppendFloat(dst, f)
	}
	at := len(dst)
	dst = strconv.AppendFloat(dst, f, 'f', t.Scale, 64)
	if n, _ := json.NumberOf(dst[at:]); n.IsFloat && n.Float == f || !n.IsFloat && float64(n.Int) == f {
		return dst
	}
	return strconv.AppendFloat(dst[:at], f, 'f', -1, 64)
}

func jsonOfList(dst, enc []byte, i int, t types.Type) ([]byte, int) {
	elem := types.AnyType
	if t.Elem != nil {
		elem = within(*t.Elem)
	}
	dst = append(dst, '[')
	first := true
	for i++; enc[i] != codeEnd; first = false {
		if !first {
			dst = append(dst, ',')
		}
		dst, i = jsonOf(dst, enc, i, elem)
	}
	return append(dst, ']'), i + 1
}

func jsonOfObject(dst, enc []byte, i int, t types.Type) ([]byte, int) {
	dst = append(dst, '{')
	first := true
	for i++; enc[i] != codeEnd; first = false {
		if !first {
			dst = append(dst, ',')
		}
		name, end := lengthed(enc, i)
		dst = append(json.AppendString(dst, name), ':')
		dst, i = jsonOf(dst, enc, end, memberType(t, name))
	}
	return append(dst, '}'), i + 1
}

// memberType gives the type of a member of an object or map.
func memberType(t types.Type, name []byte) types.Type {
	if t.Kind == types.Map && t.Elem != nil {
		return within(*t.Elem)
	}
	if t.Kind == types.Object {
		for j := range t.Fields {
			if t.Fields[j].Name == string(name) {
				return within(t.Fields[j].Type)
			}
		}
	}
	return types.AnyType
}

// lengthed gives the bytes of a string, bytes or name at enc[i] and the position after them.
func lengthed(enc []byte, i int) ([]byte, int) {
	n, size := binary.Uvarint(enc[i+1:])
	from := i + 1 + size
	return enc[from : from+int(n)], from + int(n)
}

func floatAt(enc []byte, i int) float64 {
	b := binary.BigEndian.Uint64(enc[i+1:])
	if b>>63 == 1 {
		return math.Float64frombits(b &^ (1 << 63))
	}
	return math.Float64frombits(^b)
}

func intAt(enc []byte, i int) (int64, int) {
	n := int(enc[i]) - codeZero
	u := uint64(0)
	if n < 0 {
		n, u = -n, math.MaxUint64
	}
	for _, c := range enc[i+1 : i+1+n] {
		u = u<<8 | uint64(c)
	}
	return int64(u), i + 1 + n
}

// SizeOfValue gives the length of the encoded value that enc begins with, -1 if it does not begin with one.
func SizeOfValue(enc []byte) int {
	if len(enc) == 0 {
		return -1
	}
	if enc[0] != codeList && enc[0] != codeObject {
		return skipScalar(enc, 0)
	}
	return sizeNested(enc)
}

func sizeNested(enc []byte) int {
	i, depth := 0, 0
	var kinds [maxEncoded / 64]uint64 // by depth: whether it is an object
	for {
		object := depth > 0 && kinds[depth/64]>>(depth%64)&1 == 1
		if i >= len(enc) {
			return -1
		}
		if depth > 0 && enc[i] == codeEnd {
			i++
			depth--
		} else {
			if object {
				if enc[i] != codeName {
					return -1
				}
				if i = skipLengthed(enc, i); i < 0 || i >= len(enc) {
					return -1
				}
			}
			switch c := enc[i]; c {
			case codeList, codeObject:
				if depth++; depth == maxEncoded {
					return -1
				}
				kinds[depth/64] = kinds[depth/64]&^(1<<(depth%64)) | uint64(c-codeList)<<(depth%64)
				i++
			default:
				if i = skipScalar(enc, i); i < 0 {
					return -1
				}
			}
		}
		if depth == 0 {
			return i
		}
	}
}

func skipScalar(enc []byte, i int) int {
	end := -1
	switch c := enc[i]; {
	case c == codeNil || c == codeFalse || c == codeTrue:
		end = i + 1
	case c == codeString || c == codeBytes:
		return skipLengthed(enc, i)
	case c == codeTime:
		end = i + 13
		if end <= len(enc) && binary.BigEndian.Uint32(enc[i+9:]) >= 1e9 {
			return -1
		}
	case c == codeFloat:
		if end = i + 9; end <= len(enc) {
			if f := floatAt(enc, i); math.IsNaN(f) || math.IsInf(f, 0) {
				return -1
			}
		}
	case c >= codeMinInt && c <= codeMaxInt:
		end = i + 1 + max(int(c)-codeZero, codeZero-int(c))
		if end <= len(enc) && c != codeZero && (c > codeZero) != (enc[i+1] < 0x80) && (c == codeMinInt || c == codeMaxInt) {
			return -1 // beyond int64
		}
	}
	if end > len(enc) {
		return -1
	}
	return end
}

func skipLengthed(enc []byte, i int) int {
	n, size := binary.Uvarint(enc[i+1:])
	if size <= 0 || n > uint64(len(enc)-i-1-size) {
		return -1
	}
	return i + 1 + size + int(n)
}

// ValueKind is the kind of an encoded value, in the order in which CompareValues has them.
type ValueKind uint8

// The kinds.
const (
	NilValue ValueKind = iota
	BoolValue
	NumberValue
	StringValue
	TimeValue
	BytesValue
	ListValue
	ObjectValue
	NoValue // not an encoded value
)

var kindOfCode = func() (k [256]ValueKind) {
	for i := range k {
		k[i] = NoValue
	}
	for i := codeMinInt; i <= codeMaxInt; i++ {
		k[i] = NumberValue
	}
	k[codeNil], k[codeFalse], k[codeTrue] = NilValue, BoolValue, BoolValue
	k[codeString], k[codeBytes], k[codeTime], k[codeFloat] = StringValue, BytesValue, TimeValue, NumberValue
	k[codeList], k[codeObject] = ListValue, ObjectValue
	return k
}()

// KindOfValue gives the kind of the value that enc begins with, by its first byte.
func KindOfValue(enc []byte) ValueKind {
	if len(enc) == 0 {
		return NoValue
	}
	return kindOfCode[enc[0]]
}

// NumberOfValue gives an encoded number, as an int if an int64 is equal to it, else as a float.
func NumberOfValue(enc []byte) (i int64, f float64, isInt bool) {
	if enc[0] == codeFloat {
		return 0, floatAt(enc, 0), false
	}
	i, _ = intAt(enc, 0)
	return i, 0, true
}

// IntOfValue gives the int that enc begins with and the length of its encoding, which is 0 where enc begins with none.
func IntOfValue(enc []byte) (v int64, size int) {
	if len(enc) >= 9 && enc[0] > codeMinInt && enc[0] < codeMaxInt { // shorter than eight bytes: cut from eight
		x := binary.BigEndian.Uint64(enc[1:])
		if n := int(enc[0]) - codeZero; n >= 0 {
			return int64(x >> (64 - 8*n)), 1 + n // a shift by 64 gives 0
		} else {
			return int64(x>>(64+8*n) | ^uint64(0)<<(-8*n)), 1 - n
		}
	}
	if len(enc) == 0 || enc[0] < codeMinInt || enc[0] > codeMaxInt || skipScalar(enc, 0) < 0 {
		return 0, 0
	}
	return intAt(enc, 0)
}

// TimeOfValue gives an encoded time: seconds since 1970 UTC, and nanoseconds.
func TimeOfValue(enc []byte) (sec int64, nanos uint32) {
	return int64(binary.BigEndian.Uint64(enc[1:]) ^ 1<<63), binary.BigEndian.Uint32(enc[9:])
}

// TextOfValue gives the bytes of an encoded string or of encoded bytes.
func TextOfValue(enc []byte) []byte {
	s, _ := lengthed(enc, 0)
	return s
}

// CompareValues orders encoded values: by kind, then as the language does, bools with false first, lists and objects in
// an order that is fixed and means nothing. Only equal values compare as equal.
func CompareValues(a, b []byte) int {
	k := KindOfValue(a)
	if o := int(k) - int(KindOfValue(b)); o != 0 {
		return o
	}
	switch k {
	case NumberValue:
		i, f, isInt := NumberOfValue(a)
		j, g, isInt2 := NumberOfValue(b)
		switch {
		case isInt && isInt2:
			return order(i, j)
		case isInt:
			return compareIntFloat(i, g)
		case isInt2:
			return -compareIntFloat(j, f)
		}
		return order(f, g)
	case StringValue, BytesValue:
		return bytes.Compare(TextOfValue(a), TextOfValue(b))
	}
	return bytes.Compare(a, b)
}
