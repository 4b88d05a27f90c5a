package elasticsearch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"keystone/pipeline/record"
	"keystone/sinks"
)

// Sink writes to one cluster. Several lanes may write at once.
type Sink struct {
	cfg     Config
	deps    sinks.Deps
	cols    columns
	ordered bool // what is written to one document has an order that nothing but the order of writing keeps
	log     *slog.Logger

	client *client
	budget *semaphore.Weighted
	ctx    context.Context // ends with Close: what is under way is given up
	cancel context.CancelFunc
	work   sync.WaitGroup // senders

	mu       sync.Mutex // guards all below
	open     *bulk      // takes more; nil: none yet
	due      bool       // open is not to wait for more
	ready    []*bulk    // that are full
	linger   *time.Timer
	limit    limit
	sending  int
	maxBytes int // of a request; less than the option where the cluster takes less
	inflight int // deliveries
	idle     chan struct{}
	closed   bool

	recent spared    // of bytes.Buffer, for answers and packed requests
	spare  sync.Pool // of *delivery
	sent   memory    // of action create
}

func newSink(c Config, d sinks.Deps) *Sink {
	s := &Sink{cfg: c, deps: d, cols: c.columns(), log: d.Log, limit: newLimit(c.Concurrency), maxBytes: int(c.BatchBytes)}
	s.ordered = c.ID.S != "" && c.Version.S == ""
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	return s
}

// DefaultOrder is none where a document is written once, or versions say what is newer; otherwise that of
// the partition, of which the order of the writes to each document is a part.
func (s *Sink) DefaultOrder() string {
	if s.ordered {
		return "partition"
	}
	return "none"
}

// Open asks the cluster for its version, and so whether it is there and knows the credentials.
func (s *Sink) Open(ctx context.Context) error {
	c, err := connect(&s.cfg, s.deps.Resolve)
	if err != nil {
		return sinks.Permanent{Err: err}
	}
	ctx, stop := context.WithTimeout(ctx, s.cfg.RequestTimeout)
	defer stop()
	if err := c.check(ctx); err != nil {
		c.close(ctx)
		return err
	}
	s.client = c
	s.budget = semaphore.NewWeighted(s.cfg.BufferBytes)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return nil
}

// Concurrency tells how many requests may be under way at present, and how many are.
func (s *Sink) Concurrency() (limit, underWay int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.limit.now, s.sending
}

// perRecord is about what an item has beside the document.
const perRecord = 256

// Write encodes the batch and returns; it waits while buffer_bytes are on their way.
func (s *Sink) Write(ctx context.Context, b *record.Batch, done func(error)) {
	if len(b.Records) == 0 {
		done(nil)
		return
	}
	weight := min(int64(b.Bytes)+perRecord*int64(len(b.Records)), s.cfg.BufferBytes) // one that is larger goes alone
	if err := s.budget.Acquire(ctx, weight); err != nil {
		done(fmt.Errorf("elasticsearch: %w", err))
		return
	}
	d, ok := s.spare.Get().(*delivery)
	if !ok {
		d = &delivery{}
	}
	d.b, d.done, d.weight = b, done, weight
	if err := d.encode(s); err != nil {
		s.budget.Release(weight)
		done(sinks.Permanent{Err: err})
		return
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		s.budget.Release(weight)
		done(errClosed)
		return
	}
	s.inflight++
	if d.left == 0 {
		s.mu.Unlock()
		s.end(d)
		return
	}
	s.hand(d)
	s.pump()
	s.mu.Unlock()
}

var errClosed = errors.New("elasticsearch: the sink is closed")

// hand puts items of a delivery into bulks: all, or those that nothing has to be
// waited for. It is called with mu held.
func (s *Sink) hand(d *delivery) {
	for d.next < len(d.ends) {
		size := d.size(d.next)
		if s.open != nil && (s.open.bytes+size > s.maxBytes || s.open.count >= s.cfg.BatchRecords) {
			s.seal()
			if s.ordered && d.away > 0 {
				return // one bulk at a time: they may overtake each other
			}
		}
		if s.ordered && !d.first(d.next, s) {
			s.due = true // the same document is changed by an item that has no answer
			return
		}
		if s.open == nil {
			s.open = &bulk{}
			s.wait()
		}
		s.open.add(d, d.next, size)
		d.next++
		d.away++
	}
}

