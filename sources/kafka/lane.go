package kafka

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"keystone/pipeline/record"
	"keystone/sources"
	"keystone/sources/kafka/admin"
)

// lane is one ownership of one partition. Source.mu guards it.
type lane struct {
	part     int32
	member   string        // the id by which the group knew us when it gave us the partition
	open     bool          // the permit: it is owned, and may be committed
	commits  int           // that are on their way
	disowned bool          // the group gave it up without our hearing of it: never committed
	drained  chan struct{} // closed when commits is 0 after open ended

	next      int64 // after what was fetched
	committed int64 // the highest that is durable
	end       int64 // of the log, as the last fetch saw it; -1 unknown
	queue     []chunk
	waiting   int64 // bytes in queue
	paused    bool  // by the worker
	held      bool  // the client was told, too
	queued    bool  // is in Source.order
}

// chunk is what one fetch had of one partition; what is handed out is cut off. Or it
// is a loss.
type chunk struct {
	recs  []*kgo.Record
	bytes int64 // of all of them, as they were fetched
	lost  *loss
}

// loss is records that were removed before they were read. It is told when all that was fetched
// before it is handed out.
type loss struct{ from, to int64 }

// fetched compares what the group committed with the topic that is there: it
// is called before adjust, with the same answer.
func (s *Source) fetched(_ context.Context, _ *kgo.Client, resp *kmsg.OffsetFetchResponse) error {
	for _, g := range resp.Groups {
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				if p.Metadata == nil || p.Offset < 0 {
					continue
				}
				m := admin.ParseMeta(*p.Metadata)
				if err := s.check(m); err != nil && !s.cfg.AcceptNewTopic { // else resolveStart has dealt with it
					s.fail(err)
					return err
				}
				s.mu.Lock()
				s.rewinds[p.Partition] = m.Rewind
				s.mu.Unlock()
			}
		}
	}
	return nil
}

// adjust is called by the library when partitions were assigned and their
// offsets read, before anything is fetched. It never runs beside revoked or
// lost. Partitions without an offset were added to the topic after
// resolveStart: they begin at their beginning, and that is committed at once,
// or it would be forgotten when retention moves the beginning.
func (s *Source) adjust(ctx context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	parts := offsets[s.cfg.Topic]
	if len(parts) == 0 {
		return offsets, nil
	}
	var fresh []int32
	for p, o := range parts {
		if o.EpochOffset().Offset < 0 {
			fresh = append(fresh, p)
		}
	}
	ends, err := s.adm.ListEndOffsets(ctx, s.cfg.Topic)
	if err != nil {
		s.report(s.explain("list the offsets of topic "+s.cfg.Topic, err))
		return nil, err
	}
	if len(fresh) > 0 {
		if err := s.begin(ctx, fresh, parts); err != nil {
			s.report(err)
			return nil, err
		}
	}
	s.assign(parts, ends[s.cfg.Topic])
	return offsets, nil
}

// begin puts partitions at their beginning and commits that.
func (s *Source) begin(ctx context.Context, fresh []int32, parts map[int32]kgo.Offset) error {
	first, err := s.adm.ListStartOffsets(ctx, s.cfg.Topic)
	if err == nil {
		err = first.Error()
	}
	if err != nil {
		return s.explain("list the offsets of topic "+s.cfg.Topic, err)
	}
	commit := map[int32]kgo.EpochOffset{}
	for _, p := range fresh {
		o, ok := first.Lookup(s.cfg.Topic, p)
		if !ok {
			continue // the library asks again
		}
		parts[p] = kgo.NewOffset().At(o.Offset)
		commit[p] = kgo.EpochOffset{Epoch: -1, Offset: o.Offset}
	}
	// We are a member of this generation and these partitions are ours in it,
	// so the permit is not needed; a later generation is refused by the broker.
	if err := s.send(ctx, commit, nil); err != nil {
		return s.explain("commit the first offsets of group "+s.cfg.Group, err)
	}
	return nil
}

// assign opens a lane per partition and tells the listener.
func (s *Source) assign(parts map[int32]kgo.Offset, ends map[int32]kadm.ListedOffset) {
	var told []record.Position
	member, _ := s.cl.GroupMetadata()
	s.mu.Lock()
	s.usurped = nil
	for p, o := range parts {
		at := o.EpochOffset()
		l := &lane{part: p, member: member, open: true, next: at.Offset, committed: at.Offset, end: -1}
		if e, ok := ends[p]; ok && e.Err == nil {
			l.end = e.Offset
		}
		s.lanes[p] = l
		told = append(told, s.position(p, at.Offset, at.Epoch))
	}
	s.mu.Unlock()
	slices.SortFunc(told, func(a, b record.Position) int { return int(a.Partition) - int(b.Partition) })
	s.calls <- struct{}{}
	s.listener.Assigned(told)
	<-s.calls
	s.mu.Lock()
	s.feed()
	s.mu.Unlock()
}

