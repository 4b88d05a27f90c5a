package reconcile

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"keystone/configs"
	"keystone/configs/addr"
)

// LoopSpec is what a Loop is made of. Zero values of the tunables are the defaults.
type LoopSpec struct {
	Runtime Runtime
	Ledger  Ledger
	// Decode gives the configuration of other resources than those of like, and the rest of it
	// the same. It is used to leave withheld addresses as they are; nil, or an
	// error, holds back what refers to them instead.
	Decode func(like *configs.Config, resources []configs.Resource) (*configs.Config, error)
	Now    func() time.Time
	Rand   func() float64 // in [0, 1), for jitter
	Log    *slog.Logger

	Parallel       int           // changes at a time; 16
	Resync         time.Duration // between looks at the world when nothing happens; 10s
	ApplyTimeout   time.Duration // of one change; 2m
	ObserveTimeout time.Duration // 15s
	Backoff        Backoff
	Monitor        Monitor
}

// Allow says which destructive changes a goal may carry out: the addresses
// that somebody agreed to. The zero value allows none.
type Allow map[addr.Addr]bool

// Phase is a step in the life of a change.
type Phase string

// The phases.
const (
	PhaseStart    Phase = "start"
	PhaseDone     Phase = "done"
	PhaseFailed   Phase = "failed"
	PhaseWithheld Phase = "withheld"
)

// Event is something that happened to a change.
type Event struct {
	Time    time.Time
	Serial  int64 // of the goal
	Addr    addr.Addr
	Action  Action
	Phase   Phase
	Err     error         // of PhaseFailed
	Elapsed time.Duration // of PhaseDone and PhaseFailed
	Reason  string        // of PhaseWithheld
}

// Pending is a change that is not carried out for now.
type Pending struct {
	Change Change
	Reason string
}

// Failing is an address whose changes fail, or whose worker does.
type Failing struct {
	Failures int // in a row
	Err      string
	Next     time.Time // of the next attempt
}

// Status is what a Loop knows, as of its last turn.
type Status struct {
	Goal     Goal // of the last turn; Config is nil before the first
	Turns    int64
	Observed Observed // with Conditions; every address of the goal has a state
	Plan     Plan     // what was to do when it was last looked at
	Withheld []Pending
	Waiting  []Pending // for what they refer to
	Queued   []Pending // for a change that is under way, or is about to be
	Failing  map[addr.Addr]Failing
	Busy     []addr.Addr
	Err      string // why the last turn could not be done: the ledger or the observation failed
	Settled  bool   // nothing to do but what is withheld, waiting or failing
}

// Loop brings the world to its goal, for ever: it observes, compares,
// and carries out one change per address at a time. It is level-triggered: a turn
// depends on the goal and the world, not on what happened before, so after a crash at any point the
// next turn goes on. Make it with NewLoop, give it goals, and run it once.
type Loop struct {
	spec LoopSpec
	wake chan struct{} // of capacity 1

	mu       sync.Mutex // guards what follows; never held across calls of others
	goal     Goal
	allow    Allow
	status   Status
	outcomes map[addr.Addr]Event // of the goal: the last done or failed of each address
	settled  chan struct{}       // closed and made anew at each turn, and when settled or goal changes
	subs     map[int]func(Event)
	nextSub  int
	again    map[addr.Addr]bool // asked for by Retry, until the next turn
}

// NewLoop makes a loop; it does nothing until Run.
func NewLoop(s LoopSpec) *Loop {
	if s.Now == nil {
		s.Now = time.Now
	}
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	if s.Parallel <= 0 {
		s.Parallel = 16
	}
	if s.Resync <= 0 {
		s.Resync = 10 * time.Second
	}
	if s.ApplyTimeout <= 0 {
		s.ApplyTimeout = 2 * time.Minute
	}
	if s.ObserveTimeout <= 0 {
		s.ObserveTimeout = 15 * time.Second
	}
	s.Backoff = s.Backoff.withDefaults()
	return &Loop{spec: s, wake: make(chan struct{}, 1), settled: make(chan struct{}), subs: map[int]func(Event){}, outcomes: map[addr.Addr]Event{}, again: map[addr.Addr]bool{}}
}

// SetGoal replaces the goal; the loop owns its Config from now on and may
// set kept groups and topics in it. It returns at once; see Settle.
func (l *Loop) SetGoal(g Goal, allow Allow) {
	l.mu.Lock()
	if g.Serial != l.goal.Serial {
		l.outcomes = map[addr.Addr]Event{}
	}
	l.goal, l.allow = g, allow
	l.status.Settled = false
	l.notify()
	l.mu.Unlock()
	l.Trigger()
}

