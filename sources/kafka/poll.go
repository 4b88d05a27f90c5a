package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"keystone/sources"
	"keystone/sources/kafka/client"
)

// poll files fetches under their lanes until ctx ends. It is one fetch ahead
// of Read, and the library one fetch per broker ahead of it.
//
// Between PollFetches and AllowRebalance no partition changes hands. Without
// that: the poller gets records of p, fetched at 100. p is revoked and comes
// back, at 50, which is what was committed. The poller files the records
// under the new lane: they go out, 110 is committed, and what lies between is
// lost when we stop.
func (s *Source) poll(ctx context.Context) {
	for s.awaitHunger(ctx) {
		polling, polled := s.pollContext(ctx)
		fs := s.cl.PollFetches(polling)
		polled()
		if ctx.Err() != nil || fs.IsClientClosed() {
			s.cl.AllowRebalance()
			return
		}
		filed := s.file(ctx, fs)
		if a := s.takeAgain(); a != nil && a.ctx.Err() == nil {
			// A fetch that was cut short may not hold the group still; one that is over before it begins does.
			s.cl.AllowRebalance()
			s.cl.PollFetches(polling)
			a.done <- s.startAgain(a.ctx)
			filed = true
		}
		s.cl.AllowRebalance()
		signal(s.ready)
		if !filed {
			// Only errors: the library asks again at once.
			if sleep(ctx, 200*time.Millisecond) != nil {
				return
			}
		}
	}
}

// awaitHunger waits until every lane that may be read is empty, and no
// paused one has much waiting.
//
// A paused lane with much waiting holds the others up for patience; then the
// client is told to leave its partition out. Not at once: the fetch that is
// under way for the others when the partition comes back may take FetchWait
// to answer, and a lane that was paused for a moment would wait for it.
func (s *Source) awaitHunger(ctx context.Context) bool {
	var patience *time.Timer
	var tired <-chan time.Time
	defer func() {
		if patience != nil {
			patience.Stop()
		}
	}()
	for {
		s.mu.Lock()
		full, stuffed, again := s.full(), s.stuffed(), s.again != nil
		s.mu.Unlock()
		switch {
		case again:
			return ctx.Err() == nil
		case full:
		case len(stuffed) == 0:
			return ctx.Err() == nil
		case patience == nil:
			patience = time.NewTimer(holdAfter)
			tired = patience.C
		}
		select {
		case <-ctx.Done():
			return false
		case <-s.hungry:
		case <-tired:
			s.hold()
		}
	}
}

// holdAfter is how long a paused lane may hold the others up. A sink that
// keeps a lane paused for longer takes more than FetchWait for what waits.
const holdAfter = 250 * time.Millisecond

// stuffed gives the paused lanes with much waiting that the client still
// fetches. s.mu is held.
func (s *Source) stuffed() []*lane {
	var out []*lane
	for _, l := range s.order {
		if l.open && l.paused && !l.held && (l.waiting >= holdBytes || s.waiting >= int64(s.cfg.FetchBytes)) {
			out = append(out, l)
		}
	}
	return out
}

// hold has the client leave stuffed lanes out.
func (s *Source) hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.stuffed() {
		l.held = true
		s.cl.PauseFetchPartitions(map[string][]int32{s.cfg.Topic: {l.part}})
	}
}

// full tells whether Read has something to hand out. s.mu is held.
func (s *Source) full() bool {
	for _, l := range s.order {
		if l.open && !l.paused && len(l.queue) > 0 {
			return true
		}
	}
	return false
}

// feed wakes the poller when Read has nothing left. s.mu is held.
func (s *Source) feed() {
	if !s.full() {
		signal(s.hungry)
	}
}

// file takes apart what was polled. It tells whether there were records.
func (s *Source) file(ctx context.Context, fs kgo.Fetches) bool {
	filed := false
	var gaps []int32
	for i := range fs {
		for j := range fs[i].Topics {
			t := &fs[i].Topics[j]
			for k := range t.Partitions {
				p := &t.Partitions[k]
				switch {
				case p.Err == nil:
					filed = s.fileRecords(p) || filed
				case errors.Is(p.Err, kerr.OffsetOutOfRange):
					gaps = append(gaps, p.Partition)
				default:
					s.fileError(ctx, p)
				}
			}
		}
	}
	if len(gaps) > 0 {
		s.skipGaps(ctx, gaps)
		return true
	}
	return filed
}

