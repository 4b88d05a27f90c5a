package rows

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"math"
	"strconv"
	"time"

	"github.com/apache/arrow/go/v15/parquet/metadata"
)

// boundMax is the longest text or bytes that stands in statistics: longer
// ones are left out, since some engines take a bound for a value of the column.
const boundMax = 512

// bounds is the smallest and largest of the values that were seen.
type bounds struct {
	seen           bool
	minInt, maxInt int64 // bool, int, timestamp, date
	minF, maxF     float64
	minD, maxD     decimal
	minB, maxB     []byte // up to boundMax+1 bytes: enough to compare, and to know that it is too long
}

// plain takes in n values in plain encoding (a bool is a byte).
func (b *bounds) plain(n *node, values []byte) {
	switch n.form {
	case formBool:
		for _, v := range values {
			b.int(int64(v))
		}
	case formDate:
		for ; len(values) > 0; values = values[4:] {
			b.int(int64(int32(binary.LittleEndian.Uint32(values))))
		}
	case formInt, formTimestamp:
		b.ints(values)
	case formFloat:
		b.floats(values)
	case formDecimal:
		w := n.width()
		for ; len(values) > 0; values = values[w:] {
			b.decimal(decimalOf(values[:w]))
		}
	default:
		for len(values) > 0 {
			end := 4 + int(binary.LittleEndian.Uint32(values))
			b.bytes(values[4:end])
			values = values[end:]
		}
	}
}

func (b *bounds) int(v int64) {
	if !b.seen {
		b.minInt, b.maxInt, b.seen = v, v, true
		return
	}
	b.minInt, b.maxInt = min(b.minInt, v), max(b.maxInt, v)
}

func (b *bounds) ints(values []byte) {
	if len(values) == 0 {
		return
	}
	b.int(int64(binary.LittleEndian.Uint64(values)))
	lo, hi := b.minInt, b.maxInt
	for ; len(values) >= 8; values = values[8:] {
		v := int64(binary.LittleEndian.Uint64(values))
		lo, hi = min(lo, v), max(hi, v)
	}
	b.minInt, b.maxInt = lo, hi
}

func (b *bounds) floats(values []byte) {
	if len(values) == 0 {
		return
	}
	if v := math.Float64frombits(binary.LittleEndian.Uint64(values)); !b.seen {
		b.minF, b.maxF, b.seen = v, v, true
	}
	lo, hi := b.minF, b.maxF
	for ; len(values) >= 8; values = values[8:] {
		v := math.Float64frombits(binary.LittleEndian.Uint64(values))
		if v < lo {
			lo = v
		}
		if v > hi {
			hi = v
		}
	}
	b.minF, b.maxF = lo, hi
}

func (b *bounds) decimal(v decimal) {
	if !b.seen {
		b.minD, b.maxD, b.seen = v, v, true
		return
	}
	if v.less(b.minD) {
		b.minD = v
	}
	if b.maxD.less(v) {
		b.maxD = v
	}
}

func (b *bounds) bytes(v []byte) {
	v = v[:min(len(v), boundMax+1)]
	if !b.seen {
		// Not nil even if empty: nil is no bound.
		b.minB, b.maxB, b.seen = append([]byte{}, v...), append([]byte{}, v...), true
		return
	}
	if bytes.Compare(v, b.minB) < 0 {
		b.minB = append(b.minB[:0], v...)
	} else if bytes.Compare(v, b.maxB) > 0 {
		b.maxB = append(b.maxB[:0], v...)
	}
}

// merge takes in what another has seen.
func (b *bounds) merge(n *node, o *bounds) {
	switch {
	case !o.seen:
	case !b.seen:
		*b = *o
		b.minB, b.maxB = bytes.Clone(o.minB), bytes.Clone(o.maxB) // the row group's own are in the footer, too
	default:
		switch n.form {
		case formFloat:
			b.minF, b.maxF = min(b.minF, o.minF), max(b.maxF, o.maxF)
		case formDecimal:
			b.decimal(o.minD)
			b.decimal(o.maxD)
		case formString, formBytes, formJSON:
			b.bytes(o.minB)
			b.bytes(o.maxB)
		default:
			b.int(o.minInt)
			b.int(o.maxInt)
		}
	}
}

// encoded gives the statistics of a chunk as the file has them.
func (b *bounds) encoded(n *node, nulls int64) metadata.EncodedStatistics {
	s := metadata.EncodedStatistics{HasNullCount: true, NullCount: nulls}
	if !b.seen {
		return s
	}
	switch n.form {
	case formBool:
		s.Min, s.Max, s.Signed = []byte{byte(b.minInt)}, []byte{byte(b.maxInt)}, true
	case formDate:
		s.Min, s.Max, s.Signed = le32(b.minInt), le32(b.maxInt), true
	case formInt, formTimestamp:
		s.Min, s.Max, s.Signed = le64(uint64(b.minInt)), le64(uint64(b.maxInt)), true
	case formFloat:
		// The two zeros are equal but not the same: a bound covers both.
		lo, hi := b.minF, b.maxF
		if lo == 0 {
			lo = math.Copysign(0, -1)
		}
		if hi == 0 {
			hi = 0
		}
		s.Min, s.Max, s.Signed = le64(math.Float64bits(lo)), le64(math.Float64bits(hi)), true
	case formDecimal:
		s.Min, s.Max = b.minD.append(nil, n.width()), b.maxD.append(nil, n.width())
	default:
		s.Min, s.Max = b.minB, b.maxB
		s.HasMin, s.HasMax = len(b.minB) <= boundMax, len(b.maxB) <= boundMax
		return s
	}
	s.HasMin, s.HasMax = true, true
	return s
}

func le32(v int64) []byte  { return binary.LittleEndian.AppendUint32(nil, uint32(int32(v))) }
func le64(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }

// text gives the bounds as an event has such values: numbers in digits, times in
// RFC 3339, bytes in base64.
func (b *bounds) text(n *node) (lo, hi *string) {
	if !b.seen {
		return nil, nil
	}
	ints := func(f func(int64) string) (*string, *string) {
		lo, hi := f(b.minInt), f(b.maxInt)
		return &lo, &hi
	}
	byteses := func(f func([]byte) string) (lo, hi *string) {
		if len(b.minB) <= boundMax {
			s := f(b.minB)
			lo = &s
		}
		if len(b.maxB) <= boundMax {
			s := f(b.maxB)
			hi = &s
		}
		return lo, hi
	}
	switch n.form {
	case formBool:
		return ints(func(v int64) string { return strconv.FormatBool(v != 0) })
	case formInt:
		return ints(func(v int64) string { return strconv.FormatInt(v, 10) })
	case formTimestamp:
		return ints(func(v int64) string { return time.UnixMicro(v).UTC().Format(time.RFC3339Nano) })
	case formDate:
		return ints(func(v int64) string { return time.Unix(v*secondsPerDay, 0).UTC().Format(time.DateOnly) })
	case formFloat:
		l, h := strconv.FormatFloat(b.minF, 'g', -1, 64), strconv.FormatFloat(b.maxF, 'g', -1, 64)
		return &l, &h
	case formDecimal:
		l, h := b.minD.text(n.scale), b.maxD.text(n.scale)
		return &l, &h
	case formBytes:
		return byteses(base64.StdEncoding.EncodeToString)
	}
	return byteses(func(b []byte) string { return string(b) })
}
