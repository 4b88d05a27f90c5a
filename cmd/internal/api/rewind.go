package api

import (
	"context"
	"net/http"
	"time"
)

// Rewind asks that a route goes on elsewhere in its source. Exactly one of
// Time, By, Offsets, Start and End says where.
type Rewind struct {
	Address string            `json:"address"`
	Time    time.Time         `json:"time,omitzero"`   // the first record of that time or later
	By      time.Duration     `json:"by_ns,omitempty"` // so long before now
	Offsets []PartitionOffset `json:"offsets,omitempty"`
	Start   bool              `json:"start,omitempty"` // the oldest record that is there
	End     bool              `json:"end,omitempty"`   // behind the newest one

	Plan bool   `json:"plan,omitempty"` // only tell
	Who  string `json:"who,omitempty"`
	// Skip agrees that records are skipped, which are then never delivered.
	Skip bool `json:"skip,omitempty"`
	// Planned are the positions that a plan gave, to be carried out as they were shown; empty: as they are found now.
	Planned []PartitionOffset `json:"planned,omitempty"`
	// PlannedTopic is what they count in.
	PlannedTopic string `json:"planned_topic,omitempty"`
}

// PartitionOffset is a position.
type PartitionOffset struct {
	Partition int32 `json:"partition"`
	Offset    int64 `json:"offset"`
}

// Rewound tells what a rewind does, or did.
type Rewound struct {
	FormatVersion string            `json:"format_version"`
	Addr          string            `json:"address"`
	Plan          bool              `json:"plan"`
	ID            string            `json:"id,omitempty"` // of what was done: in the audit, too
	How           string            `json:"how"`
	Source        string            `json:"source"`
	TopicID       string            `json:"topic_id,omitempty"`
	Unit          string            `json:"unit"` // what positions count: records, bytes
	Partitions    []RewindPartition `json:"partitions"`
	Repeated      int64             `json:"repeated"` // at most: what was compacted away is counted
	Skipped       int64             `json:"skipped"`
	Notes         []string          `json:"notes,omitempty"`
}

// RewindPartition is one partition of a rewind. From is where the route is, -1
// if it has no position there yet.
type RewindPartition struct {
	Partition int32  `json:"partition"`
	Name      string `json:"name,omitempty"` // of a file
	From      int64  `json:"from"`
	To        int64  `json:"to"`
	Repeated  int64  `json:"repeated"`
	Skipped   int64  `json:"skipped"`
}

// Moves tells whether any partition goes on elsewhere.
func (r Rewound) Moves() bool {
	for _, p := range r.Partitions {
		if p.From != p.To {
			return true
		}
	}
	return false
}

func (s *Server) rewind(w http.ResponseWriter, r *http.Request) {
	var o Rewind
	if !s.readRequest(w, r, &o) {
		return
	}
	done, err := s.Backend.Rewind(r.Context(), o)
	if err != nil {
		s.refuse(w, err)
		return
	}
	s.answer(w, done)
}

// Rewind has a route go on elsewhere in its source, or tells what that would do.
func (c *Client) Rewind(ctx context.Context, o Rewind) (Rewound, error) {
	var done Rewound
	if err := c.ask(ctx, "/v1/rewind", o, &done); err != nil {
		return done, err
	}
	return done, checkFormat(done.FormatVersion)
}

// Rewind has a route go on elsewhere in its source, or tells what that would do.
func (l Local) Rewind(ctx context.Context, o Rewind) (Rewound, error) {
	return l.Backend.Rewind(ctx, o)
}
