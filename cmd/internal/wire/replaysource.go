package wire

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"keystone/configs/addr"
	"keystone/pipeline"
	"keystone/pipeline/record"
	"keystone/reconcile/store"
	"keystone/sources"
)

// replayBase is where the positions of a replay begin. They count letters, and
// must not be taken for offsets: where a worker stops before a record, it
// commits that record's offset, which says nothing about letters.
const replayBase = int64(1) << 62

// origin is where a record was read first.
type origin struct {
	topic, identity string
	partition       int32
	offset          int64
}

// marked is a letter that is to be marked as replayed.
type marked struct {
	place string
	id    store.LetterID
}

// replayed is a record on its way.
type replayed struct {
	origin  origin
	seq     int64 // its position in its lane
	replays int   // with this one
	letters []marked
}

// replaySource gives the original records of dead letters to a worker: a lane
// per original partition, one record a batch, with the topic, partition,
// offset and identity that they had. A commit marks the letters whose records
// have an outcome; what is not marked is replayed again by the next replay, so
// that a crash repeats and never loses.
type replaySource struct {
	scan func(ctx context.Context, f func(found) error) error
	mark func(ctx context.Context, place string, ids []store.LetterID) error
	same func() // another letter of a record that is replayed already

	queue   chan found
	failed  error // of the scan; read after queue is closed
	stop    context.CancelFunc
	scanned sync.WaitGroup
	tell    sources.Listener

	mu    sync.Mutex // guards everything below
	lanes map[int32][]*replayed
	next  map[int32]int64 // of lanes
	seen  map[origin]*replayed
	late  []marked // letters of records whose outcome was marked before
}

func newReplaySource(scan func(context.Context, func(found) error) error, mark func(context.Context, string, []store.LetterID) error, same func()) *replaySource {
	return &replaySource{scan: scan, mark: mark, same: same, queue: make(chan found, 64), stop: func() {},
		lanes: map[int32][]*replayed{}, next: map[int32]int64{}, seen: map[origin]*replayed{}}
}

// Open starts reading letters.
func (s *replaySource) Open(ctx context.Context, _ []record.Position, l sources.Listener) error {
	s.tell = l
	ctx, s.stop = context.WithCancel(ctx)
	s.scanned.Go(func() {
		defer close(s.queue)
		s.failed = s.scan(ctx, func(f found) error {
			select {
			case s.queue <- f:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	})
	return nil
}

// Read gives one record.
func (s *replaySource) Read(ctx context.Context, b *record.Batch) error {
	wait := time.NewTimer(max(b.Want.Linger, 50*time.Millisecond))
	defer wait.Stop()
	select {
	case f, ok := <-s.queue:
		switch {
		case ok:
			s.give(f, b)
			return nil
		case s.failed != nil:
			return sources.Fatal{Err: fmt.Errorf("read dead letters: %w", s.failed)}
		}
		return io.EOF
	case <-wait.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// give makes a letter the batch of its lane, unless its record is on its way already.
func (s *replaySource) give(f found, b *record.Batch) {
	l := &f.letter
	o := origin{l.Topic, l.Identity, l.Partition, l.Offset}
	s.mu.Lock()
	if r := s.seen[o]; r != nil {
		r.replays = max(r.replays, l.Replays+1)
		if r.letters != nil {
			r.letters = append(r.letters, marked{f.box.place, f.mark})
		} else {
			s.late = append(s.late, marked{f.box.place, f.mark})
		}
		s.mu.Unlock()
		s.same()
		return
	}
	seq, known := s.next[l.Partition]
	if !known {
		seq = replayBase
	}
	s.next[l.Partition] = seq + 1
	r := &replayed{origin: o, seq: seq, replays: l.Replays + 1, letters: []marked{{f.box.place, f.mark}}}
	s.seen[o] = r
	s.lanes[l.Partition] = append(s.lanes[l.Partition], r)
	s.mu.Unlock()
	if !known {
		s.tell.Assigned([]record.Position{{Partition: l.Partition, Offset: seq, LeaderEpoch: -1}})
	}
	original := l.Record()
	b.Topic, b.Partition = l.Topic, l.Partition
	b.Records = append(b.Records, original)
	b.Bytes = len(original.Key) + len(original.Value)
	for _, h := range original.Headers {
		b.Bytes += len(h.Key) + len(h.Value)
	}
	b.Next = record.Position{Partition: l.Partition, Offset: seq + 1, LeaderEpoch: -1, Identity: l.Identity, Name: l.Topic}
}

// Commit marks the letters whose records have an outcome. A mark that fails
// leaves them to be marked by the next one.
func (s *replaySource) Commit(ctx context.Context, done []record.Position) error {
	s.mu.Lock()
	marks := map[string][]store.LetterID{}
	add := func(ms []marked) {
		for _, m := range ms {
			marks[m.place] = append(marks[m.place], m.id)
		}
	}
	ended := map[int32]int{}
	for _, p := range done {
		for i, r := range s.lanes[p.Partition] {
			if p.Offset < replayBase || r.seq >= p.Offset {
				break
			}
			ended[p.Partition] = i + 1
			add(r.letters)
		}
	}
	late := len(s.late)
	add(s.late)
	s.mu.Unlock()
	for place, ids := range marks {
		if err := s.mark(ctx, place, ids); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var missed []marked
	for p, n := range ended {
		for _, r := range s.lanes[p][:n] {
			for _, m := range r.letters { // one that came while the others were marked
				if !hasMark(marks[m.place], m.id) {
					missed = append(missed, m)
				}
			}
			r.letters = nil
		}
		s.lanes[p] = s.lanes[p][n:]
	}
	s.late = append(s.late[late:], missed...)
	return nil
}

func hasMark(ids []store.LetterID, id store.LetterID) bool {
	for _, x := range ids {
		if x == id {
			return true
		}
	}
	return false
}

// Pause does nothing: a lane that is full makes the worker wait.
func (s *replaySource) Pause([]int32) {}

// Resume does nothing.
func (s *replaySource) Resume([]int32) {}

// Close ends reading. Letters of one record that came last are marked with it.
func (s *replaySource) Close(ctx context.Context) error {
	s.stop()
	if s.tell == nil {
		return nil // it was not opened
	}
	for range s.queue { // the scan may wait to give one
	}
	s.scanned.Wait()
	return s.Commit(ctx, nil)
}

// replaysOf gives how often the record has been replayed, with this time.
func (s *replaySource) replaysOf(o origin) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.seen[o]; r != nil {
		return r.replays
	}
	return 1
}

// replayLetters counts a replay more in the letters of records that failed again.
type replayLetters struct {
	pipeline.DeadLetters
	source *replaySource
}

// Write writes letters.
func (l replayLetters) Write(ctx context.Context, letters []pipeline.DeadLetter) error {
	counted := make([]pipeline.DeadLetter, len(letters))
	for i, x := range letters {
		x.Replays = l.source.replaysOf(origin{x.Topic, x.Identity, x.Partition, x.Record.Offset})
		counted[i] = x
	}
	return l.DeadLetters.Write(ctx, counted)
}

// sinkState loads and stores the state of a sink, and no positions: those are the route's.
type sinkState struct{ pipeline.Positions }

// LoadPositions gives the state.
func (s sinkState) LoadPositions(ctx context.Context, route addr.Addr) ([]record.Position, []byte, error) {
	_, state, err := s.Positions.LoadPositions(ctx, route)
	return nil, state, err
}

// SavePositions stores the state.
func (s sinkState) SavePositions(ctx context.Context, route addr.Addr, _ []record.Position, state []byte) error {
	return s.Positions.SavePositions(ctx, route, nil, state)
}
