package agg

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"keystone/dsl/eval"
)

// Format is that of states, their first byte. Behind it each call has what it keeps; encoded values in them are of
// eval.EncodingVersion.
const Format = 1

// maxCount bounds how often a state says that something was added; what is more was not written by one.
const maxCount = 1 << 62

// State is the aggregates of the rows of one key and window so far. One goroutine at a time.
type State struct {
	p     *Plan
	w     []uint64
	parts []part // nil until one is needed, as are those in it
	small [6]uint64
}

var errPayload = errors.New("a row's part does not fit the aggregates")

// New gives the state of no rows.
func (p *Plan) New() *State {
	s := &State{p: p}
	if p.words <= len(s.small) {
		s.w = s.small[:p.words]
	} else {
		s.w = make([]uint64, p.words)
	}
	return s
}

// Reset makes it the state of no rows.
func (s *State) Reset() {
	clear(s.w)
	s.parts = nil
}

// part gives what the call keeps, made if it is not there.
func (s *State) part(c *call) part {
	if s.parts == nil {
		s.parts = make([]part, s.p.parts)
	}
	if s.parts[c.part] == nil {
		s.parts[c.part] = s.p.newPart(c)
	}
	return s.parts[c.part]
}

// kept gives what the call keeps, nil if there is nothing.
func (s *State) kept(c *call) part {
	if s.parts == nil || c.part < 0 {
		return nil
	}
	return s.parts[c.part]
}

func (p *Plan) newPart(c *call) part {
	switch c.op {
	case opFirst:
		return &extreme{by: byFirst}
	case opLast:
		return &extreme{by: byLast}
	case opMin:
		return &extreme{by: byLeast}
	case opMax:
		return &extreme{by: byGreatest}
	case opAny:
		return &extreme{by: byBytes}
	case opDistinct:
		return &distinct{max: p.max, seed: p.seed}
	case opTopK:
		return &distinct{counted: true, max: p.max, seed: p.seed}
	case opApprox:
		return &approx{}
	case opCollect:
		return &collected{limit: c.limit, max: p.max.collectedBytes}
	case opPercentile:
		return &histogram{}
	}
	return &far{}
}

// Add adds a row by what Extract wrote of it. It keeps nothing of the payload. An error means that the payload is not
// one of this plan; the state means nothing then.
func (s *State) Add(payload []byte, at Order) error {
	for i := range s.p.calls {
		c := &s.p.calls[i]
		if c.op == opCount {
			s.w[c.word]++
			continue
		}
		if c.op == opSumInt || c.op == opAvgInt {
			if v, n := eval.IntOfValue(payload); n > 0 {
				s.w[c.word]++
				add128(s.w[c.word+1:c.word+3], v)
				payload = payload[n:]
				continue
			}
		}
		n := eval.SizeOfValue(payload)
		if n < 0 {
			return errPayload
		}
		v := payload[:n]
		payload = payload[n:]
		k := eval.KindOfValue(v)
		if k == eval.NilValue {
			continue
		}
		if !c.takes(k, v) {
			return errPayload
		}
		s.add(c, v, at)
	}
	if len(payload) > 0 {
		return errPayload
	}
	return nil
}

// add adds a value that the call takes.
func (s *State) add(c *call, v []byte, at Order) {
	w := s.w[c.word:]
	switch c.op {
	case opCountIf:
		w[0]++
	case opSumInt, opAvgInt: // how many, the sum
		n, _, _ := eval.NumberOfValue(v)
		w[0]++
		add128(w[1:3], n)
	case opSum, opAvg: // how many, how many that are no ints, the sum
		w[0]++
		n, f, isInt := eval.NumberOfValue(v)
		if isInt {
			addInt(w[2:2+sumWords], n)
			return
		}
		w[1]++
		if !addFloat(w[2:2+sumWords], f) {
			s.part(c).(*far).add(f, false)
		}
	case opStddev: // how many, the sum, the sum of squares
		w[0]++
		n, f, isInt := eval.NumberOfValue(v)
		if isInt {
			addInt(w[1:1+sumWords], n)
			addIntSquare(w[1+sumWords:1+sumWords+squareWords], n)
		} else if addFloat(w[1:1+sumWords], f) {
			addSquare(w[1+sumWords:1+sumWords+squareWords], f)
		} else {
			s.part(c).(*far).add(f, true)
		}
	case opMinNumber, opMaxNumber:
		extremeNumber(w, v, c.op == opMinNumber)
	case opMinTime, opMaxTime:
		sec, nanos := eval.TimeOfValue(v)
		extremeTime(w, sec, nanos, c.op == opMinTime)
	case opDistinct, opTopK:
		s.part(c).(*distinct).add(v, 1)
	case opApprox:
		n, _, _ := eval.NumberOfValue(v)
		s.part(c).(*approx).add(uint64(n))
	case opCollect:
		s.part(c).(*collected).add(at, v)
	case opPercentile:
		n, f, isInt := eval.NumberOfValue(v)
		if isInt {
			f = float64(n)
		}
		s.part(c).(*histogram).add(f)
	default:
		s.part(c).(*extreme).add(at, v)
	}
}

