package pipeline

import "context"

// Result is what one run of a route did, as `keystone run -json` prints it:
// Read is the sum of the four outcomes when the run ended by itself. Abandoned
// counts what was read and given up because the run was stopped: it has no outcome and,
// unless at most once was asked for, no position past it was stored: the next run reads it again.
type Result struct {
	Read         int64   `json:"read"`
	Delivered    int64   `json:"delivered"`
	Filtered     int64   `json:"filtered"`
	DeadLettered int64   `json:"dead_lettered"`
	Dropped      int64   `json:"dropped"`
	Abandoned    int64   `json:"abandoned,omitempty"`
	Skipped      int64   `json:"skipped,omitempty"` // the sink had them from an earlier run
	Written      int64   `json:"written"`
	ReadBytes    int64   `json:"read_bytes"`
	WrittenBytes int64   `json:"written_bytes"`
	Reasons      Reasons `json:"reasons,omitempty"`
}

// RunOnce runs a worker to its end and gives what it did, also with an error.
func RunOnce(ctx context.Context, w *Worker) (Result, error) {
	err := w.Run(ctx)
	s := w.Stats()
	return s.Result(), err
}

// Result gives the totals of a snapshot.
func (s *Stats) Result() Result {
	c := &s.Total
	return Result{
		Read: c.Read, Delivered: c.Delivered, Filtered: c.Filtered, DeadLettered: c.DeadLettered, Dropped: c.Dropped,
		Abandoned: c.Abandoned, Skipped: c.Skipped, Written: c.Written, ReadBytes: c.ReadBytes, WrittenBytes: c.WrittenBytes, Reasons: c.Reasons,
	}
}
