package pipeline

import (
	"fmt"
	"strings"

	"keystone/configs"
	"keystone/dsl/eval"
	"keystone/pipeline/record"
)

// task is one batch on its way: what was read, what came of it, and what of
// that is still open. Fields up to the blank line are written by the one runner that
// evaluates it, before it is ready; the others are guarded by Worker.mu.
type task struct {
	plan      *plan
	in, out   *record.Batch
	delivered int      // source records with at least one output
	filtered  int      // and without
	held      int      // for which the filter was true
	missed    int64    // required fields that were missing
	outBytes  int64    // of out
	reasons   Reasons  // drops and passes by reason
	letters   []letter // not yet acknowledged
	lettered  int      // acknowledged
	halt      error    // the batch was cut before the record that this is about
	end       int      // source records that count: all of them, or those before the halt

	lane       *lane
	next       record.Position // after the batch, or after what counts of it
	read       int             // source records, also those after a halt
	bytes      int64           // for the budgets
	ready      bool            // evaluated
	evaluating bool
	inWrite    bool
	kept       bool           // the writer works on it with mu given up
	attention  bool           // counted in the lane's
	popped     bool           // no longer in flight
	abandoned  bool           // popped without outcome, because its lane ended
	refusals   int            // outputs that were not written, and will not be
	refused    bool           // the sink refused a record and on_error stops there; halt says why
	sent       []int32        // indexes in out of what was written last; nil: all of it
	retry      []int32        // indexes in out of what is to be written again
	fates      map[int32]fate // of source records that were not simply delivered
	tries      int
	doneFn     func(error) // done, bound once
	open       int         // of a parallel lane: segments without an outcome
	holds      int         // and those of them that the sink has
	grouped                // and which output has which key
	free       *task       // list of garbage
}

// letter is a source record that goes to the dead letters.
type letter struct {
	src            int32
	attempts       int
	code, text, at string
}

// fate is the outcome of a source record that the sink did not take.
type fate struct {
	outcome Outcome
	code    string
}

func (w *Worker) newTask(l *lane, p *plan, in *record.Batch) *task {
	t, _ := w.tasks.Get().(*task)
	if t == nil {
		t = &task{}
		t.doneFn = t.done
	}
	t.lane, t.plan, t.in = l, p, in
	t.out = w.batch()
	t.out.Topic, t.out.Partition = in.Topic, in.Partition
	t.read, t.end, t.next = len(in.Records), len(in.Records), in.Next
	if in.Bytes == 0 {
		in.Bytes = len(in.Buf)
	}
	t.bytes = int64(in.Bytes) + recordCost*int64(len(in.Records))
	return t
}

// recordCost is what a record costs in memory beside its bytes.
const recordCost = 136

// recycle gives the memory of a task back. Nobody else holds it.
func (t *task) recycle() {
	w := t.lane.w
	in, out := t.in, t.out
	clear(t.letters)
	*t = task{doneFn: t.doneFn, letters: t.letters[:0], retry: t.retry[:0], reasons: t.reasons[:0], grouped: t.grouped}
	w.tasks.Put(t)
	w.giveBack(in)
	w.giveBack(out)
}

// leave is called for a task that is no longer in flight, whenever somebody lets go of
// it: the last one has it recycled when mu is given up.
func (t *task) leave() {
	if t.popped && !t.evaluating && !t.inWrite && t.holds == 0 && !t.kept {
		t.free = t.lane.w.garbage
		t.lane.w.garbage = t
	}
}

// batch lends an empty batch.
func (w *Worker) batch() *record.Batch {
	if b, ok := w.batches.Get().(*record.Batch); ok {
		return b
	}
	return &record.Batch{}
}

func (w *Worker) giveBack(b *record.Batch) {
	if b.Release(); b.Lent() {
		return // it is not ours any more
	}
	b.Reset()
	w.batches.Put(b)
}

func (t *task) evaluateGuarded(ev evaluator) (err error) {
	return guard("evaluation", func() error {
		t.evaluate(ev)
		if e, ok := ev.(*eval.Eval); ok {
			t.missed, e.Violations = e.Violations, 0
		}
		return nil
	})
}

// evaluate runs the program over the batch. This is the hot loop: nothing in
// it allocates or locks while records evaluate without errors.
func (t *task) evaluate(ev evaluator) {
	in, out, limit := t.in, t.out, t.plan.maxRecord
	out.Next, out.Revision = in.Next, t.plan.revision
	program, _ := ev.(*eval.Eval)
	sample := t.plan.sample.open()
	for i := range in.Records {
		r := &in.Records[i]
		if r.Bad != record.Whole || len(r.Value) > limit {
			code, text := "too_large", fmt.Sprintf("the record has %d bytes, max_record_bytes allows %d", len(r.Value), limit)
			if r.Bad != record.Whole {
				code, text = r.Bad.String(), "the source could not give the record whole"
			}
			if t.refuse(i, code, text, "") {
				return
			}
			continue
		}
		have := len(out.Records)
		verdict, e := ev.Run(in, i, out)
		if sample != nil && r.Value != nil && scanned(verdict, e) {
			sample.look(program)
		}
		switch verdict {
		case eval.Passed:
			t.held++
			if len(out.Records) == have {
				t.filtered++
				continue
			}
			t.delivered++
			for j := have; j < len(out.Records); j++ {
				out.Records[j].Child = int32(j - have)
				t.outBytes += int64(len(out.Records[j].Key) + len(out.Records[j].Value))
			}
		case eval.Filtered:
			t.filtered++
		case eval.Dropped:
			t.held++
			t.reasons.add(Dropped, "tombstone", 1)
		case eval.Failed:
			at := ""
			if !e.Range.IsZero() {
				at = e.Range.String()
			}
			if t.refuse(i, e.Code, e.Text, at) {
				return
			}
		}
	}
	out.Bytes = int(t.outBytes)
}

