package wire

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"keystone/cmd/internal/api"
	"keystone/configs"
	"keystone/configs/addr"
	"keystone/pipeline"
	"keystone/reconcile"
	"keystone/reconcile/store"
	"keystone/sinks"
)

// desk gives the dead letters of what runs.
func (s *server) desk() *letterDesk {
	cfg := s.goals.State().Config
	d := &letterDesk{plant: s.plant, cfg: cfg, marks: s.state}
	if cfg != nil {
		d.topics = s.runtime.topicNames(cfg)
	}
	return d
}

// LetterCounts counts the letters of every route; see api.Letters.
func (s *server) LetterCounts(ctx context.Context) ([]api.LetterSummary, error) {
	return s.desk().counts(ctx)
}

// DeadLetters gives the letters of a route.
func (s *server) DeadLetters(ctx context.Context, q api.LetterQuery, emit func(api.DeadLetter) error) (api.LetterSummary, error) {
	return s.desk().list(ctx, q, emit)
}

// Purge gives letters up.
func (s *server) Purge(ctx context.Context, o api.Purge) (api.Purged, error) {
	return s.desk().purge(ctx, o, s.audited)
}

// audited writes a line of the audit about the goal as it is.
func (s *server) audited(ctx context.Context, e reconcile.AuditEntry) error {
	e.Serial = s.goals.State().Revision.Serial
	return s.state.Audit(context.WithoutCancel(ctx), e)
}

// replay is one replay: which letters, and what came of it.
type replay struct {
	desk  *letterDesk
	route addr.Addr
	ask   api.Replay
	done  api.Replayed
	same  chan int64 // holds how many letters were of a record that another letter had
}

// wants tells of a letter that matches whether it is replayed.
func (r *replay) wants(f found, done *api.Replayed) bool {
	switch {
	case f.state == api.LetterReplayed && !r.ask.Again:
		done.Skipped++
	case f.letter.Replays >= r.ask.MaxReplays:
		done.Exhausted++
	default:
		return true
	}
	return false
}

// scan calls f with the letters that are replayed, and counts them in done.
func (r *replay) scan(ctx context.Context, done *api.Replayed, f func(found) error) error {
	q := r.ask.LetterQuery
	limit := q.Limit
	q.Limit = 0 // of letters that are replayed
	sum := api.LetterSummary{Codes: []api.LetterCount{}}
	all, err := r.desk.scan(ctx, r.route, q, func(x found) error {
		if !r.wants(x, done) {
			return nil
		}
		if err := f(x); err != nil {
			return err
		}
		sum.Count(x.letter.Code, x.state)
		if limit > 0 && sum.Letters >= limit {
			return errEnoughLetters
		}
		return nil
	})
	sum.FormatVersion, sum.Addr, sum.Places, sum.Ends = all.FormatVersion, all.Addr, all.Places, all.Ends
	sum.Uncertain, sum.UncertainWhy, sum.Broken = all.Uncertain, all.UncertainWhy, all.Broken
	done.LetterSummary = sum
	return err
}

// Replay sends the records of letters through their route again.
func (s *server) Replay(ctx context.Context, o api.Replay, progress func(api.Replayed)) (api.Replayed, error) {
	d := s.desk()
	route, err := d.route(o.Address)
	if err != nil {
		return api.Replayed{}, err
	}
	if d.cfg == nil || d.cfg.Routes[route] == nil {
		return api.Replayed{}, fmt.Errorf("%w: %s is not in the goal, so there is no program to replay with", api.ErrUnsupported, route)
	}
	if o.MaxReplays <= 0 {
		o.MaxReplays = api.DefaultMaxReplays
	}
	r := &replay{desk: d, route: route, ask: o, same: make(chan int64, 1)}
	r.same <- 0
	r.done.Plan = o.Plan
	if o.Plan {
		err := r.scan(ctx, &r.done, func(found) error { return nil })
		r.done.Notes = s.replayNotes(d.cfg.Routes[route])
		return r.done, err
	}
	u := s.runtime.unit(route, false)
	if u == nil {
		return api.Replayed{}, s.notFound(route)
	}
	_, alone := s.sinkAlone(d.cfg.Routes[route])
	if !u.beginReplay(alone) {
		return api.Replayed{}, fmt.Errorf("dead letters of %s are being replayed already; one replay at a time", route)
	}
	defer func() {
		u.endReplay()
		s.loop.Retry(route)
	}()
	return s.replay(ctx, u, r, progress)
}

