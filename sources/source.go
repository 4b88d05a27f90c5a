// Package sources has the contract of everything that records are read from.
// Each kind lives in a folder of its own and is listed in sources/catalog.
package sources

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/dsl/types"
	"keystone/pipeline/record"
)

// Source reads an ordered, replayable stream, one partition at a time.
// Read is called from one goroutine; the others may run beside it.
type Source interface {
	// Open starts at from: one position per partition that has one; partitions
	// without start as the source is configured. A source with group
	// membership keeps its own positions and ignores from. l is told of
	// partitions before their first record is read.
	Open(ctx context.Context, from []record.Position, l Listener) error
	// Read fills b, which is empty, with records of one partition, or with
	// none when its linger passes. It returns io.EOF itself, not within another
	// error, at the end of a bounded source, with no records. The batch is the
	// caller's; memory behind it may be the source's until b.Release. An error that
	// is not Fatal is temporary, a connection's io.EOF too: the caller backs off and
	// calls again.
	Read(ctx context.Context, b *record.Batch) error
	// Commit stores positions so that a later Open goes on there. It returns
	// when they are durable. Positions of partitions that are not assigned
	// are left out, under the same lock as revocation; the error is then
	// ErrNotAssigned (the others are durable), so that nobody who commits before
	// writing takes them for committed.
	Commit(ctx context.Context, done []record.Position) error
	// Pause stops reading of partitions; their records stay where they are.
	Pause(parts []int32)
	// Resume ends Pause.
	Resume(parts []int32)
	// Close frees everything, also after a failed Open. It leaves the group.
	Close(ctx context.Context) error
}

// Listener hears which partitions this reader owns. The source calls it from
// its own goroutines or from Read, never two calls at a time, and without
// holding what Commit, Pause or Resume wait for: the listener may call them.
type Listener interface {
	// Assigned gives positions where reading begins.
	Assigned(parts []record.Position)
	// Revoked returns only when nothing of these partitions will be
	// committed any more, except by what it committed itself within ctx.
	Revoked(ctx context.Context, parts []int32)
	// Lost says that the partitions already belong to others: nothing is committed.
	Lost(parts []int32)
	// DataLoss says that records were removed before they were read:
	// reading goes on at to, from was expected. It is called within Read, which has
	// given everything before from, and gives what follows only after it: the position
	// moves to to even if nothing does.
	DataLoss(part int32, from, to int64)
}

// Transacted is a Source whose positions a transaction of a sink may store.
type Transacted interface {
	Source
	// Offsets gives what the transaction has to store for done to count, or
	// ErrNotAssigned if one of them is not assigned any more. It must be asked
	// anew for every transaction: what it gives is worth nothing after a change of the group.
	Offsets(done []record.Position) (record.GroupOffsets, error)
	// Rewind has every assigned partition read again from what is stored,
	// waiting for a transaction that is being decided: the listener hears
	// Assigned for each before Rewind returns.
	Rewind(ctx context.Context) error
	// Stored gives what is stored for the assigned partitions that have something stored,
	// waiting for a transaction that is being decided. It may be called while
	// the listener is told of a revocation: those partitions are still assigned.
	Stored(ctx context.Context) ([]record.Position, error)
}

// Joiner is a Source that shares its partitions with other readers of the same name. Joined is
// closed when they have taken this one among them, be it that it has no partition
// yet: from then on it gets what another gives up. It is asked after Open.
type Joiner interface {
	Source
	Joined() <-chan struct{}
}

// Lagger is a Source that knows how much is waiting.
type Lagger interface {
	// Lag gives, per assigned partition, the next offset to be written, or -1.
	// The answer may be a fetch old; it does no I/O.
	Ends() map[int32]int64
}

// ErrNotAssigned is wrapped by the error of a Commit that left out positions
// because their partitions are not assigned any more.
var ErrNotAssigned = errors.New("the partition is not assigned any more")

// Unreachable is a temporary error that says that nobody answers: the source
// is cut off, and since when.
type Unreachable struct {
	Err   error
	Since time.Time
}

// Error gives the cause.
func (u Unreachable) Error() string { return u.Err.Error() }

// Unwrap gives the cause.
func (u Unreachable) Unwrap() error { return u.Err }

// Fatal is an error that trying again does not mend (a missing file, refused
// credentials): the worker stops and says so.
type Fatal struct{ Err error }

// Error gives the cause.
func (f Fatal) Error() string { return f.Err.Error() }

// Unwrap gives the cause.
func (f Fatal) Unwrap() error { return f.Err }

// IsFatal tells whether err holds a Fatal.
func IsFatal(err error) bool { var f Fatal; return errors.As(err, &f) }

// Deps is what a source is given besides its options.
type Deps struct {
	Log     *slog.Logger
	Dir     string                            // of the configuration: relative paths start there
	Resolve func(spec.Secret) (string, error) // gives a secret's value
	Route   string                            // who reads, for client ids
	Scan    record.Scan                       // what the route needs of the events
	Type    types.Type                        // of the events as the route takes them; Any where that is not known
}

// Pruner is a Source that leaves out what Deps.Scan does not need. Where a route comes to need more
// while it runs, it is read by another one.
type Pruner interface {
	Source
	Pruned() record.Scan
}

// Config is the decoded options of one source block.
type Config interface {
	Options() spec.Options
	// Check reports what the declarations cannot express.
	Check() diag.Diagnostics
	// New makes a source; it does no I/O.
	New(d Deps) (Source, error)
	// Bounded tells whether reading ends by itself.
	Bounded() bool
}

// Typed is a Config of a kind whose events are known: they have this type
// unless the block's schema gives another.
type Typed interface {
	Config
	Schema() types.Type
}

// Kind is an entry of the catalog.
type Kind struct {
	Name string
	Doc  string // a paragraph for the reference
	// Cannot has the guarantees that no route with it can keep, each with why:
	// words that complete "cannot be kept: ". What is not listed can be.
	Cannot map[string]string
	// Times tells that records have a timestamp of their own.
	Times bool
	New   func() Config
}
