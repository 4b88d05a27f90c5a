package wire

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"sync"
	"time"

	"keystone/cmd/internal/api"
	"keystone/configs"
	"keystone/configs/addr"
	"keystone/configs/diag"
	"keystone/pipeline"
	"keystone/pipeline/record"
	"keystone/reconcile"
	"keystone/reconcile/store"
	"keystone/reconcile/watch"
)

// stopTimeout bounds how long all routes together may take to drain when the
// server stops; each has its own drain_timeout within.
const stopTimeout = 45 * time.Second

// ErrInvalid says that the configuration has errors, which were shown.
var ErrInvalid = errors.New("the configuration has errors")

// Serve runs the control plane until ctx is done, then drains.
func Serve(ctx context.Context, s ServeSpec) error {
	cfg, diags := s.Load()
	if cfg == nil {
		s.Show(diags)
		if err := diags.Err(); err != nil {
			return ErrInvalid
		}
	}
	state, err := store.Open(ctx, store.Options{Dir: cfg.StateDirPath(), Env: cfg.Env, Namespace: cfg.Settings.Namespace})
	if err != nil {
		return err
	}
	defer state.Close() //nolint:errcheck // everything that counts was committed
	lease, err := state.Acquire(ctx, time.Now())
	if err != nil {
		return err
	}
	defer lease.Release() //nolint:errcheck // the lock ends with the process
	srv, err := newServer(ctx, s, cfg, state)
	if err != nil {
		return err
	}
	return srv.run(ctx, cfg)
}

// server is a running control plane.
type server struct {
	spec    ServeSpec
	state   *store.Store
	plant   *plant
	runtime *runtime
	loop    *reconcile.Loop
	rows    reconcile.Ledger
	log     *slog.Logger
	started time.Time

	commit sync.Mutex // held while a goal is compared, stored and given to the loop

	mu      sync.Mutex // guards everything below
	current reconcile.Revision
	goal    *configs.Config
	broken  diag.Diagnostics
}

func newServer(ctx context.Context, s ServeSpec, cfg *configs.Config, state *store.Store) (*server, error) {
	p := newPlant(cfg, s.Log)
	p.ephemeral = s.Ephemeral
	p.positions = func(source, sink string) pipeline.Positions { return state.Positions(source, sink) }
	if s.Ephemeral {
		memory := &memory{rows: map[string]remembered{}}
		p.positions = func(source, sink string) pipeline.Positions { return kept{memory, source + "\n" + sink} }
	}
	srv := &server{spec: s, state: state, plant: p, rows: state, log: s.Log, started: time.Now()}
	if s.Ephemeral {
		srv.rows = &memoryLedger{rows: map[addr.Addr]reconcile.Applied{}} // the topics go with the process
	}
	// Workers outlive ctx, to be drained; they end with run.
	srv.runtime = newRuntime(context.WithoutCancel(ctx), p, func() { srv.loop.Trigger() })
	srv.loop = reconcile.NewLoop(reconcile.LoopSpec{
		Runtime: srv.runtime, Ledger: srv.rows, Decode: decodeLike, Rand: rand.Float64, Log: s.Log,
	})
	return srv, nil
}

func decodeLike(like *configs.Config, rs []configs.Resource) (*configs.Config, error) {
	meta := configs.Meta{Dir: like.Dir, Env: like.Env, Settings: like.Settings, Moved: like.Moved, Removed: like.Removed}
	c, diags := configs.FromResources(rs, meta, Catalog())
	if err := diags.Err(); err != nil {
		return nil, err
	}
	c.Secrets = like.Secrets
	return c, nil
}

// run serves until ctx is done.
func (s *server) run(ctx context.Context, cfg *configs.Config) (err error) {
	defer s.plant.close()
	listeners, err := s.listen(ctx, cfg)
	if err != nil {
		return err
	}
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stopServing()
	if err := s.first(ctx, cfg); err != nil {
		return errors.Join(err, closeAll(listeners))
	}
	answers := &api.Server{Backend: s, Version: s.spec.Version, Goals: api.Codec{Encode: EncodeGoal, Decode: DecodeGoal}, Log: s.log}
	for _, l := range listeners {
		wg.Go(func() {
			serve := answers.ServeTCP
			if l.Addr().Network() == "unix" {
				serve = answers.ServeUnix
			}
			if err := serve(serving, l); err != nil {
				s.log.Error("the API stopped", "error", err)
			}
		})
	}
	looping, stopLoop := context.WithCancel(context.WithoutCancel(ctx))
	looped := make(chan error, 1)
	go func() { looped <- s.loop.Run(looping) }()
	if s.spec.Watch {
		wg.Go(func() { s.watch(ctx) })
	}
	select {
	case <-ctx.Done():
		s.log.Info("stopping: what is in flight is finished first; a second signal stops at once")
	case err = <-looped:
		looped <- err
	}
	stopLoop()
	err = errors.Join(err, <-looped)
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if drainErr := s.runtime.stop(stopping); drainErr != nil {
		s.log.Warn("not everything drained; what was in flight is read again", "error", drainErr)
	}
	return err
}

// listen opens the socket and the port before anything runs, so that a port
// in use is said at once.
func (s *server) listen(ctx context.Context, cfg *configs.Config) ([]net.Listener, error) {
	path, err := api.SocketPath(filepath.Dir(cfg.StateDirPath()), cfg.Env)
	if err != nil {
		return nil, err
	}
	l, err := api.ListenUnix(ctx, path)
	if err != nil {
		return nil, err
	}
	out := []net.Listener{l}
	address := s.spec.Listen
	if address == "" {
		address = cfg.Settings.Listen
	}
	if address == "" {
		return out, nil
	}
	tcp, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the HTTP API cannot listen on %s; choose another address with -listen: %w", address, err), closeAll(out))
	}
	s.log.Info("the HTTP API listens", "address", tcp.Addr().String())
	return append(out, tcp), nil
}

