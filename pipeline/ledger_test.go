package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"keystone/configs"
	"keystone/pipeline/record"
	"keystone/sinks"
)

// world is an oracle over several runs of a route: what each record of the
// log is, and what has become of it so far.
type world struct {
	mu       sync.Mutex
	rng      *rand.Rand
	src      *memSource
	done     map[string]bool // values of outputs and letters that arrived, and of rejected ones that were dropped
	order    configs.Order
	first    map[string][]int           // by what keeps its order, the indexes of records as they were first delivered
	writer   map[string]context.Context // of a delivered output: the lane's that wrote it last
	failed   map[int32]bool             // lanes in which nothing succeeds until Go
	rates    rates
	ordered  bool // the destination is an Ordered sink
	suffix   bool // and no record of a batch after one that failed (of its key, with that order)
	amo      bool
	rejected map[string]bool
	dropped  map[string]bool // after the last attempt
	tries    map[string]int
	policy   configs.OnError
	attempts int             // max_attempts
	unknown  map[string]bool // refused without saying whether it was written
	errs     []error
}

type rates struct{ retry, reject, whole, applied, slow int } // percent

// outputs gives what a value becomes.
func (w *world) outputs(v string) []string {
	switch v[0] {
	case 'e':
		if w.policy == configs.PassRecord {
			return []string{v}
		}
		return nil
	case 'f', 't', '0':
		return nil
	case 'x':
		return []string{v + "a", v + "b"}
	}
	return []string{v}
}

// settled tells whether a record has what it needs to be committed.
func (w *world) settled(v string) bool {
	if w.done["letter "+v] {
		return true
	}
	if v[0] == 'e' && w.policy == configs.DeadLetter {
		return false
	}
	gone := false // with one output the record is dropped
	for _, o := range w.outputs(v) {
		gone = gone || w.policy != configs.DeadLetter && (w.rejected[o] || w.dropped[o])
	}
	for _, o := range w.outputs(v) {
		if !w.done[o] && !gone {
			return false
		}
	}
	return true
}

