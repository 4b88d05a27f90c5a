package hive

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/dsl/types"
	"keystone/pipeline/record"
	"keystone/sinks"
)

func TestKeys(t *testing.T) {
	for _, x := range []struct{ typ, value, want string }{
		{"string", "03", "03"},
		{"int", "03", "3"}, {"int", "-7", "-7"}, {"int", "2147483647", "2147483647"}, {"int", "2147483648", "!is of type int"},
		{"bigint", "2147483648", "2147483648"}, {"tinyint", "128", "!is of type tinyint"}, {"smallint", "128", "128"},
		{"int", "3.0", "!is of type int"}, {"int", "x", "!is of type int"}, {"int", "", ""},
		{"date", "2026-01-02", "2026-01-02"}, {"date", "2026-1-2", "!written 2006-01-02"}, {"date", "2026-02-30", "!of type date"},
		{"date", "2026-01-02T03:04:05Z", "!of type date"}, {"date", "0000-01-01", "!of type date"}, {"date", "", ""},
	} {
		got, why := key{"k", x.typ}.write([]byte(x.value))
		if word, refused := strings.CutPrefix(x.want, "!"); refused {
			if !strings.Contains(why, word) {
				t.Errorf("%s %q: %q %q, want %q", x.typ, x.value, got, why, word)
			}
		} else if string(got) != x.want || why != "" {
			t.Errorf("%s %q: %q %q, want %q", x.typ, x.value, got, why, x.want)
		}
	}
}

func TestCheckKeyTypes(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"":                                    func(c *Config) { c.PartitionTypes = map[string]string{"dt": "date"} },
		`"hour", which is not in`:             func(c *Config) { c.PartitionTypes = map[string]string{"hour": "int"} },
		`dt = "decimal": a partition is of`:   func(c *Config) { c.PartitionTypes = map[string]string{"dt": "decimal"} },
		"what a metastore keeps of the parti": func(c *Config) { c.PartitionTypes, c.Metastore.Address = map[string]string{"dt": "date"}, "" },
	} {
		c := testConfig(t, func(c *Config) { c.Table, c.Metastore.Address = "a.b", "thrift://127.0.0.1:1" })
		change(&c)
		if got := fmt.Sprint(c.Check()); (want == "") != (len(c.Check()) == 0) || !strings.Contains(got, want) {
			t.Errorf("%s: want %q", got, want)
		}
	}
}

// A value that is not of its key's type is refused, and one that is has the folder of its type's text.
func TestTypedKeys(t *testing.T) {
	st := objects()
	s := begun(t, st, 1, nil)
	s.keys = []key{{"dt", "int"}}
	b := batchOf(0, 0, 3)
	for i, v := range []string{"07", "x", "7"} {
		b.Records[i].Derived = [][]byte{[]byte(v)}
	}
	err := put(t.Context(), s, b)
	var partial *sinks.PartialError
	if !errors.As(err, &partial) || len(partial.Failures) != 1 || partial.Failures[0].Index != 1 || partial.Failures[0].Code != "partition" || !strings.Contains(partial.Failures[0].Err.Error(), "is of type int") {
		t.Fatalf("the answer is %v", err)
	}
	settle(t, s, position(0, 3))
	n := 0
	for i, err := range st.List(t.Context(), "dt=") {
		if n++; err != nil || dirOf(i.Name) != "dt=7" {
			t.Errorf("%s, %v", i.Name, err)
		}
	}
	if n != 1 {
		t.Errorf("%d files, want one", n)
	}
}

// hours is a batch of events of three days, each with its hour as text.
func hours(from, to int64) *record.Batch {
	b := batchOf(0, from, to)
	for i := range b.Records {
		o := b.Records[i].Offset
		b.Records[i].Derived = [][]byte{fmt.Appendf(nil, "2026-01-%02d", 1+o%3), fmt.Appendf(nil, "%02d", o%24)}
		if o%50 == 49 {
			b.Records[i].Derived[1] = nil
		}
	}
	return b
}

