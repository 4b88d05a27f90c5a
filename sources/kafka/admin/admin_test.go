package admin_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"keystone/pipeline/record"
	"keystone/sources/kafka/admin"
	"keystone/sources/kafka/client"
	"keystone/sources/kafka/embedded"
)

var cases = []struct {
	name string
	run  func(t *testing.T, a *admin.Admin)
}{
	{"ensure", testEnsure},
	{"delete", testDelete},
	{"groups", testGroups},
}

func TestEmbedded(t *testing.T) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b, err := embedded.Start(context.Background(), embedded.Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(b.Close)
			c.run(t, open(t, b.Addrs()))
		})
	}
}

// TestRealKafka runs the same against a real Apache Kafka.
func TestRealKafka(t *testing.T) {
	addr := os.Getenv("KEYSTONE_TEST_KAFKA")
	if addr == "" {
		t.Skip("no real Kafka: set KEYSTONE_TEST_KAFKA=host:port, or run `make e2e`, which starts one")
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.run(t, open(t, strings.Split(addr, ","))) })
	}
	// The embedded broker takes every name and every setting.
	t.Run("errors", func(t *testing.T) { testErrors(t, open(t, strings.Split(addr, ","))) })
}

func open(t testing.TB, brokers []string) *admin.Admin {
	a, err := admin.New(client.Options{Brokers: brokers})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func name(t *testing.T, s string) string {
	return fmt.Sprintf("%s-%d-%s", strings.NewReplacer("/", "-", " ", "-").Replace(t.Name()), time.Now().UnixNano(), s)
}

func ensure(t *testing.T, a *admin.Admin, s admin.StreamSpec) admin.Result {
	t.Helper()
	rs, err := a.Ensure(within(t), s)
	if err != nil {
		t.Fatal(err)
	}
	return rs[s.Topic]
}

// Twice is once; what differs is changed; what cannot be changed is said.
func testEnsure(t *testing.T, a *admin.Admin) {
	s := admin.StreamSpec{Topic: name(t, "s"), Partitions: 2, Replication: 1, Config: map[string]string{"retention.ms": "3600000"}}
	if r := ensure(t, a, s); r.Err != nil || !r.Created {
		t.Fatalf("%+v", r)
	}
	if r := ensure(t, a, s); r.Err != nil || r.Created || len(r.Changes) != 0 || len(r.Drift) != 0 {
		t.Errorf("again: %+v", r)
	}
	s.Partitions, s.Config = 4, map[string]string{"retention.ms": "7200000", "max.message.bytes": "2000000"}
	r := ensure(t, a, s)
	if got := fmt.Sprint(r.Changes); r.Err != nil || !strings.Contains(got, "partitions: 2 -> 4") || !strings.Contains(got, "retention.ms: 3600000 -> 7200000") || !strings.Contains(got, "max.message.bytes: ") {
		t.Errorf("changed: %+v", r)
	}
	_, now, err := a.ObserveOffsets(within(t), s.Topic)
	if err != nil {
		t.Fatal(err)
	}
	got := now[s.Topic]
	if !got.Exists || got.ID == "" || got.Partitions != 4 || got.Replication != 1 || got.Config["retention.ms"] != "7200000" || !got.Set["retention.ms"] || len(got.Begin) != 4 || got.End[3] != 0 {
		t.Errorf("observed %+v", got)
	}
	if d := got.Differences(s); len(d) != 0 {
		t.Errorf("differences %v", d)
	}
	s.Config, s.Unset = nil, []string{"retention.ms"}
	if d := got.Differences(s); len(d) != 1 {
		t.Errorf("differences %v", d)
	}
	if r := ensure(t, a, s); r.Err != nil || len(r.Changes) != 1 || !strings.Contains(r.Changes[0], "the cluster's default") {
		t.Errorf("unset: %+v", r)
	}
	if r := ensure(t, a, s); r.Err != nil || len(r.Changes) != 0 {
		t.Errorf("unset again: %+v", r)
	}
	s.Partitions = 3
	if r := ensure(t, a, s); r.Err == nil || !strings.Contains(r.Err.Error(), "has 4 partitions and 3 are wanted") || !strings.Contains(r.Err.Error(), "set partitions = 4") {
		t.Errorf("shrunk: %+v", r)
	}
	s.Partitions, s.Replication = 4, 3
	if r := ensure(t, a, s); r.Err != nil || len(r.Drift) != 1 {
		t.Errorf("replication: %+v", r)
	}
}

func testDelete(t *testing.T, a *admin.Admin) {
	topic := name(t, "d")
	first := ensure(t, a, admin.StreamSpec{Topic: topic, Partitions: 1, Replication: 1})
	if first.Err != nil {
		t.Fatal(first.Err)
	}
	_, before, err := a.Observe(within(t), topic)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := a.Delete(within(t), topic); err != nil {
			t.Fatal(err)
		}
	}
	_, gone, err := a.Observe(within(t), topic)
	if err != nil || gone[topic].Exists {
		t.Errorf("%v %+v", err, gone)
	}
	if d := gone[topic].Differences(admin.StreamSpec{Topic: topic}); len(d) != 1 {
		t.Error(d)
	}
	if r := ensure(t, a, admin.StreamSpec{Topic: topic, Partitions: 1, Replication: 1}); r.Err != nil || !r.Created {
		t.Errorf("%+v", r)
	}
	_, after, err := a.Observe(within(t), topic)
	if err != nil || after[topic].ID == before[topic].ID {
		t.Errorf("%v: the id is still %s", err, after[topic].ID)
	}
}

