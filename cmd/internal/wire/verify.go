package wire

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"keystone/cmd/internal/api"
	"keystone/configs"
	"keystone/configs/addr"
	"keystone/dsl"
	"keystone/pipeline/verify"
	"keystone/reconcile"
	"keystone/reconcile/store"
	sinkkafka "keystone/sinks/kafka"
	"keystone/sources/kafka/admin"
	"keystone/sources/kafka/client"
)

// Bounds of one verification.
const (
	verifySize    = 4 << 20 // records and outputs of one pass: about 70 MB
	verifyPending = 100_000 // outputs that are looked at again before more are read
	verifyLetters = 2_000_000
	stableTimeout = time.Minute // how long open transactions are waited for
)

// verifier judges one route. It belongs to one call.
type verifier struct {
	plant    *plant
	route    *configs.Route
	goal     *configs.Config
	topics   func(addr.Addr) string
	group    string
	programs programStore
	opts     api.VerifyOptions
	progress func(api.VerifyProgress)
	size     int // of one pass

	limiter  *rate.Limiter
	source   topicAt
	topicID  string
	compact  bool // the source is
	digests  *verify.Digests
	judges   []*judged
	names    map[string]bool // that the route had
	segments map[int32][]verify.Segment
	sinks    []topicAt
	letters  []letterAt
	cutOff   bool // dead letters were removed
	report   *verify.Report
	told     time.Time
	phase    api.VerifyProgress
}

// topicAt is a topic on a cluster.
type topicAt struct {
	cluster *configs.Cluster
	client  client.Options
	admin   *admin.Admin
	topic   string
}

// judged is one program of the history.
type judged struct {
	*verify.Judge        // nil: it cannot be read, or judged
	why           string // then
	cfg           *configs.Config
}

// Verify judges what a route wrote; see api.Backend. One at a time.
func (s *server) Verify(ctx context.Context, a addr.Addr, o api.VerifyOptions, progress func(api.VerifyProgress)) (api.VerifyReport, error) {
	goal := s.goals.State().Config
	if goal == nil || goal.Routes[a] == nil {
		return api.VerifyReport{}, s.notFound(a)
	}
	select {
	case s.verifying <- struct{}{}:
		defer func() { <-s.verifying }()
	case <-ctx.Done():
		return api.VerifyReport{}, ctx.Err()
	}
	route := goal.Routes[a]
	group := route.Group
	if u := s.runtime.unit(a, false); u != nil {
		group = u.groupOf(route)
	}
	v := &verifier{plant: s.plant, route: route, goal: goal, topics: s.runtime.topicNames(goal), group: group, programs: s.plant.programs, opts: o, progress: progress, size: verifySize}
	return v.run(ctx)
}

// Verify judges what a route wrote that does not run now.
func (o *offline) Verify(ctx context.Context, a addr.Addr, opts api.VerifyOptions, progress func(api.VerifyProgress)) (api.VerifyReport, error) {
	v, err := o.verifier(ctx, a)
	if err != nil {
		return api.VerifyReport{}, err
	}
	defer v.plant.close()
	v.opts, v.progress = opts, progress
	return v.run(ctx)
}

// verifier makes one whose plant is to be closed.
func (o *offline) verifier(ctx context.Context, a addr.Addr) (*verifier, error) {
	_, goal, err := o.stored(ctx)
	if err != nil {
		return nil, err
	}
	if goal == nil || goal.Routes[a] == nil {
		e := &api.NotFoundError{Addr: a.String()}
		if goal != nil {
			for at := range goal.Routes {
				e.Known = append(e.Known, at.String())
			}
		}
		return nil, e
	}
	rows, err := o.state.LoadApplied(ctx)
	if err != nil {
		return nil, err
	}
	was := map[addr.Addr]reconcile.State{}
	for _, r := range rows {
		was[r.Addr] = reconcile.State{Resource: r.Resource, Kept: r.Kept}
	}
	reconcile.Adopt(goal, was)
	p := newPlant(goal, slog.New(slog.DiscardHandler))
	p.stateDir = o.dir
	p.use(goal)
	route := goal.Routes[a]
	return &verifier{plant: p, route: route, goal: goal, topics: ownTopics(goal), group: route.Group, programs: o.state, size: verifySize}, nil
}

func (v *verifier) run(ctx context.Context) (api.VerifyReport, error) {
	began := time.Now()
	v.report = &verify.Report{
		FormatVersion: api.FormatVersion, Route: v.route.Addr.String(), Source: v.route.From.Addr.String(), Guarantee: v.route.Delivery.Guarantee,
		Sinks: []string{}, DeadLetters: []string{}, Partitions: []verify.Counts{}, Began: began.UTC(),
	}
	if v.opts.Rate > 0 {
		v.limiter = rate.NewLimiter(rate.Limit(v.opts.Rate), int(min(v.opts.Rate, 10_000)))
	}
	if err := v.refuse(); err != nil {
		return *v.report, err
	}
	ranges, err := v.prepare(ctx)
	if err != nil {
		return *v.report, err
	}
	if len(ranges) > 0 {
		if err := v.readLetters(ctx, ranges); err != nil {
			return *v.report, err
		}
	}
	for pass := 1; len(ranges) > 0; pass++ {
		v.phase.Pass = pass
		if ranges, err = v.pass(ctx, ranges); err != nil {
			return *v.report, err
		}
	}
	v.report.Elapsed = time.Since(began)
	v.report.Finish()
	return *v.report, nil
}

