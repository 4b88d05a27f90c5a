//go:build synctests

package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"keystone/configs"
)

// scenario is what a seed decides before anything runs.
type scenario struct {
	seed       uint64
	guarantee  configs.Guarantee
	order      configs.Order
	sink       sinkKind
	letters    sinkKind
	keyed      bool // records have keys, and the sink's topic spreads them
	static     bool // members have names
	brokers    int
	partitions int32
	out        int32 // partitions of the sink's topic
	members    int
	steps      int // faults
	records    int // per partition and step, at most
	session    time.Duration
	interval   time.Duration // of commits
	parallel   int
	batch      int
	inFlight   int64
}

// sinkKind is where a route writes.
type sinkKind string

// The kinds.
const (
	toKafka    sinkKind = "kafka"
	toScripted sinkKind = "scripted" // answers for each record; one write of a lane at a time
	toOrdered  sinkKind = "ordered"  // keeps the order; many writes of a lane
)

// pick chooses one of them.
func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func newScenario(r *rand.Rand, seed uint64) *scenario {
	s := &scenario{
		seed:      seed,
		guarantee: pick(r, configs.AtLeastOnce, configs.AtLeastOnce, configs.AtLeastOnce, configs.AtMostOnce),
		order:     pick(r, configs.OrderPartition, configs.OrderPartition, configs.OrderKey, configs.OrderNone),
		sink:      pick(r, toKafka, toKafka, toScripted, toOrdered), letters: pick(r, toKafka, toScripted),
		keyed: r.IntN(2) == 0, static: r.IntN(2) == 0,
		brokers: pick(r, 1, 1, 3), partitions: 1 + r.Int32N(4), out: 1 + r.Int32N(3), members: pick(r, 1, 2, 2, 3),
		steps: 5 + r.IntN(20), records: pick(r, 5, 20, 60), session: pick(r, 6*time.Second, 10*time.Second),
		interval: pick(r, 20*time.Millisecond, 200*time.Millisecond, time.Second), parallel: 1 + r.IntN(3), batch: pick(r, 1, 7, 50),
		inFlight: pick[int64](r, 1, 5_000, 1<<20),
	}
	if s.order == configs.OrderKey {
		s.keyed = true
	}
	if r.IntN(4) == 0 {
		s.guarantee, s.sink, s.letters = configs.ExactlyOnce, toKafka, toKafka
	}
	if seed >= chainFrom {
		s.guarantee, s.order, s.sink = configs.AtLeastOnce, configs.OrderPartition, toChained
	}
	return s
}

// String gives what one has to know to read a trace.
func (s *scenario) String() string {
	return fmt.Sprintf("%s, order %s, sink %s, dead letters %s, keyed %v, static %v, %d brokers, %d partitions to %d, %d members, %d faults, session %v, commits every %v, parallel %d, batch %d, in flight %d",
		s.guarantee, s.order, s.sink, s.letters, s.keyed, s.static, s.brokers, s.partitions, s.out, s.members, s.steps, s.session, s.interval, s.parallel, s.batch, s.inFlight)
}
