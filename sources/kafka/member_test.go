package kafka_test

import (
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"keystone/pipeline/record"
	"keystone/sources/kafka"
	"keystone/sources/kafka/admin"
	"keystone/sources/kafka/client"
)

// long is longer than a test waits: nothing happens because of a time-out of the group.
const long = 5 * time.Minute

// doomed starts a member whose process can be killed: its network is cut, and
// the group hears nothing of it.
func doomed(t *testing.T, c kafka.Config, or *oracle) (m *member, kill func()) {
	w := &wire{dial: c.Client.Dial}
	if w.dial == nil {
		w.dial = (&net.Dialer{}).DialContext
	}
	c.Client.Dial = w.Dial
	m = start(t, c, "doomed", or)
	return m, w.Cut
}

func patientConfig(o client.Options, topic string) kafka.Config {
	return kafka.Config{Client: o, Topic: topic, Group: "g-" + topic, SessionTimeout: long, RebalanceTimeout: long}
}

// A process that was killed and starts again does not wait for its session to end.
func testKilled(t *testing.T, o client.Options) {
	name, a := topic(t, o, 4, nil)
	produce(t, o, name, parts(4), 0, 100)
	conf := patientConfig(o, name)
	conf.Instance = "mine"
	or := newOracle()
	for round := range 3 {
		m, kill := doomed(t, conf, or)
		or.await(t, 400*(round+1))
		kill()
		m.stop()
		produce(t, o, name, parts(4), 100*(round+1), 100*(round+2))
	}
	m := start(t, conf, "last", or)
	or.await(t, 1600)
	m.close()
	or.check(t, parts(4), 0, 400)
	gs, err := a.Groups(within(t), conf.Group)
	if err != nil {
		t.Fatal(err)
	}
	if g := gs[conf.Group]; g.Members != 0 {
		t.Errorf("%d members after close", g.Members)
	}
	t.Logf("%d records were delivered again", or.repeats)
}

// The same where another process has a part of the partitions.
func testKilledInCompany(t *testing.T, o client.Options) {
	name, _ := topic(t, o, 4, nil)
	produce(t, o, name, parts(4), 0, 100)
	conf := patientConfig(o, name)
	or := newOracle()
	other := start(t, conf, "other", or)
	other.await("all", func() bool { return len(other.owned) == 4 })
	conf.Instance = "mine"
	m, kill := doomed(t, conf, or)
	m.await("half", func() bool { return len(m.owned) == 2 })
	or.await(t, 400)
	kill()
	m.stop()
	produce(t, o, name, parts(4), 100, 200)
	again := start(t, conf, "again", or)
	again.await("half", func() bool { return len(again.owned) == 2 })
	other.await("half", func() bool { return len(other.owned) == 2 })
	or.await(t, 800)
	again.close()
	other.await("all", func() bool { return len(other.owned) == 4 })
	produce(t, o, name, parts(4), 200, 300)
	or.await(t, 1200)
	other.close()
	or.check(t, parts(4), 0, 300)
}

// A member is killed after it gave partitions up and before it joins again,
// upon which the group would have given them to the other: nobody has them.
func testKilledInRebalance(t *testing.T, o client.Options) {
	name, _ := topic(t, o, 4, nil)
	produce(t, o, name, parts(4), 0, 100)
	conf := patientConfig(o, name)
	or := newOracle()
	mine := conf
	mine.Instance = "mine"
	m, kill := doomed(t, mine, or)
	m.await("all", func() bool { return len(m.owned) == 4 })
	killed := make(chan struct{})
	m.mu.Lock()
	m.dies = func() { kill(); close(killed) }
	m.mu.Unlock()
	other := start(t, conf, "other", or)
	select {
	case <-killed:
	case <-within(t).Done():
		t.Fatal("nothing was revoked")
	}
	m.mu.Lock()
	m.dies = nil
	m.mu.Unlock()
	m.stop()
	produce(t, o, name, parts(4), 100, 200)
	again := start(t, mine, "again", or)
	again.await("half", func() bool { return len(again.owned) == 2 })
	other.await("half", func() bool { return len(other.owned) == 2 })
	or.await(t, 800)
	again.close()
	other.close()
	or.check(t, parts(4), 0, 200)
}

