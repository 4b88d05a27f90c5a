package wire

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"time"

	"keystone/configs"
	"keystone/configs/addr"
	"keystone/dsl"
	"keystone/pipeline"
	"keystone/reconcile"
	"keystone/sinks"
	"keystone/sources"
	"keystone/sources/kafka/admin"
	"keystone/sources/kafka/client"
)

// runtime carries out changes in this process: a unit per route and job, topics on
// the clusters. It implements reconcile.Runtime.
type runtime struct {
	*plant
	base    context.Context // that workers live in
	changed func()          // a unit ended: the loop should look
	serial  func() int64    // of the goal
	// movePositions gives what is stored for a route to its new name; idempotent.
	movePositions func(ctx context.Context, from, to addr.Addr) error
	// dropPositions forgets what is stored for a route; idempotent.
	dropPositions func(ctx context.Context, route addr.Addr) error
	// endRewind takes a rewind off; where the route was moved, what is stored of its positions follows.
	endRewind func(ctx context.Context, r reconcile.Rewind, moved bool, e reconcile.AuditEntry) error
	goal      func() *configs.Config // that is wanted; nil at first
	outside   outside
	step      func(string) // called between the steps of a rewind and of a hand-over, by tests; nil for nothing

	mu      sync.Mutex // guards everything below; no I/O under it
	units   map[addr.Addr]*unit
	jobs    map[addr.Addr]*jobUnit
	streams map[addr.Addr]*topic
	holds   map[addr.Addr]reconcile.Hold // as they are stored
	rewinds map[addr.Addr]*rewinding     // that are not completed, as they are stored
}

// topic is a stream that this runtime was told to have.
type topic struct {
	stream   *configs.Stream
	cluster  *configs.Cluster
	resource *configs.Resource
	name     string
	kept     reconcile.Identity
	since    time.Time
	err      error
	restarts int
}

func newRuntime(ctx context.Context, p *plant, changed func(), goals func() reconcile.GoalState) *runtime {
	return &runtime{plant: p, base: ctx, changed: changed,
		serial: func() int64 { return goals().Revision.Serial }, goal: func() *configs.Config { return goals().Config },
		outside: outside{seen: map[addr.Addr]glance{}},
		units:   map[addr.Addr]*unit{}, jobs: map[addr.Addr]*jobUnit{}, streams: map[addr.Addr]*topic{}, holds: map[addr.Addr]reconcile.Hold{}, rewinds: map[addr.Addr]*rewinding{}}
}

// Apply carries out one change; see reconcile.Runtime.
func (r *runtime) Apply(ctx context.Context, goal *configs.Config, c reconcile.Change) error {
	if c.Blocked != "" {
		return errors.New(c.Blocked)
	}
	switch c.Addr.Type {
	case "stream":
		return r.applyStream(ctx, goal, c)
	case "route":
		return r.applyRoute(ctx, goal, c)
	case "job":
		return r.applyJob(ctx, goal, c)
	case "sink":
		return r.applySink(ctx, goal, c)
	case "cluster":
		r.applyCluster(goal, c.Addr)
	}
	return nil // sources live in the routes that use them
}

