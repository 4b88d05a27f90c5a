//go:build synctests

package sim

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"keystone/pipeline/record"
	"keystone/sinks"
)

// toChained is a sink that keeps its own positions: a chain of commits per partition, as a table of files does.
const toChained sinkKind = "chained"

// chainFrom is where the seeds begin whose route writes to a chained sink. It is not one of the sinks that a
// seed draws: another one would make other histories of all seeds.
const chainFrom = 1_000_000

// chainKey names a chain: each rewind begins others.
type chainKey struct {
	generation int
	part       int32
}

// manifest is one commit of a chain: its name has where it begins, and it is put there only if there is none.
type manifest struct {
	from, to record.Position
	ids      []string
	by       string // its writer, who may not have heard that it is there
}

// chains is what outlives processes.
type chains struct {
	mu    sync.Mutex // guards everything below
	links map[chainKey][]manifest
}

// end is where a chain ends; false: there is none yet.
func (c *chains) end(k chainKey) (record.Position, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l := c.links[k]; len(l) > 0 {
		return l[len(l)-1].to, true
	}
	return record.Position{}, false
}

// put adds a commit. It is idempotent for its writer; anybody else is fenced.
func (c *chains) put(k chainKey, m manifest) (added bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, has := range c.links[k] {
		if has.from.Offset == m.from.Offset && has.by == m.by {
			return false, nil
		}
	}
	if l := c.links[k]; len(l) > 0 && l[len(l)-1].to.Offset != m.from.Offset {
		return false, fmt.Errorf("the chain of partition %d ends at %d, not at %d: %w", k.part, l[len(l)-1].to.Offset, m.from.Offset, sinks.ErrFenced)
	}
	c.links[k] = append(c.links[k], m)
	return true, nil
}

// chained is the sink of one process.
type chained struct {
	w          *world
	l          *link
	generation int

	mu      sync.Mutex // guards everything below
	rng     *rand.Rand
	open    map[int32]*manifest
	since   map[int32]time.Time // of the first open record
	queue   []manifest
	busy    bool // the queue is being published
	durable map[int32]record.Position
	err     error
	n       int                       // commits
	left    map[int32]record.Position // cuts without records, not queued yet
	closed  bool
}

func newChained(w *world, l *link) *chained {
	h := fnv.New64a()
	fmt.Fprint(h, "chain ", l.name)
	return &chained{w: w, l: l, generation: w.o.rewinds(), rng: rand.New(rand.NewPCG(w.seed, h.Sum64())),
		open: map[int32]*manifest{}, since: map[int32]time.Time{}, durable: map[int32]record.Position{}, left: map[int32]record.Position{}}
}

func (s *chained) Open(context.Context) error { return nil }