// wait gives the open bulk its time to be filled.
func (s *Sink) wait() {
	s.due = s.closed || s.cfg.Linger <= 0
	switch {
	case s.due:
	case s.linger == nil:
		s.linger = time.AfterFunc(s.cfg.Linger, s.Flush)
	default:
		s.linger.Reset(s.cfg.Linger)
	}
}

func (s *Sink) seal() {
	s.ready = append(s.ready, s.open)
	s.open = nil
	if s.linger != nil {
		s.linger.Stop()
	}
}

// Flush ends the waiting of what was written.
func (s *Sink) Flush() {
	s.mu.Lock()
	s.due = true
	s.pump()
	s.mu.Unlock()
}

// pump sends what there is to send, as far as the limit lets it. It is called with mu held.
func (s *Sink) pump() {
	for s.sending < s.limit.now {
		if len(s.ready) == 0 {
			if s.open == nil || !s.due && s.open.bytes < s.maxBytes && s.open.count < s.cfg.BatchRecords {
				return
			}
			s.seal()
		}
		b := s.ready[0]
		s.ready[0] = nil
		s.ready = s.ready[1:]
		s.sending++
		s.work.Go(func() { s.send(b) })
	}
}

// send sends a bulk and gives its items their outcomes.
func (s *Sink) send(b *bulk) {
	begin := time.Now()
	t := s.try(b)
	took := time.Since(begin)
	s.remember(b, t.results)

	var ended []*delivery
	s.mu.Lock()
	s.limit.answer(took, t.timed && b.bytes >= s.maxBytes/2, s.sending >= s.limit.now, t.overload)
	s.sending--
	at := 0
	for i := range b.segs {
		g := &b.segs[i]
		d := g.d
		if t.permanent != nil {
			d.err = t.permanent
		}
		for k := g.from; k < g.to; k++ {
			if len(t.results) > 0 {
				d.take(k, t.results[at])
			}
			at++
		}
		n := g.to - g.from
		d.left -= n
		if d.away -= n; d.away == 0 && d.next < len(d.ends) {
			if d.held || d.err != nil {
				d.holdBack()
			} else {
				clear(d.seen)
				s.hand(d)
			}
		}
		if d.left == 0 {
			ended = append(ended, d)
		}
	}
	s.pump()
	s.mu.Unlock()
	for _, d := range ended {
		s.end(d)
	}
}

// end answers a delivery.
func (s *Sink) end(d *delivery) {
	done, err := d.done, d.outcome()
	s.budget.Release(d.weight)
	d.reset()
	s.spare.Put(d)
	done(err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inflight--
	if s.inflight == 0 && s.closed {
		close(s.idle)
	}
}

// Close sends what waits and stays for the answers, within ctx; then it gives up what
// has none, and each done runs with an error that says so.
func (s *Sink) Close(ctx context.Context) error {
	if s.client == nil {
		return nil
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed, s.due = true, true
	s.idle = make(chan struct{})
	if s.inflight == 0 {
		close(s.idle)
	}
	s.pump()
	s.mu.Unlock()

	var err error
	select {
	case <-s.idle:
	case <-ctx.Done():
		s.mu.Lock()
		err = fmt.Errorf("elasticsearch: closed with %d batches not acknowledged", s.inflight)
		s.mu.Unlock()
	}
	s.cancel()
	<-s.idle // what is under way ends at once, and what waits is not begun
	s.work.Wait()
	if s.linger != nil {
		s.linger.Stop()
	}
	s.client.close(ctx)
	return err
}

// spared lends buffers.
type spared struct{ pool sync.Pool }

func (p *spared) get() *bytes.Buffer {
	if b, ok := p.pool.Get().(*bytes.Buffer); ok {
		return b
	}
	return new(bytes.Buffer)
}

// put takes a buffer back, unless it has become so large that keeping it costs more than making it.
func (p *spared) put(b *bytes.Buffer) {
	if b.Cap() <= 16<<20 {
		b.Reset()
		p.pool.Put(b)
	}
}

var _ interface {
	sinks.Flusher
	sinks.DefaultOrder
	sinks.Concurrent
} = (*Sink)(nil)
