package reconcile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"time"

	"keystone/configs"
	"keystone/configs/addr"
)

// run is the state of a running loop; it belongs to the goroutine of Run.
type run struct {
	*Loop
	rows     map[addr.Addr]Applied
	monitor  Monitor
	troubles map[addr.Addr]*trouble

	goal  Goal                            // of the queue
	after map[addr.Addr]*configs.Resource // of the goal
	queue []Change
	unmet map[addr.Addr]bool // addresses that the last plan found different from the goal
	busy  map[addr.Addr]Change
	away  map[addr.Addr]string // clusters that could not be reached when the queue was made, with why

	withheld map[addr.Addr]string // announced

	whole *configs.Config // of the last turn's goal, withheld changes included

	observing bool
	looked    time.Time          // when the last observation began
	rest      time.Time          // no look before, but for a new goal
	touched   map[addr.Addr]bool // changed since the observation under way began
	due       bool               // another look is needed
	retry     time.Time          // after the ledger or an observation failed
	failures  int                // of those, in a row
	observed  chan observation
	done      chan result
}

type observation struct {
	seen Observed
	err  error
}

type result struct {
	change  Change
	goal    Goal
	err     error
	elapsed time.Duration
}

// Run turns until ctx is done, and returns when the changes that were under
// way have returned; their context ends with ctx. It fails only where the ledger cannot be read at the start.
func (l *Loop) Run(ctx context.Context) error {
	applied, err := l.spec.Ledger.LoadApplied(ctx)
	if err != nil {
		return fmt.Errorf("what was applied: %w", err)
	}
	r := &run{Loop: l, rows: make(map[addr.Addr]Applied, len(applied)), monitor: l.spec.Monitor, troubles: map[addr.Addr]*trouble{},
		busy: map[addr.Addr]Change{}, touched: map[addr.Addr]bool{}, due: true,
		observed: make(chan observation, 1), done: make(chan result, l.spec.Parallel)}
	for _, a := range applied {
		r.rows[a.Addr] = a
	}
	r.run(ctx)
	return nil
}

func (l *run) run(ctx context.Context) {
	timer := time.NewTimer(l.spec.Resync)
	defer timer.Stop()
	for {
		l.start(ctx)
		l.look(ctx)
		timer.Reset(l.pause())
		select {
		case <-ctx.Done():
			l.finishAll()
			return
		case <-l.wake:
			l.due, l.retry = true, time.Time{}
		case <-timer.C:
			l.due = true
		case o := <-l.observed:
			l.observing = false
			l.turn(o)
		case r := <-l.done:
			l.finished(ctx, l.more(r))
		}
	}
}

// more gives a result and those that came meanwhile: they are written down together.
func (l *run) more(r result) []result {
	rs := []result{r}
	for {
		select {
		case r := <-l.done:
			rs = append(rs, r)
		default:
			return rs
		}
	}
}

// finishAll waits for what is under way and writes down what was done.
func (l *run) finishAll() {
	for len(l.busy) > 0 {
		l.finished(context.Background(), l.more(<-l.done))
	}
	if l.observing {
		<-l.observed
	}
}

// pause gives the time to the next turn if nothing happens.
func (l *run) pause() time.Duration {
	now := l.spec.Now()
	d := l.spec.Resync
	if !l.retry.IsZero() {
		return max(l.retry.Sub(now), time.Millisecond)
	}
	if l.due && !l.observing {
		d = min(d, max(l.rest.Sub(now), time.Millisecond))
	}
	for a, t := range l.troubles {
		if _, busy := l.busy[a]; !busy && l.unmet[a] {
			d = min(d, max(t.until.Sub(now), time.Millisecond))
		}
	}
	return d
}

// look begins an observation if one is due.
func (l *run) look(ctx context.Context) {
	now := l.spec.Now()
	if !l.due || l.observing || now.Before(l.retry) || now.Before(l.rest) && !l.newGoal() {
		return
	}
	l.due, l.observing, l.looked = false, true, now
	clear(l.touched)
	go func() {
		ctx, cancel := context.WithTimeout(ctx, l.spec.ObserveTimeout)
		defer cancel()
		var o observation
		o.err = protect(func() (err error) { o.seen, err = l.spec.Runtime.Observe(ctx); return err })
		l.observed <- o
	}()
}

