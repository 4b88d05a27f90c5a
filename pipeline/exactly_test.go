package pipeline_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

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
	"keystone/pipeline/record"
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

func TestExactlyOnce(t *testing.T) {
	l := newLab(t)
	l.write(500, nil)
	w := l.start(configs.DeadLetter)
	l.settled()
	w.drain()
	l.once("out", kept)
}

// TestExactlyOnceOverRebalances has workers come and go while records come.
func TestExactlyOnceOverRebalances(t *testing.T) {
	l := newLab(t)
	l.write(200, nil)
	a := l.start(configs.DeadLetter)
	for range 3 {
		b := l.start(configs.DeadLetter)
		l.write(300, nil)
		b.owns(1)
		l.write(300, nil)
		a.drain()
		l.write(300, nil)
		b.owns(labParts)
		a = b
	}
	l.settled()
	a.drain()
	l.once("out", kept)
}

// owns waits until the worker has at least n partitions.
func (w *labWorker) owns(n int) {
	w.l.t.Helper()
	for ctx := w.l.ctx(); len(w.Stats().Lanes) < n; {
		select {
		case err := <-w.err:
			w.l.t.Fatalf("the worker ended: %v", err)
		case <-ctx.Done():
			w.l.t.Fatalf("the worker never had %d partitions: %+v", n, w.Stats())
		case <-time.After(time.Millisecond):
		}
	}
}

// cuts makes connections that a test can cut, whatever is on its way on them.
type cuts struct {
	mu    sync.Mutex
	conns []net.Conn
}

func (c *cuts) dial(ctx context.Context, network, host string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, host)
	if err == nil {
		c.mu.Lock()
		c.conns = append(c.conns, conn)
		c.mu.Unlock()
	}
	return conn, err
}

func (c *cuts) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.conns = nil
}

// TestExactlyOnceWithCutConnections loses answers, those to the end of a
// transaction among them, so that nobody knows whether it took effect.
func TestExactlyOnceWithCutConnections(t *testing.T) {
	l := newLab(t)
	var c cuts
	l.o.Dial = c.dial
	w := l.start(configs.DeadLetter)
	for range 40 {
		l.write(40, nil)
		c.cut()
	}
	l.settled()
	w.drain()
	l.once("out", kept)
}

// endTxn is the request that ends a transaction, by Kafka's number.
const endTxn = 26

// answers loses the answer to every nth end of a transaction: the request is taken,
// or, if it is lost itself, it is not.
type answers struct {
	mu           sync.Mutex
	n, every     int
	lost         int
	loseRequests bool
}

func (a *answers) dial(ctx context.Context, network, host string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, host)
	return &answering{Conn: conn, a: a}, err
}

type answering struct {
	net.Conn
	a    *answers
	deaf atomic.Bool
}

func (c *answering) Write(b []byte) (int, error) {
	if len(b) >= 6 && binary.BigEndian.Uint16(b[4:]) == endTxn {
		c.a.mu.Lock()
		c.a.n++
		lose, request := c.a.n%c.a.every == 0, c.a.loseRequests
		if lose {
			c.a.lost++
		}
		c.a.mu.Unlock()
		if lose && request {
			_ = c.Close()
			return 0, net.ErrClosed
		}
		c.deaf.Store(lose)
	}
	return c.Conn.Write(b)
}

func (c *answering) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.deaf.Load() {
		_ = c.Close()
		return 0, net.ErrClosed
	}
	return n, err
}

// TestExactlyOnceEndWithoutAnswer loses the answer to the end of transactions that were committed, and
// the request itself. Both look the same to the worker; its counters tell them apart afterwards.
func TestExactlyOnceEndWithoutAnswer(t *testing.T) {
	for _, loseRequests := range []bool{false, true} {
		t.Run(fmt.Sprintf("request lost=%v", loseRequests), func(t *testing.T) {
			l := newLab(t)
			a := &answers{every: 3, loseRequests: loseRequests}
			l.o.Dial = a.dial
			w := l.start(configs.DeadLetter)
			for range 15 {
				l.write(20, nil)
				l.settled()
			}
			w.drain()
			l.once("out", kept)
			c := w.Stats().Total
			if want := int64(labParts * 300 * 9 / 10); c.Delivered != want {
				t.Errorf("%d delivered, want %d: %+v", c.Delivered, want, c)
			}
			if a.lost < 3 {
				t.Errorf("%d of %d ends were lost", a.lost, a.n)
			}
			t.Logf("%d of %d ends lost, %d records read again", a.lost, a.n, c.Abandoned)
		})
	}
}

