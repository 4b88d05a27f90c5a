//go:build synctests

package kafka_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"keystone/pipeline/record"
	"keystone/sources/kafka"
	"keystone/sources/kafka/client"
	"keystone/sources/kafka/embedded"
)

// These run in fake time on a network in memory. They need the library's
// locks to be visible to synctest: go test -tags synctests.

// A member whose network is cut loses its partitions to another. What it
// still wants to commit does not move the new owner back, and when the
// network is back it hears Lost and takes part again.
func TestSimLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var vn kfake.VirtualNetwork
		b, err := embedded.Start(t.Context(), embedded.Options{Listen: vn.Listen, Port: 9092, RetainEvery: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		o := client.Options{Brokers: b.Addrs(), Dial: vn.DialContext}
		name, a := topic(t, o, 4, nil)
		produce(t, o, name, parts(4), 0, 100)
		or := newOracle()
		w := &wire{dial: vn.DialContext}
		mine := o
		mine.Dial = w.Dial
		conf := kafka.Config{Client: o, Topic: name, Group: "g", SessionTimeout: 10 * time.Second}
		cut := conf
		cut.Client = mine
		one := start(t, cut, "one", or)
		or.await(t, 400)
		two := start(t, conf, "two", or)
		one.await("half", func() bool { return len(one.owned) == 2 })
		two.await("half", func() bool { return len(two.owned) == 2 })

		w.Cut()
		one.mu.Lock()
		var stale []record.Position
		for p := range one.owned {
			stale = append(stale, one.read[p])
		}
		one.mu.Unlock()
		two.await("everything", func() bool { return len(two.owned) == 4 })
		produce(t, o, name, parts(4), 100, 200)
		or.await(t, 800)
		for _, p := range stale { // as if it had been read before the cut
			p.Offset++
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			if err := one.src.Commit(ctx, []record.Position{p}); err == nil {
				// Nothing is committed; the lane is closed already.
				t.Log("not owned any more:", p.Partition)
			}
			cancel()
		}
		time.Sleep(10 * time.Second)
		w.Mend()
		one.await("its loss", func() bool { return len(one.lost) == 2 })
		one.await("half again", func() bool { return len(one.owned) == 2 })
		produce(t, o, name, parts(4), 200, 300)
		or.await(t, 1200)
		time.Sleep(5 * time.Second)
		gs, err := a.Groups(t.Context(), "g")
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range gs["g"].Committed[name] {
			if p.Offset != 300 {
				t.Errorf("partition %d is committed at %d, want 300", p.Partition, p.Offset)
			}
		}
		or.check(t, parts(4), 0, 300)
		if len(one.problems) == 0 || !strings.Contains(one.problems[0].Error(), "cannot connect") {
			t.Errorf("problems of the one that was cut off: %v", one.problems)
		}
		one.close()
		two.close()
		a.Close()
	})
}

// A partition that is given up waits for the commit of what was delivered.
func TestSimHandOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var vn kfake.VirtualNetwork
		b, err := embedded.Start(t.Context(), embedded.Options{Listen: vn.Listen, Port: 9092, RetainEvery: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		o := client.Options{Brokers: b.Addrs(), Dial: vn.DialContext}
		name, a := topic(t, o, 8, nil)
		or := newOracle()
		conf := kafka.Config{Client: o, Topic: name, Group: "g"}
		var all []*member
		for i := range 5 {
			all = append(all, start(t, conf, string(rune('a'+i)), or))
			produce(t, o, name, parts(8), 50*i, 50*(i+1))
		}
		for len(all) > 1 {
			all[0].close()
			all = all[1:]
		}
		all[0].await("everything", func() bool { return len(all[0].owned) == 8 })
		or.await(t, 8*250)
		or.check(t, parts(8), 0, 250)
		if or.repeats != 0 {
			t.Errorf("%d records were delivered again although every hand-over committed", or.repeats)
		}
		all[0].close()
		a.Close()
	})
}

// Close obeys its context when the broker is gone, and Open says so.
func TestSimGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var vn kfake.VirtualNetwork
		b, err := embedded.Start(t.Context(), embedded.Options{Listen: vn.Listen, Port: 9092, RetainEvery: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		o := client.Options{Brokers: b.Addrs(), Dial: vn.DialContext}
		name, a := topic(t, o, 1, nil)
		a.Close()
		conf := kafka.Config{Client: o, Topic: name, Group: "g"}
		m := start(t, conf, "m", newOracle())
		m.await("its partition", func() bool { return len(m.owned) == 1 })
		b.Close()
		m.await("the problem", func() bool { return len(m.problems) > 0 })
		m.stop()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		began := time.Now()
		_ = m.src.Close(ctx) // nobody hears that we leave
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("close took %v", took)
		}
		began = time.Now()
		_, err = tryStart(t, conf, "m", newOracle())
		if err == nil || !strings.Contains(err.Error(), "cannot connect to the cluster at "+o.Brokers[0]) {
			t.Errorf("open: %v", err)
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("open took %v", took)
		}
		t.Logf("%v", err)
	})
}