func (s *chained) Close(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

// mood is how the store behaves now.
func (s *chained) mood() mood {
	s.w.dest.mu.Lock()
	defer s.w.dest.mu.Unlock()
	return s.w.dest.moody
}

func (s *chained) draw(d time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return latency(s.rng) + draw(s.rng, d)
}

func (s *chained) chance(percent int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rng.IntN(100) < percent
}

// ask has the store do something, which takes the way there and back. False: nobody hears the answer.
func (s *chained) ask(what string, do func() error) (err error, heard bool) {
	m := s.mood()
	time.Sleep(s.draw(m.slow))
	s.l.wait(nil)
	switch {
	case s.l.isDead():
		return nil, false
	case s.chance(m.down):
		s.w.fault("store failed", "%s: %s", s.l.name, what)
		err = errAway
	default:
		if err = do(); err == nil && s.chance(m.applied) {
			s.w.fault("store failed after it did", "%s: %s", s.l.name, what)
			err = errAway
		}
	}
	time.Sleep(s.draw(0))
	s.l.wait(nil)
	return err, !s.l.isDead()
}

func (s *chained) Begin(ctx context.Context, from record.Position) (end record.Position, err error) {
	answer := make(chan error, 1)
	s.w.work.Go(func() {
		err, heard := s.ask(fmt.Sprintf("begin %d", from.Partition), func() error {
			var ok bool
			if end, ok = s.w.chains.end(chainKey{s.generation, from.Partition}); !ok {
				end = from
			}
			return nil
		})
		if heard {
			answer <- err
		}
	})
	select {
	case err = <-answer:
	case <-ctx.Done():
		return record.Position{}, ctx.Err()
	}
	if err != nil {
		return record.Position{}, err
	}
	s.w.trace("%s begins partition %d at %d, where the chain ends at %d", s.l.name, from.Partition, from.Offset, end.Offset)
	if end.Offset < from.Offset {
		return record.Position{}, sinks.Permanent{Err: fmt.Errorf("the chain of partition %d ends at %d, before %d", from.Partition, end.Offset, from.Offset)}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[from.Partition] == nil {
		s.open[from.Partition] = &manifest{}
	}
	s.open[from.Partition].from = end
	return end, nil
}

// Write takes records into memory a while before it answers.
func (s *chained) Write(_ context.Context, b *record.Batch, done func(error)) {
	m := s.mood()
	there, back := s.draw(m.slow/10), s.draw(m.slow/10)
	s.w.work.Go(func() {
		time.Sleep(there)
		err := s.take(b, m)
		time.Sleep(back)
		done(err)
	})
}

func (s *chained) take(b *record.Batch, m mood) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rng.IntN(100) < m.down/4 {
		return errAway
	}
	var failures []sinks.Failure
	o := s.open[b.Partition]
	if o == nil {
		o = &manifest{} // it was forgotten
	}
	stop := false
	for i := range b.Records {
		id := idOf(&b.Records[i])
		switch {
		case s.w.rejects(id):
			failures = append(failures, sinks.Failure{Index: i, Outcome: sinks.Rejected, Code: "refused", Err: errors.New("it refuses that record")})
		case stop || s.rng.IntN(100) < m.partial:
			stop = true // the order is kept
			failures = append(failures, sinks.Failure{Index: i, Outcome: sinks.Retryable, Err: errAway})
		default:
			if len(o.ids) == 0 {
				s.since[b.Partition] = time.Now()
			}
			o.ids = append(o.ids, id)
		}
	}
	if failures == nil {
		return nil
	}
	return &sinks.PartialError{Failures: failures}
}

func (s *chained) Due() (due []int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	parts := make([]int32, 0, len(s.open))
	for p := range s.open {
		parts = append(parts, p)
	}
	slices.Sort(parts)
	for _, p := range parts {
		if len(s.open[p].ids) > 0 && (s.rng.IntN(4) == 0 || time.Since(s.since[p]) > 2*time.Second) {
			due = append(due, p)
		}
	}
	return due
}

func (s *chained) Cut(at []record.Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, to := range at {
		o := s.open[to.Partition]
		switch {
		case len(o.ids) == 0 && to.Offset <= o.from.Offset: // again
		case len(o.ids) == 0 && s.rng.IntN(2) == 0:
			s.left[to.Partition] = to
		default:
			s.end(to)
		}
	}
}

// end queues what is open of a partition.
func (s *chained) end(to record.Position) {
	o := s.open[to.Partition]
	s.n++
	o.to, o.by = to, fmt.Sprint(s.l.name, " ", s.n)
	s.queue = append(s.queue, *o)
	s.open[to.Partition] = &manifest{from: to}
	delete(s.left, to.Partition)
	if !s.busy {
		s.busy = true
		s.w.work.Go(s.publish)
	}
}

// publish puts commits in the order of their cuts, and tries again what fails.
func (s *chained) publish() {
	for {
		s.mu.Lock()
		if len(s.queue) == 0 || s.closed || errors.Is(s.err, sinks.ErrFenced) {
			s.busy = false
			s.mu.Unlock()
			return
		}
		m := s.queue[0]
		s.mu.Unlock()
		part := m.to.Partition
		err, heard := s.ask(fmt.Sprintf("commit %d to %d of %d", m.from.Offset, m.to.Offset, part), func() error {
			added, err := s.w.chains.put(chainKey{s.generation, part}, m)
			s.w.trace("%s commits partition %d from %d to %d, %d rows: %v", s.l.name, part, m.from.Offset, m.to.Offset, len(m.ids), err)
			for _, id := range m.ids {
				if added {
					s.w.dest.mu.Lock()
					s.w.dest.log = append(s.w.dest.log, arrival{part, id})
					s.w.dest.mu.Unlock()
					s.w.arrived(s.l, false, id)
				}
			}
			return err
		})
		if !heard {
			return
		}
		s.mu.Lock()
		if s.err = err; err == nil {
			s.queue = s.queue[1:]
			s.durable[part] = m.to
		}
		s.mu.Unlock()
		if err != nil {
			time.Sleep(100 * time.Millisecond)
		}
	}
}

func (s *chained) Durable() (at []record.Position, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.durable {
		at = append(at, p)
	}
	return at, s.err
}

func (s *chained) Settle(ctx context.Context, parts []int32) error {
	s.mu.Lock()
	for _, p := range parts {
		if to, ok := s.left[p]; ok && s.open[p] != nil && len(s.open[p].ids) == 0 {
			s.end(to)
		}
	}
	s.mu.Unlock()
	for {
		s.mu.Lock()
		waits := slices.ContainsFunc(s.queue, func(m manifest) bool { return slices.Contains(parts, m.to.Partition) })
		err := s.err
		s.mu.Unlock()
		if !waits || errors.Is(err, sinks.ErrFenced) {
			return err
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *chained) Forget(parts []int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range parts {
		delete(s.open, p)
		delete(s.durable, p)
		delete(s.left, p)
	}
}

// checkChains holds every chain to exactly once: it has each record of its range that belongs
// there, once, in order, and none else.
func (w *world) checkChains() {
	w.chains.mu.Lock()
	defer w.chains.mu.Unlock()
	o := w.o
	o.mu.Lock()
	defer o.mu.Unlock()
	for k, links := range w.chains.links {
		rows := map[string]int{}
		last := -1
		for i, m := range links {
			if m.to.Offset <= m.from.Offset || i > 0 && m.from != links[i-1].to {
				o.problem("chain %+v: a commit from %d to %d follows one to %d", k, m.from.Offset, m.to.Offset, links[max(i-1, 0)].to.Offset)
			}
			for _, id := range m.ids {
				e := o.byID[id]
				rows[id]++
				if e.seq < last {
					o.problem("chain %+v: %s is behind record %d", k, id, last)
				}
				if last = e.seq; e.part != k.part || e.offset < m.from.Offset || e.offset >= m.to.Offset {
					o.problem("chain %+v: %s, at offset %d, is in the commit from %d to %d", k, id, e.offset, m.from.Offset, m.to.Offset)
				}
			}
		}
		for _, e := range o.logs[k.part] {
			n := rows[e.id]
			in := e.offset >= links[0].from.Offset && e.offset < links[len(links)-1].to.Offset
			belongs := in && e.kind == plain
			may := belongs && !e.removed || n == 0 && !belongs || e.removed || in && e.kind == swapped
			if n > 1 || !may || belongs && n == 0 && !e.removed {
				o.problem("chain %+v has %s, at offset %d, %d times; it goes from %d to %d", k, e.id, e.offset, n, links[0].from.Offset, links[len(links)-1].to.Offset)
			}
		}
	}
}

// ahead says what is wrong with a position that is committed: the chain must have been there before.
func (w *world) ahead(who string, part int32, offset int64) string {
	if end, ok := w.chains.end(chainKey{w.o.rewinds(), part}); w.s.sink == toChained && ok && offset > end.Offset {
		return fmt.Sprintf("%s commits %d of partition %d, and its chain ends at %d", who, offset, part, end.Offset)
	}
	return ""
}
