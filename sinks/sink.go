// Package sinks has the contract of everything that records are written to.
// Each kind lives in a folder of its own and is listed in sinks/catalog.
package sinks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/pipeline/record"
)

// Sink delivers batches to one destination. It never changes Batch.Records:
// what is named in a *PartialError is written again from them.
type Sink interface {
	Open(ctx context.Context) error
	// Write is called in lane order unless the route wants another (see Ordered), possibly from several
	// lanes at once (and several times for one whose order is not the partition's), and may return early. done runs exactly once, from any goroutine, when every record is
	// durable or classified (a *PartialError names those that are not); until then the batch
	// belongs to the sink. Write blocks when the sink's own buffers are full: that is back pressure.
	// Any other error is about the whole batch, and retryable unless it is Permanent.
	Write(ctx context.Context, b *record.Batch, done func(error))
	// Close waits for nothing that was not given a done; it frees everything, also after a failed Open.
	Close(ctx context.Context) error
}

// Flusher is a Sink that buffers: Flush hastens all that was written, without waiting.
type Flusher interface{ Flush() }

// Ordered is a Sink that keeps the order of a lane (of the same input
// partition: Batch.Partition) also when it fails: where a record has to be written again, no later
// record of its batch was written, and all further writes of the lane fail too until Go.
// Only such a sink is given a second write of a lane before the first one's done, unless the
// route's order is "key" or "none": then batches are Loose. A Loose batch is in no order with others:
// it neither fails because an earlier write of its lane did nor makes later ones fail, and needs no Go.
// With order "key" the worker itself writes what has a key only after it knows of
// everything before it with that key; within one batch the sink keeps the order of each
// key: where a record has to be written again, no later one of the batch with its key was written.
//
// A: the worker decides to write batch 2. B: batch 1 fails, and done tells the worker. A: Write(2) begins.
// The sink cannot tell that the worker did not know yet, so the worker says when it does.
type Ordered interface {
	Sink
	KeepsOrder() // a mark; does nothing
	// Go says that the worker knows of all failures of the lane and has no
	// write of it under way: writes may succeed again. It is also called before a lane's first write.
	Go(partition int32)
}

// DefaultOrder is a Sink for which the order of the source partition counts less than speed:
// routes to it keep another one unless they say which. A Checkpointer is always written in the
// order of the partition.
type DefaultOrder interface {
	Sink
	DefaultOrder() string // "key" or "none"
}

// Checkpointer is a Sink whose done means "accepted", not yet durable: the
// worker makes it durable in step with the source's positions. At a
// checkpoint the worker stops writing, waits until nothing is in flight,
// calls Sync, and stores the state together with the positions in one
// transaction of the store. Before Open of a later incarnation it calls
// Restore with the last stored state (nil if there is none), and the sink
// takes back everything that it wrote after it.
type Checkpointer interface {
	Sink
	Restore(state []byte)
	Sync(ctx context.Context) (state []byte, err error)
}

// Finisher is a Sink that is told that a run is complete: the source ended or
// the limit was reached, and everything is settled and committed. Finish
// comes after the last Sync and before Close, and not at all when the run was interrupted or failed.
type Finisher interface {
	Sink
	Finish(ctx context.Context) error
}

// Transactional is a Sink whose records appear to readers all at once, with
// the positions of the source that they were made from, or not at all. What is written after Open, a
// Commit or an Abort is one transaction; it begins with its first Write. The caller sees
// to it that no Write is without its done when it calls Commit.
type Transactional interface {
	Sink
	// Bound says how long a transaction may last at most, from the next one on: the
	// destination ends one that lasts longer, since its writer must be gone. It is called
	// before Open and, while no Commit or Abort is under way, when it changes.
	Bound(d time.Duration)
	// Commit ends the transaction and stores the positions in it. After an error,
	// but for ErrNothingWritten, nobody knows whether it took effect: the caller must call
	// Abort, and then ask where the group is.
	Commit(ctx context.Context, at record.GroupOffsets) error
	// Abort ends whatever is open, also what a Commit left unknown. Writes that have no done
	// yet get it, with an error. It is repeated until it succeeds; nothing can be written before.
	// A Write that was called before and comes later is the next transaction's: who
	// does not want it there calls Abort again when it has its done.
	Abort(ctx context.Context) error
}

// ErrNothingWritten is Commit's answer when no record is in the transaction, which
// is over: the positions are not stored, and the caller stores them by themselves.
var ErrNothingWritten = errors.New("the transaction has no records")

// Outcome classifies one record that was not simply written.
type Outcome uint8

const (
	// Retryable: not written, may be tried again as it is.
	Retryable Outcome = iota
	// Applied: the destination already had it.
	Applied
	// Rejected: the destination refuses it for ever; it is a dead letter.
	Rejected
	// Unknown: it may or may not have been written.
	Unknown
)

// Failure is the outcome of one record of a batch.
type Failure struct {
	Index   int // in Batch.Records
	Outcome Outcome
	Code    string // short and stable, for dead letters and metrics
	Err     error
}

// PartialError names the records of a batch that were not simply written;
// all others were.
type PartialError struct{ Failures []Failure }

// Error counts the failures and shows the first.
func (e *PartialError) Error() string {
	if len(e.Failures) == 0 {
		return "no failures"
	}
	return fmt.Sprintf("%d records not written, the first: %v", len(e.Failures), e.Failures[0].Err)
}

// Permanent is an error of the whole sink that trying again does not mend
// (credentials refused, a directory that is a file): the route stops and says so.
type Permanent struct{ Err error }

// Error gives the cause.
func (p Permanent) Error() string { return p.Err.Error() }

// Unwrap gives the cause.
func (p Permanent) Unwrap() error { return p.Err }

// IsPermanent tells whether err holds a Permanent.
func IsPermanent(err error) bool { var p Permanent; return errors.As(err, &p) }

// Deps is what a sink is given besides its options.
type Deps struct {
	Log     *slog.Logger
	Dir     string                            // of the configuration: relative paths start there
	Resolve func(spec.Secret) (string, error) // gives a secret's value
	Route   string                            // who writes
	OneShot bool                              // `keystone run`: outputs appear when finished
}

// Config is the decoded options of one sink block.
type Config interface {
	Options() spec.Options
	// Check reports what the declarations cannot express.
	Check() diag.Diagnostics
	// New makes a sink; it does no I/O.
	New(d Deps) (Sink, error)
}

// Kind is an entry of the catalog.
type Kind struct {
	Name string
	Doc  string // a paragraph for the reference
	// Cannot has the guarantees that no route with it can keep, each with why:
	// words that complete "cannot be kept: ". What is not listed can be.
	Cannot map[string]string
	// Alone says why only one worker of a route may write at a time; "" if another
	// may begin before it has left. It completes "is written by one worker at a time: ".
	Alone string
	New   func() Config
}