// forgetful says of every third commit that nobody knows what became of it.
type forgetful struct {
	sinks.Transactional
	n     int
	taken bool // it took effect
}

func (f *forgetful) Commit(ctx context.Context, at record.GroupOffsets) error {
	if f.n++; f.n%3 != 0 {
		return f.Transactional.Commit(ctx, at)
	}
	if f.taken {
		if err := f.Transactional.Commit(ctx, at); err != nil {
			return err
		}
	}
	return errors.New("no answer")
}

// TestExactlyOnceUnknownOutcome wants the group to decide: what had been committed counts and is not read again.
func TestExactlyOnceUnknownOutcome(t *testing.T) {
	for _, taken := range []bool{true, false} {
		t.Run(fmt.Sprintf("taken=%v", taken), func(t *testing.T) {
			l := newLab(t)
			l.wrap = func(s sinks.Transactional) sinks.Sink { return &forgetful{Transactional: s, taken: taken} }
			w := l.start(configs.DeadLetter)
			for range 12 {
				l.write(20, nil)
				l.settled()
			}
			w.drain()
			l.once("out", kept)
			c := w.Stats().Total
			if want := int64(labParts * 240 * 9 / 10); c.Delivered != want {
				t.Errorf("%d delivered, want %d: %+v", c.Delivered, want, c)
			}
			if !taken && c.Abandoned == 0 {
				t.Errorf("nothing was read again: %+v", c)
			}
		})
	}
}

// TestExactlyOnceOldProtocol has a cluster that runs transactions as before KIP-890.
func TestExactlyOnceOldProtocol(t *testing.T) {
	l := newLab(t)
	req := kmsg.NewPtrUpdateFeaturesRequest()
	f := kmsg.NewUpdateFeaturesRequestFeatureUpdate()
	f.Feature, f.MaxVersionLevel, f.UpgradeType = "transaction.version", 1, 2
	req.FeatureUpdates = append(req.FeatureUpdates, f)
	resp, err := req.RequestWith(l.ctx(), l.cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		t.Fatal(err)
	}
	var c cuts
	l.o.Dial = c.dial
	w := l.start(configs.DeadLetter)
	for range 10 {
		l.write(40, nil)
		c.cut()
		l.write(40, nil)
		l.settled()
	}
	w.drain()
	l.once("out", kept)
}

// TestExactlyOnceAfterAKill has a worker that ends in the middle, like one that
// was killed: its successor has another name, as one of another installation.
func TestExactlyOnceAfterAKill(t *testing.T) {
	l := newLab(t)
	for range 5 {
		l.write(400, nil)
		w := l.start(configs.DeadLetter)
		w.owns(labParts)
		l.write(100, nil)
		w.stop(errors.New("killed"))
		<-w.Done()
		w.balanced()
	}
	w := l.start(configs.DeadLetter)
	l.settled()
	w.drain()
	l.once("out", kept)
}

