package pipeline

import (
	"context"
	"fmt"

	"keystone/configs"
	"keystone/configs/addr"
	"keystone/pipeline/record"
)

// Programs keeps which program ran from which offset on, so that what a route
// wrote can be judged later by the program that wrote it. SavePrograms is called
// before the first outcome of a program is committed, is durable when it returns,
// and is repeated for as long as it fails: the commit waits for it.
type Programs interface {
	SavePrograms(ctx context.Context, route addr.Addr, starts []ProgramStart) error
}

// ProgramStart is where a lane began to run a program.
type ProgramStart struct {
	At       record.Position // of the first record that it ran over
	Route    *configs.Route  // as New or Swap was given it
	Revision int64
	Swapped  bool // up to there the lane ran another program; else it began there
}

// began notes that the lane's records from t's first on have another program.
func (l *lane) began(t *task) {
	if l.w.spec.Programs == nil {
		return
	}
	at := t.position(0)
	if l.ran == nil {
		at.Offset = min(at.Offset, l.start.Offset) // gaps before the first record belong to it
	}
	l.starts = append(l.starts, ProgramStart{At: at, Route: t.plan.route, Revision: t.plan.revision, Swapped: l.ran != nil})
}

// savePrograms stores where programs began, of lanes that are about to be committed. It
// is called without mu, by whoever commits: one at a time.
func (w *Worker) savePrograms(ctx context.Context, lanes []*lane) error {
	if w.spec.Programs == nil {
		return nil
	}
	w.mu.Lock()
	var starts []ProgramStart
	taken := make([]int, len(lanes))
	for i, l := range lanes {
		starts, taken[i] = append(starts, l.starts...), len(l.starts)
	}
	w.mu.Unlock()
	if len(starts) == 0 {
		return nil
	}
	if err := w.spec.Programs.SavePrograms(ctx, w.spec.Route.Addr, starts); err != nil {
		return fmt.Errorf("save which program ran: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, l := range lanes {
		l.starts = append(l.starts[:0], l.starts[taken[i]:]...)
	}
	return nil
}
