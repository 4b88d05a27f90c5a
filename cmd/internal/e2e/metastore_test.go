package e2e

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

	parquet "github.com/apache/arrow/go/v15/parquet/file"
	"github.com/twmb/franz-go/pkg/kgo"

	"keystone/sources/hive/metastore"
)

// catalog is a real Hive Metastore of a test's own.
type catalog struct {
	t      *testing.T
	own    *own
	client *metastore.Client
}

func hiveMetastore(t *testing.T) *catalog {
	t.Helper()
	sh := os.Getenv("KEYSTONE_TEST_METASTORE_SH")
	if sh == "" {
		t.Skip("no real Hive Metastore: run `make e2e`, which sets KEYSTONE_TEST_METASTORE_SH to the script that starts one")
	}
	o := &own{t: t, sh: sh, data: t.TempDir()}
	t.Cleanup(func() { _ = exec.Command(o.sh, "stop", "--kill", "--data", o.data).Run() })
	o.addr = strings.TrimSpace(o.start())
	client, err := metastore.New(o.addr, 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return &catalog{t, o, client}
}

// again starts it at the address that it had.
func (c *catalog) again() { c.own.run("start", "--data", c.own.data) }

// columns gives those of ads.plays: "p bigint, seq bigint".
func (c *catalog) columns() string {
	c.t.Helper()
	table, err := c.client.Table(c.t.Context(), "ads", "plays")
	if err != nil || table == nil {
		return fmt.Sprint("no table: ", err)
	}
	var out []string
	for _, x := range table.Columns {
		out = append(out, x.Name+" "+x.Type)
	}
	return strings.Join(out, ", ")
}

// partitions gives the values of those that are registered, sorted.
func (c *catalog) partitions() (out []string, err error) {
	err = c.client.EachPartition(c.t.Context(), "ads", "plays", "", func(p metastore.Partition) error {
		out = append(out, strings.Join(p.Values, "/"))
		return nil
	})
	return out, err
}

// holds waits for partitions.
func (c *catalog) holds(want ...string) {
	c.t.Helper()
	until(c.t, "the partitions are registered", func() error {
		got, err := c.partitions()
		if err == nil && !slices.Equal(got, want) {
			err = fmt.Errorf("partitions %q, want %q", got, want)
		}
		return err
	})
}

func metastoreConfig(namespace, brokers, topic, address, schema string) string {
	return fmt.Sprintf(`
keystone {
  namespace = %q
}

cluster "main" {
  brokers = [%q]
}

stream "in" {
  topic      = %q
  partitions = 4
  schema     = object({ %s })
}

sink "hive" "plays" {
  location     = "table"
  table        = "ads.plays"
  metastore    = %q
  partition_by = { tens = "seq %% 10" }
  roll {
    interval = "300ms"
  }
}

route "plays" {
  from   = stream.in
  filter = "kind == 'play'"
  to     = sink.plays
}
`, namespace, brokers, topic, schema, address)
}

// planned runs plan -detailed-exitcode.
func planned(t *testing.T, dir string) (out string, changes bool) {
	t.Helper()
	out, err := run(t, "plan", "-detailed-exitcode", dir)
	var ended *exec.ExitError
	if err != nil && (!errors.As(err, &ended) || ended.ExitCode() != 2) {
		t.Fatal(err)
	}
	return out, err != nil
}

// TestRealMetastore takes a table through plan and apply: it is made, gets columns and wider ones, each once; what
// was done to it by hand is seen, and what cannot be is refused before anything is changed.
func TestRealMetastore(t *testing.T) {
	t.Parallel()
	c := hiveMetastore(t)
	addr, topic, namespace, dir := broker(t), name("in-"), name("e2e-"), t.TempDir()
	text := func(schema string) {
		config(t, dir, metastoreConfig(namespace, addr, topic, c.own.addr, schema))
	}
	expect := func(what string, lines ...string) {
		t.Helper()
		out, changes := planned(t, dir)
		if changes != (len(lines) > 0) {
			t.Errorf("%s: changes %v\n%s", what, changes, out)
		}
		for _, l := range lines {
			if !strings.Contains(out, l) {
				t.Errorf("%s: the plan lacks %q:\n%s", what, l, out)
			}
		}
	}
	apply := func(want string) {
		t.Helper()
		for _, w := range []string{want, "0 added, 0 changed, 0 destroyed"} { // the second does nothing
			if out := must(t, "apply", "-auto-approve", dir); !strings.Contains(out, w) {
				t.Errorf("apply lacks %q:\n%s", w, out)
			}
			expect("after apply")
		}
	}
	cl := client(t, addr)
	produce := func(values ...string) {
		t.Helper()
		for _, v := range values {
			if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte(v)}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}

	text("p = int, seq = int, kind = string, price = decimal(10, 2)")
	expect("without a server", `? database "ads"`, `? table "ads.plays"`)
	p := serve(t, dir, "-watch=false")
	until(t, "it serves", func() error { _, err := p.status(); return err })
	expect("with a server", `+ database "ads"`, `+ table "ads.plays"`)
	apply("4 added")
	if got := c.columns(); got != "p bigint, seq bigint, kind string, price decimal(10,2)" {
		t.Errorf("columns %s", got)
	}
	p.healthy("route.plays", "running")
	produce(`{"p":0,"seq":1,"kind":"play","price":1.25}`, `{"p":0,"seq":2,"kind":"play","price":1.5}`)
	c.holds("1", "2")

	text("p = int, seq = int, kind = string, price = decimal(18, 2), os = optional(string)")
	expect("columns", "column price is decimal(10,2), wanted decimal(18,2)", "column os is missing: string", "1 to repair")
	apply("1 repaired")
	if got := c.columns(); got != "p bigint, seq bigint, kind string, price decimal(18,2), os string" {
		t.Errorf("columns %s", got)
	}
	p.healthy("route.plays", "running")
	produce(`{"p":0,"seq":12,"kind":"play","price":1234567890123.5,"os":"x"}`, `{"p":0,"seq":3,"kind":"play","price":2}`)
	c.holds("1", "2", "3")
	until(t, "all rows", func() error {
		if n := parquetRows(t, filepath.Join(dir, "table")); n != 4 {
			return fmt.Errorf("%d rows of 4", n)
		}
		return nil
	})
	if os.Getenv("KEYSTONE_TEST_READERS") != "" {
		got := fmt.Sprint(c.spark("SELECT seq, price, os, tens FROM ads.plays ORDER BY seq"))
		if want := "[[1 1.25 <nil> 1] [2 1.50 <nil> 2] [3 2.00 <nil> 3] [12 1234567890123.50 x 2]]"; got != want {
			t.Errorf("Spark reads %s, want %s", got, want)
		}
	}

	// Another took the table out: the plan says so, or the loop has mended it. The partitions come back with it.
	if err := c.client.DropTable(t.Context(), "ads", "plays"); err != nil {
		t.Fatal(err)
	}
	until(t, "the drift is planned or mended", func() error {
		if out, _ := planned(t, dir); strings.Contains(out, `+ table "ads.plays"`) {
			return nil
		}
		if got := c.columns(); !strings.Contains(got, "os string") {
			return errors.New(got)
		}
		return nil
	})
	must(t, "apply", "-auto-approve", dir)
	c.holds("1", "2", "3")
	until(t, "nothing is left to do", func() error {
		if out, changes := planned(t, dir); changes {
			return errors.New(out)
		}
		return nil
	})

	// No reader takes the old files for the new type.
	for schema, words := range map[string]string{
		"p = float, seq = int, kind = string":                  "column p is bigint, and double cannot be written into it: readers refuse the files that are there. Keep the type, give the field another name in project, which makes a new column, or write to another table and location",
		"p = int, seq = int, kind = string, price = string":    "column price is decimal(18,2), and string cannot be written into it",
		"p = int, seq = int, kind = string, os = list(string)": "column os is string, and array<string> cannot be written into it",
	} {
		text(schema)
		expect(schema, "cannot be applied", words)
		if out, err := run(t, "apply", "-auto-approve", dir); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: apply says %v\n%s", schema, err, out)
		}
	}
	if got := c.columns(); got != "p bigint, seq bigint, kind string, price decimal(18,2), os string" {
		t.Errorf("columns after what was refused: %s", got)
	}
	p.healthy("route.plays", "running")
	p.stop()
}

