//go:build synctests

package sim

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"time"

	"keystone/pipeline/record"
	"keystone/sinks"
)

// destination is where scripted sinks write: it outlives processes.
type destination struct {
	mu    sync.Mutex // guards everything below
	log   []arrival
	moody mood
}

// arrival is one record that the destination took.
type arrival struct {
	part int32 // of the destination: here, the source's
	id   string
}

// mood is how the destination behaves for a while; the numbers are percent.
type mood struct {
	slow    time.Duration // how long a write may take
	down    int           // writes that fail whole, without effect
	applied int           // writes that fail whole after they took effect
	partial int           // records that are to be written again
	unknown int           // records of which it cannot say
}

// scripted is a sink of one process that writes to a destination through its link.
type scripted struct {
	w    *world
	l    *link
	dest *destination
	// suffix: where a record was not written, none behind it in the batch was.
	suffix bool

	mu     sync.Mutex // guards everything below
	rng    *rand.Rand
	tail   map[int32]chan struct{} // of a lane: closed when its last write took effect
	failed map[int32]bool          // lanes whose writes fail until Go
	keeps  bool                    // it is Ordered
}

func newScripted(w *world, l *link, d *destination, suffix, keeps bool) *scripted {
	h := fnv.New64a()
	fmt.Fprint(h, "sink ", l.name)
	return &scripted{w: w, l: l, dest: d, suffix: suffix, keeps: keeps, rng: rand.New(rand.NewPCG(w.seed, h.Sum64())), tail: map[int32]chan struct{}{}, failed: map[int32]bool{}}
}

// Open does nothing.
func (s *scripted) Open(context.Context) error { return nil }

// Close waits for nothing.
func (s *scripted) Close(context.Context) error { return nil }

var errAway = errors.New("the destination is away")

// Write takes effect later, in the order of the lane, and answers later still.
func (s *scripted) Write(ctx context.Context, b *record.Batch, done func(error)) {
	s.dest.mu.Lock()
	m := s.dest.moody
	s.dest.mu.Unlock()
	s.mu.Lock()
	var before chan struct{}
	mine := make(chan struct{})
	if !b.Loose {
		before = s.tail[b.Partition]
		s.tail[b.Partition] = mine
	}
	there, back := latency(s.rng)+draw(s.rng, m.slow), latency(s.rng)
	s.mu.Unlock()
	s.w.work.Go(func() {
		if before != nil {
			<-before
		}
		time.Sleep(there)
		err := errNetwork
		if s.l.wait(nil) && !s.l.isDead() {
			err = s.apply(b, m)
		}
		close(mine)
		time.Sleep(back)
		s.l.wait(nil)
		done(err)
	})
}

func draw(r *rand.Rand, d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(r.Int64N(int64(d)))
}

func (s *scripted) chance(percent int) bool { return s.rng.IntN(100) < percent }

// apply is the moment at which the write takes effect, or not.
func (s *scripted) apply(b *record.Batch, m mood) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keeps && !b.Loose && s.failed[b.Partition] {
		return errors.New("an earlier write of the lane failed")
	}
	if s.chance(m.down) {
		s.w.fault("sink failed", "%s partition %d, %d records", s.l.name, b.Partition, len(b.Records))
		s.w.risk(b.Records)
		s.fail(b)
		return errAway
	}
	var failures []sinks.Failure
	stop := false
	for i := range b.Records {
		r := &b.Records[i]
		id := idOf(r)
		switch {
		case stop:
			failures = append(failures, sinks.Failure{Index: i, Outcome: sinks.Retryable, Err: errAway})
		case s.dest == s.w.dest && s.w.rejects(id):
			failures = append(failures, sinks.Failure{Index: i, Outcome: sinks.Rejected, Code: "refused", Err: errors.New("it refuses that record")})
		case s.chance(m.partial):
			s.w.fault("record failed", "%s %s", s.l.name, id)
			failures = append(failures, sinks.Failure{Index: i, Outcome: sinks.Retryable, Err: errAway})
			stop = s.suffix
		case s.chance(m.unknown):
			took := s.chance(50)
			s.w.fault("record unknown", "%s %s, written: %v", s.l.name, id, took)
			s.w.risk(b.Records[i : i+1])
			if took {
				s.take(b.Partition, id)
			}
			failures = append(failures, sinks.Failure{Index: i, Outcome: sinks.Unknown, Code: "unknown", Err: errAway})
			stop = s.suffix
		default:
			s.take(b.Partition, id)
		}
	}
	if s.chance(m.applied) {
		s.w.fault("sink failed after it wrote", "%s partition %d, %d records", s.l.name, b.Partition, len(b.Records))
		s.w.risk(b.Records)
		s.fail(b)
		return errAway
	}
	if failures == nil {
		return nil
	}
	for _, f := range failures {
		if f.Outcome != sinks.Rejected {
			s.fail(b)
		}
	}
	return &sinks.PartialError{Failures: failures}
}

// fail has the lane's writes fail until Go, where the order is the lane's.
func (s *scripted) fail(b *record.Batch) {
	if !b.Loose {
		s.failed[b.Partition] = true
	}
}

func (s *scripted) take(part int32, id string) {
	s.dest.mu.Lock()
	s.dest.log = append(s.dest.log, arrival{part, id})
	s.dest.mu.Unlock()
	s.w.arrived(s.l, s.dest == s.w.letters, id)
	s.w.trace("%s writes %s", s.l.name, id)
}

// ordered is a scripted sink that keeps the order of a lane.
type ordered struct{ *scripted }

// KeepsOrder is a mark.
func (ordered) KeepsOrder() {}

// Go lets writes of a lane succeed again.
func (o ordered) Go(part int32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failed[part] = false
}

// idOf gives the id that every record carries as a header.
func idOf(r *record.Record) string {
	for _, h := range r.Headers {
		if h.Key == "id" {
			return string(h.Value)
		}
	}
	panic(fmt.Sprintf("sim: a record without id: offset %d, %q", r.Offset, r.Value))
}
