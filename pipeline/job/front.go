package job

import (
	"sync/atomic"
	"time"

	"keystone/dsl/eval"
	"keystone/dsl/ir"
	"keystone/pipeline/job/agg"
	"keystone/pipeline/record"
)

// word is what a task of a read is told.
type word struct {
	batch   *record.Batch
	parts   []*part // assigned
	tick    bool
	barrier bool
	ended   bool // the source: nothing comes any more
}

// part is what is known of a partition. Its task alone changes it; the clock looks at view.
type part struct {
	next  record.Position
	mark  int64 // the partition's watermark
	since time.Time
	view  *view
}

// view is what others may see of a partition.
type view struct {
	mark   atomic.Int64
	next   atomic.Int64
	idle   atomic.Bool
	paused bool // the clock's own
}

// front is what a task of a read does: it finds the event time of each record of its partitions.
type front struct {
	t      *task
	in     *queue[word]
	parts  map[int32]*part
	ended  bool
	ticked atomic.Bool // a tick waits in the queue
	moved  bool        // since the last epoch
	delay  int64
	ahead  int64
	timed  bool // the event time is expression 0 of the scope
	r      row
	err    eval.Error
	row    func(b *record.Batch, i int, p *part) error
	id     []byte
	load   []byte
	check  *eval.RowEval // of a table
	asOf   bool          // the table is asked by event time
}

// frontBytes is how much of what was read waits for a task of a read: an epoch waits until that is done.
const frontBytes = 2 << 20

func newFront(t *task) *front {
	f := &front{t: t, in: newQueue[word](frontBytes), parts: map[int32]*part{}}
	if t.n.table {
		f.row, f.asOf = f.tableRow, t.n.op.Lookup.AsOf == asOfEventTime
		return f
	}
	f.row = f.readRow
	r := t.n.op.Read
	f.delay, f.ahead = r.Watermark.Milliseconds(), r.MaxAhead.Milliseconds()
	return f
}

// build puts the event time among what is read of a record.
func (f *front) build() error {
	if f.t.n.table {
		p, err := eval.CompileRow(nil, f.t.n.op.Lookup.Input)
		if err != nil {
			return err
		}
		f.check = p.NewEval()
		return nil
	}
	if e := f.t.n.op.Read.EventTime; e != nil {
		f.timed = true
		s := f.t.rows
		s.exprs = append(s.exprs, e) // behind those of the steps, which have their numbers already
	}
	return nil
}

func (f *front) run() error {
	for {
		w, ok := f.in.take()
		if !ok {
			return nil
		}
		if err := f.take(w); err != nil {
			if err == errEnded { //nolint:errorlint // it is never wrapped
				return nil
			}
			return err
		}
	}
}

func (f *front) take(w word) error {
	switch {
	case w.batch != nil:
		if err := f.rows(w.batch); err != nil {
			return err
		}
		f.t.n.read.giveBack(w.batch)
	case w.barrier:
		return f.t.answer()
	case w.ended:
		f.ended = true
	case w.tick:
		f.ticked.Store(false)
		f.idle()
	}
	for _, p := range w.parts {
		f.parts[p.next.Partition] = p
	}
	return f.t.send(f.mark())
}

// rows takes a batch of one partition.
func (f *front) rows(b *record.Batch) error {
	p := f.parts[b.Partition]
	if p == nil {
		p = f.t.n.read.newPart(record.Position{Partition: b.Partition})
		f.parts[b.Partition] = p
	}
	f.moved = true
	if len(b.Records) > 0 {
		p.since = time.Time{}
		if p.view.idle.Load() {
			// It held nothing up meanwhile: what was closed without it stays closed, and its rows are late for that.
			p.mark = max(p.mark, f.t.sent)
			p.view.mark.Store(p.mark)
			p.view.idle.Store(false)
			f.t.n.read.active(b.Partition)
		}
	}
	f.t.j.graph.counts[f.t.n.op].read.add(int64(len(b.Records)))
	for i := range b.Records {
		if err := f.row(b, i, p); err != nil {
			return err
		}
	}
	p.next = b.Next
	p.view.mark.Store(p.mark)
	p.view.next.Store(p.next.Offset)
	return nil
}