// newGoal tells whether the goal was replaced since the last turn.
func (l *run) newGoal() bool {
	l.Loop.mu.Lock()
	defer l.Loop.mu.Unlock()
	return l.Loop.goal.Config != l.whole
}

// turn compares what was seen with the goal and queues what is to do.
func (l *run) turn(o observation) {
	now := l.spec.Now()
	defer func() { // a large goal takes at most half of the time, whatever triggers
		end := l.spec.Now()
		l.rest = end.Add(end.Sub(l.looked))
	}()
	if o.err != nil {
		l.trouble(fmt.Errorf("look at the world: %w", o.err), now)
		return
	}
	l.failures, l.retry = 0, time.Time{}
	l.Loop.mu.Lock()
	goal, allow := l.Loop.goal, l.Loop.allow
	for a := range l.Loop.again {
		if t := l.troubles[a]; t != nil {
			t.until = now
		}
	}
	clear(l.Loop.again)
	l.Loop.mu.Unlock()
	seen := Merge(o.seen, l.rows)
	if seen.At.IsZero() {
		seen.At = now
	}
	l.monitor.Conclude(&seen)
	if goal.Config == nil {
		l.publish(func(s *Status) { s.Turns++; s.Observed, s.Err = seen, ""; l.notify() })
		return
	}
	Adopt(goal.Config, seen.States)
	whole := goal
	l.whole = goal.Config
	plan := Diff(goal, seen, now)
	goal, plan, withheld := l.withhold(goal, plan, seen, allow, now)
	l.goal = goal
	l.after = make(map[addr.Addr]*configs.Resource, len(goal.Config.Resources))
	for i := range goal.Config.Resources {
		l.after[goal.Config.Resources[i].Addr] = &goal.Config.Resources[i]
	}
	l.away = seen.Unreachable
	l.queue, l.unmet = l.queue[:0], make(map[addr.Addr]bool, len(plan.Changes))
	for _, c := range plan.Changes {
		l.unmet[c.Addr] = true
		_, busy := l.busy[c.Addr]
		if busy || l.touched[c.Addr] || l.touched[c.MovedFrom] {
			continue // it changed while it was looked at
		}
		if l.mayTry(c, seen.States[c.Addr], now) {
			l.queue = append(l.queue, c)
		}
	}
	l.recovered(seen, now)
	l.publish(func(s *Status) {
		s.Turns++
		s.Err = ""
		s.Goal, s.Plan = whole, plan
		s.Observed = withMissing(seen, goal, now)
		s.Withheld, s.Waiting, s.Queued = withheld, nil, nil
		l.notify()
	})
}

// withMissing adds the addresses of the goal of which nothing is there.
func withMissing(o Observed, g Goal, now time.Time) Observed {
	for i := range g.Config.Resources {
		r := g.Config.Resources[i]
		if _, ok := o.States[r.Addr]; !ok {
			o.States[r.Addr] = State{Health: Missing, Since: now, Lag: -1}
		}
	}
	return o
}

// start carries out what may be: up to Parallel changes, one per address,
// each after what it refers to.
func (l *run) start(ctx context.Context) {
	if len(l.queue) == 0 || len(l.busy) >= l.spec.Parallel || ctx.Err() != nil {
		l.settle()
		return
	}
	queued := make(map[addr.Addr]Action, len(l.queue))
	for _, c := range l.queue {
		queued[c.Addr] = c.Action
	}
	var begun []Change
	var waiting, later []Pending
	rest := l.queue[:0:0]
	for i, c := range l.queue {
		if len(l.busy) >= l.spec.Parallel {
			rest = append(rest, l.queue[i:]...)
			break
		}
		switch reason, final := l.waits(c, queued); {
		case reason == "":
			l.busy[c.Addr] = c
			delete(queued, c.Addr)
			begun = append(begun, c)
		case final:
			waiting = append(waiting, Pending{c, reason})
		default:
			rest, later = append(rest, c), append(later, Pending{c, reason})
		}
	}
	l.queue = rest
	l.publish(func(s *Status) { s.Waiting, s.Queued = append(s.Waiting, waiting...), later })
	l.begin(ctx, begun)
	l.settle()
}

