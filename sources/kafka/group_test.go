package kafka_test

import (
	"fmt"
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
)

// Members come and go while records are written: nothing is lost, and each
// partition is first delivered in its order.
func testRebalance(t *testing.T, o client.Options) { rebalance(t, o, kafka.Classic, "") }
func testRebalanceDynamic(t *testing.T, o client.Options) {
	rebalance(t, o, kafka.Classic, dynamic)
}
func testRebalance848(t *testing.T, o client.Options) { rebalance(t, o, kafka.Consumer, "") }

func rebalance(t *testing.T, o client.Options, protocol kafka.Protocol, instance string) {
	name, a := topic(t, o, 6, nil)
	conf := kafka.Config{Client: o, Topic: name, Group: "g-" + name, Protocol: protocol, Instance: instance}
	or := newOracle()
	const n = 3000
	var writing sync.WaitGroup
	halfway := make(chan struct{})
	writing.Go(func() {
		for i := 0; i < n; i += 100 {
			produce(t, o, name, parts(6), i, i+100)
			if i == n/2 {
				close(halfway)
			}
		}
	})
	one := start(t, conf, "one", or)
	one.await("all partitions", func() bool { return len(one.owned) == 6 })
	or.await(t, 600)
	two := start(t, conf, "two", or)
	two.await("half of the partitions", func() bool { return len(two.owned) == 3 })
	one.await("the other half", func() bool { return len(one.owned) == 3 })
	<-halfway
	two.close()
	one.await("all partitions again", func() bool { return len(one.owned) == 6 })
	writing.Wait()
	or.await(t, 6*n)
	one.close()
	or.check(t, parts(6), 0, n)
	gs, err := a.Groups(within(t), conf.Group)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range gs[conf.Group].Committed[name] {
		if p.Offset != n {
			t.Errorf("partition %d is committed at %d, want %d", p.Partition, p.Offset, n)
		}
	}
	t.Logf("%d records were delivered again", or.repeats)
}

// start counts once: records written between it and the first commit are read.
func testStart(t *testing.T, o client.Options) {
	name, a := topic(t, o, 2, nil)
	produce(t, o, name, parts(2), 0, 10)
	before := time.Now()
	for _, c := range []struct {
		start string
		first int64
	}{{"earliest", 0}, {"", 0}, {"latest", 10}, {before.Add(-time.Hour).Format(time.RFC3339), 0}, {before.Add(time.Hour).Format(time.RFC3339), 10}} {
		conf := kafka.Config{Client: o, Topic: name, Group: fmt.Sprintf("g-%s-%.6s-%d", name, c.start, time.Now().UnixNano()), Start: c.start}
		m := start(t, conf, "m", newOracle())
		m.await("both partitions", func() bool { return len(m.owned) == 2 })
		for p, at := range m.owned {
			if at != c.first {
				t.Errorf("start %q: partition %d begins at %d, want %d", c.start, p, at, c.first)
			}
		}
		m.close()
		// Both partitions are committed although none was read to a commit.
		gs, err := a.Groups(within(t), conf.Group)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(gs[conf.Group].Committed[name]); got != 2 {
			t.Errorf("start %q: %d partitions are committed, want 2", c.start, got)
		}
	}
}

// A partition that is added later begins at its beginning, whatever start says.
func testGrow(t *testing.T, o client.Options) {
	name, a := topic(t, o, 1, nil)
	produce(t, o, name, parts(1), 0, 10)
	conf := kafka.Config{Client: o, Topic: name, Group: "g-" + name, Start: "latest"}
	or := newOracle()
	m := start(t, conf, "m", or)
	m.await("the partition", func() bool { return len(m.owned) == 1 })
	m.close()
	r := ensure(t, a, admin.StreamSpec{Topic: name, Partitions: 2})
	if fmt.Sprint(r.Changes) != "[partitions: 1 -> 2]" {
		t.Errorf("changes %v", r.Changes)
	}
	produce(t, o, name, []int32{1}, 0, 7)
	m = start(t, conf, "m", or)
	or.await(t, 7)
	m.close()
	or.check(t, []int32{1}, 0, 7)
	if len(or.seen[0]) != 0 {
		t.Errorf("partition 0 was read: %v", or.seen[0])
	}
}

