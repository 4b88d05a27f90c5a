// Package agg computes aggregates: the state of the calls of an aggregation for one key and window, which takes rows in
// any order, merges with other states, is kept as bytes, and becomes the fields of a row.
//
// Everything is commutative and associative: which rows were added decides the fields byte for byte, not in which
// order, in how many states that were merged, and how often a state was kept and read again. So are the errors.
package agg

import (
	"cmp"
	"encoding/binary"
)

// Tie decides between rows of one event time: what a record has in its source partition. Rows that an operator makes
// have a hash of their key there.
type Tie struct {
	Read      uint16 // number of the read
	Partition int32
	Offset    int64
	Child     int32 // of several rows of one record
}

// Order is where a row stands among all: by event time in milliseconds, then by Tie. Of rows with the same Order the
// bytes of the values decide.
type Order struct {
	Time int64
	Tie  Tie
}

// Compare orders rows.
func (a Order) Compare(b Order) int {
	if a.Time != b.Time {
		return cmp.Compare(a.Time, b.Time)
	}
	return a.Tie.Compare(b.Tie)
}

// Compare orders rows of one event time.
func (a Tie) Compare(b Tie) int {
	return cmp.Or(cmp.Compare(a.Read, b.Read), cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Child, b.Child))
}

// orderSize is the length of an encoded Order.
const orderSize = 26

// Append appends the order so that the bytes compare as the orders do.
func (a Order) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(a.Time)^1<<63)
	dst = binary.BigEndian.AppendUint16(dst, a.Tie.Read)
	dst = binary.BigEndian.AppendUint32(dst, uint32(a.Tie.Partition)^1<<31)
	dst = binary.BigEndian.AppendUint64(dst, uint64(a.Tie.Offset)^1<<63)
	return binary.BigEndian.AppendUint32(dst, uint32(a.Tie.Child)^1<<31)
}

// ReadOrder reads what Append wrote and gives what follows it; ok is false if b is too short.
func ReadOrder(b []byte) (a Order, rest []byte, ok bool) {
	if len(b) < orderSize {
		return a, b, false
	}
	a.Time = int64(binary.BigEndian.Uint64(b) ^ 1<<63)
	a.Tie.Read = binary.BigEndian.Uint16(b[8:])
	a.Tie.Partition = int32(binary.BigEndian.Uint32(b[10:]) ^ 1<<31)
	a.Tie.Offset = int64(binary.BigEndian.Uint64(b[14:]) ^ 1<<63)
	a.Tie.Child = int32(binary.BigEndian.Uint32(b[22:]) ^ 1<<31)
	return a, b[orderSize:], true
}
