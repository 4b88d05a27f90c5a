package hive

import (
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
	"keystone/sinks"
	"keystone/sources/hive/metastore"
	"keystone/sources/hive/storage"
)

func TestCheckMetastore(t *testing.T) {
	for _, x := range []struct {
		m          Metastore
		table, loc string
		want       string
	}{
		{Metastore{Address: "thrift://a:1, thrift://b"}, "d.t", "w", ""},
		{Metastore{Address: "a:1"}, "d.t", "w", "write thrift://HOST:PORT"},
		{Metastore{Address: "thrift://a"}, "", "w", "Add table"},
		{Metastore{Location: "s3a://b"}, "d.t", "w", "none is named"},
		{Metastore{OnDestroy: "delete"}, "d.t", "w", "none is named"},
		{Metastore{Address: "thrift://a", Location: "/w"}, "d.t", "w", "is no URI"},
		{Metastore{Address: "thrift://a"}, "d.t", "azblob://c/p", "abfss://"},
		{Metastore{Address: "thrift://a", Location: "abfss://c@a/p"}, "d.t", "azblob://c/p", ""},
	} {
		c := Config{Metastore: x.m, Table: x.table, Location: storage.Location{URL: x.loc}}
		got := fmt.Sprint(c.Check())
		if (x.want == "") != (len(c.Check()) == 0) || !strings.Contains(got, x.want) {
			t.Errorf("%+v: %s, want %q", x.m, got, x.want)
		}
	}
}

func TestTableURI(t *testing.T) {
	for _, x := range [][3]string{
		{"a/b/", "", "file:///dir/a/b"}, {"/x", "", "file:///x"}, {"s3://b/p/", "", "s3a://b/p"}, {"gs://b?x=1", "", "gs://b"},
		{"s3://b", "viewfs://c/p/", "viewfs://c/p"},
	} {
		c := Config{Location: storage.Location{URL: x[0]}, Metastore: Metastore{Location: x[1]}}
		if got, err := c.tableURI("/dir"); got != x[2] || err != nil {
			t.Errorf("%v: %s, %v", x, got, err)
		}
	}
	if !sameURI("file:/a/b", "file:///a/b/") || !sameURI("s3://a/b", "s3a://a/b") || sameURI("s3://a/b", "s3://a/c") || sameURI("file:///a", "s3://a") {
		t.Error("locations are told apart wrongly")
	}
}

// server is a metastore of a test's own.
type server struct {
	t       *testing.T
	data    string
	address string
	args    []string // that it is started with
}

func (s *server) do(args ...string) string {
	s.t.Helper()
	cmd := exec.Command(os.Getenv("KEYSTONE_TEST_METASTORE_SH"), append(args, "--data", s.data)...)
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("%s: %v", cmd, err)
	}
	return strings.TrimSpace(string(out))
}

func (s *server) start() {
	s.address = s.do(append([]string{"start", "--port", s.port()}, s.args...)...)
}
func (s *server) kill() { s.do("stop", "--kill") }

func (s *server) port() string {
	if s.address == "" {
		return "0"
	}
	return s.address[strings.LastIndexByte(s.address, ':')+1:]
}

func metastoreServer(t *testing.T, args ...string) *server {
	t.Helper()
	if os.Getenv("KEYSTONE_TEST_METASTORE_SH") == "" {
		t.Skip("needs a real Hive Metastore: run it under .testenv/with-metastore")
	}
	s := &server{t: t, data: t.TempDir(), args: args}
	s.start()
	t.Cleanup(func() {
		_ = exec.Command(os.Getenv("KEYSTONE_TEST_METASTORE_SH"), "stop", "--kill", "--data", s.data).Run()
	})
	return s
}