// The first word of an extreme number or time: whether there is one. The second is the int, the bits of the float, or
// seconds; nanoseconds are in the third.
const (
	wordNone = iota
	wordInt
	wordFloat
)

func extremeNumber(w []uint64, v []byte, least bool) {
	n, f, isInt := eval.NumberOfValue(v)
	if isInt && w[0] == wordInt {
		if old := int64(w[1]); n != old && (n < old) == least {
			w[1] = uint64(n)
		}
		return
	}
	if w[0] != wordNone {
		var old [9]byte
		if o := eval.CompareValues(v, appendNumber(old[:0], w)); o == 0 || (o < 0) != least {
			return
		}
	}
	if w[0], w[1] = wordInt, uint64(n); !isInt {
		w[0], w[1] = wordFloat, math.Float64bits(f)
	}
}

// appendNumber appends the number that extremeNumber keeps as an encoded value.
func appendNumber(dst []byte, w []uint64) []byte {
	if w[0] == wordInt {
		return eval.AppendIntValue(dst, int64(w[1]))
	}
	return eval.AppendFloatValue(dst, math.Float64frombits(w[1]))
}

func extremeTime(w []uint64, sec int64, nanos uint32, least bool) {
	if w[0] != wordNone {
		old := int64(w[1])
		if earlier := sec < old || sec == old && uint64(nanos) < w[2]; earlier != least {
			return
		}
	}
	w[0], w[1], w[2] = wordInt, uint64(sec), uint64(nanos)
}

// Merge adds the rows of another state of the same plan, which stays as it is.
func (s *State) Merge(o *State) {
	var buf [16]byte
	for i := range s.p.calls {
		c := &s.p.calls[i]
		w, x := s.w[c.word:], o.w[c.word:]
		switch c.op {
		case opCount, opCountIf:
			w[0] += x[0]
		case opSumInt, opAvgInt:
			w[0] += x[0]
			addWords(w[1:3], x[1:3])
		case opSum, opAvg:
			w[0] += x[0]
			w[1] += x[1]
			addWords(w[2:2+sumWords], x[2:2+sumWords])
		case opStddev:
			w[0] += x[0]
			addWords(w[1:1+sumWords], x[1:1+sumWords])
			addWords(w[1+sumWords:1+sumWords+squareWords], x[1+sumWords:1+sumWords+squareWords])
		case opMinNumber, opMaxNumber:
			if x[0] != wordNone {
				extremeNumber(w, appendNumber(buf[:0], x), c.op == opMinNumber)
			}
		case opMinTime, opMaxTime:
			if x[0] != wordNone {
				extremeTime(w, int64(x[1]), uint32(x[2]), c.op == opMinTime)
			}
		}
		if p := o.kept(c); p != nil {
			s.part(c).merge(p)
		}
	}
}

// Size gives about how many bytes of memory the state takes.
func (s *State) Size() int {
	n := 112
	if s.p.words > len(s.small) {
		n += 8 * s.p.words
	}
	for _, p := range s.parts {
		n += 16
		if p != nil {
			n += p.size()
		}
	}
	return n
}

