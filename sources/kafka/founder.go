package kafka

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"keystone/pipeline/record"
)

// # Who commits where a group begins
//
// Kafka takes a commit of somebody who is no member whenever the group has none. One that
// the network holds back until the group has begun and is empty again would move
// it back. So the first offsets are those of a member: a founder joins, looks,
// commits, and leaves; then the reader joins.
//
//   - A founder speaks a protocol that no reader speaks, so the broker lets no reader
//     in while a founder is there (INCONSISTENT_GROUP_PROTOCOL), and no founder while a reader is.
//   - A founder looks after the group took it in. Whoever was there before has
//     left: its commit is there, or the broker will refuse it.
//   - What it commits carries its member id, which the broker gives to nobody
//     again. It is taken only while it is in the group: while nobody has read anything
//     since it looked.
//   - It is only the group's leader that commits. Another founder joins in the next
//     generation, when the leader has left or was given up, and looks again. So
//     start is resolved once.
//   - A founder that is killed stays in the group until its session ends, or
//     until the next one of its name takes its place.

// founderProtocol is what founders agree on, and readers do not know.
const founderProtocol = "keystone-founder"

// founder is a member of the group that reads nothing.
type founder struct {
	s          *Source
	member     string
	generation int32
	asked      bool // the broker may have taken us in
}

// errFollows is that of a founder that does not lead.
var errFollows = errors.New("another worker of the route is committing where it begins")

// found commits where the group begins. An error that passing says is none of ours: the
// group is to be looked at again.
func (s *Source) found(ctx context.Context, mirror []record.Position) error {
	f := &founder{s: s}
	defer f.leave(ctx)
	if err := f.join(ctx); err != nil {
		return f.explain(err)
	}
	begun, err := s.begun(ctx)
	if err != nil || begun {
		return err
	}
	begin, err := s.startOffsets(ctx, mirror)
	if err != nil {
		return err
	}
	if err := f.commit(ctx, begin); err != nil {
		return f.explain(err)
	}
	s.log.Info("the group begins", "topic", s.cfg.Topic, "group", s.cfg.Group, "start", s.cfg.Start, "from_stored_positions", len(mirror) > 0)
	return nil
}

