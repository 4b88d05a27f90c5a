package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"keystone/pipeline/record"
	"keystone/sources"
)

// Offsets stamps positions with our membership, for a transaction that stores
// them (KIP-447). As in Commit, the stamp comes first and the lanes are looked at
// after it: a lane that was lost was closed before we could join again, hence
// before a newer stamp, and with an older one the broker refuses the transaction's
// offsets. A lane that is older than the stamp's member is not this member's, open as
// it is: see strange.
func (s *Source) Offsets(done []record.Position) (record.GroupOffsets, error) {
	member, generation := s.cl.GroupMetadata()
	out := record.GroupOffsets{Group: s.cfg.Group, Member: member, Generation: generation, Topic: s.cfg.Topic}
	if s.static() {
		out.Instance = s.cfg.Instance
	}
	var left []int32
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range done {
		if l := s.lanes[p.Partition]; l == nil || !l.open || l.strange(member) {
			left = append(left, p.Partition)
			continue
		}
		epoch := int32(-1)
		if p.LeaderEpoch > 0 {
			epoch = p.LeaderEpoch
		}
		out.Offsets = append(out.Offsets, record.GroupOffset{
			Partition: p.Partition, Offset: p.Offset, LeaderEpoch: epoch,
			Metadata: s.meta(s.rewinds[p.Partition]).String(),
		})
	}
	if member == "" || generation < 0 {
		return out, fmt.Errorf("group %s has no member for this process: %w", s.cfg.Group, sources.ErrNotAssigned)
	}
	return out, s.notAssigned(left)
}

// again is a Rewind that waits for the poller.
type again struct {
	ctx  context.Context
	done chan error // of one
}

// Rewind has the poller put every lane back to what the group has stored. It
// is the poller that does so, since between its fetches nothing is on the way from the
// library to a lane: what was fetched before would be filed behind a gap.
func (s *Source) Rewind(ctx context.Context) error {
	a := &again{ctx: ctx, done: make(chan error, 1)}
	s.mu.Lock()
	s.again = a
	if s.cancelPoll != nil {
		s.cancelPoll()
	}
	s.mu.Unlock()
	signal(s.hungry)
	select {
	case err := <-a.done:
		return err
	case <-ctx.Done():
		s.mu.Lock()
		if s.again == a {
			s.again = nil
		}
		s.mu.Unlock()
		return context.Cause(ctx)
	}
}

// pollContext is that of the next fetch: a Rewind ends it.
func (s *Source) pollContext(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancelPoll = cancel
	if s.again != nil {
		cancel()
	}
	return ctx, cancel
}

// takeAgain gives the Rewind that waits, if one does.
func (s *Source) takeAgain() *again {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.again
	s.again = nil
	return a
}

// startAgain puts every lane back. The poller calls it while no partition can change hands.
func (s *Source) startAgain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, min(againWithin, s.cfg.RebalanceTimeout/2))
	defer cancel()
	// A lane begins where the group is now, so it may be ours by the member that the group last shared its
	// partitions out to, if that was before the group was asked. Not by one that is joining: A: we were
	// silent, and the group gave p to B. A: the library joins as a new member, and until the group answers we
	// have p. A: a transaction is aborted, and p begins again, where B is. B: goes on. A: is told that p is
	// B's, and commits what it has read, by the new member's leave.
	s.mu.Lock()
	member := s.member
	s.mu.Unlock()
	stored, err := s.stable(ctx)
	if err != nil {
		return err
	}
	set := map[int32]kgo.EpochOffset{}
	var told []record.Position
	s.mu.Lock()
	for p, old := range s.lanes {
		o, ok := stored[p]
		if !old.open || !ok {
			continue
		}
		s.empty(old)
		old.open = false
		if old.held {
			s.cl.ResumeFetchPartitions(map[string][]int32{s.cfg.Topic: {p}})
		}
		s.lanes[p] = &lane{part: p, member: member, open: true, next: o.At, committed: o.At, end: old.end}
		set[p] = kgo.EpochOffset{Epoch: o.LeaderEpoch, Offset: o.At}
		told = append(told, s.position(p, o.At, o.LeaderEpoch))
	}
	s.mu.Unlock()
	if len(set) == 0 {
		return nil
	}
	s.cl.SetOffsets(map[string]map[int32]kgo.EpochOffset{s.cfg.Topic: set})
	slices.SortFunc(told, func(a, b record.Position) int { return int(a.Partition) - int(b.Partition) })
	s.calls <- struct{}{}
	s.listener.Assigned(told)
	<-s.calls
	s.mu.Lock()
	s.feed()
	s.mu.Unlock()
	return nil
}

// Stored asks the group, and leaves out lanes that were lost before it answered.
func (s *Source) Stored(ctx context.Context) ([]record.Position, error) {
	stored, err := s.stable(ctx)
	if err != nil {
		return nil, err
	}
	var out []record.Position
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, l := range s.lanes {
		if o, ok := stored[p]; ok && l.open {
			out = append(out, s.position(p, o.At, o.LeaderEpoch))
		}
	}
	return out, nil
}

// againWithin bounds it: meanwhile the group cannot rebalance.
const againWithin = 15 * time.Second

// stable gives what the group has stored, with no transaction undecided.
func (s *Source) stable(ctx context.Context) (map[int32]kadm.OffsetResponse, error) {
	ctx = kadm.RequireStable(ctx)
	for {
		stored, err := s.committed(ctx)
		if !errors.Is(err, kerr.UnstableOffsetCommit) {
			return stored, err
		}
		if sleep(ctx, 50*time.Millisecond) != nil {
			return nil, err
		}
	}
}

var _ sources.Transacted = (*Source)(nil)
