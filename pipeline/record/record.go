// Package record has what moves through a pipeline: records in batches, and
// the positions that say where reading goes on. It is a leaf.
package record

// Header is one header of a record. Keys may repeat.
type Header struct {
	Key   string
	Value []byte
}

// Record is one event as it was read or as it will be written. Its slices
// point into memory of its batch, and live as long as the batch does.
type Record struct {
	Offset    int64 // of this record in its partition (a file: its first byte)
	Timestamp int64 // milliseconds since 1970 UTC; 0 if the source has none
	Key       []byte
	Value     []byte // nil is a null value (a tombstone), empty is not
	Headers   []Header
	Source    int32    // in an output batch: index of the record it came from
	Derived   [][]byte // in an output batch: values of the sink's expressions and patterns, in the order of its options; nil is nil
}

// Position says where to go on reading one partition.
type Position struct {
	Partition   int32  `json:"partition"`
	Offset      int64  `json:"offset"`          // the next one to read
	LeaderEpoch int32  `json:"epoch,omitempty"` // Kafka; -1 unknown
	Identity    string `json:"id,omitempty"`    // of what the offset counts in: a Kafka topic id, a file's identity
	Name        string `json:"name,omitempty"`  // topic or path, for people
}

// Batch is consecutive records of one partition. It has one owner at a time;
// whoever holds it may change it, and nobody keeps its slices after giving it away.
type Batch struct {
	Topic     string // topic or path
	Partition int32
	Records   []Record
	Next      Position // where to go on after this batch, past gaps and control records
	Bytes     int      // of keys, values and headers, for budgets
	Buf       []byte   // memory that records point into; reused by Reset
	release   func(*Batch)
}

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	clear(b.Records)
	b.Records, b.Buf, b.Bytes = b.Records[:0], b.Buf[:0], 0
	b.Topic, b.Partition, b.Next = "", 0, Position{}
}

// OnRelease sets what Release calls; nil for nothing.
func (b *Batch) OnRelease(f func(*Batch)) { b.release = f }

// Release gives the batch back to where it came from. The caller must not
// touch it afterwards.
func (b *Batch) Release() {
	if b.release != nil {
		b.release(b)
	}
}