// passing tells that others are in the group, or that it has given us up.
func passing(err error) bool {
	for _, e := range []error{errFollows, kerr.InconsistentGroupProtocol, kerr.UnknownMemberID, kerr.IllegalGeneration, kerr.RebalanceInProgress, kerr.FencedInstanceID, kerr.MemberIDRequired} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (f *founder) explain(err error) error {
	if passing(err) {
		return err
	}
	return f.s.explain("commit the first offsets of group "+f.s.cfg.Group, err)
}

// instance is the name by which the group knows us: the reader's, so that whoever puts
// dead members of ours out puts a founder out, too.
func (f *founder) instance() *string {
	if !f.s.static() {
		return nil
	}
	return &f.s.cfg.Instance
}

// protocolType keeps readers out by the protocol's name alone where they share partitions
// out: it is theirs, since the embedded broker never changes that of a group. A reader
// that has the broker share out (KIP-848) would be let into a group of that type.
func (f *founder) protocolType() string {
	if f.s.cfg.Protocol == Consumer {
		return "keystone"
	}
	return "consumer"
}

// join makes us the leader of the group's next generation.
func (f *founder) join(ctx context.Context) error {
	c := &f.s.cfg
	nothing := kmsg.NewConsumerMemberMetadata()
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name, p.Metadata = founderProtocol, nothing.AppendTo(nil)
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.InstanceID, req.ProtocolType = c.Group, f.instance(), f.protocolType()
	req.Protocols = []kmsg.JoinGroupRequestProtocol{p}
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = int32(c.SessionTimeout.Milliseconds()), int32(c.RebalanceTimeout.Milliseconds())
	req.Reason = kmsg.StringPtr("the route begins")
	f.asked = true
	var resp *kmsg.JoinGroupResponse
	err := retry(ctx, func() (err error) {
		for range 2 { // the first time we may be given no more than a member id
			req.MemberID = f.member
			if resp, err = req.RequestWith(ctx, f.s.cl); err != nil {
				return err
			}
			if resp.MemberID != "" {
				f.member = resp.MemberID
			}
			if err = kerr.ErrorForCode(resp.ErrorCode); !errors.Is(err, kerr.MemberIDRequired) {
				return err
			}
		}
		return err
	})
	switch {
	case errors.Is(err, kerr.InconsistentGroupProtocol), errors.Is(err, kerr.UnknownMemberID):
		f.asked = false
		return err
	case err != nil:
		return err
	case resp.LeaderID != f.member:
		return errFollows
	}
	f.generation = resp.Generation
	return f.sync(ctx)
}

// sync ends the rebalance: before, the broker takes no commit.
func (f *founder) sync(ctx context.Context) error {
	nothing := kmsg.NewConsumerMemberAssignment()
	a := kmsg.NewSyncGroupRequestGroupAssignment()
	a.MemberID, a.MemberAssignment = f.member, nothing.AppendTo(nil)
	req := kmsg.NewPtrSyncGroupRequest()
	req.Group, req.Generation, req.MemberID, req.InstanceID = f.s.cfg.Group, f.generation, f.member, f.instance()
	req.ProtocolType, req.Protocol = kmsg.StringPtr(f.protocolType()), kmsg.StringPtr(founderProtocol)
	req.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{a}
	return retry(ctx, func() error {
		resp, err := req.RequestWith(ctx, f.s.cl)
		if err != nil {
			return err
		}
		return kerr.ErrorForCode(resp.ErrorCode)
	})
}

// commit commits where every partition begins.
func (f *founder) commit(ctx context.Context, begin map[int32]kadm.ListedOffset) error {
	t := kmsg.NewOffsetCommitRequestTopic()
	t.Topic = f.s.cfg.Topic
	id, err := base64.StdEncoding.DecodeString(f.s.topicID)
	if err != nil {
		return fmt.Errorf("topic %s has the id %q: %w", f.s.cfg.Topic, f.s.topicID, err)
	}
	copy(t.TopicID[:], id)
	for n, o := range begin {
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset, p.LeaderEpoch, p.Metadata = n, o.Offset, o.LeaderEpoch, kmsg.StringPtr(f.s.meta("").String())
		t.Partitions = append(t.Partitions, p)
	}
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation, req.MemberID, req.InstanceID = f.s.cfg.Group, f.generation, f.member, f.instance()
	req.Topics = []kmsg.OffsetCommitRequestTopic{t}
	return retry(ctx, func() error {
		resp, err := req.RequestWith(ctx, f.s.cl)
		if err != nil {
			return err
		}
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// leaveWithin bounds the leaving of a founder whose worker was stopped.
const leaveWithin = 3 * time.Second

// leave makes room for readers. Where it does not succeed, they wait until the session ends.
func (f *founder) leave(ctx context.Context) {
	if !f.asked {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveWithin)
	defer cancel()
	var err error
	if f.member == "" {
		err = f.s.evict(ctx, f.s.cfg.Instance) // the broker may still take us in by our name
	} else {
		err = f.s.leaveAs(ctx, f.member, nil, "the route begins")
	}
	if err != nil {
		f.s.log.Warn("a group cannot be left after its first offsets were committed; its readers wait until the session ends", "group", f.s.cfg.Group, "error", err)
	}
}

// leaveAs takes a member out of the group. One that is gone, or that another process has
// taken the place of, is no error.
func (s *Source) leaveAs(ctx context.Context, member string, instance *string, why string) error {
	m := kmsg.NewLeaveGroupRequestMember()
	m.MemberID, m.InstanceID = member, instance
	m.Reason = kmsg.StringPtr(why)
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group, req.MemberID, req.Members = s.cfg.Group, member, []kmsg.LeaveGroupRequestMember{m}
	resp, err := req.RequestWith(ctx, s.cl)
	if err != nil {
		return err
	}
	err = kerr.ErrorForCode(resp.ErrorCode)
	for _, m := range resp.Members {
		err = errors.Join(err, kerr.ErrorForCode(m.ErrorCode))
	}
	if errors.Is(err, kerr.FencedInstanceID) || errors.Is(err, kerr.UnknownMemberID) {
		return nil
	}
	return err
}
