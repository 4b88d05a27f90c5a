package wire

import (
	"context"
	"fmt"
	"slices"

	"keystone/cmd/internal/api"
	"keystone/configs"
	"keystone/configs/addr"
	"keystone/pipeline/record"
)

// restart drains a route and has it started at once, whatever its back-off says.
func (s *server) restart(ctx context.Context, a addr.Addr, acceptNewTopic bool) error {
	goal := s.goals.State().Config
	u := s.runtime.unit(a, false)
	if goal == nil || goal.Routes[a] == nil || u == nil {
		return s.notFound(a)
	}
	route := goal.Routes[a]
	if err := u.stop(ctx); err != nil {
		s.log.Warn("the route's worker did not drain; what was in flight is read again", "error", err)
	}
	if acceptNewTopic {
		if err := s.runtime.beginAnew(ctx, goal, route, u.groupOf(route)); err != nil {
			return fmt.Errorf("accept the new topic for %s: %w", a, err)
		}
		s.log.Warn("the route begins anew in the topic that is there now", "route", a.String(), "stream", route.From.Addr.String())
	}
	s.loop.Retry(a)
	return nil
}

// groupOf gives the consumer group that the route's worker had last.
func (u *unit) groupOf(route *configs.Route) string {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.group != "" {
		return u.group
	}
	return route.Group
}

// forget drops every position of a route, which is stopped: those that are
// stored here and those of its consumer group. Twice is once.
func (r *runtime) forget(ctx context.Context, goal *configs.Config, route *configs.Route, group string) error {
	if err := r.dropPositions(ctx, route.Addr); err != nil {
		return err
	}
	cluster := goal.ClusterOf(route.From.Addr)
	if cluster == nil {
		return nil
	}
	adm, err := r.admin(ctx, cluster)
	if err != nil {
		return err
	}
	return adm.DeleteGroups(ctx, group)
}

// beginAnew gives a route that is stopped the beginning of every partition of
// the topic that its stream has now, whatever its start says: nothing of that
// topic was read yet.
func (r *runtime) beginAnew(ctx context.Context, goal *configs.Config, route *configs.Route, group string) error {
	if err := r.forget(ctx, goal, route, group); err != nil {
		return err
	}
	adm, err := r.admin(ctx, goal.ClusterOf(route.From.Addr))
	if err != nil {
		return err
	}
	name := r.topicNames(goal)(route.From.Addr)
	cluster, topics, err := adm.ObserveOffsets(ctx, name)
	if err != nil {
		return err
	}
	topic := topics[name]
	if !topic.Exists {
		return fmt.Errorf("the topic %q is not there", name)
	}
	at := make([]record.Position, len(topic.Begin))
	for i, offset := range topic.Begin {
		at[i] = record.Position{Partition: int32(i), Offset: max(offset, 0), LeaderEpoch: -1, Identity: topic.ID, Cluster: cluster}
	}
	return adm.SetOffsets(ctx, group, name, at)
}

// notFound is about an address that is not in the goal, or of which nothing runs here.
func (s *server) notFound(a addr.Addr) error {
	goal := s.goals.State().Config
	var known []string
	if goal != nil {
		for at := range goal.Routes {
			known = append(known, at.String())
		}
		if goal.Routes[a] != nil {
			return fmt.Errorf("%s does not run yet; `keystone status` tells what it waits for", a)
		}
	}
	slices.Sort(known)
	return &api.NotFoundError{Addr: a.String(), Known: known}
}
