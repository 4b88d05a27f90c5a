package reconcile

import (
	"time"

	"keystone/configs/addr"
)

// BackfillPhase is how a backfill stands.
type BackfillPhase string

// The phases. All but the first two are ends.
const (
	BackfillRunning   BackfillPhase = "running"
	BackfillPaused    BackfillPhase = "paused" // by an operator
	BackfillFinished  BackfillPhase = "finished"
	BackfillFailed    BackfillPhase = "failed"
	BackfillCancelled BackfillPhase = "cancelled"
)

// Over tells a phase that is an end.
func (p BackfillPhase) Over() bool { return p != BackfillRunning && p != BackfillPaused }

// Backfill is a run of a route's program over a source of the warehouse, beside the
// route itself. A route has one at a time; the latest is remembered.
type Backfill struct {
	ID     string           `json:"id"`
	Addr   addr.Addr        `json:"-"` // of the route
	Source string           `json:"source"`
	Since  time.Time        `json:"since,omitzero"`
	Until  time.Time        `json:"until,omitzero"`
	Rate   int64            `json:"rate,omitempty"` // rows a second at most; 0: none
	Who    string           `json:"who"`
	At     time.Time        `json:"at"`
	Phase  BackfillPhase    `json:"phase"`
	Error  string           `json:"error,omitempty"` // why it failed
	Files  int              `json:"files"`
	Bytes  int64            `json:"bytes"`
	Rows   int64            `json:"rows"`  // in row groups in which rows may pass
	Total  int64            `json:"total"` // rows of the files: what positions count in
	Ended  time.Time        `json:"ended,omitzero"`
	Counts map[string]int64 `json:"counts,omitempty"` // outcomes so far, of all its workers
	Next   int64            `json:"next,omitempty"`   // row that it goes on at
	Took   time.Duration    `json:"took_ns,omitempty"`

	// Then is "live" where the route goes on behind the rows when they are through; it stands by until then.
	Then    string    `json:"then,omitempty"`
	Cut     time.Time `json:"cut,omitzero"`       // where it goes on is the first record of this time,
	Ends    []Offset  `json:"ends,omitempty"`     // or these offsets
	TopicID string    `json:"topic_id,omitempty"` // that they count in
	Held    bool      `json:"held,omitempty"`     // the backfill has drained the route, and resumes it
}

// Offset is a place in a partition.
type Offset struct {
	Partition int32 `json:"partition"`
	Offset    int64 `json:"offset"`
}
