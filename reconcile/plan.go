// Package reconcile brings the running world to the goal state, for ever:
// observe, diff, apply one idempotent change per address. It never imports
// the data plane; it talks to a Runtime.
package reconcile

import (
	"context"
	"time"

	"keystone/configs"
	"keystone/configs/addr"
	"keystone/configs/spec"
)

// Action is what a change does to an address, from least to most.
type Action string

// The actions.
const (
	NoOp    Action = "no-op"
	Update  Action = "update" // live: swapped in, nothing stops
	Drain   Action = "drain"  // finish what is in flight, restart in place
	Create  Action = "create"
	Replace Action = "replace" // kept state is lost
	Delete  Action = "delete"
	Forget  Action = "forget" // leaves the goal state; what it kept stays where it is
	Move    Action = "move"   // a new name; what it kept goes along
	Repair  Action = "repair" // the goal is the same, the world is not
)

// Change is what has to happen to one address. Applying it twice is applying it once.
type Change struct {
	Addr      addr.Addr
	Action    Action
	MovedFrom addr.Addr         // of a renamed address; Action is Move, or Replace where kept state is lost too
	Before    *configs.Resource `json:"-"`
	After     *configs.Resource `json:"-"`
	Options   []OptionChange
	Reasons   []string // why, where options do not tell: "topic is missing", "worker failed: …"
	Impact    Impact
	Things    []Thing // of a sink: what is made or changed outside
	// Destructive changes lose data or kept state: serve leaves them to an explicit apply.
	Destructive bool
	// Blocked says why the change cannot be carried out as it stands, and what to do; apply refuses it.
	Blocked string
	// Kept is what the address goes on using from an earlier name; zero if nothing.
	Kept Identity
}

// Identity is the names in the outside world that a moved address keeps: they
// are derived from the name that it had first.
type Identity struct {
	Group string `json:"group,omitempty"` // of a route
	Topic string `json:"topic,omitempty"` // of a stream
}

// IsZero tells an address that never moved.
func (i Identity) IsZero() bool { return i == Identity{} }

// Goal is what should be: one configuration of one namespace and environment.
// Serial is of the stored revision that the plan is made against (0: none).
type Goal struct {
	Serial    int64
	Env       string
	Namespace string
	Config    *configs.Config
}

// OptionChange is one option that differs. Sensitive values show references only.
type OptionChange struct {
	Name      string
	Before    string // canonical; "" if it was not there
	After     string
	Effect    spec.Effect
	Sensitive bool
}

// Impact is what a change does to data.
type Impact struct {
	ContinuesFrom string        // "committed offsets of group …", "earliest", "" if nothing reads
	Waiting       int64         // records between there and the end; -1 unknown
	MayRepeat     int64         // bound on records delivered twice; -1: bounded by bytes in flight only
	RepeatNote    string        // in words: a statement of its own
	Pause         time.Duration // at most; 0 none
	KeepsState    []string
	LosesState    []string
	Letters       Letters // of a route that makes dead letters; zero if it makes none, or the change does not reach them
}

// Letters is where a route's dead letters go.
type Letters struct {
	Topic   string    // "" for a file beside the state
	Stream  addr.Addr // the user's own, or the source's, whose cluster has the managed topic
	Sink    addr.Addr // whose events they become
	Managed bool      // the topic is Keystone's: it is made with the first letter
}

// Plan is the changes that bring what is observed to the goal, in the order
// in which they may be applied.
type Plan struct {
	Serial    int64 // of the stored revision it was made against; an older plan than the store's is refused
	Env       string
	Namespace string
	Made      time.Time
	Offline   bool // made without a running server, against the stored revision
	Changes   []Change
	Warnings  []string
}

// Destructive gives the addresses whose changes lose data or kept state:
// applying the plan is the consent to these.
func (p Plan) Destructive() []addr.Addr {
	var out []addr.Addr
	for _, c := range p.Changes {
		if c.Destructive {
			out = append(out, c.Addr)
		}
	}
	return out
}

// Health is how an address does.
type Health string

// The states of health.
const (
	Running  Health = "running"
	Starting Health = "starting"
	Draining Health = "draining"
	Stopped  Health = "stopped"
	Failed   Health = "failed"   // waits for its back-off
	Degraded Health = "degraded" // runs, but something is wrong
	Missing  Health = "missing"  // in the goal, not in the world
	Disabled Health = "disabled" // enabled = false
	Paused   Health = "paused"   // an operator holds it back: its worker stays, and does not read
	Drained  Health = "drained"  // an operator holds it back: no worker runs
	Finished Health = "finished" // its source ended, and everything is delivered
)

