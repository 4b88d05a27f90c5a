package admin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"keystone/pipeline/record"
)

// Group is a consumer group as the cluster has it.
type Group struct {
	State     string // Stable, Empty, PreparingRebalance…; Dead if there is none
	Members   int
	Committed map[string][]record.Position // by topic, in partition order; Identity as committed
	Err       error                        // why this group could not be described
}

// Groups describes groups and what they committed.
func (a *Admin) Groups(ctx context.Context, groups ...string) (map[string]Group, error) {
	out := make(map[string]Group, len(groups))
	for part := range slices.Chunk(groups, chunk) {
		var described kadm.DescribedGroups
		err := again(ctx, func() (err error) { described, err = a.adm.DescribeGroups(ctx, part...); return err })
		if err != nil && len(described) == 0 {
			return nil, a.explain("describe consumer groups", err)
		}
		fetched := a.adm.FetchManyOffsets(ctx, part...)
		for _, name := range part {
			d, f := described[name], fetched[name]
			g := Group{State: d.State, Members: len(d.Members), Committed: map[string][]record.Position{}}
			switch {
			case errors.Is(d.Err, kerr.GroupIDNotFound):
				g.State = "Dead"
			case d.Err != nil:
				g.Err = a.explain("describe consumer group "+name, d.Err)
			}
			if f.Err != nil && !errors.Is(f.Err, kerr.GroupIDNotFound) {
				g.Err = errors.Join(g.Err, a.explain("read the offsets of consumer group "+name, f.Err))
			}
			for topic, ps := range f.Fetched {
				g.Committed[topic] = positions(topic, ps)
			}
			out[name] = g
		}
	}
	return out, nil
}

func positions(topic string, ps map[int32]kadm.OffsetResponse) []record.Position {
	var out []record.Position
	for _, p := range slices.Sorted(maps.Keys(ps)) {
		if o := ps[p]; o.Err == nil && o.At >= 0 {
			m := ParseMeta(o.Metadata)
			out = append(out, record.Position{Partition: p, Offset: o.At, LeaderEpoch: o.LeaderEpoch, Identity: m.Topic, Cluster: m.Cluster, Name: topic})
		}
	}
	return out
}

// Lag gives how many offsets lie between what a group committed on a topic
// and the end, per partition; -1 where nothing is committed. It needs the
// topic observed with offsets.
func (g Group) Lag(topic string, t Topic) []int64 {
	out := make([]int64, t.Partitions)
	for p := range out {
		out[p] = -1
	}
	for _, c := range g.Committed[topic] {
		if p := int(c.Partition); p < len(out) && p < len(t.End) && t.End[p] >= 0 {
			out[p] = max(0, t.End[p]-max(c.Offset, t.Begin[p]))
		}
	}
	return out
}

// DeleteGroups deletes groups and their offsets. Missing ones are no error;
// one with members is.
func (a *Admin) DeleteGroups(ctx context.Context, groups ...string) error {
	var errs []error
	for part := range slices.Chunk(groups, chunk) {
		rs, err := a.adm.DeleteGroups(ctx, part...)
		if err != nil && len(rs) == 0 {
			return a.explain("delete consumer groups", err)
		}
		for _, r := range rs {
			switch {
			case r.Err == nil, errors.Is(r.Err, kerr.GroupIDNotFound):
			case errors.Is(r.Err, kerr.NonEmptyGroup):
				errs = append(errs, fmt.Errorf("consumer group %s still has members; stop what reads with it first: %w", r.Group, r.Err))
			default:
				errs = append(errs, a.explain("delete consumer group "+r.Group, r.Err))
			}
		}
	}
	return errors.Join(errs...)
}

// SetOffsets commits positions for a group that has no members: Kafka refuses
// it otherwise. That refusal is what makes it safe.
func (a *Admin) SetOffsets(ctx context.Context, group, topic string, at []record.Position) error {
	return a.setOffsets(ctx, group, topic, at, "")
}

func (a *Admin) setOffsets(ctx context.Context, group, topic string, at []record.Position, rewind string) error {
	os := kadm.Offsets{}
	for _, p := range at {
		m := Meta{Topic: p.Identity, Cluster: p.Cluster, Rewind: rewind}
		os.Add(kadm.Offset{Topic: topic, Partition: p.Partition, At: p.Offset, LeaderEpoch: epoch(p), Metadata: m.String()})
	}
	err := a.adm.CommitAllOffsets(ctx, group, os)
	if errors.Is(err, kerr.UnknownMemberID) {
		return fmt.Errorf("consumer group %s has members; stop what reads with it first: %w", group, err)
	}
	if err != nil {
		return a.explain("commit offsets for consumer group "+group, err)
	}
	return nil
}

// CopyOffsets gives the group to what the group from committed and to has
// not: a renamed route goes on where it was. Twice is once, and a group that
// has gone on is not moved back.
func (a *Admin) CopyOffsets(ctx context.Context, from, to string) error {
	gs, err := a.Groups(ctx, from, to)
	if err != nil {
		return err
	}
	src, dst := gs[from], gs[to]
	if err := errors.Join(src.Err, dst.Err); err != nil {
		return err
	}
	for _, topic := range slices.Sorted(maps.Keys(src.Committed)) {
		has := map[int32]bool{}
		for _, p := range dst.Committed[topic] {
			has[p.Partition] = true
		}
		missing := slices.DeleteFunc(slices.Clone(src.Committed[topic]), func(p record.Position) bool { return has[p.Partition] })
		if len(missing) == 0 {
			continue
		}
		if err := a.SetOffsets(ctx, to, topic, missing); err != nil {
			return err
		}
	}
	return nil
}

// epoch is the leader epoch of a position for the wire: 0 stands for unknown,
// as it does where positions are stored.
func epoch(p record.Position) int32 {
	if p.LeaderEpoch <= 0 {
		return -1
	}
	return p.LeaderEpoch
}