// Positions stored elsewhere stand in for a group that forgot its own.
func testMirror(t *testing.T, o client.Options) {
	name, a := topic(t, o, 2, nil)
	produce(t, o, name, parts(2), 0, 10)
	_, have, err := a.Observe(within(t), name)
	if err != nil {
		t.Fatal(err)
	}
	conf := kafka.Config{Client: o, Topic: name, Group: "g-" + name, Start: "latest"}
	m := start(t, conf, "m", newOracle(), record.Position{Partition: 0, Offset: 4, Identity: have[name].ID})
	m.await("both partitions", func() bool { return len(m.owned) == 2 })
	if m.owned[0] != 4 || m.owned[1] != 0 {
		t.Errorf("begins at %v, want 4 and the beginning", m.owned)
	}
	m.close()
	_, err = tryStart(t, kafka.Config{Client: o, Topic: name, Group: "h-" + name}, "m", newOracle(), record.Position{Partition: 0, Offset: 4, Identity: "another"})
	if !sources.IsFatal(err) || !strings.Contains(err.Error(), "deleted and created again") {
		t.Errorf("got %v", err)
	}
	// Of another cluster they mean nothing, whatever the topic's id.
	elsewhere := record.Position{Partition: 0, Offset: 4, Identity: have[name].ID, Cluster: "another"}
	_, err = tryStart(t, kafka.Config{Client: o, Topic: name, Group: "i-" + name}, "m", newOracle(), elsewhere)
	if !sources.IsFatal(err) || !strings.Contains(err.Error(), "cluster with the id another") {
		t.Errorf("positions of another cluster: %v", err)
	}
	if err := a.SetOffsets(within(t), "i-"+name, name, []record.Position{elsewhere}); err != nil {
		t.Fatal(err)
	}
	_, err = tryStart(t, kafka.Config{Client: o, Topic: name, Group: "i-" + name}, "m", newOracle())
	if !sources.IsFatal(err) || !strings.Contains(err.Error(), "cluster with the id another") {
		t.Errorf("offsets of another cluster: %v", err)
	}
}

// Records that retention removes before they are read are told of, not
// jumped over in silence.
func testDataLoss(t *testing.T, o client.Options) {
	name, a := topic(t, o, 2, nil)
	produce(t, o, name, parts(2), 0, 100)
	conf := kafka.Config{Client: o, Topic: name, Group: "g-" + name}
	or := newOracle()
	m := start(t, conf, "m", or)
	or.await(t, 200)
	m.close()
	produce(t, o, name, parts(2), 100, 200)
	if err := a.DeleteRecords(within(t), name, map[int32]int64{1: 150}); err != nil {
		t.Fatal(err)
	}
	stop := conf
	stop.StopOnDataLoss = true
	m = start(t, stop, "stops", or)
	m.await("partition 0, and the end", func() bool { f := m.fatal != nil; m.fatal = nil; return f })
	if fmt.Sprint(m.losses) != "[1: 100-150]" {
		t.Errorf("losses %v", m.losses)
	}
	m.close()
	m = start(t, conf, "goes on", or)
	or.await(t, 350)
	m.await("the loss", func() bool { return len(m.losses) > 0 })
	if fmt.Sprint(m.losses) != "[1: 100-150]" {
		t.Errorf("losses %v", m.losses)
	}
	m.close()
	or.check(t, []int32{0}, 0, 200)
	if _, ok := or.seen[1][149]; ok || len(or.seen[1]) != 150 {
		t.Errorf("partition 1: %d records", len(or.seen[1]))
	}
}

