package pipeline

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"keystone/configs"
	"keystone/configs/addr"
)

// history remembers which program ran, and refuses to for as long as fail is set.
type history struct {
	mu     sync.Mutex
	fail   error
	starts []ProgramStart
}

func (h *history) SavePrograms(_ context.Context, _ addr.Addr, starts []ProgramStart) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fail == nil {
		h.starts = append(h.starts, starts...)
	}
	return h.fail
}

func (h *history) set(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fail = err
}

// TestProgramsAreStoredBeforeTheirOutcomes: a lane's first program and every
// swap are stored with their first offset before anything of it is written or
// committed, and the lane waits for as long as they cannot be.
func TestProgramsAreStoredBeforeTheirOutcomes(t *testing.T) {
	for _, order := range []configs.Order{configs.OrderPartition, configs.OrderKey, configs.OrderNone} {
		t.Run(string(order), func(t *testing.T) { in(t, func(t *testing.T) { testPrograms(t, order) }) })
	}
}

func testPrograms(t *testing.T, order configs.Order) {
	h := &history{}
	src := newMemSource(5).add(0, values("v", 0, 5)...)
	src.endless = true
	ordered := func(r *configs.Route) { r.Order = order }
	one, two := testRoute(ordered), testRoute(ordered)
	g := newRig(src, newMemSink(), one, func(s *Spec) { s.Programs = h })
	var offsets []int64 // that are committed
	src.check = func(_ int32, next int64) error {
		h.mu.Lock()
		defer h.mu.Unlock()
		offsets = append(offsets, next)
		if len(h.starts) == 0 || next > 5 && len(h.starts) < 2 {
			return errors.New("committed before the program was stored")
		}
		return nil
	}
	g.start(t.Context())
	synctest.Wait()
	time.Sleep(2 * time.Second) // the bubble's: a commit interval passes
	h.set(errors.New("the disk is full"))
	g.w.swap(newPlan(func() evaluator { return upper{} }, two, 2, true))
	src.add(0, values("v", 5, 10)...)
	synctest.Wait()
	time.Sleep(time.Minute)
	if got := src.committedAt(0); got != 5 {
		t.Errorf("committed %d while the program cannot be stored", got)
	}
	if got := g.sink.values(0); len(got) != 5 {
		t.Errorf("%v are written while the program cannot be stored", got)
	}
	if s := g.w.Stats(); s.Activity != Retrying || !strings.Contains(s.Error, "the disk is full") {
		t.Errorf("it is %s, %s", s.Activity, s.Error)
	}
	h.set(nil)
	time.Sleep(time.Minute)
	g.w.Drain(t.Context())
	g.wait(t)
	if len(src.violations) > 0 {
		t.Error(src.violations)
	}
	if got := src.committedAt(0); got != src.logs[0][9].Offset+1 {
		t.Errorf("committed %d", got)
	}
	type start struct {
		first, revision int64
		swapped         bool
		route           *configs.Route
	}
	var got []start
	for _, s := range h.starts {
		got = append(got, start{s.At.Offset, s.Revision, s.Swapped, s.Route})
	}
	if want := []start{{0, 1, false, one}, {src.logs[0][5].Offset, 2, true, two}}; !slices.Equal(got, want) {
		t.Errorf("stored %+v, want %+v", got, want)
	}
}
