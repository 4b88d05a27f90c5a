package kafka

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"keystone/sources"
)

// fileCut notes that the log was cut off: the library asked where the leader epoch of our position ended, was told
// of an offset before it, and went there.
//
// A broker that has no records of that epoch any more may say 0. Kafka does not: it keeps its latest epoch
// when retention removes all records of it, and of an epoch that it has forgotten it says where the next began,
// which is never before the log's beginning. The embedded broker does, once everything is removed and the leader
// was elected anew. So where the log begins at or behind our position, what was before it was removed, and what is
// there to be read is read.
func (s *Source) fileCut(ctx context.Context, cut *kgo.ErrDataLoss) {
	begin := int64(-1)
	if cut.ResetTo < cut.ConsumedTo {
		var err error
		if begin, err = s.begins(ctx, cut.Partition); err != nil {
			s.fail(sources.Fatal{Err: fmt.Errorf("the cluster says that topic %s partition %d was cut off at offset %d, before %d, and not where it begins; the route has to start again, from what is committed: %w", s.cfg.Topic, cut.Partition, cut.ResetTo, cut.ConsumedTo, err)})
			return
		}
	}
	s.mu.Lock()
	l := s.lanes[cut.Partition]
	if l == nil || !l.open {
		s.mu.Unlock()
		return
	}
	if begin < cut.ConsumedTo {
		l.lose(cut.ConsumedTo, cut.ResetTo)
		l.next = cut.ResetTo
		l.committed = min(l.committed, cut.ResetTo-1)
		s.enqueue(l)
		s.mu.Unlock()
		return
	}
	if begin > cut.ConsumedTo {
		l.lose(cut.ConsumedTo, begin)
		s.enqueue(l)
	}
	l.next = begin
	s.mu.Unlock()
	s.cl.SetOffsets(map[string]map[int32]kgo.EpochOffset{s.cfg.Topic: {cut.Partition: {Epoch: -1, Offset: begin}}})
}

// begins asks where the log of a partition begins.
func (s *Source) begins(ctx context.Context, part int32) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	all, err := s.adm.ListStartOffsets(ctx, s.cfg.Topic)
	if err == nil {
		err = all.Error()
	}
	if err != nil {
		return 0, s.explain("list the offsets of topic "+s.cfg.Topic, err)
	}
	b, ok := all.Lookup(s.cfg.Topic, part)
	if !ok {
		return 0, fmt.Errorf("the cluster at %s does not say where topic %s partition %d begins", s.cfg.Client, s.cfg.Topic, part)
	}
	return b.Offset, nil
}
