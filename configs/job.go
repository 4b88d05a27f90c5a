package configs

import (
	"time"

	"keystone/configs/addr"
	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/dsl/ir"
	"keystone/dsl/types"
)

// Job is one stateful job: operators wired into a graph without cycles, from reads to writes.
type Job struct {
	Addr        addr.Addr
	Description string
	Enabled     bool
	OnError     OnError  // never PassRecord
	DeadLetter  spec.Ref // stream or sink; zero: the managed stream
	Parallelism int      // tasks of each stage; 0: as many as there are processors
	KeyGroups   int      // fixed when the job is created
	Checkpoint  Checkpoint
	State       JobState
	Group       string // where the position is shown, derived: keystone.NAMESPACE.ENV.job.NAME[.KEY]; prefix of transactional ids
	Restore     string // latest, fresh, savepoint:NAME
	// LetterProgram makes what a sink for dead letters wants to know of them; nil unless DeadLetter is a sink.
	LetterProgram *ir.Route
	Operators     []*Operator // inputs before those that read them, else by name
}

// Checkpoint is the block checkpoint { }.
type Checkpoint struct {
	Interval  time.Duration // of epochs that are kept outside of the state directory; each epoch is durable where the job runs
	Retain    int           // at least so many are kept
	RetainFor time.Duration // and those that are younger
	Location  diag.Text     // a folder or s3://bucket/prefix; "": below the state directory
}

// JobState is the block state { }.
type JobState struct {
	Memory int64         // bytes that operators, caches and buffers of the state may take
	TTL    time.Duration // of state that no operator frees by itself and that has no ttl of its own; 0: for ever
}

// Operator is one block of a job. Exactly what its kind needs is set, besides Inputs, Output and Ports.
type Operator struct {
	Kind, Label string // "window", "by_user"
	Range       diag.Range
	Inputs      []OperatorInput       // as written; of a join: left, right
	Output      types.Type            // of its rows; no rows of a split or a write: Any
	Ports       map[string]types.Type // other outputs: "late" of a window or interval join, the branches and "rest" of a split
	Updates     bool                  // its rows change: they are inserted, updated and deleted, told apart by Identity
	Identity    []string              // fields of Output that tell its rows apart: key, window_start…; nil where rows are only added
	Meta        bool                  // rows are records as read, so that `meta` is known of them

	Read        *JobRead
	Where       []*ir.Expr // of a filter; all must be true
	Shape       *ir.Route  // of project and explode: over the input's rows
	Key         []KeyField // of dedup, lookup, window, aggregate, top
	Window      *JobWindow // of window, and of aggregate, where Kind is "none"
	Aggregation *ir.Aggregation
	Join        *JobJoin
	Top         *JobTop
	Dedup       *JobDedup
	Lookup      *JobLookup
	Split       []Branch // the first whose conditions hold; else "rest"
	Write       *JobWrite
}

// Name gives the operator as it is referred to, "window.by_user": the identity of its state.
func (o *Operator) Name() string { return o.Kind + "." + o.Label }

// OperatorInput is an output that an operator reads.
type OperatorInput struct {
	From  *Operator
	Port  string // "" for its rows
	Range diag.Range
}

// Type gives the type of the rows that come in.
func (e OperatorInput) Type() types.Type {
	if e.Port == "" {
		return e.From.Output
	}
	return e.From.Ports[e.Port]
}

// KeyField is one field of a key.
type KeyField struct {
	Name string
	Expr *ir.Expr
}

// JobRead reads a stream or source.
type JobRead struct {
	From           spec.Ref
	Input          types.Type
	EventTime      *ir.Expr      // a time, or milliseconds since 1970; nil: meta.timestamp
	Watermark      time.Duration // how far events of a partition may be behind one another
	Idle           time.Duration // after so long at the end of the log a partition holds nothing up; 0: it always does
	MaxAhead       time.Duration // an event time further ahead of meta.timestamp is an error; 0: no bound
	Align          time.Duration // partitions further ahead of the slowest one wait; 0: no bound
	Start          string        // earliest, latest, or RFC 3339
	ProcessingTime bool          // the event time is when the record was read; EventTime is nil
}

// The kinds of a window.
const (
	WindowTumbling = "tumbling"
	WindowHopping  = "hopping"
	WindowSession  = "session"
	WindowGlobal   = "global" // one window per key, which ends with the input
	WindowNone     = "none"   // of the operator aggregate: one row per key that changes, without window_start and window_end
)

// When a window gives rows.
const (
	EmitOnClose  = "on_close"
	EmitOnUpdate = "on_update"
	EmitInterval = "interval" // JobWindow.Interval
)

// JobWindow says which windows a row falls into and when they give rows.
type JobWindow struct {
	Kind     string
	Size     time.Duration // of tumbling, hopping
	Every    time.Duration // of hopping; Size is a multiple of it or longer
	Gap      time.Duration // of session
	Lateness time.Duration
	Emit     string
	Interval time.Duration // of EmitInterval
	TTL      time.Duration // of WindowNone: the key is forgotten so long after its last row; 0: never
}

// The kinds of a join.
const (
	JoinInner = "inner"
	JoinLeft  = "left"
	JoinRight = "right"
	JoinFull  = "full"
)

// JobJoin joins rows of two inputs whose keys are equal. A pair becomes an object {left, right}, which Shape projects.
type JobJoin struct {
	Type          string        // inner, left, right, full
	Left, Right   []KeyField    // of the same names and comparable types
	Window        string        // "interval", tumbling, hopping
	Before, After time.Duration // of interval: left.time - Before <= right.time <= left.time + After
	Size, Every   time.Duration
	Lateness      time.Duration
	Pair          types.Type // of {left, right}
	Project       *ir.Route  // over Pair; nil: the pair itself
}

// JobTop keeps the N first rows of each key. Output is the input's row with the field "rank", from 1.
type JobTop struct {
	OrderBy    *ir.Expr
	Descending bool
	N          int
	// Windowed: the key holds the input's window, so that rows are given once, when it has closed. Else each
	// change of a rank is given, and Identity is the key's fields and rank.
	Windowed bool
	TTL      time.Duration // of a key that nothing was added to; 0: never
}

// JobDedup passes the first row of each key.
type JobDedup struct {
	TTL time.Duration // in event time; a key is forgotten then
}

// JobLookup adds the row of a compacted stream whose message key is that of the row.
type JobLookup struct {
	From  spec.Ref
	Input types.Type // of the table's rows
	As    string     // the field that they are added as
	Type  string     // JoinInner: rows without one are dropped; JoinLeft: they have nil
	AsOf  string     // "now": the table as it is; "event_time": as it was at the row's time
}

// Branch is one branch of a split.
type Branch struct {
	Name  string
	Where []*ir.Expr
}

// How a write says what changed.
const (
	ChangelogAppend = "append"
	ChangelogUpsert = "upsert"
)

// JobWrite writes rows to a stream or sink.
type JobWrite struct {
	To        spec.Ref
	Key       *ir.Expr // the message key, over the row; nil: none. Also in Program
	Changelog string
	Revisions bool       // append each change, with the fields op and revision
	Row       types.Type // what is written, with op and revision
	Program   *ir.Route  // key, headers and what the sink derives, over the row; shapes nothing
}
