package kafka_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"keystone/pipeline/record"
	"keystone/sources/kafka"
	"keystone/sources/kafka/admin"
	"keystone/sources/kafka/client"
)

// A group is rewound when it is empty, once: a rewind that is repeated, since
// whoever did it crashed before writing that down, leaves alone what members
// committed after it. In company nothing is changed, and the members are named.
func testRewind(t *testing.T, o client.Options) {
	name, a := topic(t, o, 2, nil)
	produce(t, o, name, parts(2), 0, 100)
	conf := kafka.Config{Client: o, Topic: name, Group: "g-" + name}
	at := func() (out [2]int64) {
		t.Helper()
		gs, err := a.Groups(within(t), conf.Group)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range gs[conf.Group].Committed[name] {
			out[p.Partition] = p.Offset
		}
		return out
	}
	whole := [2]int64{100, 100}
	m := start(t, conf, "one", newOracle())
	m.await("everything is committed", func() bool { return at() == whole })
	cluster, topics, err := a.Observe(within(t), name)
	if err != nil {
		t.Fatal(err)
	}
	to := func(p int32, offset int64) record.Position {
		return record.Position{Partition: p, Offset: offset, LeaderEpoch: -1, Identity: topics[name].ID, Cluster: cluster}
	}
	rewind := admin.Rewind{ID: "first", Group: conf.Group, Topic: name, Instances: []string{"ours"}, To: []record.Position{to(0, 40)}, Within: 300 * time.Millisecond}

	members, ok := errors.AsType[*admin.MembersError](a.Rewind(within(t), rewind))
	if !ok || len(members.Members) != 1 || !strings.Contains(members.Error(), members.Members[0]) || !strings.Contains(members.Members[0], "127.0.0.1") {
		t.Fatalf("in company: %v", members)
	}
	if at() != whole {
		t.Fatalf("a refused rewind moved the group to %v", at())
	}
	m.close()

	rewind.Within = time.Minute
	for range 2 {
		if err := a.Rewind(within(t), rewind); err != nil {
			t.Fatal(err)
		}
		if got := at(); got != [2]int64{40, 100} {
			t.Fatalf("rewound to %v", got)
		}
	}
	or := newOracle()
	m = start(t, conf, "two", or)
	or.await(t, 60)
	m.await("everything is committed again", func() bool { return at() == whole })
	if err := a.Rewind(within(t), rewind); err != nil { // also with members: there is nothing to do
		t.Fatal(err)
	}
	m.close()
	m = start(t, conf, "three", newOracle()) // the id goes from member to member
	produce(t, o, name, []int32{0}, 100, 110)
	m.await("what came later", func() bool { return at() == [2]int64{110, 100} })
	m.close()
	if err := a.Rewind(within(t), rewind); err != nil {
		t.Fatal(err)
	}
	if got := at(); got != [2]int64{110, 100} {
		t.Fatalf("a rewind that was done was done again: %v", got)
	}
	rewind.ID = "second"
	if err := a.Rewind(within(t), rewind); err != nil || at() != [2]int64{40, 100} {
		t.Fatalf("another rewind: %v, at %v", err, at())
	}
	rewind.ID, rewind.To[0].Identity = "third", "another topic"
	if _, ok := errors.AsType[*admin.OtherTopicError](a.Rewind(within(t), rewind)); !ok {
		t.Error("positions in another topic were taken")
	}
}

// Offsets of a transaction that a killed member left open would come after a
// rewind: it waits for the end of the transaction.
func testRewindWaitsForTransactions(t *testing.T, o client.Options) {
	name, a := topic(t, o, 1, nil)
	produce(t, o, name, parts(1), 0, 100)
	group := "g-" + name
	_, topics, err := a.Observe(within(t), name)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.SetOffsets(within(t), group, name, []record.Position{{Offset: 50, LeaderEpoch: -1}}); err != nil { // as every route does first
		t.Fatal(err)
	}
	opts, err := o.Kgo(&client.Health{})
	if err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(append(opts, kgo.TransactionalID("tx-"+name))...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	described, err := kadm.NewClient(cl).ListTopics(within(t), name)
	if err != nil {
		t.Fatal(err)
	}
	id, epoch, err := cl.ProducerID(within(t))
	if err != nil {
		t.Fatal(err)
	}
	ask := func(req kmsg.Request) {
		t.Helper()
		resp, err := cl.Request(within(t), req)
		if err != nil {
			t.Fatal(err)
		}
		switch r := resp.(type) {
		case *kmsg.AddOffsetsToTxnResponse:
			err = kerr.ErrorForCode(r.ErrorCode)
		case *kmsg.TxnOffsetCommitResponse:
			err = kerr.ErrorForCode(r.Topics[0].Partitions[0].ErrorCode)
		case *kmsg.EndTxnResponse:
			err = kerr.ErrorForCode(r.ErrorCode)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	add := kmsg.NewPtrAddOffsetsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch, add.Group = "tx-"+name, id, epoch, group
	ask(add)
	commit := kmsg.NewPtrTxnOffsetCommitRequest()
	commit.TransactionalID, commit.ProducerID, commit.ProducerEpoch, commit.Group, commit.Generation = "tx-"+name, id, epoch, group, -1
	part := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	part.Offset, part.LeaderEpoch = 90, -1
	in := kmsg.NewTxnOffsetCommitRequestTopic()
	in.TopicID = described[name].ID
	in.Topic, in.Partitions = name, []kmsg.TxnOffsetCommitRequestTopicPartition{part}
	commit.Topics = []kmsg.TxnOffsetCommitRequestTopic{in}
	ask(commit)

	rewind := admin.Rewind{ID: "one", Group: group, Topic: name, To: []record.Position{{Offset: 40, LeaderEpoch: -1, Identity: topics[name].ID}}, Within: 300 * time.Millisecond}
	err = a.Rewind(within(t), rewind)
	if _, members := errors.AsType[*admin.MembersError](err); err == nil || members {
		t.Fatalf("beside an open transaction: %v", err)
	}
	end := kmsg.NewPtrEndTxnRequest()
	end.TransactionalID, end.ProducerID, end.ProducerEpoch, end.Commit = "tx-"+name, id, epoch, true
	ask(end)
	rewind.Within = time.Minute
	if err := a.Rewind(within(t), rewind); err != nil {
		t.Fatal(err)
	}
	gs, err := a.Groups(within(t), group)
	if err != nil || len(gs[group].Committed[name]) != 1 || gs[group].Committed[name][0].Offset != 40 {
		t.Fatalf("the group is at %+v, %v", gs[group], err)
	}
}