// Append appends the state, to be kept.
func (s *State) Append(dst []byte) []byte {
	dst = append(dst, Format)
	for i := range s.p.calls {
		c := &s.p.calls[i]
		w := s.w[c.word:]
		switch c.op {
		case opCount, opCountIf:
			dst = binary.AppendUvarint(dst, w[0])
		case opSumInt, opAvgInt:
			dst = appendWords(binary.AppendUvarint(dst, w[0]), w[1:3])
		case opSum, opAvg:
			dst = binary.AppendUvarint(binary.AppendUvarint(dst, w[0]), w[1])
			dst = appendWords(dst, w[2:2+sumWords])
		case opStddev:
			dst = appendWords(binary.AppendUvarint(dst, w[0]), w[1:1+sumWords])
			dst = appendWords(dst, w[1+sumWords:1+sumWords+squareWords])
		case opMinNumber, opMaxNumber:
			if w[0] == wordNone {
				dst = eval.AppendNilValue(dst)
			} else {
				dst = appendNumber(dst, w)
			}
		case opMinTime, opMaxTime:
			if w[0] == wordNone {
				dst = eval.AppendNilValue(dst)
			} else {
				dst = eval.AppendTimeValue(dst, int64(w[1]), uint32(w[2]))
			}
		}
		if c.part < 0 {
			continue
		}
		if p := s.kept(c); p != nil {
			dst = p.append(append(dst, 1))
		} else {
			dst = append(dst, 0)
		}
	}
	return dst
}

// Decode sets the state to what Append wrote. With an error it is the state of no rows.
func (s *State) Decode(b []byte) error {
	s.Reset()
	if err := s.decode(b); err != nil {
		s.Reset()
		return err
	}
	return nil
}

func (s *State) decode(b []byte) error {
	if len(b) == 0 || b[0] != Format {
		return fmt.Errorf("the state of aggregates is not of format %d", Format)
	}
	b = b[1:]
	for i := range s.p.calls {
		c := &s.p.calls[i]
		var ok bool
		if b, ok = s.decodeWords(c, b); ok && c.part >= 0 {
			if ok = len(b) > 0 && b[0] <= 1; ok && b[0] == 1 {
				b, ok = s.part(c).decode(b[1:])
			} else if ok {
				b = b[1:]
			}
		}
		if !ok {
			return fmt.Errorf("the state of aggregates is damaged at %s", c.src.Func)
		}
	}
	if len(b) > 0 {
		return fmt.Errorf("the state of aggregates is damaged: %d bytes follow it", len(b))
	}
	return nil
}

func (s *State) decodeWords(c *call, b []byte) (rest []byte, ok bool) {
	w := s.w[c.word:]
	count := func(dst *uint64) bool {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > maxCount {
			return false
		}
		*dst, b = n, b[size:]
		return true
	}
	words := func(dst []uint64) bool {
		b, ok = decodeWords(b, dst)
		return ok
	}
	switch c.op {
	case opCount, opCountIf:
		ok = count(&w[0])
	case opSumInt, opAvgInt:
		ok = count(&w[0]) && words(w[1:3])
	case opSum, opAvg:
		ok = count(&w[0]) && count(&w[1]) && w[1] <= w[0] && words(w[2:2+sumWords])
	case opStddev:
		ok = count(&w[0]) && words(w[1:1+sumWords]) && words(w[1+sumWords:1+sumWords+squareWords])
	case opMinNumber, opMaxNumber, opMinTime, opMaxTime:
		n := eval.SizeOfValue(b)
		if n < 0 {
			return b, false
		}
		v := b[:n]
		b = b[n:]
		switch k := eval.KindOfValue(v); {
		case k == eval.NilValue:
			ok = true
		case !c.takes(k, v):
			return b, false
		default:
			s.add(c, v, Order{})
			ok = true
		}
	default:
		ok = true
	}
	return b, ok
}

// appendWords appends a number in two's complement: how many bytes, and those, the lowest first.
func appendWords(dst []byte, w []uint64) []byte {
	at := len(dst)
	dst = append(dst, 0)
	for _, x := range w {
		dst = binary.LittleEndian.AppendUint64(dst, x)
	}
	sign := byte(int8(dst[len(dst)-1]) >> 7)
	n := len(dst)
	for n > at+1 && dst[n-1] == sign && (n == at+2 && sign == 0 || n > at+2 && (dst[n-2]^sign) < 0x80) {
		n--
	}
	dst[at] = byte(n - at - 1)
	return dst[:n]
}

func decodeWords(b []byte, w []uint64) (rest []byte, ok bool) {
	if len(b) == 0 || int(b[0]) > 8*len(w) || len(b) <= int(b[0]) {
		return b, false
	}
	n := int(b[0])
	digits, rest := b[1:1+n], b[1+n:]
	sign := uint64(0)
	if n > 0 && digits[n-1] >= 0x80 {
		sign = math.MaxUint64
	}
	for i := range w {
		w[i] = sign
	}
	for i, d := range slices.Backward(digits) {
		w[i/8] = w[i/8]&^(0xff<<(i%8*8)) | uint64(d)<<(i%8*8)
	}
	return rest, true
}
