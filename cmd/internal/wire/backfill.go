package wire

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"keystone/cmd/internal/api"
	"keystone/configs"
	"keystone/configs/addr"
	"keystone/dsl"
	"keystone/pipeline"
	"keystone/reconcile"
	"keystone/sources"
	"keystone/sources/parquet"
)

// warehouse is a source that a backfill can read: a part of its rows, as they were when the backfill began.
type warehouse interface {
	sources.Config
	Reading(sources.Deps) parquet.Reading
}

// backfills are those of a server, by route.
type backfills struct {
	mu      sync.Mutex // guards running; no I/O under it
	running map[addr.Addr]*backfilling
}

// backfilling is a backfill that has a worker, or is about to.
type backfilling struct {
	cancel context.CancelFunc
	done   chan struct{}

	mu       sync.Mutex // guards what follows
	state    reconcile.Backfill
	before   map[string]int64 // outcomes of earlier workers
	worker   *pipeline.Worker
	activity string
	end      reconcile.BackfillPhase // that an operator asked for
}

// snapshot gives how it stands.
func (b *backfilling) snapshot() (reconcile.Backfill, string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	st := b.state
	st.Counts = maps.Clone(b.before)
	if b.worker != nil {
		stats := b.worker.Stats()
		for k, n := range outcomesOf(stats) {
			st.Counts[k] += n
		}
		for i := range stats.Lanes {
			st.Next = max(st.Next, stats.Lanes[i].Committed.Offset)
		}
		if !st.Phase.Over() && b.activity == "" {
			return st, string(stats.Activity)
		}
	}
	return st, b.activity
}

// backfillAddr is whose positions a backfill of a route keeps.
func backfillAddr(route addr.Addr) addr.Addr { route.Type = "backfill"; return route }

// backfillOf looks up what is asked for.
func (s *server) backfillOf(o api.Backfill) (cfg *configs.Config, route *configs.Route, source *configs.Source, w warehouse, err error) {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{api.ErrUnsupported}, args...)...)
	}
	a, err := addr.Parse(o.Address)
	if err != nil {
		return nil, nil, nil, nil, refuse("%v", err)
	}
	if a.Type != "route" {
		return nil, nil, nil, nil, refuse("%s is a %s, and only routes are backfilled: what keeps state would count the past as the present", a, a.Type)
	}
	if cfg = s.goals.State().Config; cfg == nil || cfg.Routes[a] == nil {
		return nil, nil, nil, nil, s.notFound(a)
	}
	route = cfg.Routes[a]
	from, err := addr.Parse(o.From)
	if err != nil {
		return nil, nil, nil, nil, refuse("-from: %v", err)
	}
	if source = cfg.Sources[from]; source == nil {
		var known []string
		for at := range cfg.Sources {
			known = append(known, at.String())
		}
		return nil, nil, nil, nil, &api.NotFoundError{Addr: from.String(), Known: known}
	}
	w, ok := source.Config.(warehouse)
	if !ok {
		return nil, nil, nil, nil, refuse("%s is a source of kind %q; a backfill reads one of kind \"parquet\" or \"hive\"", from, source.Kind)
	}
	if kind, alone := s.sinkAlone(route); alone {
		return nil, nil, nil, nil, refuse("%s writes into %s, of kind %q, which one worker writes at a time: a backfill has no place beside the route. Read the warehouse by a route of its own", a, route.To.Addr, kind)
	}
	if bad := configs.Unfit(source.Schema, route.Checked.Input); len(bad) > 0 {
		return nil, nil, nil, nil, refuse("%s does not give the events that %s takes: %s", from, a, strings.Join(bad, " "))
	}
	return cfg, route, source, w, nil
}

// reading gives what of the source a backfill of the route reads.
func (p *plant) reading(w warehouse, route *configs.Route, b reconcile.Backfill) (parquet.Reading, sources.Deps) {
	d := sources.Deps{Log: p.log.With("route", route.Addr.String(), "backfill", b.ID), Dir: p.dir, Resolve: p.resolve, Route: route.Addr.String(),
		Scan: dsl.ScanOf(route.Checked), Type: route.Checked.Input}
	r := w.Reading(d)
	r.Since, r.Until = b.Since, b.Until
	return r, d
}

