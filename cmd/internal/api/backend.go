// Package api is the HTTP API of a running Keystone over reconcile, its
// client, and the JSON forms that both and the command line share.
//
// Everything that is sent is JSON. Long answers (apply, tap) are streams of
// one JSON object a line; the last line of an apply is its result.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"keystone/configs"
	"keystone/configs/addr"
	"keystone/configs/diag"
	"keystone/reconcile"
)

// Backend is what the API shows: a running control plane, or the stored state
// of one that does not run. The composition root implements it.
type Backend interface {
	// Status gives the goal and the world, in address order.
	Status(ctx context.Context) (World, error)
	// Plan compares a goal with the world. The goal is the whole configuration,
	// also with targets; with PlanOptions.Destroy it says only whose everything goes.
	Plan(ctx context.Context, goal *configs.Config, o PlanOptions) (reconcile.Plan, error)
	// Apply stores the goal as a new revision and brings it about, unless the
	// stored serial is not o.Serial: then it gives a *StaleError. It returns when
	// every change is done or failed, or ctx ends; the loop goes on without it.
	Apply(ctx context.Context, goal *configs.Config, o ApplyOptions, progress func(ApplyEvent)) (ApplyResult, error)
	// Tap calls emit with records as they pass, until ctx or emit ends it.
	Tap(ctx context.Context, a addr.Addr, o TapOptions, emit func(TapEvent) error) error
	Operator
	Verifier
	Letters
	Backfiller
}

// World is the goal and what was observed.
type World struct {
	Env       string
	Namespace string
	Serial    int64 // of the revision that is the goal; 0: none yet
	Revision  Revision
	Offline   bool // nothing runs: States are those of the stored goal
	Observed  reconcile.Observed
	Turns     int64            // of the reconcile loop
	Waiting   []string         // addresses whose destructive change waits for `keystone apply`
	Broken    diag.Diagnostics // of an edit that was not taken; empty when the files are good
	Started   time.Time        // of the server
}

// Revision is who stored the goal, when and why.
type Revision struct {
	Serial int64     `json:"serial"`
	Time   time.Time `json:"time,omitzero"`
	Who    string    `json:"who,omitempty"`
	Why    string    `json:"why,omitempty"`
}

// PlanOptions restrict a plan.
type PlanOptions struct {
	Targets []addr.Addr `json:"targets,omitempty"` // these and what they refer to; empty: all. Without a key: every instance.
	Destroy bool        `json:"destroy,omitempty"`
}

// ApplyOptions say what an apply may do. Applying carries out destructive
// changes: asking for it is the consent.
type ApplyOptions struct {
	PlanOptions
	Serial int64  `json:"serial"` // that the plan was made against
	Who    string `json:"who,omitempty"`
	Why    string `json:"why,omitempty"`
}

// ApplyEvent is one step of an apply.
type ApplyEvent struct {
	Addr    string        `json:"address"`
	Action  string        `json:"action"`
	Phase   string        `json:"phase"` // start, done, failed
	Error   string        `json:"error,omitempty"`
	Elapsed time.Duration `json:"elapsed_ns,omitempty"`
}

// The phases of an ApplyEvent.
const (
	PhaseStart  = "start"
	PhaseDone   = "done"
	PhaseFailed = "failed"
)

// ApplyResult is what came of an apply.
type ApplyResult struct {
	Serial  int64  `json:"serial"`
	Offline bool   `json:"offline,omitempty"` // stored, and nothing runs to bring it about
	Done    int    `json:"done"`
	Failed  int    `json:"failed"`
	Counts  Counts `json:"counts"` // of what was done
}

// TapOptions say what to show of a route or stream.
type TapOptions struct {
	Limit int64 `json:"limit,omitempty"` // 0: until stopped
}

// TapEvent is one record that passed. Value is its bytes as text if it is JSON, else base64 in Raw.
type TapEvent struct {
	Topic     string          `json:"topic,omitempty"`
	Partition int32           `json:"partition"`
	Offset    int64           `json:"offset"`
	Timestamp int64           `json:"timestamp,omitempty"`
	Key       string          `json:"key,omitempty"`
	Value     json.RawMessage `json:"value,omitempty"`
	Raw       []byte          `json:"raw,omitempty"`
	Outcome   string          `json:"outcome,omitempty"` // delivered, filtered, dead_lettered, dropped
	Error     string          `json:"error,omitempty"`
}

// StaleError says that the goal moved on since a plan was made.
type StaleError = reconcile.StaleError

// ErrUnsupported is what a backend gives for what it cannot do, wrapped with why.
var ErrUnsupported = errors.New("not possible here")

// NotFoundError is an address that is not there.
type NotFoundError struct {
	Addr  string
	Known []string
}

// Error names the nearest address.
func (e *NotFoundError) Error() string {
	return fmt.Sprintf("there is no %s.%s", e.Addr, diag.DidYouMean(e.Addr, e.Known))
}

// Version is what runs.
type Version struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"` // of the source
	Go       string `json:"go"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
}
