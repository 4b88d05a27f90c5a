package kafka

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"keystone/pipeline/record"
	"keystone/sources"
	"keystone/sources/kafka/admin"
	"keystone/sources/kafka/client"
	"keystone/sources/kafka/embedded"
)

type owner struct{ assigned chan []record.Position }

func (o owner) Assigned(ps []record.Position)  { o.assigned <- ps }
func (owner) Revoked(context.Context, []int32) {}
func (owner) Lost([]int32)                     {}
func (owner) DataLoss(_ int32, from, to int64) {}

// A commit whose lane was closed before the request was stamped is not sent,
// although the stamp is that of a member in good standing.
func TestStampThenLook(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	b, err := embedded.Start(ctx, embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	o := client.Options{Brokers: b.Addrs()}
	a, err := admin.New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if rs, err := a.Ensure(ctx, admin.StreamSpec{Topic: "t", Partitions: 2}); err != nil || rs["t"].Err != nil {
		t.Fatal(err, rs)
	}
	src, err := (&Config{Client: o, Topic: "t", Group: "g"}).New(sources.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	s := src.(*Source)
	l := owner{make(chan []record.Position, 1)}
	if err := s.Open(ctx, nil, l); err != nil {
		t.Fatal(err)
	}
	defer s.Close(ctx)
	<-l.assigned
	committed := func() [2]int64 {
		gs, err := a.Groups(ctx, "g")
		if err != nil {
			t.Fatal(err)
		}
		var out [2]int64
		for _, p := range gs["g"].Committed["t"] {
			out[p.Partition] = p.Offset
		}
		return out
	}
	at := map[int32]kgo.EpochOffset{0: {Epoch: -1, Offset: 5}, 1: {Epoch: -1, Offset: 5}}
	if err := s.send(ctx, at, map[int32]*lane{0: {}, 1: {}}); !errors.Is(err, errFenced) {
		t.Errorf("both closed: %v", err)
	}
	if got := committed(); got != [2]int64{0, 0} {
		t.Errorf("both closed, committed %v", got)
	}
	if err := s.send(ctx, at, map[int32]*lane{0: {}, 1: {open: true}}); err != nil {
		t.Errorf("one closed: %v", err)
	}
	if got := committed(); got != [2]int64{0, 5} {
		t.Errorf("one closed, committed %v", got)
	}
	// Positions never move back.
	for _, p := range []record.Position{{Partition: 0, Offset: 7}, {Partition: 0, Offset: 6}} {
		if err := s.Commit(ctx, []record.Position{p}); err != nil {
			t.Errorf("commit %+v: %v", p, err)
		}
	}
	// Those of partitions of others are left out, and it is said; the rest is durable.
	if err := s.Commit(ctx, []record.Position{{Partition: 9, Offset: 3}, {Partition: 0, Offset: 7}}); !errors.Is(err, sources.ErrNotAssigned) {
		t.Errorf("commit of another's partition: %v", err)
	}
	if got := committed(); got != [2]int64{7, 5} {
		t.Errorf("committed %v", got)
	}
}
