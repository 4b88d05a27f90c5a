package pipeline

import (
	"math"
	"runtime"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"keystone/configs"
	"keystone/dsl/eval"
	"keystone/pipeline/record"
)

// evaluator is what a program gives a runner: eval.Eval.
type evaluator interface {
	Run(in *record.Batch, i int, out *record.Batch) (eval.Verdict, *eval.Error)
}

func programEvals(p *eval.Program) func() evaluator {
	return func() evaluator { return p.NewEval() }
}

// plan is a program and the live options of a route, as one revision has them. A batch is
// processed by the plan that was current when it was read.
type plan struct {
	revision       int64
	route          *configs.Route
	onError        configs.OnError
	parallelism    int
	maxInFlight    int64
	maxRecord      int
	want           record.Want
	commitInterval time.Duration
	drainTimeout   time.Duration
	retry          configs.Retry
	dataLossStops  bool
	records, bytes *rate.Limiter // nil: no throttle
	newEval        func() evaluator
	filters        bool    // the route has a filter
	sample         *sample // nil: nothing is to be found out about its events

	filtered, held int64 // events for which the filter was not true, and was; guarded by Worker.mu

	replaced chan struct{} // closed when another plan is swapped in

	mu   sync.Mutex // guards free
	free []evaluator
}

func newPlan(evals func() evaluator, r *configs.Route, revision int64, letters bool) *plan {
	p := &plan{
		revision:       revision,
		replaced:       make(chan struct{}),
		route:          r,
		onError:        r.OnError,
		parallelism:    r.Parallelism,
		maxInFlight:    or(r.Limits.MaxInFlightBytes, 64<<20),
		maxRecord:      int(or(r.Limits.MaxRecordBytes, math.MaxInt)),
		want:           record.Want{Records: r.Batch.Records, Bytes: int(r.Batch.Bytes), Linger: r.Batch.Linger},
		commitInterval: or(r.Delivery.CommitInterval, time.Second),
		drainTimeout:   or(r.Delivery.DrainTimeout, 30*time.Second),
		retry:          r.Retry,
		dataLossStops:  r.OnDataLoss == "stop",
		newEval:        evals,
		filters:        len(r.Events.Filter) > 0,
	}
	if p.parallelism <= 0 {
		p.parallelism = runtime.GOMAXPROCS(0)
	}
	if p.onError == "" || p.onError == configs.DeadLetter && !letters {
		p.onError = configs.StopRoute // nothing is lost where nobody takes dead letters
	}
	p.retry.Initial = or(p.retry.Initial, 100*time.Millisecond)
	p.retry.Max = or(p.retry.Max, 30*time.Second)
	if n := r.Throttle.RecordsPerSecond; n > 0 {
		p.records = rate.NewLimiter(rate.Limit(n), max(n/10, 1))
		// Smaller reads make the flow even: about ten a second.
		if part := max(n/10, 1); p.want.Records == 0 || part < p.want.Records {
			p.want.Records = part
		}
	}
	if n := r.Throttle.BytesPerSecond; n > 0 {
		n = min(n, math.MaxInt32)
		p.bytes = rate.NewLimiter(rate.Limit(n), int(max(n/10, 1)))
		if part := int(max(n/10, 1)); p.want.Bytes == 0 || part < p.want.Bytes {
			p.want.Bytes = part
		}
	}
	return p
}

func or[T int | int64 | time.Duration](v, otherwise T) T {
	if v <= 0 {
		return otherwise
	}
	return v
}

// eval lends an evaluator; one that was used before, if there is one.
func (p *plan) eval() evaluator {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.free); n > 0 {
		e := p.free[n-1]
		p.free = p.free[:n-1]
		return e
	}
	return p.newEval()
}

func (p *plan) giveBack(e evaluator) {
	p.mu.Lock()
	p.free = append(p.free, e)
	p.mu.Unlock()
}

// follow takes over the throttle of the plan before, where the bounds are the same: a change of
// something else neither forgives what was read too fast nor allows another burst.
func (p *plan) follow(old *plan) {
	same := func(a, b *rate.Limiter) bool {
		return a != nil && b != nil && a.Limit() == b.Limit() && a.Burst() == b.Burst()
	}
	if same(p.records, old.records) {
		p.records = old.records
	}
	if same(p.bytes, old.bytes) {
		p.bytes = old.bytes
	}
}

// paces tells whether the throttle is that of p.
func (p *plan) paces(o *plan) bool { return p.records == o.records && p.bytes == o.bytes }

// debt takes what was read from the throttle and gives how long to wait
// before reading again. More than a burst is taken in parts.
func (p *plan) debt(records, bytes int) time.Duration {
	return max(take(p.records, records), take(p.bytes, bytes))
}

func take(l *rate.Limiter, n int) time.Duration {
	if l == nil {
		return 0
	}
	var wait time.Duration
	now := time.Now()
	for n > 0 {
		part := min(n, l.Burst())
		wait = l.ReserveN(now, part).DelayFrom(now)
		n -= part
	}
	return wait
}
