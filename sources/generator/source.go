package generator

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"keystone/pipeline/record"
	"keystone/sources"
)

const (
	batchRecords = 2048
	batchBytes   = 1 << 20
	eventBytes   = 512 // an upper bound, for sizing memory
	linger       = time.Second
	ticks        = 50 // batches a second of a paced source, at most
)

// source is one generator. mu guards the partitions.
type source struct {
	cfg     Config
	start   time.Time // of events; zero: now
	limiter *rate.Limiter

	mu     sync.Mutex
	parts  []part
	turn   int
	resume chan struct{} // told by Resume
}

type part struct {
	make   *maker
	next   int64 // number of the next event
	end    int64 // events it will have; -1 endless
	paused bool
}

func newSource(c Config, start time.Time) *source {
	return &source{cfg: c, start: start, resume: make(chan struct{}, 1)}
}

// identity says what offsets count in: other events, another identity.
func (s *source) identity() string { return "seed-" + strconv.FormatInt(s.cfg.Seed, 10) }

// Open goes on at from. Positions of another seed do not count.
func (s *source) Open(ctx context.Context, from []record.Position, l sources.Listener) error {
	n := int64(max(s.cfg.Partitions, 1))
	s.parts = make([]part, n)
	at := make([]record.Position, n)
	for i := range s.parts {
		p := &s.parts[i]
		p.make, p.end = newMaker(s.cfg.Seed, int32(i)), -1
		if s.cfg.Count > 0 {
			p.end = s.cfg.Count / n
			if int64(i) < s.cfg.Count%n {
				p.end++
			}
		}
	}
	for _, f := range from {
		if f.Identity == s.identity() && f.Partition >= 0 && int64(f.Partition) < n && f.Offset >= 0 {
			s.parts[f.Partition].next = f.Offset
		}
	}
	for i := range s.parts {
		at[i] = s.position(i)
	}
	if s.cfg.Rate > 0 {
		s.limiter = rate.NewLimiter(rate.Limit(s.cfg.Rate), s.burst())
	}
	l.Assigned(at)
	return nil
}

// burst is the events of one tick: few enough to look even, many enough to be cheap.
func (s *source) burst() int { return min(max(int(s.cfg.Rate/ticks), 1), batchRecords) }

func (s *source) position(i int) record.Position {
	return record.Position{Partition: int32(i), Offset: s.parts[i].next, Identity: s.identity(), Name: "generator"}
}

// Read makes the next events of the partition whose turn it is.
func (s *source) Read(ctx context.Context, b *record.Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	i, ended := s.pick()
	if ended {
		return io.EOF
	}
	if i < 0 { // all are paused
		select {
		case <-s.resume:
		case <-time.After(linger):
		case <-ctx.Done():
			return ctx.Err()
		}
		return nil
	}
	p := &s.parts[i] // next is only changed here
	n := int64(batchRecords)
	if b.Want.Records > 0 {
		n = min(n, int64(b.Want.Records))
	}
	if p.end >= 0 {
		n = min(n, p.end-p.next)
	}
	limit := batchBytes
	if b.Want.Bytes > 0 {
		limit = min(limit, b.Want.Bytes)
	}
	n = min(n, int64(max(limit/eventBytes, 1)))
	if s.limiter != nil {
		n = min(n, int64(s.burst()))
		if wait, err := s.pace(ctx, int(n), b.Want.Linger); wait || err != nil {
			return err
		}
	}
	s.fill(b, i, n)
	return nil
}

// pace waits for the turn of n events; true if a linger passed before it came.
func (s *source) pace(ctx context.Context, n int, want time.Duration) (bool, error) {
	if want <= 0 {
		want = linger
	}
	r := s.limiter.ReserveN(time.Now(), n)
	if !r.OK() {
		return false, fmt.Errorf("pace %d events: more than a burst of %d", n, s.limiter.Burst())
	}
	d := r.Delay()
	if d == 0 {
		return false, nil
	}
	late := d > want // slower than the linger: come again
	timer := time.NewTimer(min(d, want))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		r.Cancel()
		return false, ctx.Err()
	}
	if late {
		r.Cancel()
	}
	return late, nil
}

// pick gives the partition to read: -1 if all that have not ended are paused.
func (s *source) pick() (i int, ended bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ended = true
	for range s.parts {
		i := s.turn
		s.turn = (s.turn + 1) % len(s.parts)
		p := &s.parts[i]
		if p.end >= 0 && p.next >= p.end {
			continue
		}
		ended = false
		if !p.paused {
			return i, false
		}
	}
	return -1, ended
}

// fill makes n events of partition i.
func (s *source) fill(b *record.Batch, i int, n int64) {
	p := &s.parts[i]
	if want := int(n) * eventBytes; cap(b.Buf) < want {
		b.Buf = make([]byte, 0, want)
	}
	buf, now, first := b.Buf[:0], time.Now().UnixMilli(), p.next
	for k := range n {
		number, ts := first+k, now
		if !s.start.IsZero() {
			ts = s.start.Add(time.Duration(number) * s.cfg.Step).UnixMilli()
		}
		at := len(buf)
		var user, userEnd int
		buf, user, userEnd = p.make.event(buf, number, ts)
		end := len(buf)
		b.Records = append(b.Records, record.Record{
			Offset: number, Timestamp: ts,
			Key: buf[user:userEnd:userEnd], Value: buf[at:end:end],
		})
		b.Bytes += end - at + userEnd - user
	}
	b.Buf = buf
	s.mu.Lock()
	p.next = first + n
	b.Next = s.position(i)
	s.mu.Unlock()
	b.Topic, b.Partition = "generator", int32(i)
}

// Commit keeps nothing: the positions are stored by the route.
func (s *source) Commit(context.Context, []record.Position) error { return nil }

// Pause stops making events of partitions.
func (s *source) Pause(parts []int32) { s.setPaused(parts, true) }

// Resume ends Pause.
func (s *source) Resume(parts []int32) { s.setPaused(parts, false) }

func (s *source) setPaused(parts []int32, to bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range parts {
		if p >= 0 && int(p) < len(s.parts) {
			s.parts[p].paused = to
		}
	}
	if !to {
		select {
		case s.resume <- struct{}{}:
		default:
		}
	}
}

// Ends gives how many events a counted partition will have; -1 where it is endless.
func (s *source) Ends() map[int32]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	ends := make(map[int32]int64, len(s.parts))
	for i := range s.parts {
		ends[int32(i)] = s.parts[i].end
	}
	return ends
}

// Close has nothing to free.
func (s *source) Close(context.Context) error { return nil }