// waits gives what a change waits for; "" if it may start. final means that
// nothing which is under way will change that: the next turn looks again.
func (l *run) waits(c Change, queued map[addr.Addr]Action) (reason string, final bool) {
	if _, busy := l.busy[c.Addr]; busy {
		return "a change under way", false
	}
	if _, busy := l.busy[c.MovedFrom]; busy {
		return "a change of " + c.MovedFrom.String(), false
	}
	if c.Action == Delete || c.Action == Forget {
		if works(c.Addr) {
			return "", false
		}
		for a, row := range l.rows {
			if works(a) || c.Addr.Type == typeCluster {
				if refers := slices.Contains(refersTo(row.Resource), c.Addr) || slices.Contains(refersTo(row.Interrupted), c.Addr); refers && a != c.Addr {
					_, busy := l.busy[a]
					_, soon := queued[a]
					return a.String() + " still refers to it", !busy && !soon
				}
			}
		}
		return "", false
	}
	for _, dep := range dependsOn(l.goal.Config, c.Addr) {
		_, busy := l.busy[dep]
		if _, soon := queued[dep]; busy || soon {
			return "waits for " + dep.String() + l.because(dep, ""), false
		}
		if row, ok := l.rows[dep]; l.unmet[dep] && (!ok || row.Resource == nil) {
			return "waits for " + dep.String() + l.because(dep, ", which is not there"), true
		}
	}
	return "", false
}

// because says that what is waited for is on a cluster that does not answer; where it does, otherwise.
func (l *run) because(a addr.Addr, otherwise string) string {
	cluster := clusterOf(l.goal.Config, a)
	if _, away := l.away[cluster]; away {
		return ": " + cluster.String() + " cannot be reached"
	}
	return otherwise
}

// begin writes down what is begun, in one transaction, and carries it out.
func (l *run) begin(ctx context.Context, cs []Change) {
	if len(cs) == 0 {
		return
	}
	var put []Applied
	for _, c := range cs {
		if row, write := begin(l.rows, c); write {
			put = append(put, row)
		}
	}
	if len(put) > 0 {
		if err := l.spec.Ledger.SaveApplied(ctx, put, nil); err != nil {
			for _, c := range cs {
				delete(l.busy, c.Addr)
			}
			l.queue = nil
			if ctx.Err() == nil {
				l.trouble(fmt.Errorf("write down what is begun: %w", err), l.spec.Now())
			}
			return
		}
		for _, row := range put {
			l.rows[row.Addr] = row
		}
	}
	for _, c := range cs {
		l.emit(Event{Time: l.spec.Now(), Serial: l.goal.Serial, Addr: c.Addr, Action: c.Action, Phase: PhaseStart})
		go l.apply(ctx, l.goal, c)
	}
}

func (l *run) apply(ctx context.Context, goal Goal, c Change) {
	begun := l.spec.Now()
	limited, cancel := context.WithTimeout(ctx, l.spec.ApplyTimeout)
	defer cancel()
	err := protect(func() error { return l.spec.Runtime.Apply(limited, goal.Config, c) })
	if err != nil && ctx.Err() == nil && errors.Is(limited.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("not done within %v: %w", l.spec.ApplyTimeout, err)
	}
	l.done <- result{change: c, goal: goal, err: err, elapsed: l.spec.Now().Sub(begun)}
}