func (s *Source) fileRecords(p *kgo.FetchPartition) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lanes[p.Partition]
	if l == nil || !l.open {
		return false
	}
	l.end = p.HighWatermark
	if s.cfg.ReadCommitted && p.LastStableOffset >= 0 {
		l.end = p.LastStableOffset
	}
	if len(p.Records) == 0 {
		return false
	}
	first := p.Records[0].Offset
	if first > l.next && p.LogStartOffset > l.next {
		// What lay between was removed, not compacted away: the log begins behind it.
		l.lose(l.next, min(first, p.LogStartOffset))
	}
	l.next = p.Records[len(p.Records)-1].Offset + 1
	c := chunk{recs: p.Records}
	for _, r := range p.Records {
		c.bytes += int64(len(r.Key) + len(r.Value))
	}
	l.queue = append(l.queue, c)
	l.waiting += c.bytes
	s.waiting += c.bytes
	s.enqueue(l)
	return true
}

// holdBytes is how much of a paused partition is fetched ahead.
const holdBytes = 8 << 20

// enqueue puts a lane in line for Read. s.mu is held.
func (s *Source) enqueue(l *lane) {
	if !l.queued {
		l.queued = true
		s.order = append(s.order, l)
	}
}

// lose notes a loss; two in a row are one.
func (l *lane) lose(from, to int64) {
	if n := len(l.queue); n > 0 && l.queue[n-1].lost != nil {
		from = l.queue[n-1].lost.from
		l.queue = l.queue[:n-1]
	}
	l.queue = append(l.queue, chunk{lost: &loss{from, to}})
}

// skipGaps moves partitions whose position is not in the log any more: to the
// log's beginning if that is ahead, since retention removed the records, to
// its end if that is behind, since the log was truncated. The library would
// do so in silence.
func (s *Source) skipGaps(ctx context.Context, parts []int32) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	begin, err := s.adm.ListStartOffsets(ctx, s.cfg.Topic)
	if err == nil {
		err = begin.Error()
	}
	end, err2 := s.adm.ListEndOffsets(ctx, s.cfg.Topic)
	if err == nil {
		err = err2
	}
	if err != nil {
		s.report(s.explain("list the offsets of topic "+s.cfg.Topic, err))
		return
	}
	set := map[int32]kgo.EpochOffset{}
	s.mu.Lock()
	for _, p := range parts {
		l := s.lanes[p]
		b, ok := begin.Lookup(s.cfg.Topic, p)
		e, ok2 := end.Lookup(s.cfg.Topic, p)
		if l == nil || !l.open || !ok || !ok2 {
			continue
		}
		var to int64
		switch {
		case l.next < b.Offset:
			to = b.Offset
		case l.next > e.Offset:
			to = e.Offset
		default:
			continue // it was there again when we looked
		}
		l.lose(l.next, to)
		l.next, l.end = to, e.Offset
		l.committed = min(l.committed, to-1) // it moves back where the log was cut
		s.enqueue(l)
		set[p] = kgo.EpochOffset{Epoch: -1, Offset: to}
	}
	s.mu.Unlock()
	s.cl.SetOffsets(map[string]map[int32]kgo.EpochOffset{s.cfg.Topic: set})
}

// fileError sorts what the library reports.
func (s *Source) fileError(ctx context.Context, p *kgo.FetchPartition) {
	var cut *kgo.ErrDataLoss
	var session *kgo.ErrGroupSession
	switch {
	case errors.As(p.Err, &cut):
		s.fileCut(ctx, cut)
	case errors.Is(p.Err, kerr.UnknownTopicID), errors.Is(p.Err, kerr.UnknownTopicOrPartition), errors.Is(p.Err, kerr.InconsistentTopicID):
		s.lookAgain(ctx, p.Err)
	case errors.As(p.Err, &session) && errors.Is(session.Err, kerr.FencedInstanceID):
		s.mu.Lock()
		s.usurped = s.fenced(session.Err)
		s.mu.Unlock()
	case errors.As(p.Err, &session):
		s.report(s.explain("take part in group "+s.cfg.Group, session.Err))
	case errors.Is(p.Err, context.Canceled):
	case kerr.IsRetriable(p.Err):
		s.log.Debug("a fetch is tried again", "topic", s.cfg.Topic, "partition", p.Partition, "error", p.Err)
	default:
		s.report(s.explain(fmt.Sprintf("read topic %s partition %d", s.cfg.Topic, p.Partition), p.Err))
	}
}

// lookAgain finds out whether the topic is gone, is another one, or was only
// not known to one broker yet.
func (s *Source) lookAgain(ctx context.Context, cause error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, t, err := client.OneTopic(ctx, s.cl, s.cfg.Topic)
	switch {
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		s.report(s.missing(err))
	case err != nil:
		s.report(s.explain("look for topic "+s.cfg.Topic, errors.Join(cause, err)))
	case t.ID != s.topicID:
		s.fail(sources.Fatal{Err: fmt.Errorf("topic %s on %s was deleted and created again: its id was %s and is now %s. Its offsets mean other records. `keystone restart -accept-new-topic` of the route reads the new topic from its beginning", s.cfg.Topic, s.cfg.Client, s.topicID, t.ID)})
	}
}
