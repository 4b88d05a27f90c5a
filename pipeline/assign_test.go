package pipeline

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"keystone/configs"
	"keystone/pipeline/record"
)

func TestRevokedLaneCommitsWhatIsFinished(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(5).add(0, values("v", 0, 100)...)
		src.endless = true
		sink := newMemSink()
		sink.async = true
		block := make(chan struct{})
		sink.hook = func(ctx context.Context, b *record.Batch, take func(int)) error {
			if b.Records[0].Offset > 20 {
				select {
				case <-block:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		}
		g := newRig(src, sink, testRoute(func(r *configs.Route) { r.Delivery.CommitInterval = time.Hour }))
		g.start(t.Context())
		synctest.Wait()
		begin := time.Now()
		src.revoke(t.Context(), 0)
		if took := time.Since(begin); took > revokeWait {
			t.Errorf("the revocation took %v", took)
		}
		at := src.committedAt(0)
		if at == 0 || at > 30 {
			t.Errorf("committed %d", at)
		}
		close(block)
		synctest.Wait()
		time.Sleep(2 * time.Hour)
		if src.committedAt(0) != at || len(g.w.Stats().Lanes) != 0 {
			t.Errorf("the lane went on: committed %d", src.committedAt(0))
		}
		src.assign(0)
		g.w.Drain(t.Context())
		g.wait(t)
		if err := checkCounts(g.w.Stats()); err != nil {
			t.Error(err)
		}
	})
}

func TestLostLaneCommitsNothing(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(5).add(0, values("v", 0, 100)...)
		src.endless = true
		g := newRig(src, newMemSink(), testRoute(func(r *configs.Route) { r.Delivery.CommitInterval = time.Hour }))
		g.start(t.Context())
		synctest.Wait()
		src.l.Lost([]int32{0}) // while the source would still commit it
		g.w.Drain(t.Context())
		g.wait(t)
		if src.commits != 0 {
			t.Errorf("%d commits, at %d", src.commits, src.committedAt(0))
		}
	})
}

// TestRevocationWaitsForTheCommitOnItsWay: a commit that is under way when the
// permits close ends before Revoked returns, or is cancelled at the bound.
func TestRevocationWaitsForTheCommitOnItsWay(t *testing.T) {
	for _, stuck := range []bool{false, true} {
		t.Run(fmt.Sprintf("stuck=%v", stuck), func(t *testing.T) {
			in(t, func(t *testing.T) {
				src := newMemSource(5).add(0, values("v", 0, 5)...)
				src.endless = true
				under := make(chan struct{}, 10)
				answer, cancelled := make(chan struct{}), make(chan struct{})
				src.onCommit = func(ctx context.Context) error {
					under <- struct{}{}
					select {
					case <-answer:
						return nil
					case <-ctx.Done():
						close(cancelled)
						return ctx.Err()
					}
				}
				g := newRig(src, newMemSink(), testRoute())
				g.start(t.Context())
				<-under
				returned := make(chan struct{})
				go func() { src.revoke(t.Context(), 0); close(returned) }()
				synctest.Wait()
				select {
				case <-returned:
					t.Error("the revocation did not wait")
				default:
				}
				if !stuck {
					close(answer)
				}
				<-returned
				if stuck {
					<-cancelled // else the bubble deadlocks here
				}
				if got := src.committedAt(0); (got == 5) == stuck {
					t.Errorf("committed %d", got)
				}
				src.onCommit = nil
				g.w.Drain(t.Context())
				g.wait(t)
			})
		})
	}
}

// TestBatchOfAnEarlierAssignment: records that Read took before the partition
// was given up and assigned again belong to nobody.
func TestBatchOfAnEarlierAssignment(t *testing.T) {
	for _, times := range []int{1, 2} {
		in(t, func(t *testing.T) {
			src := newMemSource(5).add(0, values("v", 0, 20)...)
			reads := 0
			src.onFilled = func() {
				if reads++; reads == 2 { // [5, 10) are on their way
					synctest.Wait()
					for range times {
						src.lose(0)
						src.assign(0)
					}
				}
			}
			g := newRig(src, newMemSink(), testRoute(func(r *configs.Route) { r.Delivery.CommitInterval = time.Hour }))
			g.start(t.Context())
			g.wait(t)
			want := append(values("v", 0, 5), values("v", 0, 20)...)
			if got := g.sink.values(0); !slices.Equal(got, want) {
				t.Errorf("assigned %d times: delivered %v", times, got)
			}
		})
	}
}

// TestBatchWithoutRecordsOfAnEarlierAssignment: it moves the position behind control records, or records
// that were removed, and must not move that of the next lane, which begins before it.
func TestBatchWithoutRecordsOfAnEarlierAssignment(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(5).add(0, values("v", 0, 20)...)
		reads := 0
		src.onFilled = func() {
			if reads++; reads == 2 { // [5, 10) are on their way
				synctest.Wait()
				src.lose(0)
				src.assign(0)
			}
		}
		src.onBatch = func(b *record.Batch) {
			if reads == 2 {
				b.Records, b.Bytes = b.Records[:0], 0
			}
		}
		g := newRig(src, newMemSink(), testRoute(func(r *configs.Route) { r.Delivery.CommitInterval = time.Hour }))
		g.start(t.Context())
		g.wait(t)
		want := append(values("v", 0, 5), values("v", 0, 20)...)
		if got := g.sink.values(0); !slices.Equal(got, want) {
			t.Errorf("delivered %v", got)
		}
	})
}

