package hive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"keystone/dsl/types"
	"keystone/pipeline/record"
	"keystone/sinks"
	"keystone/sources"
	"keystone/sources/hive"
	"keystone/sources/hive/metastore"
)

// listener is of a source whose partitions nobody else has.
type listener struct{}

func (listener) Assigned([]record.Position)       {}
func (listener) Revoked(context.Context, []int32) {}
func (listener) Lost([]int32)                     {}
func (listener) DataLoss(int32, int64, int64)     {}

// throughSource gives the ids that Keystone's own source reads of a table.
func throughSource(t *testing.T, address, table string) []int64 {
	t.Helper()
	c := &hive.Config{Metastore: address, Table: table, Timeout: time.Minute}
	s, err := c.New(sources.Deps{Scan: record.Scan{All: true}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(t.Context()) //nolint:errcheck // of a test's files
	if err := s.Open(t.Context(), nil, listener{}); err != nil {
		t.Fatal(err)
	}
	var ids []int64
	for {
		var b record.Batch
		err := s.Read(t.Context(), &b)
		if errors.Is(err, io.EOF) {
			slices.Sort(ids)
			return ids
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range b.Records {
			var e struct{ ID int64 }
			if err := json.Unmarshal(r.Value, &e); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, e.ID)
		}
	}
}

// TestRealCompact compacts a table in a real metastore, twice: with late rows between, with a reader that asks the metastore all the
// time, and with other engines' readers at the end.
func TestRealCompact(t *testing.T) {
	server := metastoreServer(t)
	dir := t.TempDir()
	c := testConfig(t, func(c *Config) {
		c.Location.URL, c.Table, c.Metastore = dir, "ads.plays", Metastore{Address: server.address}
		c.Compact = Compact{Written: true, Target: 1 << 20, MinFiles: 4, Interval: 1000 * time.Hour, Rate: 1 << 30}
	})
	ctx, d := t.Context(), sinks.Deps{Route: "route.r", ID: "r", Type: eventType}
	if err := c.Ensure(ctx, d, []types.Type{eventType}); err != nil {
		t.Fatal(err)
	}
	made, err := c.New(d)
	if err != nil {
		t.Fatal(err)
	}
	s := made.(*Sink)
	if err := s.Open(ctx); err != nil {
		t.Fatal(err)
	}
	defer s.Close(ctx) //nolint:errcheck // everything is durable
	if _, err := s.Begin(ctx, position(0, 0)); err != nil {
		t.Fatal(err)
	}
	write := func(from, to int64) {
		t.Helper()
		for o := from; o < to; o += 6 {
			mustPut(t, s, batchOf(0, o, o+6))
			settle(t, s, position(0, o+6))
		}
		eventually(t, "all is registered", func() error {
			if !s.catalog.idle() {
				return fmt.Errorf("not yet: %w", s.Trailing())
			}
			return nil
		})
	}
	want := func(n int64) {
		t.Helper()
		ids := throughSource(t, server.address, "ads.plays")
		if int64(len(ids)) != n || ids[0] != 0 || ids[n-1] != n-1 || len(slices.Compact(ids)) != int(n) {
			t.Fatalf("Keystone's source reads %d rows, want %d", len(ids), n)
		}
	}
	turn := func() {
		t.Helper()
		if err := s.compactor.turn(ctx); err != nil {
			t.Fatal(err)
		}
	}
	write(0, 60)
	want(60)
	turn()
	want(60)
	if n := s.compactor.stats.Partitions; n != 4 {
		t.Errorf("%d partitions are compacted, want 4", n)
	}
	write(60, 66) // late rows are read where the partition is
	want(66)
	turn() // the old files go
	want(66)
	write(66, 120)
	turn()
	turn()
	want(120)
	files, err := filepath.Glob(filepath.Join(dir, "dt=*", "*.parquet"))
	if err != nil || len(files) > 0 {
		t.Errorf("files are left where partitions were: %v, %v", files, err)
	}

	// A table that is registered anew finds its partitions where they are.
	client, err := metastore.New(server.address, timeout)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close() //nolint:errcheck // only asked
	if err := client.DropTable(ctx, "ads", "plays"); err != nil {
		t.Fatal(err)
	}
	if err := c.Ensure(ctx, d, []types.Type{eventType}); err != nil {
		t.Fatal(err)
	}
	want(120)
	things, err := c.Observe(ctx, d, []types.Type{eventType})
	if err != nil || len(things[1].Differs) > 0 || things[1].Blocked != "" {
		t.Errorf("after that: %+v, %v", things, err)
	}
	// A sleeper moved a partition back to where it was: it is moved again, and told.
	folders, err := s.compactor.mover.Located(ctx, []string{"dt=2026%3A01%2F0"})
	if err != nil || !strings.HasPrefix(folders["dt=2026%3A01%2F0"], "_compacted/") {
		t.Fatalf("a partition is at %v, %v", folders, err)
	}
	if err := s.compactor.mover.Move(ctx, "dt=2026%3A01%2F0", folders["dt=2026%3A01%2F0"], "dt=2026%3A01%2F0", 0); err != nil {
		t.Fatal(err)
	}
	turn()
	want(120)
	if err := s.compactor.mover.Move(ctx, "dt=2026%3A01%2F0", "dt=2026%3A01%2F0", "_compacted/x/0000000001/data", 1); err == nil {
		t.Error("a partition is moved from where it is not")
	}

	if os.Getenv("KEYSTONE_TEST_READERS") == "" {
		t.Log("Spark and PyArrow are not asked: run it under .testenv/with-readers, too")
		return
	}
	count := map[string]int{}
	for o := range int64(120) {
		count[string(day(o))]++
	}
	merged, err := filepath.Glob(filepath.Join(dir, "_compacted", "dt=*", "*", "data", "*.parquet"))
	if err != nil || len(merged) == 0 {
		t.Fatalf("merged files: %v, %v", merged, err)
	}
	for _, engine := range []string{"spark", "duckdb"} {
		got := map[string]int{}
		sql := "SELECT coalesce(dt, ''), count(*), count(distinct id) FROM ads.plays GROUP BY 1"
		if engine == "duckdb" { // knows no metastore: it reads where that sends it
			sql = fmt.Sprintf("SELECT coalesce(dt, ''), count(*), count(distinct id) FROM read_parquet('%s/_compacted/*/*/data/*.parquet', hive_partitioning = true, hive_types_autocast = false) GROUP BY 1", dir)
		} else if os.Getenv("KEYSTONE_TEST_METASTORE") != server.address {
			t.Setenv("KEYSTONE_TEST_METASTORE", server.address)
		}
		for _, r := range query(t, engine, sql) {
			got[r[0].(string)] = int(r[1].(float64))
			if r[1] != r[2] {
				t.Errorf("%s: %v rows, %v of them different", engine, r[1], r[2])
			}
		}
		if !maps.Equal(got, count) {
			t.Errorf("%s counts %v, want %v", engine, got, count)
		}
	}
}
