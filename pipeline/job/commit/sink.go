package commit

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"keystone/pipeline/record"
	"keystone/pipeline/state"
	"keystone/sinks"
)

// SinkOptions say how rows get to a sink.
type SinkOptions struct {
	Name  string // of the target, as in Target
	Store *state.Store
	// New makes the sink, each time that it has to be taken up anew.
	New func() (sinks.Sink, error)
	// Refused hears of a row that the sink refuses for ever, which is then done with. nil: such a row ends the job.
	Refused func(r *Out, f sinks.Failure) error
}

// ToSink publishes to a sink, by whichever protocol it has:
//   - a Chained one (tables) keeps the number of the next row in its chain of commits: each row once;
//   - of a Checkpointer (files) the state is noted in the store with the marker, and it takes back what it wrote after that: each row once;
//   - others acknowledge: at least once. Rows with an ID get the same place each time, and of several in a chunk with the
//     same ID the last one is written, so a sink that writes by it has each row once (Elasticsearch).
func ToSink(o SinkOptions) Publisher { return &toSink{o: o} }

type toSink struct {
	o     SinkOptions
	sink  sinks.Sink
	began string // identity of the chain that is open
	end   int64  // of the chain
}

func (p *toSink) noteKey() []byte { return append(append([]byte(nil), notesFirst...), p.o.Name...) }

// note is what the store has of a Checkpointer.
type note struct {
	sinks.Marker
	State []byte `json:"state"`
}

func (p *toSink) Recover(ctx context.Context) (at state.Epoch, chunk int, err error) {
	if p.sink != nil {
		_, again := p.sink.(sinks.Checkpointer)
		_, chain := p.sink.(sinks.Chained)
		if !again && !chain {
			return at, 0, nil // it knows nothing, and goes on
		}
		err := p.sink.Close(ctx)
		p.sink, p.began = nil, ""
		if err != nil {
			return at, 0, err
		}
	}
	s, err := p.o.New()
	if err != nil {
		return at, 0, sinks.Permanent{Err: err}
	}
	if c, is := s.(sinks.Checkpointer); is {
		var n note
		v, ok, err := p.o.Store.Get(p.noteKey())
		if err == nil && ok {
			err = json.Unmarshal(v, &n)
		}
		if err != nil {
			return at, 0, err
		}
		c.Restore(n.State)
		at, chunk = state.Epoch{Generation: n.Generation, N: n.Epoch}, n.Chunk
	}
	if err := s.Open(ctx); err != nil {
		return at, 0, errors.Join(err, s.Close(ctx))
	}
	p.sink = s
	return at, chunk, nil
}

func (p *toSink) Publish(ctx context.Context, c *Chunk) error {
	if p.sink == nil {
		return errors.New("the sink is not open")
	}
	switch s := p.sink.(type) {
	case sinks.Chained:
		return p.chained(ctx, s, c)
	case sinks.Checkpointer:
		if err := p.write(ctx, p.batch(c, c.Rows, c.First), c.Rows); err != nil {
			return err
		}
		st, err := s.Sync(ctx)
		if err != nil {
			return err
		}
		v, err := json.Marshal(note{sinks.Marker{Generation: c.Epoch.Generation, Epoch: c.Epoch.N, Chunk: c.Index}, st})
		if err != nil {
			return err
		}
		return p.o.Store.Note(p.noteKey(), v)
	}
	b, rows := p.identified(c)
	return p.write(ctx, b, rows)
}

// chained adds the rows that the chain does not have yet, and waits for the commit that holds them.
func (p *toSink) chained(ctx context.Context, s sinks.Chained, c *Chunk) error {
	at := record.Position{Identity: fmt.Sprintf("rows-%d", c.Epoch.Generation), Name: p.o.Name}
	if p.began != at.Identity {
		if p.began != "" { // what an earlier generation left is written: it is in the chain
			s.Forget([]int32{0})
		}
		from, err := s.Begin(ctx, at)
		if err != nil {
			return err
		}
		p.began, p.end = at.Identity, from.Offset
	}
	next := c.First + int64(len(c.Rows))
	if next <= p.end {
		return nil
	}
	if c.First > p.end {
		return sinks.Permanent{Err: fmt.Errorf("row %d would follow row %d: the rows between are missing", c.First, p.end)}
	}
	rows := c.Rows[p.end-c.First:]
	if err := p.write(ctx, p.batch(c, rows, p.end), rows); err != nil {
		return err
	}
	at.Offset = next
	s.Cut([]record.Position{at})
	if err := s.Settle(ctx, []int32{0}); err != nil {
		return err
	}
	there, err := s.Durable()
	for _, d := range there {
		if d.Partition == 0 && d.Offset >= next {
			p.end = next
			return nil
		}
	}
	if errors.Is(err, sinks.ErrFenced) {
		return errors.Join(ErrFenced, err)
	}
	return errors.Join(fmt.Errorf("rows up to %d are not durable yet", next), err)
}