// TestLossBehindAnEarlierAssignment: a partition comes back at a position whose records were removed
// meanwhile, up to behind what the earlier lane had read. What is read then is the new lane's first batch.
func TestLossBehindAnEarlierAssignment(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(5).add(0, values("v", 0, 20)...)
		reads := 0
		src.onRead = func() error {
			if reads++; reads == 2 { // [0, 5) were read
				synctest.Wait()
				src.lose(0)
				src.assign(0)
				src.mu.Lock()
				src.at[0] = 10
				src.mu.Unlock()
				src.l.DataLoss(0, src.logs[0][0].Offset, src.logs[0][10].Offset)
			}
			return nil
		}
		g := newRig(src, newMemSink(), testRoute(func(r *configs.Route) { r.Delivery.CommitInterval = time.Hour }))
		g.start(t.Context())
		g.wait(t)
		want := append(values("v", 0, 5), values("v", 10, 20)...)
		if got := g.sink.values(0); !slices.Equal(got, want) {
			t.Errorf("delivered %v", got)
		}
	})
}

// TestBatchOnItsWayWhileItsPartitionComesBack: the new lane begins where the old one had
// read to, or behind that, because another member went on meanwhile. The batch may be
// the new lane's first, or one that it reads itself once more: nothing is delivered twice.
func TestBatchOnItsWayWhileItsPartitionComesBack(t *testing.T) {
	for _, elsewhere := range []int{0, 3, 5, 8} { // records that another member took
		t.Run(fmt.Sprint(elsewhere), func(t *testing.T) {
			in(t, func(t *testing.T) {
				src := newMemSource(5).add(0, values("v", 0, 40)...)
				reads := 0
				src.onFilled = func() {
					if reads++; reads == 2 { // [5, 10) are on their way
						synctest.Wait()
						src.revoke(t.Context(), 0)
						src.mu.Lock()
						src.committed[0] = src.logs[0][5+elsewhere].Offset
						src.mu.Unlock()
						src.assign(0)
					}
				}
				g := newRig(src, newMemSink(), testRoute())
				g.start(t.Context())
				g.wait(t)
				want := append(values("v", 0, 5), values("v", 5+elsewhere, 40)...)
				if got := g.sink.values(0); !slices.Equal(got, want) {
					t.Errorf("delivered %v, want %v", got, want)
				}
				if src.violations != nil {
					t.Error(src.violations)
				}
				if err := checkCounts(g.w.Stats()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestBatchesOnTheirWayWhileALaneEnds: one that comes when the lane takes none any more is
// dropped; the one after it must not be taken for the beginning of the next lane.
func TestBatchesOnTheirWayWhileALaneEnds(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(5).add(0, values("v", 0, 40)...)
		reads := 0
		src.onFilled = func() {
			switch reads++; reads {
			case 2: // [5, 10) are on their way, and find the partition revoked
				synctest.Wait()
				src.l.Revoked(t.Context(), []int32{0})
			case 3: // [10, 15)
				synctest.Wait()
				src.forget([]int32{0})
				src.assign(0)
			}
		}
		g := newRig(src, newMemSink(), testRoute())
		g.start(t.Context())
		g.wait(t)
		if got := g.sink.values(0); !slices.Equal(got, values("v", 0, 40)) {
			t.Errorf("delivered %v", got)
		}
		if src.violations != nil {
			t.Error(src.violations)
		}
	})
}

// TestNextIncarnationWaitsForWritesOfTheLast: they would overtake it.
func TestNextIncarnationWaitsForWritesOfTheLast(t *testing.T) {
	in(t, func(t *testing.T) {
		src := newMemSource(5).add(0, values("v", 0, 5)...)
		src.endless = true
		sink := newMemSink()
		sink.async = true
		answer := make(chan struct{})
		sink.hook = func(context.Context, *record.Batch, func(int)) error { <-answer; return nil }
		g := newRig(src, sink, testRoute())
		g.start(t.Context())
		synctest.Wait()
		for range 2 {
			src.lose(0)
			src.assign(0)
			synctest.Wait()
		}
		if sink.writes != 1 {
			t.Errorf("%d writes while the first has no answer", sink.writes)
		}
		close(answer)
		synctest.Wait()
		if sink.writes != 2 {
			t.Errorf("%d writes, want 2", sink.writes)
		}
		g.w.Drain(t.Context())
		g.wait(t)
	})
}

func TestDataLoss(t *testing.T) {
	for _, stop := range []bool{false, true} {
		in(t, func(t *testing.T) {
			src := newMemSource(5).add(0, values("v", 0, 5)...)
			src.endless = true
			g := newRig(src, newMemSink(), testRoute(func(r *configs.Route) {
				if r.OnDataLoss = "continue"; stop {
					r.OnDataLoss = "stop"
				}
			}))
			g.start(t.Context())
			synctest.Wait()
			src.l.DataLoss(0, 5, 105)
			if s := g.w.Stats(); s.LostBeforeRead != 100 || s.Lanes[0].LostBeforeRead != 100 || s.LastError == "" {
				t.Errorf("%+v", s)
			}
			if !stop {
				g.w.Drain(t.Context())
			}
			if err := <-g.ended; (err != nil) != stop {
				t.Errorf("ended with %v", err)
			}
		})
	}
}
