// Package state keeps the state of a job: an ordered map from bytes to bytes that may be larger than memory,
// that changes by whole epochs, and of which every committed epoch survives the loss of power.
//
// Keys belong to who uses the store. Those of the engine begin with the id of an operator in two bytes; ids from
// Reserved on are not the engine's.
package state

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Reserved is the first of the prefixes, two bytes each, that operators must not have. The last of them are the store's own.
const Reserved = 0xff00

// Options say how a store is opened.
type Options struct {
	// Job is the identity of the job, which stays when it gets another name. A directory is of one job.
	Job string
	// Generation is the one that a directory without state begins with, at least 1. Where the directory has
	// state of an earlier generation, epochs go on in this one. Less than the state's: ignored.
	Generation int64
	// Fingerprint is of the operators and their state, and is kept with each epoch.
	Fingerprint string
	// Memory is what caches and buffers take at most. 0: 64 MiB.
	Memory int64
	Log    *slog.Logger // nil: nothing is said

	fs vfs.FS // nil: the operating system's
}

// The errors that are answers; errors of this package wrap them.
var (
	// ErrLocked is a directory that another process, or this one, has open.
	ErrLocked = errors.New("it is in use: another process, or this one, has it open")
	// ErrFormat is a directory that an older or newer Keystone wrote in a way that this one does not read.
	ErrFormat = errors.New("it has another format")
	// ErrOtherJob is a directory that has another job's state.
	ErrOtherJob = errors.New("it is another job's")
	// ErrStale is an epoch that is not after the last one.
	ErrStale = errors.New("the epoch is not after the last one")
	// ErrTooLarge is an epoch that changes more than MaxBatch.
	ErrTooLarge = errors.New("the epoch changes too much at once")
	// ErrReserved is a change of a key that belongs to the store.
	ErrReserved = errors.New("the key is the store's own")
)

// CorruptError is state that is not what was written.
type CorruptError struct {
	File string // that is damaged, or the folder where it is not known which
	Err  error
}

// Error names the file and a way out.
func (e *CorruptError) Error() string {
	why, _, _ := strings.Cut(e.Err.Error(), "\n") // the library's have more, for its makers
	return fmt.Sprintf("%s is damaged: %s; restore the job from a checkpoint", e.File, why)
}

// Unwrap gives the cause.
func (e *CorruptError) Unwrap() error { return e.Err }

// MaxBatch is how many bytes of keys and values one epoch may change. What an epoch changes is in memory before it is
// committed, so a smaller bound of the engine's comes first; this one keeps clear of what a batch can hold (4 GiB).
const MaxBatch = 1 << 30
