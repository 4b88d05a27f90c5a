package pipeline_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"keystone/configs"
	"keystone/configs/addr"
	"keystone/configs/diag"
	cspec "keystone/configs/spec"
	"keystone/dsl"
	"keystone/dsl/eval"
	"keystone/dsl/ir"
	"keystone/dsl/types"
	"keystone/pipeline"
	"keystone/pipeline/deadletter"
	"keystone/sinks"
	sinkkafka "keystone/sinks/kafka"
	"keystone/sources"
	sourcekafka "keystone/sources/kafka"
	"keystone/sources/kafka/admin"
	"keystone/sources/kafka/client"
	"keystone/sources/kafka/embedded"
)

// lab is a broker with the topics of one route, and what the tests do to it.
type lab struct {
	t    *testing.T
	o    client.Options
	cl   *kgo.Client
	seqs map[int32]int // written so far
	n    int           // workers made
	rev  int           // of the program
	wrap func(sinks.Transactional) sinks.Sink
	from func(sources.Transacted) sources.Source
	open func() // is called before the dead letters' sink is opened
}

const labParts = 4

func newLab(t *testing.T) *lab {
	b, err := embedded.Start(t.Context(), embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	l := &lab{t: t, o: client.Options{Brokers: b.Addrs()}, seqs: map[int32]int{}}
	a, err := admin.New(l.o)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for _, topic := range []string{"in", "out", "letters"} {
		spec := admin.StreamSpec{Topic: topic, Partitions: labParts, Replication: 1, Config: map[string]string{"max.message.bytes": "4000000"}}
		if topic == "out" {
			spec.Config["max.message.bytes"] = "20000"
		}
		rs, err := a.Ensure(l.ctx(), spec)
		if err == nil {
			err = rs[topic].Err
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	l.cl = l.client()
	return l
}

func (l *lab) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	l.t.Cleanup(cancel)
	return ctx
}

func (l *lab) client(opts ...kgo.Opt) *kgo.Client {
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(l.o.Brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(4_000_000)}, opts...)...)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(cl.Close)
	return cl
}

// write appends n numbered records to every partition; edit may change the value.
func (l *lab) write(n int, edit func(seq int, value string) string) {
	l.t.Helper()
	var rs []*kgo.Record
	for p := range int32(labParts) {
		for range n {
			v := fmt.Sprintf(`{"p":%d,"seq":%d}`, p, l.seqs[p])
			if edit != nil {
				v = edit(l.seqs[p], v)
			}
			rs = append(rs, &kgo.Record{Topic: "in", Partition: p, Value: []byte(v)})
			l.seqs[p]++
		}
	}
	if err := l.cl.ProduceSync(l.ctx(), rs...).FirstErr(); err != nil {
		l.t.Fatal(err)
	}
}

type labWorker struct {
	*pipeline.Worker
	l    *lab
	stop context.CancelCauseFunc
	err  chan error
}

// program compiles the projection that the lab has now.
func (l *lab) program(r *configs.Route) *eval.Program {
	text := func(s string) diag.Text { return diag.Text{S: s} }
	spec := dsl.RouteSpec{Input: types.AnyType, Tombstones: ir.TombstonesPass, Format: ir.JSON, Decode: ir.DecodeFull}
	spec.Filter = []diag.Text{text("seq % 10 != 3")}
	spec.Project = []cspec.Field{{Name: "p", Expr: text("p")}, {Name: "seq", Expr: text("seq")}, {Name: "x", Expr: text("x")}, {Name: "rev", Lit: int64(l.rev)}}
	r.Events = spec
	checked, diags := dsl.CheckRoute(spec)
	if err := diags.Err(); err != nil {
		l.t.Fatal(err)
	}
	program, err := dsl.Compile(checked)
	if err != nil {
		l.t.Fatal(err)
	}
	return program
}

func (l *lab) route(onError configs.OnError) *configs.Route {
	r := &configs.Route{Addr: addr.New("route", "r"), OnError: onError, Parallelism: 2}
	r.From.Addr, r.To.Addr = addr.New("stream", "in"), addr.New("stream", "out")
	r.Delivery = configs.Delivery{Guarantee: configs.ExactlyOnce, CommitInterval: 30 * time.Millisecond, DrainTimeout: 20 * time.Second}
	r.Retry = configs.Retry{Initial: 10 * time.Millisecond, Max: 100 * time.Millisecond}
	r.Batch = configs.Batch{Records: 50, Linger: 10 * time.Millisecond}
	return r
}

