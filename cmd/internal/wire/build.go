package wire

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"keystone/configs"
	"keystone/configs/addr"
	"keystone/dsl"
	"keystone/pipeline"
	"keystone/pipeline/deadletter"
	"keystone/pipeline/record"
	"keystone/sinks"
	sinkkafka "keystone/sinks/kafka"
	"keystone/sources"
	sourcekafka "keystone/sources/kafka"
	"keystone/sources/kafka/client"
)

// job says which route to build, and with what names.
type job struct {
	cfg      *configs.Config
	route    *configs.Route
	group    string                 // of the consumer, where it reads a stream
	topics   func(addr.Addr) string // of streams
	revision int64
	limit    int64
	oneShot  bool
	store    bool        // positions are kept
	as       addr.Addr   // whose positions; zero: the route's own
	taps     *taps       // nil: nobody can watch
	programs *programs   // remembers which program ran; nil: nobody does
	seat     int         // which of its names in the group it has
	first    bool        // no other worker of the route lives in this process, nor did one: members of its names are dead
	stays    func() bool // whether the worker that ends is followed by another at once; nil: never

	slot        *slot                  // of exactly once
	transaction *sinkkafka.Transaction // that the sink and the dead letters write into; nil: none
}

// build makes the worker of a route; it does no I/O but starting the embedded broker.
// flush, called when the worker has ended, writes down what may be left; never nil without an error.
func (p *plant) build(ctx context.Context, j job) (w *pipeline.Worker, flush func(context.Context) error, err error) {
	r := j.route
	program, err := dsl.Compile(r.Checked)
	if err != nil {
		return nil, nil, fmt.Errorf("compile %s: %w", r.Addr, err)
	}
	source, sourceKind, err := p.source(ctx, j)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", r.From.Addr, err)
	}
	if r.Delivery.Guarantee == configs.ExactlyOnce {
		if j.slot, err = p.slots.take(p.stateDir, j.owner()); err != nil {
			return nil, nil, err
		}
		defer func() {
			if err != nil {
				j.slot.free()
			}
		}()
		if j.transaction, err = p.transaction(ctx, j); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", r.To.Addr, err)
		}
	}
	sink, sinkKind, err := p.sink(ctx, j)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", r.To.Addr, err)
	}
	letters, err := p.deadLetters(ctx, j)
	if err != nil {
		return nil, nil, fmt.Errorf("dead letters of %s: %w", r.Addr, err)
	}
	s := pipeline.Spec{
		Route: r, Program: program, Revision: j.revision, Source: source, Sink: sink, DeadLetters: letters,
		Limit: j.limit, Log: p.log.With("route", r.Addr.String()),
	}
	if j.taps != nil {
		s.Tap = j.taps
	}
	if j.programs != nil {
		if err := j.programs.add(j.cfg, r, sourceKind); err != nil {
			return nil, nil, err
		}
		s.Programs = j.programs
	}
	flush = func(context.Context) error { return nil }
	if j.store && sourceKind != "stdin" {
		s.Positions = p.positions(sourceName(r, sourceKind), r.To.Addr.String()+" "+sinkKind)
		if !j.as.IsZero() {
			s.Positions = renamed{s.Positions, j.as}
		}
		_, checkpoints := sink.(sinks.Checkpointer)
		if j.cfg.Streams[r.From.Addr] != nil && !checkpoints {
			m := &mirror{to: s.Positions, route: r.Addr, log: s.Log}
			s.Positions, flush = m, m.Flush
		}
	}
	if j.slot != nil {
		stored := flush
		flush = func(ctx context.Context) error {
			j.slot.free()
			return stored(ctx)
		}
	}
	return pipeline.New(s), flush, nil
}