// TestRealTypedKeys writes a table whose partitions are a date and an int: Spark knows them so through the metastore, DuckDB
// from the folders, both count the same and read of some partitions their files alone. What is of another
// type is refused.
func TestRealTypedKeys(t *testing.T) {
	if os.Getenv("KEYSTONE_TEST_READERS") == "" {
		t.Skip("needs readers: run it under .testenv/with-metastore .testenv/with-readers")
	}
	// As metastores are by default; the one of all tests has it off, and refuses to filter by keys that are not text.
	server := metastoreServer(t, "--set", "metastore.try.direct.sql=true")
	t.Setenv("KEYSTONE_TEST_METASTORE", server.address)
	table := fmt.Sprintf("t%d.plays", time.Now().UnixNano())
	c := testConfig(t, func(c *Config) {
		c.Location.URL, c.Table, c.Metastore = t.TempDir(), table, Metastore{Address: server.address, OnDestroy: "delete"}
		c.PartitionBy = []spec.Field{{Name: "dt", Expr: diag.Text{S: "day"}}, {Name: "hour", Expr: diag.Text{S: "pad"}}}
		c.PartitionTypes = map[string]string{"dt": "date", "hour": "int"}
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
	mustPut(t, s, hours(0, 480))
	settle(t, s, position(0, 480))
	eventually(t, "all is registered", func() error {
		if !s.catalog.idle() {
			return fmt.Errorf("not yet: %w", s.Trailing())
		}
		return nil
	})
	want := map[string]int{}
	for _, r := range hours(0, 480).Records {
		hour := strings.TrimPrefix(string(r.Derived[1]), "0")
		if r.Derived[1] == nil {
			hour = "<nil>"
		}
		want[fmt.Sprintf("%s %s", r.Derived[0], hour)]++
	}
	counts := func(rows [][]any) map[string]int {
		got := map[string]int{}
		for _, r := range rows {
			got[fmt.Sprintf("%v %v", r[0], r[1])] = int(r[2].(float64))
		}
		return got
	}
	if got := counts(spark(t, "SELECT dt, hour, count(*) FROM "+table+" GROUP BY 1, 2")); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("Spark counts %v, want %v", got, want)
	}
	if got := fmt.Sprint(spark(t, "SELECT typeof(dt), typeof(hour) FROM "+table+" LIMIT 1")); got != "[[date int]]" {
		t.Errorf("Spark has the keys as %s", got)
	}
	files := "read_parquet('" + c.Location.URL + "/dt=*/*/*.parquet', hive_partitioning = true)"
	if got := counts(duckdb(t, "SELECT dt, hour, count(*) FROM "+files+" GROUP BY 1, 2")); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("DuckDB counts %v, want %v", got, want)
	}

	// Who reads the files of another partition fails.
	all, err := filepath.Glob(filepath.Join(c.Location.URL, "dt=*", "*", "*.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	spared := 0
	for i, path := range all {
		if i == 0 {
			continue // DuckDB takes the columns from the first
		}
		if strings.Contains(path, "dt=2026-01-02") && slices.Contains([]string{"hour=10", "hour=22"}, filepath.Base(filepath.Dir(path))) {
			spared++
		} else if err := os.WriteFile(path, []byte("no Parquet"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	where := " WHERE dt = DATE '2026-01-02' AND hour >= 10" // as a text 7 would be more than 10
	if n := want["2026-01-02 10"] + want["2026-01-02 22"]; spared == 0 || n == 0 {
		t.Fatalf("%d files, %d rows are spared", spared, n)
	}
	number := want["2026-01-02 10"] + want["2026-01-02 22"]
	for h := 10; h < 24; h++ {
		if n := want[fmt.Sprintf("2026-01-02 %d", h)]; n > 0 && h != 10 && h != 22 {
			where += fmt.Sprintf(" AND hour <> %d", h)
		}
	}
	if got := spark(t, "SELECT count(id) FROM "+table+where)[0][0]; got != float64(number) {
		t.Errorf("of some partitions Spark reads %v, want %d rows", got, number)
	}
	if got := duckdb(t, "SELECT count(id) FROM "+files+where)[0][0]; got != float64(number) {
		t.Errorf("of some partitions DuckDB reads %v, want %d rows", got, number)
	}

	// Types never change.
	other := c
	other.PartitionTypes = map[string]string{"dt": "date"}
	if err := other.Ensure(ctx, d, []types.Type{eventType}); err == nil || !strings.Contains(err.Error(), "partitioned by dt date, hour int, and the sink by dt date, hour string") {
		t.Errorf("another type of a key: %v", err)
	}
}

// duckdb gives the rows of a query.
func duckdb(t *testing.T, sql string) [][]any {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Getenv("KEYSTONE_TEST_READERS"), "read", "duckdb", sql)
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