// Backfill begins a backfill, or tells what one would read.
func (s *server) Backfill(ctx context.Context, o api.Backfill) (api.Backfilling, error) {
	cfg, route, source, w, err := s.backfillOf(o)
	if err != nil {
		return api.Backfilling{}, err
	}
	b := reconcile.Backfill{ID: rand.Text()[:10], Addr: route.Addr, Source: source.Addr.String(), Since: o.Since, Until: o.Until, Rate: o.Rate, Who: o.Who,
		At: time.Now().UTC(), Phase: reconcile.BackfillRunning, Then: o.Then, Cut: o.Cut}
	if !o.Cut.IsZero() && (o.Until.IsZero() || o.Until.After(o.Cut)) {
		b.Until = o.Cut
	}
	r, d := s.plant.reading(w, route, b)
	if (!b.Since.IsZero() || !b.Until.IsZero()) && r.EventTime == "" {
		return api.Backfilling{}, fmt.Errorf("%w: -since, -until and -cut go by the time of events, and %s does not say which column that is: set event_time", api.ErrUnsupported, source.Addr)
	}
	files, err := parquet.Plan(ctx, r, d)
	if err != nil {
		return api.Backfilling{}, err
	}
	notes := s.backfillNotes(route)
	if b.Then != "" {
		var more []string
		if files, more, err = s.then(ctx, cfg, route, &b, r, d, files); err != nil {
			return api.Backfilling{}, err
		}
		notes = append(notes[:1:1], more...)
		if h := s.runtime.holdOf(route.Addr); h == nil || h.Kind != reconcile.HoldDrain {
			notes = append(notes, "the route is drained until then")
		}
	}
	for _, f := range files {
		b.Files++
		b.Bytes += f.Size
		b.Rows += f.Kept
		b.Total += f.Rows
	}
	out := api.Backfilling{FormatVersion: api.FormatVersion, Addr: route.Addr.String(), Backfill: b, Notes: notes}
	if b.Rate > 0 {
		out.LeftMs = int64(math.Ceil(float64(b.Rows) / float64(b.Rate) * 1000))
	}
	if o.Plan {
		return out, nil
	}
	if b.Files == 0 {
		return out, fmt.Errorf("%w: there is no row in %s that could pass %s and lies in that time", api.ErrUnsupported, source.Addr, route.Addr)
	}
	list, err := json.Marshal(files)
	if err != nil {
		return out, err
	}
	if b.Then != "" {
		h := s.runtime.holdOf(route.Addr)
		b.Held = h == nil || h.Kind != reconcile.HoldDrain // whoever drained it has it drained
	}
	out.Backfill = b
	old, begun, err := s.state.BeginBackfill(ctx, b, list, reconcile.AuditEntry{Time: b.At, Who: b.Who, Action: "backfill", Addr: route.Addr.String(),
		Serial: s.goals.State().Revision.Serial, Detail: backfillWords(b)})
	if err != nil {
		return out, err
	}
	if !begun {
		return out, fmt.Errorf("%w: a backfill of %s by %s is under way since %s; cancel it, or wait for its end", api.ErrUnsupported, route.Addr, old.Who, old.At.Format(time.RFC3339))
	}
	// What an earlier backfill left of its positions counts in other files.
	err = s.state.DropPositions(ctx, backfillAddr(route.Addr))
	if err == nil && b.Held {
		err = s.operate(ctx, b.Addr, api.Operate{Verb: api.Drain, Who: b.Who}, s.goals.State().Revision.Serial)
	}
	if err != nil {
		b.Phase, b.Error, b.Ended = reconcile.BackfillFailed, err.Error(), time.Now().UTC()
		return out, errors.Join(err, s.state.SaveBackfill(ctx, b, nil))
	}
	s.launchBackfill(b)
	return out, nil
}

// backfillNotes says what a backfill means for the route.
func (s *server) backfillNotes(route *configs.Route) []string {
	notes := []string{"the rows go through the program of the route as it is now, and to its sink beside what the route writes; it yields where the route falls behind"}
	if route.Delivery.Guarantee != configs.AtLeastOnce {
		notes = append(notes, "a backfill is at least once, whatever the guarantee of the route: a crash in the middle repeats rows, but for sinks that know them again")
	}
	notes = append(notes, "an event that the route has delivered is delivered again: choose -until so that both do not overlap")
	return notes
}

func backfillWords(b reconcile.Backfill) string {
	text := fmt.Sprintf("%d rows in %d files of %s", b.Rows, b.Files, b.Source)
	if !b.Since.IsZero() {
		text += " since " + b.Since.UTC().Format(time.RFC3339)
	}
	if !b.Until.IsZero() {
		text += " until " + b.Until.UTC().Format(time.RFC3339)
	}
	if b.Rate > 0 {
		text += fmt.Sprintf(", at most %d a second", b.Rate)
	}
	return text
}