// TestExactlyOnceSwapsBetweenTransactions changes the program under load. Each
// transaction has an epoch of its own, which every record of it carries.
func TestExactlyOnceSwapsBetweenTransactions(t *testing.T) {
	l := newLab(t)
	w := l.start(configs.DeadLetter)
	for l.rev = 1; l.rev <= 20; l.rev++ {
		l.write(50, nil)
		r := l.route(configs.DeadLetter)
		w.Swap(l.program(r), r, int64(l.rev))
		l.write(50, nil)
		l.settled()
	}
	w.drain()
	l.once("out", kept)

	revs := map[string]map[int]bool{}
	cl := l.client(kgo.ConsumeTopics("out"), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	for ends := 0; ends < labParts; {
		cl.PollFetches(l.ctx()).EachRecord(func(r *kgo.Record) {
			var v struct{ Seq, Rev int }
			if err := json.Unmarshal(r.Value, &v); err != nil {
				t.Fatal(err)
			}
			if v.Seq < 0 {
				ends++
				return
			}
			tx := fmt.Sprint(r.ProducerID, r.ProducerEpoch)
			if revs[tx] == nil {
				revs[tx] = map[int]bool{}
			}
			revs[tx][v.Rev] = true
		})
	}
	seen := map[int]bool{}
	for tx, of := range revs {
		if len(of) != 1 {
			t.Errorf("transaction %s has the programs %v", tx, of)
		}
		for rev := range of {
			seen[rev] = true
		}
	}
	if len(seen) < 20 {
		t.Errorf("only the programs %v were used", seen)
	}
}

// TestExactlyOnceRefusedRecord has records that the target refuses: here the
// brokers say so, which costs an abort each time, and the client library for the
// largest. They are in the dead letters once, and the others in the target.
func TestExactlyOnceRefusedRecord(t *testing.T) {
	l := newLab(t)
	large := func(seq int) bool { return seq%50 == 7 }
	l.write(300, func(seq int, value string) string {
		switch {
		case seq%100 == 57:
			return strings.TrimSuffix(value, "}") + `,"x":"` + strings.Repeat("x", 2<<20) + `"}`
		case large(seq):
			return strings.TrimSuffix(value, "}") + `,"x":"` + strings.Repeat("x", 30_000) + `"}`
		}
		return value
	})
	w := l.start(configs.DeadLetter)
	l.settled()
	w.drain()
	l.once("out", func(seq int) bool { return kept(seq) && !large(seq) })
	l.once("letters", large)
	if c := w.Stats().Total; c.DeadLettered != labParts*6 {
		t.Errorf("%+v", c)
	}
}

// breaking fails the first write, once the dead letters of another lane are on their way,
// and lets those get to the transaction only after it was aborted.
type breaking struct {
	sinks.Transactional
	broke              atomic.Bool
	ended              sync.Once
	lettering, aborted chan struct{}
}

func (b *breaking) Write(ctx context.Context, rs *record.Batch, done func(error)) {
	if b.broke.Swap(true) {
		b.Transactional.Write(ctx, rs, done)
		return
	}
	<-b.lettering
	done(errors.New("not now"))
}

func (b *breaking) Abort(ctx context.Context) error {
	err := b.Transactional.Abort(ctx)
	b.ended.Do(func() { close(b.aborted) })
	return err
}

// TestExactlyOnceLettersBehindAnAbort has dead letters on their way that reach the sink when their
// transaction was aborted, as while their topic is made. Their records are read again, so they are in no transaction that is committed.
func TestExactlyOnceLettersBehindAnAbort(t *testing.T) {
	l := newLab(t)
	b := &breaking{lettering: make(chan struct{}), aborted: make(chan struct{})}
	l.wrap = func(s sinks.Transactional) sinks.Sink { b.Transactional = s; return b }
	var first sync.Once
	l.open = func() {
		first.Do(func() { close(b.lettering) })
		<-b.aborted
	}
	broken := func(seq int) bool { return seq%10 == 5 }
	l.write(100, func(seq int, value string) string {
		if broken(seq) {
			value += "}"
		}
		return value
	})
	w := l.start(configs.DeadLetter)
	l.settled()
	w.drain()
	l.once("letters", broken)
	l.once("out", func(seq int) bool { return kept(seq) && !broken(seq) })
}

// TestExactlyOnceStopsBeforeRefusedRecord wants everything before the record and nothing after it.
func TestExactlyOnceStopsBeforeRefusedRecord(t *testing.T) {
	l := newLab(t)
	l.write(100, func(seq int, value string) string {
		if seq == 60 {
			return strings.TrimSuffix(value, "}") + `,"x":"` + strings.Repeat("x", 30_000) + `"}`
		}
		return value
	})
	w := l.start(configs.StopRoute)
	err := <-w.err
	if !pipeline.IsHalt(err) {
		t.Fatal(err)
	}
	w.balanced()
	l.mark("out")
	got := l.await("out", func(seqs map[int32][]int) bool {
		for p := range int32(labParts) {
			if len(seqs[p]) == 0 || seqs[p][len(seqs[p])-1] != -1 {
				return false
			}
		}
		return true
	})
	stopped := 0
	for p := range int32(labParts) {
		have := got[p][:len(got[p])-1]
		for i, seq := range have {
			if seq >= 60 || i > 0 && seq <= have[i-1] {
				t.Errorf("partition %d: %v", p, have)
				break
			}
		}
		if len(have) == 54 {
			stopped++
		}
	}
	if stopped == 0 {
		t.Errorf("no partition came to the record: %v", got)
	}
}
