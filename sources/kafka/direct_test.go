package kafka_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"keystone/pipeline/record"
	"keystone/sources"
	"keystone/sources/kafka"
	"keystone/sources/kafka/admin"
	"keystone/sources/kafka/client"
)

// reader notes what a source says.
type reader struct {
	assigned map[int32]int64
	lost     string
	got      map[int32][]string
	next     map[int32]record.Position
}

func (r *reader) Assigned(ps []record.Position) {
	for _, p := range ps {
		r.assigned[p.Partition] = p.Offset
	}
}
func (r *reader) Revoked(context.Context, []int32) {}
func (r *reader) Lost([]int32)                     {}
func (r *reader) DataLoss(p int32, from, to int64) { r.lost += fmt.Sprintf("%d:%d-%d ", p, from, to) }

// readAll opens a Direct, reads until n records are there, shows its positions and closes.
func readAll(t *testing.T, c kafka.Config, n int, from ...record.Position) *reader {
	t.Helper()
	c.Linger = 20 * time.Millisecond
	d, err := c.NewDirect(sources.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	r := &reader{assigned: map[int32]int64{}, got: map[int32][]string{}, next: map[int32]record.Position{}}
	ctx := within(t)
	defer func() {
		if err := d.Close(ctx); err != nil {
			t.Error(err)
		}
	}()
	if err := d.Open(ctx, from, r); err != nil {
		t.Fatal(err)
	}
	var b record.Batch
	for n > 0 {
		b.Reset()
		if err := d.Read(ctx, &b); err != nil {
			t.Fatal(err)
		}
		for i := range b.Records {
			r.got[b.Partition] = append(r.got[b.Partition], string(b.Records[i].Value))
			n--
		}
		if b.Next != (record.Position{}) {
			r.next[b.Partition] = b.Next
		}
	}
	for _, p := range r.next {
		if err := d.Commit(ctx, []record.Position{p}); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// Who opens a Direct says where it begins, whatever its group shows; partitions that were added are read from their beginning.
func testDirect(t *testing.T, o client.Options) {
	name, a := topic(t, o, 2, nil)
	produce(t, o, name, parts(2), 0, 10)
	conf := kafka.Config{Client: o, Topic: name, Group: "direct-" + name, ReadCommitted: true}
	first := readAll(t, conf, 20)
	if fmt.Sprint(first.assigned) != "map[0:0 1:0]" || fmt.Sprint(first.got[1]) != "[0 1 2 3 4 5 6 7 8 9]" {
		t.Fatalf("assigned %v, read %v", first.assigned, first.got)
	}
	groups, err := a.Groups(within(t), conf.Group)
	if err != nil || groups[conf.Group].Committed[name][0].Offset != 10 {
		t.Errorf("the group shows %v, %v", groups, err)
	}
	// The group says 10, the caller 3: the caller counts. Two partitions came since.
	ensure(t, a, admin.StreamSpec{Topic: name, Partitions: 4})
	produce(t, o, name, []int32{3}, 0, 5)
	p0, p1 := first.next[0], first.next[1]
	p0.Offset = 3
	second := readAll(t, conf, 12, p0, p1)
	if fmt.Sprint(second.got) != "map[0:[3 4 5 6 7 8 9] 3:[0 1 2 3 4]]" {
		t.Errorf("read %v", second.got)
	}
	// Records that were removed meanwhile are told of.
	if err := a.DeleteRecords(within(t), name, map[int32]int64{0: 8}); err != nil {
		t.Fatal(err)
	}
	third := readAll(t, conf, 7, p0, p1)
	if third.lost != "0:3-8 " || fmt.Sprint(third.got[0]) != "[8 9]" {
		t.Errorf("lost %q, read %v", third.lost, third.got)
	}
	p0.Identity = "another"
	d, err := conf.NewDirect(sources.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close(within(t))
	if err := d.Open(within(t), []record.Position{p0}, &reader{}); !sources.IsFatal(err) {
		t.Errorf("positions of another topic: %v", err)
	}
}
