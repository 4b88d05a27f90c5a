//go:build synctests

package sim

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"keystone/configs"
	"keystone/dsl/eval"
	"keystone/pipeline"
)

// world is one history: a cluster, the members of a route, and what befalls them.
type world struct {
	seed    uint64
	s       *scenario
	rng     *rand.Rand // of the main goroutine
	began   time.Time
	vn      kfake.VirtualNetwork
	cluster *kfake.Cluster
	hand    *kgo.Client // an operator's, and the producer's: nothing befalls it
	adm     *kadm.Client
	o       *oracle

	dest, letters *destination
	chains        chains
	programs      [2]*eval.Program
	revision      int
	members       []*member
	ghosts        []*process // that crashed, and have not noticed yet
	due           []timed
	work          sync.WaitGroup // every goroutine of links and sinks

	mu      sync.Mutex // guards everything below
	events  []string
	faults  map[string]int
	notes   []string // why workers ended
	running []*pipeline.Worker
	wires   []*link // of those that run
}

// timed is something that happens at a time.
type timed struct {
	at time.Time
	do func()
}

// result is what came of a seed.
type result struct {
	Seed          uint64
	Began         bool `json:",omitempty"` // nothing came of it yet
	Scenario      string
	Guarantee     string
	Problems      string
	Failure       string // for people
	Faults        map[string]int
	Records       int
	Repeats, Most int
	Counts        pipeline.Counts
	Fake          time.Duration
	trace         []string
}

// play plays the history of a seed. It is called in a bubble.
func play(seed uint64) *result {
	rng := rand.New(rand.NewPCG(seed, 0))
	w := &world{
		seed: seed, s: newScenario(rng, seed), rng: rng, began: time.Now(),
		dest: &destination{}, letters: &destination{}, programs: [2]*eval.Program{compile(filters[0]), compile(filters[1])}, faults: map[string]int{},
	}
	w.chains.links = map[chainKey][]manifest{}
	w.o = newOracle(w.s)
	w.trace("seed %d: %s", seed, w.s)
	w.open()
	w.live()
	r := &result{Seed: seed, Scenario: w.s.String(), Guarantee: string(w.s.guarantee)}
	if w.end() {
		out, letters := w.read("out", w.s.sink, w.dest), w.read("letters", w.s.letters, w.letters)
		r.Repeats, r.Most = w.o.check(w.s, out, letters)
		w.checkChains()
	}
	w.close()
	r.Fake = time.Since(w.began)
	w.mu.Lock()
	defer w.mu.Unlock()
	r.trace, r.Faults, r.Problems, r.Counts = w.events, w.faults, w.o.report(), w.o.counts
	if r.Problems != "" && len(w.notes) > 0 {
		r.Problems += "\nworkers ended with: " + strings.Join(w.notes, "; ")
	}
	for _, log := range w.o.logs {
		r.Records += len(log)
	}
	return r
}

func (w *world) trace(format string, a ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, fmt.Sprintf("%14v  ", time.Since(w.began))+fmt.Sprintf(format, a...))
	if *printFlag {
		fmt.Println(w.events[len(w.events)-1])
	}
}

