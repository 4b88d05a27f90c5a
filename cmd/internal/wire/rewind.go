package wire

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"keystone/cmd/internal/api"
	"keystone/configs"
	"keystone/configs/addr"
	"keystone/pipeline/record"
	"keystone/reconcile"
	"keystone/sources/file"
	"keystone/sources/kafka/admin"
)

// Rewind has a route go on elsewhere in its source; see api.Operator.
func (s *server) Rewind(ctx context.Context, o api.Rewind) (api.Rewound, error) {
	a, err := addr.Parse(o.Address)
	if err != nil {
		return api.Rewound{}, err
	}
	goal := s.goals.State()
	if goal.Config == nil || goal.Config.Routes[a] == nil {
		return api.Rewound{}, s.notFound(a)
	}
	plan, rw, err := s.planRewind(ctx, goal.Config, goal.Config.Routes[a], o)
	if err != nil || o.Plan || !plan.Moves() {
		plan.Plan = true
		return plan, err
	}
	if plan.Skipped > 0 && !o.Skip {
		return plan, fmt.Errorf("%w: %d %s would be skipped and never delivered; agree to that with -allow-skip", api.ErrUnsupported, plan.Skipped, plan.Unit)
	}
	if o.PlannedTopic != "" && o.PlannedTopic != plan.TopicID {
		return plan, fmt.Errorf("the topic was created again since the plan was made; plan again")
	}
	for _, p := range s.loop.Status().Withheld {
		if p.Change.Addr == a {
			return plan, fmt.Errorf("a change of %s is withheld (%s): bring it about or take it back first", a, p.Reason)
		}
	}
	rw.ID, rw.At, rw.Who = rand.Text(), time.Now(), o.Who
	if rw.Who == "" {
		rw.Who = "unknown"
	}
	plan.ID = rw.ID
	s.runtime.stepped("before anything")
	work := context.WithoutCancel(ctx)
	err = s.state.BeginRewind(work, rw, reconcile.AuditEntry{Time: rw.At, Who: rw.Who, Action: "rewind", Addr: a.String(), Serial: goal.Revision.Serial,
		Detail: fmt.Sprintf("%s (%s): %s", rw.How, rw.ID, moved(plan))})
	if err != nil {
		return plan, err
	}
	s.runtime.stepped("the rewind is written down")
	p := s.runtime.begin(rw)
	s.loop.Retry(a)
	timer := time.NewTimer(operateTimeout)
	defer timer.Stop()
	select {
	case <-p.done:
		return plan, p.err
	case <-timer.C:
		return plan, fmt.Errorf("the rewind is written down and not completed yet; it goes on: `keystone status` tells what it waits for")
	case <-ctx.Done():
		return plan, ctx.Err()
	}
}

// moved says in one line where partitions go.
func moved(plan api.Rewound) string {
	var parts []string
	for _, p := range plan.Partitions {
		if p.From != p.To {
			parts = append(parts, fmt.Sprintf("%d: %d -> %d", p.Partition, p.From, p.To))
		}
	}
	const most = 16
	if n := len(parts); n > most {
		parts = append(parts[:most], fmt.Sprintf("and %d more", n-most))
	}
	return strings.Join(parts, ", ")
}

// planRewind works out where every partition goes on, and what is repeated and skipped.
func (s *server) planRewind(ctx context.Context, goal *configs.Config, route *configs.Route, o api.Rewind) (api.Rewound, reconcile.Rewind, error) {
	kind := kindOf(goal, route.From.Addr)
	plan := api.Rewound{FormatVersion: api.FormatVersion, Addr: route.Addr.String(), Source: route.From.Addr.String(), Unit: "records", How: how(o)}
	rw := reconcile.Rewind{Addr: route.Addr, How: plan.How, Source: sourceName(route, kind)}
	var err error
	if goal.Streams[route.From.Addr] != nil {
		err = s.planStream(ctx, goal, route, o, &plan, &rw)
	} else {
		err = s.planStored(ctx, goal, route, kind, o, &plan, &rw)
	}
	if err != nil {
		return plan, rw, err
	}
	for _, p := range plan.Partitions {
		plan.Repeated += p.Repeated
		plan.Skipped += p.Skipped
	}
	plan.Notes = append(plan.Notes, effects(goal, route, plan)...)
	if h := s.runtime.holdOf(route.Addr); h != nil {
		plan.Notes = append(plan.Notes, "it is "+h.String()+", and stays so")
	}
	return plan, rw, nil
}

// how says what was asked for, as it was written.
func how(o api.Rewind) string {
	switch {
	case !o.Time.IsZero():
		return "-to " + o.Time.UTC().Format(time.RFC3339)
	case o.By > 0:
		return "-by " + o.By.String()
	case o.Start:
		return "-to-start"
	case o.End:
		return "-to-end"
	}
	at := make([]string, len(o.Offsets))
	for i, p := range o.Offsets {
		at[i] = fmt.Sprintf("%d:%d", p.Partition, p.Offset)
	}
	return "-to-offset " + strings.Join(at, ",")
}