// Backfills gives the latest backfill of each route.
func (s *server) Backfills(ctx context.Context) ([]api.Backfilling, error) {
	all, err := s.state.Backfills(ctx)
	if err != nil {
		return nil, err
	}
	out := []api.Backfilling{}
	for _, a := range slices.SortedFunc(maps.Keys(all), addr.Compare) {
		out = append(out, s.showBackfill(all[a]))
	}
	return out, nil
}

func (s *server) showBackfill(b reconcile.Backfill) api.Backfilling {
	out := api.Backfilling{FormatVersion: api.FormatVersion, Addr: b.Addr.String(), Backfill: b}
	s.backfills.mu.Lock()
	r := s.backfills.running[b.Addr]
	s.backfills.mu.Unlock()
	if r == nil {
		return out
	}
	st, activity := r.snapshot()
	if st.ID != b.ID {
		return out
	}
	out.Backfill, out.Activity = st, activity
	if done, left := processed(st), st.Rows; done > 0 && st.Phase == reconcile.BackfillRunning {
		left -= done
		each := float64(time.Since(st.At)-st.Took) / float64(done)
		if st.Rate > 0 {
			each = max(each, float64(time.Second)/float64(st.Rate))
		}
		out.LeftMs = max(0, time.Duration(each*float64(left)).Milliseconds())
	}
	return out
}

// processed counts the rows that have an outcome.
func processed(b reconcile.Backfill) (n int64) {
	for _, c := range b.Counts {
		n += c
	}
	return n
}

// SteerBackfill pauses, resumes or cancels the backfill of a route.
func (s *server) SteerBackfill(ctx context.Context, o api.Steer) (api.Backfilling, error) {
	a, err := addr.Parse(o.Address)
	if err != nil {
		return api.Backfilling{}, fmt.Errorf("%w: %w", api.ErrUnsupported, err)
	}
	all, err := s.state.Backfills(ctx)
	if err != nil {
		return api.Backfilling{}, err
	}
	b, ok := all[a]
	if !ok || b.Phase.Over() {
		return api.Backfilling{}, api.ErrNoBackfill(a.String(), o.Verb)
	}
	s.backfills.mu.Lock()
	r := s.backfills.running[a]
	s.backfills.mu.Unlock()
	note := reconcile.AuditEntry{Time: time.Now(), Who: o.Who, Action: "backfill " + o.Verb, Addr: a.String(), Serial: s.goals.State().Revision.Serial, Detail: b.ID}
	want := map[string]reconcile.BackfillPhase{api.BackfillPause: reconcile.BackfillPaused, api.BackfillResume: reconcile.BackfillRunning, api.BackfillCancel: reconcile.BackfillCancelled}[o.Verb]
	switch {
	case want == "":
		return api.Backfilling{}, fmt.Errorf("%w: a backfill is paused, resumed or cancelled, not %q", api.ErrUnsupported, o.Verb)
	case want == b.Phase: // it is so already
	case r != nil:
		r.mu.Lock()
		r.end = want
		r.mu.Unlock()
		r.cancel()
		select {
		case <-r.done:
		case <-ctx.Done():
			return api.Backfilling{}, ctx.Err()
		}
		if all, err = s.state.Backfills(ctx); err != nil {
			return api.Backfilling{}, err
		}
		if b = all[a]; b.Phase == want {
			err = s.audited(ctx, note)
		}
	default:
		b.Phase = want
		if want.Over() {
			b.Ended = time.Now().UTC()
		}
		if err = s.state.SaveBackfill(ctx, b, &note); err == nil && want == reconcile.BackfillRunning {
			s.launchBackfill(b)
		}
	}
	return s.showBackfill(b), err
}

// Backfill needs a running server.
func (o *offline) Backfill(context.Context, api.Backfill) (api.Backfilling, error) {
	return api.Backfilling{}, errNoBackfillHere
}

// Backfills gives what is stored.
func (o *offline) Backfills(ctx context.Context) ([]api.Backfilling, error) {
	out := []api.Backfilling{}
	if o.state == nil {
		return out, nil
	}
	all, err := o.state.Backfills(ctx)
	for _, a := range slices.SortedFunc(maps.Keys(all), addr.Compare) {
		out = append(out, api.Backfilling{FormatVersion: api.FormatVersion, Addr: a.String(), Backfill: all[a], Activity: "no server runs"})
	}
	return out, err
}

// SteerBackfill needs a running server.
func (o *offline) SteerBackfill(context.Context, api.Steer) (api.Backfilling, error) {
	return api.Backfilling{}, errNoBackfillHere
}

var errNoBackfillHere = fmt.Errorf("%w: a backfill runs beside its route, and nothing runs here; start `keystone serve`", api.ErrUnsupported)
