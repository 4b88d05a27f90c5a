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
	MovedFrom addr.Addr // of a renamed address
	Before    *configs.Resource
	After     *configs.Resource
	Options   []OptionChange
	Reasons   []string // why, where options do not tell: "topic is missing", "worker failed: …"
	Impact    Impact
	// Destructive changes lose data or kept state: serve leaves them to an explicit apply.
	Destructive bool
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
	RepeatNote    string        // in words
	Pause         time.Duration // expected; 0 none
	KeepsState    []string
	LosesState    []string
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
)

// State is one address as the runtime sees it.
type State struct {
	Resource *configs.Resource // as it runs; nil if nothing of it is there
	Health   Health
	Since    time.Time
	Error    string   // why it failed or is degraded
	Activity string   // what it waits for: fetching, waiting for sink, retrying (3, connection refused), throttled
	Drift    []string // differences of the world from Resource: "partitions: 4, wanted 8"
	Restarts int
	Counters Counters
	Lag      int64 // records that wait; -1 unknown
	Group    string
}

// Counters are a route's outcomes since its worker started.
type Counters struct {
	Read           int64            `json:"read"`
	Delivered      int64            `json:"delivered"`
	Filtered       int64            `json:"filtered"`
	DeadLettered   int64            `json:"dead_lettered"`
	Dropped        int64            `json:"dropped"`
	InFlight       int64            `json:"in_flight"`
	Written        int64            `json:"written"` // records that went out: differs from Delivered by explode
	Retries        int64            `json:"retries"`
	LostBeforeRead int64            `json:"lost_before_read"`
	Reasons        map[string]int64 `json:"reasons,omitempty"` // of dropped and dead-lettered
}

// Observed is the world: what runs, and what the clusters hold.
type Observed struct {
	At     time.Time
	States map[addr.Addr]State
	// Unreachable clusters: nothing is concluded about their streams.
	Unreachable map[addr.Addr]string
}

// Runtime carries out the changes of a plan.
type Runtime interface {
	Observe(ctx context.Context) (Observed, error)
	// Apply carries out one change of goal; idempotent.
	Apply(ctx context.Context, goal *configs.Config, c Change) error
}
