package hive

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"keystone/dsl/types"
	"keystone/pipeline/record"
	"keystone/sinks"
	"keystone/sinks/hive/rows"
	"keystone/sources/hive/chain"
	"keystone/sources/hive/storage"
)

// filesAtOnce is how many files the commits of a sink finish and stage at once.
const filesAtOnce = 8

// Sink writes one table for one route.
type Sink struct {
	cfg     Config
	deps    sinks.Deps
	log     *slog.Logger
	schema  *rows.Schema
	columns int
	names   []string        // of the partition columns
	keys    []key           // of partitions, where not all are text
	timed   map[string]bool // columns that are times
	pool    *rows.Pool
	catalog *catalog
	now     func() time.Time
	place   func(context.Context) (storage.Store, error)

	compactor *compactor // nil: nothing is compacted
	moves     bool       // partitions are, or were

	writer  string // tells this incarnation from all others
	store   storage.Store
	scratch scratch
	slots   chan struct{} // who holds one may finish or stage a file
	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup // committers, and what they leave behind

	held    atomic.Int64  // memory of open and finished files
	outputs atomic.Int64  // files that are open
	clock   atomic.Uint64 // batches
	shrinks sync.Mutex    // who holds it makes room

	collecting atomic.Bool  // Go's garbage is being collected
	heldThen   atomic.Int64 // when that was begun last

	mu      sync.Mutex // guards all below
	lanes   map[int32]*lane
	leaving map[int32]chan struct{} // lanes that were forgotten; closed when nothing of one is under way
	freed   chan struct{}           // closed when memory was freed
	spoolEr error                   // why encoded bytes cannot go to disk; nil if they can
}

var (
	_ sinks.Chained = (*Sink)(nil)
	_ sinks.Typed   = (*Sink)(nil)
)

func newSink(c Config, d sinks.Deps, schema *rows.Schema, r Registrar) *Sink {
	log := d.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Sink{
		cfg: c, deps: d, log: log, schema: schema, columns: len(schema.Paths()), timed: map[string]bool{}, pool: rows.NewPoolOf(int(min(c.MaxOpenBytes/keptPart, keptMost))), now: time.Now,
		scratch: scratch{in: c.Scratch}, slots: make(chan struct{}, filesAtOnce),
		lanes: map[int32]*lane{}, leaving: map[int32]chan struct{}{}, freed: make(chan struct{}),
	}
	for _, f := range c.PartitionBy {
		s.names = append(s.names, f.Name)
	}
	s.keys = c.typedKeys()
	for _, name := range times(d.Type, c.PartitionBy) {
		s.timed[name] = true
	}
	s.place = func(ctx context.Context) (storage.Store, error) { return c.Location.Open(ctx, d.Dir, d.Resolve) }
	s.catalog = newCatalog(r, log)
	return s
}

// Takes tells whether events of a type have the same columns.
func (s *Sink) Takes(t types.Type) bool {
	schema, problems := s.cfg.schema(t)
	return len(problems) == 0 && s.schema.Equal(schema)
}

func (s *Sink) isTime(column string) bool { return s.timed[column] }

// Open opens the location, and sees that it holds to the condition that commits rely on.
func (s *Sink) Open(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	st, err := s.place(ctx)
	if err != nil {
		return explain("open the table's location", err)
	}
	if err := storage.Probe(ctx, st); err != nil {
		return explain("open "+st.String(), errors.Join(err, st.Close()))
	}
	if l, ok := st.(*storage.Local); ok {
		if err := l.Sweep(ctx, s.now().Add(-s.cfg.Grace)); err != nil {
			s.log.Warn("what a crash left half written is not deleted", "error", err)
		}
	}
	s.moves = s.catalog.r != nil // another process may compact the table
	if !s.moves {
		if s.moves, err = chain.AnyCompacted(ctx, st); err != nil {
			return explain("look for compacted partitions in "+st.String(), errors.Join(err, st.Close()))
		}
	}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if err := s.catalog.start(s.ctx, st, &s.wg); err != nil {
		s.cancel()
		return explain("find the partitions that were refused", errors.Join(err, st.Close()))
	}
	s.store, s.writer = st, strings.ToLower(rand.Text()[:12])
	if m, ok := s.catalog.r.(Mover); ok && s.cfg.Compact.Written {
		s.compactor = newCompactor(s, m)
		s.wg.Go(func() { s.compactor.run(s.ctx) })
	}
	return nil
}