func closeAll(ls []net.Listener) error {
	var errs []error
	for _, l := range ls {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// first gives the loop its first goal: the files, or what apply stored.
func (s *server) first(ctx context.Context, cfg *configs.Config) error {
	current, err := s.state.Current(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.current = current
	s.mu.Unlock()
	if s.spec.Watch {
		_, err := s.propose(ctx, cfg, proposal{serial: current.Serial, who: whoami(), why: "keystone serve"})
		return err
	}
	if current.Serial == 0 {
		s.log.Warn("nothing is stored yet, so nothing runs: store a goal with `keystone apply`")
		return nil
	}
	goal, err := DecodeGoal(current.Goal)
	if err != nil {
		return err
	}
	s.give(goal, current, nil)
	return nil
}

// watch proposes each edit; a broken one leaves the last good goal. What
// was loaded at start is told once more and equals the current goal.
func (s *server) watch(ctx context.Context) {
	w := watch.New(watch.Options{Dir: s.spec.Dir, Log: s.log}, "")
	w.Run(ctx, func(c watch.Change) {
		if c.Err != nil {
			s.log.Error("the configuration cannot be read: the last good revision keeps running", "error", c.Err)
			return
		}
		s.edited(ctx)
	})
}

func (s *server) edited(ctx context.Context) {
	cfg, diags := s.spec.Load()
	if cfg == nil {
		s.mu.Lock()
		s.broken = diags
		serial := s.current.Serial
		s.mu.Unlock()
		s.spec.Show(diags)
		s.log.Error("the edit has errors and is not taken: the last good revision keeps running", "revision", serial)
		return
	}
	s.mu.Lock()
	s.broken = nil
	serial := s.current.Serial
	s.mu.Unlock()
	if _, err := s.propose(ctx, cfg, proposal{serial: serial, who: whoami(), why: "files changed"}); err != nil && ctx.Err() == nil {
		s.log.Error("the edit could not be taken", "error", err)
	}
}

// proposal says on which revision a goal builds, and what it may destroy.
type proposal struct {
	serial   int64
	who, why string
	allow    reconcile.Allow
}

// propose stores a goal as the next revision, unless it equals the current one, and
// gives it to the loop.
func (s *server) propose(ctx context.Context, cfg *configs.Config, p proposal) (int64, error) {
	s.commit.Lock()
	defer s.commit.Unlock()
	goal, err := EncodeGoal(cfg)
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	current := s.current
	s.mu.Unlock()
	if current.Serial != p.serial {
		return 0, &reconcile.StaleError{Planned: p.serial, Stored: current.Serial}
	}
	if current.Serial == 0 || !sameGoal(current.Goal, goal) {
		r := reconcile.Revision{Env: cfg.Env, Namespace: cfg.Settings.Namespace, Time: time.Now(), Who: p.who, Why: p.why, Goal: goal}
		if current, err = s.state.Commit(ctx, r, p.serial); err != nil {
			return 0, err
		}
	}
	s.give(cfg, current, p.allow)
	return current.Serial, nil
}

// sameGoal compares what two goals mean: positions in files do not count.
func sameGoal(a, b []byte) bool {
	x, err := DecodeGoal(a)
	if err != nil {
		return false
	}
	y, err := DecodeGoal(b)
	if err != nil {
		return false
	}
	plan := reconcile.Diff(reconcile.Goal{Env: y.Env, Namespace: y.Settings.Namespace, Config: y}, reconcile.AsApplied(x, time.Time{}), time.Time{})
	return len(plan.Changes) == 0 && x.Settings.Namespace == y.Settings.Namespace
}

func (s *server) give(cfg *configs.Config, r reconcile.Revision, allow reconcile.Allow) {
	s.plant.use(cfg)
	s.runtime.setSerial(r.Serial)
	s.mu.Lock()
	s.current, s.goal = r, cfg
	s.mu.Unlock()
	s.loop.SetGoal(reconcile.Goal{Serial: r.Serial, Env: cfg.Env, Namespace: cfg.Settings.Namespace, Config: cfg}, allow)
}

// whoami names the user of this process in revisions and the audit.
func whoami() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		return name
	}
	return name + "@" + host
}

// memory keeps positions for -ephemeral.
type memory struct {
	mu   sync.Mutex // guards rows
	rows map[string]remembered
}

type remembered struct {
	from  []record.Position
	state []byte
}

type kept struct {
	*memory
	of string
}

func (k kept) LoadPositions(_ context.Context, route addr.Addr) ([]record.Position, []byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.rows[route.String()+"\n"+k.of]
	return r.from, r.state, nil
}

func (k kept) SavePositions(_ context.Context, route addr.Addr, from []record.Position, state []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.rows[route.String()+"\n"+k.of] = remembered{append([]record.Position(nil), from...), append([]byte(nil), state...)}
	return nil
}

// memoryLedger remembers what was applied for -ephemeral.
type memoryLedger struct {
	mu   sync.Mutex // guards rows
	rows map[addr.Addr]reconcile.Applied
}

func (m *memoryLedger) LoadApplied(context.Context) ([]reconcile.Applied, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]reconcile.Applied, 0, len(m.rows))
	for _, r := range m.rows {
		out = append(out, r)
	}
	return out, nil
}

func (m *memoryLedger) SaveApplied(_ context.Context, put []reconcile.Applied, gone []addr.Addr) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range gone {
		delete(m.rows, a)
	}
	for _, r := range put {
		m.rows[r.Addr] = r
	}
	return nil
}