// checkCommit holds a commit to the promise: everything before it has an outcome.
func (w *world) checkCommit(part int32, next int64) error {
	if w.amo {
		return nil // it commits first
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.src.logs[part] {
		if r.Offset < next && !w.settled(string(r.Value)) {
			return fmt.Errorf("partition %d: committed %d, but %q at %d has no outcome", part, next, r.Value, r.Offset)
		}
	}
	return nil
}

// left tells a record that left the order: by a dead letter, or given up.
func (w *world) left(n int) bool {
	for _, v := range []string{fmt.Sprintf("v%d", n), fmt.Sprintf("x%d", n), fmt.Sprintf("e%d", n)} {
		if w.done["letter "+v] || w.dropped[v] || w.dropped[v+"a"] || w.dropped[v+"b"] || w.rejected[v] || w.rejected[v+"a"] || w.rejected[v+"b"] {
			return true
		}
	}
	return false
}

func (w *world) chance(percent int) bool { return w.rng.IntN(100) < percent }

// number finds the record of an output: values are unique.
func number(v string) (n int) {
	fmt.Sscanf(strings.TrimLeft(v, "vxeft0"), "%d", &n)
	return n
}

// write answers a write with random failures. It is the destination: what it
// takes counts as delivered.
func (w *world) write(ctx context.Context, b *record.Batch, take func(int)) (err error) {
	w.mu.Lock()
	slow := w.chance(w.rates.slow)
	delay := time.Duration(w.rng.IntN(50)) * time.Millisecond
	w.mu.Unlock()
	if slow {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			w.mu.Lock()
			defer w.mu.Unlock()
			w.failed[b.Partition] = true
			return ctx.Err()
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	defer func() {
		// What failed as often as it may be tried is given up: dropped, unless there are dead letters.
		var partial *sinks.PartialError
		switch {
		case errors.As(err, &partial):
			for _, f := range partial.Failures {
				if f.Outcome == sinks.Retryable {
					w.fail(b, f.Index)
				}
			}
		case err != nil:
			for i := range b.Records {
				w.fail(b, i)
			}
		}
	}()
	if w.ordered && !b.Loose && w.failed[b.Partition] {
		return errors.New("an earlier write of the lane failed")
	}
	var failures []sinks.Failure
	failed := map[string]bool{}
	if w.chance(w.rates.whole) {
		w.failed[b.Partition] = true
		if w.amo { // nobody knows
			for i := range b.Records {
				w.unknown[string(b.Records[i].Value)] = true
			}
		}
		return errors.New("the destination is away")
	}
	for i := range b.Records {
		v := string(b.Records[i].Value)
		switch {
		case failed[w.sequence(b, i)] && w.suffix || w.chance(w.rates.retry):
			failures = append(failures, sinks.Failure{Index: i, Outcome: sinks.Retryable, Err: errors.New("busy")})
			failed[w.sequence(b, i)] = true
			continue
		case w.rejected[v] || !w.done[v] && w.chance(w.rates.reject):
			w.rejected[v] = true // for ever
			failures = append(failures, sinks.Failure{Index: i, Outcome: sinks.Rejected, Code: "refused", Err: errors.New("no")})
			continue
		case w.chance(w.rates.applied):
			failures = append(failures, sinks.Failure{Index: i, Outcome: sinks.Applied})
		}
		if !w.done[v] {
			w.done[v] = true
			w.first[w.sequence(b, i)] = append(w.first[w.sequence(b, i)], number(v))
		} else if w.amo || w.writer[v] == ctx {
			w.errs = append(w.errs, fmt.Errorf("%q was written twice", v))
		}
		w.writer[v] = ctx
		take(i)
	}
	if failures == nil {
		return nil
	}
	w.failed[b.Partition] = true
	return &sinks.PartialError{Failures: failures}
}

// sequence names what an output keeps its order in.
func (w *world) sequence(b *record.Batch, i int) string {
	switch w.order {
	case configs.OrderKey:
		return fmt.Sprintf("%d key %q", b.Partition, b.Records[i].Key)
	case configs.OrderNone:
		return fmt.Sprintf("%d at %d", b.Partition, b.Records[i].Offset)
	}
	return fmt.Sprint(b.Partition)
}

func (w *world) fail(b *record.Batch, i int) {
	v := string(b.Records[i].Value)
	if w.tries[v]++; w.attempts > 0 && w.tries[v] >= w.attempts {
		w.dropped[v] = true
	}
}

// orderedSink keeps the order: after a failure everything fails until Go.
type orderedSink struct {
	*memSink
	w *world
}

func (s orderedSink) KeepsOrder() {}

func (s orderedSink) Go(part int32) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.w.failed[part] = false
}

// scenario is one random history.
type scenario struct {
	seed                                    uint64
	partitions, records, size               int
	parallelism                             int
	inFlight                                int64
	crashes                                 int
	async, ordered, suffix, rebalance, swap bool
	rates                                   rates
	order                                   configs.Order
	guarantee                               configs.Guarantee
	policy                                  configs.OnError
	attempts                                int
}

func draw(t *rapid.T) scenario {
	percent := rapid.SampledFrom([]int{0, 0, 5, 30})
	return scenario{
		seed:       rapid.Uint64().Draw(t, "seed"),
		partitions: rapid.IntRange(1, 4).Draw(t, "partitions"), records: rapid.IntRange(0, 120).Draw(t, "records"),
		size: rapid.IntRange(1, 20).Draw(t, "size"), parallelism: rapid.IntRange(1, 4).Draw(t, "parallelism"),
		inFlight: rapid.SampledFrom([]int64{1, 5_000, 50_000, 0}).Draw(t, "in flight"),
		crashes:  rapid.IntRange(0, 3).Draw(t, "crashes"),
		order:    rapid.SampledFrom([]configs.Order{configs.OrderPartition, configs.OrderKey, configs.OrderNone}).Draw(t, "order"),
		policy:   rapid.SampledFrom([]configs.OnError{configs.DeadLetter, configs.DropRecord, configs.PassRecord}).Draw(t, "on error"),
		attempts: rapid.SampledFrom([]int{0, 0, 2, 4}).Draw(t, "attempts"),
		async:    rapid.Bool().Draw(t, "async"), ordered: rapid.Bool().Draw(t, "ordered"), suffix: rapid.Bool().Draw(t, "suffix"),
		rebalance: rapid.Bool().Draw(t, "rebalance"), swap: rapid.Bool().Draw(t, "swap"),
		rates: rates{retry: percent.Draw(t, "retry"), reject: percent.Draw(t, "reject"), whole: percent.Draw(t, "whole"), applied: percent.Draw(t, "applied"), slow: percent.Draw(t, "slow")},
	}
}

// TestLedger is the promise of at least once, under partial failures, crashes, rebalances and swaps:
// nothing is lost, nothing is committed past a record without outcome, no lane writes a record twice, first
// deliveries keep the order that the route asks for, and the counters add up.
func TestLedger(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := draw(rt)
		s.guarantee = configs.AtLeastOnce
		synctest.Test(t, func(t *testing.T) {
			w := s.play(t)
			for p, log := range w.src.logs {
				for _, r := range log {
					if !w.settled(string(r.Value)) {
						w.errs = append(w.errs, fmt.Errorf("partition %d: %q at %d is lost", p, r.Value, r.Offset))
					}
				}
				if n := len(log); n > 0 && w.src.committed[p] != log[n-1].Offset+1 {
					w.errs = append(w.errs, fmt.Errorf("partition %d: committed %d, want %d", p, w.src.committed[p], log[n-1].Offset+1))
				}
			}
			for what, first := range w.first {
				first := slices.DeleteFunc(slices.Clone(first), w.left)
				if w.suffix && !slices.IsSorted(first) {
					w.errs = append(w.errs, fmt.Errorf("first deliveries of partition %s out of order: %v", what, first))
				}
			}
			if err := errors.Join(w.errs...); err != nil {
				rt.Errorf("%+v\n%v", s, err)
			}
		})
		if t.Failed() {
			rt.FailNow()
		}
	})
}