// Everything is removed and nothing new is written: it is told all the same, once, and the
// position moves behind it.
func testDataLossIdle(t *testing.T, o client.Options) {
	name, a := topic(t, o, 1, nil)
	conf := kafka.Config{Client: o, Topic: name, Group: "g-" + name}
	m := start(t, conf, "m", newOracle())
	m.await("the partition", func() bool { return len(m.owned) == 1 })
	m.close()
	produce(t, o, name, parts(1), 0, 100)
	if err := a.DeleteRecords(within(t), name, map[int32]int64{0: 100}); err != nil {
		t.Fatal(err)
	}
	m = start(t, conf, "m", newOracle())
	m.await("the end of the log", func() bool { return m.read[0].Offset == 100 })
	m.close()
	if fmt.Sprint(m.losses) != "[0: 0-100]" {
		t.Errorf("losses %v", m.losses)
	}
	gs, err := a.Groups(within(t), conf.Group)
	if err != nil {
		t.Fatal(err)
	}
	if c := gs[conf.Group].Committed[name]; len(c) != 1 || c[0].Offset != 100 {
		t.Errorf("committed %+v, want 100: there is nothing before it", c)
	}
	or := newOracle()
	m = start(t, conf, "m", or)
	produce(t, o, name, parts(1), 100, 110)
	or.await(t, 10)
	m.close()
	if len(m.losses) != 0 {
		t.Errorf("it is told again: %v", m.losses)
	}
}

// A topic that is deleted and created again while it is read, and while it is
// not, ends the route until the user accepts it.
func testRecreate(t *testing.T, o client.Options) {
	name, a := topic(t, o, 1, nil)
	produce(t, o, name, parts(1), 0, 10)
	conf := kafka.Config{Client: o, Topic: name, Group: "g-" + name}
	or := newOracle()
	m := start(t, conf, "m", or)
	or.await(t, 10)
	at := record.Position{Partition: 0, Offset: 10, Identity: m.src.(*kafka.Source).TopicID()}
	if err := a.Delete(within(t), name); err != nil {
		t.Fatal(err)
	}
	ensure(t, a, admin.StreamSpec{Topic: name, Partitions: 1, Replication: 1})
	produce(t, o, name, parts(1), 100, 120)
	var fatal error
	m.await("the end", func() bool { fatal, m.fatal = m.fatal, nil; return fatal != nil })
	if !strings.Contains(fatal.Error(), "was deleted and created again") {
		t.Errorf("got %v", fatal)
	}
	m.close()
	if or.count() != 10 {
		t.Errorf("%d records were delivered", or.count())
	}
	// Kafka forgets the offsets of a deleted topic, the stored positions do not.
	if _, err := tryStart(t, conf, "m", or, at); !sources.IsFatal(err) {
		t.Errorf("reopened: %v", err)
	}
	conf.AcceptNewTopic = true
	fresh := newOracle()
	m = start(t, conf, "m", fresh, at)
	fresh.await(t, 20)
	m.close()
	fresh.check(t, parts(1), 100, 120)
}

func testOpenErrors(t *testing.T, o client.Options) {
	_, err := tryStart(t, kafka.Config{Client: o, Topic: "no-such-topic", Group: "g"}, "m", newOracle())
	if err == nil || sources.IsFatal(err) || !strings.Contains(err.Error(), "topic no-such-topic does not exist") || !strings.Contains(err.Error(), o.Brokers[0]) {
		t.Errorf("got %v", err)
	}
}

// Pausing one partition leaves the others alone, and loses nothing.
func testPause(t *testing.T, o client.Options) {
	name, _ := topic(t, o, 2, nil)
	conf := kafka.Config{Client: o, Topic: name, Group: "g-" + name}
	or := newOracle()
	m := start(t, conf, "m", or)
	m.await("both partitions", func() bool { return len(m.owned) == 2 })
	m.src.Pause([]int32{0})
	produce(t, o, name, parts(2), 0, 500)
	produce(t, o, name, parts(2), 500, 1000)
	m.await("partition 1 whole", func() bool { or.mu.Lock(); defer or.mu.Unlock(); return len(or.seen[1]) == 1000 })
	if n := len(or.seen[0]); n != 0 {
		t.Errorf("%d records of a paused partition", n)
	}
	m.src.Resume([]int32{0})
	or.await(t, 2000)
	m.close()
	or.check(t, parts(2), 0, 1000)
	if or.repeats != 0 {
		t.Errorf("%d repeats", or.repeats)
	}
}