// start runs a worker of the route as an installation of its own.
func (l *lab) start(onError configs.OnError) *labWorker {
	l.t.Helper()
	l.n++
	r := l.route(onError)
	program := l.program(r)
	source := sourcekafka.Config{Client: l.o, Topic: "in", Group: "g", ReadCommitted: true, SessionTimeout: 6 * time.Second}
	src, err := source.New(sources.Deps{Route: "route.r"})
	if err != nil {
		l.t.Fatal(err)
	}
	if l.from != nil {
		src = l.from(src.(sources.Transacted))
	}
	tx := sinkkafka.NewTransaction(sinkkafka.TransactionConfig{Client: l.o, ID: fmt.Sprintf("keystone.lab%d.route.r.0", l.n)})
	to := sinkkafka.Config{Client: l.o, Topic: "out", Transaction: tx, Owns: true, BatchBytes: 1 << 20, Origin: true}
	sink, err := to.New(sinks.Deps{Route: "route.r"})
	if err != nil {
		l.t.Fatal(err)
	}
	if l.wrap != nil {
		sink = l.wrap(sink.(sinks.Transactional))
	}
	letters := sinkkafka.Config{Client: l.o, Topic: "letters", Transaction: tx, BatchBytes: 4_000_000}
	w := &labWorker{l: l, err: make(chan error, 1), Worker: pipeline.New(pipeline.Spec{
		Route: r, Program: program, Revision: 1, Source: src, Sink: sink,
		DeadLetters: deadletter.NewStream(func() (sinks.Sink, error) {
			if l.open != nil {
				l.open()
			}
			return letters.New(sinks.Deps{})
		}),
		Log: slog.New(slog.DiscardHandler),
	})}
	ctx, stop := context.WithCancelCause(context.Background())
	w.stop = stop
	go func() { w.err <- w.Run(ctx) }()
	l.t.Cleanup(func() { stop(nil); <-w.Done() })
	return w
}

// drain ends the worker as a person does.
func (w *labWorker) drain() {
	w.l.t.Helper()
	if err := w.Drain(w.l.ctx()); err != nil {
		w.l.t.Fatal(err)
	}
	if err := <-w.err; err != nil {
		w.l.t.Fatal(err)
	}
	w.balanced()
}

// balanced looks at the ledger of a worker that has ended.
func (w *labWorker) balanced() {
	w.l.t.Helper()
	c := w.Stats().Total
	if c.Read != c.Delivered+c.Filtered+c.DeadLettered+c.Dropped+c.Abandoned {
		w.l.t.Errorf("the ledger does not add up: %+v", c)
	}
}

// await reads topic read-committed until done says so, which is asked after every fetch.
func (l *lab) await(topic string, done func(seqs map[int32][]int) bool) map[int32][]int {
	l.t.Helper()
	cl := l.client(kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	ctx := l.ctx()
	seqs := map[int32][]int{}
	for !done(seqs) {
		fs := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			l.t.Fatalf("%s: not all is there: %d %d %d %d", topic, len(seqs[0]), len(seqs[1]), len(seqs[2]), len(seqs[3]))
		}
		fs.EachRecord(func(r *kgo.Record) {
			var v struct {
				P   int32
				Seq int
			}
			// A dead letter may have something behind the object.
			if err := json.NewDecoder(bytes.NewReader(r.Value)).Decode(&v); err != nil {
				l.t.Fatalf("%q: %v", r.Value[:min(len(r.Value), 80)], err)
			}
			seqs[v.P] = append(seqs[v.P], v.Seq)
		})
	}
	return seqs
}

// once wants every number for which want is true, once and in order, in the target and nothing else.
func (l *lab) once(topic string, want func(seq int) bool) {
	l.t.Helper()
	all := map[int32][]int{}
	total := 0
	for p, n := range l.seqs {
		for seq := range n {
			if want(seq) {
				all[p] = append(all[p], seq)
				total++
			}
		}
	}
	// A last record that comes after everything else shows that nothing follows.
	l.mark(topic)
	got := l.await(topic, func(seqs map[int32][]int) bool {
		for p := range int32(labParts) {
			if len(seqs[p]) == 0 || seqs[p][len(seqs[p])-1] != -1 {
				return false
			}
		}
		return true
	})
	for p := range int32(labParts) {
		if have := got[p][:len(got[p])-1]; !slices.Equal(have, all[p]) {
			l.t.Errorf("%s, partition %d: %d records, want %d; first difference: %s", topic, p, len(have), len(all[p]), difference(have, all[p]))
		}
	}
}

func difference(have, want []int) string {
	for i := range max(len(have), len(want)) {
		if i >= len(have) || i >= len(want) || have[i] != want[i] {
			return fmt.Sprintf("at %d: %v, want %v", i, have[min(i, len(have)):min(i+5, len(have))], want[min(i, len(want)):min(i+5, len(want))])
		}
	}
	return "none"
}

// mark writes the end of what a test looks at.
func (l *lab) mark(topic string) {
	l.t.Helper()
	for p := range int32(labParts) {
		r := &kgo.Record{Topic: topic, Partition: p, Value: []byte(fmt.Sprintf(`{"p":%d,"seq":-1}`, p))}
		if err := l.cl.ProduceSync(l.ctx(), r).FirstErr(); err != nil {
			l.t.Fatal(err)
		}
	}
}

// settled waits until the group has stored the end of everything that was written.
func (l *lab) settled() {
	l.t.Helper()
	adm := kadm.NewClient(l.cl)
	ctx := l.ctx()
	for {
		g, _ := adm.FetchOffsets(ctx, "g")
		behind := false
		for p, n := range l.seqs {
			o, _ := g.Lookup("in", p)
			behind = behind || o.At < int64(n)
		}
		if !behind {
			return
		}
		if ctx.Err() != nil {
			l.t.Fatalf("the group stands at %v of %v", g, l.seqs)
		}
	}
}

func kept(seq int) bool { return seq%10 != 3 }