// beside gives what a worker that runs beside that of its route has in common with it: the program, the sink, the dead letters.
// The kind of the sink comes with it. Source, positions and log are the caller's.
func (p *plant) beside(ctx context.Context, j job) (s pipeline.Spec, sinkKind string, err error) {
	r := j.route
	s = pipeline.Spec{Route: r, Revision: j.revision}
	if s.Program, err = dsl.Compile(r.Checked); err != nil {
		return s, "", fmt.Errorf("compile %s: %w", r.Addr, err)
	}
	if s.Sink, sinkKind, err = p.sink(ctx, j); err != nil {
		return s, "", fmt.Errorf("%s: %w", r.To.Addr, err)
	}
	if s.DeadLetters, err = p.deadLetters(ctx, j); err != nil {
		return s, "", fmt.Errorf("dead letters of %s: %w", r.Addr, err)
	}
	return s, sinkKind, nil
}

// owner is whose positions the worker keeps.
func (j job) owner() addr.Addr {
	if !j.as.IsZero() {
		return j.as
	}
	return j.route.Addr
}

// renamed keeps positions under another address.
type renamed struct {
	pipeline.Positions
	as addr.Addr
}

func (n renamed) LoadPositions(ctx context.Context, _ addr.Addr) ([]record.Position, []byte, error) {
	return n.Positions.LoadPositions(ctx, n.as)
}

func (n renamed) SavePositions(ctx context.Context, _ addr.Addr, from []record.Position, state []byte) error {
	return n.Positions.SavePositions(ctx, n.as, from, state)
}

func (p *plant) source(ctx context.Context, j job) (sources.Source, string, error) {
	r := j.route
	deps := sources.Deps{Log: p.log.With("route", r.Addr.String()), Dir: p.dir, Resolve: p.resolve, Route: r.Addr.String(), Scan: dsl.ScanOf(r.Checked), Type: r.Checked.Input}
	if s := j.cfg.Sources[r.From.Addr]; s != nil {
		src, err := s.Config.New(deps)
		return src, s.Kind, err
	}
	stream := j.cfg.Streams[r.From.Addr]
	if stream == nil {
		return nil, "", fmt.Errorf("there is no such stream or source")
	}
	opts, err := p.clientOptions(ctx, j.cfg.ClusterOf(stream.Addr))
	if err != nil {
		return nil, "", err
	}
	c := sourcekafka.Config{
		Client: opts, Topic: j.topics(stream.Addr), Group: j.group, Start: r.Start,
		StopOnDataLoss: r.OnDataLoss == "stop", ReadCommitted: true,
		BatchBytes: r.Batch.Bytes, BatchRecords: r.Batch.Records, Linger: r.Batch.Linger,
	}
	if j.store { // else the run is by itself, and so is its group
		at := j.owner()
		c.Instance, c.Stay = instance(p.stateDir, at, j.seat), j.stays
		if j.first {
			c.Dead = slices.DeleteFunc(instances(p.stateDir, at), func(name string) bool { return name == c.Instance })
		}
	}
	src, err := c.New(deps)
	return src, "kafka", err
}

func (p *plant) sink(ctx context.Context, j job) (sinks.Sink, string, error) {
	r := j.route
	deps := sinks.Deps{Log: p.log.With("route", r.Addr.String()), Dir: p.dir, Resolve: p.resolve, Route: r.Addr.String(), OneShot: j.oneShot,
		ID: r.Group, Type: r.Written()}
	if j.store {
		deps.ID = j.group
	}
	if p.generation != nil {
		var err error
		if deps.Generation, err = p.generation(ctx, j.owner()); err != nil {
			return nil, "", err
		}
	}
	if s := j.cfg.Sinks[r.To.Addr]; s != nil {
		sink, err := s.Config.New(deps)
		if err == nil && p.wrap != nil {
			sink = p.wrap(sink, deps)
		}
		return sink, s.Kind, err
	}
	stream := j.cfg.Streams[r.To.Addr]
	if stream == nil {
		return nil, "", fmt.Errorf("there is no such stream or sink")
	}
	opts, err := p.clientOptions(ctx, j.cfg.ClusterOf(stream.Addr))
	if err != nil {
		return nil, "", err
	}
	to := writer(opts, stream, j.topics(stream.Addr), r)
	to.Transaction, to.Owns = j.transaction, true
	sink, err := p.topicSink(to, deps)
	return sink, "kafka", err
}

