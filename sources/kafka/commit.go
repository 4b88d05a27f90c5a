package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"keystone/pipeline/mutation"
	"keystone/pipeline/record"
	"keystone/sources"
)

// errFenced means that every partition of a commit was given up before it was sent.
var errFenced = errors.New("the partitions were given up")

// Commit commits positions under permits, and returns when they are durable.
//
// The library stamps a commit with the member's generation when it makes the
// request, not when Commit is called, and the broker compares only that. So
// ownership is checked twice, by the same lane:
//
//   - A: Commit(p). B: p is revoked and given to another member. A: goes on.
//     The lane is not there any more: nothing is sent.
//   - A: Commit(p) finds the lane and takes a permit. B: revoked; it waits for
//     the permit to come back before it lets the group go on.
//   - A: Commit(p) has a permit and waits while the group rebalances. B: the
//     session is lost, p goes to another member, we join again in a newer
//     generation. A: the library makes the request, stamped with the newer
//     generation, which the broker would take, and p would move back. So the
//     lane is looked at again after the stamp: the lane was closed before we
//     joined again, hence before the stamp, and p is left out.
//   - A: the request is stamped and looked at. B: the session is lost. A: sends
//     it. The stamp is of the old generation, and the broker refuses it.
//   - A: as before, and the library joins as a new member without ending what it
//     was assigned. The lane is older than the member: see strange.
//   - A: as before. B: another process takes our place in the group. The
//     generation may be the same, the member id is not: refused. See member.go.
//
// One commit is on its way at a time, and each looks at what is committed
// when its turn comes: otherwise a slow one could put a partition back.
// No lock is held while the request is on its way. Positions of partitions
// that were given up are left out, and sources.ErrNotAssigned says so.
func (s *Source) Commit(ctx context.Context, done []record.Position) error {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.turn }()
	offsets := make(map[int32]kgo.EpochOffset, len(done))
	held := make(map[int32]*lane, len(done))
	var left []int32
	s.mu.Lock()
	for _, p := range done {
		l := s.lanes[p.Partition]
		if l == nil || !l.open {
			if mutation.On(mutation.NoFence) {
				offsets[p.Partition] = kgo.EpochOffset{Epoch: -1, Offset: p.Offset}
				continue
			}
			left = append(left, p.Partition)
			continue
		}
		if p.Offset <= l.committed {
			continue
		}
		epoch := int32(-1)
		if p.LeaderEpoch > 0 {
			epoch = p.LeaderEpoch
		}
		offsets[p.Partition] = kgo.EpochOffset{Epoch: epoch, Offset: p.Offset}
		if held[p.Partition] == nil {
			held[p.Partition] = l
			l.commits++
		}
	}
	s.mu.Unlock()
	if len(offsets) == 0 {
		return s.notAssigned(left)
	}
	err := s.send(ctx, offsets, held)
	s.mu.Lock()
	for p, l := range held {
		if !l.open || l.disowned {
			left = append(left, p) // it may have been left out: whoever asks must not rely on it
		}
		if err == nil && l.open && !l.disowned {
			l.committed = max(l.committed, offsets[p].Offset)
		}
		if l.commits--; l.commits == 0 && l.drained != nil {
			close(l.drained)
			l.drained = nil
		}
	}
	s.mu.Unlock()
	switch {
	case err == nil, errors.Is(err, errFenced):
		return s.notAssigned(left)
	case errors.Is(err, kerr.FencedInstanceID):
		return s.fenced(err)
	case errors.Is(err, kerr.IllegalGeneration), errors.Is(err, kerr.UnknownMemberID), errors.Is(err, kerr.RebalanceInProgress):
		return fmt.Errorf("commit of group %s was refused since the group changed hands meanwhile; it is tried again: %w", s.cfg.Group, err)
	}
	return s.explain("commit offsets of group "+s.cfg.Group, err)
}

// disowned tells that the group gave the lane's partition up, and nobody told us. If
// the partition is now another's, that comes by itself. If the group gave it to us
// again, adopt finds out. s.mu is held.
func (s *Source) disowned(l *lane, member string) bool {
	if !l.strange(member) {
		return false
	}
	if !l.disowned && !s.closed {
		l.disowned = true
		s.poller.Go(func() { s.adopt(s.life, l) })
	}
	return true
}

// adopt goes on with a lane that the group gave up and gave to us again, where nobody
// has committed anything in between. Where somebody has, reading must begin anew.
func (s *Source) adopt(ctx context.Context, l *lane) {
	for sleep(ctx, adoptAfter) == nil {
		committed, err := s.committed(ctx)
		if err != nil {
			continue // it is not committed meanwhile
		}
		member, _ := s.cl.GroupMetadata()
		if member == "" {
			continue // the library is joining
		}
		s.mu.Lock()
		open, same := l.open, committed[l.part].At == l.committed
		if open && same {
			l.member, l.disowned = member, false
		}
		s.mu.Unlock()
		if open && !same {
			s.fail(sources.Fatal{Err: fmt.Errorf("group %s had given this member up, since it was silent for longer than its session, and took it in again; another has read partition %d meanwhile: the route has to start again, from what is committed", s.cfg.Group, l.part)})
		}
		return
	}
}

// adoptAfter is long enough for the library to have told what is another's: it does
// so as soon as it has joined.
const adoptAfter = 3 * time.Second

// notAssigned is nil, or the error about the partitions that were left out.
func (s *Source) notAssigned(left []int32) error {
	if len(left) == 0 {
		return nil
	}
	slices.Sort(left)
	return fmt.Errorf("commit partitions %v of topic %s: %w", left, s.cfg.Topic, sources.ErrNotAssigned)
}

// send commits offsets as this member. held are the lanes that must still be
// open when the request is stamped; nil for no check.
func (s *Source) send(ctx context.Context, offsets map[int32]kgo.EpochOffset, held map[int32]*lane) error {
	if len(offsets) == 0 {
		return nil
	}
	ctx = kgo.PreCommitFnContext(ctx, func(req *kmsg.OffsetCommitRequest) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		for i := range req.Topics {
			t := &req.Topics[i]
			kept := t.Partitions[:0]
			for _, p := range t.Partitions {
				if l := held[p.Partition]; held != nil && !mutation.On(mutation.NoFence) && (!l.open || s.disowned(l, req.MemberID)) {
					continue
				}
				p.Metadata = kmsg.StringPtr(s.meta(s.rewinds[p.Partition]).String())
				kept = append(kept, p)
			}
			t.Partitions = kept
			if len(kept) == 0 {
				return errFenced // there is one topic
			}
		}
		return nil
	})
	var out error
	s.cl.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{s.cfg.Topic: offsets}, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
		if out = err; err != nil {
			return
		}
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				out = errors.Join(out, kerr.ErrorForCode(p.ErrorCode))
			}
		}
	})
	return out
}
