package wire

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keystone/cmd/internal/api"
	"keystone/configs/addr"
	"keystone/dsl/types"
	"keystone/reconcile"
	"keystone/sinks/hive/rows"
)

const backfillConfig = `
stream "in" {
  schema = object({ id = int, ts = timestamp_ms, user = string })
}
stream "out" {}
source "parquet" "archive" {
  location   = "archive"
  event_time = "ts"
}
source "parquet" "other" {
  location = "archive"
  schema   = object({ id = string })
}
source "generator" "made" {}
route "r" {
  from    = stream.in
  filter  = "id %% 10 != 3 && id >= 100"
  project = { id = "id", user = "user" }
  to      = stream.out
  delivery { commit_interval = "20ms" }
  %s
}
route "files" {
  from = stream.in
  to   = sink.file
}
sink "file" "file" { path = "out.ndjson" }
`

// archive writes rows of a day into a folder; row i has the id first+i and is i milliseconds after midnight.
func (l *lab) archive(day string, first, n int) {
	l.t.Helper()
	dir := filepath.Join(l.dir, "archive", "dt="+day)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		l.t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "a.parquet"))
	if err != nil {
		l.t.Fatal(err)
	}
	defer f.Close()
	event, err := types.Parse("object({id = int, ts = timestamp_ms, user = string})")
	if err != nil {
		l.t.Fatal(err)
	}
	schema, problems := rows.NewSchema(event, rows.SchemaOptions{})
	if len(problems) > 0 {
		l.t.Fatal(problems)
	}
	w := rows.NewWriter(f, schema, rows.Options{RowGroupBytes: 1 << 20})
	at, err := time.Parse(time.DateOnly, day)
	if err != nil {
		l.t.Fatal(err)
	}
	for i := range n {
		if err := w.Append(fmt.Appendf(nil, `{"id":%d,"ts":%d,"user":"u%d"}`, first+i, at.UnixMilli()+int64(i), i%97)); err != nil {
			l.t.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil {
		l.t.Fatal(err)
	}
}

// backfillNow gives the latest backfill of the route.
func (l *lab) backfillNow() api.Backfilling {
	l.t.Helper()
	list, err := l.client.Backfills(l.t.Context())
	if err != nil || len(list) != 1 {
		l.t.Fatalf("backfills %+v, %v", list, err)
	}
	return list[0]
}

func (l *lab) backfilled(phase reconcile.BackfillPhase) (b api.Backfilling) {
	l.t.Helper()
	l.until("the backfill is "+string(phase), func() error {
		if b = l.backfillNow(); b.Phase != phase {
			return fmt.Errorf("it is %s %q %s", b.Phase, b.Activity, b.Error)
		}
		return nil
	})
	return b
}

// ids counts what is in the output.
func (l *lab) ids() map[string]int {
	out := map[string]int{}
	for _, r := range l.topic("out") {
		out[string(r.Value)]++
	}
	return out
}

func wanted(first, n int) map[string]int {
	out := map[string]int{}
	for i := first; i < first+n; i++ {
		if i%10 != 3 && i >= 100 {
			out[fmt.Sprintf(`{"id":%d,"user":"u%d"}`, i, (i-first)%97)] = 1
		}
	}
	return out
}

// TestBackfill: the rows of the warehouse go through the route once; what cannot pass is not read; a
// second one while the first is under way is refused.
func TestBackfill(t *testing.T) {
	l := newLab(t, fmt.Sprintf(backfillConfig, ""))
	l.archive("2026-01-01", 0, 100) // none passes
	l.archive("2026-01-02", 100, 5000)
	ask := api.Backfill{Address: "route.r", From: "source.archive", Who: "tester", Plan: true}
	plan, err := l.client.Backfill(t.Context(), ask)
	if err != nil || plan.Files != 1 || plan.Rows != 5000 || plan.ID == "" {
		t.Fatalf("plan %+v, %v", plan, err)
	}
	ask.Plan = false
	if _, err := l.client.Backfill(t.Context(), ask); err != nil {
		t.Fatal(err)
	}
	b := l.backfilled(reconcile.BackfillFinished)
	if b.Counts["delivered"] != 4500 || b.Counts["filtered"] != 500 || b.Next != 5000 {
		t.Errorf("finished as %+v", b)
	}
	if got, want := l.ids(), wanted(100, 5000); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%d different rows, want %d", len(got), len(want))
	}
	at := time.Date(2026, 1, 2, 0, 0, 1, 0, time.UTC)
	ask.Since, ask.Until, ask.Plan = at, at.Add(time.Second), false
	if _, err := l.client.Backfill(t.Context(), ask); err != nil { // rows 1000 to 1999 again
		t.Fatal(err)
	}
	if b := l.backfilled(reconcile.BackfillFinished); b.Counts["delivered"]+b.Counts["filtered"] != 1000 {
		t.Errorf("a part of it: %+v", b)
	}
	repeated := 0
	for _, n := range l.ids() {
		repeated += n - 1
	}
	if repeated != 900 {
		t.Errorf("%d repeated rows, want 900", repeated)
	}
}