func (s *Source) position(part int32, offset int64, epoch int32) record.Position {
	return record.Position{Partition: part, Offset: offset, LeaderEpoch: epoch, Identity: s.topicID, Cluster: s.clusterID, Name: s.cfg.Topic}
}

// revoked is called by the library when partitions are taken away, and for
// all of them when the group is left. The next owner begins only after it
// returns. The worker finishes and commits first; then the permits end, and
// commits on their way are waited for. At the bound they are left behind:
// they carry this member's id and generation, and the broker refuses them once
// the partition has a new owner.
func (s *Source) revoked(_ context.Context, _ *kgo.Client, m map[string][]int32) {
	lanes, _ := s.owned(m[s.cfg.Topic])
	if len(lanes) == 0 {
		return
	}
	lanes, parts := s.loseStrange(lanes)
	if len(lanes) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.RevokeTimeout)
	defer cancel()
	s.mu.Lock()
	for _, l := range lanes {
		s.empty(l) // another will read it
	}
	s.mu.Unlock()
	s.calls <- struct{}{}
	s.listener.Revoked(ctx, parts)
	<-s.calls
	for _, wait := range s.close(lanes) {
		select {
		case <-wait:
		case <-ctx.Done():
			s.log.Warn("a commit did not finish before its partition was given up; its records may be delivered again",
				"topic", s.cfg.Topic, "group", s.cfg.Group)
			return
		}
	}
}

// lost is called by the library when partitions already belong to others: the
// session expired, or the group forgot us. Permits end first, so that nothing
// is committed.
func (s *Source) lost(_ context.Context, _ *kgo.Client, m map[string][]int32) {
	if lanes, parts := s.owned(m[s.cfg.Topic]); len(lanes) > 0 {
		s.lose(lanes, parts)
	}
}

func (s *Source) lose(lanes []*lane, parts []int32) {
	s.close(lanes)
	s.calls <- struct{}{}
	s.listener.Lost(parts)
	<-s.calls
}

// strange tells that the group knows us by another id than when it gave us the
// lane's partition: it had given us up in between, and others may have owned it.
//
// The library does not always say so. A: we are silent for longer than our session,
// and B gets p. A: a commit is refused, and the library joins again; its member id is
// refused too, so it joins as somebody new, and keeps what it was assigned. A: it is
// told that p is B's, and revokes. Our commits are stamped with the new member's
// generation, which the broker takes: p would move back to where we were. If B has left
// by then, p may even stay ours, at our place and not at B's.
func (l *lane) strange(member string) bool {
	return member != "" && l.member != "" && member != l.member
}

// loseStrange ends the strange ones of lanes as lost, and gives the others.
func (s *Source) loseStrange(lanes []*lane) (ours []*lane, parts []int32) {
	member, _ := s.cl.GroupMetadata()
	var lost []*lane
	var lostParts []int32
	s.mu.Lock()
	for _, l := range lanes {
		if l.strange(member) {
			lost, lostParts = append(lost, l), append(lostParts, l.part)
		} else {
			ours, parts = append(ours, l), append(parts, l.part)
		}
	}
	s.mu.Unlock()
	if len(lost) > 0 {
		s.lose(lost, lostParts)
	}
	slices.Sort(parts)
	return ours, parts
}

// owned gives the lanes among parts. Partitions whose offsets were never read
// have none, and the listener never heard of them.
func (s *Source) owned(parts []int32) ([]*lane, []int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lanes []*lane
	var have []int32
	for _, p := range parts {
		if l := s.lanes[p]; l != nil {
			lanes, have = append(lanes, l), append(have, p)
		}
	}
	slices.Sort(have)
	return lanes, have
}

// close ends lanes and gives what to wait for until their commits are done.
func (s *Source) close(lanes []*lane) []chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	var wait []chan struct{}
	for _, l := range lanes {
		l.open = false
		s.empty(l)
		if s.lanes[l.part] == l {
			delete(s.lanes, l.part)
		}
		if l.held {
			s.cl.ResumeFetchPartitions(map[string][]int32{s.cfg.Topic: {l.part}})
		}
		if l.commits > 0 {
			l.drained = make(chan struct{})
			wait = append(wait, l.drained)
		}
	}
	s.feed()
	return wait
}

// empty forgets what was fetched for a lane. s.mu is held.
func (s *Source) empty(l *lane) {
	s.waiting -= l.waiting
	l.queue, l.waiting = nil, 0
}

// fail makes every later Read return err.
func (s *Source) fail(err error) {
	s.mu.Lock()
	if s.fatal == nil {
		s.fatal = err
	}
	s.mu.Unlock()
	signal(s.ready)
}

// report gives err to the next Read that has nothing else.
func (s *Source) report(err error) {
	if sources.IsFatal(err) {
		s.fail(err)
		return
	}
	s.mu.Lock()
	s.problem = err
	s.mu.Unlock()
	signal(s.ready)
}

var (
	_ sources.Lagger = (*Source)(nil)
	_ sources.Joiner = (*Source)(nil)
)
