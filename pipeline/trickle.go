package pipeline

import (
	"sync/atomic"

	"keystone/pipeline/record"
)

// trickle hands on, in parts and each at its time, a batch of which the throttle allows
// only a part at once: not every source heeds Batch.Want. The parts are the batch's own
// memory, which goes back when the last of them is done.
func (w *Worker) trickle(in *record.Batch, serial int64) {
	whole := &shared{w: w, batch: in}
	whole.users.Store(1)
	defer whole.done()
	var taker *lane
	for at := 0; at < len(in.Records); {
		if at > 0 && !w.room() {
			return // what is left is read again
		}
		p := w.plan.Load()
		part := whole.part(at, p.portion(in.Records[at:]))
		at += len(part.Records)
		records, bytes := len(part.Records), part.Bytes
		l := w.dispatch(part, p, serial, taker)
		if l == nil {
			return
		}
		taker = l
		if d := p.debt(records, bytes); d > 0 {
			w.throttle(d, p)
		}
	}
}

// portion gives how many of the records the throttle allows at once, at least one.
func (p *plan) portion(records []record.Record) int {
	n := len(records)
	if p.records != nil {
		n = min(n, p.records.Burst())
	}
	if p.bytes == nil {
		return n
	}
	total := 0
	for i := range records[:n] {
		if total += size(&records[i]); i > 0 && total > p.bytes.Burst() {
			return i
		}
	}
	return n
}

// shared is a batch whose records are in several parts.
type shared struct {
	w     *Worker
	batch *record.Batch
	users atomic.Int32 // parts under way, and one while there may be more
}

// part gives n records from at on as a batch.
func (s *shared) part(at, n int) *record.Batch {
	in := s.batch
	b := &record.Batch{Topic: in.Topic, Partition: in.Partition, Records: in.Records[at : at+n : at+n], Next: in.Next}
	if at+n < len(in.Records) {
		b.Next.Offset = in.Records[at+n].Offset
	}
	for i := range b.Records {
		b.Bytes += size(&b.Records[i])
	}
	s.users.Add(1)
	b.OnRelease(func(*record.Batch) { s.done() })
	return b
}

func (s *shared) done() {
	if s.users.Add(-1) == 0 {
		s.w.giveBack(s.batch)
	}
}

// size is what a record counts in Batch.Bytes.
func size(r *record.Record) int {
	n := len(r.Key) + len(r.Value)
	for i := range r.Headers {
		n += len(r.Headers[i].Key) + len(r.Headers[i].Value)
	}
	return n
}