// Begin finds the end of a partition's chain, and publishes what a predecessor has committed and not published.
func (s *Sink) Begin(ctx context.Context, from record.Position) (record.Position, error) {
	if s.store == nil {
		return from, sinks.Permanent{Err: errors.New("the sink is not open")}
	}
	s.mu.Lock()
	left := s.leaving[from.Partition]
	_, taken := s.lanes[from.Partition]
	s.mu.Unlock()
	if taken {
		return from, sinks.Permanent{Err: fmt.Errorf("partition %d has begun already", from.Partition)}
	}
	if left != nil { // of our own, whose last commit may be on its way
		select {
		case <-left:
		case <-ctx.Done():
			return from, ctx.Err()
		}
	}
	key := chain.Key{Route: s.deps.ID, Generation: s.deps.Generation, Identity: from.Identity, Partition: from.Partition}
	if key.Route == "" {
		key.Route = s.deps.Route
	}
	if key.Identity == "" { // what is read cannot be read again: nothing goes on from an earlier run
		key.Identity = "once-" + s.writer
	} else if err := chain.Seal(ctx, s.store, key, from); err != nil { // whoever sleeps in an earlier generation cannot commit
		return from, explain("end the earlier generations of "+key.String(), err)
	}
	c, err := chain.Open(ctx, s.store, key, from, s.writer, s.catalog.seen)
	if err != nil {
		return from, explain("find the end of "+key.String(), err)
	}
	if err := c.Check(from); err != nil {
		return from, sinks.Permanent{Err: fmt.Errorf("%w. If the table has what is missing, or may lack it, rewind the route: that begins a chain of its own", err)}
	}
	if s.moves {
		c.Moves()
	}
	if err := publish(ctx, c, s.log); err != nil {
		return from, explain("publish the last commit of "+key.String(), err)
	}
	if err := c.Clean(ctx, s.now().Add(-s.cfg.Grace)); err != nil {
		s.log.Warn("staged files that nobody needs are not deleted", "chain", key.String(), "error", err)
	}
	end := c.End()
	if end.Offset > from.Offset {
		s.log.Info("the table has what comes first already", "partition", from.Partition, "from", from.Offset, "to", end.Offset)
	}
	l := newLane(s, key, c, end)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.leaving, from.Partition)
	s.lanes[from.Partition] = l
	return end, nil
}

// publish gives the files of the last commit their names.
func publish(ctx context.Context, c *chain.Chain, log *slog.Logger) error {
	gone, err := c.Publish(ctx)
	for _, f := range gone {
		log.Warn("a file of the table was published and is gone: somebody has deleted it", "path", f.Path, "rows", f.Rows)
	}
	return err
}

func (s *Sink) lane(part int32) *lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lanes[part]
}

// all gives the lanes.
func (s *Sink) all() []*lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*lane, 0, len(s.lanes))
	for _, l := range s.lanes {
		out = append(out, l)
	}
	return out
}

// Write takes the batch's rows into the open files. Before the first one is taken it waits for room.
func (s *Sink) Write(ctx context.Context, b *record.Batch, done func(error)) {
	done(s.write(ctx, b))
}

func (s *Sink) write(ctx context.Context, b *record.Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l := s.lane(b.Partition)
	if l == nil {
		return fmt.Errorf("partition %d has not begun", b.Partition)
	}
	if err := s.room(ctx); err != nil {
		return err
	}
	s.collect()
	return l.write(b)
}

// Due gives the partitions whose open files are old, or full.
func (s *Sink) Due() []int32 {
	now := s.now().UnixNano()
	var out []int32
	for _, l := range s.all() {
		if at := l.dueAt.Load(); l.urgent.Load() || at > 0 && now >= at {
			out = append(out, l.key.Partition)
		}
	}
	return out
}

// Cut hands what is open to the committers.
func (s *Sink) Cut(at []record.Position) {
	for _, p := range at {
		if l := s.lane(p.Partition); l != nil {
			l.cut(p)
		}
	}
}

// Durable gives where the chains end, and why they end there.
func (s *Sink) Durable() ([]record.Position, error) {
	var at []record.Position
	var last, retried error
	for _, l := range s.all() {
		p, err, ended := l.where()
		at = append(at, p)
		switch {
		case err == nil:
		case ended:
			last = err
		default:
			retried = err
		}
	}
	if last != nil {
		return at, last
	}
	if retried == nil {
		s.mu.Lock()
		retried = s.spoolEr
		s.mu.Unlock()
	}
	return at, retried
}

// Settle waits until the committers of the partitions have nothing to do.
func (s *Sink) Settle(ctx context.Context, parts []int32) error {
	for _, part := range parts {
		if l := s.lane(part); l != nil {
			l.commitIdle()
		}
	}
	for _, part := range parts {
		if l := s.lane(part); l != nil {
			if err := l.wait(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// Forget drops what is open, and what is cut and not on its way yet.
func (s *Sink) Forget(parts []int32) {
	for _, part := range parts {
		s.mu.Lock()
		l := s.lanes[part]
		if l != nil {
			delete(s.lanes, part)
			s.leaving[part] = l.gone
		}
		s.mu.Unlock()
		if l != nil {
			l.leave(nil)
		}
	}
}

// Close drops everything that is in no manifest.
func (s *Sink) Close(context.Context) error {
	if s.store == nil {
		return nil
	}
	s.cancel()
	for _, l := range s.all() {
		l.leave(nil)
	}
	s.wg.Wait()
	err := errors.Join(s.scratch.close(), s.store.Close(), s.catalog.close())
	s.store = nil
	return err
}

// disk gives where encoded bytes wait for the rest of their file.
func (s *Sink) disk() (storage.Appender, error) {
	if a, ok := s.store.(storage.Appender); ok {
		return a, nil
	}
	return s.scratch.open()
}

// count adds to the memory that is held.
func (s *Sink) count(more int64) {
	s.held.Add(more)
	if more < 0 {
		s.wake()
	}
}

// wake lets those look again who wait for room.
func (s *Sink) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.freed)
	s.freed = make(chan struct{})
}

// spooled notes whether encoded bytes can go to disk.
func (s *Sink) spooled(err error) {
	if err != nil {
		err = errors.New(explain("write what is open", err).Error()) // it is tried again, whatever it is
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil && s.spoolEr == nil {
		s.log.Warn("what is encoded cannot be written, and stays in memory", "error", err)
	}
	s.spoolEr = err
}
