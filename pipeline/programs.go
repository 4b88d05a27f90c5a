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
// before the first output of a program is written and before its first outcome is
// committed, is durable when it returns, and is repeated for as long as it fails: the lane waits for it.
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
		from := l.start.Offset
		if l.link != nil {
			from = l.link.end.Offset
		}
		at.Offset = min(at.Offset, from) // gaps before the first record belong to it
	}
	l.starts = append(l.starts, ProgramStart{At: at, Route: t.plan.route, Revision: t.plan.revision, Swapped: l.ran != nil})
}

// savePrograms stores where programs began, of lanes that are about to be
// written or committed. It is called without mu.
func (w *Worker) savePrograms(ctx context.Context, lanes []*lane) error {
	if w.spec.Programs == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.saveProgramsLocked(ctx, lanes)
}

// saveProgramsLocked gives mu up while it stores. One call at a time does: the
// order in which a lane's programs ran is that in which they are stored.
func (w *Worker) saveProgramsLocked(ctx context.Context, lanes []*lane) error {
	defer w.wakeAfter(ctx)()
	for w.saving && ctx.Err() == nil {
		w.changed.Wait()
	}
	if w.saving {
		return context.Cause(ctx)
	}
	var starts []ProgramStart
	taken := make([]int, len(lanes))
	for i, l := range lanes {
		starts, taken[i] = append(starts, l.starts...), len(l.starts)
	}
	if len(starts) == 0 {
		return nil
	}
	w.saving = true
	w.mu.Unlock()
	err := guard("programs", func() error { return w.spec.Programs.SavePrograms(ctx, w.spec.Route.Addr, starts) })
	w.mu.Lock()
	w.saving = false
	w.changed.Broadcast()
	if err != nil {
		return fmt.Errorf("save which program ran: %w", err)
	}
	for i, l := range lanes {
		l.starts = append(l.starts[:0], l.starts[taken[i]:]...)
	}
	return nil
}

// told stores the programs of what is about to be written, for as long as it
// takes: a crash after the first write must not leave outputs of a program that nobody
// knows. The caller has the writer role, and mu; false means that the lane ended.
func (l *lane) told() bool {
	for len(l.starts) > 0 && l.w.spec.Programs != nil && !l.dead() {
		err := l.w.saveProgramsLocked(l.ctx, []*lane{l})
		switch {
		case err == nil:
			if l.err != nil {
				l.fail(nil)
			}
			continue
		case isPanic(err):
			l.w.abortLocked(err)
			return false
		case l.dead():
			return false
		}
		l.wait = Retrying
		l.fail(err)
		if l.backoff == nil {
			l.startBackoff()
		}
		if !l.sleep(l.backoff.NextBackOff()) {
			return false
		}
	}
	return !l.dead()
}
