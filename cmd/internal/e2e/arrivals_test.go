package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// steady produces the same number of events a second into every partition of a
// topic, until it is told to stop. Call stop to know how many there are in each.
func steady(t *testing.T, addr, topic string, partitions int32, persecond int) (stop func() int) {
	t.Helper()
	cl := client(t, addr, kgo.ProducerLinger(0))
	const tick = 10 * time.Millisecond // a batch for each partition
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	sent, failed := 0, make(chan error, 1)
	go func() {
		defer close(done)
		ticks := time.NewTicker(tick)
		defer ticks.Stop()
		for start := time.Now(); ; {
			select {
			case <-ctx.Done():
				return
			case <-ticks.C:
			}
			// A tick that was missed is made up for.
			for due := int(time.Since(start).Seconds() * float64(persecond)); sent < due; sent++ {
				for p := range partitions {
					v, _ := json.Marshal(event{P: p, Seq: sent}) // cannot fail
					cl.Produce(context.Background(), &kgo.Record{Topic: topic, Partition: p, Value: v}, func(_ *kgo.Record, err error) {
						if err != nil {
							select {
							case failed <- err:
							default:
							}
						}
					})
				}
			}
		}
	}()
	t.Cleanup(cancel)
	return func() int {
		t.Helper()
		cancel()
		<-done
		bounded, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := cl.Flush(bounded); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-failed:
			t.Fatal(err)
		default:
		}
		return sent
	}
}

// arrivals reads topics whose partitions each must hold the events 0, 1, 2, …
// of one source partition, with a rev that never falls, and remembers when the broker appended each.
type arrivals struct {
	mu    sync.Mutex
	moved chan struct{} // closed, and another one made, when something has arrived
	err   error
	at    map[string][][]time.Time // by topic, partition and sequence number
	last  map[string][]int         // by topic and partition: the latest rev
	// repeats counts what was there before, of topics in which that may be.
	repeats map[string]int
}

// allow says that events of a topic may repeat. The first of each counts.
func (a *arrivals) allow(topic string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.repeats = map[string]int{topic: 0}
}

type revised struct {
	event
	Rev int `json:"rev"`
}

func watch(t *testing.T, addr string, partitions int32, topics ...string) *arrivals {
	t.Helper()
	a := &arrivals{moved: make(chan struct{}), at: map[string][][]time.Time{}, last: map[string][]int{}}
	for _, topic := range topics {
		a.at[topic], a.last[topic] = make([][]time.Time, partitions), make([]int, partitions)
	}
	cl := client(t, addr, kgo.ConsumeTopics(topics...), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		for {
			fs := cl.PollFetches(ctx)
			if ctx.Err() != nil {
				return
			}
			a.mu.Lock()
			a.err = errors.Join(a.err, fs.Err())
			fs.EachRecord(func(r *kgo.Record) {
				if a.err == nil {
					a.err = a.take(r)
				}
			})
			close(a.moved)
			a.moved = make(chan struct{})
			a.mu.Unlock()
		}
	}()
	return a
}

func (a *arrivals) take(r *kgo.Record) error {
	where := fmt.Sprintf("%s, partition %d, offset %d, %s", r.Topic, r.Partition, r.Offset, r.Value)
	var e revised
	if err := json.Unmarshal(r.Value, &e); err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	at, last := a.at[r.Topic], a.last[r.Topic]
	_, allowed := a.repeats[r.Topic]
	switch next := len(at[r.Partition]); {
	case e.P != r.Partition:
		return fmt.Errorf("%s is in another partition than in the source", where)
	case e.Seq < next && allowed:
		a.repeats[r.Topic]++
		return nil
	case e.Seq < next:
		return fmt.Errorf("%s is repeated or out of order: %d was next", where, next)
	case e.Seq > next:
		return fmt.Errorf("%s: %d is lost or out of order", where, next)
	case e.Rev < last[r.Partition]:
		return fmt.Errorf("%s was made by an earlier program than the one before it, of rev %d", where, last[r.Partition])
	}
	at[r.Partition] = append(at[r.Partition], r.Timestamp)
	last[r.Partition] = e.Rev
	return nil
}

// wait waits until ok holds of what has arrived, and fails on what should not have.
func (a *arrivals) wait(t *testing.T, p *process, what string, ok func() bool) {
	t.Helper()
	patient := time.NewTimer(patience)
	defer patient.Stop()
	for {
		a.mu.Lock()
		err, fine, moved := a.err, ok(), a.moved
		a.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		if fine {
			return
		}
		select {
		case <-moved:
		case <-p.done:
			t.Fatalf("%s: keystone serve ended: %v", what, p.err)
		case <-patient.C:
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// count gives how many events every partition of all topics has. Under wait.
func (a *arrivals) count() int {
	n := -1
	for _, parts := range a.at {
		for _, at := range parts {
			if n < 0 || len(at) < n {
				n = len(at)
			}
		}
	}
	return n
}

// figures are durations, shown as percentiles.
type figures []time.Duration

func (f figures) String() string {
	if len(f) == 0 {
		return "none"
	}
	slices.Sort(f)
	at := func(p float64) time.Duration {
		return f[min(int(p*float64(len(f))), len(f)-1)].Round(time.Millisecond)
	}
	return fmt.Sprintf("p50 %v, p99 %v, p99.9 %v, max %v of %d", at(.5), at(.99), at(.999), at(1), len(f))
}

// spell is the events with the sequence numbers from from until before to.
type spell struct{ from, to int }

// gaps gives the times between one batch of a partition and the next, within spells: events of
// the same millisecond are one.
func (a *arrivals) gaps(topic string, within []spell) (f figures) {
	for _, at := range a.at[topic] {
		for _, w := range within {
			for seq := w.from + 1; seq < w.to; seq++ {
				if gap := at[seq].Sub(at[seq-1]); gap > 0 {
					f = append(f, gap)
				}
			}
		}
	}
	return f
}

// longest gives the longest gap of each partition within a spell.
func (a *arrivals) longest(topic string, w spell) (f figures) {
	for _, at := range a.at[topic] {
		var most time.Duration
		for seq := w.from + 1; seq < w.to; seq++ {
			most = max(most, at[seq].Sub(at[seq-1]))
		}
		f = append(f, most)
	}
	return f
}

// delays gives the times from an event in one topic to the same in the other, within spells.
func (a *arrivals) delays(from, to string, within []spell) (f figures) {
	for p, at := range a.at[to] {
		for _, w := range within {
			for seq := w.from; seq < w.to; seq++ {
				f = append(f, at[seq].Sub(a.at[from][p][seq]))
			}
		}
	}
	return f
}