// replayNotes says what a replay means for the route.
func (s *server) replayNotes(route *configs.Route) []string {
	notes := []string{"they go through the program and to the sink of the route as they are now, after what it has written"}
	if route.Delivery.Guarantee != configs.AtLeastOnce && route.Delivery.Guarantee != "" {
		notes = append(notes, "a replay is at least once, whatever the guarantee of the route: a crash in the middle repeats")
	}
	if s.sinkChained(route) {
		notes = append(notes, "their rows are commits of their own, beside those of the route; a replay is at least once: a crash in the middle repeats")
	}
	if _, checkpoints := s.sinkAlone(route); checkpoints {
		notes = append(notes, "the route stands still meanwhile: its sink has one writer")
	}
	return notes
}

// sinkAlone tells whether the sink of a route can have one writer only.
func (s *server) sinkAlone(route *configs.Route) (kind string, alone bool) {
	cfg := s.goals.State().Config
	sink := cfg.Sinks[route.To.Addr]
	if sink == nil {
		return "kafka", false
	}
	made, err := sink.Config.New(sinks.Deps{Log: s.log, Dir: s.plant.dir, Resolve: s.plant.resolve, Route: route.Addr.String()})
	if err != nil {
		return sink.Kind, true
	}
	_, alone = made.(sinks.Checkpointer)
	return sink.Kind, alone
}

// sinkChained tells whether the sink of a route keeps its own positions. A replay begins a chain of its own there: what
// it reads counts letters, and its positions have no identity (see replaySource).
func (s *server) sinkChained(route *configs.Route) bool {
	sink := s.goals.State().Config.Sinks[route.To.Addr]
	if sink == nil {
		return false
	}
	made, err := sink.Config.New(sinks.Deps{Log: s.log, Dir: s.plant.dir, Resolve: s.plant.resolve, Route: route.Addr.String()})
	if err != nil {
		return false
	}
	_, chained := made.(sinks.Chained)
	return chained
}

func (s *server) replay(ctx context.Context, u *unit, r *replay, progress func(api.Replayed)) (api.Replayed, error) {
	route := *r.desk.cfg.Routes[r.route]
	kind, alone := s.sinkAlone(&route)
	// Nothing of a route that is told to be exactly once can be said of a replay, which a crash repeats.
	route.Delivery.Guarantee = configs.AtLeastOnce
	if alone {
		if err := u.stop(ctx); err != nil {
			return r.done, err
		}
	}
	source := newReplaySource(
		func(ctx context.Context, f func(found) error) error { return r.scan(ctx, &r.done, f) },
		func(ctx context.Context, place string, ids []store.LetterID) error {
			return s.state.MarkLetters(ctx, place, ids, store.LetterReplayed, time.Now())
		},
		func() { r.same <- <-r.same + 1 })
	// The group names the route: what the sink derives from that must be as the route's own worker derives it.
	j := job{cfg: r.desk.cfg, route: &route, group: u.groupOf(&route), topics: r.desk.topics, revision: s.goals.State().Revision.Serial, store: true}
	w, err := s.plant.buildReplay(s.runtime.base, j, source, kind, alone)
	if err != nil {
		return r.done, err
	}
	if err := s.audited(ctx, reconcile.AuditEntry{Time: time.Now(), Who: r.ask.Who, Action: "replay", Addr: r.route.String(), Detail: "dead letters: " + queryWords(r.ask)}); err != nil {
		return r.done, err
	}
	err = s.runReplay(ctx, u, w, progress)
	outcomes := outcomesOf(w.Stats())
	r.done.Outcomes, r.done.Same = outcomes, <-r.same
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		r.done.Interrupted = err.Error()
	}
	detail := fmt.Sprintf("%d delivered, %d filtered, %d dropped, %d failed again", outcomes["delivered"], outcomes["filtered"], outcomes["dropped"], outcomes["dead_lettered"])
	if err != nil {
		detail += "; ended early: " + err.Error()
	}
	return r.done, s.audited(ctx, reconcile.AuditEntry{Time: time.Now(), Who: r.ask.Who, Action: "replayed", Addr: r.route.String(), Detail: detail})
}

// runReplay runs the worker of a replay; when ctx ends, it finishes what is in flight.
func (s *server) runReplay(ctx context.Context, u *unit, w *pipeline.Worker, progress func(api.Replayed)) error {
	ended := make(chan error, 1)
	go func() { ended <- w.Run(s.runtime.base) }()
	tick := time.NewTicker(replayTick)
	defer tick.Stop()
	last := map[string]int64{}
	tell := func() {
		now := outcomesOf(w.Stats())
		u.addReplayed(last, now)
		last = now
		progress(api.Replayed{Outcomes: now})
	}
	gone := ctx.Done()
	for {
		select {
		case err := <-ended:
			tell()
			return err
		case <-tick.C:
			tell()
		case <-gone:
			gone = nil
			go func() { _ = w.Drain(s.runtime.base) }() // ends with Run, which has its own bound
		}
	}
}

const replayTick = 500 * time.Millisecond

