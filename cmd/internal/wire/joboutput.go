package wire

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"keystone/configs"
	"keystone/configs/addr"
	"keystone/dsl/types"
	"keystone/pipeline"
	"keystone/pipeline/deadletter"
	engine "keystone/pipeline/job"
	"keystone/pipeline/job/commit"
	"keystone/pipeline/record"
	"keystone/pipeline/state"
	"keystone/sinks"
	sinkkafka "keystone/sinks/kafka"
	"keystone/sources/kafka/admin"
)

// jobOutputs is where the rows and dead letters of a job go.
type jobOutputs struct {
	writers []commit.Writer
	targets []commit.Target
	letters *jobLetters // nil: on_error is not dead_letter
	file    string      // of dead letters; "": they go to a stream

	mu    sync.Mutex // guards sinks
	sinks map[string]sinks.Sink
}

// lettersWriter is the writer of dead letters, among those of the job's operators.
const lettersWriter = "dead letters"

// jobLetters makes dead letters rows of the epoch in which they come about.
type jobLetters struct {
	job    addr.Addr
	writer int
}

// Letter makes the dead letter of a record that could not be evaluated; see job.Letters.
func (l *jobLetters) Letter(f *engine.Failure) (commit.Out, error) {
	r := *f.Record
	d := pipeline.DeadLetter{
		Record: r, Route: l.job, Topic: f.Topic, Partition: f.Partition, Identity: f.Identity,
		Code: f.Err.Code, Error: f.Operator + ": " + f.Err.Text, Attempts: 1, Time: f.Time,
	}
	if !f.Err.Range.IsZero() {
		d.At = f.Err.Range.String()
	}
	return commit.Out{Writer: l.writer, Key: r.Key, Value: r.Value, Headers: deadletter.Headers(nil, &d), Time: r.Timestamp}, nil
}

// outputs is a jobOutputs in the making.
type outputs struct {
	*plant
	b        jobBuild
	store    *state.Store
	out      *jobOutputs
	clusters map[addr.Addr]*clusterOutput
	order    []addr.Addr // of clusters
}

// clusterOutput is what goes to one cluster in one transaction.
type clusterOutput struct {
	config sinkkafka.OutboxConfig
	writes map[int]int32 // writer → topic
	ensure []admin.StreamSpec
}

// jobOutputs gives a target for each cluster and each sink that the job writes.
func (p *plant) jobOutputs(ctx context.Context, b jobBuild, store *state.Store) (*jobOutputs, error) {
	o := &outputs{plant: p, b: b, store: store, out: &jobOutputs{sinks: map[string]sinks.Sink{}}, clusters: map[addr.Addr]*clusterOutput{}}
	for _, w := range engine.Writers(b.job) { // the letters' writer is behind them
		var err error
		to := w.Write.To.Addr
		if s := b.cfg.Streams[to]; s != nil {
			err = o.stream(ctx, w.Name(), s)
		} else {
			err = o.sink(w)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.Name(), err)
		}
	}
	if b.job.OnError == configs.DeadLetter {
		o.out.letters = &jobLetters{job: b.job.Addr, writer: len(o.out.writers)}
		if err := o.deadLetters(ctx); err != nil {
			return nil, fmt.Errorf("dead letters of %s: %w", b.job.Addr, err)
		}
	}
	return o.out, o.join(ctx)
}

// writer adds a writer, whose rows go to a target.
func (o *outputs) writer(name, target string) {
	o.out.writers = append(o.out.writers, commit.Writer{Name: name, Target: target})
}

// sink adds a writer to a sink.
func (o *outputs) sink(w *configs.Operator) error {
	s := o.b.cfg.Sinks[w.Write.To.Addr]
	if s == nil {
		return fmt.Errorf("there is no %s", w.Write.To.Addr)
	}
	deps := o.jobDeps(w.Write.Row)
	deps.ID = o.b.group + " " + w.Name()
	if _, err := s.Config.New(deps); err != nil { // said at once, and not when the first row is there
		return fmt.Errorf("%s: %w", s.Addr, err)
	}
	o.out.targets = append(o.out.targets, commit.Target{Name: w.Name(), Publisher: o.rows(w.Name(), func() (sinks.Sink, error) { return s.Config.New(deps) })})
	o.writer(w.Name(), w.Name())
	return nil
}

func (o *outputs) jobDeps(t types.Type) sinks.Deps {
	return sinks.Deps{Log: o.log.With("job", o.b.job.Addr.String()), Dir: o.dir, Resolve: o.resolve, Route: o.b.job.Addr.String(), OneShot: o.b.oneShot, ID: o.b.group, Type: t}
}

// rows makes the publisher of one writer to a sink. What the sink refuses becomes a dead letter in a file.
func (o *outputs) rows(writer string, sink func() (sinks.Sink, error)) commit.Publisher {
	options := commit.SinkOptions{Name: writer, Store: o.store, New: func() (sinks.Sink, error) {
		s, err := sink()
		if err == nil {
			o.out.mu.Lock()
			o.out.sinks[writer] = s
			o.out.mu.Unlock()
		}
		return s, err
	}}
	if o.b.job.OnError == configs.DeadLetter {
		refused := deadletter.NewFile(o.letterFile(o.b.job.Addr), maxDeadLetterFile)
		options.Refused = func(r *commit.Out, f sinks.Failure) error {
			return refused.Write(context.Background(), []pipeline.DeadLetter{{Record: record.Record{Key: r.Key, Value: r.Value, Headers: r.Headers, Timestamp: r.Time},
				Route: o.b.job.Addr, Topic: writer, Code: f.Code, Error: f.Err.Error(), Attempts: 1, Time: time.Now()}})
		}
	}
	return commit.ToSink(options)
}