// planStream asks the cluster where the group is and where the topic's records are.
func (s *server) planStream(ctx context.Context, goal *configs.Config, route *configs.Route, o api.Rewind, plan *api.Rewound, rw *reconcile.Rewind) error {
	adm, err := s.plant.admin(ctx, goal.ClusterOf(route.From.Addr))
	if err != nil {
		return err
	}
	rw.Topic, rw.Group = s.runtime.topicNames(goal)(route.From.Addr), route.Group
	if u := s.runtime.unit(route.Addr, false); u != nil {
		rw.Group = u.groupOf(route)
	}
	cluster, topics, err := adm.ObserveOffsets(ctx, rw.Topic)
	if err != nil {
		return err
	}
	topic := topics[rw.Topic]
	if !topic.Exists {
		return fmt.Errorf("the topic %q of %s is not there", rw.Topic, route.From.Addr)
	}
	plan.TopicID = topic.ID
	groups, err := adm.Groups(ctx, rw.Group)
	if err != nil {
		return err
	}
	if err := groups[rw.Group].Err; err != nil {
		return err
	}
	from := make([]int64, topic.Partitions)
	for i := range from {
		from[i] = -1
	}
	rw.From = s.reached(route.Addr, groups[rw.Group].Committed[rw.Topic])
	rw.From = slices.DeleteFunc(rw.From, func(p record.Position) bool { return int(p.Partition) >= len(from) })
	for _, p := range rw.From {
		from[p.Partition] = p.Offset
	}
	strangers, err := adm.Strangers(ctx, rw.Group, instances(s.plant.stateDir, route.Addr)...)
	if err != nil {
		return err
	}
	if len(strangers) > 0 {
		err := &admin.MembersError{Group: rw.Group, Members: strangers}
		if !o.Plan { // before its worker is stopped for nothing
			return err
		}
		plan.Notes = append(plan.Notes, "it would be refused now: "+err.Error())
	}
	to, err := s.targets(ctx, adm, rw.Topic, topic.Begin, topic.End, o)
	if err != nil {
		return err
	}
	for i, at := range to {
		if at < 0 {
			continue // it stays where it is
		}
		p := int32(i)
		one := api.RewindPartition{Partition: p, From: from[i], To: at}
		if from[i] >= 0 {
			one.Repeated = max(0, min(from[i], topic.End[i])-at)
			one.Skipped = max(0, at-max(from[i], topic.Begin[i]))
		} else {
			one.Skipped = at - topic.Begin[i]
		}
		plan.Partitions = append(plan.Partitions, one)
		rw.To = append(rw.To, record.Position{Partition: p, Offset: at, LeaderEpoch: -1, Identity: topic.ID, Cluster: cluster, Name: rw.Topic})
	}
	return nil
}

// reached gives where the route is: where its worker reads, which may be ahead of what is stored, and what is stored
// of partitions that no worker here has. What was read and is not stored yet is delivered all the same.
func (s *server) reached(a addr.Addr, stored []record.Position) []record.Position {
	out := slices.Clone(stored)
	u := s.runtime.unit(a, false)
	if u == nil {
		return out
	}
	w := u.running()
	if w == nil {
		return out
	}
	for _, l := range w.Stats().Lanes {
		i := slices.IndexFunc(out, func(p record.Position) bool { return p.Partition == l.Partition })
		switch {
		case i < 0:
			out = append(out, l.Next)
		case l.Next.Offset > out[i].Offset:
			out[i] = l.Next
		}
	}
	return out
}

// offsetLister is what targets asks of a cluster.
type offsetLister interface {
	OffsetsAt(ctx context.Context, topic string, at time.Time) ([]int64, error)
}

// targets gives per partition where it is to go on; -1 where it stays.
func (s *server) targets(ctx context.Context, adm offsetLister, topic string, begin, end []int64, o api.Rewind) ([]int64, error) {
	for i := range begin {
		if begin[i] < 0 || end[i] < 0 {
			return nil, fmt.Errorf("partition %d of topic %s has no leader now: its offsets are not known; try again", i, topic)
		}
	}
	given := o.Offsets
	if len(o.Planned) > 0 {
		given = o.Planned
	}
	to := make([]int64, len(begin))
	switch {
	case len(given) > 0:
		for i := range to {
			to[i] = -1
		}
		for _, p := range given {
			if int(p.Partition) >= len(to) || p.Partition < 0 {
				return nil, fmt.Errorf("topic %s has no partition %d; it has %d, from 0 on", topic, p.Partition, len(to))
			}
			if b, e := begin[p.Partition], end[p.Partition]; p.Offset > e || p.Offset < b && len(o.Planned) == 0 {
				return nil, fmt.Errorf("partition %d of topic %s has the offsets %d to %d; %d is not among them", p.Partition, topic, b, e, p.Offset)
			}
			to[p.Partition] = max(p.Offset, begin[p.Partition])
		}
		return to, nil
	case o.Start:
		copy(to, begin)
		return to, nil
	case o.End:
		copy(to, end)
		return to, nil
	}
	at := o.Time
	if o.By > 0 {
		at = time.Now().Add(-o.By)
	}
	if at.IsZero() {
		return nil, errors.New("where to is missing: say -to, -by, -to-offset, -to-start or -to-end")
	}
	found, err := adm.OffsetsAt(ctx, topic, at)
	if err != nil {
		return nil, err
	}
	for i := range to {
		to[i] = end[i] // nothing of that time or later
		if i < len(found) && found[i] >= 0 {
			to[i] = min(max(found[i], begin[i]), end[i])
		}
	}
	return to, nil
}