// logger writes what a process says into the trace.
func (w *world) logger(who string) *slog.Logger {
	h := slog.NewTextHandler(traceWriter{w, who}, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	return slog.New(h)
}

type traceWriter struct {
	w   *world
	who string
}

func (t traceWriter) Write(line []byte) (int, error) {
	t.w.trace("%s: %s", t.who, strings.TrimSpace(string(line)))
	return len(line), nil
}

// fault counts something that befalls the route, against all that is in flight.
func (w *world) fault(name, format string, a ...any) {
	w.mu.Lock()
	w.faults[name]++
	w.mu.Unlock()
	w.trace("FAULT %s: "+format, append([]any{name}, a...)...)
	w.mark()
}

func (w *world) note(s string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.notes = append(w.notes, s)
}

// open starts the cluster and the members.
func (w *world) open() {
	ports := make([]int, w.s.brokers)
	for i := range ports {
		ports[i] = 9092 + i
	}
	w.cluster = must(kfake.NewCluster(kfake.NumBrokers(w.s.brokers), kfake.Ports(ports...), kfake.ListenFn(w.vn.Listen), kfake.ClusterID("sim"),
		kfake.SeedTopics(w.s.partitions, "in"), kfake.SeedTopics(w.s.out, "out"), kfake.SeedTopics(1, "letters")))
	w.hand = must(kgo.NewClient(kgo.SeedBrokers(w.cluster.ListenAddrs()...), kgo.Dialer(w.vn.DialContext), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(100*time.Millisecond)))
	w.adm = kadm.NewClient(w.hand)
	for _, t := range []string{"in", "out", "letters"} {
		w.o.topics[w.cluster.TopicInfo(t).TopicID] = t
		for _, p := range w.cluster.PartitionInfos(t) {
			w.moveLeader(t, p.Partition)
		}
	}
	for i := range w.s.members {
		w.members = append(w.members, &member{w: w, name: fmt.Sprintf("m%d", i), wanted: true})
	}
	w.supervise()
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (w *world) moveLeader(topic string, part int32) {
	if err := w.cluster.MoveTopicPartition(topic, part, w.rng.Int32N(int32(w.s.brokers))); err != nil {
		panic(err)
	}
}

// live lets faults befall the route, with records in between.
func (w *world) live() {
	for range w.s.steps {
		w.produce()
		w.sleep(draw(w.rng, 3*time.Second))
		w.befall()
	}
	w.produce()
	if w.seed%4 == 1 {
		w.empty()
	}
	w.sleep(draw(w.rng, 3*time.Second))
}

// sleep lets time pass; what is due happens.
func (w *world) sleep(d time.Duration) {
	until := time.Now().Add(d)
	for {
		w.supervise()
		now := time.Now()
		next := now.Add(250 * time.Millisecond) // the supervisor looks again
		i := 0
		for j, x := range w.due {
			if x.at.Before(w.due[i].at) {
				i = j
			}
		}
		if len(w.due) > 0 && !w.due[i].at.After(now) {
			x := w.due[i]
			w.due = slices.Delete(w.due, i, i+1)
			x.do()
			continue
		}
		if !now.Before(until) {
			return
		}
		if len(w.due) > 0 && w.due[i].at.Before(next) {
			next = w.due[i].at
		}
		if until.Before(next) {
			next = until
		}
		time.Sleep(time.Until(next))
	}
}

// later has something happen after a while.
func (w *world) later(d time.Duration, do func()) {
	w.due = append(w.due, timed{time.Now().Add(d), do})
}

// produce appends some records to each partition of the source.
func (w *world) produce() {
	var all []*kgo.Record
	w.o.mu.Lock()
	for p := range w.s.partitions {
		for range w.rng.IntN(w.s.records + 1) {
			e := &entry{part: p, seq: len(w.o.logs[p]), kind: pick(w.rng, plain, plain, plain, plain, plain, plain, filtered, swapped, broken, refused)}
			if e.kind == refused && w.rng.IntN(3) > 0 {
				e.kind = plain
			}
			e.offset, e.id = int64(e.seq), fmt.Sprintf("%d/%d%c", p, e.seq, e.kind)
			r := &kgo.Record{Topic: "in", Partition: p, Headers: []kgo.RecordHeader{{Key: "id", Value: []byte(e.id)}}}
			if w.s.keyed {
				e.key = fmt.Sprintf("k%d", w.rng.IntN(5))
				r.Key = []byte(e.key)
			}
			switch e.kind {
			case broken:
				r.Value = []byte(`{broken`)
			case refused:
				r.Value = fmt.Appendf(nil, `{"kind":"r","pad":"%s"}`, strings.Repeat("x", maxMessage+100))
			default:
				r.Value = fmt.Appendf(nil, `{"kind":"%c","n":%d}`, e.kind, e.seq)
			}
			w.o.logs[p] = append(w.o.logs[p], e)
			w.o.byID[e.id] = e
			all = append(all, r)
		}
	}
	w.o.mu.Unlock()
	for _, x := range w.hand.ProduceSync(context.Background(), all...) {
		if x.Err != nil {
			panic(x.Err)
		}
	}
	w.trace("%d records are there", len(all))
}

// workers gives all that may still do something.
func (w *world) workers() (ws []*pipeline.Worker) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.running)
}

// heal ends every fault, and starts what is not there.
func (w *world) heal() {
	w.trace("the faults end")
	for len(w.due) > 0 {
		due := w.due
		w.due = nil
		for _, x := range due {
			x.do()
		}
	}
	for _, m := range w.members {
		m.wanted = m.wanted || m == w.members[0]
		if m.cur != nil {
			m.cur.link.clearRules()
		}
	}
}

// end lets the route finish without faults. It tells whether it did.
func (w *world) end() bool {
	w.heal()
	if !w.await(20*time.Minute, "the route has committed everything", w.nudged(w.committedAll)) {
		for _, m := range w.members {
			if m.cur != nil {
				st := m.cur.worker.Stats()
				w.o.stuck("%s: %s %s, last error %s, lanes %+v", m.cur.name, st.Activity, st.Error, st.LastError, st.Lanes)
			}
		}
		return false
	}
	for _, m := range w.members {
		m.wanted = false
		if m.cur != nil {
			m.cur.drain()
		}
	}
	if !w.await(2*time.Minute, "all members have ended", func() bool { return w.gone() }) {
		return false
	}
	return w.await(5*time.Minute, "the crashed have ended", func() bool {
		w.ghosts = slices.DeleteFunc(w.ghosts, func(p *process) bool { return len(p.ended) > 0 })
		return len(w.ghosts) == 0
	})
}

