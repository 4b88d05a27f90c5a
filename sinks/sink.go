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
	"keystone/dsl/types"
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
	DefaultOrder() string // "key", "none", or "partition" as for all others
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

// Typed is a Sink whose form depends on the type of what is written, as the columns of a file do.
type Typed interface {
	Sink
	// Takes tells whether events of another type than Deps.Type are written as if the sink had been made for
	// it. Where they are not, a route whose program changes while it runs gets a new sink.
	Takes(t types.Type) bool
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

// Chained is a Sink that stores, for each input partition, where reading goes on together with the
// records that were written before: a chain of commits, each of which says from where to where it
// goes and appears at once or not at all. done of a Write means "accepted". A position of the source
// is worth nothing beside the chain: it is committed after it, for people to see and for others to wait on.
//
// The worker calls Begin for a partition before its first Write, and once more after Forget; of several
// partitions at once. It calls Due, Cut, Durable and Forget
// one at a time, and Cut and Forget never while a Write of a named partition is without its done. So a Write
// must not wait for a cut of its own partition: room in the sink's buffers comes from what was cut. A partition has one write at
// a time. One in which a record was refused and the route stops there (on_error = "stop") is forgotten, not cut.
type Chained interface {
	Sink
	// Begin completes what a predecessor left half done and gives where the partition's chain ends:
	// records before it are there and are not written again. from is where the source would begin,
	// which is also the chain's first position where there is no chain yet. Where the chain ends behind
	// from the records between would be missing, and the error is Permanent and says so.
	// Other errors are temporary. Positions without an Identity are of something that cannot be read again as
	// it was, as dead letters that are replayed: each Open begins chains of its own for them. Positions need not be offsets of records.
	Begin(ctx context.Context, from record.Position) (record.Position, error)
	// Due gives the partitions whose open records are many or old enough to be committed. It is quick.
	Due() []int32
	// Cut ends a commit for each partition that is named: everything that was written of it is before
	// the position. It is quick: files are finished and commits made behind it, in the order of the cuts. A
	// position without records before it makes no file, and may be left for the next cut; Settle makes it durable too. The
	// worker itself cuts a partition without open records now and then, at the same position again where that is not durable
	// yet, so that what is filtered out is not read again for ever.
	Cut(at []record.Position)
	// Durable gives, per partition, the last position of a cut that can no longer be lost, and why newer ones
	// are not durable yet, where something fails and is tried again. A Permanent error ends the
	// route; so does ErrFenced, and then the route begins anew.
	Durable() ([]record.Position, error)
	// Settle waits until no cut of the named partitions is on its way, or ctx ends.
	Settle(ctx context.Context, parts []int32) error
	// Forget gives up what was written of partitions and is not in a cut, and waits for nothing: others
	// may have the partitions by now, and what is on its way may become durable or be fenced off.
	Forget(parts []int32)
}

// Trailing is a Sink that has something left to do after records are durable, such as telling a catalog of
// them, that fails and is tried again without holding anything up. Status shows it.
type Trailing interface {
	Sink
	// Trailing says what is left undone and why; nil if nothing fails. It is quick.
	Trailing() error
}

// Concurrent is a Sink that sends several requests at once, as many as a limit lets it that follows what the
// destination can take.
type Concurrent interface {
	Sink
	// Concurrency tells the limit as it is now, and how many requests are under way. It is quick.
	Concurrency() (limit, underWay int)
}

// Measured is a Sink that has something to tell of itself beside what becomes of records.
type Measured interface {
	Sink
	// Measures gives numbers by short names in lower case, "partitions_refused": always the same names. It is quick.
	Measures() map[string]float64
}

// ErrFenced is wrapped by the error of a Chained sink whose chain somebody else has
// continued: what this one has written since is not there, and has to be read again.
var ErrFenced = errors.New("another worker has continued the chain of commits")

// Thing is something outside that a sink needs and keeps: an index template, a table.
type Thing struct {
	Kind, Name string   // "index template" "plays"
	Exists     bool     // as far as is known
	Differs    []string // of what is wanted: "field pct: long, wanted double"; Ensure mends them
	Blocked    string   // why Ensure cannot bring it to what is wanted, and what to do; "" if it can
	Notes      []string // what Ensure leaves as it is, and what that means: sentences, told with a change of the sink
}

// Later is an error of Ensure: who keeps the things does not answer, and records can be written without them
// meanwhile. They are seen to be missing once it answers, and are made then.
type Later struct{ Err error }

// Error is that of what was tried.
func (e Later) Error() string { return e.Err.Error() }

// Unwrap gives it.
func (e Later) Unwrap() error { return e.Err }

// Provisioner is a Config whose destination has things that must be there before
// records are written. events are the types of what the routes write that lead to the sink; Any where one is not known.
type Provisioner interface {
	Config
	// Wanted names the things without asking anybody, in the order in which they are made.
	Wanted(d Deps, events []types.Type) []Thing
	// Observe tells which of them exist and how they differ from what is wanted.
	Observe(ctx context.Context, d Deps, events []types.Type) ([]Thing, error)
	// Ensure makes them and mends what differs. It is idempotent, also when it was interrupted. An error
	// that is a Later does not hold up the routes.
	Ensure(ctx context.Context, d Deps, events []types.Type) error
	// Destroy takes away what the sink's options say may be taken away, when the block is removed.
	Destroy(ctx context.Context, d Deps) error
}

// Claim is something outside that one block keeps, and that another one may name, too.
type Claim struct {
	Thing  string   // "index template plays"
	Places []string // where it is, each under another name; two claims that share one are about the same thing
	Form   string   // of what is kept: blocks that want the same do not disturb each other; "" where they always do
	Option string   // that says so: "template.name"
}

// Claimer is a Config that keeps things outside.
type Claimer interface {
	Config
	Claims() []Claim
}

// Fitter is a Config that does not take events of every type.
type Fitter interface {
	Config
	// Misfits says what a route's output has, or lacks, that the sink cannot write. It is asked
	// with the type of what is written, Any where it is not known.
	Misfits(t types.Type) []Misfit
}

// Uniter is a Config whose destination has one form for what all routes write.
type Uniter interface {
	Config
	// Clashes says which fields of a route's output have no common form with what other routes write.
	Clashes(t types.Type, others []Writer) []Misfit
}

// Writer is a route that writes to a sink, with the type of what it writes.
type Writer struct {
	Route   string // its address
	Letters bool   // its dead letters are what is written
	Type    types.Type
}

// Misfit is one field of a route's output that a sink cannot write.
type Misfit struct {
	Path    string // of the field: "device.os"; "" for the event itself
	Text    string // what is wrong and a way out: sentences
	Warning bool   // it is written all the same
}

// NullTaker is a Config of a sink that may have a use for null values: routes to it
// pass them on unless they say otherwise. To other sinks they are dropped.
type NullTaker interface {
	Config
	TakesNull() bool
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

	// ID names the route for ever: it stays when the route gets another name, and
	// no other route of any namespace or environment has it.
	ID string
	// Generation is how often the route was rewound or started anew. What is written in a later one takes
	// the place of what an earlier one wrote of the same records.
	Generation int64
	// Type is what the written events are; its kind is Any where that is not known.
	Type types.Type
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
	// Letters says why dead letters cannot be its events: words that complete "sink.x is of kind y, which ".
	// "" if they can: a done of it means that the record is durable.
	Letters string
	// Alone says why only one worker of a route may write at a time; "" if another
	// may begin before it has left. It completes "is written by one worker at a time: ".
	Alone string
	New   func() Config
}