// refuse says why a route cannot be verified.
func (v *verifier) refuse() error {
	r := v.route
	if v.goal.Streams[r.From.Addr] == nil {
		return fmt.Errorf("%w: verify reads a stream again and compares; %s reads %s, which is none", api.ErrUnsupported, r.Addr, r.From.Addr)
	}
	switch to := v.goal.Streams[r.To.Addr]; {
	case to == nil:
		return fmt.Errorf("%w: what %s writes to %s does not say which event it came from, so it cannot be compared; routes to streams can", api.ErrUnsupported, r.Addr, r.To.Addr)
	case !to.Origin:
		return fmt.Errorf("%w: %s has origin = false, so its records do not say which event they came from; with origin = true what is written from then on can be verified", api.ErrUnsupported, to.Addr)
	}
	return nil
}

func (v *verifier) place(ctx context.Context, cfg *configs.Config, stream addr.Addr, topic string) (topicAt, error) {
	cluster := cfg.ClusterOf(stream)
	if now := v.goal.Clusters[cluster.Addr]; now != nil {
		cluster = now // its secrets are known
	}
	o, err := v.plant.clientOptions(ctx, cluster)
	if err != nil {
		return topicAt{}, err
	}
	a, err := v.plant.admin(ctx, cluster)
	return topicAt{cluster: cluster, client: o, admin: a, topic: topic}, err
}

func (p *topicAt) observe(ctx context.Context) (admin.Topic, error) {
	_, topics, err := p.admin.ObserveOffsets(ctx, p.topic)
	if err != nil {
		return admin.Topic{}, err
	}
	return topics[p.topic], topics[p.topic].Err
}

// stretch is offsets of one source partition.
type stretch struct {
	partition int32
	from, to  int64
}

// prepare finds out what is to be judged, and by which programs.
func (v *verifier) prepare(ctx context.Context) ([]stretch, error) {
	var err error
	if v.source, err = v.place(ctx, v.goal, v.route.From.Addr, v.topics(v.route.From.Addr)); err != nil {
		return nil, err
	}
	topic, err := v.source.observe(ctx)
	if err != nil {
		return nil, err
	}
	if !topic.Exists {
		return nil, fmt.Errorf("the topic %q of %s does not exist", v.source.topic, v.route.From.Addr)
	}
	v.topicID, v.compact = topic.ID, compacted(topic)
	v.report.SourceTopic, v.report.TopicID = v.source.topic, topic.ID
	// The order matters: what is committed has its outcomes, and its programs were stored before.
	groups, err := v.source.admin.Groups(ctx, v.group)
	if err == nil {
		err = groups[v.group].Err
	}
	if err != nil {
		return nil, err
	}
	history, err := v.programs.Programs(ctx, v.route.Addr, sourceName(v.route, "kafka"))
	if err != nil {
		return nil, err
	}
	if err := v.learn(history); err != nil {
		return nil, err
	}
	if err := v.destinations(ctx); err != nil {
		return nil, err
	}
	since, err := v.offsetsAt(ctx, v.opts.Since)
	if err != nil {
		return nil, err
	}
	until, err := v.offsetsAt(ctx, v.opts.Until)
	if err != nil {
		return nil, err
	}
	var out []stretch
	for _, c := range groups[v.group].Committed[v.source.topic] {
		if c.Identity != "" && c.Identity != topic.ID {
			return nil, fmt.Errorf("%w: the topic %q was deleted and created again since %s read it: its offsets mean other records", api.ErrUnsupported, v.source.topic, v.route.Addr)
		}
		p := int(c.Partition)
		if p >= len(topic.Begin) || len(v.opts.Partitions) > 0 && !slices.Contains(v.opts.Partitions, c.Partition) {
			continue
		}
		r := stretch{c.Partition, 0, c.Offset}
		if since != nil {
			r.from = max(r.from, since[p])
		}
		if until != nil {
			r.to = min(r.to, until[p])
		}
		if v.opts.From != nil {
			r.from = max(r.from, *v.opts.From)
		}
		if v.opts.To != nil {
			r.to = min(r.to, *v.opts.To)
		}
		if v.opts.Limit > 0 {
			r.from = max(r.from, r.to-v.opts.Limit)
		}
		if r, ok := v.clip(r, topic.Begin[p]); ok {
			out = append(out, r)
		}
	}
	if len(groups[v.group].Committed[v.source.topic]) == 0 {
		v.note("the group %s has committed nothing on %s yet", v.group, v.source.topic)
	}
	return out, nil
}