// nudged waits for something, and helps the embedded broker out of a rebalance that it does not end.
// It counts a member that leaves or is replaced while it waits in SyncGroup as one less that
// joins, so it waits for one more than there are until its deadline; and every
// JoinGroup puts the deadline off. With three members that ask in turn it never comes.
// Kafka ends a rebalance when all have joined, and at its deadline; so a rebalance that lasts for
// four of them is the broker's fault, whatever members do. Silence for one lets the deadline come.
func (w *world) nudged(ok func() bool) func() bool {
	epoch, since := int32(-1), time.Now()
	return func() bool {
		if ok() {
			return true
		}
		g := w.cluster.GroupInfo(w.o.group)
		if g == nil || g.State != "PreparingRebalance" || g.Epoch != epoch {
			epoch, since = -1, time.Now()
			if g != nil {
				epoch = g.Epoch
			}
			return false
		}
		if time.Since(since) < 4*rebalanceTimeout {
			return false
		}
		w.fault("rebalance nudged", "generation %d", epoch)
		var held []*link
		for _, m := range w.members {
			if m.cur != nil {
				m.cur.link.freeze()
				held = append(held, m.cur.link)
			}
		}
		time.Sleep(rebalanceTimeout + time.Second)
		for _, l := range held {
			l.unfreeze()
		}
		since = time.Now()
		return false
	}
}

// gone tells that no member runs.
func (w *world) gone() bool {
	return !slices.ContainsFunc(w.members, func(m *member) bool { return m.cur != nil })
}

// await waits for something, which is a problem if it does not come.
func (w *world) await(d time.Duration, what string, ok func() bool) bool {
	for until := time.Now().Add(d); !ok(); {
		if time.Now().After(until) {
			w.o.stuck("it never came that %s", what)
			return false
		}
		w.sleep(200 * time.Millisecond)
	}
	return true
}

// committedAll compares the group's offsets, by the broker's own word, with the ends of the logs.
func (w *world) committedAll() bool {
	g := w.cluster.GroupInfo(w.o.group)
	if g == nil {
		return false
	}
	for _, p := range w.cluster.PartitionInfos("in") {
		if c, ok := g.Commits["in"][p.Partition]; !ok || c.Offset < p.HighWatermark {
			return false
		}
	}
	return true
}

// read gives what the sink or the dead letters hold.
func (w *world) read(topic string, k sinkKind, d *destination) final {
	f := final{}
	if k != toKafka {
		d.mu.Lock()
		defer d.mu.Unlock()
		for _, a := range d.log {
			f[a.part] = append(f[a.part], a.id)
		}
		return f
	}
	from, ends := map[int32]kgo.Offset{}, map[int32]int64{}
	for _, p := range w.cluster.PartitionInfos(topic) {
		if p.HighWatermark > 0 {
			from[p.Partition], ends[p.Partition] = kgo.NewOffset().AtStart(), p.HighWatermark
		}
	}
	isolation := kgo.ReadUncommitted()
	if w.s.guarantee == configs.ExactlyOnce {
		isolation = kgo.ReadCommitted()
	}
	cl := must(kgo.NewClient(kgo.SeedBrokers(w.cluster.ListenAddrs()...), kgo.Dialer(w.vn.DialContext), kgo.FetchIsolationLevel(isolation), kgo.KeepControlRecords(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}), kgo.FetchMaxWait(100*time.Millisecond)))
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	for len(ends) > 0 && ctx.Err() == nil {
		cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			if r.Offset+1 >= ends[r.Partition] {
				delete(ends, r.Partition)
			}
			if r.Attrs.IsControl() {
				return
			}
			for _, h := range r.Headers {
				if h.Key == "id" {
					f[r.Partition] = append(f[r.Partition], string(h.Value))
				}
			}
		})
	}
	if len(ends) > 0 {
		w.o.stuck("topic %s cannot be read to its end: %v", topic, ends)
	}
	return f
}

// close ends whatever is left.
func (w *world) close() {
	for _, m := range w.members {
		m.wanted = false
		if m.cur != nil {
			m.cur.crash()
		}
	}
	for _, p := range w.ghosts {
		<-p.ended
	}
	w.hand.Close()
	w.cluster.Close()
	w.work.Wait()
}
