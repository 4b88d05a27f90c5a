package elasticsearch

import (
	"errors"
	"slices"

	"keystone/pipeline/record"
	"keystone/sinks"
)

// delivery is one batch on its way. It is reused.
type delivery struct {
	b      *record.Batch
	done   func(error)
	weight int64

	enc  encoder
	buf  []byte // the items
	ends []int  // where each ends in buf
	recs []int  // which record it is of

	// guarded by Sink.mu
	next     int // the first item that is in no bulk
	away     int // items in bulks, without an outcome
	left     int // items without an outcome
	failures []sinks.Failure
	err      error           // Permanent
	held     bool            // ordered: an item is to be written again, so what was not yet sent waits for that
	seen     map[string]bool // ordered, where a later item does not make up for an earlier: documents of items in bulks
}

func (d *delivery) reset() {
	*d = delivery{enc: d.enc, buf: d.buf[:0], ends: d.ends[:0], recs: d.recs[:0], seen: d.seen}
	clear(d.seen)
	if cap(d.buf) > 16<<20 {
		d.buf = nil
	}
}

// encode makes the items. The error says that none can be made.
func (d *delivery) encode(s *Sink) error {
	if err := d.enc.begin(&s.cfg, s.cols, &s.deps, d.b); err != nil {
		return err
	}
	d.buf = slices.Grow(d.buf, d.b.Bytes+128*len(d.b.Records))
	for i := range d.b.Records {
		var err error
		if d.buf, err = d.enc.append(d.buf, &d.b.Records[i]); err != nil {
			d.failures = append(d.failures, refused(i, err))
			continue
		}
		d.ends, d.recs = append(d.ends, len(d.buf)), append(d.recs, i)
	}
	d.left = len(d.ends)
	return nil
}

// start gives where an item begins in buf.
func (d *delivery) start(item int) int {
	if item == 0 {
		return 0
	}
	return d.ends[item-1]
}

func (d *delivery) size(item int) int { return d.ends[item] - d.start(item) }

// document gives what an item writes to.
func (d *delivery) document(item int) string {
	r := &d.b.Records[d.recs[item]]
	return string(d.enc.indexOf(r)) + "\x00" + string(derived(r, d.enc.cols.id)) + d.routing(r)
}

// routing is the part of a document's name that says where it is; "" where its id does.
func (d *delivery) routing(r *record.Record) string {
	if d.enc.cols.routing < 0 {
		return ""
	}
	return "\x00" + string(derived(r, d.enc.cols.routing))
}

// whole tells whether an item says all about its document, so that what came before it does not matter.
func (d *delivery) whole(item int) bool {
	a, _ := d.enc.what(&d.b.Records[d.recs[item]]) // it was asked before
	return a == Index || a == Delete
}

// first tells whether the item may be put into a bulk: where items are updates, or make what must not be
// there, each document is changed by one item at a time, since one that fails may be followed by one that does not.
func (d *delivery) first(item int, s *Sink) bool {
	if s.cfg.Action == Index || s.cfg.Action == Delete {
		return true
	}
	doc := d.document(item)
	if d.seen[doc] {
		return false
	}
	if d.seen == nil {
		d.seen = make(map[string]bool)
	}
	d.seen[doc] = true
	return true
}

// take gives an item its outcome.
func (d *delivery) take(item int, r result) {
	if r.ok {
		return
	}
	d.failures = append(d.failures, sinks.Failure{Index: d.recs[item], Outcome: r.outcome, Code: r.code, Err: r.err})
	d.held = d.held || r.again()
}

// holdBack leaves what is in no bulk to be written again, behind what failed.
func (d *delivery) holdBack() {
	for ; d.next < len(d.ends); d.next++ {
		d.failures = append(d.failures, sinks.Failure{Index: d.recs[d.next], Outcome: sinks.Retryable, Code: "held_back", Err: errHeld})
		d.left--
	}
}

var errHeld = errors.New("it waits for an earlier document of its batch that has to be written again")

// outcome is what done is told.
func (d *delivery) outcome() error {
	if d.err != nil {
		return d.err
	}
	if len(d.failures) == 0 {
		return nil
	}
	slices.SortStableFunc(d.failures, func(a, b sinks.Failure) int { return a.Index - b.Index })
	return &sinks.PartialError{Failures: d.failures}
}