// TestAtMostOnce is its counterpart: nothing is written twice, whatever fails.
func TestAtMostOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := draw(rt)
		s.guarantee = configs.AtMostOnce
		synctest.Test(t, func(t *testing.T) {
			w := s.play(t)
			for p, log := range w.src.logs {
				for _, r := range log {
					if v := string(r.Value); !w.settled(v) && !w.unknown[v] && !w.unknown[v+"a"] && !w.unknown[v+"b"] && s.crashes == 0 && !s.rebalance {
						w.errs = append(w.errs, fmt.Errorf("partition %d: %q is lost without a crash", p, v))
					}
				}
			}
			if err := errors.Join(w.errs...); err != nil {
				rt.Errorf("%+v\n%v", s, err)
			}
		})
		if t.Failed() {
			rt.FailNow()
		}
	})
}

// play runs the route until the log is processed; crashes and rebalances come in between.
func (s scenario) play(t *testing.T) *world {
	w := &world{
		rng: rand.New(rand.NewPCG(s.seed, 1)), done: map[string]bool{}, order: s.order, first: map[string][]int{}, writer: map[string]context.Context{}, failed: map[int32]bool{}, unknown: map[string]bool{}, rejected: map[string]bool{}, dropped: map[string]bool{}, tries: map[string]int{}, policy: s.policy, attempts: s.attempts,
		rates: s.rates, ordered: s.ordered, suffix: s.suffix || s.ordered, amo: s.guarantee == configs.AtMostOnce, src: newMemSource(s.size),
	}
	w.src.key = fewKeys
	for n := range s.records {
		kind := string("vvvvvxfte0"[w.rng.IntN(10)])
		w.src.add(int32(w.rng.IntN(s.partitions)), fmt.Sprintf("%s%d", kind, n))
	}
	for p := range int32(s.partitions) {
		w.src.add(p) // all of them exist
		if w.src.logs[p] == nil {
			w.src.logs[p] = []record.Record{}
		}
	}
	w.src.check = w.checkCommit
	for life := 0; ; life++ {
		if life == s.crashes {
			w.rates = rates{} // the last life lets everything through
		}
		if s.live(t, w, life < s.crashes) || len(w.errs) > 0 {
			w.errs = append(w.errs, w.src.violations...)
			return w
		}
	}
}

