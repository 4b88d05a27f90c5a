package reconcile

import (
	"fmt"
	"time"

	"keystone/configs/addr"
)

// HoldKind is how a route is held back.
type HoldKind string

// The kinds.
const (
	// HoldPause stops reading: the worker stays and keeps its partitions.
	HoldPause HoldKind = "pause"
	// HoldDrain stops the worker: what is in flight is finished, and its group is left.
	HoldDrain HoldKind = "drain"
)

// Hold is an operator's word that a route is not to read, beside its goal: it
// stays until somebody resumes the route, over restarts and edits.
type Hold struct {
	Addr  addr.Addr `json:"-"`
	Kind  HoldKind  `json:"kind"`
	Who   string    `json:"who"`
	Since time.Time `json:"since"`
}

// String says who holds the route, and since when.
func (h Hold) String() string {
	done := "paused"
	if h.Kind == HoldDrain {
		done = "drained"
	}
	return fmt.Sprintf("%s by %s since %s", done, h.Who, h.Since.UTC().Format("2006-01-02 15:04:05 UTC"))
}

// held adds what plans say of routes that are held back.
func (d *differ) held(a addr.Addr, st State) {
	if st.Held == nil {
		return
	}
	what := "it does not read until"
	if st.Held.Kind == HoldDrain {
		what = "it does not start until"
	}
	d.plan.Warnings = append(d.plan.Warnings, fmt.Sprintf("%s is %s, and stays so: %s `keystone resume %s`", a, st.Held, what, a))
}
