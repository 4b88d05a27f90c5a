// Package sinktest holds every kind of sink to the contract of sinks.Sink.
// A kind's test calls Run with a function that makes a sink over a fresh destination:
//
//	sinktest.Run(t, func(t *testing.T) sinktest.Case {
//		dir := t.TempDir()
//		return sinktest.Case{
//			New:  func() sinks.Sink { return newSink(dir) },
//			Read: func(t *testing.T) []string { return lines(t, dir) },
//		}
//	})
package sinktest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"keystone/pipeline/record"
	"keystone/sinks"
)

// Case is a fresh destination and how to get at it.
type Case struct {
	// New makes a sink over the destination, each time anew (it is not opened). Required.
	New func() sinks.Sink
	// Read gives the values that the destination holds durably, those of one
	// partition in the order in which it has them. Nil where nothing can be read back.
	Read func(t *testing.T) []string
	// ReadAfterClose says that the destination shows values only when the sink is closed.
	ReadAfterClose bool
	// Finish ends a sink for good before it is closed, where the kind has that. May be nil.
	Finish func(t *testing.T, s sinks.Sink)
	// Unopenable makes a sink whose Open fails. Nil: there is none.
	Unopenable func() sinks.Sink
	// Refused is a value that the destination refuses for ever. Nil: it takes everything.
	Refused []byte
	// Break makes the destination fail until mend is called. Nil: that cannot be arranged.
	Break func(t *testing.T) (mend func())
	// Ignore are goroutines that outlive the sink by right, such as those of a broker in the process.
	Ignore []goleak.Option
}

// Run runs all tests that the case allows. newCase is called for each of them.
func Run(t *testing.T, newCase func(t *testing.T) Case) {
	for _, test := range []struct {
		name string
		run  func(*suite)
	}{
		{"nil means durable", (*suite).durable},
		{"an empty batch is answered", (*suite).empty},
		{"lanes write at once", (*suite).lanes},
		{"a lane without order writes at once", (*suite).loose},
		{"after a failure nothing of a lane succeeds until go", (*suite).ordered},
		{"nothing of the batch is kept", (*suite).poisoned},
		{"large values", (*suite).large},
		{"a refused record fails alone", (*suite).refused},
		{"a failed write may be repeated", (*suite).repeated},
		{"an ended context is obeyed", (*suite).context},
		{"close without open", (*suite).unopened},
		{"close after a failed open", (*suite).unopenable},
		{"a checkpoint takes back what came after it", (*suite).checkpoint},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCase(t)
			before := append([]goleak.Option{goleak.IgnoreCurrent()}, c.Ignore...)
			test.run(&suite{t, c})
			if !t.Skipped() && !t.Failed() {
				goleak.VerifyNone(t, before...)
			}
		})
	}
}

type suite struct {
	*testing.T
	c Case
}

func (s *suite) open() sinks.Sink { return s.openWith(nil) }

func (s *suite) openWith(state []byte) sinks.Sink {
	s.Helper()
	sink := s.c.New()
	if cp, ok := sink.(sinks.Checkpointer); ok {
		cp.Restore(state)
	}
	if err := sink.Open(s.Context()); err != nil {
		s.Fatalf("open: %v", err)
	}
	return sink
}

// sync makes what was answered durable, as a worker's checkpoint does.
func (s *suite) sync(sink sinks.Sink) []byte {
	s.Helper()
	cp, ok := sink.(sinks.Checkpointer)
	if !ok {
		return nil
	}
	state, err := cp.Sync(s.Context())
	if err != nil {
		s.Fatalf("sync: %v", err)
	}
	return slices.Clone(state)
}

func (s *suite) close(sink sinks.Sink) {
	s.Helper()
	if err := sink.Close(context.WithoutCancel(s.Context())); err != nil {
		s.Errorf("close: %v", err)
	}
}

// value has the partition and the number within it.
func value(part int32, n int) string { return fmt.Sprintf(`{"p":%d,"n":%d}`, part, n) }

