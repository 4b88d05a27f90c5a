package kafka_test

import (
	"testing"

	"keystone/sources/kafka"
	"keystone/sources/kafka/client"
)

// A route that is stopped goes on where it committed, and reads nothing twice.
func testRestart(t *testing.T, o client.Options) {
	name, a := topic(t, o, 4, nil)
	produce(t, o, name, parts(4), 0, 500)
	conf := kafka.Config{Client: o, Topic: name, Group: "g-" + name}
	or := newOracle()
	m := start(t, conf, "a", or)
	or.await(t, 2000)
	m.close()
	gs, err := a.Groups(within(t), conf.Group)
	if err != nil {
		t.Fatal(err)
	}
	g := gs[conf.Group]
	if g.Err != nil || g.Members != 0 || len(g.Committed[name]) != 4 {
		t.Fatalf("group after close: %+v", g)
	}
	for _, p := range g.Committed[name] {
		if p.Offset != 500 || p.Identity == "" {
			t.Errorf("committed %+v, want offset 500 and the topic's id", p)
		}
	}
	produce(t, o, name, parts(4), 500, 700)
	m = start(t, conf, "b", or)
	or.await(t, 2800)
	m.close()
	or.check(t, parts(4), 0, 700)
	if or.repeats != 0 {
		t.Errorf("%d records were read twice", or.repeats)
	}
}