// live is one process: it ends at the end of the log or by a crash. It tells whether the log is done.
func (s scenario) live(t *testing.T, w *world, crash bool) bool {
	route := testRoute(func(r *configs.Route) {
		r.OnError, r.Retry.MaxAttempts, r.Order = s.policy, s.attempts, s.order
		r.Parallelism, r.Limits.MaxInFlightBytes = s.parallelism, s.inFlight
		r.Delivery.Guarantee, r.Delivery.CommitInterval = s.guarantee, 20*time.Millisecond
	})
	sink := newMemSink()
	sink.async, sink.hook = s.async, w.write
	var target sinks.Sink = sink
	if s.ordered {
		target = orderedSink{sink, w}
	}
	w.src.dead = false
	w.src.endless = crash
	g := newRig(w.src, target, route)
	g.letters.fail = func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.chance(w.rates.whole) {
			return errors.New("the dead-letter stream is away")
		}
		return nil
	}
	letters := &oracleLetters{DeadLetters: g.letters, w: w}
	g.w.spec.DeadLetters = letters
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	g.start(ctx)
	synctest.Wait()
	for range 3 {
		w.mu.Lock()
		wait := time.Duration(w.rng.IntN(100)) * time.Millisecond
		part := int32(w.rng.IntN(s.partitions))
		lost := w.chance(30)
		w.mu.Unlock()
		time.Sleep(wait)
		if s.swap {
			g.w.swap(newPlan(newCommands, route, g.w.Stats().Revision+1, true))
		}
		if err := checkCounts(g.w.Stats()); err != nil {
			w.errs = append(w.errs, err)
		}
		select {
		case err := <-g.ended:
			g.ended <- err
			continue
		default:
		}
		if s.rebalance && crash {
			revokeCtx, stop := context.WithTimeout(ctx, time.Second)
			if lost {
				w.src.lose(part)
			} else {
				w.src.revoke(revokeCtx, part)
			}
			stop()
			w.src.assign(part)
		}
	}
	if crash {
		w.src.mu.Lock()
		w.src.dead = true
		w.src.mu.Unlock()
		cancel()
	}
	err := <-g.ended
	if err := checkCounts(g.w.Stats()); err != nil {
		w.errs = append(w.errs, err)
	}
	if crash {
		return false
	}
	if err != nil {
		w.errs = append(w.errs, err)
	}
	if s := g.w.Stats(); s.InFlightRecords != 0 || s.Total.Abandoned != 0 {
		w.errs = append(w.errs, fmt.Errorf("a finished run has %d in flight and %d abandoned", s.InFlightRecords, s.Total.Abandoned))
	}
	return true
}

// oracleLetters tells the oracle what was acknowledged.
type oracleLetters struct {
	DeadLetters
	w *world
}

func (o *oracleLetters) Write(ctx context.Context, letters []DeadLetter) error {
	if err := o.DeadLetters.Write(ctx, letters); err != nil {
		return err
	}
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	for _, l := range letters {
		v := string(l.Record.Value)
		if o.w.amo && o.w.done["letter "+v] {
			o.w.errs = append(o.w.errs, fmt.Errorf("two dead letters for %q", v))
		}
		o.w.done["letter "+v] = true
	}
	return nil
}
