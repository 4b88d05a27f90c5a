package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"keystone/pipeline/record"
)

// Rewind is a consumer group that is to go on elsewhere in a topic.
type Rewind struct {
	ID        string // of this rewind: what is committed carries it
	Group     string
	Topic     string
	Instances []string          // names of members of ours that may have been left behind
	To        []record.Position // with the ids of topic and cluster
	Within    time.Duration     // how long the group may take to become empty
	Step      func(step string) // called between the steps; nil for nothing
}

// MembersError says who is in a group that should have none.
type MembersError struct {
	Group   string
	Members []string // id and host
}

// Error names the members and says what to do.
func (e *MembersError) Error() string {
	who := "somebody"
	if len(e.Members) > 0 {
		who = strings.Join(e.Members, ", ")
	}
	return fmt.Sprintf("consumer group %s has members that this server cannot stop: %s. Stop the other servers that run this route (`keystone drain` there), or wait for their sessions to end, and rewind again", e.Group, who)
}

// OtherTopicError says that the topic is not the one that a rewind was made for.
type OtherTopicError struct{ Topic string }

// Error says so.
func (e *OtherTopicError) Error() string {
	return fmt.Sprintf("topic %s was deleted and created again, or is on another cluster, since the rewind was asked for: its offsets mean other records", e.Topic)
}

// Rewind commits the positions once the group is empty. It gives a
// *MembersError and changes nothing if that does not come about in time, and an
// *OtherTopicError if the topic is another one. Partitions that carry the id of
// the rewind were committed by it before, and are left as they are: the group
// may have gone on since.
func (a *Admin) Rewind(ctx context.Context, r Rewind) error {
	step := func(name string) {
		if r.Step != nil {
			r.Step(name)
		}
	}
	cluster, topics, err := a.Observe(ctx, r.Topic)
	if err != nil {
		return err
	}
	for _, p := range r.To {
		if p.Identity != topics[r.Topic].ID || p.Cluster != "" && p.Cluster != cluster {
			return &OtherTopicError{r.Topic}
		}
	}
	left, err := a.notRewound(ctx, r)
	if err != nil || len(left) == 0 {
		return err
	}
	if err := a.awaitEmpty(ctx, r); err != nil {
		return err
	}
	step("the group is empty")
	// Whoever joins between the look and the commit has it refused.
	err = a.setOffsets(ctx, r.Group, r.Topic, left, r.ID)
	if errors.Is(err, kerr.UnknownMemberID) {
		d, _ := a.members(ctx, r.Group) // the refusal is what counts
		return &MembersError{r.Group, names(d)}
	}
	if err == nil {
		step("the offsets are committed")
	}
	return err
}

// notRewound gives the positions that the rewind has not committed yet.
func (a *Admin) notRewound(ctx context.Context, r Rewind) ([]record.Position, error) {
	var fetched kadm.OffsetResponses
	err := again(ctx, func() (err error) { fetched, err = a.adm.FetchOffsets(ctx, r.Group); return err })
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, a.explain("read the offsets of consumer group "+r.Group, err)
	}
	var left []record.Position
	for _, p := range r.To {
		o, ok := fetched.Lookup(r.Topic, p.Partition)
		if ok && o.Err != nil {
			return nil, a.explain("read the offsets of consumer group "+r.Group, o.Err)
		}
		if !ok || ParseMeta(o.Metadata).Rewind != r.ID {
			left = append(left, p)
		}
	}
	return left, nil
}

// awaitEmpty puts a member of ours out that was left behind, and waits for the
// group to have none.
func (a *Admin) awaitEmpty(ctx context.Context, r Rewind) error {
	bounded, cancel := context.WithTimeout(ctx, r.Within)
	defer cancel()
	var last []kadm.DescribedGroupMember
	err := await(bounded, "wait for consumer group "+r.Group+" to become empty", func() (bool, error) {
		members, err := a.members(bounded, r.Group)
		if err != nil {
			return false, err
		}
		last = members
		var ours []string // whose workers were stopped before: they are dead
		for _, m := range members {
			if m.InstanceID != nil && slices.Contains(r.Instances, *m.InstanceID) {
				ours = append(ours, *m.InstanceID)
			}
		}
		if len(ours) > 0 {
			_, err := a.adm.LeaveGroup(bounded, kadm.LeaveGroup(r.Group).Reason("the route is rewound").InstanceIDs(ours...))
			return false, err
		}
		if len(members) > 0 {
			return false, nil
		}
		err = a.stable(bounded, r.Group)
		return err == nil, err
	})
	if err != nil && len(last) > 0 && ctx.Err() == nil {
		return &MembersError{r.Group, names(last)}
	}
	return err
}

// Strangers names the members of a group that those with our instances' names
// are not: nobody here can stop them.
func (a *Admin) Strangers(ctx context.Context, group string, instances ...string) ([]string, error) {
	members, err := a.members(ctx, group)
	if err != nil {
		return nil, err
	}
	return names(slices.DeleteFunc(members, func(m kadm.DescribedGroupMember) bool {
		return m.InstanceID != nil && slices.Contains(instances, *m.InstanceID)
	})), nil
}

// stable fails while offsets of an open transaction are pending in the group: a
// member that was killed in one leaves it open until its time is over, and a
// commit of it would come after ours.
func (a *Admin) stable(ctx context.Context, group string) error {
	os, err := a.adm.FetchOffsets(kadm.RequireStable(ctx), group)
	if err == nil {
		err = os.Error()
	}
	if err == nil || errors.Is(err, kerr.GroupIDNotFound) {
		return nil
	}
	return a.explain("wait for the open transactions of consumer group "+group, err)
}

func (a *Admin) members(ctx context.Context, group string) ([]kadm.DescribedGroupMember, error) {
	ds, err := a.adm.DescribeGroups(ctx, group)
	if err == nil {
		err = ds.Error()
	}
	if errors.Is(err, kerr.GroupIDNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, a.explain("describe consumer group "+group, err)
	}
	return ds[group].Members, nil
}

func names(ms []kadm.DescribedGroupMember) []string {
	out := make([]string, len(ms))
	for i, m := range ms {
		out[i] = fmt.Sprintf("%s (client %s on %s)", m.MemberID, m.ClientID, strings.TrimPrefix(m.ClientHost, "/"))
	}
	slices.Sort(out)
	return out
}

// OffsetsAt gives, per partition of a topic, the first offset of a record of
// that time or later: the end where there is none.
func (a *Admin) OffsetsAt(ctx context.Context, topic string, at time.Time) ([]int64, error) {
	var listed kadm.ListedOffsets
	err := again(ctx, func() (err error) { listed, err = a.adm.ListOffsetsAfterMilli(ctx, at.UnixMilli(), topic); return err })
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, a.explain("list the offsets of "+at.UTC().Format(time.RFC3339), err)
	}
	return flat(listed[topic], len(listed[topic])), nil
}