// A group with a dead member takes no offsets from somebody who is none: it
// is put out of the way where a new start must be committed.
func testKilledRecreated(t *testing.T, o client.Options) {
	name, a := topic(t, o, 2, nil)
	produce(t, o, name, parts(2), 0, 100)
	conf := patientConfig(o, name)
	conf.Instance = "mine"
	or := newOracle()
	m, kill := doomed(t, conf, or)
	or.await(t, 200)
	kill()
	m.stop()
	if err := a.Delete(within(t), name); err != nil {
		t.Fatal(err)
	}
	ensure(t, a, admin.StreamSpec{Topic: name, Partitions: 2, Replication: 1})
	produce(t, o, name, parts(2), 200, 250)
	conf.AcceptNewTopic = true
	or = newOracle()
	m = start(t, conf, "again", or)
	or.await(t, 100)
	m.close()
	or.check(t, parts(2), 200, 250)
}

// Two processes with one name: the later one has the partitions, the earlier
// one says why it has none, commits nothing, puts nobody out, and goes on when
// the other leaves.
func testUsurped(t *testing.T, o client.Options) {
	name, a := topic(t, o, 2, nil)
	produce(t, o, name, parts(2), 0, 100)
	conf := patientConfig(o, name)
	conf.Instance = "mine"
	or := newOracle()
	committed := func(want int64) {
		t.Helper()
		gs, err := a.Groups(within(t), conf.Group)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range gs[conf.Group].Committed[name] {
			if p.Offset != want {
				t.Errorf("partition %d is committed at %d, want %d", p.Partition, p.Offset, want)
			}
		}
	}
	says := func(m *member) {
		t.Helper()
		m.await("why", func() bool {
			return slices.ContainsFunc(m.problems, func(err error) bool {
				return strings.Contains(err.Error(), "another process uses the state directory")
			})
		})
	}
	first := start(t, conf, "first", or)
	or.await(t, 200)
	third := start(t, conf, "third", or)
	third.await("both", func() bool { return len(third.owned) == 2 })
	// It has not heard of it yet: what it commits is refused.
	first.mu.Lock()
	stale := first.read[0]
	first.mu.Unlock()
	stale.Offset = 50_000
	if err := first.src.Commit(within(t), []record.Position{stale}); err != nil && !strings.Contains(err.Error(), "another process uses the state directory") {
		t.Errorf("a commit of the one that lost its place: %v", err)
	}
	first.await("its loss", func() bool { return len(first.lost) == 2 })
	says(first)
	produce(t, o, name, parts(2), 100, 200)
	or.await(t, 400)
	// Somebody else with that trouble closes: the one that has the place keeps it.
	second := start(t, conf, "second", or)
	second.await("both", func() bool { return len(second.owned) == 2 })
	third.await("its loss", func() bool { return len(third.lost) == 2 })
	says(third)
	third.close()
	produce(t, o, name, parts(2), 200, 300)
	or.await(t, 600)
	if owned := second.count(); owned != 2 {
		t.Errorf("the one that has the place owns %d partitions", owned)
	}
	// The embedded broker puts it out when the third leaves. It joins again, but what it commits
	// before it has found out that nobody had its partitions meanwhile is left out.
	second.close()
	first.await("both again", func() bool { return len(first.owned) == 2 })
	produce(t, o, name, parts(2), 300, 400)
	or.await(t, 800)
	first.close()
	or.check(t, parts(2), 0, 400)
	committed(400)
}

func (m *member) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.owned)
}

// A member that stays keeps its place for its successor.
func testStay(t *testing.T, o client.Options) {
	name, a := topic(t, o, 4, nil)
	produce(t, o, name, parts(4), 0, 100)
	conf := patientConfig(o, name)
	conf.Instance = "mine"
	stays := conf
	stays.Stay = func() bool { return true }
	or := newOracle()
	m := start(t, stays, "one", or)
	or.await(t, 400)
	m.close()
	gs, err := a.Groups(within(t), conf.Group)
	if err != nil {
		t.Fatal(err)
	}
	if g := gs[conf.Group]; g.Members != 1 {
		t.Errorf("%d members, want the one that stays", g.Members)
	}
	produce(t, o, name, parts(4), 100, 200)
	m = start(t, conf, "two", or)
	or.await(t, 800)
	m.close()
	or.check(t, parts(4), 0, 200)
	if or.repeats != 0 {
		t.Errorf("%d records were read twice", or.repeats)
	}
	if gs, err = a.Groups(within(t), conf.Group); err != nil || gs[conf.Group].Members != 0 {
		t.Errorf("after the last one closed: %+v, %v", gs[conf.Group], err)
	}
}
