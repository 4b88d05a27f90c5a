package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"keystone/configs"
	"keystone/configs/addr"
	"keystone/pipeline"
	"keystone/reconcile"
	"keystone/sinks"
	"keystone/sources"
	"keystone/sources/parquet"
)

// resumeBackfills goes on with what ran when the server ended.
func (s *server) resumeBackfills(ctx context.Context) error {
	all, err := s.state.Backfills(ctx)
	for _, b := range all {
		if b.Phase == reconcile.BackfillRunning {
			s.launchBackfill(b)
		}
	}
	return err
}

// launchBackfill runs a backfill in the background until it is over, an operator stops it or the server ends.
func (s *server) launchBackfill(b reconcile.Backfill) {
	ctx, cancel := context.WithCancel(s.runtime.base)
	r := &backfilling{cancel: cancel, done: make(chan struct{}), state: b, before: maps.Clone(b.Counts)}
	if r.before == nil {
		r.before = map[string]int64{}
	}
	s.backfills.mu.Lock()
	defer s.backfills.mu.Unlock()
	if old := s.backfills.running[b.Addr]; old != nil {
		cancel()
		return
	}
	s.backfills.running[b.Addr] = r
	go func() {
		defer close(r.done)
		defer cancel()
		s.runBackfill(ctx, r)
		s.backfills.mu.Lock()
		delete(s.backfills.running, b.Addr)
		s.backfills.mu.Unlock()
	}()
}

// stopBackfills has all finish what is in flight; the next server goes on with them.
func (s *server) stopBackfills() {
	s.backfills.mu.Lock()
	running := slices.Collect(maps.Values(s.backfills.running))
	s.backfills.mu.Unlock()
	for _, r := range running {
		r.cancel()
	}
	for _, r := range running {
		<-r.done
	}
}

// How often a backfill looks around, and how a failed one waits.
const (
	backfillTick     = time.Second
	backfillRetryMin = time.Second
	backfillRetryMax = time.Minute
)

// runBackfill makes workers until the source ended, and writes down how it stands.
func (s *server) runBackfill(ctx context.Context, r *backfilling) {
	began := time.Now()
	idle := began.Sub(r.state.At) // time that counts for no rate
	r.mu.Lock()
	r.state.Took = max(0, idle-workedOf(r.state))
	r.mu.Unlock()
	wait := backfillRetryMin
	for {
		progress := processedNow(r)
		err := s.backfillOnce(ctx, r)
		if err == nil && ctx.Err() == nil && r.state.Then != "" {
			r.mu.Lock()
			r.activity = "hands over to the live route"
			r.mu.Unlock()
			err = s.handOver(ctx, r.state)
		}
		if processedNow(r) > progress {
			wait = backfillRetryMin
		}
		r.mu.Lock()
		end := r.end
		switch {
		case err == nil && ctx.Err() == nil:
			end = reconcile.BackfillFinished
		case err != nil && ctx.Err() == nil && (pipeline.IsHalt(err) || sources.IsFatal(err) || sinks.IsPermanent(err) || errors.Is(err, errGone)):
			end = reconcile.BackfillFailed
			r.state.Error = err.Error()
		}
		if end != "" {
			r.state.Phase = end
			if end.Over() {
				r.state.Ended = time.Now().UTC()
			}
		}
		r.activity = ""
		if err != nil && end == "" {
			r.activity = "tries again: " + err.Error()
		}
		r.mu.Unlock()
		s.saveBackfill(r)
		if end != "" || ctx.Err() != nil {
			return
		}
		s.log.Warn("the backfill's worker ended; another one goes on", "route", r.state.Addr.String(), "error", err, "after", wait)
		select {
		case <-time.After(wait):
			wait = min(2*wait, backfillRetryMax)
		case <-ctx.Done():
		}
	}
}

// workedOf is how long earlier workers took, by the rate that they had; a guess is good enough for the time that is left.
func workedOf(b reconcile.Backfill) time.Duration {
	if b.Rate > 0 {
		return time.Duration(float64(processed(b)) / float64(b.Rate) * float64(time.Second))
	}
	return 0
}

func processedNow(r *backfilling) int64 {
	st, _ := r.snapshot()
	return processed(st)
}

func (s *server) saveBackfill(r *backfilling) {
	st, _ := r.snapshot()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.runtime.base), observeTimeout)
	defer cancel()
	if err := s.state.SaveBackfill(ctx, st, nil); err != nil {
		s.log.Warn("how the backfill stands could not be written down", "route", st.Addr.String(), "error", err)
	}
}

// errGone is a backfill whose route or source is no longer in the goal.
var errGone = errors.New("it is no longer in the goal")