// TestRealMetastoreOutage starts the server while the metastore is gone, kills it in the middle, and brings the
// metastore back: files land all the time, what is not registered is said and made up for, and Spark reads each row once.
func TestRealMetastoreOutage(t *testing.T) {
	t.Parallel()
	c := hiveMetastore(t)
	addr := broker(t)
	f := newFixture(t, addr, 5000)
	config(t, f.dir, metastoreConfig(f.namespace, addr, f.topic, c.own.addr, "p = int, seq = int, kind = string"))
	c.own.kill()
	dir := filepath.Join(f.dir, "table")
	p := serve(t, f.dir)
	landed := func(want int) {
		t.Helper()
		until(t, "files land", func() error {
			if rows, _ := f.table(t, dir); len(rows) < want {
				return fmt.Errorf("%d of %d rows", len(rows), want)
			}
			return nil
		})
	}
	said := func() {
		t.Helper()
		until(t, "status says what is not registered", func() error {
			s, err := p.status()
			if err != nil {
				return err
			}
			text := ""
			for _, a := range s.Addresses {
				text += a.Address + " " + a.Health + ": " + a.Error + "\n"
			}
			if !strings.Contains(text, "sink.plays degraded") {
				return errors.New(text)
			}
			return nil
		})
	}
	f.produce(t, client(t, addr), func(sent int) {
		switch sent {
		case 2000:
			landed(f.wanted() / 5)
			said()
		case 3000:
			p.kill()
			p = serve(t, f.dir)
		}
	})
	landed(f.wanted())
	said()
	if _, err := c.partitions(); err == nil {
		t.Fatal("the metastore answers, and it should be gone")
	}
	c.again()
	c.holds("0", "5")
	p.healthy("sink.plays", "running")
	p.healthy("route.plays", "running")
	until(t, "nothing is left to do", func() error {
		if out, changes := planned(t, f.dir); changes {
			return errors.New(out)
		}
		return nil
	})
	rows, _ := f.table(t, dir)
	if len(rows) != f.wanted() {
		t.Errorf("%d of %d rows", len(rows), f.wanted())
	}
	if os.Getenv("KEYSTONE_TEST_READERS") != "" {
		want := fmt.Sprintf("[[%d %d]]", f.wanted(), f.wanted())
		if got := fmt.Sprint(c.spark("SELECT count(*), count(DISTINCT p, seq) FROM ads.plays")); got != want {
			t.Errorf("Spark counts %s, want %s", got, want)
		}
	}
	p.stop()
}

// spark gives the rows of a query through this metastore.
func (c *catalog) spark(sql string) [][]any {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), os.Getenv("KEYSTONE_TEST_READERS"), "read", "spark", sql)
	cmd.Env = append(os.Environ(), "KEYSTONE_TEST_METASTORE="+c.own.addr)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		c.t.Fatalf("%v: %s", err, stderr.String())
	}
	var x struct{ Rows [][]any }
	if err := json.Unmarshal(out, &x); err != nil {
		c.t.Fatalf("%v: %s", err, out)
	}
	return x.Rows
}

// parquetRows counts the rows of a table, by the footers of its files.
func parquetRows(t *testing.T, dir string) (n int64) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*=*", "*.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		r, err := parquet.OpenParquetFile(path, false)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		n += r.NumRows()
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return n
}
