package commit

import (
	"context"

	"keystone/pipeline/record"
	"keystone/pipeline/state"
	"keystone/sinks"
)

// ToOutbox publishes to a destination that takes parts with markers: the streams of a cluster. places gives, for each of
// Options.Writers, the number by which the destination knows where its rows go; -1 for those of other targets.
func ToOutbox(o sinks.Outbox, places []int32) Publisher { return &outboxed{o: o, places: places} }

type outboxed struct {
	o      sinks.Outbox
	places []int32
	rows   []record.Record
}

func (p *outboxed) Recover(ctx context.Context) (state.Epoch, int, error) {
	m, err := p.o.Recover(ctx)
	return state.Epoch{Generation: m.Generation, N: m.Epoch}, m.Chunk, err
}

func (p *outboxed) Publish(ctx context.Context, c *Chunk) error {
	clear(p.rows)
	p.rows = p.rows[:0]
	for i := range c.Rows {
		r := &c.Rows[i]
		p.rows = append(p.rows, record.Record{Offset: c.First + int64(i), Timestamp: r.Time, Key: r.Key, Value: r.Value, Headers: r.Headers, Source: p.places[r.Writer], Derived: r.Derived})
	}
	return p.o.Publish(ctx, sinks.Marker{Generation: c.Epoch.Generation, Epoch: c.Epoch.N, Chunk: c.Index}, p.rows)
}

func (p *outboxed) Close(ctx context.Context) error { return p.o.Close(ctx) }
