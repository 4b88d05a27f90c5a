package state

import (
	"bytes"

	"github.com/cockroachdb/pebble/v2"
)

// Batch is a set of changes; later ones win. It belongs to one goroutine at a time.
type Batch struct {
	s         *Store
	b         *pebble.Batch
	err       error // the first change that cannot be made
	committed bool  // the library's batch cannot be used again
}

// NewBatch makes an empty batch.
func (s *Store) NewBatch() *Batch { return &Batch{s: s, b: s.db.NewBatch()} }

// room tells whether more fits: beyond, the batch is refused by Commit and keeps nothing more.
func (b *Batch) room(n int) bool {
	if b.err == nil && b.b.Len()+n > MaxBatch {
		b.err = ErrTooLarge
	}
	return b.err == nil
}

func (b *Batch) note(err error) {
	if b.err == nil {
		b.err = err
	}
}

func own(key []byte) bool { return bytes.Compare(key, ownKeys) >= 0 }

// Set gives a key a value. Both are copied.
func (b *Batch) Set(key, value []byte) {
	if own(key) {
		b.note(ErrReserved)
	}
	if b.room(len(key) + len(value)) {
		b.note(b.b.Set(key, value, nil))
	}
}

// Delete takes a key away; that there is none is no error.
func (b *Batch) Delete(key []byte) {
	if own(key) {
		b.note(ErrReserved)
	}
	if b.room(len(key)) {
		b.note(b.b.Delete(key, nil))
	}
}

// DeleteRange takes away the keys from lo to before hi, also those that were set before in the batch.
func (b *Batch) DeleteRange(lo, hi []byte) {
	if bytes.Compare(lo, hi) >= 0 {
		return
	}
	if bytes.Compare(hi, ownKeys) > 0 {
		b.note(ErrReserved)
	}
	if b.room(len(lo) + len(hi)) {
		b.note(b.b.DeleteRange(lo, hi, nil))
	}
}

// Append adds the changes of another batch behind those of b. other keeps them.
func (b *Batch) Append(other *Batch) {
	b.note(other.err)
	if !other.Empty() && b.room(other.Size()) {
		b.note(b.b.Apply(other.b, nil))
	}
}

// Size is what the batch takes in bytes.
func (b *Batch) Size() int { return b.b.Len() }

// Empty tells whether there are no changes.
func (b *Batch) Empty() bool { return b.b.Empty() }

// Reset takes all changes out.
func (b *Batch) Reset() {
	b.err = nil
	if b.committed {
		b.Close()
		b.b, b.committed = b.s.db.NewBatch(), false
		return
	}
	b.b.Reset()
}

// Close frees the batch's memory; it cannot be used any more.
func (b *Batch) Close() { _ = b.b.Close() } // its error is that it was closed before
