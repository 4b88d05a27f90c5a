package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"keystone/pipeline/record"
	"keystone/sinks"
)

// table is where chained sinks of several incarnations commit: per partition a chain of
// commits, each of which begins where the one before it ended.
type table struct {
	mu    sync.Mutex
	rng   *rand.Rand
	end   map[int32]record.Position
	rows  map[int32][]string
	links map[int32]int
	calm  bool // nothing fails, nothing is slow
	errs  []error
}

func newTable(seed uint64) *table {
	return &table{rng: rand.New(rand.NewPCG(seed, 7)), end: map[int32]record.Position{}, rows: map[int32][]string{}, links: map[int32]int{}}
}

// commit is put if absent.
func (t *table) commit(from, to record.Position, rows []string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if end := t.end[from.Partition]; end != from {
		return fmt.Errorf("partition %d stands at %d, not at %d: %w", from.Partition, end.Offset, from.Offset, sinks.ErrFenced)
	}
	t.end[from.Partition] = to
	t.rows[from.Partition] = append(t.rows[from.Partition], rows...)
	t.links[from.Partition]++
	return nil
}

func (t *table) wrong(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.errs = append(t.errs, fmt.Errorf(format, args...))
}

func (t *table) chance(percent int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.calm && t.rng.IntN(100) < percent
}

func (t *table) pause() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.calm {
		return 0
	}
	return time.Duration(t.rng.IntN(30)) * time.Millisecond
}

// chainSink is one incarnation's sink. It holds the worker to the contract.
type chainSink struct {
	t      *table
	reject func(value string) bool
	retry  int // percent of records that have to be written again
	busy   int // percent of calls that fail for now

	mu      sync.Mutex
	open    map[int32]*openPart
	writing map[int32]int
	calls   int
	queue   []commitment // on their way, the oldest first
	durable map[int32]record.Position
	err     error
	fatal   error
	dead    bool // the process is: nothing it does has an effect
	stalled bool // nothing becomes durable
	lazy    bool // a position without rows is left for two minutes
	left    map[int32]record.Position
	moved   map[int32]time.Time
	wg      sync.WaitGroup
	cuts    int
	settles int
	begun   []int32
	forgot  []int32
	noDue   bool
	onBegin func(ctx context.Context, from record.Position) error
	onWrite func(ctx context.Context, b *record.Batch) error
}

type openPart struct {
	from record.Position // of what is open
	rows []string
}

type commitment struct {
	from, to record.Position
	rows     []string
}

func newChainSink(t *table) *chainSink {
	return &chainSink{t: t, open: map[int32]*openPart{}, writing: map[int32]int{}, durable: map[int32]record.Position{}, left: map[int32]record.Position{}, moved: map[int32]time.Time{}}
}

func (s *chainSink) Open(context.Context) error { return nil }

func (s *chainSink) Close(context.Context) error { s.wg.Wait(); return nil }

