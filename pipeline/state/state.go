// Package state keeps the state of a job: an ordered map from bytes to bytes that may be larger than memory,
// that changes by whole epochs, and of which every committed epoch survives the loss of power.
//
// Keys belong to who uses the store. Those of the engine begin with the id of an operator in two bytes; ids from
// Reserved on are not the engine's.
package state

import (
	"errors"
	"log/slog"
)

// Reserved is the first of the prefixes, two bytes each, that operators must not have.
const Reserved = 0xff00

// Options say how a store is opened.
type Options struct {
	// Job is the identity of the job, which stays when it gets another name. A directory is of one job.
	Job string
	// Generation is the one that a directory without state begins with, at least 1. Where the directory has
	// state of an earlier generation, epochs go on in this one: that is how a rewind is made. Less than the state's: ignored.
	Generation int64
	// Fingerprint is of the operators and their state, and is kept with each epoch.
	Fingerprint string
	// Memory is what caches and buffers take at most. 0: 64 MiB.
	Memory int64
	Log    *slog.Logger // nil: nothing is said
}

// The errors that are answers; errors of this package wrap them.
var (
	// ErrLocked is a directory that another process, or this one, has open.
	ErrLocked = errors.New("the state is in use")
	// ErrFormat is a directory that an older or newer Keystone wrote in a way that this one does not read.
	ErrFormat = errors.New("the state has another format")
	// ErrOtherJob is a directory that has another job's state.
	ErrOtherJob = errors.New("the state is another job's")
	// ErrStale is an epoch that is not after the last one.
	ErrStale = errors.New("the epoch is not after the last one")
	// ErrTooLarge is an epoch that changes more than MaxBatch.
	ErrTooLarge = errors.New("the epoch is too large")
)

// MaxBatch is how many bytes of keys and values one epoch may change.
const MaxBatch = 1 << 30

// Store is the state of one job. Get and Scan may be called at any time, from several goroutines, and see what was committed; one
// Commit is made at a time.
type Store struct{}

var errNotBuilt = errors.New("not built yet")

// Open opens a directory, which is made if need be, at the last committed epoch. It reads what it needs, not all.
func Open(dir string, o Options) (*Store, error) { return nil, errNotBuilt }

// Close gives the directory free. What was committed is there.
func (s *Store) Close() error { return errNotBuilt }

// Generation is the one that the next epochs are of.
func (s *Store) Generation() int64 { return 0 }

// Last gives the last committed epoch and what was committed with it; the zero Epoch if there is none.
func (s *Store) Last() (Epoch, []byte) { return Epoch{}, nil }

// Get gives the committed value of a key; v is the caller's.
func (s *Store) Get(key []byte) (v []byte, ok bool, err error) { return nil, false, errNotBuilt }

// Scan calls f for the committed keys from lo to before hi, in order; nil hi is the end. k and v are f's until it returns. An error of f ends it.
func (s *Store) Scan(lo, hi []byte, f func(k, v []byte) error) error { return errNotBuilt }

// Commit makes the changes of a batch and meta, all or nothing and durable when it returns, the state of an epoch, which must be
// after Last. An error other than ErrStale and ErrTooLarge leaves open whether it was committed: open the store anew. The
// batch can be used again after Reset.
func (s *Store) Commit(b *Batch, e Epoch, meta []byte) error { return errNotBuilt }

// Batch is a set of changes; later ones win. It belongs to one goroutine at a time.
type Batch struct{}

// NewBatch makes an empty batch.
func (s *Store) NewBatch() *Batch { return &Batch{} }

// Set gives a key a value. Both are copied.
func (b *Batch) Set(key, value []byte) {}

// Delete takes a key away; that there is none is no error.
func (b *Batch) Delete(key []byte) {}

// DeleteRange takes away the keys from lo to before hi.
func (b *Batch) DeleteRange(lo, hi []byte) {}

// Append adds the changes of another batch behind those of b. other keeps them.
func (b *Batch) Append(other *Batch) {}

// Size is what the batch takes in bytes.
func (b *Batch) Size() int { return 0 }

// Empty tells whether there are no changes.
func (b *Batch) Empty() bool { return true }

// Reset takes all changes out.
func (b *Batch) Reset() {}

// Close frees the batch's memory; it cannot be used any more.
func (b *Batch) Close() {}
