package wire

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"sync/atomic"

	"keystone/cmd/internal/api"
	"keystone/pipeline/record"
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

// Watched tells whether anybody watches.
func (t *taps) Watched() bool { return t.on.Load() }

// Show copies the batch to whoever watches.
func (t *taps) Show(b *record.Batch) {
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
