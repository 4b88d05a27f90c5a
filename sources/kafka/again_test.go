package kafka

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"keystone/pipeline/record"
	"keystone/sources"
	"keystone/sources/kafka/admin"
	"keystone/sources/kafka/client"
	"keystone/sources/kafka/embedded"
)

// A lane that the group gave to an earlier member is in no transaction of this one: another may have
// read it since. Beginning again where the group is does not make it this one's, but for what the group has
// shared out to this one meanwhile.
func TestTransactionsOfAnEarlierMember(t *testing.T) {
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
	stamped := func() (parts []int32) {
		t.Helper()
		at, err := s.Offsets([]record.Position{{Partition: 0, Offset: 5}, {Partition: 1, Offset: 5}})
		for _, p := range at.Offsets {
			parts = append(parts, p.Partition)
		}
		if (len(parts) < 2) != errors.Is(err, sources.ErrNotAssigned) {
			t.Errorf("of partitions 0 and 1 it has %v, and the error %v", parts, err)
		}
		return parts
	}
	again := func() {
		t.Helper()
		ended := make(chan error, 1)
		go func() { ended <- s.Rewind(ctx) }()
		<-l.assigned
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
	expect := func(what string, want ...int32) {
		t.Helper()
		if got := stamped(); !slices.Equal(got, want) {
			t.Errorf("%s: a transaction stores the positions of %v, want %v", what, got, want)
		}
	}
	expect("both are this member's", 0, 1)
	again()
	expect("both are, and began again", 0, 1)

	// The library joins as a new member where the group has given the old one up, and keeps what it was assigned.
	s.mu.Lock()
	member := s.member
	s.lanes[0].member, s.member = "earlier", "earlier"
	s.mu.Unlock()
	expect("one is an earlier member's", 1)
	again() // before it is said whose the partitions are now
	expect("both are, and began again")
	s.mu.Lock()
	s.member = member
	s.mu.Unlock()
	again()
	expect("this member was given both", 0, 1)
}