func outcomesOf(s pipeline.Stats) map[string]int64 {
	return map[string]int64{
		"delivered": s.Total.Delivered, "filtered": s.Total.Filtered, "dropped": s.Total.Dropped, "dead_lettered": s.Total.DeadLettered,
	}
}

// queryWords writes a replay's choices as they were given.
func queryWords(o api.Replay) string {
	text := fmt.Sprintf("-max-replays %d", o.MaxReplays)
	for _, id := range o.IDs {
		text += " -id " + id
	}
	for _, c := range o.Codes {
		text += " -code " + c
	}
	if !o.Since.IsZero() {
		text += " -since " + o.Since.UTC().Format(time.RFC3339)
	}
	if !o.Until.IsZero() {
		text += " -until " + o.Until.UTC().Format(time.RFC3339)
	}
	if o.Where != "" {
		text += fmt.Sprintf(" -where %q", o.Where)
	}
	if o.Limit > 0 {
		text += fmt.Sprintf(" -limit %d", o.Limit)
	}
	if o.Again {
		text += " -again"
	}
	return text
}

// buildReplay makes the worker of a replay: the route's program, sink and dead
// letters, and letters for a source.
func (p *plant) buildReplay(ctx context.Context, j job, source *replaySource, sinkKind string, alone bool) (*pipeline.Worker, error) {
	r := j.route
	s, _, err := p.beside(ctx, j)
	if err != nil {
		return nil, err
	}
	s.Source, s.Log = source, p.log.With("route", r.Addr.String(), "replay", true)
	if s.DeadLetters != nil {
		s.DeadLetters = replayLetters{s.DeadLetters, source}
	}
	if alone {
		s.Positions = sinkState{p.positions(sourceName(r, kindOf(j.cfg, r.From.Addr)), r.To.Addr.String()+" "+sinkKind)}
	}
	return pipeline.New(s), nil
}

// beginReplay takes the route's only replay. With alone no worker of the route
// starts meanwhile: the sink is the replay's.
func (u *unit) beginReplay(alone bool) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.replaying {
		return false
	}
	u.replaying, u.lent = true, alone
	return true
}

func (u *unit) endReplay() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.replaying, u.lent = false, false
}

// showReplay adds what replays did, and do.
func (u *unit) showReplay(st *reconcile.State) {
	u.mu.Lock()
	defer u.mu.Unlock()
	st.Counters.Replayed = maps.Clone(u.replayed)
	if u.lent && u.worker == nil {
		st.Activity = "its dead letters are being replayed"
	}
}

// addReplayed adds what a replay did since last.
func (u *unit) addReplayed(last, now map[string]int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.replayed == nil {
		u.replayed = map[string]int64{}
	}
	for outcome, n := range now {
		u.replayed[outcome] += n - last[outcome]
	}
}

// LetterCounts counts the letters of every route.
func (o *offline) LetterCounts(ctx context.Context) ([]api.LetterSummary, error) {
	d, closeIt, err := o.desk(ctx)
	if err != nil {
		return nil, err
	}
	defer closeIt()
	return d.counts(ctx)
}

// DeadLetters gives the letters of a route.
func (o *offline) DeadLetters(ctx context.Context, q api.LetterQuery, emit func(api.DeadLetter) error) (api.LetterSummary, error) {
	d, closeIt, err := o.desk(ctx)
	if err != nil {
		return api.LetterSummary{}, err
	}
	defer closeIt()
	return d.list(ctx, q, emit)
}

// Replay needs a running server.
func (o *offline) Replay(context.Context, api.Replay, func(api.Replayed)) (api.Replayed, error) {
	return api.Replayed{}, fmt.Errorf("%w: a replay goes through the running route, and nothing runs here; start `keystone serve`", api.ErrUnsupported)
}

// Purge gives letters up.
func (o *offline) Purge(ctx context.Context, p api.Purge) (api.Purged, error) {
	d, closeIt, err := o.desk(ctx)
	if err != nil {
		return api.Purged{}, err
	}
	defer closeIt()
	return d.purge(ctx, p, func(ctx context.Context, e reconcile.AuditEntry) error { return o.state.Audit(ctx, e) })
}

// desk opens the dead letters of the stored goal; clusters are asked as it says.
func (o *offline) desk(ctx context.Context) (*letterDesk, func(), error) {
	_, cfg, err := o.stored(ctx)
	if err != nil {
		return nil, nil, err
	}
	at := cfg
	if at == nil {
		at = &configs.Config{Env: o.env}
	}
	p := newPlant(at, slog.New(slog.DiscardHandler))
	p.stateDir, p.joins = o.dir, true
	d := &letterDesk{plant: p, cfg: cfg}
	if cfg != nil {
		p.use(cfg)
		d.topics = ownTopics(cfg)
	}
	if o.state != nil {
		d.marks = o.state
	}
	return d, p.close, nil
}
