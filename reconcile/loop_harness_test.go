package reconcile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"keystone/configs"
	"keystone/configs/addr"
)

// memory is a ledger; what is in it survives a crash.
type memory struct {
	mu    sync.Mutex
	rows  map[addr.Addr]Applied
	fail  error
	saves int
	fuse  *fuse
}

func (m *memory) LoadApplied(context.Context) ([]Applied, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.rows)), nil
}

func (m *memory) SaveApplied(_ context.Context, put []Applied, gone []addr.Addr) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fuse.dead() {
		return errKilled
	}
	if m.fail != nil {
		return m.fail
	}
	m.saves++
	remember(m.rows, put, gone)
	if m.fuse.dead() {
		return errKilled
	}
	return nil
}

var errKilled = errors.New("killed")

// fuse kills the process at its n-th step; nil never does.
type fuse struct {
	mu   sync.Mutex
	left int
	kill context.CancelFunc
}

func (f *fuse) dead() bool {
	if f == nil {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left--
	if f.left < 0 {
		f.kill()
		return true
	}
	return false
}

// simulated is a Runtime over a world.
type simulated struct {
	mu       sync.Mutex
	w        *world
	fuse     *fuse
	fails    map[addr.Addr]error
	blocks   map[addr.Addr]chan struct{}
	failed   map[addr.Addr]State // workers that failed
	offline  map[addr.Addr]string
	applied  []string
	times    map[addr.Addr][]time.Time
	observes int
}

func newSimulated() *simulated {
	return &simulated{w: newWorld(), fails: map[addr.Addr]error{}, blocks: map[addr.Addr]chan struct{}{}, failed: map[addr.Addr]State{}, times: map[addr.Addr][]time.Time{}}
}

func (s *simulated) Observe(context.Context) (Observed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fuse.dead() {
		return Observed{}, errKilled
	}
	s.observes++
	o := s.w.observe(time.Now())
	for a, st := range s.failed {
		if seen, ok := o.States[a]; ok {
			seen.Health, seen.Error, seen.Since, seen.Restarts = Failed, st.Error, st.Since, st.Restarts
			o.States[a] = seen
		}
	}
	o.Unreachable = maps.Clone(s.offline)
	return o, nil
}

func (s *simulated) Apply(ctx context.Context, cfg *configs.Config, c Change) error {
	s.mu.Lock()
	block, fail := s.blocks[c.Addr], s.fails[c.Addr]
	s.times[c.Addr] = append(s.times[c.Addr], time.Now())
	s.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if fail != nil {
		if fail.Error() == "panic" {
			panic("boom")
		}
		return fail
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fuse.dead() {
		return errKilled
	}
	delete(s.failed, c.Addr)
	s.w.apply(cfg, c)
	s.applied = append(s.applied, string(c.Action)+" "+c.Addr.String())
	if s.fuse.dead() {
		return errKilled
	}
	return nil
}

func (s *simulated) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// at gives when an address was applied.
func (s *simulated) at(a addr.Addr) []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.times[a])
}

func (m *memory) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.saves
}

func (s *simulated) looks() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.observes
}

func (s *simulated) deleted() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.w.deleted)
}

// filter gives what a worker filters by.
func (s *simulated) filter(route string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.workers[must(route)].Options["filter"].Canonical
}

func (s *simulated) log() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.applied
	s.applied = nil
	return out
}

// decode rebuilds a configuration from resources, as configs.FromResources does.
func decode(like *configs.Config, resources []configs.Resource) (*configs.Config, error) {
	b := blocks{res: map[addr.Addr]block{}, moved: like.Moved, removed: like.Removed}
	for _, r := range resources {
		opts := map[string]string{}
		for name, o := range r.Options {
			opts[name] = o.Canonical
		}
		b.res[r.Addr] = block{r.Kind, opts}
	}
	for a, x := range b.res {
		for _, name := range refOptions {
			if ref, ok := x.opts[name]; ok {
				if to, err := addr.Parse(ref); err == nil && b.res[to].opts == nil {
					return nil, fmt.Errorf("%s refers to %s, which is not declared", a, to)
				}
			}
		}
	}
	return b.config(), nil
}

// harness runs a loop inside a synctest bubble.
type harness struct {
	t      *testing.T
	loop   *Loop
	rt     *simulated
	ledger *memory
	stop   func()
	events []Event
}

func startLoop(t *testing.T, rt *simulated, ledger *memory) *harness {
	t.Helper()
	return startWith(t, rt, ledger, LoopSpec{Decode: decode})
}

func startWith(t *testing.T, rt *simulated, ledger *memory, s LoopSpec) *harness {
	t.Helper()
	s.Runtime, s.Ledger = rt, ledger
	h := &harness{t: t, loop: NewLoop(s), rt: rt, ledger: ledger}
	h.loop.Subscribe(func(e Event) { h.events = append(h.events, e) })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	if rt.fuse != nil {
		rt.fuse.kill = cancel
	}
	go func() { ended <- h.loop.Run(ctx) }()
	h.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	return h
}

func (h *harness) goal(serial int64, b blocks, allow ...addr.Addr) {
	g := goalOf(b)
	g.Serial = serial
	a := Allow{}
	for _, x := range allow {
		a[x] = true
	}
	h.loop.SetGoal(g, a)
}

func (h *harness) settle(serial int64) Settled {
	h.t.Helper()
	s, err := h.loop.Settle(h.t.Context(), serial)
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

func newMemory() *memory { return &memory{rows: map[addr.Addr]Applied{}} }

func (h *harness) workers(names ...string) {
	h.t.Helper()
	h.rt.mu.Lock()
	defer h.rt.mu.Unlock()
	var got []string
	for _, a := range slices.SortedFunc(maps.Keys(h.rt.w.workers), addr.Compare) {
		got = append(got, a.Name)
	}
	if !slices.Equal(got, names) {
		h.t.Errorf("workers of %v run, want %v", got, names)
	}
}
