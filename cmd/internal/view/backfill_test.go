package view_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"keystone/cmd/internal/api"
	"keystone/cmd/internal/view"
	"keystone/reconcile"
)

func TestBackfill(t *testing.T) {
	b := api.Backfilling{Addr: "route.plays", LeftMs: 61_000, Notes: []string{"the route is drained until then"}, Backfill: reconcile.Backfill{
		ID: "x", Source: "source.archive", Since: now.Add(-24 * time.Hour), Rate: 50_000, At: now.Add(-time.Minute), Phase: reconcile.BackfillRunning,
		Files: 3, Bytes: 213_034, Rows: 3_000_000, Total: 3_100_000, Counts: map[string]int64{"delivered": 1_000_000, "filtered": 500_000, "dead_lettered": 3}}}
	var out bytes.Buffer
	for _, show := range []func() error{
		func() error { return view.BackfillPlan(&out, view.Style{}, b) },
		func() error { return view.Backfills(&out, view.Style{}, []api.Backfilling{b}, now) },
		func() error {
			b.Phase, b.Error = reconcile.BackfillFailed, "the files changed"
			return view.BackfillDone(&out, view.Style{}, b)
		},
		func() error { return view.Backfills(&out, view.Style{}, nil, now) },
	} {
		if err := show(); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"3,000,000 rows in 3 files, 208 KiB", "100,000 further rows", "since 2026-02-28T12:00:00Z", "at most 50,000 rows a second", "drained until then",
		"route.plays  running", "1,500,003", "Failed.", "3 dead-lettered", "the files changed", "no backfill yet"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("nothing says %q:\n%s", want, out.String())
		}
	}
	if line := view.BackfillLine(b); line != "route.plays: 1,500,003 of 3,000,000 rows (50 %), about 1m01s left" {
		t.Errorf("line %q", line)
	}
	for n, want := range map[int64]string{0: "0 bytes", 1023: "1023 bytes", 1024: "1.0 KiB", 5 << 30: "5.0 GiB", 700 << 20: "700 MiB"} {
		if got := view.Bytes(n); got != want {
			t.Errorf("%d bytes are %q", n, got)
		}
	}
}