// State is one address as the runtime sees it.
type State struct {
	Resource *configs.Resource // as it runs; nil if nothing of it is there
	Health   Health
	Since    time.Time
	Error    string // why it failed or is degraded
	Activity string // what it waits for: fetching, waiting for sink, retrying (3, connection refused), throttled
	// Unreachable is the cluster that did not answer, so that nothing is known of the topic; zero: it did.
	Unreachable addr.Addr
	Hints       []string // about events: "filter never true in 5000 events"
	Drift       []string // differences of the world from Resource: "partitions: 4, wanted 8"
	Restarts    int
	Counters    Counters
	Lag         int64 // records that wait; -1 unknown
	Group       string
	Letters     string // where a route's dead letters go: a topic or a file; "" if it makes none

	// Namespace of who owns it; "" is the plan's own. Diff never touches another's.
	Namespace string
	// Interrupted is set when a change to this resource was begun and is not
	// known to have finished: the world may be as before, as this, or between.
	Interrupted *configs.Resource
	// Deps is what the address refers to, as it was when this address was
	// last applied. Diff compares it with the goal, so that a change of a sink reaches its
	// routes also after a crash between the two. nil: as it is in States.
	Deps map[addr.Addr]*configs.Resource
	// Kept is the names that it keeps from before it was moved.
	Kept Identity
	// Lanes are the partitions that a route has now. They are shown, and kept by nobody.
	Lanes []Lane
	// Reading is where a route stands in what it reads.
	Reading Reading
	// Job is how a job runs now. It is shown, and kept by nobody.
	Job *JobRun
	// Topic is what a stream's topic holds.
	Topic Topic
	// Rewind is set while the route is to go on elsewhere; nil if not.
	Rewind *Rewind
	// Held is set while an operator holds the route back; nil if nobody does.
	Held *Hold
	// Sink is what a route's sink tells of itself.
	Sink map[string]float64
	// Conditions are what the health monitor concludes from successive observations.
	Conditions []Condition
}

// Reading is what is known of a route's position in its source.
type Reading struct {
	Known     bool  // whether the other fields were observed
	Committed int   // partitions with a committed (or stored) position
	Retained  int64 // records that the source holds: what reading from the start would take; -1 unknown
}

// Topic is what is known of a stream's topic.
type Topic struct {
	Name       string
	ID         string
	Partitions int   // 0: not known
	Records    int64 // that it holds; -1 or 0: none or not known
}

// Counters are a route's outcomes since its worker started.
type Counters struct {
	Read           int64            `json:"read"`
	Delivered      int64            `json:"delivered"`
	Filtered       int64            `json:"filtered"`
	DeadLettered   int64            `json:"dead_lettered"`
	Dropped        int64            `json:"dropped"`
	InFlight       int64            `json:"in_flight"`
	Unsettled      int64            `json:"unsettled,omitempty"` // of InFlight: a sink that keeps its own positions has taken them, and they are not durable yet
	Written        int64            `json:"written"`             // records that went out: differs from Delivered by explode
	Retries        int64            `json:"retries"`
	LostBeforeRead int64            `json:"lost_before_read"`
	Abandoned      int64            `json:"abandoned"`         // given up without an outcome when a worker or lane ended: they are read again
	Skipped        int64            `json:"skipped,omitempty"` // read again, and in no other count: the sink had them, with the outcome of an earlier worker
	Reasons        map[string]int64 `json:"reasons,omitempty"` // of dropped and dead-lettered
	// Replayed counts replayed dead letters by the outcome that they had then,
	// since the server started. They are in none of the other counters.
	Replayed map[string]int64 `json:"replayed,omitempty"`
	// SchemaViolations are required fields that expressions read and that were missing or null.
	SchemaViolations int64 `json:"schema_violations"`
	// SinkLimit is how many requests the sink may have under way at present, where that follows what its destination can
	// take, and SinkRequests how many are.
	SinkLimit    int `json:"sink_limit,omitempty"`
	SinkRequests int `json:"sink_requests,omitempty"`
}

// Lane is one source partition of a route, since it was assigned. Its counters
// add up as those of a route do. Offsets are the next ones, in the unit of the source.
type Lane struct {
	Partition int32    `json:"partition"`
	Counters  Counters `json:"counters"`
	Start     int64    `json:"start"`     // where reading began
	Next      int64    `json:"next"`      // what is read next
	Finished  int64    `json:"finished"`  // everything before it has an outcome
	Committed int64    `json:"committed"` // everything before it is not read again
	Lag       *int64   `json:"lag,omitempty"`
	Identity  string   `json:"id,omitempty"`       // of what the offsets count in
	Revision  int64    `json:"revision,omitempty"` // of the program that runs,
	From      int64    `json:"from"`               // since this offset
	Activity  string   `json:"activity,omitempty"` // what it waits for, if it does
	Error     string   `json:"error,omitempty"`
	Paused    bool     `json:"paused,omitempty"` // its reading, because it is slow
}

// Observed is the world: what runs, and what the clusters hold.
//
// A Runtime fills what it can see: Health, Since, Error, Activity, Drift (only
// differences that applying the goal again would mend; others are Degraded with an
// Error), Restarts, Counters, Lag, Group, Namespace, Reading, Topic, and Resource
// where something of it is there. Addresses that it has not been told to run are
// simply absent. What was applied earlier (Resource, Interrupted, Deps, Kept) is
// merged in from the ledger by the loop (see Merge).
type Observed struct {
	At     time.Time
	States map[addr.Addr]State
	// Unreachable clusters: nothing is concluded about their streams.
	Unreachable map[addr.Addr]string
	// Outside is what sinks need outside, compared with the goal; sinks that need nothing are absent.
	Outside map[addr.Addr]Outside
}

// Runtime carries out the changes of a plan.
type Runtime interface {
	Observe(ctx context.Context) (Observed, error)
	// Apply carries out one change of goal; idempotent. Only Replace and Delete
	// may destroy: Delete of a stream deletes its topic; Replace of a stream deletes the topic
	// only where the new one has the same name and cluster, and leaves another one where it is. Every other action means "make the address as Change.After
	// says", also when nothing of it is there. Change.Before is what was applied last (its Options
	// are always filled; its Body may come from the store). It runs beside
	// other Applys, never for one address twice at a time.
	Apply(ctx context.Context, goal *configs.Config, c Change) error
}