// planStored is about sources whose positions are in the store.
func (s *server) planStored(ctx context.Context, goal *configs.Config, route *configs.Route, kind string, o api.Rewind, plan *api.Rewound, rw *reconcile.Rewind) error {
	switch {
	case kind == "stdin":
		return fmt.Errorf("%w: %s reads standard input, which cannot be read again", api.ErrUnsupported, route.Addr)
	case o.End, !o.Time.IsZero(), o.By > 0:
		return fmt.Errorf("%w: %s is a source of kind %s, whose positions are not times, and whose end moves as it is read; use -to-start or -to-offset PARTITION:OFFSET", api.ErrUnsupported, route.From.Addr, kind)
	}
	if kind == "file" {
		plan.Unit = "bytes"
	}
	from, _, err := s.plant.positions(rw.Source, "").LoadPositions(ctx, route.Addr)
	if err != nil {
		return err
	}
	if from = s.reached(route.Addr, from); len(from) == 0 {
		return fmt.Errorf("%w: %s has no stored positions in %s: it begins at its start in any case", api.ErrUnsupported, route.Addr, route.From.Addr)
	}
	given := o.Offsets
	if len(o.Planned) > 0 {
		given = o.Planned
	}
	rw.From = from
	for _, p := range from {
		to := p
		to.Offset = 0
		if !o.Start {
			i := slices.IndexFunc(given, func(g api.PartitionOffset) bool { return g.Partition == p.Partition })
			if i < 0 {
				continue
			}
			to.Offset = given[i].Offset
		}
		if c, ok := goal.Sources[route.From.Addr].Config.(*file.Config); ok {
			if err := lineStarts(c, p, to.Offset); err != nil {
				return err
			}
		}
		rw.To = append(rw.To, to)
		plan.Partitions = append(plan.Partitions, api.RewindPartition{Partition: p.Partition, Name: p.Name, From: p.Offset, To: to.Offset,
			Repeated: max(0, p.Offset-to.Offset), Skipped: max(0, to.Offset-p.Offset)})
	}
	for _, g := range given {
		if !o.Start && !slices.ContainsFunc(from, func(p record.Position) bool { return p.Partition == g.Partition }) {
			return fmt.Errorf("%s has no partition %d; `keystone rewind -to-start -plan` shows them", route.From.Addr, g.Partition)
		}
	}
	return nil
}

// lineStarts refuses an offset in the middle of a line.
func lineStarts(c *file.Config, p record.Position, at int64) error {
	if at == 0 || at == p.Offset {
		return nil
	}
	ext := filepath.Ext(p.Name)
	if packed := c.Compression == file.Auto && (ext == ".gz" || ext == ".zst"); packed || c.Compression == file.Gzip || c.Compression == file.Zstd {
		return fmt.Errorf("%w: %s is compressed: use -to-start", api.ErrUnsupported, p.Name)
	}
	f, err := os.Open(p.Name)
	if err != nil {
		return fmt.Errorf("whether a line begins at %d of %s cannot be seen: %w", at, p.Name, err)
	}
	defer f.Close() //nolint:errcheck // it was read only
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at-1); err != nil || b[0] != '\n' {
		return fmt.Errorf("no line begins at byte %d of %s; positions in files are where lines begin", at, p.Name)
	}
	return nil
}

// effects says what a rewind does to what the route writes.
func effects(goal *configs.Config, route *configs.Route, plan api.Rewound) []string {
	var out []string
	if plan.Repeated > 0 {
		to := route.To.Addr
		switch sink := goal.Sinks[to]; {
		case goal.Streams[to] != nil:
			out = append(out, fmt.Sprintf("what is read again is written to %s again, behind what is there", to))
		case sink != nil && sink.Kind == "file":
			out = append(out, fmt.Sprintf("what is read again is appended to the files of %s again; what is there stays", to))
		default:
			out = append(out, fmt.Sprintf("what is read again is delivered to %s again", to))
		}
		if route.Delivery.Guarantee != configs.AtLeastOnce {
			out = append(out, fmt.Sprintf("%s counts from the new positions on: what was delivered before is delivered once more", route.Delivery.Guarantee))
		}
	}
	out = append(out, fmt.Sprintf("its worker stops for it; what is in flight is finished first, within %v (drain_timeout)", route.Delivery.DrainTimeout))
	return out
}

// Rewind needs a running server: the cluster knows where the records are.
func (o *offline) Rewind(context.Context, api.Rewind) (api.Rewound, error) {
	return api.Rewound{}, fmt.Errorf("%w: nothing runs here, and a rewind asks the cluster; to rewind before anything is read, `keystone drain` the route, start `keystone serve`, rewind, and `keystone resume` it", api.ErrUnsupported)
}