// batch makes the sink's records of rows, the first of which has a number.
func (p *toSink) batch(c *Chunk, rows []Out, first int64) *record.Batch {
	b := &record.Batch{Topic: p.o.Name, Revision: min(c.Epoch.N, math.MaxUint32)}
	b.Next = record.Position{Identity: fmt.Sprintf("rows-%d", c.Epoch.Generation), Offset: first + int64(len(rows)), Name: p.o.Name}
	for i := range rows {
		r := &rows[i]
		b.Records = append(b.Records, record.Record{Offset: first + int64(i), Timestamp: r.Time, Key: r.Key, Value: r.Value, Headers: r.Headers, Derived: r.Derived, Source: int32(i)})
		b.Bytes += len(r.Key) + len(r.Value)
	}
	return b
}

// identified makes a batch whose records have places that depend on their IDs alone, where they have some.
func (p *toSink) identified(c *Chunk) (*record.Batch, []Out) {
	if len(c.Rows) == 0 || c.Rows[0].ID == nil {
		return p.batch(c, c.Rows, c.First), c.Rows
	}
	last := map[string]int{}
	for i := range c.Rows {
		if c.Rows[i].ID != nil {
			last[string(c.Rows[i].ID)] = i
		}
	}
	b := p.batch(c, c.Rows, c.First)
	rows, records := make([]Out, 0, len(c.Rows)), b.Records[:0]
	for i, r := range b.Records {
		id := c.Rows[i].ID
		if id == nil {
			id = fmt.Appendf(nil, "\x00%d/%d", c.Epoch.Generation, c.First+int64(i))
		} else if last[string(id)] != i {
			continue // a later one takes its place
		}
		sum := sha256.Sum256(id)
		r.Offset = int64(binary.BigEndian.Uint64(sum[:]) &^ (1 << 63))
		r.Child = int32(binary.BigEndian.Uint32(sum[8:]) &^ (1 << 31))
		r.Source = int32(len(rows))
		rows, records = append(rows, c.Rows[i]), append(records, r)
	}
	b.Records = records
	b.Next.Identity = "rows"
	return b, rows
}

// write writes a batch, and again what of it was not written.
func (p *toSink) write(ctx context.Context, b *record.Batch, rows []Out) error {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 10*time.Second) {
		if o, is := p.sink.(sinks.Ordered); is {
			o.Go(b.Partition)
		}
		answer := make(chan error, 1)
		p.sink.Write(ctx, b, func(err error) { answer <- err })
		err := <-answer
		var partial *sinks.PartialError
		if !errors.As(err, &partial) {
			return err
		}
		again := &record.Batch{Topic: b.Topic, Next: b.Next, Revision: b.Revision}
		var why error
		for _, f := range partial.Failures {
			r := b.Records[f.Index]
			switch f.Outcome {
			case sinks.Applied:
			case sinks.Rejected:
				if p.o.Refused == nil {
					return sinks.Permanent{Err: fmt.Errorf("a row is refused (%s): %w", f.Code, f.Err)}
				}
				if err := p.o.Refused(&rows[r.Source], f); err != nil {
					return err
				}
			default:
				again.Records = append(again.Records, r)
				again.Bytes += len(r.Key) + len(r.Value)
				why = f.Err
			}
		}
		if len(again.Records) == 0 {
			return nil
		}
		b = again
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(ctx.Err(), why)
		}
	}
}

func (p *toSink) Close(ctx context.Context) error {
	if p.sink == nil {
		return nil
	}
	err := p.sink.Close(ctx)
	p.sink = nil
	return err
}
