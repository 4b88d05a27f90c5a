package elasticsearch

import (
	"math"
	"time"
)

// limit is how many requests may be under way at once. It begins at one and follows the answers as TCP's
// congestion control does: one more after each round in which all were used and answers came no later than before,
// a tenth less (at least one) when the cluster refuses work for being too much or when
// answers come clearly later. It is the algorithm of Vector's adaptive request concurrency
// (https://vector.dev/docs/architecture/arc/), after Netflix' concurrency-limits
// (https://github.com/Netflix/concurrency-limits). Times are those of requests that are at least half
// full: small ones are answered sooner and say nothing about the cluster.
type limit struct {
	max int
	now int

	n        int           // answers of this round
	sum      time.Duration // of their times
	timed    int           // answers in sum
	full     bool          // all that may be under way were
	over     bool          // the cluster refused work
	past     float64       // moving mean of the times, in seconds; 0: none yet
	variance float64
}

// The figures are Vector's: how much of a round's mean goes into the moving one, how many
// standard deviations later is clearly later, and what a decrease leaves.
const (
	smoothing  = 0.4
	deviations = 2.5
	decrease   = 0.9
)

func newLimit(most int) limit { return limit{max: most, now: 1} }

// answer takes the time of a request; timed tells whether it was large enough to say something, full whether
// as many were under way as may be, and over that the cluster refused some of it for being too much.
func (l *limit) answer(d time.Duration, timed, full, over bool) {
	l.n++
	if timed && !over {
		l.sum += d
		l.timed++
	}
	l.full = l.full || full
	l.over = l.over || over
	if l.n < l.now && !over {
		return
	}
	slower := false
	if l.timed > 0 {
		slower = l.learn(l.sum.Seconds() / float64(l.timed))
	}
	switch {
	case l.over || slower:
		l.now = max(1, int(float64(l.now)*decrease))
	case l.full && l.now < l.max:
		l.now++
	}
	l.n, l.sum, l.timed, l.full, l.over = 0, 0, 0, false, false
}

// learn takes the mean of a round and tells whether it is clearly above those before.
func (l *limit) learn(mean float64) (slower bool) {
	if l.past == 0 {
		l.past = mean
		return false
	}
	diff := mean - l.past
	// With few rounds the deviation is no measure yet: half as long again is nothing to worry about.
	slower = diff > max(deviations*math.Sqrt(l.variance), l.past/2)
	l.past += smoothing * diff
	l.variance = (1 - smoothing) * (l.variance + smoothing*diff*diff)
	return slower
}
