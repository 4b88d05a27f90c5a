// Package record has what moves through a pipeline: records in batches, and
// the positions that say where reading goes on. It is a leaf.
package record

import "time"

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
	Child     int32    // in an output batch: which of the outputs of that record it is, from 0; with Batch.Next.Identity, Batch.Partition and Offset it names the output for ever
	Bad       Defect   // set by a source that could not give the record whole; Value then holds what it kept
	Derived   [][]byte // in an output batch: values of the sink's expressions and patterns, in the order of its options; nil is nil
}

// Defect says why a source could not give a record whole. Such a record still
// has its offset and is an evaluation error with the code that String gives;
// it is never skipped silently. A tombstone is not a defect.
type Defect uint8

// The defects.
const (
	Whole    Defect = iota
	TooLarge        // longer than the source's or the route's bound; Value is a prefix, or empty but not nil
	Corrupt         // could not be decompressed or decoded from its container
)

// String gives the code of the evaluation error; "" for a whole record.
func (d Defect) String() string {
	switch d {
	case Whole:
		return ""
	case TooLarge:
		return "too_large"
	}
	return "corrupt"
}

// Position says where to go on reading one partition.
type Position struct {
	Partition   int32  `json:"partition"`
	Offset      int64  `json:"offset"`            // the next one to read
	LeaderEpoch int32  `json:"epoch,omitempty"`   // Kafka; -1 unknown
	Identity    string `json:"id,omitempty"`      // of what the offset counts in: a Kafka topic id, a file's identity
	Cluster     string `json:"cluster,omitempty"` // Kafka: id of the cluster that Identity is of
	Name        string `json:"name,omitempty"`    // topic or path, for people
}

// Batch is consecutive records of one partition. It has one owner at a time;
// whoever holds it may change it, and nobody keeps its slices after giving it away.
type Batch struct {
	Topic      string // topic or path
	Partition  int32
	Records    []Record
	Next       Position // where to go on after this batch, past gaps and control records
	Bytes      int      // of keys, values and headers, for budgets
	Buf        []byte   // memory that records point into; reused by Reset
	HeaderBuf  []Header // memory that Headers of records point into; reused by Reset
	DerivedBuf [][]byte // memory that Derived of records point into; reused by Reset

	// Revision is set in an output batch: of the goal whose program made it.
	Revision int64
	// Loose is set in an output batch that is part of no order: see sinks.Ordered.
	Loose bool

	Want    Want // what the reader of a source asks for; kept by Reset
	release func(*Batch)
}

// Want is what one Source.Read should take at most and how long it may wait
// for more; the zero value of a field leaves it to the source. A source may
// give less, and more only where a single record or fetch is larger.
type Want struct {
	Records int
	Bytes   int
	Linger  time.Duration
}

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	clear(b.Records)
	b.Records, b.Buf, b.Bytes = b.Records[:0], b.Buf[:0], 0
	clear(b.HeaderBuf)
	clear(b.DerivedBuf)
	b.HeaderBuf, b.DerivedBuf = b.HeaderBuf[:0], b.DerivedBuf[:0]
	b.Topic, b.Partition, b.Next, b.Revision, b.Loose = "", 0, Position{}, 0, false
}

// Of makes b a part of another batch: it takes over where o's records came
// from, and none of the records.
func (b *Batch) Of(o *Batch) {
	b.Topic, b.Partition, b.Next, b.Revision = o.Topic, o.Partition, o.Next, o.Revision
}

// OnRelease sets what Release calls; nil for nothing. A source that lends
// memory sets it in Read. When f calls OnRelease(nil) it has taken back what it lent and
// the batch stays with the one who released it; otherwise the batch is f's to keep.
func (b *Batch) OnRelease(f func(*Batch)) { b.release = f }

// Lent tells whether OnRelease set something: after Release the batch belongs to that.
func (b *Batch) Lent() bool { return b.release != nil }

// Release gives the batch back to where it came from. The caller must not
// touch it afterwards.
func (b *Batch) Release() {
	if b.release != nil {
		b.release(b)
	}
}
