package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"keystone/configs"
	"keystone/configs/addr"
	"keystone/configs/spec"
	"keystone/dsl/eval"
	"keystone/pipeline/record"
	"keystone/sinks"
	"keystone/sources"
)

// commands is an evaluator of values that say what is to become of them:
// f filtered, t dropped, e evaluation error, x two outputs with different keys, 0 none; all others pass.
type commands struct{ err eval.Error }

func newCommands() evaluator { return &commands{} }

func (c *commands) Run(in *record.Batch, i int, out *record.Batch) (eval.Verdict, *eval.Error) {
	r := &in.Records[i]
	emit := func(key, v []byte) {
		out.Records = append(out.Records, record.Record{Offset: r.Offset, Key: key, Value: v, Source: int32(i)})
	}
	switch r.Value[0] {
	case 'f':
		return eval.Filtered, nil
	case 't':
		return eval.Dropped, nil
	case 'e':
		c.err = eval.Error{Code: "type", Text: "not a number"}
		return eval.Failed, &c.err
	case 'P':
		panic("the program broke")
	case '0':
		return eval.Passed, nil
	case 'x':
		for _, suffix := range "ab" {
			at := len(out.Buf)
			out.Buf = append(append(out.Buf, r.Value...), byte(suffix))
			emit(out.Buf[len(out.Buf)-min(2, len(r.Value)):len(out.Buf):len(out.Buf)], out.Buf[at:len(out.Buf):len(out.Buf)])
		}
	default:
		emit(r.Key, r.Value)
	}
	return eval.Passed, nil
}

// memSource is a replayable log in memory, with a group of one member.
type memSource struct {
	mu        sync.Mutex
	wake      sync.Cond
	logs      map[int32][]record.Record
	at        map[int32]int // index of the next record, for assigned partitions
	paused    map[int32]bool
	committed map[int32]int64
	l         sources.Listener
	size      int  // records per read
	endless   bool // no io.EOF
	dead      bool // after a crash nothing is committed
	turn      int32
	commits   int
	reads     int
	manual    bool // nothing is assigned by Open
	closed    bool
	opened    bool
	key       func(offset int64) []byte

	check      func(part int32, next int64) error // of each commit
	violations []error
	openErr    error
	onCommit   func(ctx context.Context) error
	onRead     func() error
	onFilled   func()                // after records were taken, before Read returns
	onBatch    func(b *record.Batch) // after onFilled; it may change what Read gives
}

func newMemSource(size int) *memSource {
	s := &memSource{logs: map[int32][]record.Record{}, at: map[int32]int{}, paused: map[int32]bool{}, committed: map[int32]int64{}, size: size, key: ownKey}
	s.wake.L = &s.mu
	return s
}

// fewKeys gives seven records of eight one of seven keys, and the others none.
// All are in slots of their own.
func fewKeys(offset int64) []byte { return eightKeys()[offset%8] }

var eightKeys = sync.OnceValue(func() [][]byte {
	keys, taken := make([][]byte, 8), map[uint8]bool{slotOf(nil): true}
	for i := range 7 {
		for n := 0; keys[i] == nil; n++ {
			if k := fmt.Appendf(nil, "k%d-%d", i, n); !taken[slotOf(k)] {
				keys[i], taken[slotOf(k)] = k, true
			}
		}
	}
	return keys
})

func ownKey(offset int64) []byte { return fmt.Appendf(nil, "k%d", offset) }

// add appends values; offsets leave a gap after every seventh record.
func (s *memSource) add(part int32, values ...string) *memSource {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range values {
		log := s.logs[part]
		next := int64(0)
		if n := len(log); n > 0 {
			next = log[n-1].Offset + 1
			if n%7 == 0 {
				next += 3
			}
		}
		s.logs[part] = append(log, record.Record{Offset: next, Key: s.key(next), Value: []byte(v)})
	}
	s.wake.Broadcast()
	return s
}

func (s *memSource) Open(_ context.Context, _ []record.Position, l sources.Listener) error {
	if s.openErr != nil {
		return s.openErr
	}
	s.mu.Lock()
	s.l, s.opened = l, true
	var parts []int32
	for p := range s.logs {
		parts = append(parts, p)
	}
	s.mu.Unlock()
	if !s.manual {
		s.assign(parts...)
	}
	return nil
}

