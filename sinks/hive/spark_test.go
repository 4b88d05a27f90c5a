package hive

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keystone/dsl/types"
	"keystone/sinks"
)

// TestRealSpark reads by Spark SQL, through the metastore, what the sink wrote: counts agree, and a condition on
// the partition key reads the files of that partition alone.
func TestRealSpark(t *testing.T) {
	if os.Getenv("KEYSTONE_TEST_METASTORE") == "" || os.Getenv("KEYSTONE_TEST_READERS") == "" {
		t.Skip("needs a real Hive Metastore and Spark: run it under .testenv/with-metastore .testenv/with-readers")
	}
	table := fmt.Sprintf("t%d.plays", time.Now().UnixNano())
	c := testConfig(t, func(c *Config) {
		c.Location.URL, c.Table, c.Metastore = t.TempDir(), table, Metastore{Address: os.Getenv("KEYSTONE_TEST_METASTORE"), OnDestroy: "delete"}
	})
	ctx, d := t.Context(), sinks.Deps{Route: "route.r", ID: "r", Type: eventType}
	if err := c.Ensure(ctx, d, []types.Type{eventType}); err != nil {
		t.Fatal(err)
	}
	defer c.Destroy(ctx, d) //nolint:errcheck // the metastore goes with the test
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
	mustPut(t, s, batchOf(0, 0, 700))
	settle(t, s, position(0, 700))
	eventually(t, "all is registered", func() error {
		if !s.catalog.idle() {
			return fmt.Errorf("not yet: %w", s.Trailing())
		}
		return nil
	})
	want := map[string]int{}
	for o := range int64(700) {
		want[string(day(o))]++
	}
	got := map[string]int{}
	for _, r := range spark(t, "SELECT coalesce(dt, ''), count(*) FROM "+table+" GROUP BY 1") {
		got[r[0].(string)] = int(r[1].(float64))
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("Spark counts %v, want %v", got, want)
	}
	// Who reads the files of another partition fails.
	broken, err := filepath.Glob(filepath.Join(c.Location.URL, "dt=*0", "*.parquet"))
	if err != nil || len(broken) == 0 {
		t.Fatalf("files of a partition: %v, %v", broken, err)
	}
	for _, path := range broken {
		if err := os.WriteFile(path, []byte("no Parquet"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if r := spark(t, "SELECT count(id), min(id) FROM "+table+" WHERE dt = '2026:01/1'"); int(r[0][0].(float64)) != want["2026:01/1"] || r[0][1].(float64) != 1 {
		t.Errorf("of one partition Spark reads %v, want %d rows", r, want["2026:01/1"])
	}
}

// spark gives the rows of a query.
func spark(t *testing.T, sql string) [][]any {
	t.Helper()
	return query(t, "spark", sql)
}

// query gives the rows of a query of one of the readers.
func query(t *testing.T, engine, sql string) [][]any {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Getenv("KEYSTONE_TEST_READERS"), "read", engine, sql)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	var x struct{ Rows [][]any }
	if err := json.Unmarshal(out, &x); err != nil || len(x.Rows) == 0 {
		t.Fatalf("%v: %s", err, out)
	}
	return x.Rows
}