// finished writes down what was done, in one transaction.
func (l *run) finished(ctx context.Context, rs []result) {
	now := l.spec.Now()
	var put []Applied
	var gone []addr.Addr
	rows := l.rows
	if slices.ContainsFunc(rs, func(r result) bool { return r.err == nil && !r.change.MovedFrom.IsZero() }) {
		rows = maps.Clone(l.rows) // a rename sees the rows that come before it
	}
	for _, r := range rs {
		if r.err != nil {
			continue
		}
		p, g := finish(rows, r.goal, r.change, now)
		put, gone = append(put, p...), append(gone, g...)
		if len(g) > 0 || len(p) > 1 {
			remember(rows, p, g)
		}
	}
	put = latest(put)
	var failure error
	if len(put)+len(gone) > 0 {
		// Work is done: it is written down also when the loop is being stopped.
		save, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.spec.ObserveTimeout)
		failure = l.spec.Ledger.SaveApplied(save, put, gone)
		cancel()
	}
	if failure == nil {
		remember(l.rows, put, gone)
	}
	for _, r := range rs {
		delete(l.busy, r.change.Addr)
		l.touched[r.change.Addr] = true
		if !r.change.MovedFrom.IsZero() {
			l.touched[r.change.MovedFrom] = true
		}
		err := r.err
		if err == nil && failure != nil {
			err = fmt.Errorf("done, and not written down: %w", failure)
		}
		l.report(ctx, r, err, now)
	}
}

func (l *run) report(ctx context.Context, r result, err error, now time.Time) {
	e := Event{Time: now, Serial: r.goal.Serial, Addr: r.change.Addr, Action: r.change.Action, Phase: PhaseDone, Elapsed: r.elapsed}
	if err != nil {
		e.Phase, e.Err = PhaseFailed, err
		if ctx.Err() == nil {
			l.failed(r.change, err.Error(), now)
			l.spec.Log.Warn("change failed", "addr", r.change.Addr.String(), "action", string(r.change.Action), "error", err.Error(), "next", l.troubles[r.change.Addr].until)
		}
	} else {
		delete(l.unmet, r.change.Addr)
		if t := l.troubles[r.change.Addr]; t != nil && r.change.Action != Repair {
			delete(l.troubles, r.change.Addr)
		} else if t != nil {
			t.last = now
		}
		l.spec.Log.Info("change done", "addr", r.change.Addr.String(), "action", string(r.change.Action), "elapsed", r.elapsed)
	}
	l.emit(e)
}

func remember(rows map[addr.Addr]Applied, put []Applied, gone []addr.Addr) {
	for _, a := range gone {
		delete(rows, a)
	}
	for _, row := range put {
		rows[row.Addr] = row
	}
}

// latest keeps the last row of each address.
func latest(put []Applied) []Applied {
	at := make(map[addr.Addr]int, len(put))
	out := put[:0:0]
	for _, row := range put {
		if i, ok := at[row.Addr]; ok {
			out[i] = row
			continue
		}
		at[row.Addr] = len(out)
		out = append(out, row)
	}
	return out
}

// trouble notes that a turn could not be done.
func (l *run) trouble(err error, now time.Time) {
	l.failures++
	l.retry = now.Add(l.spec.Backoff.delay(l.failures, l.spec.Rand))
	l.due = true
	l.spec.Log.Error("the reconcile loop cannot go on for now", "error", err.Error(), "next", l.retry)
	l.publish(func(s *Status) { s.Err = err.Error(); l.notify() })
}

// settle publishes how the goal stands.
func (l *run) settle() {
	if len(l.queue) == 0 && len(l.busy) == 0 && !l.observing && len(l.touched) > 0 {
		l.due = true // what finished since the last look may leave something to do
	}
	idle := len(l.queue) == 0 && len(l.busy) == 0 && !l.observing && !l.due
	l.publish(func(s *Status) {
		s.Busy = slices.SortedFunc(maps.Keys(l.busy), addr.Compare)
		s.Failing = make(map[addr.Addr]Failing, len(l.troubles))
		for a, t := range l.troubles {
			if l.unmet[a] {
				s.Failing[a] = Failing{Failures: t.failures, Err: t.err, Next: t.until}
			}
		}
		if len(l.queue) == 0 {
			s.Queued = nil
		}
		was := s.Settled
		s.Settled = idle && s.Err == "" && s.Turns > 0 && l.Loop.goal.Config != nil && l.goal.Serial == l.Loop.goal.Serial && len(l.wake) == 0
		if s.Settled && !was {
			l.notify()
		}
	})
}

func (l *run) publish(f func(*Status)) {
	l.Loop.mu.Lock()
	defer l.Loop.mu.Unlock()
	f(&l.status)
}

// protect turns a panic into an error: one address must not stop the others.
func protect(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return f()
}
