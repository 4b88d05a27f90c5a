package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"keystone/cmd/internal/api"
	"keystone/reconcile"
)

const thenLiveConfig = `
stream "in" {
  partitions = 2
  schema     = object({ id = int, ts = timestamp_ms })
}
stream "out" { partitions = 2 }
sink "hive" "table" {
  location     = "table"
  partition_by = { dt = "format_time(ts, '2006-01-02')" }
  roll {
    interval = "200ms"
  }
}
source "parquet" "table" {
  location   = "table"
  event_time = "ts"
}
source "parquet" "copy" {
  location   = "table/dt=2026-01-01"
  event_time = "ts"
}
route "archive" {
  from = stream.in
  to   = sink.table
  delivery { commit_interval = "20ms" }
}
route "r" {
  from = stream.in
  to   = stream.out
  delivery { commit_interval = "20ms" }
}
`

func (l *lab) events(first, n int) {
	l.t.Helper()
	day := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var rs []*kgo.Record
	for i := first; i < first+n; i++ {
		at := day.Add(time.Duration(i) * time.Minute)
		rs = append(rs, &kgo.Record{Topic: "in", Partition: int32(i % 2), Timestamp: at, Value: fmt.Appendf(nil, `{"id":%d,"ts":%d}`, i, at.UnixMilli())})
	}
	l.produce(rs...)
}

// seen counts the ids in the output.
func (l *lab) seen() map[int]int {
	l.t.Helper()
	out := map[int]int{}
	for _, r := range l.topic("out") {
		var e struct {
			ID int `json:"id"`
		}
		if err := json.Unmarshal(r.Value, &e); err != nil {
			l.t.Fatal(err)
		}
		out[e.ID]++
	}
	return out
}

// TestBackfillThenLive: what a table has and what the stream has behind it is delivered once each,
// while the table's own route goes on writing.
func TestBackfillThenLive(t *testing.T) {
	l := newLab(t, thenLiveConfig)
	if _, err := l.client.Operate(t.Context(), api.Operate{Verb: api.Drain, Addresses: []string{"route.r"}, Who: "tester"}); err != nil {
		t.Fatal(err)
	}
	l.events(0, 3000)
	l.committed("keystone.default.default.route.archive", "in")
	if _, err := l.client.Operate(t.Context(), api.Operate{Verb: api.Resume, Addresses: []string{"route.r"}, Who: "tester"}); err != nil {
		t.Fatal(err)
	}
	l.until("the route runs", func() error { return l.running("route.r") })
	l.committed("keystone.default.default.route.r", "in") // it has delivered all, and does so again
	before := len(l.seen())
	if before != 3000 {
		t.Fatalf("%d events delivered, want 3000", before)
	}
	ask := api.Backfill{Address: "route.r", From: "source.table", Who: "tester", Then: "live", Plan: true}
	plan, err := l.client.Backfill(t.Context(), ask)
	if err != nil || plan.Rows != 3000 || len(plan.Ends) != 2 || plan.Ends[0].Offset != 1500 || plan.Ends[1].Offset != 1500 {
		t.Fatalf("plan %+v, %v", plan, err)
	}
	if !slices.ContainsFunc(plan.Notes, func(n string) bool { return strings.Contains(n, "no gap, and no overlap") }) {
		t.Errorf("notes %q", plan.Notes)
	}
	ask.Plan = false
	if _, err := l.client.Backfill(t.Context(), ask); err != nil {
		t.Fatal(err)
	}
	l.events(3000, 500) // while it is under way
	b := l.backfilled(reconcile.BackfillFinished)
	if !b.Held || b.Counts["delivered"] != 3000 {
		t.Errorf("finished as %+v", b)
	}
	l.until("the live route goes on", func() error { return l.running("route.r") })
	l.events(3500, 500)
	l.until("everything is delivered", func() error {
		if n := len(l.seen()); n != 4000 {
			return fmt.Errorf("%d events", n)
		}
		return nil
	})
	l.committed("keystone.default.default.route.r", "in")
	for id, n := range l.seen() {
		want := 1
		if id < 3000 {
			want = 2 // once by the route at first, once by the backfill
		}
		if n != want {
			t.Errorf("event %d is there %d times, want %d", id, n, want)
		}
	}
}

func (l *lab) running(route string) error {
	st, err := l.client.Status(l.t.Context())
	if err != nil {
		return err
	}
	for _, a := range st.Addresses {
		if a.Addr == route && a.Health != "running" {
			return fmt.Errorf("it is %s %s", a.Health, a.Error)
		}
	}
	return nil
}

// TestBackfillCut: rows without manifests are divided from the stream by a time.
func TestBackfillCut(t *testing.T) {
	l := newLab(t, thenLiveConfig)
	l.events(0, 1440) // a day
	l.committed("keystone.default.default.route.archive", "in")
	l.committed("keystone.default.default.route.r", "in")
	ask := api.Backfill{Address: "route.r", From: "source.copy", Who: "tester", Then: "live"}
	if _, err := l.client.Backfill(t.Context(), ask); !errors.Is(err, api.ErrUnsupported) || !strings.Contains(err.Error(), "-cut TIME") {
		t.Fatalf("without manifests: %v", err)
	}
	ask.Cut = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	if _, err := l.client.Backfill(t.Context(), ask); err != nil {
		t.Fatal(err)
	}
	if b := l.backfilled(reconcile.BackfillFinished); b.Counts["delivered"] != 720 {
		t.Errorf("finished as %+v", b)
	}
	l.until("the day is delivered again, by both together", func() error {
		for id, n := range l.seen() {
			if n != 2 {
				return fmt.Errorf("event %d is there %d times", id, n)
			}
		}
		return nil
	})
}
