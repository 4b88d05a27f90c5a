package state

import (
	"cmp"
	"fmt"
)

// Epoch names one commit of a job. Epochs of a store only grow.
//
// The generation is the token of who owns the state: it is given out once, when a directory begins to hold
// a job's state (fresh, restored from a checkpoint, or rewound), and stays through restarts on that directory.
type Epoch struct {
	Generation int64 // from 1; the zero Epoch is before all
	N          int64 // from 1 in each generation
}

// Compare orders epochs as they were committed.
func (e Epoch) Compare(o Epoch) int {
	return cmp.Or(cmp.Compare(e.Generation, o.Generation), cmp.Compare(e.N, o.N))
}

// After tells whether e was committed after o.
func (e Epoch) After(o Epoch) bool { return e.Compare(o) > 0 }

// Next is the epoch that follows in the same generation.
func (e Epoch) Next() Epoch { return Epoch{e.Generation, e.N + 1} }

// IsZero tells whether nothing was committed yet.
func (e Epoch) IsZero() bool { return e == Epoch{} }

// String gives it for people: "3.1417".
func (e Epoch) String() string { return fmt.Sprintf("%d.%d", e.Generation, e.N) }
