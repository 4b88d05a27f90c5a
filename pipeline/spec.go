package pipeline

import (
	"context"
	"log/slog"
	"time"

	"keystone/configs"
	"keystone/configs/addr"
	"keystone/dsl/eval"
	"keystone/pipeline/record"
	"keystone/sinks"
	"keystone/sources"
)

// Positions keeps, per route, where reading goes on and what its sink said at
// that point. Save is one transaction and durable when it returns; from is
// every position of the route that the worker knows.
type Positions interface {
	LoadPositions(ctx context.Context, route addr.Addr) (from []record.Position, sinkState []byte, err error)
	SavePositions(ctx context.Context, route addr.Addr, from []record.Position, sinkState []byte) error
}

// DeadLetters takes records that could not be processed. Write returns when
// all of them are acknowledged, and is repeated for as long as it fails; with
// a *sinks.PartialError only for those that it names. It is called by several lanes at
// once and keeps nothing of the letters.
type DeadLetters interface {
	Write(ctx context.Context, letters []DeadLetter) error
	Close(ctx context.Context) error
}

// DeadLetter is one record with why it is one.
type DeadLetter struct {
	Record    record.Record // original key, value, headers: verbatim
	Route     addr.Addr
	Topic     string
	Partition int32
	Identity  string
	Code      string
	Error     string
	At        string // file:line:column of the expression, if it was one
	Attempts  int
	Time      time.Time
	Revision  int64
	Replays   int // how often the record was replayed before
}

// Spec is all that a worker needs. The worker closes Source, Sink and DeadLetters.
type Spec struct {
	Route       *configs.Route
	Program     *eval.Program
	Revision    int64
	Source      sources.Source
	Sink        sinks.Sink
	DeadLetters DeadLetters // nil where on_error is not dead_letter
	Positions   Positions   // nil: the source keeps its own and the sink has no state
	Programs    Programs    // nil: nobody wants to know which program ran
	Limit       int64       // stop after reading so many records; 0: none
	Tap         Tap         // nil: nobody can watch
	Log         *slog.Logger
}