// A topic that is deleted while it is read is a visible problem, and reading
// goes on by itself neither there nor elsewhere.
func testVanish(t *testing.T, o client.Options) {
	name, a := topic(t, o, 1, nil)
	produce(t, o, name, parts(1), 0, 10)
	or := newOracle()
	m := start(t, kafka.Config{Client: o, Topic: name, Group: "g-" + name}, "m", or)
	or.await(t, 10)
	if err := a.Delete(within(t), name); err != nil {
		t.Fatal(err)
	}
	m.await("the problem", func() bool {
		return slices.ContainsFunc(m.problems, func(err error) bool { return strings.Contains(err.Error(), "does not exist") })
	})
}

// The position passes control records at the end of the log, so that an idle
// topic of transactions has no lag; aborted records are not seen.
func testControl(t *testing.T, o client.Options) {
	name, a := topic(t, o, 1, nil)
	opts, err := o.Kgo(&client.Health{})
	if err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(append(opts, kgo.TransactionalID("tx-"+name), kgo.DefaultProduceTopic(name))...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for i, end := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit, kgo.TryAbort} {
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			if err := cl.ProduceSync(within(t), kgo.StringRecord(fmt.Sprint(i))).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		if err := cl.EndTransaction(within(t), end); err != nil {
			t.Fatal(err)
		}
	}
	conf := kafka.Config{Client: o, Topic: name, Group: "g-" + name, ReadCommitted: true}
	or := newOracle()
	m := start(t, conf, "m", or)
	m.await("the end of the log", func() bool { return m.read[0].Offset == 24 })
	m.close()
	if or.count() != 10 {
		t.Errorf("%d records were delivered, want those of two transactions", or.count())
	}
	gs, err := a.Groups(within(t), conf.Group)
	if err != nil {
		t.Fatal(err)
	}
	_, now, err := a.ObserveOffsets(within(t), name)
	if err != nil {
		t.Fatal(err)
	}
	if lag := gs[conf.Group].Lag(name, now[name]); lag[0] != 0 {
		t.Errorf("lag %v", lag)
	}
	n := 0
	err = kafka.Tap{Client: o, Topic: name, ReadCommitted: true}.Read(within(t), func(b *record.Batch) error { n += len(b.Records); return nil })
	if err != nil || n != 10 {
		t.Errorf("tap: %d records, %v", n, err)
	}
}

// A tap reads what it is asked for, and ends.
func testTap(t *testing.T, o client.Options) {
	name, a := topic(t, o, 2, nil)
	produce(t, o, name, parts(2), 0, 100)
	count := func(tap kafka.Tap) string {
		t.Helper()
		tap.Client, tap.Topic = o, name
		n := map[int32]int{}
		first := map[int32]int64{}
		err := tap.Read(within(t), func(b *record.Batch) error {
			if _, ok := first[b.Partition]; !ok {
				first[b.Partition] = b.Records[0].Offset
			}
			n[b.Partition] += len(b.Records)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(n, first)
	}
	for _, c := range []struct {
		tap  kafka.Tap
		want string
	}{
		{kafka.Tap{}, "map[0:100 1:100] map[0:0 1:0]"},
		{kafka.Tap{Start: "latest"}, "map[] map[]"},
		{kafka.Tap{Last: 7}, "map[0:7 1:7] map[0:93 1:93]"},
		{kafka.Tap{Only: []int32{1}, Last: 7}, "map[1:7] map[1:93]"},
		{kafka.Tap{Start: "latest", From: []record.Position{{Partition: 0, Offset: 40}}}, "map[0:60] map[0:40]"},
	} {
		if got := count(c.tap); got != c.want {
			t.Errorf("%+v: %s, want %s", c.tap, got, c.want)
		}
	}
	if err := a.DeleteRecords(within(t), name, map[int32]int64{0: 100, 1: 50}); err != nil {
		t.Fatal(err)
	}
	if got := count(kafka.Tap{}); got != "map[1:50] map[1:50]" {
		t.Errorf("after records were deleted: %s", got)
	}
	err := kafka.Tap{Client: o, Topic: "no-such-topic"}.Read(within(t), func(*record.Batch) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("got %v", err)
	}
}
