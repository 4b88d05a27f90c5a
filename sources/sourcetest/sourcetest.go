// Package sourcetest holds every kind of source to the contract of
// sources.Source. A kind's test calls Run with a function that makes a source
// over something that holds known records.
package sourcetest

import (
	"bytes"
	"context"
	"io"
	"slices"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"keystone/pipeline/record"
	"keystone/sources"
)

// Case is what a source reads, and how to get at it.
type Case struct {
	// New makes a source over the same records, each time anew (it is not opened). Required.
	New func() sources.Source
	// Want is what there is to read, by partition, in order: at least 20 records in one of them. Required.
	Want map[int32][]string
	// Bounded says that Read ends with io.EOF.
	Bounded bool
	// KeepsPositions says that the source stores positions itself and ignores those given to Open.
	KeepsPositions bool
	// Repeats says that the source cannot go on at a position (standard input).
	Repeats bool
	// HeedsWant says that a read gives no more records than Batch.Want asks for.
	HeedsWant bool
	// Unopenable makes a source whose Open, or first Read, fails. Nil: there is none.
	Unopenable func() sources.Source
	// Ignore are goroutines that outlive the source by right, such as those of a broker in the process.
	Ignore []goleak.Option
}

// Run runs all tests that the case allows. newCase is called for each of them.
func Run(t *testing.T, newCase func(t *testing.T) Case) {
	for _, test := range []struct {
		name string
		run  func(*suite)
	}{
		{"everything in order", (*suite).order},
		{"the end stays the end", (*suite).end},
		{"a batch stays as it is while others are read", (*suite).independent},
		{"resumes after a batch", (*suite).resumeBatch},
		{"resumes within a batch", (*suite).resumeRecord},
		{"gives no more than is wanted", (*suite).wanted},
		{"pause and resume", (*suite).pause},
		{"an ended context is obeyed", (*suite).context},
		{"close without open", (*suite).unopened},
		{"close after a failed open", (*suite).unopenable},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCase(t)
			before := append([]goleak.Option{goleak.IgnoreCurrent()}, c.Ignore...)
			test.run(&suite{T: t, c: c, l: &listener{}})
			if !t.Skipped() && !t.Failed() {
				goleak.VerifyNone(t, before...)
			}
		})
	}
}

// listener keeps what it hears.
type listener struct {
	mu       sync.Mutex
	assigned map[int32]record.Position
	loss     bool
}

func (l *listener) Assigned(parts []record.Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.assigned == nil {
		l.assigned = map[int32]record.Position{}
	}
	for _, p := range parts {
		l.assigned[p.Partition] = p
	}
}

func (l *listener) Revoked(_ context.Context, parts []int32) { l.Lost(parts) }

func (l *listener) Lost(parts []int32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range parts {
		delete(l.assigned, p)
	}
}

func (l *listener) DataLoss(int32, int64, int64) { l.loss = true }

func (l *listener) has(part int32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.assigned[part]
	return ok
}

type suite struct {
	*testing.T
	c Case
	l *listener
}

func (s *suite) open(from ...record.Position) sources.Source {
	s.Helper()
	s.l = &listener{}
	src := s.c.New()
	if err := src.Open(s.Context(), from, s.l); err != nil {
		s.Fatalf("open: %v", err)
	}
	return src
}

func (s *suite) close(src sources.Source) {
	s.Helper()
	if err := src.Close(context.WithoutCancel(s.Context())); err != nil {
		s.Errorf("close: %v", err)
	}
}

func (s *suite) total() (n int) {
	for _, w := range s.c.Want {
		n += len(w)
	}
	return n
}

// read reads one batch with records; nil at the end.
func (s *suite) read(src sources.Source, want record.Want) *record.Batch {
	s.Helper()
	b := &record.Batch{Want: want}
	for {
		err := src.Read(s.Context(), b)
		switch {
		case err == io.EOF: //nolint:errorlint // as a worker does
			if len(b.Records) > 0 {
				s.Error("the end came with records")
			}
			return nil
		case err != nil:
			s.Fatalf("read: %v", err)
		case len(b.Records) > 0:
			s.check(b)
			return b
		}
		b.Reset()
	}
}

// check holds a batch to what every batch promises.
func (s *suite) check(b *record.Batch) {
	s.Helper()
	if !s.l.has(b.Partition) {
		s.Errorf("records of partition %d, which is not assigned", b.Partition)
	}
	last := int64(-1)
	for i := range b.Records {
		if r := &b.Records[i]; r.Offset <= last {
			s.Errorf("offset %d after %d", r.Offset, last)
		} else {
			last = r.Offset
		}
	}
	if b.Next.Partition != b.Partition || b.Next.Offset <= last {
		s.Errorf("next is %+v after offset %d of partition %d", b.Next, last, b.Partition)
	}
	if b.Bytes <= 0 {
		s.Errorf("a batch of %d records says that it has %d bytes", len(b.Records), b.Bytes)
	}
}

// collect reads n records and appends their values by partition.
func (s *suite) collect(src sources.Source, n int, got map[int32][]string) {
	s.Helper()
	for n > 0 {
		b := s.read(src, record.Want{})
		if b == nil {
			s.Fatalf("the source ended %d records early", n)
		}
		take(b, len(b.Records), got)
		n -= len(b.Records)
		b.Release()
	}
}