// eventually asks again until the answer is nil.
func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	end, tick := time.After(3*time.Minute), time.NewTicker(50*time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// TestRealMetastore goes through the life of a table, with a metastore that is killed in the middle.
func TestRealMetastore(t *testing.T) {
	server := metastoreServer(t)
	dir := filepath.Join(t.TempDir(), "ware house")
	c := testConfig(t, func(c *Config) {
		c.Location.URL, c.Table, c.Metastore = dir, "ads.plays", Metastore{Address: server.address, OnDestroy: "delete"}
	})
	ctx, d, events := t.Context(), sinks.Deps{Route: "route.r", ID: "r", Type: eventType}, []types.Type{eventType}
	client, err := metastore.New(server.address, timeout)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close() //nolint:errcheck // only asked
	observe := func(c Config, events []types.Type) (exists, differs, blocked string) {
		t.Helper()
		things, err := c.Observe(ctx, d, events)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range things {
			exists += fmt.Sprintf("%s %s %v;", x.Kind, x.Name, x.Exists)
			differs, blocked = differs+strings.Join(x.Differs, ";"), blocked+x.Blocked
		}
		return exists, differs, blocked
	}
	ensure := func(c Config, events []types.Type) {
		t.Helper()
		for range 2 {
			if err := c.Ensure(ctx, d, events); err != nil {
				t.Fatal(err)
			}
		}
		if exists, differs, blocked := observe(c, events); exists != "database ads true;table ads.plays true;" || differs+blocked != "" {
			t.Fatalf("after Ensure: %s differs %q, blocked %q", exists, differs, blocked)
		}
	}
	partitions := func(n int) error {
		var got []string
		err := client.EachPartition(ctx, "ads", "plays", "", func(p metastore.Partition) error {
			got = append(got, fmt.Sprint(p.Values))
			if have := strings.TrimPrefix(p.Location, "file:"); filepath.Dir(have) != dir {
				return fmt.Errorf("%v is at %s", p.Values, p.Location)
			} else if _, err := os.Stat(have); err != nil {
				return err
			}
			return nil
		})
		if err == nil && len(got) != n {
			err = fmt.Errorf("partitions %v, want %d", got, n)
		}
		return err
	}
	open := func(from int64) *Sink {
		t.Helper()
		made, err := c.New(d)
		if err != nil {
			t.Fatal(err)
		}
		s := made.(*Sink)
		if err := s.Open(ctx); err != nil {
			t.Fatal(err)
		}
		if at, err := s.Begin(ctx, position(0, 0)); err != nil || at.Offset != from {
			t.Fatalf("begins at %v, %v, want %d", at.Offset, err, from)
		}
		return s
	}
	end := func(s *Sink) {
		t.Helper()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	}

	if exists, differs, blocked := observe(c, events); exists != "database ads false;table ads.plays false;" || differs+blocked != "" {
		t.Fatalf("at first: %s differs %q, blocked %q", exists, differs, blocked)
	}
	ensure(c, events)

	s := open(0)
	mustPut(t, s, batchOf(0, 0, 2))
	settle(t, s, position(0, 2))
	eventually(t, "two days", func() error { return partitions(2) })

	server.kill()
	mustPut(t, s, batchOf(0, 2, 3))
	settle(t, s, position(0, 3))
	eventually(t, "trouble is told", func() error {
		if err := s.Trailing(); err == nil || !strings.Contains(err.Error(), "1 partitions are not in the metastore yet") {
			return fmt.Errorf("told: %w", err)
		}
		return nil
	})
	end(s)
	if _, err := c.Observe(ctx, d, events); err == nil {
		t.Error("a metastore that is gone was observed")
	}
	s = open(3) // nothing waits for it
	mustPut(t, s, batchOf(0, 3, 7))
	settle(t, s, position(0, 7))
	server.start()
	eventually(t, "what the outage delayed", func() error { return partitions(4) })
	eventually(t, "trouble is over", s.Trailing)
	st, err := c.Location.Open(ctx, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, st, 1, 7)
	end(s)

	// Columns come and become wider, and what contradicts is said.
	more := types.ObjectOf(append(slices.Clone(eventType.Fields), types.Field{Name: "Pct", Type: types.FloatType, Optional: true})...)
	if _, differs, blocked := observe(c, []types.Type{eventType, more}); differs != "column pct is missing: double" || blocked != "" {
		t.Errorf("a new column: differs %q, blocked %q", differs, blocked)
	}
	ensure(c, []types.Type{eventType, more})
	ensure(c, events) // a column that nobody writes any more stays
	if table, err := client.Table(ctx, "ads", "plays"); err != nil || table.Columns[len(table.Columns)-1] != (metastore.Column{Name: "pct", Type: "double"}) {
		t.Errorf("columns %v, %v", table.Columns, err)
	}
	text := types.ObjectOf(types.Field{Name: "id", Type: types.StringType})
	blocked := func(what string, c Config, events []types.Type, word string) {
		t.Helper()
		if _, _, blocked := observe(c, events); !strings.Contains(blocked, word) {
			t.Errorf("%s: blocked %q, want %q", what, blocked, word)
		}
		if err := c.Ensure(ctx, d, events); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: Ensure says %v, want %q", what, err, word)
		}
	}
	blocked("another type", c, []types.Type{text}, "column id is bigint")
	blocked("routes that contradict", c, []types.Type{eventType, text}, "its routes write what is not one table")
	blocked("a type that is not known", c, []types.Type{{Kind: types.Any}}, "Unknown fields")
	other := c
	other.PartitionBy = append(slices.Clone(c.PartitionBy), spec.Field{Name: "hour", Expr: diag.Text{S: "day"}})
	blocked("another key", other, events, "partitioned by dt string, and the sink by dt string, hour string")
	other = c
	other.Location.URL = dir + "2"
	blocked("another place", other, events, "table_location")

	// A partition that is elsewhere: its readers would not see our files.
	if err := client.SetLocation(ctx, "ads", "plays", metastore.Partition{Values: []string{"2026:01/0"}, Location: "file:///elsewhere"}); err != nil {
		t.Fatal(err)
	}
	s = open(7)
	mustPut(t, s, batchOf(0, 7, 14))
	settle(t, s, position(0, 14))
	eventually(t, "a partition elsewhere is told", func() error {
		if err := s.Trailing(); err == nil || !strings.Contains(err.Error(), "SET LOCATION") {
			return fmt.Errorf("told: %w", err)
		}
		return nil
	})
	end(s)

	// A table that is younger than its files gets all partitions.
	if err := client.DropTable(ctx, "ads", "plays"); err != nil {
		t.Fatal(err)
	}
	ensure(c, events)
	if err := partitions(4); err != nil {
		t.Error(err)
	}
	keep := c
	keep.Metastore.OnDestroy = "keep"
	for i, x := range []Config{keep, other, c, c} {
		if err := x.Destroy(ctx, d); err != nil {
			t.Fatal(err)
		}
		if table, err := client.Table(ctx, "ads", "plays"); err != nil || (table != nil) != (i < 2) {
			t.Errorf("after Destroy %d: %v, %v", i, table, err)
		}
	}
	expect(t, st, 1, 14)
}
