package wire

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
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

// Serve runs the control plane until ctx is done, then drains. With errors in
// the files, what was stored last runs, if anything was.
func Serve(ctx context.Context, s ServeSpec) error {
	cfg, diags, before := s.loadAtRest(ctx)
	at := cfg
	if cfg == nil {
		s.Show(diags)
		if at = lastGood(s); at == nil {
			return ErrInvalid
		}
	}
	state, err := store.Open(ctx, store.Options{Dir: at.StateDirPath(), Env: at.Env, Namespace: at.Settings.Namespace})
	if err != nil {
		return err
	}
	defer state.Close() //nolint:errcheck // everything that counts was committed
	lease, err := state.Acquire(ctx, time.Now())
	if err != nil {
		return err
	}
	defer lease.Release() //nolint:errcheck // the lock ends with the process
	if err := ownState(ctx, s, state); err != nil {
		return err
	}
	if err := state.CompactApplied(ctx); err != nil {
		return err
	}
	srv := newServer(ctx, s, at, state)
	if err := srv.runtime.recall(ctx, state); err != nil {
		return err
	}
	if cfg == nil {
		srv.goals.Broken(diags, nil)
	}
	return srv.run(ctx, at, cfg, before)
}

// loadAtRest loads the files as they are when nobody writes them: a file that
// an editor has just emptied is a configuration too, that nobody meant.
func (s ServeSpec) loadAtRest(ctx context.Context) (*configs.Config, diag.Diagnostics, watch.Snapshot) {
	for range restTries {
		before, _ := s.take() // Load says what is wrong with the files
		cfg, diags := s.Load()
		if now, _ := s.take(); now.Hash == before.Hash || ctx.Err() != nil {
			return cfg, diags, before
		}
		timer := time.NewTimer(restPause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
	cfg, diags := s.Load()
	return cfg, diags, watch.Snapshot{}
}

// How long a start waits for files that are being written.
const (
	restTries = 50
	restPause = 100 * time.Millisecond
)

func (s ServeSpec) take() (watch.Snapshot, error) { return watch.Take(s.Dir, s.VarFiles...) }

// lastGood tells where the state of a directory is whose files have errors:
// in the usual place, if anything was stored there. Nil if not.
func lastGood(s ServeSpec) *configs.Config {
	at := &configs.Config{Dir: s.Dir, Env: s.Env, Settings: configs.Settings{StateDir: ".keystone"}}
	if !store.Exists(at.StateDirPath()) {
		return nil
	}
	return at
}

// ownState refuses state that belongs to another directory, which would take
// everything of that one away: with state_dir two may share one by mistake.
func ownState(ctx context.Context, s ServeSpec, state *store.Store) error {
	current, err := state.Current(ctx)
	if err != nil || current.Serial == 0 {
		return err
	}
	dir, err := filepath.Abs(s.Dir)
	if err != nil {
		return err
	}
	other := goalDir(current.Goal)
	_, gone := os.Stat(other) // a folder that was renamed takes its state along
	if other == "" || other == dir || gone != nil || s.Takeover {
		return nil //nolint:nilerr // gone is no failure
	}
	return fmt.Errorf("the namespace %q of this state belongs to the configuration in %s, and this one is in %s: give one of them another namespace or state_dir, or take it over with -takeover", current.Namespace, other, dir)
}

// server is a running control plane.
type server struct {
	spec    ServeSpec
	state   *store.Store
	plant   *plant
	runtime *runtime
	loop    *reconcile.Loop
	goals   *reconcile.Goals
	rows    reconcile.Ledger
	log     *slog.Logger
	started time.Time

	backfills backfills
	verifying chan struct{} // holds a token while a route is verified: one at a time
}

func newServer(ctx context.Context, s ServeSpec, at *configs.Config, state *store.Store) *server {
	p := newPlant(at, s.Log)
	p.ephemeral, p.programs = s.Ephemeral, state // also of topics that go with the process: the next ones have other ids
	p.generation, p.wrap = state.Generation, s.wrap
	p.positions = func(source, sink string) pipeline.Positions { return state.Positions(source, sink) }
	srv := &server{spec: s, state: state, plant: p, rows: state, log: s.Log, started: time.Now(), verifying: make(chan struct{}, 1), backfills: backfills{running: map[addr.Addr]*backfilling{}}}
	var positions *memory
	if s.Ephemeral { // the topics go with the process, and so does what is known of them
		positions = &memory{rows: map[string]remembered{}}
		p.positions = func(source, sink string) pipeline.Positions { return kept{positions, source + "\n" + sink} }
		srv.rows = &memoryLedger{rows: map[addr.Addr]reconcile.Applied{}}
	}
	// Workers outlive ctx, to be drained; they end with run.
	srv.runtime = newRuntime(context.WithoutCancel(ctx), p, func() { srv.loop.Trigger() }, func() reconcile.GoalState { return srv.goals.State() })
	srv.runtime.movePositions, srv.runtime.dropPositions, srv.runtime.endRewind = state.MovePositions, state.DropPositions, state.EndRewind
	srv.runtime.step = s.step
	if positions != nil {
		srv.runtime.dropPositions = positions.drop
		srv.runtime.endRewind = func(ctx context.Context, r reconcile.Rewind, moved bool, e reconcile.AuditEntry) error {
			if moved {
				positions.rewind(r)
			}
			return state.EndRewind(ctx, r, moved, e)
		}
	}
	srv.loop = reconcile.NewLoop(reconcile.LoopSpec{
		Runtime: srv.runtime, Ledger: srv.rows, Decode: decodeLike, Rand: rand.Float64, Log: s.Log,
	})
	srv.goals = reconcile.NewGoals(reconcile.GoalsSpec{Revisions: state, Loop: srv.loop, Encode: EncodeGoal, Decode: DecodeGoal, Log: s.Log})
	return srv
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

// run serves until ctx is done. at says where; cfg is the files' goal, nil if they have errors.
func (s *server) run(ctx context.Context, at, cfg *configs.Config, before watch.Snapshot) (err error) {
	defer s.plant.close()
	listeners, err := s.listen(ctx, at)
	if err != nil {
		return err
	}
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stopServing()
	if err := s.first(ctx, cfg, before); err != nil {
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
	if err := s.resumeBackfills(ctx); err != nil {
		s.log.Error("backfills that were under way do not go on", "error", err)
	}
	looping, stopLoop := context.WithCancel(context.WithoutCancel(ctx))
	looped := make(chan error, 1)
	go func() { looped <- s.loop.Run(looping) }()
	if s.spec.Watch {
		wg.Go(func() { s.watch(ctx, before.Hash) })
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
	s.stopBackfills()
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

// first gives the loop its first goal: the files, or what was stored last.
func (s *server) first(ctx context.Context, cfg *configs.Config, files watch.Snapshot) error {
	if s.spec.Watch && cfg != nil {
		return s.take(ctx, cfg, files, "keystone serve")
	}
	if err := s.goals.Open(ctx); err != nil {
		return err
	}
	switch st := s.goals.State(); {
	case st.Revision.Serial == 0:
		s.log.Warn("nothing is stored yet, so nothing runs: store a goal with `keystone apply`")
	case cfg == nil:
		s.log.Error("the files have errors: what was stored last runs", "revision", st.Revision.Serial)
	}
	return nil
}

// take makes the files' configuration the goal.
func (s *server) take(ctx context.Context, cfg *configs.Config, files watch.Snapshot, why string) error {
	s.plant.use(cfg)
	_, err := s.goals.Propose(ctx, reconcile.Proposal{Config: cfg, Who: whoami(), Why: why, Sources: files.Files, Serial: reconcile.Latest})
	return err
}

// watch takes each edit; a broken one leaves the last good goal, and one that cannot be stored is tried again.
func (s *server) watch(ctx context.Context, since string) {
	said := "" // why the edit could not be stored, lest each attempt say it again
	watch.New(watch.Options{Dir: s.spec.Dir, Others: s.spec.VarFiles, Log: s.log}, since).Run(ctx, func(c watch.Change) {
		if c.Err != nil {
			s.goals.Broken(nil, c.Err)
			s.log.Error("the files cannot be read: the last good revision keeps running", "error", c.Err)
			return
		}
		cfg, diags := s.spec.Load()
		// A: the files come to rest. B: an editor empties one, to write it anew.
		// A: loads them, and finds a configuration without routes that nobody meant.
		if now, err := s.spec.take(); err != nil || now.Hash != c.Hash {
			c.Again()
			return
		}
		if cfg == nil {
			s.goals.Broken(diags, nil)
			s.spec.Show(diags)
			s.log.Error("the edit has errors and is not taken", "so", s.goals.State().Message())
			return
		}
		err := s.take(ctx, cfg, c.Snapshot, "files changed")
		if err == nil || ctx.Err() != nil {
			said = ""
			return
		}
		s.goals.Broken(nil, err)
		if err.Error() != said {
			said = err.Error()
			s.log.Error("the edit could not be taken: the last good revision keeps running", "error", err)
		}
		if _, other := errors.AsType[*reconcile.OtherGoalError](err); !other {
			c.Later()
		}
	})
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

// drop forgets what is kept for a route.
func (m *memory) drop(_ context.Context, route addr.Addr) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.rows, func(key string, _ remembered) bool { return strings.HasPrefix(key, route.String()+"\n") })
	return nil
}

// rewind puts the positions of a route in one source elsewhere; what its sinks
// said stays. Twice is once.
func (m *memory) rewind(r reconcile.Rewind) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, row := range m.rows {
		if !strings.HasPrefix(key, r.Addr.String()+"\n"+r.Source+"\n") {
			continue
		}
		for _, to := range r.To {
			i := slices.IndexFunc(row.from, func(p record.Position) bool { return p.Partition == to.Partition })
			if i < 0 {
				row.from = append(row.from, to)
			} else {
				row.from[i] = to
			}
		}
		m.rows[key] = row
	}
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
