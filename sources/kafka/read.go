package kafka

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"keystone/pipeline/record"
	"keystone/sources"
)

// Read fills b with records of one partition, or with none after the linger.
func (s *Source) Read(ctx context.Context, b *record.Batch) error {
	linger := s.cfg.Linger
	if b.Want.Linger > 0 {
		linger = b.Want.Linger
	}
	if s.linger == nil {
		s.linger = time.NewTimer(linger)
	} else {
		s.linger.Reset(linger)
	}
	defer s.linger.Stop()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		l, lost, err := s.next(b)
		if err != nil || len(b.Records) > 0 {
			return err
		}
		if lost != nil {
			done, err := s.tellLoss(ctx, l, lost, b)
			if err != nil || !done || b.Next != (record.Position{}) {
				return err
			}
			continue
		}
		if b.Next != (record.Position{}) {
			return nil // control records only: the position moved
		}
		select {
		case <-s.ready:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.linger.C:
			return s.idle()
		}
	}
}

// next moves what is in line into b, or gives a loss to be told first.
func (s *Source) next(b *record.Batch) (*lane, *loss, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fatal != nil {
		return nil, nil, s.fatal
	}
	for i := 0; i < len(s.order); {
		l := s.order[i]
		switch {
		case !l.open || len(l.queue) == 0:
			l.queued = false
			s.order = append(s.order[:i], s.order[i+1:]...)
			continue
		case l.paused:
			i++
			continue
		case l.queue[0].lost != nil:
			return l, l.queue[0].lost, nil
		}
		s.take(l, b)
		// The next lane is first the next time.
		s.order = append(append(s.order[:i], s.order[i+1:]...), l)
		s.feed()
		return l, nil, nil
	}
	s.feed()
	return nil, nil, nil
}

// take moves records from the head of l's queue into b, without copying their
// bytes. s.mu is held.
func (s *Source) take(l *lane, b *record.Batch) {
	c := &l.queue[0]
	records, bytes := s.cfg.BatchRecords, int(s.cfg.BatchBytes)
	if b.Want.Records > 0 {
		records = b.Want.Records
	}
	if b.Want.Bytes > 0 {
		bytes = b.Want.Bytes
	}
	n := 0
	var last *kgo.Record
	for _, r := range c.recs {
		if n > 0 && (b.Bytes >= bytes || len(b.Records) >= records) {
			break
		}
		n++
		last = r
		if r.Attrs.IsControl() {
			continue
		}
		add(b, r)
	}
	b.Topic, b.Partition = s.cfg.Topic, l.part
	b.Next = s.position(l.part, last.Offset+1, last.LeaderEpoch)
	if n == len(c.recs) {
		l.waiting -= c.bytes
		s.waiting -= c.bytes
		l.shift()
		return
	}
	c.recs = c.recs[n:]
}

// shift takes the head off the queue.
func (l *lane) shift() {
	l.queue[0] = chunk{}
	if l.queue = l.queue[1:]; len(l.queue) == 0 {
		l.queue = nil
	}
}

// add appends r to b. The bytes of key and value stay where the library put
// them, and the collector frees them with the last batch that points there.
func add(b *record.Batch, r *kgo.Record) {
	b.Bytes += len(r.Key) + len(r.Value)
	out := record.Record{Offset: r.Offset, Timestamp: r.Timestamp.UnixMilli(), Key: r.Key, Value: r.Value}
	if len(r.Headers) > 0 {
		first := len(b.HeaderBuf)
		for _, h := range r.Headers {
			b.HeaderBuf = append(b.HeaderBuf, record.Header{Key: h.Key, Value: h.Value})
			b.Bytes += len(h.Key) + len(h.Value)
		}
		out.Headers = b.HeaderBuf[first:len(b.HeaderBuf):len(b.HeaderBuf)]
	}
	b.Records = append(b.Records, out)
}

// idle is the answer of a Read that found nothing: why, if there is a reason.
func (s *Source) idle() error {
	s.mu.Lock()
	err := s.problem
	s.problem = nil
	if err == nil {
		err = s.usurped
	}
	s.mu.Unlock()
	if h := s.health.Err(); err == nil && h != nil {
		err = s.explain("read topic "+s.cfg.Topic, h)
	}
	if since := s.health.Since(); err != nil && !since.IsZero() && !sources.IsFatal(err) {
		err = sources.Unreachable{Err: err, Since: since}
	}
	return err
}

// tellLoss tells the listener, and moves the position of b behind the loss: where nothing was
// written since, it would stay before the log's beginning. It is false when another call of
// the listener is going on for longer than the linger: Read must not wait for that,
// since what is going on may wait for the worker.
func (s *Source) tellLoss(ctx context.Context, l *lane, lost *loss, b *record.Batch) (bool, error) {
	select {
	case s.calls <- struct{}{}:
	case <-ctx.Done():
		return false, ctx.Err()
	case <-s.linger.C:
		return false, nil
	}
	defer func() { <-s.calls }()
	s.mu.Lock()
	if !l.open || len(l.queue) == 0 || l.queue[0].lost != lost {
		s.mu.Unlock()
		return true, nil // it is another's now, or grew
	}
	if s.cfg.StopOnDataLoss {
		s.mu.Unlock()
		s.listener.DataLoss(l.part, lost.from, lost.to)
		return true, sources.Fatal{Err: fmt.Errorf("topic %s partition %d: the records from offset %d to %d were removed before they were read; set on_data_loss = \"continue\" to go on at %d", s.cfg.Topic, l.part, lost.from, lost.to, lost.to)}
	}
	l.shift()
	s.feed()
	s.mu.Unlock()
	s.log.Error("records were removed before they were read", "topic", s.cfg.Topic, "partition", l.part, "from", lost.from, "to", lost.to)
	s.listener.DataLoss(l.part, lost.from, lost.to)
	if lost.to > lost.from { // else the log was cut off: what follows is read, whatever has its offsets now
		b.Topic, b.Partition, b.Next = s.cfg.Topic, l.part, s.position(l.part, lost.to, 0)
	}
	return true, nil
}
