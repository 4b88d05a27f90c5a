package kafka

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"keystone/pipeline/record"
	"keystone/sinks"
	"keystone/sources/kafka/client"
)

// delivery is one batch on its way: a slab of the library's records, one
// count of those that have no answer yet, and the failures. It is reused, so
// that a batch allocates nothing in the steady state.
type delivery struct {
	sink    *Sink
	weight  int64
	done    func(error)
	promise func(*kgo.Record, error) // finish, bound once
	cancel  context.CancelFunc       // of the bound on its time

	slab    []kgo.Record
	headers []kgo.RecordHeader
	origin  []byte // values of ks-origin
	before  []byte // what these begin with,
	after   []byte // and end with
	left    atomic.Int32

	mu       sync.Mutex // guards failures, cursor
	failures []failure
	cursor   int
}

type failure struct {
	index int
	err   error
}

// maxOffset is how many digits an offset may have.
const maxOffset = 19

func newDelivery(s *Sink) *delivery {
	d := &delivery{sink: s}
	d.promise = d.finish
	return d
}

func (d *delivery) reset() {
	clear(d.slab)
	clear(d.headers)
	d.slab, d.headers, d.origin, d.failures = d.slab[:0], d.headers[:0], d.origin[:0], nil
	d.done, d.cancel, d.cursor = nil, nil, 0
}

// fill makes the library's records of b's. They point into b's memory, which
// is ours until done.
func (d *delivery) fill(b *record.Batch) {
	n := len(b.Records)
	if cap(d.slab) < n {
		d.slab = make([]kgo.Record, n)
	}
	d.slab = d.slab[:n]
	d.left.Store(int32(n))
	var before, after []byte
	if d.sink.cfg.Origin {
		d.before = appendBefore(d.before[:0], b.Next.Identity, b.Partition)
		d.after = appendAfter(d.after[:0], d.sink.route)
		before, after = d.before, d.after
		d.origin = slices.Grow(d.origin, n*(len(before)+len(after)+maxOffset))
		d.headers = slices.Grow(d.headers, n)
	}
	for i := range b.Records {
		r, k := &b.Records[i], &d.slab[i]
		k.Topic, k.Key, k.Value = d.sink.cfg.Topic, r.Key, r.Value
		k.Partition = client.ByKey
		if r.Key == nil {
			k.Partition = b.Partition
		}
		if r.Timestamp > 0 {
			k.Timestamp = time.UnixMilli(r.Timestamp)
		}
		first := len(d.headers)
		for _, h := range r.Headers {
			if h.Key != OriginHeader { // of an earlier hop: it names another topic
				d.headers = append(d.headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
			}
		}
		if d.sink.cfg.Origin {
			at := len(d.origin)
			d.origin = append(d.origin, before...)
			d.origin = strconv.AppendInt(d.origin, r.Offset, 10)
			d.origin = append(d.origin, after...)
			d.headers = append(d.headers, kgo.RecordHeader{Key: OriginHeader, Value: d.origin[at:len(d.origin):len(d.origin)]})
		}
		if len(d.headers) > first {
			k.Headers = d.headers[first:len(d.headers):len(d.headers)]
		}
	}
}

// finish hears the library's answer to one record.
func (d *delivery) finish(r *kgo.Record, err error) {
	if err != nil {
		d.mu.Lock()
		d.failures = append(d.failures, failure{d.index(r), err})
		d.mu.Unlock()
	} else if t := d.sink.cfg.Transaction; t != nil {
		t.wrote.Store(true)
	}
	if d.left.Add(-1) == 0 {
		d.complete()
	}
}

// index finds a record in the slab. Failures come in order mostly, so the
// search goes on where the last one ended.
func (d *delivery) index(r *kgo.Record) int {
	for range d.slab {
		i := d.cursor
		if d.cursor++; d.cursor == len(d.slab) {
			d.cursor = 0
		}
		if &d.slab[i] == r {
			return i
		}
	}
	panic("kafka: an answer to a record that was not sent: offset " + strconv.FormatInt(r.Offset, 10))
}

// complete classifies what failed and gives the batch back.
func (d *delivery) complete() {
	s := d.sink
	if len(d.failures) == 0 {
		d.end(nil)
		return
	}
	if suspects := d.suspects(); len(suspects) > 0 && s.start(func() { d.isolate(suspects) }) {
		return
	}
	d.end(s.outcome(d.failures))
}

func (d *delivery) end(err error) {
	done := d.done
	d.cancel()
	d.sink.give(d)
	done(err)
}

// suspects gives the failures that may be another record's fault: Kafka
// refuses a whole record batch for one record in it, and the batch may have
// held records of other routes, too.
func (d *delivery) suspects() []int {
	var at []int
	for i, f := range d.failures {
		if rejected(f.err) != "" {
			at = append(at, i)
		}
	}
	return at
}

// isolate sends each suspect in a record batch of its own, one after the
// other, so that only those are rejected that are at fault. They are behind
// what was written meanwhile: a record that shared a batch with a rejected
// one may lose its place in the order, as the rejected one does.
func (d *delivery) isolate(suspects []int) {
	innocent := make(map[int]bool)
	for _, i := range suspects {
		f := &d.failures[i]
		f.err = d.sink.sendAlone(&d.slab[f.index])
		switch {
		case f.err != nil:
		case d.sink.cfg.Transaction != nil:
			f.err = errInnocent // it was sent to find that out, and is to be written with the others
		default:
			innocent[i] = true
		}
	}
	var left []failure
	for i, f := range d.failures {
		if !innocent[i] {
			left = append(left, f)
		}
	}
	if len(left) == 0 {
		d.end(nil)
		return
	}
	d.end(d.sink.outcome(left))
}

var _ sinks.Flusher = (*Sink)(nil)
