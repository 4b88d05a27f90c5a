// Package commit makes an epoch of a job final: its state and the rows that it writes, in one commit of the store, and
// then the rows where they belong.
package commit

import (
	"context"
	"errors"
	"log/slog"

	"keystone/pipeline/record"
	"keystone/pipeline/state"
)

// Out is one row that a job writes.
type Out struct {
	Writer  int // in Options.Writers
	Key     []byte
	Value   []byte // nil is a tombstone
	Headers []record.Header
	Time    int64    // milliseconds since 1970
	Derived [][]byte // values of the sink's expressions and patterns, as in record.Record
	// ID is the same for the same row, also in a later generation, and for a row that replaces it: the operator, the
	// key and the window. nil if the row has none; it is then known by its place in the epoch.
	ID []byte
}

// Writer is an operator that writes, by its stable name, and the Target that takes its rows.
type Writer struct {
	Name   string // "write.totals"
	Target string // Target.Name
}

// Target takes the rows of one or more writers: all streams of one cluster, or one sink.
type Target struct {
	Name      string // stable: "kafka.main"
	Publisher Publisher
}

// Options say what a Committer works with.
type Options struct {
	Store   *state.Store
	Writers []Writer
	Targets []Target
	// ChunkBytes is how much of a target's rows is published at once at most. 0: 8 MiB.
	ChunkBytes int
	// Behind is how many epochs may be committed and not yet published; Commit waits at that. 0: 4.
	Behind int
	Log    *slog.Logger
}

// Epoch is what Commit makes final.
type Epoch struct {
	E     state.Epoch
	Batch *state.Batch // nil: no change of state. It is the committer's until Commit returns.
	Meta  []byte
	Out   []Out // in the order in which each writer's rows are written; the caller's again when Commit returns
}

// Chunk is a part of an epoch's rows for one target, published all or nothing where the target can.
type Chunk struct {
	Epoch state.Epoch
	Index int   // of this chunk in the epoch, from 0
	Last  bool  // the epoch has no more for this target
	First int64 // number of the first row, counted from 0 since the generation began
	Rows  []Out
}

// Publisher brings rows to one target. Its methods are called one at a time.
type Publisher interface {
	// Recover fences an earlier process of the job and tells the last chunk that is published: its epoch and index.
	// The zero Epoch means that nothing is, or that the target cannot tell: chunks that are given again are
	// then repeats that it takes without harm, or at least once.
	Recover(ctx context.Context) (state.Epoch, int, error)
	// Publish writes a chunk and its marker. After an error nobody knows whether it took effect: Recover is called before it is tried again.
	Publish(ctx context.Context, c *Chunk) error
	Close(ctx context.Context) error
}

// ErrBehind is a store that ends before what was published of it: it was lost in part, or put back from a copy.
var ErrBehind = errors.New("the job's state is older than what it has published")

// ErrFenced is a job whose rows, or whose checkpoints, somebody else has gone on with.
var ErrFenced = errors.New("another process has gone on with the job")
