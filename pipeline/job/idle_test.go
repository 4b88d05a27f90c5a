package job

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"keystone/configs"
	"keystone/pipeline/record"
	"keystone/pipeline/state"
	"keystone/sources"
)

// timed is a source whose events come when their timestamps say.
type timed struct {
	memSource
	over time.Time // when the source ends
}

func (s *timed) Read(ctx context.Context, b *record.Batch) error {
	for {
		now := time.Now()
		next := s.over
		for i := range s.parts {
			if int(s.next[i]) == len(s.parts[i]) {
				continue
			}
			e := s.parts[i][s.next[i]]
			at := time.UnixMilli(e.stamp)
			if at.After(now) {
				if at.Before(next) {
					next = at
				}
				continue
			}
			b.Topic, b.Partition = "in", int32(i)
			b.Records = append(b.Records, record.Record{Offset: s.next[i], Timestamp: e.stamp, Value: []byte(e.value)})
			s.mu.Lock()
			s.next[i]++
			s.mu.Unlock()
			b.Next = record.Position{Partition: int32(i), Offset: s.next[i]}
			return nil
		}
		if !now.Before(s.over) {
			return io.EOF
		}
		t := time.NewTimer(next.Sub(now))
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
	}
}

// Ends gives what is in the log by now.
func (s *timed) Ends() map[int32]int64 {
	now := time.Now().UnixMilli()
	out := map[int32]int64{}
	for i, p := range s.parts {
		n, _ := slices.BinarySearchFunc(p, now+1, func(e event, t int64) int { return int(e.stamp - t) })
		out[int32(i)] = int64(n)
	}
	return out
}

func TestADayWithAnIdlePartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		src := &timed{memSource: *newMemSource(make([][]event, 3), 1), over: begin.Add(24 * time.Hour)}
		at := func(p int, d, ago time.Duration) {
			stamp := begin.Add(d).UnixMilli()
			src.parts[p] = append(src.parts[p], event{value: fmt.Sprintf(`{"k":"p%d","ts":%d}`, p, stamp-ago.Milliseconds()), stamp: stamp})
		}
		for m := time.Minute; m < 24*time.Hour; m += time.Minute {
			at(0, m, 0) // always there
			if m < 2*time.Hour || m > 20*time.Hour {
				at(1, m, 0) // silent for most of the day
			}
		}
		at(2, 30*time.Second, 0)                     // silent until noon
		at(2, 12*time.Hour+time.Second, 6*time.Hour) // and then with what is long over
		f := newFlow(t)
		f.read("a", 5*time.Second)
		f.by["read.a"].Read.Align = 5 * time.Minute
		f.window("w", &configs.JobWindow{Kind: configs.WindowTumbling, Size: time.Hour}, "read.a", "n=count()")
		f.write("out", "window.w", "")
		f.write("late", "window.w.late", "")
		store, err := state.Open(filepath.Join(t.TempDir(), "state"), state.Options{Job: "test", Generation: 1})
		if err != nil {
			t.Fatal(err)
		}
		out := &ledger{}
		j, err := New(Spec{Job: f.job, Sources: map[string]sources.Source{"read.a": src}, Store: store, Commit: newKeeper(store, out), Parallelism: 2, Interval: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- j.Run(t.Context()) }()
		rows := func() (n, late int) {
			synctest.Wait()
			out.mu.Lock()
			defer out.mu.Unlock()
			for _, r := range out.rows {
				if r.Writer == 0 {
					n++
				} else {
					late++
				}
			}
			return n, late
		}
		time.Sleep(time.Hour + 4*time.Second)
		if n, _ := rows(); n != 0 {
			t.Errorf("%d rows before the watermark has passed the first hour", n)
		}
		time.Sleep(time.Minute + 20*time.Second)
		if n, _ := rows(); n != 3 {
			t.Errorf("%d rows of the first hour, want 3: a partition that is idle holds it up", n)
		}
		time.Sleep(10 * time.Hour)
		if n, late := rows(); n != 3+2+9 || late != 0 {
			t.Errorf("%d rows and %d late ones after eleven hours, want 14 and none", n, late)
		}
		time.Sleep(2 * time.Hour)
		if _, late := rows(); late != 1 {
			t.Errorf("%d late rows, want the one of the partition that came back", late)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		all := 0
		for _, r := range out.rows {
			if r.Writer == 0 {
				_, tail, _ := strings.Cut(string(r.Value), `"n":`)
				var n int
				if _, err := fmt.Sscanf(tail, "%d", &n); err != nil {
					t.Fatal(err)
				}
				all += n
			}
		}
		if want := len(src.parts[0]) + len(src.parts[1]) + 1; all != want {
			t.Errorf("the windows have %d events, want %d", all, want)
		}
		if _, meta := store.Last(); !strings.Contains(string(meta), `"idled":`) {
			t.Errorf("the epoch does not say that an idle partition was passed: %s", meta)
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
