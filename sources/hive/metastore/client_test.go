package metastore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestAddress(t *testing.T) {
	for text, want := range map[string]string{
		"thrift://a:1":             "[a:1]",
		"thrift://a, thrift://b:2": "[a:9083 b:2]",
		"a:1":                      "", "http://a:1": "", "": "", "thrift://a/db": "", "thrift://u:p@a": "",
	} {
		c, err := New(text, time.Second)
		if (err != nil) != (want == "") || err == nil && fmt.Sprint(c.addrs) != want {
			t.Errorf("%q: %v, %v", text, c, err)
		}
	}
}

// A server that accepts and says nothing does not hold a call beyond its bound.
func TestSilence(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := New("thrift://"+l.Addr().String(), 50*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Table(t.Context(), "a", "b")
	if refused := (*RefusedError)(nil); err == nil || errors.As(err, &refused) {
		t.Errorf("a silent server: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Table(ctx, "a", "b"); err == nil {
		t.Error("a cancelled call succeeded")
	}
}

// real gives a client of a real metastore, and a folder for a database of the test's own.
func real(t *testing.T) (c *Client, db, dir string) {
	t.Helper()
	address := os.Getenv("KEYSTONE_TEST_METASTORE")
	if address == "" {
		t.Skip("needs a real Hive Metastore: run it under .testenv/with-metastore")
	}
	c, err := New(address, 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, fmt.Sprintf("t%d", time.Now().UnixNano()), t.TempDir()
}

func TestRealTable(t *testing.T) {
	c, db, dir := real(t)
	ctx := t.Context()
	if has, err := c.HasDatabase(ctx, db); has || err != nil {
		t.Fatalf("database: %v, %v", has, err)
	}
	if x, err := c.Table(ctx, db, "plays"); x != nil || err != nil {
		t.Fatalf("a table of no database: %v, %v", x, err)
	}
	for range 2 {
		if err := c.EnsureDatabase(ctx, db); err != nil {
			t.Fatal(err)
		}
	}
	want := Table{DB: db, Name: "plays", Location: "file://" + dir, Columns: []Column{{"id", "bigint"}, {"device", "struct<os:string>"}},
		Partitions: []Column{{"dt", "string"}, {"hour", "string"}}}
	for range 2 {
		if err := c.CreateTable(ctx, want); err != nil {
			t.Fatal(err)
		}
	}
	got, err := c.Table(ctx, db, "plays")
	if err != nil || !got.External || !got.Parquet || !reflect.DeepEqual(got.Columns, want.Columns) || !reflect.DeepEqual(got.Partitions, want.Partitions) || got.Location != "file:"+dir && got.Location != want.Location {
		t.Fatalf("table %+v, %v", got, err)
	}
	parts := []Partition{{Values: []string{"2026-01-01", "07"}, Location: want.Location + "/dt=2026-01-01/hour=07"},
		{Values: []string{"2026-01-02", "a b:c"}, Location: want.Location + "/dt=2026-01-02/hour=a b%3Ac"}}
	for i := range 2 {
		if err := c.AddPartitions(ctx, db, "plays", parts[:1+i]); err != nil { // the second time the first is there
			t.Fatal(err)
		}
	}
	cols, _, _ := Evolve(got.Columns, []Column{{"device", "struct<os:string,kind:string>"}, {"pct", "double"}})
	if err := c.SetColumns(ctx, db, "plays", cols); err != nil {
		t.Fatal(err)
	}
	if got, err = c.Table(ctx, db, "plays"); err != nil || !reflect.DeepEqual(got.Columns, cols) {
		t.Errorf("evolved to %v, %v, want %v", got.Columns, err, cols)
	}
	refused := (*RefusedError)(nil)
	if err := c.SetColumns(ctx, db, "plays", with(cols, 0, "array<int>")); !errors.As(err, &refused) || !strings.Contains(err.Error(), "id") {
		t.Errorf("columns that contradict: %v", err)
	}
	moved := Partition{Values: parts[1].Values, Location: want.Location + "/_keystone/compacted", Parameters: map[string]string{"by": "compact"}}
	if err := c.SetLocation(ctx, db, "plays", moved); err != nil {
		t.Fatal(err)
	}
	if p, err := c.Partition(ctx, db, "plays", moved.Values); err != nil || p == nil || !strings.HasSuffix(p.Location, "/_keystone/compacted") || p.Parameters["by"] != "compact" {
		t.Errorf("moved to %+v, %v", p, err)
	}
	if p, err := c.Partition(ctx, db, "plays", []string{"2026-01-03", "0"}); p != nil || err != nil {
		t.Errorf("a partition that is not there: %+v, %v", p, err)
	}
	for filter, n := range map[string]int{"": 2, `dt > "2026-01-01"`: 1, `dt = "2030-01-01"`: 0} {
		var seen []string
		if err := c.EachPartition(ctx, db, "plays", filter, func(p Partition) error {
			seen = append(seen, strings.Join(p.Values, "/"))
			return nil
		}); err != nil || len(seen) != n {
			t.Errorf("filter %q: %q, %v", filter, seen, err)
		}
	}
	for range 2 {
		if err := c.DropTable(ctx, db, "plays"); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.AddPartitions(ctx, db, "plays", parts); !errors.As(err, &refused) {
		t.Errorf("partitions of no table: %v", err)
	}
}

func TestRealManyPartitions(t *testing.T) {
	c, db, dir := real(t)
	ctx := t.Context()
	if err := c.EnsureDatabase(ctx, db); err != nil {
		t.Fatal(err)
	}
	if err := c.CreateTable(ctx, Table{DB: db, Name: "many", Location: "file://" + dir, Columns: []Column{{"id", "bigint"}}, Partitions: []Column{{"n", "string"}}}); err != nil {
		t.Fatal(err)
	}
	var parts []Partition
	for i := range partitionsAtOnce + 10 {
		parts = append(parts, Partition{Values: []string{fmt.Sprintf("%05d", i)}, Location: fmt.Sprintf("file://%s/n=%05d", dir, i)})
	}
	if err := c.AddPartitions(ctx, db, "many", parts); err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := c.EachPartition(ctx, db, "many", "", func(p Partition) error {
		if p.Values[0] != parts[n].Values[0] {
			t.Errorf("partition %d is %s", n, p.Values[0])
		}
		n++
		return nil
	}); err != nil || n != len(parts) {
		t.Errorf("%d of %d partitions, %v", n, len(parts), err)
	}
}

// TestRealRestart: a metastore that went away and came back is used on, and while it is away calls fail as temporary.
func TestRealRestart(t *testing.T) {
	recipe := os.Getenv("KEYSTONE_TEST_METASTORE_SH")
	if recipe == "" {
		t.Skip("needs a real Hive Metastore: run it under .testenv/with-metastore")
	}
	data := filepath.Join(t.TempDir(), "metastore")
	run := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), recipe, append(args, "--data", data)...).Output()
		if err != nil {
			t.Fatalf("%s %v: %v", recipe, args, err)
		}
		return strings.TrimSpace(string(out))
	}
	address := run("start", "--port", "0")
	stopped := false
	defer func() {
		if !stopped {
			exec.Command(recipe, "stop", "--kill", "--data", data).Run() //nolint:errcheck // it may be down
		}
	}()
	c, err := New(address, 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.EnsureDatabase(t.Context(), "again"); err != nil {
		t.Fatal(err)
	}
	run("stop", "--kill")
	refused := (*RefusedError)(nil)
	if _, err := c.HasDatabase(t.Context(), "again"); err == nil || errors.As(err, &refused) {
		t.Fatalf("a metastore that is down: %v", err)
	}
	_, port, _ := strings.Cut(strings.TrimPrefix(address, "thrift://"), ":")
	run("start", "--port", port)
	if has, err := c.HasDatabase(t.Context(), "again"); !has || err != nil {
		t.Fatalf("after the restart: %v, %v", has, err)
	}
	run("stop", "--kill")
	stopped = true
}