// readRow finds the time of a record and runs the steps.
func (f *front) readRow(b *record.Batch, i int, p *part) error {
	t, r := f.t, &f.r
	rec := &b.Records[i]
	c := t.j.graph.counts[t.n.op]
	if rec.Value == nil && rec.Bad == record.Whole {
		c.tombstones.add(1)
		return nil
	}
	*r = row{topic: b.Topic, partition: b.Partition, rec: rec, tie: agg.Tie{Read: t.n.id, Partition: b.Partition, Offset: rec.Offset}}
	if err := t.rows.eval.Begin(b.Topic, b.Partition, rec); err != nil {
		return t.fail(t.n.op, r, err)
	}
	at, err := f.time(rec)
	if err != nil {
		return t.fail(t.n.op, r, err)
	}
	p.mark = max(p.mark, at-f.delay)
	r.time, r.mark = at, p.mark
	f.id = append(append(f.id[:0], t.n.op.Label...), 0)
	f.id = appendID(appendID(f.id, uint64(b.Partition)), uint64(rec.Offset)) //nolint:gosec // bits
	r.id = f.id
	c.out.add(1)
	return runAll(t.rows.steps, r)
}

// time gives the event time of the record that was begun.
func (f *front) time(rec *record.Record) (int64, *eval.Error) {
	read := f.t.n.op.Read
	if read.ProcessingTime {
		return f.t.j.now().UnixMilli(), nil
	}
	at := rec.Timestamp
	if f.timed {
		var ok bool
		var err *eval.Error
		at, ok, err = f.t.rows.eval.Time(len(f.t.rows.exprs) - 1)
		if err != nil {
			return 0, err
		}
		if !ok {
			f.err = eval.Error{Code: ir.CodeConversion, Text: "The event time is nil or outside of the years 0 to 9999.", Range: read.EventTime.Text.Range}
			return 0, &f.err
		}
		if f.ahead > 0 && rec.Timestamp > 0 && at > rec.Timestamp+f.ahead {
			f.err = eval.Error{Code: ir.CodeConversion, Text: "The event time is further ahead of the record's own timestamp than max_ahead = " + read.MaxAhead.String() + ".", Range: read.EventTime.Text.Range}
			return 0, &f.err
		}
		return at, nil
	}
	if at == 0 {
		f.err = eval.Error{Code: ir.CodeConversion, Text: "The record has no timestamp of its own, and the read no event_time."}
		return 0, &f.err
	}
	return at, nil
}

// mark gives the watermark of the task: the least of its active partitions. Where it has none, that of the others.
func (f *front) mark() int64 {
	if f.ended || f.t.n.table && !f.asOf {
		return endOfTime
	}
	m, some := int64(endOfTime), false
	for _, p := range f.parts {
		if !p.view.idle.Load() {
			m, some = min(m, p.mark), true
		}
	}
	if some {
		return m
	}
	return f.t.j.clock.others(f.t.n.read)
}

// idle finds the partitions whose position has been at the end of the log for long enough.
func (f *front) idle() {
	wait := time.Duration(1) // a table is at its end most of the time
	if !f.t.n.table {
		wait = f.t.n.op.Read.Idle
	}
	ends := f.t.n.read.ends()
	if wait <= 0 || ends == nil {
		return
	}
	now := f.t.j.now()
	for n, p := range f.parts {
		end, known := ends[n]
		if !known || end < 0 || p.next.Offset < end {
			p.since = time.Time{}
			continue
		}
		if p.since.IsZero() {
			p.since = now
		}
		if !p.view.idle.Load() && now.Sub(p.since) >= wait {
			p.view.idle.Store(true)
			f.t.n.read.idled.Add(1)
		}
	}
}

// positions gives the partitions as they are at a barrier.
func (f *front) positions() []partMeta {
	var out []partMeta
	for _, p := range f.parts {
		out = append(out, partMeta{Position: p.next, Mark: p.mark, Idle: p.view.idle.Load()})
	}
	return out
}

func (f *front) identity(partition int32) string {
	if p := f.parts[partition]; p != nil {
		return p.next.Identity
	}
	return ""
}