// refuse does what on_error says with a record that cannot be evaluated; true
// means that the batch ends before it. Pass sends key, value and headers on as they
// were read, without the route's own and without Derived, since nothing of it is known: a
// sink that cannot do without them rejects the record, and it is dropped then. What the
// source could not give whole is dropped too.
func (t *task) refuse(i int, code, text, at string) bool {
	r := &t.in.Records[i]
	switch t.plan.onError {
	case configs.DeadLetter:
		t.letters = append(t.letters, letter{src: int32(i), attempts: 1, code: strings.Clone(code), text: strings.Clone(text), at: at})
	case configs.PassRecord:
		if r.Bad != record.Whole { // what is not whole cannot be passed unmodified
			t.reasons.add(Dropped, code, 1)
			return false
		}
		t.out.Records = append(t.out.Records, record.Record{Offset: r.Offset, Timestamp: r.Timestamp, Key: r.Key, Value: r.Value, Headers: r.Headers, Source: int32(i)})
		t.outBytes += int64(len(r.Key) + len(r.Value))
		t.delivered++
		t.reasons.add(Delivered, "passed", 1)
	case configs.DropRecord:
		t.reasons.add(Dropped, strings.Clone(code), 1)
	default:
		t.halt = t.haltError(i, strings.Clone(code), at, fmt.Errorf("%s", text))
		t.end = i
		t.next = t.position(i)
		t.out.Bytes = int(t.outBytes)
		return true
	}
	return false
}

func (t *task) haltError(i int, code, at string, err error) error {
	return &HaltError{Topic: t.in.Topic, Partition: t.in.Partition, Offset: t.in.Records[i].Offset, Code: code, At: at, Err: err}
}

// position is where reading goes on at source record i.
func (t *task) position(i int) record.Position {
	p := t.in.Next
	p.Offset = t.in.Records[i].Offset
	return p
}

// finished tells that every record that counts has its outcome.
func (t *task) finished() bool {
	return !t.inWrite && t.open == 0 && len(t.retry) == 0 && len(t.letters) == 0
}

// firstOpen gives the first source record without outcome of a task that was given to
// the sink and is not finished.
func (t *task) firstOpen() int {
	first := int32(t.end)
	if t.inWrite {
		if t.sent == nil {
			return 0
		}
		for _, i := range t.sent {
			first = min(first, t.out.Records[i].Source)
		}
	}
	if t.open > 0 {
		first = min(first, t.lane.par.firstOpen(t))
	}
	for _, i := range t.retry {
		first = min(first, t.out.Records[i].Source)
	}
	for _, l := range t.letters {
		first = min(first, l.src)
	}
	if t.refused {
		for src, f := range t.fates {
			if f.outcome == halted {
				first = min(first, src)
			}
		}
	}
	return int(first)
}

// setFate decides a source record that was counted as delivered. Dead-lettered
// outweighs dropped: with explode a record has several outputs.
func (t *task) setFate(src int32, outcome Outcome, code string) (first bool) {
	if t.fates == nil {
		t.fates = map[int32]fate{}
	}
	had, ok := t.fates[src]
	if ok && had.outcome >= outcome {
		return false
	}
	t.fates[src] = fate{outcome, strings.Clone(code)}
	return !ok || had.outcome < outcome
}

// account gives every record its outcome. Its error is a broken invariant.
func (t *task) account(c *Counts) error {
	for _, f := range t.fates {
		t.delivered--
		if f.outcome == Dropped {
			t.reasons.add(Dropped, f.code, 1)
		} // the others are counted by their acknowledged letters
	}
	c.Delivered += int64(t.delivered)
	c.Filtered += int64(t.filtered)
	c.DeadLettered += int64(t.lettered)
	c.Written += int64(len(t.out.Records) - t.refusals)
	c.WrittenBytes += t.outBytes
	for _, r := range t.reasons {
		if r.Outcome == Dropped {
			c.Dropped += r.N
		}
		c.Reasons.add(r.Outcome, r.Code, r.N)
	}
	c.SchemaViolations += t.missed
	t.plan.held += int64(t.held)
	t.plan.filtered += int64(t.filtered)
	c.Abandoned += int64(t.read - t.end)
	if n := t.delivered + t.filtered + t.lettered + int(t.reasons.sum(Dropped)); n != t.end || int(t.reasons.sum(DeadLettered)) != t.lettered {
		return fmt.Errorf("the ledger is wrong: %d outcomes for %d records of partition %d before offset %d", n, t.end, t.in.Partition, t.next.Offset)
	}
	return nil
}
