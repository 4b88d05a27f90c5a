package reconcile

import (
	"fmt"
	"time"

	"keystone/configs/addr"
)

// ConditionKind is a conclusion from successive observations.
type ConditionKind string

// The conclusions.
const (
	Stalled      ConditionKind = "stalled"       // records wait, and none gets an outcome
	CrashLooping ConditionKind = "crash_looping" // it fails again and again
	Drifted      ConditionKind = "drifted"       // the world differs from what was applied
	DataLost     ConditionKind = "data_lost"     // records were removed before they were read
)

// Condition is one conclusion about an address.
type Condition struct {
	Kind    ConditionKind `json:"kind"`
	Since   time.Time     `json:"since"`
	Message string        `json:"message"`
}

// Monitor compares successive observations. Its zero value is ready; the
// fields may be set before the first Conclude. It is not for several goroutines at once.
type Monitor struct {
	StalledAfter time.Duration // without progress while records wait; 0: one minute
	CrashWindow  time.Duration // 0: ten minutes
	CrashCount   int           // failures within the window; 0: three
	LossWindow   time.Duration // how long a loss stays a condition, also of a worker that was restarted since; 0: one hour

	tracks map[addr.Addr]*track
}

// track is what is remembered of one address.
type track struct {
	seen       bool
	outcomes   int64
	incarnated int
	health     Health
	failedAt   time.Time
	progress   time.Time   // when outcomes last moved, or nothing waited
	failures   []time.Time // the latest CrashCount ones
	drifted    time.Time
	counted    int64     // losses, as the counter was seen last
	lost       int64     // at least; while it is a condition
	lostSince  time.Time // zero: nothing was lost
	lostAt     time.Time // the last time
}

// Conclude sets the Conditions of every state of o and forgets addresses that are gone.
func (m *Monitor) Conclude(o *Observed) {
	if m.tracks == nil {
		m.tracks = map[addr.Addr]*track{}
	}
	for a, st := range o.States {
		t := m.tracks[a]
		if t == nil {
			t = &track{progress: o.At}
			m.tracks[a] = t
		}
		m.follow(t, st, o.At)
		st.Conditions = m.conditions(t, st, o.At)
		o.States[a] = st
	}
	for a := range m.tracks {
		if _, ok := o.States[a]; !ok {
			delete(m.tracks, a)
		}
	}
}

func (m *Monitor) follow(t *track, st State, now time.Time) {
	c := st.Counters
	outcomes := c.Delivered + c.Filtered + c.DeadLettered + c.Dropped + c.Unsettled // what a sink has taken gets its outcome later
	if outcomes != t.outcomes || st.Lag <= 0 || st.Health != Running || st.Restarts != t.incarnated {
		t.progress = now
	}
	failures := 0
	if t.seen && st.Restarts > t.incarnated {
		failures = st.Restarts - t.incarnated
	}
	// A failure that is seen before its restart is counted once: by its own time.
	if st.Health == Failed && (t.health != Failed || !st.Since.Equal(t.failedAt)) {
		failures = max(failures, 1)
	} else if t.health == Failed && failures > 0 {
		failures--
	}
	if st.Health == Failed {
		t.failedAt = st.Since
	}
	if !st.Unreachable.IsZero() {
		failures = 0 // it was tried and could not be: that is its cluster's trouble, which is said there
	}
	count := m.crashCount()
	for range min(failures, count) {
		t.failures = append(t.failures, now)
	}
	if extra := len(t.failures) - count; extra > 0 {
		t.failures = append(t.failures[:0], t.failures[extra:]...)
	}
	switch {
	case len(st.Drift) == 0:
		t.drifted = time.Time{}
	case t.drifted.IsZero():
		t.drifted = now
	}
	// A worker that stopped at a loss meets the same one when it is tried again: losses are not added up over workers.
	if c.LostBeforeRead > 0 && c.LostBeforeRead != t.counted {
		if t.lostSince.IsZero() {
			t.lostSince = now
		}
		t.lost, t.lostAt = max(t.lost, c.LostBeforeRead), now
	}
	t.counted = c.LostBeforeRead
	if !t.lostSince.IsZero() && now.Sub(t.lostAt) > m.lossWindow() {
		t.lost, t.lostSince = 0, time.Time{}
	}
	t.seen, t.outcomes, t.incarnated, t.health = true, outcomes, st.Restarts, st.Health
}

func (m *Monitor) conditions(t *track, st State, now time.Time) []Condition {
	var out []Condition
	if still := now.Sub(t.progress); st.Lag > 0 && still >= m.stalledAfter() {
		msg := fmt.Sprintf("%d records wait, and none got an outcome for %v", st.Lag, still.Round(time.Second))
		if st.Activity != "" {
			msg += ": " + st.Activity
		}
		out = append(out, Condition{Kind: Stalled, Since: t.progress, Message: msg})
	}
	if n := m.crashCount(); st.Unreachable.IsZero() && len(t.failures) >= n && now.Sub(t.failures[0]) <= m.crashWindow() {
		msg := fmt.Sprintf("failed %d times within %v", n, m.crashWindow())
		if st.Error != "" {
			msg += "; the last time: " + st.Error
		}
		out = append(out, Condition{Kind: CrashLooping, Since: t.failures[0], Message: msg})
	}
	if !t.lostSince.IsZero() {
		msg := fmt.Sprintf("at least %d records were removed from the topic before they were read: keep them for longer (retention), or find out why the route was behind", t.lost)
		out = append(out, Condition{Kind: DataLost, Since: t.lostSince, Message: msg})
	}
	if len(st.Drift) > 0 {
		out = append(out, Condition{Kind: Drifted, Since: t.drifted, Message: list(st.Drift)})
	}
	return out
}

func (m *Monitor) stalledAfter() time.Duration {
	if m.StalledAfter > 0 {
		return m.StalledAfter
	}
	return time.Minute
}

func (m *Monitor) lossWindow() time.Duration {
	if m.LossWindow > 0 {
		return m.LossWindow
	}
	return time.Hour
}

func (m *Monitor) crashWindow() time.Duration {
	if m.CrashWindow > 0 {
		return m.CrashWindow
	}
	return 10 * time.Minute
}

func (m *Monitor) crashCount() int {
	if m.CrashCount > 0 {
		return m.CrashCount
	}
	return 3
}
