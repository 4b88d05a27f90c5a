package wire

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"keystone/cmd/internal/api"
	"keystone/pipeline/record"
	"keystone/sinks"
)

// taps lets people watch what a route delivers. With nobody watching it costs
// one atomic load per batch. A watcher that is too slow misses events; the route never waits for it.
type taps struct {
	on atomic.Bool

	mu   sync.Mutex // guards subs
	subs []chan api.TapEvent
}

// tapBuffer is how many events a watcher may be behind.
const tapBuffer = 256

func (t *taps) subscribe() (events <-chan api.TapEvent, stop func()) {
	ch := make(chan api.TapEvent, tapBuffer)
	t.mu.Lock()
	t.subs = append(t.subs, ch)
	t.on.Store(true)
	t.mu.Unlock()
	return ch, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.subs = slices.DeleteFunc(t.subs, func(c chan api.TapEvent) bool { return c == ch })
		t.on.Store(len(t.subs) > 0)
	}
}

func (t *taps) show(b *record.Batch) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range min(len(b.Records), tapBuffer) {
		e := tapEvent(b.Topic, b.Partition, &b.Records[i])
		e.Outcome = "delivered"
		for _, ch := range t.subs {
			select {
			case ch <- e:
			default:
			}
		}
	}
}

// tapEvent copies a record into the form that is shown.
func tapEvent(topic string, partition int32, r *record.Record) api.TapEvent {
	e := api.TapEvent{Topic: topic, Partition: partition, Offset: r.Offset, Timestamp: r.Timestamp, Key: string(r.Key)}
	switch {
	case r.Value == nil:
	case json.Valid(r.Value):
		e.Value = slices.Clone(r.Value)
	default:
		e.Raw = slices.Clone(r.Value)
	}
	return e
}

// tappedSink shows what passes to a sink.
type tappedSink struct {
	sinks.Sink
	taps *taps
}

// Write shows the batch before the sink owns it: afterwards its memory may be gone.
func (s tappedSink) Write(ctx context.Context, b *record.Batch, done func(error)) {
	if s.taps.on.Load() {
		s.taps.show(b)
	}
	s.Sink.Write(ctx, b, done)
}

// tapped wraps a sink and keeps what else it can do visible to the worker.
func tapped(s sinks.Sink, t *taps) sinks.Sink {
	base := tappedSink{s, t}
	switch s := s.(type) {
	case sinks.Checkpointer:
		return tappedCheckpointer{base, s}
	case sinks.Ordered:
		return tappedOrdered{base, s}
	}
	return base
}

type tappedCheckpointer struct {
	tappedSink
	cp sinks.Checkpointer
}

func (s tappedCheckpointer) Restore(state []byte)                     { s.cp.Restore(state) }
func (s tappedCheckpointer) Sync(ctx context.Context) ([]byte, error) { return s.cp.Sync(ctx) }

type tappedOrdered struct {
	tappedSink
	o sinks.Ordered
}

func (s tappedOrdered) KeepsOrder() { s.o.KeepsOrder() }

// Flush hastens what is buffered, where the sink buffers.
func (s tappedSink) Flush() {
	if f, ok := s.Sink.(sinks.Flusher); ok {
		f.Flush()
	}
}

// drainTap gives a watcher's events to emit until the context ends, emit
// fails, or limit events were given.
func drainTap(ctx context.Context, events <-chan api.TapEvent, limit int64, emit func(api.TapEvent) error) error {
	for n := int64(0); limit <= 0 || n < limit; n++ {
		select {
		case e := <-events:
			if err := emit(e); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// tapLinger is how long a direct read of a stream waits for records.
const tapLinger = 250 * time.Millisecond
