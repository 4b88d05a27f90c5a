package kafka_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"keystone/pipeline/record"
	"keystone/sources"
	"keystone/sources/kafka"
	"keystone/sources/kafka/admin"
	"keystone/sources/kafka/client"
	"keystone/sources/kafka/embedded"
)

// cases are the tests that hold on every broker.
var cases = []struct {
	name string
	run  func(t *testing.T, o client.Options)
}{
	{"restart", testRestart},
	{"killed", testKilled},
	{"killed in company", testKilledInCompany},
	{"killed in a rebalance", testKilledInRebalance},
	{"killed, and the topic was recreated", testKilledRecreated},
	{"usurped", testUsurped},
	{"stay", testStay},
	{"contract", testContract},
	{"contract without a group", testContractDirect},
	{"without a group", testDirect},
	{"route", testRoute},
	{"rebalance", testRebalance},
	{"rebalance, dynamic", testRebalanceDynamic},
	{"start", testStart},
	{"first offsets held back", testFirstOffsetsHeldBack},
	{"grow", testGrow},
	{"mirror", testMirror},
	{"data loss", testDataLoss},
	{"data loss, idle", testDataLossIdle},
	{"recreate", testRecreate},
	{"rewind", testRewind},
	{"rewind waits for transactions", testRewindWaitsForTransactions},
	{"open errors", testOpenErrors},
	{"pause", testPause},
	{"vanish", testVanish},
	{"control records", testControl},
	{"tap", testTap},
}

func TestEmbedded(t *testing.T) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.run(t, startEmbedded(t)) })
	}
}

// TestRealKafka runs the same against a real Apache Kafka.
func TestRealKafka(t *testing.T) {
	o := realKafka(t)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.run(t, o) })
	}
	t.Run("rebalance by the broker", func(t *testing.T) { testRebalance848(t, o) })
}

func startEmbedded(t testing.TB) client.Options {
	b, err := embedded.Start(context.Background(), embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return client.Options{Brokers: b.Addrs()}
}

func realKafka(t testing.TB) client.Options {
	addr := os.Getenv("KEYSTONE_TEST_KAFKA")
	if addr == "" {
		t.Skip("no real Kafka: set KEYSTONE_TEST_KAFKA=host:port, or run `make e2e`, which starts one")
	}
	return client.Options{Brokers: strings.Split(addr, ",")}
}

// within bounds what a test waits for; a test that needs it has failed.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// topic makes a topic that no other test uses, and gives an Admin.
func topic(t testing.TB, o client.Options, partitions int, config map[string]string) (string, *admin.Admin) {
	a, err := admin.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	name := fmt.Sprintf("%s-%d", strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, t.Name()), time.Now().UnixNano())
	ensure(t, a, admin.StreamSpec{Topic: name, Partitions: partitions, Replication: 1, Config: config})
	return name, a
}

func ensure(t testing.TB, a *admin.Admin, s admin.StreamSpec) admin.Result {
	rs, err := a.Ensure(within(t), s)
	if err != nil {
		t.Fatal(err)
	}
	if err := rs[s.Topic].Err; err != nil {
		t.Fatal(err)
	}
	return rs[s.Topic]
}

// produce writes values from..to-1 to each of the partitions.
func produce(t testing.TB, o client.Options, topic string, partitions []int32, from, to int) {
	opts, err := o.Kgo(&client.Health{})
	if err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	var mu sync.Mutex
	var failed error
	for i := from; i < to; i++ {
		for _, p := range partitions {
			cl.Produce(within(t), &kgo.Record{Topic: topic, Partition: p, Key: fmt.Appendf(nil, "k%d", i), Value: fmt.Appendf(nil, "%d", i),
				Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("v")}}}, func(_ *kgo.Record, err error) {
				if err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
				}
			})
		}
	}
	if err := cl.Flush(within(t)); err != nil {
		t.Fatal(err)
	}
	if failed != nil {
		t.Fatal(failed)
	}
}

func parts(n int) []int32 {
	out := make([]int32, n)
	for i := range out {
		out[i] = int32(i)
	}
	return out
}

// dynamic is the Instance of a member without one; the others have their name.
const dynamic = "-"

// member is a worker reduced to its bones: it reads, notes, and commits.
type member struct {
	t      testing.TB
	name   string
	src    sources.Source
	oracle *oracle
	cancel context.CancelFunc
	done   chan struct{}

	mu       sync.Mutex
	owned    map[int32]int64 // next offset to be delivered
	read     map[int32]record.Position
	losses   []string
	revoked  []int32
	lost     []int32
	fatal    error
	problems []error
	changed  chan struct{}
	dies     func() // called where it would commit what is revoked, in place of that
}

