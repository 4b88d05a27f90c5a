package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"keystone/configs"
	"keystone/configs/addr"
	"keystone/pipeline/record"
)

// memStore keeps positions and a sink's state in one transaction.
type memStore struct {
	mu    sync.Mutex
	from  []record.Position
	state []byte
	saves int
	fail  error
}

func (s *memStore) LoadPositions(context.Context, addr.Addr) ([]record.Position, []byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.from), slices.Clone(s.state), nil
}

func (s *memStore) SavePositions(_ context.Context, _ addr.Addr, from []record.Position, state []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	s.from, s.state = slices.Clone(from), slices.Clone(state)
	s.saves++
	return nil
}

// logSink is a file in memory: what was not synced is lost in a crash, and
// what was synced after the last stored state is taken back by Restore.
type logSink struct {
	mu      sync.Mutex
	disk    *[]string // as of the last sync
	buffer  []string
	restore []byte
	writing int
	synced  error // a write was under way during Sync
	fail    error // what Sync says
	jitter  func() time.Duration
	wg      sync.WaitGroup
}

func (s *logSink) Restore(state []byte) { s.restore = state }

func (s *logSink) Open(context.Context) error {
	n := 0
	if s.restore != nil {
		if err := json.Unmarshal(s.restore, &n); err != nil {
			return err
		}
	}
	*s.disk = (*s.disk)[:n]
	return nil
}

func (s *logSink) Write(_ context.Context, b *record.Batch, done func(error)) {
	s.mu.Lock()
	s.writing++
	s.mu.Unlock()
	s.wg.Go(func() {
		time.Sleep(s.jitter())
		s.mu.Lock()
		for i := range b.Records {
			s.buffer = append(s.buffer, fmt.Sprintf("%d:%s", b.Partition, b.Records[i].Value))
		}
		s.writing--
		s.mu.Unlock()
		done(nil)
	})
}

func (s *logSink) Sync(context.Context) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writing > 0 {
		s.synced = errors.New("a checkpoint while a write is under way")
	}
	if s.fail != nil {
		return nil, s.fail
	}
	time.Sleep(time.Millisecond)
	*s.disk = append(*s.disk, s.buffer...)
	s.buffer = nil
	return json.Marshal(len(*s.disk))
}

func (s *logSink) Close(context.Context) error { s.wg.Wait(); return nil }

// positioned is a memSource that starts where Open is told to.
type positioned struct{ *memSource }

func (p positioned) Commit(context.Context, []record.Position) error { return nil }

// TestCheckpointedSinkIsEffectivelyOnce: with positions and sink state in one
// transaction, crashes at any moment neither lose nor repeat a line.
func TestCheckpointedSinkIsEffectivelyOnce(t *testing.T) {
	for crashAfter := range 60 {
		in(t, func(t *testing.T) {
			store := &memStore{}
			var disk []string
			logs := newMemSource(3).add(0, values("v", 0, 90)...).add(1, values("v", 0, 40)...)
			for life := 0; ; life++ {
				src := newMemSource(3)
				src.logs = logs.logs
				for _, p := range store.from {
					src.committed[p.Partition] = p.Offset
				}
				var jitter atomic.Int64
				sink := &logSink{disk: &disk, jitter: func() time.Duration { return time.Duration(jitter.Add(1)%3) * time.Millisecond }}
				route := testRoute(func(r *configs.Route) {
					r.Delivery.CommitInterval = 7 * time.Millisecond
					r.Limits.MaxInFlightBytes = 3_000
				})
				w := newWorker(Spec{Route: route, Source: positioned{src}, Sink: sink, Positions: store}, newCommands)
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- w.Run(ctx) }()
				if life < 3 {
					time.Sleep(time.Duration(crashAfter+life) * 500 * time.Microsecond)
					store.mu.Lock()
					store.fail = errors.New("the process is dead")
					store.mu.Unlock()
					cancel()
					<-ended
					store.fail = nil
				} else if err := <-ended; err != nil {
					t.Fatal(err)
				}
				cancel()
				if sink.synced != nil {
					t.Fatal(sink.synced)
				}
				if life == 3 {
					break
				}
			}
			got := map[byte][]string{}
			for _, line := range disk {
				got[line[0]] = append(got[line[0]], line[2:])
			}
			if !slices.Equal(got['0'], values("v", 0, 90)) || !slices.Equal(got['1'], values("v", 0, 40)) {
				t.Errorf("crash after %d: the file holds %d and %d lines: %v", crashAfter, len(got['0']), len(got['1']), disk)
			}
		})
	}
}

// TestNothingIsCommittedWithoutNews: an idle route writes to no store.
func TestNothingIsCommittedWithoutNews(t *testing.T) {
	in(t, func(t *testing.T) {
		store := &memStore{}
		src := newMemSource(3).add(0, "v0")
		src.endless = true
		w := newWorker(Spec{Route: testRoute(), Source: src, Sink: newMemSink(), Positions: store}, newCommands)
		ended := make(chan error, 1)
		go func() { ended <- w.Run(t.Context()) }()
		time.Sleep(time.Hour)
		synctest.Wait()
		if store.saves != 1 || src.commits != 1 {
			t.Errorf("%d saves and %d commits for one record", store.saves, src.commits)
		}
		src.add(0, "v1")
		time.Sleep(time.Hour)
		synctest.Wait()
		if store.saves != 2 || store.from[0].Offset != 2 {
			t.Errorf("%d saves, %+v", store.saves, store.from)
		}
		w.Drain(t.Context())
		<-ended
		if store.saves != 2 {
			t.Errorf("%d saves", store.saves)
		}
	})
}

