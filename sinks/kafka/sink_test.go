package kafka_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"keystone/pipeline/record"
	"keystone/sinks"
	sink "keystone/sinks/kafka"
	"keystone/sinks/sinktest"
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
	{"write", testWrite},
	{"keys", testKeys},
	{"rejected", testRejected},
	{"rejected together", testRejectedTogether},
	{"null", testNull},
	{"open errors", testOpenErrors},
	{"contract", testContract},
}

func TestEmbedded(t *testing.T) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b, err := embedded.Start(context.Background(), embedded.Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(b.Close)
			c.run(t, client.Options{Brokers: b.Addrs()})
		})
	}
}

// TestRealKafka runs the same against a real Apache Kafka.
func TestRealKafka(t *testing.T) {
	o := realKafka(t)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.run(t, o) })
	}
}

func realKafka(t testing.TB) client.Options {
	addr := os.Getenv("KEYSTONE_TEST_KAFKA")
	if addr == "" {
		t.Skip("no real Kafka: set KEYSTONE_TEST_KAFKA=host:port, or run `make e2e`, which starts one")
	}
	return client.Options{Brokers: strings.Split(addr, ",")}
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func topic(t testing.TB, o client.Options, partitions int, config map[string]string) (string, *admin.Admin) {
	a, err := admin.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	name := fmt.Sprintf("sink-%d", time.Now().UnixNano())
	rs, err := a.Ensure(within(t), admin.StreamSpec{Topic: name, Partitions: partitions, Replication: 1, Config: config})
	if err != nil {
		t.Fatal(err)
	}
	if rs[name].Err != nil {
		t.Fatal(rs[name].Err)
	}
	return name, a
}

func open(t testing.TB, c sink.Config) sinks.Sink {
	s, err := c.New(sinks.Deps{Route: `route.tv["a b"]`})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Open(within(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(within(t)) })
	return s
}

func batch(part int32, values ...string) *record.Batch {
	b := &record.Batch{Topic: "in", Partition: part, Next: record.Position{Partition: part, Identity: "id"}}
	for i, v := range values {
		r := record.Record{Offset: int64(i), Timestamp: 1700000000000 + int64(i), Value: []byte(v), Headers: []record.Header{{Key: "h", Value: []byte("v")}}}
		b.Records = append(b.Records, r)
		b.Bytes += len(v)
	}
	return b
}

func write(t testing.TB, s sinks.Sink, b *record.Batch) error {
	done := make(chan error, 1)
	s.Write(within(t), b, func(err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-within(t).Done():
		t.Fatal("done was never called")
		return nil
	}
}

func readAll(t testing.TB, o client.Options, topic string) map[int32][]record.Record {
	out := map[int32][]record.Record{}
	err := kafka.Tap{Client: o, Topic: topic}.Read(within(t), func(b *record.Batch) error {
		for _, r := range b.Records {
			r.Value, r.Key, r.Headers = append([]byte(nil), r.Value...), append([]byte(nil), r.Key...), append([]record.Header(nil), r.Headers...)
			out[b.Partition] = append(out[b.Partition], r)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Records without a key keep their partition, and its order; those with one
// go where Kafka's own clients put them; everything of a record is kept.
func testWrite(t *testing.T, o client.Options) {
	for _, compression := range client.Compressions() {
		t.Run(compression, func(t *testing.T) {
			name, _ := topic(t, o, 3, nil)
			s := open(t, sink.Config{Client: o, Topic: name, Compression: compression, Origin: true})
			for p := range int32(4) {
				b := batch(p)
				for i := range 50 {
					b.Records = append(b.Records, record.Record{Offset: int64(i), Timestamp: 1700000000000, Value: fmt.Appendf(nil, "%d/%d", p, i), Headers: []record.Header{{Key: "h", Value: []byte("v")}}})
				}
				if err := write(t, s, b); err != nil {
					t.Fatal(err)
				}
			}
			got := readAll(t, o, name)
			if len(got[0]) != 100 || len(got[1]) != 50 || len(got[2]) != 50 {
				t.Fatalf("partitions hold %d, %d, %d", len(got[0]), len(got[1]), len(got[2]))
			}
			for i, r := range got[1] {
				if string(r.Value) != fmt.Sprintf("1/%d", i) || r.Timestamp != 1700000000000 || len(r.Headers) != 2 || string(r.Headers[0].Value) != "v" {
					t.Fatalf("record %d: %+v", i, r)
				}
				at, err := sink.ParseOrigin(r.Headers[1].Value)
				if err != nil || at != (sink.Origin{Route: `route.tv["a b"]`, TopicID: "id", Partition: 1, Offset: int64(i)}) {
					t.Fatalf("origin %+v, %v", at, err)
				}
			}
		})
	}
}

// The partitions that Kafka's Java client gives these keys among 10.
func testKeys(t *testing.T, o client.Options) {
	name, _ := topic(t, o, 10, nil)
	s := open(t, sink.Config{Client: o, Topic: name})
	// murmur2 vectors of org.apache.kafka.common.utils.UtilsTest: the hash
	// without its sign, modulo 10.
	want := map[string]int32{}
	for k, h := range map[string]int32{"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536, "a-little-bit-longer-string": -1486304829, "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971, "abc": 479470107} {
		want[k] = (h & 0x7fffffff) % 10
	}
	b := batch(0)
	for k := range want {
		b.Records = append(b.Records, record.Record{Key: []byte(k), Value: []byte(k)})
	}
	if err := write(t, s, b); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for p, rs := range readAll(t, o, name) {
		for _, r := range rs {
			seen++
			if want[string(r.Key)] != p {
				t.Errorf("key %q is in partition %d, want %d", r.Key, p, want[string(r.Key)])
			}
		}
	}
	if seen != len(want) {
		t.Errorf("%d records, want %d", seen, len(want))
	}
}

// Kafka refuses a record batch for one record in it: only that one is rejected.
func testRejected(t *testing.T, o client.Options) {
	name, _ := topic(t, o, 1, map[string]string{"max.message.bytes": "1000"})
	s := open(t, sink.Config{Client: o, Topic: name, Linger: 50 * time.Millisecond})
	err := write(t, s, batch(0, "a", strings.Repeat("x", 5000), "c", "d"))
	var pe *sinks.PartialError
	if !errors.As(err, &pe) || len(pe.Failures) != 1 {
		t.Fatalf("got %v", err)
	}
	if f := pe.Failures[0]; f.Index != 1 || f.Outcome != sinks.Rejected || f.Code != "message_too_large" {
		t.Errorf("failure %+v", f)
	}
	var values []string
	for _, r := range readAll(t, o, name)[0] {
		values = append(values, string(r.Value))
	}
	if fmt.Sprint(values) != "[a c d]" {
		t.Errorf("written: %.60q", values)
	}
}

// A tombstone is written as null, and an empty value as empty.
// Routes that share a producer share record batches: a record of one that is
// refused rejects none of the other's, however few there are.
func testRejectedTogether(t *testing.T, o client.Options) {
	name, _ := topic(t, o, 1, map[string]string{"max.message.bytes": "1000"})
	pool := client.NewPool()
	c := sink.Config{Client: o, Pool: pool, Topic: name, Linger: 100 * time.Millisecond}
	guilty, innocent := open(t, c), open(t, c)
	answers := make(chan error, 1)
	guilty.Write(within(t), batch(0, strings.Repeat("x", 5000)), func(err error) { answers <- err })
	if err := write(t, innocent, batch(0, "fine")); err != nil {
		t.Errorf("the other route's record: %v", err)
	}
	var pe *sinks.PartialError
	if err := <-answers; !errors.As(err, &pe) || len(pe.Failures) != 1 || pe.Failures[0].Outcome != sinks.Rejected {
		t.Errorf("the large record: %v", err)
	}
	if got := readAll(t, o, name)[0]; len(got) != 1 || string(got[0].Value) != "fine" {
		t.Errorf("written: %v", got)
	}
}

func testNull(t *testing.T, o client.Options) {
	name, _ := topic(t, o, 1, nil)
	s := open(t, sink.Config{Client: o, Topic: name})
	b := batch(0)
	b.Records = []record.Record{{Key: []byte("k")}, {Key: []byte("k"), Value: []byte{}}}
	if err := write(t, s, b); err != nil {
		t.Fatal(err)
	}
	n := 0
	err := kafka.Tap{Client: o, Topic: name}.Read(within(t), func(b *record.Batch) error {
		for i, r := range b.Records {
			if n++; (r.Value == nil) != (i == 0) {
				t.Errorf("record %d has value %v", i, r.Value)
			}
		}
		return nil
	})
	if err != nil || n != 2 {
		t.Fatal(n, err)
	}
}

func testOpenErrors(t *testing.T, o client.Options) {
	c := sink.Config{Client: o, Topic: "no-such-topic"}
	s, err := c.New(sinks.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Open(within(t))
	if err == nil || sinks.IsPermanent(err) || !strings.Contains(err.Error(), "no-such-topic does not exist") || !strings.Contains(err.Error(), o.Brokers[0]) {
		t.Errorf("got %v", err)
	}
	if err := s.Close(within(t)); err != nil {
		t.Error(err)
	}
}

// Routes of one cluster share a producer, and the last one closes it.
func TestPool(t *testing.T) {
	b, err := embedded.Start(context.Background(), embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	o := client.Options{Brokers: b.Addrs()}
	name, _ := topic(t, o, 1, nil)
	pool := client.NewPool()
	one := open(t, sink.Config{Client: o, Pool: pool, Topic: name})
	two := open(t, sink.Config{Client: o, Pool: pool, Topic: name})
	other := open(t, sink.Config{Client: o, Pool: pool, Topic: name, Compression: "zstd"})
	if pool.Len() != 2 {
		t.Errorf("%d producers, want one per compression", pool.Len())
	}
	if err := one.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	if err := write(t, two, batch(0, "still here")); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(two.Close(within(t)), other.Close(within(t))); err != nil || pool.Len() != 0 {
		t.Error(err, pool.Len())
	}
}

// Write waits while the sink's own budget is used up, and obeys its context.
func TestBackPressure(t *testing.T) {
	b, err := embedded.Start(context.Background(), embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	o := client.Options{Brokers: b.Addrs()}
	name, _ := topic(t, o, 1, nil)
	s := open(t, sink.Config{Client: o, Topic: name, BufferBytes: 1000})
	if err := write(t, s, batch(0, "x")); err != nil {
		t.Fatal(err)
	}
	b.Close() // from here on nothing is acknowledged
	first := make(chan error, 1)
	s.Write(within(t), batch(0, strings.Repeat("x", 2000)), func(err error) { first <- err })
	ctx, cancel := context.WithCancel(context.Background())
	second := make(chan error, 1)
	go s.Write(ctx, batch(0, "y"), func(err error) { second <- err })
	cancel()
	if err := <-second; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	now, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Close(now); err == nil || !strings.Contains(err.Error(), "1 batches not acknowledged") {
		t.Errorf("close: %v", err)
	}
	select {
	case err := <-first:
		if err == nil {
			t.Error("a batch that was not acknowledged has no error")
		}
	case <-within(t).Done():
		t.Error("done was never called")
	}
}

func TestCodes(t *testing.T) {
	c := sink.Config{Compression: "ztsd"}
	ds := c.Check()
	if len(ds) != 2 || !strings.Contains(ds[1].Detail, `Did you mean "zstd"?`) {
		t.Error(ds)
	}
	known := map[string]bool{}
	for _, c := range sink.Codes() {
		known[c.Code] = true
	}
	for _, d := range ds {
		if !known[d.Code] {
			t.Errorf("%s is not documented", d.Code)
		}
	}
}

func testContract(t *testing.T, o client.Options) {
	sinktest.Run(t, func(t *testing.T) sinktest.Case {
		name, a := topic(t, o, 1, map[string]string{"max.message.bytes": "3000000"})
		a.Close()
		make := func(topic string) sinks.Sink {
			s, err := (&sink.Config{Client: o, Topic: topic, BatchBytes: 3_000_000}).New(sinks.Deps{})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		return sinktest.Case{
			New: func() sinks.Sink { return make(name) },
			Read: func(t *testing.T) []string {
				var values []string
				for _, r := range readAll(t, o, name)[0] {
					values = append(values, string(r.Value))
				}
				return values
			},
			Unopenable: func() sinks.Sink { return make("no-such-topic") },
			Refused:    bytes.Repeat([]byte("x"), 4_000_000),
			Ignore:     []goleak.Option{goleak.IgnoreAnyFunction("github.com/twmb/franz-go/pkg/kfake.(*clientConn).read"), goleak.IgnoreAnyFunction("github.com/twmb/franz-go/pkg/kfake.(*clientConn).write")},
		}
	})
}