func (s *memSource) assign(parts ...int32) {
	s.mu.Lock()
	var from []record.Position
	for _, p := range parts {
		from = append(from, record.Position{Partition: p, Offset: s.committed[p]})
		delete(s.paused, p)
	}
	l := s.l
	s.mu.Unlock()
	l.Assigned(from)
	s.mu.Lock()
	for _, p := range from {
		i := 0
		for i < len(s.logs[p.Partition]) && s.logs[p.Partition][i].Offset < p.Offset {
			i++
		}
		s.at[p.Partition] = i
	}
	s.wake.Broadcast()
	s.mu.Unlock()
}

func (s *memSource) revoke(ctx context.Context, parts ...int32) {
	s.l.Revoked(ctx, parts)
	s.forget(parts)
}

func (s *memSource) lose(parts ...int32) {
	s.forget(parts)
	s.l.Lost(parts)
}

func (s *memSource) forget(parts []int32) {
	s.mu.Lock()
	for _, p := range parts {
		delete(s.at, p)
	}
	s.mu.Unlock()
}

func (s *memSource) Read(ctx context.Context, b *record.Batch) error {
	stop := context.AfterFunc(ctx, func() { s.mu.Lock(); s.wake.Broadcast(); s.mu.Unlock() })
	defer stop()
	if s.onRead != nil {
		if err := s.onRead(); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	for ctx.Err() == nil {
		left := false
		for k := range int32(len(s.logs)) {
			p := (s.turn + k) % int32(len(s.logs))
			i, ok := s.at[p]
			if !ok || i == len(s.logs[p]) {
				continue
			}
			left = true
			if s.paused[p] {
				continue
			}
			s.turn = p + 1
			s.fill(b, p, i)
			if f := s.onFilled; f != nil {
				s.mu.Unlock()
				f()
				s.mu.Lock()
			}
			if s.onBatch != nil {
				s.onBatch(b)
			}
			return nil
		}
		if !left && !s.endless {
			return io.EOF
		}
		s.wake.Wait()
	}
	return ctx.Err()
}

func (s *memSource) fill(b *record.Batch, p int32, i int) {
	n := s.size
	if b.Want.Records > 0 {
		n = min(n, b.Want.Records)
	}
	log := s.logs[p][i:min(i+n, len(s.logs[p]))]
	b.Topic, b.Partition = "mem", p
	size := 0
	for _, r := range log {
		size += len(r.Key) + len(r.Value)
	}
	if cap(b.Buf) < size {
		b.Buf = make([]byte, 0, size)
	}
	put := func(v []byte) []byte {
		if v == nil {
			return nil
		}
		at := len(b.Buf)
		b.Buf = append(b.Buf, v...)
		return b.Buf[at:len(b.Buf):len(b.Buf)]
	}
	for _, r := range log {
		c := record.Record{Offset: r.Offset, Key: put(r.Key), Value: put(r.Value), Headers: r.Headers, Bad: r.Bad}
		b.Records = append(b.Records, c)
	}
	b.Bytes = size
	b.Next = record.Position{Partition: p, Offset: log[len(log)-1].Offset + 1}
	s.at[p] = i + len(log)
}

func (s *memSource) Commit(ctx context.Context, done []record.Position) error {
	if s.onCommit != nil {
		if err := s.onCommit(ctx); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if s.dead {
		return errors.New("the process is dead")
	}
	s.commits++
	var left error
	for _, p := range done {
		if _, ok := s.at[p.Partition]; !ok {
			left = sources.ErrNotAssigned
			continue
		}
		if p.Offset < s.committed[p.Partition] {
			s.violations = append(s.violations, fmt.Errorf("partition %d: commit went back from %d to %d", p.Partition, s.committed[p.Partition], p.Offset))
		}
		if s.check != nil {
			if err := s.check(p.Partition, p.Offset); err != nil {
				s.violations = append(s.violations, err)
			}
		}
		s.committed[p.Partition] = p.Offset
	}
	return left
}

func (s *memSource) setPaused(parts []int32, on bool) {
	s.mu.Lock()
	for _, p := range parts {
		s.paused[p] = on
	}
	s.wake.Broadcast()
	s.mu.Unlock()
}

func (s *memSource) Pause(parts []int32)  { s.setPaused(parts, true) }
func (s *memSource) Resume(parts []int32) { s.setPaused(parts, false) }

func (s *memSource) Close(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

func (s *memSource) committedAt(part int32) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.committed[part]
}

// memSink keeps what it is given. hook decides what a write answers, and when.
type memSink struct {
	mu     sync.Mutex
	got    map[int32][]string // by partition, in order of delivery
	writes int
	hook   func(ctx context.Context, b *record.Batch, take func(i int)) error // nil: takes all
	async  bool
	wg     sync.WaitGroup
	closed bool
	keep   map[int32]chan struct{} // of async writes per partition: one after the other
}

func newMemSink() *memSink {
	return &memSink{got: map[int32][]string{}, keep: map[int32]chan struct{}{}}
}

func (s *memSink) Open(context.Context) error { return nil }

func (s *memSink) Write(ctx context.Context, b *record.Batch, done func(error)) {
	part := b.Partition
	take := func(i int) {
		s.mu.Lock()
		s.got[part] = append(s.got[part], string(b.Records[i].Value))
		s.mu.Unlock()
	}
	answer := func() {
		if s.hook != nil {
			done(s.hook(ctx, b, take))
			return
		}
		for i := range b.Records {
			take(i)
		}
		done(nil)
	}
	s.mu.Lock()
	s.writes++
	before := s.keep[part]
	mine := make(chan struct{})
	s.keep[part] = mine
	s.mu.Unlock()
	if !s.async {
		answer()
		return
	}
	s.wg.Go(func() {
		if before != nil {
			<-before
		}
		answer()
		close(mine)
	})
}

func (s *memSink) Close(context.Context) error {
	s.wg.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

func (s *memSink) values(part int32) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.got[part]...)
}

// memLetters keeps dead letters.
type memLetters struct {
	mu      sync.Mutex
	letters []DeadLetter
	fail    func() error
	closed  bool
}

func (d *memLetters) Write(_ context.Context, letters []DeadLetter) error {
	if d.fail != nil {
		if err := d.fail(); err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, l := range letters {
		l.Record.Key, l.Record.Value = bytes.Clone(l.Record.Key), bytes.Clone(l.Record.Value)
		d.letters = append(d.letters, l)
	}
	return nil
}

func (d *memLetters) Close(context.Context) error { d.closed = true; return nil }

func (d *memLetters) values() (v []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, l := range d.letters {
		v = append(v, string(l.Record.Value))
	}
	return v
}

// testRoute gives a route with defaults for tests.
func testRoute(edit ...func(*configs.Route)) *configs.Route {
	r := &configs.Route{
		Addr: addr.New("route", "r"), From: spec.Ref{Addr: addr.New("stream", "in")}, To: spec.Ref{Addr: addr.New("sink", "out")},
		Order: configs.OrderPartition, OnError: configs.DeadLetter,
		Delivery: configs.Delivery{Guarantee: configs.AtLeastOnce, DrainTimeout: 10 * time.Second, CommitInterval: time.Second},
		Retry:    configs.Retry{Initial: 10 * time.Millisecond, Max: time.Second},
	}
	for _, f := range edit {
		f(r)
	}
	return r
}

// rig is a worker with its parts.
type rig struct {
	src     *memSource
	sink    *memSink
	letters *memLetters
	w       *Worker
	ended   chan error
}

func newRig(src *memSource, sink sinks.Sink, route *configs.Route, edit ...func(*Spec)) *rig {
	g := &rig{src: src, letters: &memLetters{}, ended: make(chan error, 1)}
	g.sink, _ = sink.(*memSink)
	s := Spec{Route: route, Revision: 1, Source: src, Sink: sink, DeadLetters: g.letters}
	for _, f := range edit {
		f(&s)
	}
	g.w = newWorker(s, newCommands)
	return g
}

func (g *rig) start(ctx context.Context) { go func() { g.ended <- g.w.Run(ctx) }() }

func (g *rig) wait(t *testing.T) {
	t.Helper()
	if err := <-g.ended; err != nil {
		t.Fatal(err)
	}
}

// checkCounts holds the ledger to its equation.
func checkCounts(s Stats) error {
	c := s.Total
	if sum := c.Delivered + c.Filtered + c.DeadLettered + c.Dropped + c.Abandoned + s.InFlightRecords; sum != c.Read {
		return fmt.Errorf("read %d records but accounted for %d: %+v, %d in flight", c.Read, sum, c, s.InFlightRecords)
	}
	return nil
}