// clip leaves out what retention removed, and what was read before programs were kept.
func (v *verifier) clip(r stretch, begin int64) (stretch, bool) {
	c := verify.Counts{Partition: r.partition, From: r.from, To: r.from, Unjudged: map[string]int64{}}
	skip := func(to int64, why string) {
		if to = min(to, r.to); to > r.from {
			c.Unjudged[why] += to - r.from
			r.from, c.To = to, to
		}
	}
	if v.opts.From != nil { // else everything that is there was asked for
		skip(begin, verify.ReasonSourceCut)
	}
	r.from = max(r.from, min(begin, r.to))
	first := int64(math.MaxInt64)
	if s := v.segments[r.partition]; len(s) > 0 {
		first = s[0].From
	}
	if first > r.from && r.from < r.to {
		v.note("partition %d: no program is known for offsets %d to %d", r.partition, r.from, min(first, r.to)-1)
		r.from = min(first, r.to)
	}
	if len(c.Unjudged) > 0 {
		v.report.AddPartition(c)
	}
	return r, r.from < r.to
}

func (v *verifier) offsetsAt(ctx context.Context, at time.Time) ([]int64, error) {
	if at.IsZero() {
		return nil, nil
	}
	return v.source.admin.OffsetsAt(ctx, v.source.topic, at)
}

func (v *verifier) note(format string, args ...any) {
	if len(v.report.Notes) < 20 {
		v.report.Notes = append(v.report.Notes, fmt.Sprintf(format, args...))
	}
}

// learn reads the programs that ran over the topic as it is now.
func (v *verifier) learn(history []store.Program) error {
	v.digests = verify.NewDigests(sinkkafka.OriginHeader)
	v.names = map[string]bool{v.route.Addr.String(): true}
	v.segments = map[int32][]verify.Segment{}
	known := map[string]int{}
	runs := map[int32][]verify.Run{}
	for _, h := range history {
		if h.Identity != v.topicID {
			continue
		}
		run := verify.Run{First: h.First, Program: verify.None, Swapped: h.Begin == store.ProgramSwap, Rewound: h.Begin == store.ProgramRewind}
		if h.Begin != store.ProgramSkip {
			i, ok := known[string(h.Goal)]
			if !ok {
				i = len(v.judges)
				known[string(h.Goal)] = i
				v.judges = append(v.judges, v.judge(h))
			}
			run.Program = i
		}
		runs[h.Partition] = append(runs[h.Partition], run)
	}
	for p, rs := range runs {
		v.segments[p] = verify.Segments(rs)
	}
	if len(v.judges) == 0 {
		v.note("no program of %s is known yet: it is stored with the first commit", v.route.Addr)
	}
	// A dead letter may have been replayed through what runs now.
	program, err := dsl.Compile(v.route.Checked)
	if err != nil {
		return fmt.Errorf("compile %s: %w", v.route.Addr, err)
	}
	v.judges = append(v.judges, &judged{Judge: verify.NewJudge(v.route, 0, program, v.digests), cfg: v.goal})
	return nil
}

// judge reads one program. What cannot be read is no reason to give up: other offsets have others.
func (v *verifier) judge(h store.Program) *judged {
	cfg, err := DecodeGoal(h.Goal)
	if err != nil || len(cfg.Routes) != 1 {
		v.note("the program of revision %d cannot be read by this version, its offsets are skipped: %v", h.Revision, err)
		return &judged{why: verify.ReasonUnreadable}
	}
	for a, r := range cfg.Routes {
		v.names[a.String()] = true
		to := cfg.Streams[r.To.Addr]
		if to == nil || !to.Origin {
			return &judged{why: verify.ReasonNoOrigin}
		}
		program, err := dsl.Compile(r.Checked)
		if err != nil {
			v.note("the program of revision %d cannot be compiled, its offsets are skipped: %v", h.Revision, err)
			return &judged{why: verify.ReasonUnreadable}
		}
		return &judged{Judge: verify.NewJudge(r, h.Revision, program, v.digests), cfg: cfg}
	}
	return nil
}

// destinations finds the topics that the programs wrote to.
func (v *verifier) destinations(ctx context.Context) error {
	for _, j := range v.judges {
		if j.Judge == nil {
			continue
		}
		to := j.Route.To.Addr
		topic := j.cfg.Streams[to].Topic
		if v.goal.Streams[to] != nil {
			topic = v.topics(to)
		}
		if slices.ContainsFunc(v.sinks, func(p topicAt) bool { return p.topic == topic && p.cluster.Addr == j.cfg.Streams[to].Cluster }) {
			continue
		}
		p, err := v.place(ctx, j.cfg, to, topic)
		if err != nil {
			return err
		}
		v.sinks = append(v.sinks, p)
		v.report.Sinks = append(v.report.Sinks, topic)
	}
	return nil
}

func compacted(t admin.Topic) bool {
	return slices.Contains(splitWords(t.Config["cleanup.policy"]), "compact")
}

// errTooManyLetters bounds memory.
var errTooManyLetters = errors.New("there are more than 2,000,000 dead letters in the range: narrow it, by -since or -partition")
