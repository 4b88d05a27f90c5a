package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// # Static members
//
// With Config.Instance the group knows the member by that name (KIP-345). A
// process that was killed and starts again finds its own dead member in the
// group and need not wait for that one's session to end: takePlace. The broker
// gives the newcomer another member id and from then on refuses everything
// that carries the old one. The generation may stay the same then, so here it
// is the member id that keeps an old owner's commits out:
//
//   - A is killed, its commit is on the wire. B joins under A's name. Either
//     the coordinator takes the commit first, or it refuses it. It may have
//     taken it without having replicated it yet when B asks for offsets: B then
//     reads again what A committed, which is allowed; nothing is jumped over,
//     for B goes on from what it was given.
//   - A is stopped, as by a debugger, and B takes its name. A wakes: a commit
//     that is stamped already, or stamped now, has A's member id and is
//     refused. A's next heartbeat is refused too: the library calls lost, which
//     ends the permits before anything else, and A has no partitions any more.
//   - A joins again after that. The library sends its old member id: refused
//     as long as B, or B's dead session, has the name. So A does not take the
//     name back, and two processes cannot take it from each other in turns: the
//     later one works, the earlier one says why it does not (fenced). When B
//     leaves, A's member id is unknown instead of fenced; the library joins
//     without one, and A goes on from what B committed.
//   - A closes while B takes its name: A leaves with its member id, and the
//     broker refuses that; it must not put B out.
//   - A closes and B, of this process, is about to open (Stay): A's revocation
//     waits for its commits, bounded, and then A's place is kept. A commit that
//     is left behind at the bound carries A's member id: refused once B joined.
//
// Who takes a place over gets the assignment of the dead one, and the group
// does not rebalance. That alone would strand partitions: A gives p up in a
// rebalance and dies before it joins again, which is what would have given p
// to C. B gets what A was left with, and p has no owner until somebody else
// comes or goes. So B takes the place over only when nobody else is in the
// group: then it leads, and the library, which works out the assignment
// all the same, has the group rebalance if p is missing. In company B puts A
// out first. Somebody who joins between B's look and B's join starts a
// rebalance, which waits for A for a RebalanceTimeout, and B is in it as A.
//
// While a route's worker is replaced by another of the same process (redeploy =
// "prefer_latency") two members live, so there are two names, and the later
// worker has the one that is free. A process that was killed may have left
// either, or both: the next one's first worker takes one name and puts out whoever has
// the other (Dead). If both are there, both are put out: taking one's place would have the group
// wait for the other.
//
// Under KIP-848 a name is given up only by its owner or the owner's session,
// so there it would win nothing, and members are dynamic.

// static tells whether the group knows us by name.
func (s *Source) static() bool { return s.cfg.Instance != "" && s.cfg.Protocol != Consumer }

// membership gives the options of the client for that.
func (s *Source) membership() []kgo.Opt {
	if !s.static() {
		return nil
	}
	return []kgo.Opt{kgo.InstanceID(s.cfg.Instance)}
}

// leave takes a static member out of its group, so that others get its
// partitions at once: the library leaves it there when it closes. A member
// that is gone, or that another process has taken the place of, is no error.
func (s *Source) leave(ctx context.Context) error {
	id, _ := s.cl.GroupMetadata()
	if !s.static() || id == "" || s.cfg.Stay != nil && s.cfg.Stay() {
		return nil
	}
	return s.leaveAs(ctx, id, &s.cfg.Instance, "the route stops")
}

// takePlace looks for a dead member of ours in the group: it stays if it is
// alone, for us to take its place, and is put out if it is not, or is a founder.
func (s *Source) takePlace(ctx context.Context) error {
	if !s.static() {
		return nil
	}
	groups, err := s.adm.DescribeGroups(ctx, s.cfg.Group)
	if err == nil {
		err = groups.Error()
	}
	switch {
	case errors.Is(err, kerr.GroupIDNotFound):
		return nil
	case err != nil:
		return s.explain("look at group "+s.cfg.Group, err)
	}
	members, founds := groups[s.cfg.Group].Members, groups[s.cfg.Group].Protocol == founderProtocol
	var left []string
	for _, m := range members {
		if m.InstanceID != nil && (*m.InstanceID == s.cfg.Instance || slices.Contains(s.cfg.Dead, *m.InstanceID)) {
			left = append(left, *m.InstanceID)
		}
	}
	if len(left) == 0 || len(members) == 1 && left[0] == s.cfg.Instance && !founds {
		return nil
	}
	return s.evict(ctx, left...)
}

// evict puts dead members of ours out of the group, by their names. It is called before
// we join: if one is alive after all, it would lose its place to us anyway.
func (s *Source) evict(ctx context.Context, names ...string) error {
	if !s.static() {
		return nil
	}
	for _, name := range names { // one by one: one that has gone meanwhile must not hide another's error
		left, err := s.adm.LeaveGroup(ctx, kadm.LeaveGroup(s.cfg.Group).Reason("the route starts again").InstanceIDs(name))
		if err == nil {
			err = left.Error()
		}
		if err != nil && !errors.Is(err, kerr.UnknownMemberID) && !errors.Is(err, kerr.GroupIDNotFound) {
			return s.explain("leave group "+s.cfg.Group, err)
		}
	}
	return nil
}

// fenced is what a member says whose place another process has taken.
func (s *Source) fenced(err error) error {
	return fmt.Errorf("another process uses the state directory of this one and reads group %s in its place: stop one of the two, or give them different state directories (a copied one on a host of the same name counts as the same); this one goes on when the other has left: %w", s.cfg.Group, err)
}
