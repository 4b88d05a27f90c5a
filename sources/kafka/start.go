package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"keystone/pipeline/record"
	"keystone/sources"
	"keystone/sources/kafka/admin"
)

// start is where a group without offsets begins.
type start struct {
	latest bool
	at     time.Time // not zero: at the first record of this time or later
}

func parseStart(s string) (start, error) {
	switch s {
	case "", "earliest":
		return start{}, nil
	case "latest":
		return start{latest: true}, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return start{}, fmt.Errorf("start is %q, which is none of \"earliest\", \"latest\" and a time such as 2026-01-31T08:00:00Z", s)
	}
	return start{at: t}, nil
}

// listStart gives the offset of every partition where s begins.
func listStart(ctx context.Context, adm *kadm.Client, topic string, s start) (map[int32]kadm.ListedOffset, error) {
	var all kadm.ListedOffsets
	var err error
	switch {
	case s.latest:
		all, err = adm.ListEndOffsets(ctx, topic)
	case !s.at.IsZero():
		all, err = adm.ListOffsetsAfterMilli(ctx, s.at.UnixMilli(), topic)
	default:
		all, err = adm.ListStartOffsets(ctx, topic)
	}
	if err == nil {
		err = all.Error()
	}
	if err != nil {
		return nil, err
	}
	return all[topic], nil
}

// resolveStart sees to it that where the group begins is committed, for every partition, before
// it has a member that reads. It does so only for a group that has committed
// nothing on this topic.
//
// Without it, a route with start = "latest" that is stopped before its first
// commit would begin at the then latest record, and lose those between.
//
// Two workers of one route may get here at once: see founder.
func (s *Source) resolveStart(ctx context.Context, mirror []record.Position) error {
	for until := time.Now().Add(s.cfg.SessionTimeout + s.cfg.RebalanceTimeout); ; {
		begun, err := s.begun(ctx)
		if err != nil || begun {
			return err
		}
		err = s.found(ctx, mirror)
		switch {
		case err == nil:
			return nil
		case !passing(err):
			return err
		case errors.Is(err, kerr.InconsistentGroupProtocol): // readers are there; ours are dead
			if err := s.evict(ctx, append([]string{s.cfg.Instance}, s.cfg.Dead...)...); err != nil {
				return err
			}
		}
		// Another worker begins the group, or readers are in it that have committed nothing:
		// of another make, or just leaving.
		if time.Now().After(until) {
			return fmt.Errorf("group %s has members, and no offsets of topic %s that say where this route begins; it goes on when it has, or when nobody else is in the group: %w", s.cfg.Group, s.cfg.Topic, err)
		}
		if err := sleep(ctx, 200*time.Millisecond); err != nil {
			return s.explain("wait for the first offsets of group "+s.cfg.Group, err)
		}
	}
}

// begun tells whether the group has offsets of the topic, which count.
func (s *Source) begun(ctx context.Context) (bool, error) {
	committed, err := s.committed(ctx)
	if err != nil || len(committed) == 0 {
		return false, err
	}
	if err := s.checkIdentity(committed); err != nil {
		if s.cfg.AcceptNewTopic {
			return false, nil
		}
		return false, err
	}
	return true, nil
}

// committed gives what the group committed on the topic.
func (s *Source) committed(ctx context.Context) (map[int32]kadm.OffsetResponse, error) {
	var all kadm.OffsetResponses
	err := retry(ctx, func() (err error) { all, err = s.adm.FetchOffsets(ctx, s.cfg.Group); return err })
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, s.explain("read the offsets of group "+s.cfg.Group, err)
	}
	out := map[int32]kadm.OffsetResponse{}
	for p, o := range all[s.cfg.Topic] {
		if o.Err != nil {
			return nil, s.explain("read the offsets of group "+s.cfg.Group, o.Err)
		}
		if o.At >= 0 {
			out[p] = o
		}
	}
	return out, nil
}

// checkIdentity compares what was committed with the topic that is there now.
func (s *Source) checkIdentity(committed map[int32]kadm.OffsetResponse) error {
	for _, p := range slices.Sorted(maps.Keys(committed)) {
		if err := s.check(admin.ParseMeta(committed[p].Metadata)); err != nil {
			return err
		}
	}
	return nil
}

// meta says what the offsets of a partition count in; rewind is that of its last rewind.
func (s *Source) meta(rewind string) admin.Meta {
	return admin.Meta{Topic: s.topicID, Cluster: s.clusterID, Rewind: rewind}
}

// check compares what an offset counts in with the topic that is there now.
// What another tool committed says nothing of that, and is taken.
func (s *Source) check(m admin.Meta) error {
	switch {
	case m.Cluster != "" && s.clusterID != "" && m.Cluster != s.clusterID:
		return s.elsewhere(m.Cluster)
	case m.Topic != "" && m.Topic != s.topicID:
		return s.recreated(m.Topic)
	}
	return nil
}

// elsewhere is the error of a topic that is on another cluster than the one that was read.
func (s *Source) elsewhere(was string) error {
	return sources.Fatal{Err: fmt.Errorf("topic %s on %s is not the one that was read: the positions of group %s are of the cluster with the id %s, and this cluster's id is %s. Its offsets mean other records. Name the brokers of that cluster again, or `keystone restart -accept-new-topic` of the route reads the topic here from its beginning", s.cfg.Topic, s.cfg.Client, s.cfg.Group, was, s.clusterID)}
}

// recreated is the error of a topic that is not the one that was read.
func (s *Source) recreated(was string) error {
	return sources.Fatal{Err: fmt.Errorf("topic %s on %s was deleted and created again: the group %s read topic id %s, and the topic's id is now %s. Its offsets mean other records. `keystone restart -accept-new-topic` of the route reads the new topic from its beginning", s.cfg.Topic, s.cfg.Client, s.cfg.Group, was, s.topicID)}
}

// startOffsets gives where every partition begins: at the stored positions if
// there are any, since a group whose offsets expired must not begin anew;
// else where the configuration says.
func (s *Source) startOffsets(ctx context.Context, mirror []record.Position) (map[int32]kadm.ListedOffset, error) {
	at := s.start
	if len(mirror) > 0 || s.cfg.AcceptNewTopic {
		at = start{} // partitions without a stored position were found later: they begin at their beginning
	}
	begin, err := listStart(ctx, s.adm, s.cfg.Topic, at)
	if err != nil {
		return nil, s.explain("list the offsets of topic "+s.cfg.Topic, err)
	}
	if s.cfg.AcceptNewTopic {
		return begin, nil
	}
	for _, m := range mirror {
		if err := s.check(admin.Meta{Topic: m.Identity, Cluster: m.Cluster}); err != nil {
			return nil, err
		}
		if _, ok := begin[m.Partition]; ok {
			begin[m.Partition] = kadm.ListedOffset{Partition: m.Partition, Offset: m.Offset, LeaderEpoch: -1}
		}
	}
	return begin, nil
}

// retry calls f again while Kafka says that it will pass: the coordinator of
// the first group of a cluster takes a moment to come up.
func retry(ctx context.Context, f func() error) error {
	wait := 50 * time.Millisecond
	for until := time.Now().Add(20 * time.Second); ; wait = min(2*wait, time.Second) {
		err := f()
		if err == nil || !kerr.IsRetriable(err) || time.Now().After(until) || sleep(ctx, wait) != nil {
			return err
		}
	}
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