func (s *chainSink) Begin(ctx context.Context, from record.Position) (record.Position, error) {
	if s.onBegin != nil {
		if err := s.onBegin(ctx, from); err != nil {
			return record.Position{}, err
		}
	}
	time.Sleep(s.t.pause())
	if err := ctx.Err(); err != nil {
		return record.Position{}, err
	}
	if s.t.chance(s.busy) {
		return record.Position{}, errors.New("the store is busy")
	}
	s.t.mu.Lock()
	end, ok := s.t.end[from.Partition]
	if !ok {
		end = from
		s.t.end[from.Partition] = end
	}
	s.t.mu.Unlock()
	if end.Offset < from.Offset {
		return record.Position{}, sinks.Permanent{Err: fmt.Errorf("the chain ends at %d", end.Offset)}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[from.Partition] != nil {
		s.t.wrong("partition %d begins twice", from.Partition)
	}
	s.open[from.Partition] = &openPart{from: end}
	s.begun = append(s.begun, from.Partition)
	return end, nil
}

func (s *chainSink) Write(ctx context.Context, b *record.Batch, done func(error)) {
	s.mu.Lock()
	if s.open[b.Partition] == nil {
		s.t.wrong("partition %d is written before it begins", b.Partition)
	}
	if s.writing[b.Partition]++; s.writing[b.Partition] > 1 {
		s.t.wrong("partition %d has two writes", b.Partition)
	}
	s.mu.Unlock()
	s.wg.Go(func() { done(s.take(ctx, b)) })
}

// take accepts records a while before it answers.
func (s *chainSink) take(ctx context.Context, b *record.Batch) error {
	defer func() {
		s.mu.Lock()
		s.writing[b.Partition]--
		s.mu.Unlock()
	}()
	if s.onWrite != nil {
		if err := s.onWrite(ctx, b); err != nil {
			return err
		}
	}
	time.Sleep(s.t.pause())
	if s.t.chance(s.busy) {
		return errors.New("the sink is busy")
	}
	var failures []sinks.Failure
	s.mu.Lock()
	if s.fatal != nil {
		s.mu.Unlock()
		return s.fatal
	}
	for i := range b.Records {
		switch v := string(b.Records[i].Value); {
		case len(failures) > 0 && failures[len(failures)-1].Outcome == sinks.Retryable || s.t.chance(s.retry):
			failures = append(failures, sinks.Failure{Index: i, Outcome: sinks.Retryable, Err: errors.New("busy")})
		case s.reject != nil && s.reject(v):
			failures = append(failures, sinks.Failure{Index: i, Outcome: sinks.Rejected, Code: "refused", Err: errors.New("no")})
		default:
			s.open[b.Partition].rows = append(s.open[b.Partition].rows, v)
		}
	}
	s.mu.Unlock()
	time.Sleep(s.t.pause())
	if failures != nil {
		return &sinks.PartialError{Failures: failures}
	}
	return nil
}

// alone holds the worker to one call at a time, with no write of the partitions under way.
func (s *chainSink) alone(what string, parts ...int32) func() {
	s.mu.Lock()
	if s.calls++; s.calls > 1 {
		s.t.wrong("%s beside another call", what)
	}
	for _, p := range parts {
		if s.writing[p] > 0 {
			s.t.wrong("%s with a write of partition %d under way", what, p)
		}
	}
	s.mu.Unlock()
	time.Sleep(s.t.pause() / 10)
	s.mu.Lock()
	return func() { s.calls--; s.mu.Unlock() }
}

func (s *chainSink) Due() (due []int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, o := range s.open {
		if !s.noDue && len(o.rows) > 0 && (s.t.calm || s.t.chance(50)) {
			due = append(due, p)
		}
	}
	return due
}

func (s *chainSink) Cut(at []record.Position) {
	var parts []int32
	for _, p := range at {
		parts = append(parts, p.Partition)
	}
	defer s.alone("cut", parts...)()
	s.cuts++
	for _, p := range at {
		o := s.open[p.Partition]
		switch {
		case o == nil || p.Offset < o.from.Offset || p.Offset == o.from.Offset && len(o.rows) > 0:
			s.t.wrong("partition %d is cut at %d, open is %+v", p.Partition, p.Offset, o)
		case p.Offset == o.from.Offset: // again
		case s.lazy && len(o.rows) == 0 && time.Since(s.moved[p.Partition]) < 2*time.Minute:
			s.left[p.Partition] = p
		default:
			s.end(p)
		}
	}
}

// end ends what is open of a partition.
func (s *chainSink) end(at record.Position) {
	o := s.open[at.Partition]
	s.queue = append(s.queue, commitment{o.from, at, o.rows})
	*o = openPart{from: at}
	delete(s.left, at.Partition)
	s.moved[at.Partition] = time.Now()
	if len(s.queue) == 1 {
		s.wg.Go(s.publish)
	}
}

// publish makes commits durable, in order, and tries again what fails.
func (s *chainSink) publish() {
	for {
		time.Sleep(s.t.pause())
		s.mu.Lock()
		if s.dead || s.fatal != nil || len(s.queue) == 0 || s.stalled {
			s.mu.Unlock()
			return
		}
		c := s.queue[0]
		if s.t.chance(s.busy) {
			s.err = errors.New("the store is away")
		} else if err := s.t.commit(c.from, c.to, c.rows); err != nil {
			s.fatal = err
		} else {
			s.err = nil
			s.durable[c.to.Partition] = c.to
			s.queue = s.queue[1:]
		}
		s.mu.Unlock()
	}
}

func (s *chainSink) Durable() (at []record.Position, err error) {
	defer s.alone("durable")()
	for _, p := range s.durable {
		at = append(at, p)
	}
	if s.fatal != nil {
		return at, s.fatal
	}
	return at, s.err
}

func (s *chainSink) Settle(ctx context.Context, parts []int32) error {
	s.mu.Lock()
	for _, p := range parts {
		if at, ok := s.left[p]; ok && s.open[p] != nil && len(s.open[p].rows) == 0 {
			s.end(at)
		}
	}
	s.mu.Unlock()
	for {
		s.mu.Lock()
		s.settles++
		waits := slices.ContainsFunc(s.queue, func(c commitment) bool { return slices.Contains(parts, c.to.Partition) })
		fatal := s.fatal
		s.mu.Unlock()
		if !waits || fatal != nil {
			return fatal
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *chainSink) Forget(parts []int32) {
	defer s.alone("forget", parts...)()
	for _, p := range parts {
		delete(s.open, p)
		delete(s.left, p)
		delete(s.durable, p)
		s.forgot = append(s.forgot, p)
	}
}

// crash ends the process: what is on its way is not done any more.
func (s *chainSink) crash() {
	s.mu.Lock()
	s.dead = true
	s.mu.Unlock()
}