func testGroups(t *testing.T, a *admin.Admin) {
	topic, old, now := name(t, "t"), name(t, "old"), name(t, "new")
	if r := ensure(t, a, admin.StreamSpec{Topic: topic, Partitions: 2, Replication: 1}); r.Err != nil {
		t.Fatal(r.Err)
	}
	at := []record.Position{{Partition: 0, Offset: 5, LeaderEpoch: -1, Identity: "id", Name: topic}, {Partition: 1, Offset: 6, LeaderEpoch: -1, Identity: "id", Name: topic}}
	retry(t, func() error { return a.SetOffsets(within(t), old, topic, at) })
	if err := a.SetOffsets(within(t), now, topic, []record.Position{{Partition: 0, Offset: 9, Identity: "id"}}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // what the new one has is not moved back
		if err := a.CopyOffsets(within(t), old, now); err != nil {
			t.Fatal(err)
		}
	}
	gs, err := a.Groups(within(t), old, now, name(t, "none"))
	if err != nil || len(gs) != 3 {
		t.Fatal(err, gs)
	}
	if fmt.Sprint(gs[old].Committed[topic]) != fmt.Sprint(at) {
		t.Errorf("committed %v, want %v", gs[old].Committed[topic], at)
	}
	c := gs[now].Committed[topic]
	if len(c) != 2 || c[0].Offset != 9 || c[1].Offset != 6 || c[1].Identity != "id" {
		t.Errorf("copied %+v", c)
	}
	for g, d := range gs {
		if d.Err != nil || d.Members != 0 {
			t.Errorf("%s: %+v", g, d)
		}
	}
	lag := gs[old].Lag(topic, admin.Topic{Partitions: 3, Begin: []int64{0, 8, 0}, End: []int64{10, 10, 10}})
	if fmt.Sprint(lag) != "[5 2 -1]" {
		t.Errorf("lag %v", lag)
	}
	for range 2 {
		if err := a.DeleteGroups(within(t), old); err != nil {
			t.Fatal(err)
		}
	}
	gs, err = a.Groups(within(t), old)
	if err != nil || len(gs[old].Committed) != 0 {
		t.Errorf("%v %+v", err, gs[old])
	}
}

// retry waits for the first group's coordinator.
func retry(t *testing.T, f func() error) {
	t.Helper()
	for ctx := within(t); ; {
		err := f()
		if err == nil {
			return
		}
		if ctx.Err() != nil || !strings.Contains(err.Error(), "COORDINATOR") {
			t.Fatal(err)
		}
	}
}

// One bad topic among others is that topic's problem alone.
func testErrors(t *testing.T, a *admin.Admin) {
	good, bad, setting := name(t, "good"), "bad name", name(t, "setting")
	rs, err := a.Ensure(within(t), admin.StreamSpec{Topic: good, Partitions: 1, Replication: 1}, admin.StreamSpec{Topic: bad, Partitions: 1, Replication: 1},
		admin.StreamSpec{Topic: setting, Partitions: 1, Replication: 1, Config: map[string]string{"retention.ms": "soon"}})
	if err != nil {
		t.Fatal(err)
	}
	if rs[good].Err != nil || rs[bad].Err == nil || !strings.Contains(rs[bad].Err.Error(), `bad name`) || rs[setting].Err == nil {
		t.Errorf("%+v", rs)
	}
}

// Ten thousand topics take few requests.
func TestMany(t *testing.T) {
	b, err := embedded.Start(context.Background(), embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	a := open(t, b.Addrs())
	var specs []admin.StreamSpec
	var names []string
	for i := range 10_000 {
		n := fmt.Sprintf("t%05d", i)
		names = append(names, n)
		specs = append(specs, admin.StreamSpec{Topic: n, Partitions: 1, Config: map[string]string{"retention.ms": "3600000"}})
	}
	began := time.Now()
	rs, err := a.Ensure(within(t), specs...)
	if err != nil {
		t.Fatal(err)
	}
	for n, r := range rs {
		if r.Err != nil || !r.Created {
			t.Fatalf("%s: %+v", n, r)
		}
	}
	created := time.Now()
	_, all, err := a.ObserveOffsets(within(t), names...)
	if err != nil || len(all) != 10_000 {
		t.Fatal(err, len(all))
	}
	observed := time.Now()
	groups, err := a.Groups(within(t), names...)
	if err != nil || len(groups) != 10_000 {
		t.Fatal(err, len(groups))
	}
	t.Logf("10,000 topics: created in %v, observed in %v; groups described in %v", created.Sub(began), observed.Sub(created), time.Since(observed))
}