// Trigger asks for a turn soon: something in the world changed. It never blocks.
func (l *Loop) Trigger() {
	select {
	case l.wake <- struct{}{}:
	default: // one is asked for already
	}
}

// Retry has an address that failed tried again at the next turn, however long
// its back-off still lasts.
func (l *Loop) Retry(a addr.Addr) {
	l.mu.Lock()
	l.again[a] = true
	l.mu.Unlock()
	l.Trigger()
}

// Status gives what is known. The maps and slices are the caller's; what
// they point to must not be changed.
func (l *Loop) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.status
	s.Observed.States = maps.Clone(s.Observed.States)
	s.Observed.Unreachable = maps.Clone(s.Observed.Unreachable)
	s.Failing = maps.Clone(s.Failing)
	s.Withheld, s.Waiting, s.Queued, s.Busy = slices.Clone(s.Withheld), slices.Clone(s.Waiting), slices.Clone(s.Queued), slices.Clone(s.Busy)
	return s
}

// Look has the loop look at the world now, and gives what it saw: what a
// plan compares with.
func (l *Loop) Look(ctx context.Context) (Observed, error) {
	l.mu.Lock()
	turns := l.status.Turns
	l.mu.Unlock()
	l.Trigger()
	for {
		l.mu.Lock()
		now, wait, err := l.status.Turns, l.settled, l.status.Err
		l.mu.Unlock()
		switch {
		case now > turns:
			return l.Status().Observed, nil
		case err != "":
			return Observed{}, fmt.Errorf("the world cannot be seen now: %s", err)
		}
		select {
		case <-ctx.Done():
			return Observed{}, ctx.Err()
		case <-wait:
		}
	}
}

// Subscribe has f called with every event, in order, from one goroutine at a
// time, until cancel. f must return quickly: the loop waits for it.
func (l *Loop) Subscribe(f func(Event)) (cancel func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	id := l.nextSub
	l.nextSub++
	l.subs[id] = f
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.subs, id)
	}
}

// Settled is how a goal stands when nothing more is done for it at once.
type Settled struct {
	Done     []Event // the last event of each address that was changed
	Failed   []Event // of those that failed; the loop tries them again
	Withheld []Pending
	Waiting  []Pending
}

// Settle returns when every change of the goal with the serial was carried
// out, failed at least once, is withheld, or waits for one of those. The loop goes
// on trying. Another goal in between gives a *StaleError.
func (l *Loop) Settle(ctx context.Context, serial int64) (Settled, error) {
	for {
		l.mu.Lock()
		goal, done, wait, err := l.goal.Serial, l.status.Settled, l.settled, l.status.Err
		var s Settled
		if goal == serial && (done || err != "") {
			s = l.outcome()
		}
		l.mu.Unlock()
		switch {
		case goal > serial:
			return s, &StaleError{Planned: serial, Stored: goal}
		case goal == serial && done:
			return s, nil
		case goal == serial && err != "":
			return s, fmt.Errorf("nothing can be changed now: %s", err)
		}
		select {
		case <-ctx.Done():
			return Settled{}, ctx.Err()
		case <-wait:
		}
	}
}

func (l *Loop) outcome() Settled {
	s := Settled{Withheld: slices.Clone(l.status.Withheld), Waiting: slices.Clone(l.status.Waiting)}
	for _, a := range slices.SortedFunc(maps.Keys(l.outcomes), addr.Compare) {
		e := l.outcomes[a]
		if _, failing := l.status.Failing[a]; e.Phase == PhaseFailed && failing {
			s.Failed = append(s.Failed, e)
		} else if e.Phase == PhaseDone {
			s.Done = append(s.Done, e)
		}
	}
	return s
}

// notify wakes Settle; l.mu is held.
func (l *Loop) notify() {
	close(l.settled)
	l.settled = make(chan struct{})
}

func (l *Loop) emit(e Event) {
	l.mu.Lock()
	if e.Phase == PhaseDone || e.Phase == PhaseFailed {
		if e.Serial == l.goal.Serial {
			l.outcomes[e.Addr] = e
		}
	}
	subs := make([]func(Event), 0, len(l.subs))
	for _, id := range slices.Sorted(maps.Keys(l.subs)) {
		subs = append(subs, l.subs[id])
	}
	l.mu.Unlock()
	for _, f := range subs {
		f(e)
	}
}