func take(b *record.Batch, n int, got map[int32][]string) {
	for i := range b.Records[:n] {
		got[b.Partition] = append(got[b.Partition], string(b.Records[i].Value))
	}
}

func (s *suite) compare(got map[int32][]string) {
	s.Helper()
	for p, want := range s.c.Want {
		if !slices.Equal(got[p], want) {
			s.Errorf("partition %d: got %d records, want %d; first difference at %d", p, len(got[p]), len(want), difference(got[p], want))
		}
	}
	for p := range got {
		if s.c.Want[p] == nil {
			s.Errorf("partition %d has no records, but %d were read", p, len(got[p]))
		}
	}
}

func difference(a, b []string) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

func (s *suite) order() {
	src := s.open()
	got := map[int32][]string{}
	s.collect(src, s.total(), got)
	s.compare(got)
	s.close(src)
}

func (s *suite) end() {
	if !s.c.Bounded {
		s.Skip("this source has no end")
	}
	src := s.open()
	s.collect(src, s.total(), map[int32][]string{})
	for range 2 {
		if b := s.read(src, record.Want{}); b != nil {
			s.Errorf("%d records after the last", len(b.Records))
		}
	}
	s.close(src)
}

func (s *suite) independent() {
	src := s.open()
	first := s.read(src, record.Want{Records: 5})
	var values, keys [][]byte
	for _, r := range first.Records {
		values, keys = append(values, bytes.Clone(r.Value)), append(keys, bytes.Clone(r.Key))
	}
	for n := len(first.Records); n < s.total(); {
		b := s.read(src, record.Want{Records: 5})
		n += len(b.Records)
		b.Release()
	}
	for i, r := range first.Records {
		if !bytes.Equal(r.Value, values[i]) || !bytes.Equal(r.Key, keys[i]) {
			s.Fatalf("record %d of an earlier batch changed while its batch was not released", i)
		}
	}
	first.Release()
	s.close(src)
}

// resume reads one batch, commits what at gives, and reads the rest with another source.
func (s *suite) resume(at func(b *record.Batch) (done record.Position, n int)) {
	if s.c.Repeats {
		s.Skip("this source cannot go on where it ended")
	}
	got := map[int32][]string{}
	src := s.open()
	var b *record.Batch
	for b == nil || len(b.Records) < 2 {
		if b != nil {
			s.Skip("the first read gives a single record")
		}
		b = s.read(src, record.Want{Records: 10})
	}
	done, n := at(b)
	take(b, n, got)
	b.Release()
	from := []record.Position{done}
	if err := src.Commit(s.Context(), from); err != nil {
		s.Fatalf("commit: %v", err)
	}
	s.close(src)
	if s.c.KeepsPositions {
		from = nil
	}
	src = s.open(from...)
	s.collect(src, s.total()-n, got)
	s.compare(got)
	s.close(src)
}

func (s *suite) resumeBatch() {
	s.resume(func(b *record.Batch) (record.Position, int) { return b.Next, len(b.Records) })
}

// resumeRecord is what a worker commits while a part of a batch is unfinished.
func (s *suite) resumeRecord() {
	s.resume(func(b *record.Batch) (record.Position, int) {
		n := len(b.Records) / 2
		p := b.Next
		p.Offset = b.Records[n].Offset
		return p, n
	})
}

func (s *suite) wanted() {
	if !s.c.HeedsWant {
		s.Skip("this source gives what it has")
	}
	src := s.open()
	got := map[int32][]string{}
	for n := 0; n < s.total(); {
		b := s.read(src, record.Want{Records: 3})
		if b == nil || len(b.Records) > 3 {
			s.Fatalf("wanted 3 records, got %v", b)
		}
		take(b, len(b.Records), got)
		n += len(b.Records)
		b.Release()
	}
	s.compare(got)
	s.close(src)
}

// pause pauses a partition after its first batch; the others go on, and after
// Resume nothing is missing. What was read ahead may still come.
func (s *suite) pause() {
	src := s.open()
	got := map[int32][]string{}
	b := s.read(src, record.Want{Records: 3})
	take(b, len(b.Records), got)
	part := b.Partition
	n := len(b.Records)
	b.Release()
	src.Pause([]int32{part})
	src.Resume([]int32{part})
	s.collect(src, s.total()-n, got)
	s.compare(got)
	s.close(src)
}

func (s *suite) context() {
	ctx, cancel := context.WithCancel(s.Context())
	src := s.open()
	cancel()
	b := &record.Batch{}
	for range s.total() + 1 { // it may give what it has, but it must not wait
		if err := src.Read(ctx, b); err != nil {
			break
		}
		b.Release()
		b = &record.Batch{}
	}
	s.close(src)
}

func (s *suite) unopened() { s.close(s.c.New()) }

func (s *suite) unopenable() {
	if s.c.Unopenable == nil {
		s.Skip("opening this kind of source does not fail")
	}
	src := s.c.Unopenable()
	err := src.Open(s.Context(), nil, &listener{})
	if err == nil {
		err = src.Read(s.Context(), &record.Batch{})
	}
	if err == nil {
		s.Error("open succeeded, want an error")
	}
	s.close(src)
}