// applyCluster has the streams of a cluster looked at where it is now. Routes are changed on their own.
func (r *runtime) applyCluster(goal *configs.Config, a addr.Addr) {
	cluster := goal.Clusters[a]
	if cluster == nil {
		return // it is gone, and so are its streams
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for s, t := range r.streams {
		if t.cluster.Addr == a {
			moved := *t // an observation may be reading the other
			moved.cluster = cluster
			r.streams[s] = &moved
		}
	}
}

func (r *runtime) applyStream(ctx context.Context, goal *configs.Config, c reconcile.Change) error {
	switch c.Action {
	case reconcile.Forget:
		r.dropStream(c.Addr)
		return nil
	case reconcile.Delete:
		return r.deleteStream(ctx, goal, c)
	}
	s := goal.Streams[c.Addr]
	if s == nil {
		return fmt.Errorf("%s is not in the goal", c.Addr)
	}
	t := &topic{stream: s, cluster: goal.Clusters[s.Cluster], resource: c.After, name: s.Topic, kept: c.Kept, since: time.Now()}
	if c.Kept.Topic != "" {
		t.name = c.Kept.Topic
	}
	// Only a new topic under the old name takes the old one's place; otherwise the old one stays.
	if old := asApplied(c); c.Action == reconcile.Replace && old.name == t.name && old.cluster == s.Cluster {
		if err := r.deleteStream(ctx, goal, c); err != nil {
			return err
		}
	}
	err := r.ensure(ctx, t)
	t.err = err
	r.mu.Lock()
	if old := r.streams[c.Addr]; old != nil && old.err != nil {
		if t.restarts = old.restarts; client.Silent(old.err) && client.Silent(err) {
			t.since = old.since // nothing was tried: the cluster is away for as long
		} else {
			t.restarts++
		}
	}
	r.streams[c.Addr] = t
	if !c.MovedFrom.IsZero() {
		delete(r.streams, c.MovedFrom)
	}
	r.mu.Unlock()
	return err
}

// place is where a stream's topic was when the stream was applied last.
type place struct {
	name    string
	cluster addr.Addr
	managed bool
}

// asApplied reads the place from the resource that was applied: this process
// may never have seen the stream.
func asApplied(c reconcile.Change) place {
	if c.Before == nil {
		return place{}
	}
	word := func(name string) string {
		text := c.Before.Options[name].Canonical
		if s, err := strconv.Unquote(text); err == nil {
			return s
		}
		return text
	}
	p := place{name: word("topic"), managed: word("managed") != "false" && word("external") == ""}
	if c.Kept.Topic != "" {
		p.name = c.Kept.Topic
	}
	p.cluster, _ = addr.Parse(word("cluster")) // zero is no cluster
	return p
}

func (r *runtime) ensure(ctx context.Context, t *topic) error {
	adm, err := r.admin(ctx, t.cluster)
	if err != nil {
		return err
	}
	if t.stream.ManagedHere() {
		return ensureTopic(ctx, adm, topicOf(t.stream, t.name))
	}
	_, have, err := adm.Observe(ctx, t.name)
	if err != nil {
		return err
	}
	if !have[t.name].Exists {
		return fmt.Errorf("the topic %q is not on %s, and %s does not manage it: create it, or set managed = true", t.name, t.cluster.Addr, t.stream.Addr)
	}
	return nil
}

func (r *runtime) dropStream(a addr.Addr) {
	r.mu.Lock()
	delete(r.streams, a)
	r.mu.Unlock()
}

// deleteStream deletes the topic of a stream as it was applied last.
func (r *runtime) deleteStream(ctx context.Context, goal *configs.Config, c reconcile.Change) error {
	p := asApplied(c)
	if !p.managed || p.name == "" {
		r.dropStream(c.Addr)
		return nil
	}
	cluster := goal.Clusters[p.cluster]
	r.mu.Lock()
	if t := r.streams[c.Addr]; t != nil && cluster == nil {
		cluster = t.cluster
	}
	r.mu.Unlock()
	if cluster == nil && p.cluster == configs.EmbeddedCluster {
		cluster = &configs.Cluster{Addr: p.cluster, Embedded: true, ClientID: "keystone"}
	}
	if cluster == nil {
		return fmt.Errorf("%s, which has the topic %q, is no longer declared, so the topic cannot be deleted: declare it again, or take the stream out with removed { destroy = false }", p.cluster, p.name)
	}
	adm, err := r.admin(ctx, cluster)
	if err != nil {
		return err
	}
	if err := adm.Delete(ctx, p.name); err != nil {
		return err
	}
	r.dropStream(c.Addr)
	return nil
}

func (r *runtime) applyRoute(ctx context.Context, goal *configs.Config, c reconcile.Change) error {
	if !c.MovedFrom.IsZero() {
		if old := r.unit(c.MovedFrom, false); old != nil {
			if err := old.stop(ctx); err != nil {
				r.log.Warn("the moved route's worker did not drain", "error", err)
			}
			r.mu.Lock()
			delete(r.units, c.MovedFrom)
			r.mu.Unlock()
		}
		if err := r.movePositions(ctx, c.MovedFrom, c.Addr); err != nil {
			return err
		}
		r.moveHold(c.MovedFrom, c.Addr)
		r.moveRewind(c.MovedFrom, c.Addr)
	}
	route := goal.Routes[c.Addr]
	gone := c.Action == reconcile.Delete || c.Action == reconcile.Forget
	if !gone && route == nil {
		return fmt.Errorf("%s is not in the goal", c.Addr)
	}
	u := r.unit(c.Addr, !gone)
	if gone {
		if u == nil {
			return nil
		}
		err := u.stop(ctx)
		r.mu.Lock()
		delete(r.units, c.Addr)
		r.mu.Unlock()
		return err
	}
	if c.Action == reconcile.Update && route.Enabled && r.swap(u, goal, route, c) {
		return nil
	}
	group := route.Group
	if c.Kept.Group != "" {
		group = c.Kept.Group
	}
	if old := r.mayHandOver(u, route, group, c); old != nil {
		return r.handOver(ctx, goal, route, group, c, u, old)
	}
	if c.Action == reconcile.Drain && route.Enabled {
		u.stay()
	}
	if err := u.stop(ctx); err != nil {
		r.log.Warn("the route's worker did not drain; what was in flight is read again", "error", err)
	}
	if c.Action == reconcile.Replace { // its positions count in what is no longer there
		if err := r.forget(ctx, goal, route, group); err != nil {
			u.fail(c.After, err)
			return err
		}
	}
	if err := r.completeRewind(ctx, goal, route, group, c.Action == reconcile.Replace); err != nil {
		u.fail(c.After, err)
		return err
	}
	if !route.Enabled {
		u.disable(c.After)
		return nil
	}
	if u.rests(c.After) {
		return nil
	}
	w, ended, err := r.worker(ctx, goal, route, group, u, u.berth())
	if err != nil {
		u.fail(c.After, err)
		return err
	}
	u.start(r.base, w, c.After, route, group, c.Kept, ended)
	return nil
}

// worker makes a worker of a route, for a place in its group, and what is to be done when it has ended.
func (r *runtime) worker(ctx context.Context, goal *configs.Config, route *configs.Route, group string, u *unit, at berth) (*pipeline.Worker, func(), error) {
	w, flush, err := r.build(ctx, job{cfg: goal, route: route, group: group, topics: r.topicNames(goal), revision: r.serial(), store: true,
		taps: u.tap, programs: u.programs, seat: at.seat, first: at.first, stays: u.staying})
	if err != nil {
		return nil, nil, err
	}
	return w, func() {
		if err := flush(r.base); err != nil {
			u.log.Warn("the mirrored positions are older than the group's own", "error", err)
		}
		r.changed()
	}, nil
}

// swap changes what is live of a running route, and tells whether it could.
func (r *runtime) swap(u *unit, goal *configs.Config, route *configs.Route, c reconcile.Change) bool {
	w := u.running()
	if w == nil {
		return false
	}
	if s, ok := w.Source().(sources.Pruner); ok && !s.Pruned().Covers(dsl.ScanOf(route.Checked)) {
		return false // another one reads what this one leaves out
	}
	if s, ok := w.Sink().(sinks.Typed); ok && !s.Takes(route.Written()) {
		return false // another one has the columns for what is new
	}
	program, err := dsl.Compile(route.Checked)
	if err != nil {
		return false // build says why
	}
	if err := u.programs.add(goal, route, kindOf(goal, route.From.Addr)); err != nil {
		return false
	}
	w.Swap(program, route, r.serial())
	u.mu.Lock()
	u.resource = c.After
	u.mu.Unlock()
	u.log.Info("route changed while it runs")
	return true
}

// topicNames gives the topics of streams, moved ones under the name that they kept.
func (r *runtime) topicNames(goal *configs.Config) func(addr.Addr) string {
	own := ownTopics(goal)
	return func(a addr.Addr) string {
		r.mu.Lock()
		defer r.mu.Unlock()
		if t := r.streams[a]; t != nil {
			return t.name
		}
		return own(a)
	}
}

func (r *runtime) unit(a addr.Addr, create bool) *unit {
	r.mu.Lock()
	defer r.mu.Unlock()
	u := r.units[a]
	if u == nil && create {
		u = &unit{addr: a, log: r.log.With("route", a.String()), tap: &taps{}, programs: &programs{to: r.programs}, health: reconcile.Stopped}
		if h, ok := r.holds[a]; ok {
			u.held = &h
		}
		r.units[a] = u
	}
	return u
}

// stop drains every route and job, all at once, within ctx.
func (r *runtime) stop(ctx context.Context) error {
	var units []interface{ stop(context.Context) error }
	r.mu.Lock()
	for _, u := range r.units {
		units = append(units, u)
	}
	for _, u := range r.jobs {
		units = append(units, u)
	}
	r.mu.Unlock()
	errs := make([]error, len(units))
	var wg sync.WaitGroup
	for i, u := range units {
		wg.Go(func() { errs[i] = u.stop(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// observeTimeout bounds one look at a cluster: an unreachable one must not
// hold up the others' news.
const observeTimeout = 5 * time.Second

// Observe tells what runs and what the clusters hold.
func (r *runtime) Observe(ctx context.Context) (reconcile.Observed, error) {
	o := reconcile.Observed{At: time.Now(), States: map[addr.Addr]reconcile.State{}, Unreachable: map[addr.Addr]string{}}
	r.mu.Lock()
	units, jobs := maps.Clone(r.units), maps.Clone(r.jobs)
	byCluster := map[*configs.Cluster]map[addr.Addr]*topic{}
	for a, t := range r.streams {
		if byCluster[t.cluster] == nil {
			byCluster[t.cluster] = map[addr.Addr]*topic{}
		}
		byCluster[t.cluster][a] = t
	}
	r.mu.Unlock()
	for a, u := range units {
		st := u.state()
		st.Lanes = nil // nobody compares them, and there may be many
		st.Rewind = r.rewindOf(a)
		o.States[a] = st
	}
	for a, u := range jobs {
		o.States[a] = u.state()
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	wg.Go(func() { o.Outside = r.lookOutside(ctx, r.goal(), glanceLife) })
	for c, topics := range byCluster {
		wg.Go(func() {
			states, err := r.observeCluster(ctx, c, topics)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				o.Unreachable[c.Addr] = err.Error()
			}
			maps.Copy(o.States, states)
		})
	}
	wg.Wait()
	return o, ctx.Err()
}

// observeCluster gives the state of the streams of one cluster; with an error, what is known without it.
func (r *runtime) observeCluster(ctx context.Context, c *configs.Cluster, topics map[addr.Addr]*topic) (map[addr.Addr]reconcile.State, error) {
	ctx, cancel := context.WithTimeout(ctx, observeTimeout)
	defer cancel()
	states := make(map[addr.Addr]reconcile.State, len(topics))
	names := make([]string, 0, len(topics))
	for _, t := range topics {
		names = append(names, t.name)
	}
	adm, err := r.admin(ctx, c)
	var have map[string]admin.Topic
	if err == nil {
		_, have, err = adm.ObserveOffsets(ctx, names...)
	}
	for a, t := range topics {
		st := reconcile.State{Resource: t.resource, Health: reconcile.Running, Since: t.since, Kept: t.kept, Restarts: t.restarts, Lag: -1, Topic: reconcile.Topic{Name: t.name, Records: -1}}
		switch {
		case err != nil:
			why := err
			if t.err != nil && client.Silent(t.err) {
				why = t.err // of a try that had more time than a look: it knows more
			}
			st.Health, st.Unreachable = reconcile.Degraded, c.Addr
			st.Error = fmt.Sprintf("%s cannot be reached, so it is not known whether the topic %q is there and as it should be: %v", c.Addr, t.name, why)
		case t.err != nil:
			st.Health, st.Error = reconcile.Failed, t.err.Error()
		default:
			t.compare(&st, have[t.name])
		}
		states[a] = st
	}
	return states, err
}

// compare says how the topic differs from the stream. Differences that
// applying cannot mend degrade it; they are no drift.
func (t *topic) compare(st *reconcile.State, have admin.Topic) {
	st.Topic.ID, st.Topic.Partitions, st.Topic.Records = have.ID, have.Partitions, held(have)
	switch {
	case !have.Exists:
		st.Health = reconcile.Missing
		st.Drift = []string{"the topic is missing"}
	case t.stream.ManagedHere():
		want := topicOf(t.stream, t.name)
		if want.Partitions < have.Partitions {
			want.Partitions = 0
			st.Health, st.Error = reconcile.Degraded, fmt.Sprintf("the topic has %d partitions and %d are wanted; Kafka cannot take partitions away: set partitions = %d", have.Partitions, t.stream.Partitions, have.Partitions)
		}
		if want.Replication > 0 && want.Replication != have.Replication {
			st.Health, st.Error = reconcile.Degraded, fmt.Sprintf("the topic has replication %d and %d is wanted; moving replicas is left to the cluster's own tools", have.Replication, want.Replication)
			want.Replication = 0
		}
		st.Drift = have.Differences(want)
	}
}

// held counts the records that a topic holds, -1 if that is not known.
func held(t admin.Topic) int64 {
	if len(t.End) == 0 || len(t.Begin) != len(t.End) {
		return -1
	}
	var n int64
	for i := range t.End {
		if t.Begin[i] < 0 || t.End[i] < 0 {
			return -1
		}
		n += t.End[i] - t.Begin[i]
	}
	return n
}