// backfillOnce runs one worker; nil: its source ended and everything is settled.
func (s *server) backfillOnce(ctx context.Context, r *backfilling) error {
	b := r.state
	cfg := s.goals.State().Config
	source, _ := addr.Parse(b.Source)
	if cfg == nil || cfg.Routes[b.Addr] == nil {
		return fmt.Errorf("%s: %w", b.Addr, errGone)
	}
	if cfg.Sources[source] == nil {
		return fmt.Errorf("%s: %w", source, errGone)
	}
	w, ok := cfg.Sources[source].Config.(warehouse)
	if !ok {
		return fmt.Errorf("%s, as the warehouse that was read: %w", source, errGone)
	}
	list, err := s.state.BackfillFiles(ctx, b.Addr)
	if err != nil {
		return err
	}
	var files []parquet.File
	if err := json.Unmarshal(list, &files); err != nil {
		return sources.Fatal{Err: fmt.Errorf("what the backfill reads, as it was stored: %w", err)}
	}
	route := cfg.Routes[b.Addr]
	j := job{cfg: cfg, route: route, group: route.Group, topics: s.runtime.topicNames(cfg), revision: s.goals.State().Revision.Serial, store: true}
	if u := s.runtime.unit(b.Addr, false); u != nil {
		j.group = u.groupOf(route) // what a route that was renamed kept: sinks know it by that
	} else if route.Enabled {
		return fmt.Errorf("%s is not started yet", b.Addr)
	}
	worker, err := s.plant.buildBackfill(ctx, j, b, w, files)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.worker = worker
	r.mu.Unlock()
	err = s.watchBackfill(ctx, r, worker)
	st, _ := r.snapshot()
	r.mu.Lock()
	r.before, r.state.Next, r.worker = st.Counts, st.Next, nil
	r.mu.Unlock()
	return err
}

// watchBackfill runs a worker, holds it back where the route falls behind, and writes down how it stands.
func (s *server) watchBackfill(ctx context.Context, r *backfilling, w *pipeline.Worker) error {
	ended := make(chan error, 1)
	go func() { ended <- w.Run(s.runtime.base) }()
	tick := time.NewTicker(backfillTick)
	defer tick.Stop()
	var y yielding
	gone := ctx.Done()
	ticks := 0
	for {
		select {
		case err := <-ended:
			return err
		case <-gone:
			gone = nil
			go func() { _ = w.Drain(context.WithoutCancel(s.runtime.base)) }() // ends with Run, which has its own bound
		case <-tick.C:
			if ticks++; ticks%10 == 0 {
				s.saveBackfill(r)
			}
			if ctx.Err() != nil {
				continue
			}
			yields := y.look(s.routeState(r.state.Addr))
			if yields {
				w.Pause()
			} else {
				w.Resume()
			}
			r.mu.Lock()
			r.activity = ""
			if yields {
				r.activity = "yields to the route, which is behind"
			}
			r.mu.Unlock()
		}
	}
}

func (s *server) routeState(a addr.Addr) reconcile.State {
	if u := s.runtime.unit(a, false); u != nil {
		return u.state()
	}
	return reconcile.State{Lag: -1}
}

// yielding decides whether a backfill stands back for its route.
type yielding struct {
	lag  int64 // the last one
	held bool
}

// lagFree is how far a route may be behind without anybody standing back for it.
const lagFree = 10_000

// look: the backfill stands back when the route is behind and falls back further, until it has caught up.
func (y *yielding) look(st reconcile.State) bool {
	works := st.Health == reconcile.Running || st.Health == reconcile.Degraded
	switch {
	case !works || st.Lag < 0 || st.Lag <= lagFree:
		y.held = false
	case st.Lag > y.lag && y.lag > 0:
		y.held = true
	}
	y.lag = st.Lag
	return y.held
}

// buildBackfill makes the worker of a backfill: the route's program, sink and dead letters, and rows for a source.
func (p *plant) buildBackfill(ctx context.Context, j job, b reconcile.Backfill, w warehouse, files []parquet.File) (*pipeline.Worker, error) {
	route := *j.route
	route.Delivery.Guarantee = configs.AtLeastOnce
	route.Parallelism = 1 // the processors are the live route's
	if b.Rate > 0 {
		route.Throttle = configs.Throttle{RecordsPerSecond: int(min(b.Rate, math.MaxInt32))}
	}
	j.route = &route
	spec, sinkKind, err := p.beside(ctx, j)
	if err != nil {
		return nil, err
	}
	r, d := p.reading(w, &route, b)
	r.Files = files
	spec.Source, spec.Log = parquet.New(r, d), p.log.With("route", route.Addr.String(), "backfill", b.ID)
	spec.Positions = renamed{p.positions(b.Source+" "+b.ID, route.To.Addr.String()+" "+sinkKind), backfillAddr(route.Addr)}
	return pipeline.New(spec), nil
}
