package reconcile

import (
	"time"

	"keystone/configs"
)

// Backoff says how long to wait before an address is tried again: Initial
// after the first failure, twice as long after each further one, at most Max, and
// a random half of that less, so that many do not come back at the same time.
type Backoff struct {
	Initial time.Duration // 500ms
	Max     time.Duration // 1m
	Reset   time.Duration // without failure after which an address counts as well again; 5m
}

func (b Backoff) withDefaults() Backoff {
	if b.Initial <= 0 {
		b.Initial = 500 * time.Millisecond
	}
	if b.Max <= 0 {
		b.Max = time.Minute
	}
	if b.Reset <= 0 {
		b.Reset = 5 * time.Minute
	}
	return b
}

func (b Backoff) delay(failures int, rand func() float64) time.Duration {
	d := b.Initial
	for range failures - 1 {
		if d *= 2; d >= b.Max {
			d = b.Max
			break
		}
	}
	if rand == nil {
		return d
	}
	return d/2 + time.Duration(rand()*float64(d/2))
}

// trouble is the memory of an address that fails.
type trouble struct {
	failures int
	until    time.Time // no attempt before
	last     time.Time // when it failed last
	err      string
	after    *configs.Resource // what was tried
	seen     time.Time         // State.Since of the worker's failure that was counted last
}

func (l *run) failed(c Change, err string, now time.Time) {
	t := l.troubles[c.Addr]
	if t == nil || !equal(t.after, c.After) {
		t = &trouble{}
		l.troubles[c.Addr] = t
	}
	t.failures++
	t.err, t.after, t.last = err, c.After, now
	t.until = now.Add(l.spec.Backoff.delay(t.failures, l.spec.Rand))
}

// mayTry tells whether a change may be tried now. A failure of a worker that
// was not counted yet counts here, so that a worker which starts well and fails at once is not
// restarted without pause. What somebody edited since it failed is tried at once.
func (l *run) mayTry(c Change, st State, now time.Time) bool {
	t := l.troubles[c.Addr]
	if t != nil && !equal(t.after, c.After) {
		delete(l.troubles, c.Addr)
		t = nil
	}
	if c.Action == Repair && st.Health == Failed && (t == nil || !t.seen.Equal(st.Since)) {
		l.failed(c, st.Error, now)
		t = l.troubles[c.Addr]
		t.seen = st.Since
	}
	return t == nil || !now.Before(t.until)
}

// recovered forgets the troubles of addresses that have been well for long enough.
func (l *run) recovered(states Observed, now time.Time) {
	for a, t := range l.troubles {
		st, there := states.States[a]
		well := st.Health != Failed && !now.Before(t.until) && now.Sub(t.last) >= l.spec.Backoff.Reset
		if !there && l.after[a] == nil || well && !l.unmet[a] {
			delete(l.troubles, a)
		}
	}
}