// finish tells the sinks that all rows are there: the job's sources have ended.
func (o *jobOutputs) finish(ctx context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var errs []error
	for _, s := range o.sinks {
		if f, ok := s.(sinks.Finisher); ok {
			errs = append(errs, f.Finish(ctx))
		}
	}
	return errors.Join(errs...)
}

// stream adds a writer to a stream.
func (o *outputs) stream(ctx context.Context, writer string, s *configs.Stream) error {
	topic := sinkkafka.OutboxTopic{Name: o.b.topics(s.Addr), BatchBytes: int32(min(s.MaxMessage, 1<<30))}
	return o.topic(ctx, writer, o.b.cfg.ClusterOf(s.Addr), topic, s.Compression, nil)
}

// topic adds a writer to a topic. All topics of a cluster are one target, since they are written in one
// transaction; but the embedded broker does not bring transactions back as they were when it is killed, so what it has is
// written at least once.
func (o *outputs) topic(ctx context.Context, writer string, cluster *configs.Cluster, topic sinkkafka.OutboxTopic, compression string, ensure *admin.StreamSpec) error {
	opts, err := o.clientOptions(ctx, cluster)
	if err != nil {
		return err
	}
	if cluster.Embedded {
		o.out.targets = append(o.out.targets, commit.Target{Name: writer, Publisher: o.rows(writer, func() (sinks.Sink, error) {
			if ensure != nil {
				if err := o.ensureOne(context.WithoutCancel(ctx), cluster, *ensure); err != nil {
					return nil, err
				}
			}
			return o.topicSink(sinkkafka.Config{Client: opts, Topic: topic.Name, Compression: compression, Linger: writeLinger, BatchBytes: topic.BatchBytes}, o.jobDeps(types.AnyType))
		})})
		o.writer(writer, writer)
		return nil
	}
	c := o.clusters[cluster.Addr]
	if c == nil {
		name := strings.TrimPrefix(cluster.Addr.String(), "cluster.")
		c = &clusterOutput{writes: map[int]int32{}, config: sinkkafka.OutboxConfig{Client: opts, ID: o.b.group + "." + name, Markers: o.b.group + ".markers", Compression: compression}}
		o.clusters[cluster.Addr] = c
		o.order = append(o.order, cluster.Addr)
	}
	if ensure != nil {
		c.ensure = append(c.ensure, *ensure)
	}
	c.writes[len(o.out.writers)] = int32(len(c.config.Topics))
	c.config.Topics = append(c.config.Topics, topic)
	o.writer(writer, "kafka."+cluster.Addr.Name)
	return nil
}

// join makes the targets of clusters, when all writers are known.
func (o *outputs) join(ctx context.Context) error {
	for _, a := range o.order {
		c := o.clusters[a]
		for _, t := range c.ensure {
			if err := o.ensureOne(ctx, o.b.cfg.Clusters[a], t); err != nil {
				return err
			}
		}
		box, err := sinkkafka.NewOutbox(c.config)
		if err != nil {
			return fmt.Errorf("%s: %w", a, err)
		}
		places := make([]int32, len(o.out.writers))
		for i := range places {
			places[i] = -1
			if at, ok := c.writes[i]; ok {
				places[i] = at
			}
		}
		o.out.targets = append(o.out.targets, commit.Target{Name: "kafka." + a.Name, Publisher: commit.ToOutbox(box, places)})
	}
	return nil
}

// deadLetters adds the writer of dead letters: the stream of the job's choice, a managed one beside what it
// reads, or a file where it reads no stream and in `keystone run`.
func (o *outputs) deadLetters(ctx context.Context) error {
	var from *configs.Stream
	for _, x := range o.b.job.Operators {
		if x.Read != nil && from == nil {
			from = o.b.cfg.Streams[x.Read.From.Addr]
		}
	}
	own := o.b.cfg.Streams[o.b.job.DeadLetter.Addr]
	switch {
	case o.b.oneShot, own == nil && from == nil:
		o.out.file = o.letterFile(o.b.job.Addr)
		o.out.targets = append(o.out.targets, commit.Target{Name: lettersWriter, Publisher: letterFile{deadletter.NewFile(o.out.file, maxDeadLetterFile)}})
		o.writer(lettersWriter, lettersWriter)
		return nil
	case own != nil:
		return o.stream(ctx, lettersWriter, own)
	}
	largest := from.MaxMessage
	if largest == 0 {
		largest = defaultMessage
	}
	spec := deadLetterTopic(o.b.cfg.DeadLetterTopic(o.b.job.Addr), largest)
	return o.topic(ctx, lettersWriter, o.b.cfg.ClusterOf(from.Addr), sinkkafka.OutboxTopic{Name: spec.Topic, BatchBytes: int32(largest + deadLetterRoom)}, "zstd", &spec)
}

// ensureOne brings one topic about.
func (p *plant) ensureOne(ctx context.Context, cluster *configs.Cluster, t admin.StreamSpec) error {
	a, err := p.admin(ctx, cluster)
	if err != nil {
		return err
	}
	return ensureTopic(ctx, a, t)
}