// batch makes records [from, to) of a partition, in memory of the batch.
func batch(part int32, from, to int) *record.Batch {
	b := &record.Batch{Topic: "test", Partition: part, Next: record.Position{Partition: part, Offset: int64(to)}}
	for n := from; n < to; n++ {
		add(b, int64(n), value(part, n))
	}
	return b
}

func add(b *record.Batch, offset int64, v string) {
	key := fmt.Sprintf("k%d", offset)
	mem := []byte(key + v)
	b.Records = append(b.Records, record.Record{
		Offset: offset, Timestamp: 1_700_000_000_000 + offset, Key: mem[:len(key):len(key)], Value: mem[len(key):],
		Source: int32(len(b.Records)),
	})
	b.Bytes += len(mem)
}

// write writes a batch and waits for the answer. It holds the sink to calling
// done once and to leaving the records as they were.
func (s *suite) write(ctx context.Context, sink sinks.Sink, b *record.Batch) error {
	s.Helper()
	want := clone(b)
	answers := make(chan error, 4)
	sink.Write(ctx, b, func(err error) {
		if !same(b, want) {
			s.Errorf("the sink changed the batch's records: they are what is written again after a failure")
		}
		answers <- err
	})
	err := <-answers
	select {
	case <-answers:
		s.Error("done was called twice")
	default:
	}
	return err
}

func (s *suite) mustWrite(sink sinks.Sink, b *record.Batch) {
	s.Helper()
	if err := s.write(s.Context(), sink, b); err != nil {
		s.Fatalf("write: %v", err)
	}
}

func clone(b *record.Batch) *record.Batch {
	c := &record.Batch{Records: slices.Clone(b.Records)}
	for i := range c.Records {
		c.Records[i].Key, c.Records[i].Value = bytes.Clone(c.Records[i].Key), bytes.Clone(c.Records[i].Value)
	}
	return c
}

func same(a, b *record.Batch) bool {
	return slices.EqualFunc(a.Records, b.Records, func(x, y record.Record) bool {
		return x.Offset == y.Offset && x.Source == y.Source && bytes.Equal(x.Key, y.Key) && bytes.Equal(x.Value, y.Value) && (x.Value == nil) == (y.Value == nil)
	})
}

// poison overwrites everything that the batch owns.
func poison(b *record.Batch) {
	for i := range b.Records {
		r := &b.Records[i]
		for _, mem := range [][]byte{r.Key, r.Value} {
			for j := range mem {
				mem[j] = 0xff
			}
		}
		*r = record.Record{Offset: -1, Value: []byte("poison")}
	}
	b.Reset()
}

// expect ends the sink and compares what the destination holds with ranges of values: of
// each partition exactly [0, n), in order.
func (s *suite) expect(sink sinks.Sink, counts map[int32]int) {
	s.Helper()
	s.sync(sink)
	if s.c.Read != nil && !s.c.ReadAfterClose {
		s.compare(counts)
	}
	s.finish(sink)
	if s.c.Read != nil {
		s.compare(counts)
	}
}

func (s *suite) finish(sink sinks.Sink) {
	if s.c.Finish != nil {
		s.c.Finish(s.T, sink)
	}
	s.close(sink)
}

func (s *suite) compare(counts map[int32]int) {
	s.Helper()
	next := map[int32]int{}
	for _, v := range s.c.Read(s.T) {
		var x struct {
			P int32
			N int
		}
		if err := json.Unmarshal([]byte(v), &x); err != nil {
			s.Fatalf("the destination holds %.100q: %v", v, err)
		}
		if x.N != next[x.P] {
			s.Fatalf("partition %d: got number %d, want %d", x.P, x.N, next[x.P])
		}
		next[x.P]++
	}
	for p, n := range counts {
		if next[p] != n {
			s.Errorf("partition %d: the destination holds %d values, want %d", p, next[p], n)
		}
		delete(next, p)
	}
	for p, n := range next {
		if n > 0 {
			s.Errorf("partition %d: the destination holds %d values, want none", p, n)
		}
	}
}