// TestBackfillIsSteered: it waits, goes on and survives a restart, and each row is still delivered; a cancelled one ends.
func TestBackfillIsSteered(t *testing.T) {
	l := newLab(t, fmt.Sprintf(backfillConfig, ""))
	const n = 30_000
	l.archive("2026-01-02", 100, n)
	ask := api.Backfill{Address: "route.r", From: "source.archive", Who: "tester", Rate: 10_000}
	if _, err := l.client.Backfill(t.Context(), ask); err != nil {
		t.Fatal(err)
	}
	if _, err := l.client.Backfill(t.Context(), ask); !errors.Is(err, api.ErrUnsupported) || !strings.Contains(err.Error(), "under way") {
		t.Errorf("a second one: %v", err)
	}
	some := func() {
		t.Helper()
		before := processedRows(l.backfillNow())
		l.until("it goes on", func() error {
			if b := l.backfillNow(); processedRows(b) <= before && !b.Phase.Over() {
				return fmt.Errorf("%+v", b)
			}
			return nil
		})
	}
	steer := func(verb string, want reconcile.BackfillPhase) {
		t.Helper()
		b, err := l.client.SteerBackfill(t.Context(), api.Steer{Address: "route.r", Verb: verb, Who: "tester"})
		if err != nil || b.Phase != want {
			t.Fatalf("%s: %+v, %v", verb, b, err)
		}
	}
	some()
	steer(api.BackfillPause, reconcile.BackfillPaused)
	steer(api.BackfillPause, reconcile.BackfillPaused) // twice is once
	at := l.backfillNow()
	if at.Next == 0 || at.Next >= n {
		t.Fatalf("paused at %+v", at)
	}
	l.stop()
	l.serve()
	if b := l.backfillNow(); b.Phase != reconcile.BackfillPaused || b.Next != at.Next {
		t.Fatalf("after a restart: %+v, was %+v", b, at)
	}
	steer(api.BackfillResume, reconcile.BackfillRunning)
	some()
	l.stop()
	l.serve()
	l.archive("2026-01-03", 200_000, 10) // came later: it is no part of it
	b := l.backfilled(reconcile.BackfillFinished)
	if got, want := l.ids(), wanted(100, n); len(got) != len(want) {
		t.Errorf("%d different rows, want %d", len(got), len(want))
	}
	if processedRows(b) < n {
		t.Errorf("counted %+v", b.Counts)
	}
	if _, err := l.client.SteerBackfill(t.Context(), api.Steer{Address: "route.r", Verb: api.BackfillCancel}); err == nil {
		t.Error("a finished one was cancelled")
	}
	ask.Rate = 100
	if _, err := l.client.Backfill(t.Context(), ask); err != nil {
		t.Fatal(err)
	}
	steer(api.BackfillCancel, reconcile.BackfillCancelled)
	lines, err := l.client.Audit(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	var did []string
	for _, x := range lines {
		if strings.HasPrefix(x.Action, "backfill") {
			did = append(did, x.Action)
		}
	}
	if got := strings.Join(did, ", "); got != "backfill cancel, backfill, backfill resume, backfill pause, backfill" {
		t.Errorf("the audit has %s", got)
	}
}

func processedRows(b api.Backfilling) (n int64) {
	for _, c := range b.Counts {
		n += c
	}
	return n
}

// TestBackfillRefusals: what cannot be backfilled is refused with the reason, and nothing begins.
func TestBackfillRefusals(t *testing.T) {
	l := newLab(t, fmt.Sprintf(backfillConfig, ""))
	l.archive("2026-01-01", 0, 10)
	for _, tc := range []struct {
		ask  api.Backfill
		want string
	}{
		{api.Backfill{Address: "route.x", From: "source.archive"}, "no route.x"},
		{api.Backfill{Address: "job.x", From: "source.archive"}, "keeps state"},
		{api.Backfill{Address: "route.r", From: "source.none"}, "no source.none"},
		{api.Backfill{Address: "route.r", From: "source.made"}, "of kind \"generator\""},
		{api.Backfill{Address: "route.r", From: "source.other", Since: time.Now()}, "id"},
		{api.Backfill{Address: "route.files", From: "source.archive"}, "one worker writes"},
		{api.Backfill{Address: "route.r", From: "source.archive"}, "no row"}, // none has an id of 100 or more
	} {
		if _, err := l.client.Backfill(t.Context(), tc.ask); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: %v, want %q", tc.ask, err, tc.want)
		}
	}
	if list, err := l.client.Backfills(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("backfills %+v, %v", list, err)
	}
}

// TestYielding: a backfill stands back while its route falls behind, and until it has caught up.
func TestYielding(t *testing.T) {
	var y yielding
	for i, step := range []struct {
		lag  int64
		held bool
	}{{0, false}, {lagFree, false}, {2 * lagFree, true}, {3 * lagFree, true}, {2 * lagFree, true}, {lagFree, false}, {lagFree + 1, true}, {-1, false}} {
		if got := y.look(reconcile.State{Health: reconcile.Running, Lag: step.lag}); got != step.held {
			t.Errorf("step %d, lag %d: %v", i, step.lag, got)
		}
	}
	if y.look(reconcile.State{Health: reconcile.Paused, Lag: 100 * lagFree}) {
		t.Error("it waits for a route that is paused")
	}
	if backfillAddr(addr.New("route", "r")) != addr.New("backfill", "r") {
		t.Error("positions of a backfill are not its own")
	}
}
