package reconcile

import (
	"fmt"
	"time"

	"keystone/configs/addr"
	"keystone/pipeline/record"
)

// Rewind is a route that is to go on elsewhere in its source. It is written
// down before anything is done for it, and every step may be done again: so
// after a crash the next start completes it, once.
type Rewind struct {
	ID     string            `json:"id"` // commits carry it: see admin.Meta
	Addr   addr.Addr         `json:"-"`
	Who    string            `json:"who"`
	At     time.Time         `json:"at"`
	How    string            `json:"how"`             // as it was asked for
	Source string            `json:"source"`          // whose positions these are, as the store names it
	Group  string            `json:"group,omitempty"` // of a route that reads a stream
	Topic  string            `json:"topic,omitempty"`
	From   []record.Position `json:"from"` // where the route was when it was asked for
	To     []record.Position `json:"to"`   // partitions that are not here stay where they are
}

// String says who asked for it, and when.
func (r Rewind) String() string {
	return fmt.Sprintf("the rewind %s by %s of %s", r.How, r.Who, r.At.UTC().Format("2006-01-02 15:04:05 UTC"))
}

// RewindUnderWayError says that an earlier rewind of a route is not completed.
type RewindUnderWayError struct{ Rewind Rewind }

// Error says what to do.
func (e *RewindUnderWayError) Error() string {
	return fmt.Sprintf("%s of %s is not completed yet; `keystone status` tells what it waits for", e.Rewind, e.Rewind.Addr)
}