func start(t testing.TB, c kafka.Config, name string, or *oracle, from ...record.Position) *member {
	m, err := tryStart(t, c, name, or, from...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func tryStart(t testing.TB, c kafka.Config, name string, or *oracle, from ...record.Position) (*member, error) {
	c.Linger = 20 * time.Millisecond
	switch c.Instance {
	case "":
		c.Instance = name
	case dynamic:
		c.Instance = ""
	}
	src, err := c.New(sources.Deps{Log: slog.New(slog.DiscardHandler), Route: name})
	if err != nil {
		return nil, err
	}
	m := &member{t: t, name: name, src: src, oracle: or, done: make(chan struct{}), owned: map[int32]int64{}, read: map[int32]record.Position{}, changed: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	if err := src.Open(within(t), from, m); err != nil {
		close(m.done)
		cancel()
		_ = src.Close(within(t))
		return nil, err
	}
	go m.run(ctx)
	t.Cleanup(func() { m.stop(); _ = m.src.Close(within(t)) })
	return m, nil
}

func (m *member) run(ctx context.Context) {
	defer close(m.done)
	b := &record.Batch{}
	for ctx.Err() == nil {
		b.Reset()
		err := m.src.Read(ctx, b)
		if sources.IsFatal(err) {
			m.mu.Lock()
			m.fatal = err
			m.mu.Unlock()
			m.signal()
			return
		}
		if err != nil {
			if ctx.Err() == nil {
				m.mu.Lock()
				m.problems = append(m.problems, err)
				m.mu.Unlock()
				m.signal()
			}
			continue
		}
		if b.Next == (record.Position{}) {
			continue
		}
		m.mu.Lock()
		if _, ok := m.owned[b.Partition]; ok {
			for i := range b.Records {
				m.oracle.deliver(m.t, m.name, b.Partition, b.Records[i])
			}
			m.read[b.Partition] = b.Next
		}
		commit := []record.Position{b.Next}
		m.mu.Unlock()
		if err := m.src.Commit(ctx, commit); err != nil && sources.IsFatal(err) {
			m.t.Errorf("%s: commit: %v", m.name, err)
		}
		m.signal()
	}
}

func (m *member) signal() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// stop ends reading, as a crash would: nothing is closed.
func (m *member) stop() {
	m.cancel()
	<-m.done
}

func (m *member) close() {
	m.stop()
	if err := m.src.Close(within(m.t)); err != nil {
		m.t.Errorf("close %s: %v", m.name, err)
	}
}

// await waits until ok, looked at after each event.
func (m *member) await(what string, ok func() bool) {
	m.t.Helper()
	ctx := within(m.t)
	for {
		m.mu.Lock()
		done, fatal := ok(), m.fatal
		m.mu.Unlock()
		if done {
			return
		}
		if fatal != nil {
			m.t.Fatalf("%s: %s: reading ended: %v", m.name, what, fatal)
		}
		select {
		case <-m.changed:
		case <-ctx.Done():
			m.mu.Lock()
			defer m.mu.Unlock()
			m.t.Fatalf("%s: never: %s; owns %v, problems %v", m.name, what, m.owned, m.problems)
		}
	}
}

func (m *member) Assigned(ps []record.Position) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range ps {
		m.owned[p.Partition] = p.Offset
	}
	m.signal()
}

func (m *member) Revoked(ctx context.Context, parts []int32) {
	m.mu.Lock()
	var commit []record.Position
	for _, p := range parts {
		delete(m.owned, p)
		m.revoked = append(m.revoked, p)
		if at, ok := m.read[p]; ok {
			commit = append(commit, at)
		}
	}
	dies := m.dies
	m.mu.Unlock()
	if dies != nil {
		dies()
		return
	}
	if err := m.src.Commit(ctx, commit); err != nil {
		m.t.Logf("%s: last commit: %v", m.name, err)
	}
	m.signal()
}

func (m *member) Lost(parts []int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range parts {
		delete(m.owned, p)
		m.lost = append(m.lost, p)
	}
	m.signal()
}

func (m *member) DataLoss(part int32, from, to int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.losses = append(m.losses, fmt.Sprintf("%d: %d-%d", part, from, to))
	m.signal()
}

// oracle holds what was delivered against what was written: nothing lost,
// and the first deliveries of a partition in its order.
type oracle struct {
	mu      sync.Mutex
	seen    map[int32]map[int64]string
	highest map[int32]int64
	repeats int
	changed chan struct{}
}

func newOracle() *oracle {
	return &oracle{seen: map[int32]map[int64]string{}, highest: map[int32]int64{}, changed: make(chan struct{}, 1)}
}

func (o *oracle) deliver(t testing.TB, who string, part int32, r record.Record) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.seen[part] == nil {
		o.seen[part], o.highest[part] = map[int64]string{}, -1
	}
	if was, ok := o.seen[part][r.Offset]; ok {
		o.repeats++
		if was != string(r.Value) {
			t.Errorf("partition %d offset %d was %q and is %q", part, r.Offset, was, r.Value)
		}
	} else if r.Offset <= o.highest[part] {
		t.Errorf("%s: partition %d: offset %d is first delivered after %d", who, part, r.Offset, o.highest[part])
	}
	o.seen[part][r.Offset] = strings.Clone(string(r.Value))
	o.highest[part] = max(o.highest[part], r.Offset)
	select {
	case o.changed <- struct{}{}:
	default:
	}
}

func (o *oracle) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for _, m := range o.seen {
		n += len(m)
	}
	return n
}

func (o *oracle) await(t testing.TB, n int) {
	t.Helper()
	ctx := within(t)
	for o.count() < n {
		select {
		case <-o.changed:
		case <-ctx.Done():
			t.Fatalf("%d of %d records were delivered", o.count(), n)
		}
	}
}

// check wants the values from..to-1 in each partition, in order.
func (o *oracle) check(t testing.TB, partitions []int32, from, to int) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range partitions {
		var offsets []int64
		for at := range o.seen[p] {
			offsets = append(offsets, at)
		}
		slices.Sort(offsets)
		if len(offsets) != to-from {
			t.Errorf("partition %d: %d records, want %d", p, len(offsets), to-from)
			continue
		}
		for i, at := range offsets {
			if want := fmt.Sprint(from + i); o.seen[p][at] != want {
				t.Errorf("partition %d offset %d: %q, want %q", p, at, o.seen[p][at], want)
				break
			}
		}
	}
}