func (s *suite) durable() {
	sink := s.open()
	for i := range 5 {
		s.mustWrite(sink, batch(0, i*20, i*20+20))
		s.mustWrite(sink, batch(1, i*3, i*3+3))
	}
	s.expect(sink, map[int32]int{0: 100, 1: 15})
}

func (s *suite) empty() {
	sink := s.open()
	s.mustWrite(sink, batch(0, 0, 0))
	s.mustWrite(sink, batch(0, 0, 1))
	s.expect(sink, map[int32]int{0: 1})
}

func (s *suite) lanes() {
	sink := s.open()
	const lanes, batches, size = 4, 25, 7
	counts := map[int32]int{}
	var wg sync.WaitGroup
	for p := range int32(lanes) {
		counts[p] = batches * size
		wg.Go(func() {
			for i := range batches {
				if err := s.write(s.Context(), sink, batch(p, i*size, (i+1)*size)); err != nil {
					s.Errorf("write: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	s.expect(sink, counts)
}

// loose is what a route of order "key" or "none" does: several writes of one partition at once.
func (s *suite) loose() {
	sink := s.open()
	if _, ok := sink.(sinks.Checkpointer); ok {
		s.close(sink)
		s.Skip("a sink with checkpoints is written in the order of the partition")
	}
	const writers, batches, size = 8, 12, 7
	var wg sync.WaitGroup
	for k := range writers {
		wg.Go(func() {
			for i := range batches {
				at := (k*batches + i) * size
				b := batch(0, at, at+size)
				b.Loose = true
				if err := s.write(s.Context(), sink, b); err != nil {
					s.Errorf("write: %v", err)
					return
				}
				poison(b)
			}
		})
	}
	wg.Wait()
	s.finish(sink)
	if s.c.Read == nil {
		return
	}
	want := make([]string, writers*batches*size)
	for n := range want {
		want[n] = value(0, n)
	}
	got := s.c.Read(s.T)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		s.Errorf("the destination holds %d values, want %d, each once", len(got), len(want))
	}
}

// ordered holds sinks.Ordered to its word: what follows a failure fails, but for loose batches.
func (s *suite) ordered() {
	sink := s.open()
	keeper, ok := sink.(sinks.Ordered)
	if !ok || s.c.Break == nil {
		s.close(sink)
		s.Skip("this kind of sink keeps no order over failures, or cannot be made to fail")
	}
	keeper.Go(0)
	keeper.Go(1)
	s.mustWrite(sink, batch(0, 0, 3))
	mend := s.c.Break(s.T)
	if err := s.write(s.Context(), sink, batch(0, 3, 6)); err == nil {
		s.Error("a write to a destination that fails succeeded")
	}
	loose := batch(1, 0, 2)
	loose.Loose = true
	if err := s.write(s.Context(), sink, loose); err == nil {
		s.Error("a loose write to a destination that fails succeeded")
	}
	mend()
	s.mustWrite(sink, batch(1, 0, 2)) // that the loose one failed holds nothing up
	if err := s.write(s.Context(), sink, batch(0, 6, 9)); err == nil {
		s.Error("a write that was begun before the worker knew of the failure succeeded")
	}
	loose = batch(2, 0, 2)
	loose.Partition, loose.Loose = 0, true
	s.mustWrite(sink, loose) // needs no Go
	keeper.Go(0)
	s.mustWrite(sink, batch(0, 3, 6))
	s.mustWrite(sink, batch(0, 6, 9))
	s.expect(sink, map[int32]int{0: 9, 1: 2, 2: 2})
}

func (s *suite) poisoned() {
	sink := s.open()
	for i := range 10 {
		b := batch(0, i*50, (i+1)*50)
		s.mustWrite(sink, b)
		poison(b)
	}
	s.expect(sink, map[int32]int{0: 500})
}

func (s *suite) large() {
	sink := s.open()
	b := &record.Batch{Topic: "test"}
	for n := range 3 {
		add(b, int64(n), fmt.Sprintf(`{"p":0,"n":%d,"pad":%q}`, n, bytes.Repeat([]byte("x"), 200_000)))
	}
	s.mustWrite(sink, b)
	poison(b)
	s.expect(sink, map[int32]int{0: 3})
}

func (s *suite) refused() {
	if s.c.Refused == nil {
		s.Skip("this kind of sink takes everything")
	}
	sink := s.open()
	b := batch(0, 0, 2)
	add(b, 2, string(s.c.Refused))
	add(b, 3, value(0, 2))
	err := s.write(s.Context(), sink, b)
	var partial *sinks.PartialError
	if !errors.As(err, &partial) {
		s.Fatalf("done got %v, want a *PartialError that names record 2", err)
	}
	for _, f := range partial.Failures {
		if f.Index != 2 || f.Outcome != sinks.Rejected || f.Code == "" || f.Err == nil {
			s.Errorf("failure %+v, want record 2, rejected, with code and error", f)
		}
	}
	if len(partial.Failures) != 1 {
		s.Errorf("%d failures, want 1", len(partial.Failures))
	}
	s.expect(sink, map[int32]int{0: 3})
}

func (s *suite) repeated() {
	if s.c.Break == nil {
		s.Skip("this destination cannot be made to fail")
	}
	sink := s.open()
	s.mustWrite(sink, batch(0, 0, 5))
	s.sync(sink)
	mend := s.c.Break(s.T)
	b := batch(0, 5, 10)
	err := s.write(s.Context(), sink, b)
	if err == nil {
		if cp, ok := sink.(sinks.Checkpointer); ok {
			_, err = cp.Sync(s.Context())
		}
	}
	if err == nil {
		s.Error("a write to a destination that fails succeeded")
	}
	if sinks.IsPermanent(err) {
		s.Errorf("a temporary failure is called permanent: %v", err)
	}
	mend()
	if keeper, ok := sink.(sinks.Ordered); ok {
		keeper.Go(0)
	}
	var partial *sinks.PartialError
	if errors.As(err, &partial) {
		again := &record.Batch{Topic: b.Topic, Partition: b.Partition}
		for _, f := range partial.Failures {
			again.Records = append(again.Records, b.Records[f.Index])
		}
		b = again
	}
	s.mustWrite(sink, b)
	s.expect(sink, map[int32]int{0: 10})
}

func (s *suite) context() {
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	sink := s.c.New()
	if cp, ok := sink.(sinks.Checkpointer); ok {
		cp.Restore(nil)
	}
	if err := sink.Open(ctx); err != nil { // it may also succeed
		s.close(sink)
	} else {
		s.close(sink)
	}
	sink = s.open()
	_ = s.write(ctx, sink, batch(0, 0, 3)) // answers, in either way
	s.close(sink)
}

func (s *suite) unopened() { s.close(s.c.New()) }

func (s *suite) unopenable() {
	if s.c.Unopenable == nil {
		s.Skip("opening this kind of sink does not fail")
	}
	sink := s.c.Unopenable()
	if cp, ok := sink.(sinks.Checkpointer); ok {
		cp.Restore(nil)
	}
	if err := sink.Open(s.Context()); err == nil {
		s.Error("open succeeded, want an error")
	}
	s.close(sink)
}

func (s *suite) checkpoint() {
	sink := s.open()
	if _, ok := sink.(sinks.Checkpointer); !ok {
		s.close(sink)
		s.Skip("this kind of sink has no checkpoints")
	}
	s.mustWrite(sink, batch(0, 0, 10))
	state := s.sync(sink)
	s.mustWrite(sink, batch(0, 10, 17)) // answered, and not part of a checkpoint
	s.close(sink)

	sink = s.openWith(state)
	s.mustWrite(sink, batch(0, 10, 20))
	again := s.sync(sink)
	s.close(sink)

	sink = s.openWith(again) // restoring the last checkpoint loses nothing
	s.expect(sink, map[int32]int{0: 20})
}