// TestUnreadPartitionsKeepTheirPosition: a partition that is not read in this run
// keeps its stored position.
func TestUnreadPartitionsKeepTheirPosition(t *testing.T) {
	in(t, func(t *testing.T) {
		store := &memStore{from: []record.Position{{Partition: 9, Offset: 77, Identity: "gone"}}}
		src := newMemSource(3).add(0, "v0")
		w := newWorker(Spec{Route: testRoute(), Source: src, Sink: newMemSink(), Positions: store}, newCommands)
		if err := w.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := []record.Position{{Partition: 0, Offset: 1}, {Partition: 9, Offset: 77, Identity: "gone"}}
		if !slices.Equal(store.from, want) {
			t.Errorf("stored %+v", store.from)
		}
	})
}

// TestWritingWaitsForAStateThatIsNotStored: a sink that gave its state takes
// the next write as the sign that it is stored.
func TestWritingWaitsForAStateThatIsNotStored(t *testing.T) {
	in(t, func(t *testing.T) {
		store := &memStore{fail: errors.New("disk full")}
		src := newMemSource(3).add(0, "v0")
		src.endless = true
		var disk []string
		sink := &logSink{disk: &disk, jitter: func() time.Duration { return 0 }}
		w := newWorker(Spec{Route: testRoute(), Source: src, Sink: sink, Positions: store}, newCommands)
		ended := make(chan error, 1)
		go func() { ended <- w.Run(t.Context()) }()
		time.Sleep(2 * time.Second)
		src.add(0, "v1")
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(sink.buffer)+len(disk) != 1 {
			t.Errorf("written %v %v while the state of v0 is not stored", disk, sink.buffer)
		}
		if s := w.Stats(); s.Activity != Retrying || s.Error == "" {
			t.Errorf("%s %s", s.Activity, s.Error)
		}
		store.mu.Lock()
		store.fail = nil
		store.mu.Unlock()
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(disk) != 2 || store.from[0].Offset != 2 {
			t.Errorf("written %v, stored %v", disk, store.from)
		}
		w.Drain(t.Context())
		<-ended
	})
}

// TestACommitThatFailsIsSaid: a sink that takes records and cannot bring them to disk leaves
// nothing in flight, and still the route says what it waits for until it succeeds.
func TestACommitThatFailsIsSaid(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(3).add(0, "v0")
		src.endless = true
		var disk []string
		sink := &logSink{disk: &disk, jitter: func() time.Duration { return 0 }, fail: errors.New("disk full")}
		w := newWorker(Spec{Route: testRoute(), Source: src, Sink: sink, Positions: &memStore{}}, newCommands)
		ended := make(chan error, 1)
		go func() { ended <- w.Run(t.Context()) }()
		time.Sleep(time.Hour)
		synctest.Wait()
		if s := w.Stats(); s.Activity != Retrying || s.Attempt < 2 || !strings.Contains(s.Error, "disk full") {
			t.Errorf("%s (%d, %s)", s.Activity, s.Attempt, s.Error)
		}
		sink.mu.Lock()
		sink.fail = nil
		sink.mu.Unlock()
		time.Sleep(time.Hour)
		synctest.Wait()
		if s := w.Stats(); s.Activity != Fetching || s.Attempt != 0 || s.Error != "" || len(disk) != 1 {
			t.Errorf("%s (%d, %s), written %v", s.Activity, s.Attempt, s.Error, disk)
		}
		w.Drain(t.Context())
		<-ended
	})
}

// finisher counts.
type finisher struct {
	*memSink
	finished int
}

func (f *finisher) Finish(context.Context) error {
	if f.memSink.closed {
		return errors.New("finished after it was closed")
	}
	f.finished++
	return nil
}

func TestOnlyACompleteRunIsFinished(t *testing.T) {
	for name, test := range map[string]struct {
		route    *configs.Route
		values   []string
		endless  bool
		limit    int64
		finishes int
	}{
		"end":     {testRoute(), []string{"v0"}, false, 0, 1},
		"limit":   {testRoute(), []string{"v0", "v1"}, true, 2, 1},
		"drained": {testRoute(), []string{"v0"}, true, 0, 0},
		"halted":  {testRoute(func(r *configs.Route) { r.OnError = configs.StopRoute }), []string{"e0"}, false, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T) {
				src := newMemSource(3).add(0, test.values...)
				src.endless = test.endless
				sink := &finisher{memSink: newMemSink()}
				g := newRig(src, sink, test.route, func(s *Spec) { s.Limit = test.limit })
				g.start(t.Context())
				synctest.Wait()
				g.w.Drain(t.Context())
				<-g.ended
				if sink.finished != test.finishes {
					t.Errorf("finished %d times, want %d", sink.finished, test.finishes)
				}
			})
		})
	}
}