// deadLetters gives where records go that cannot be processed. Without a
// cluster, and in `keystone run`, that is a file in the state directory.
func (p *plant) deadLetters(ctx context.Context, j job) (pipeline.DeadLetters, error) {
	r := j.route
	if r.OnError != configs.DeadLetter {
		return nil, nil
	}
	stream := j.cfg.Streams[r.DeadLetter.Addr]
	from := j.cfg.Streams[r.From.Addr]
	if j.lettersInFile() {
		return deadletter.NewFile(p.letterFile(r.Addr), maxDeadLetterFile), nil
	}
	deps := sinks.Deps{Log: p.log, Dir: p.dir, Resolve: p.resolve, Route: r.Addr.String()}
	if stream != nil {
		opts, err := p.clientOptions(ctx, j.cfg.ClusterOf(stream.Addr))
		if err != nil {
			return nil, err
		}
		to := writer(opts, stream, j.topics(stream.Addr), r)
		to.Origin = false // the envelope says more
		to.Transaction = j.transaction
		return deadletter.NewStream(func() (sinks.Sink, error) { return p.topicSink(to, deps) }), nil
	}
	if s := j.cfg.Sinks[r.DeadLetter.Addr]; s != nil {
		program, err := dsl.Compile(r.LetterProgram)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.Addr, err)
		}
		deps.Log, deps.ID, deps.Type = p.log.With("dead_letters", r.Addr.String()), r.Group+" dead letters", configs.LetterType()
		if j.store {
			deps.ID = j.group + " dead letters"
		}
		return deadletter.NewDocuments(func() (sinks.Sink, error) { return s.Config.New(deps) }, program), nil
	}
	cluster := j.cfg.ClusterOf(from.Addr)
	opts, err := p.clientOptions(ctx, cluster)
	if err != nil {
		return nil, err
	}
	largest := from.MaxMessage
	if largest == 0 {
		largest = defaultMessage
	}
	topic := deadLetterTopic(j.cfg.DeadLetterTopic(r.Addr), largest)
	return deadletter.NewStream(func() (sinks.Sink, error) {
		// The topic is made with the first letter: most routes never need one.
		a, err := p.admin(context.WithoutCancel(ctx), cluster)
		if err != nil {
			return nil, err
		}
		made, err := a.Ensure(context.WithoutCancel(ctx), topic)
		if err == nil {
			err = made[topic.Topic].Err
		}
		if err != nil {
			return nil, err
		}
		return p.topicSink(sinkkafka.Config{Client: opts, Topic: topic.Topic, Compression: "zstd", BatchBytes: int32(largest + deadLetterRoom), Transaction: j.transaction}, deps)
	}), nil
}

// lettersInFile tells whether dead letters go to a file.
func (j job) lettersInFile() bool {
	return j.route.OnError == configs.DeadLetter &&
		(j.oneShot || j.cfg.Streams[j.route.DeadLetter.Addr] == nil && j.cfg.Sinks[j.route.DeadLetter.Addr] == nil && j.cfg.Streams[j.route.From.Addr] == nil)
}

func (p *plant) letterFile(route addr.Addr) string {
	name := strings.NewReplacer("/", "_", "\\", "_", "\x00", "_").Replace(strings.TrimPrefix(route.String(), "route."))
	return filepath.Join(p.stateDir, "dead-letters", name+".ndjson")
}

// maxDeadLetterFile bounds a file of dead letters; then the route waits for somebody to look.
const maxDeadLetterFile = 4 << 30

// writer says how a stream is written.
func writer(o client.Options, s *configs.Stream, topic string, r *configs.Route) sinkkafka.Config {
	return sinkkafka.Config{
		Client: o, Topic: topic, Compression: s.Compression, Linger: writeLinger,
		BatchBytes: int32(min(s.MaxMessage, 1<<30)), BufferBytes: r.Limits.MaxInFlightBytes, Origin: s.Origin,
	}
}

// writeLinger is how long a record waits for others to be sent with; a full
// batch does not. See BenchmarkRealLinger of sinks/kafka.
const writeLinger = 2 * time.Millisecond

func (p *plant) topicSink(c sinkkafka.Config, d sinks.Deps) (sinks.Sink, error) {
	c.Pool = p.pool
	return c.New(d)
}
