package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestRealExactlyOnce reads what committed readers get of a route with exactly_once: every
// event once, in the order of its partition, whatever happens to its workers and the broker.
func TestRealExactlyOnce(t *testing.T) {
	t.Run("killed", testExactlyKilled)
	t.Run("rebalance", testExactlyRebalance)
	t.Run("broker", testExactlyBroker)
	t.Run("zombie", testExactlyZombie)
	t.Run("restart", testExactlyRestart)
}

func exactlyFixture(t *testing.T, addr string, each int) fixture {
	t.Helper()
	f := newFixture(t, addr, each)
	config(t, f.dir, strings.Replace(f.text(addr), "  to = stream.out\n", "  to = stream.out\n  delivery {\n    guarantee       = \"exactly_once\"\n    commit_interval = \"200ms\"\n  }\n", 1))
	return f
}

// beside gives another installation of the same namespace: its route is in the same group.
func (f fixture) beside(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	text, err := os.ReadFile(filepath.Join(f.dir, "main.ks.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	config(t, dir, string(text))
	return dir
}

func testExactlyKilled(t *testing.T) {
	t.Parallel()
	f := exactlyFixture(t, broker(t), 25_000)
	p := serve(t, f.dir)
	p.healthy("route.plays", "running")
	kills := 0
	adm, had := admin(t, broker(t)), int64(0)
	f.produce(t, client(t, broker(t)), func(int) {
		had = f.moves(t, adm, had)
		p.kill()
		kills++
		p = serve(t, f.dir)
	})
	f.once(t, broker(t))
	p.stop()
	f.agrees(t, 0)
	if kills < 20 {
		t.Fatalf("%d kills", kills)
	}
}

// size is how much the target has.
func (f fixture) size(adm *kadm.Client) (n int64) {
	os, err := adm.ListEndOffsets(context.Background(), f.target)
	if err == nil {
		os.Each(func(o kadm.ListedOffset) { n += o.Offset })
	}
	return n
}

// moves waits until the target has more than before, since when more was produced, and gives how much.
func (f fixture) moves(t *testing.T, adm *kadm.Client, before int64) (n int64) {
	t.Helper()
	until(t, "the target grows", func() error {
		if n = f.size(adm); n <= before {
			return fmt.Errorf("it has %d", n)
		}
		return nil
	})
	return n
}

func testExactlyRebalance(t *testing.T) {
	t.Parallel()
	f := exactlyFixture(t, broker(t), 20_000)
	p := serve(t, f.dir)
	p.healthy("route.plays", "running")
	second := f.beside(t)
	adm := admin(t, broker(t))
	var q *process
	f.produce(t, client(t, broker(t)), func(sent int) {
		switch sent {
		case 4000:
			q = serve(t, second)
			f.members(t, adm, 2)
		case 9000:
			q.stop()
			f.members(t, adm, 1)
		case 12_000:
			q = serve(t, second)
			f.members(t, adm, 2)
		case 16_000:
			q.kill() // found out by its session; its transaction stays open until its time-out or the next start
		}
	})
	q = serve(t, second)
	f.once(t, broker(t))
	p.stop()
	q.stop()
}

func testExactlyBroker(t *testing.T) {
	t.Parallel()
	b := ownBroker(t)
	f := exactlyFixture(t, b.addr, 10_000)
	p := serve(t, f.dir)
	p.healthy("route.plays", "running")
	f.produce(t, client(t, b.addr), func(sent int) {
		if sent == 3000 || sent == 7000 {
			b.kill()
			b.start()
		}
	})
	f.once(t, b.addr)
	p.stop()
}

// testExactlyRestart restarts the worker under load: the new one may join before the old one has left.
func testExactlyRestart(t *testing.T) {
	t.Parallel()
	f := exactlyFixture(t, broker(t), 10_000)
	p := serve(t, f.dir)
	p.healthy("route.plays", "running")
	adm, had := admin(t, broker(t)), int64(0)
	f.produce(t, client(t, broker(t)), func(int) {
		if out, err := run(t, "restart", "route.plays", f.dir); err != nil {
			t.Fatal(err, out)
		}
		had = f.moves(t, adm, had)
	})
	f.once(t, broker(t))
	p.stop()
}

// testExactlyZombie stops a process in the middle, lets another installation take its
// partitions, and wakes it again.
func testExactlyZombie(t *testing.T) {
	t.Parallel()
	f := exactlyFixture(t, broker(t), 9000)
	p := serve(t, f.dir)
	p.healthy("route.plays", "running")
	second := f.beside(t)
	adm := admin(t, broker(t))
	var q *process
	var had int64
	f.produce(t, client(t, broker(t)), func(sent int) {
		switch sent {
		case 3000:
			if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			had = f.size(adm)
			q = serve(t, second)
		case 6000:
			f.members(t, adm, 1) // the other's session has ended
			f.owned(t, adm)
			f.moves(t, adm, had)
			if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			f.members(t, adm, 2)
		}
	})
	f.once(t, broker(t))
	p.stop()
	q.stop()
}

// members waits until so many members own partitions of the topic.
func (f fixture) members(t *testing.T, adm *kadm.Client, want int) {
	t.Helper()
	until(t, fmt.Sprintf("%d members", want), func() error {
		gs, err := adm.DescribeGroups(context.Background(), f.group)
		if err != nil {
			return err
		}
		g := gs[f.group]
		n := 0
		for _, m := range g.Members {
			if a, ok := m.Assigned.AsConsumer(); ok && len(a.Topics) > 0 && len(a.Topics[0].Partitions) > 0 {
				n++
			}
		}
		if g.State != "Stable" || n != want {
			return fmt.Errorf("%s with %d members that own partitions", g.State, n)
		}
		return nil
	})
}

// owned waits until every partition has an owner.
func (f fixture) owned(t *testing.T, adm *kadm.Client) {
	t.Helper()
	until(t, "all partitions have an owner", func() error {
		gs, err := adm.DescribeGroups(context.Background(), f.group)
		if err != nil {
			return err
		}
		n := 0
		for _, m := range gs[f.group].Members {
			if a, ok := m.Assigned.AsConsumer(); ok {
				for _, topic := range a.Topics {
					n += len(topic.Partitions)
				}
			}
		}
		if n != int(f.partitions) {
			return fmt.Errorf("%d have", n)
		}
		return nil
	})
}

// once waits until the group has stored the end of the source and no transaction is open,
// and reads the whole target as a committed reader: every event of the load that passes the
// filter is there once, those of each source partition in order, and nothing else.
func (f fixture) once(t *testing.T, addr string) {
	t.Helper()
	adm := admin(t, addr)
	ctx := context.Background()
	var ends kadm.ListedOffsets
	until(t, "everything is committed", func() error {
		stored, err := adm.FetchOffsets(ctx, f.group)
		if err != nil {
			return err
		}
		for p := range f.partitions {
			if o, _ := stored.Lookup(f.topic, p); o.At != int64(f.each) {
				return fmt.Errorf("partition %d is at %d of %d", p, o.At, f.each)
			}
		}
		if ends, err = adm.ListEndOffsets(ctx, f.target); err != nil {
			return err
		}
		stable, err := adm.ListCommittedOffsets(ctx, f.target)
		if err != nil {
			return err
		}
		for p := range f.partitions {
			s, _ := stable.Lookup(f.target, p)
			if e, _ := ends.Lookup(f.target, p); s.Offset != e.Offset {
				return fmt.Errorf("partition %d of the target has an open transaction at %d, its end is %d", p, s.Offset, e.Offset)
			}
		}
		return nil
	})
	cl := client(t, addr, kgo.ConsumeTopics(f.target), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	next := make([]int, f.partitions) // expected of each source partition
	at := make([]int64, f.partitions) // of the target
	aborted := 0
	for behind := true; behind; {
		fs := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("the target cannot be read to its end: %v of %v", at, ends[f.target])
		}
		fs.EachRecord(func(r *kgo.Record) {
			at[r.Partition] = r.Offset + 1
			if r.Attrs.IsControl() {
				if len(r.Key) >= 4 && r.Key[3] == 0 {
					aborted++
				}
				return
			}
			var e event
			if err := json.Unmarshal(r.Value, &e); err != nil {
				t.Fatalf("partition %d offset %d: %v: %s", r.Partition, r.Offset, err, r.Value)
			}
			from, err := origin(r)
			if err == nil && (from.Partition != e.P || from.Offset != int64(e.Seq)) {
				err = errors.New("it is of another record")
			}
			if err != nil {
				t.Fatalf("origin %+v of %s: %v", from, r.Value, err)
			}
			if e.Seq != next[e.P] {
				t.Fatalf("after the events of source partition %d before %d comes %d, at offset %d of partition %d", e.P, next[e.P], e.Seq, r.Offset, r.Partition)
			}
			next[e.P] += 5
		})
		behind = false
		for p := range f.partitions {
			e, _ := ends.Lookup(f.target, p)
			behind = behind || at[p] < e.Offset
		}
	}
	for p, n := range next {
		if n < f.each {
			t.Errorf("source partition %d: nothing from %d on", p, n)
		}
	}
	t.Logf("%d events once; %d aborts of a partition", int(f.partitions)*((f.each+4)/5), aborted)
}
