package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/semaphore"

	"keystone/pipeline/record"
	"keystone/sinks"
	"keystone/sources/kafka/client"
)

// Sink writes to one topic. Several lanes may write at once.
//
// Order: the client library keeps records of one partition in the order in
// which they were handed over, over retries too, and when it gives one up
// for another reason than the record itself it gives up all that are queued
// behind it. So what is written after a retryable failure is written by the
// caller's retry, in the caller's order.
type Sink struct {
	cfg   Config
	route string
	log   *slog.Logger

	pr     *client.Producer
	budget *semaphore.Weighted
	ctx    context.Context // ends with Close: what is not yet sent is given up
	cancel context.CancelFunc

	mu       sync.Mutex // guards inflight, idle, closed, stopped
	inflight int
	idle     chan struct{} // closed when inflight is 0 after Close began
	closed   bool          // no more writes
	stopped  bool          // no more work

	solo  solo
	spare sync.Pool // of *delivery: an idle route keeps none for long

	flushing atomic.Bool
	purging  atomic.Bool
	work     sync.WaitGroup // flushes, purges and retries of single records
}

// Open checks that the topic is there and may be written.
func (s *Sink) Open(ctx context.Context) error {
	pr, err := s.acquire()
	if err != nil {
		return sinks.Permanent{Err: fmt.Errorf("topic %s: %w", s.cfg.Topic, err)}
	}
	s.pr = pr
	s.budget = semaphore.NewWeighted(s.cfg.BufferBytes)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	ctx, stop := context.WithTimeout(ctx, 15*time.Second)
	defer stop()
	if _, _, err := client.OneTopic(ctx, pr.Client, s.cfg.Topic); err != nil {
		return s.explain("open", err)
	}
	return nil
}

func (s *Sink) acquire() (*client.Producer, error) {
	if t := s.cfg.Transaction; t != nil {
		t.allow(s.cfg.Topic, s.cfg.BatchBytes)
		return t.producer()
	}
	return s.cfg.Pool.Acquire(s.cfg.Client, client.Profile{Compression: s.cfg.Compression, Linger: s.cfg.Linger, BatchBytes: s.cfg.BatchBytes})
}

// client is what records are written with: with transactions another one after each abort.
func (s *Sink) client() *client.Producer {
	if t := s.cfg.Transaction; t != nil {
		return t.current.Load()
	}
	return s.pr
}

// explain classifies an error of the whole sink.
func (s *Sink) explain(what string, err error) error {
	err = s.client().Health.Because(err)
	out := s.cfg.Client.Explain(what+" topic "+s.cfg.Topic, err)
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		out = fmt.Errorf("topic %s does not exist on the cluster at %s: %w", s.cfg.Topic, s.cfg.Client, err)
	}
	if client.Refused(err) || errors.Is(err, kerr.InvalidTopicException) {
		return sinks.Permanent{Err: out}
	}
	return out
}

// Write hands the records over and returns; it waits while BufferBytes of
// this sink are on their way.
func (s *Sink) Write(ctx context.Context, b *record.Batch, done func(error)) {
	if len(b.Records) == 0 {
		done(nil)
		return
	}
	// A batch larger than the whole budget goes alone.
	weight := min(int64(b.Bytes)+perRecord*int64(len(b.Records)), s.cfg.BufferBytes)
	if err := s.budget.Acquire(ctx, weight); err != nil {
		done(fmt.Errorf("topic %s: %w", s.cfg.Topic, err))
		return
	}
	pr := s.pr
	if s.cfg.Transaction != nil {
		var err error
		if pr, err = s.cfg.Transaction.join(ctx); err != nil {
			s.budget.Release(weight)
			done(s.explain("write to", err))
			return
		}
	}
	d := s.take(weight, done)
	if d == nil {
		s.budget.Release(weight)
		done(fmt.Errorf("topic %s: the sink is closed", s.cfg.Topic))
		return
	}
	d.fill(b)
	// The library gives records up after this where it knows that they were
	// not written, so that the route says why instead of waiting in silence.
	// Its own option for that counts from the record's timestamp, which here is
	// the event's: every record older than the bound would fail at once.
	ctx, d.cancel = context.WithTimeout(s.ctx, deliveryTimeout)
	for i := range d.slab {
		pr.Produce(ctx, &d.slab[i], d.promise)
	}
}

const deliveryTimeout = time.Minute

// perRecord is what a record on its way costs beside its bytes: a million
// empty ones would fit into no bytes at all.
const perRecord = int64(unsafe.Sizeof(kgo.Record{}))

// Flush ends the lingering of what was written.
func (s *Sink) Flush() {
	if s.cfg.Linger <= 0 || s.pr == nil || !s.flushing.CompareAndSwap(false, true) {
		return
	}
	started := s.start(func() {
		defer s.flushing.Store(false)
		_ = s.client().Client.Flush(s.ctx) // it fails only when Close ends it
	})
	if !started {
		s.flushing.Store(false)
	}
}

// start runs f beside everything else; Close waits for it. After Close it
// runs nothing and returns false.
func (s *Sink) start(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return false
	}
	s.work.Go(f)
	return true
}

// Close gives up what was not sent yet and waits, within ctx, for the answers
// to what was: each done runs, with an error that says so. When ctx ends
// first they run later, as soon as the memory of their batch is not needed.
func (s *Sink) Close(ctx context.Context) error {
	if s.pr == nil {
		return nil
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.idle = make(chan struct{})
	if s.inflight == 0 {
		close(s.idle)
	}
	s.mu.Unlock()

	// What is in flight is given the chance to be acknowledged; only then is
	// it cancelled, which the library obeys where it knows the outcome.
	var err error
	select {
	case <-s.idle:
	case <-ctx.Done():
		s.mu.Lock()
		err = fmt.Errorf("topic %s: closed with %d batches not acknowledged", s.cfg.Topic, s.inflight)
		s.mu.Unlock()
	}
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.cancel()
	s.work.Wait()
	s.solo.close()
	if s.cfg.Transaction == nil {
		s.pr.Release()
	}
	return err
}

// take gives a delivery, or nil after Close.
func (s *Sink) take(weight int64, done func(error)) *delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.inflight++
	d, ok := s.spare.Get().(*delivery)
	if !ok {
		d = newDelivery(s)
	}
	d.weight, d.done = weight, done
	return d
}

// give ends a delivery: its memory serves the next one.
func (s *Sink) give(d *delivery) {
	s.budget.Release(d.weight)
	d.reset()
	s.spare.Put(d)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inflight--
	if s.inflight == 0 && s.closed {
		close(s.idle)
	}
}

// forgetTopic makes the client learn a topic anew that was deleted and
// created again: it never does so by itself.
func (s *Sink) forgetTopic() {
	if !s.purging.CompareAndSwap(false, true) {
		return
	}
	if !s.start(func() {
		defer s.purging.Store(false)
		s.client().PurgeTopicsFromProducing(s.cfg.Topic)
	}) {
		s.purging.Store(false)
	}
}
