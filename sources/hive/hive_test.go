package hive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"

	"keystone/pipeline/record"
	"keystone/sources"
	"keystone/sources/hive/metastore"
)

func TestPlace(t *testing.T) {
	for location, want := range map[string]string{
		"file:/warehouse/a/": "/warehouse/a", "file:///warehouse/a": "/warehouse/a", "/warehouse/a": "/warehouse/a",
		"s3a://bucket/a": "s3://bucket/a", "s3n://bucket/a/": "s3://bucket/a", "s3://bucket/a": "s3://bucket/a", "gs://bucket": "gs://bucket",
	} {
		if got := place(location); got != want {
			t.Errorf("place(%q) = %q, want %q", location, got, want)
		}
	}
}

type listener struct{}

func (listener) Assigned([]record.Position)       {}
func (listener) Revoked(context.Context, []int32) {}
func (listener) Lost([]int32)                     {}
func (listener) DataLoss(int32, int64, int64)     {}

func write(t *testing.T, path string, values ...int64) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	schema := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}}, nil)
	w, err := pqarrow.NewFileWriter(schema, f, nil, pqarrow.DefaultWriterProps())
	if err != nil {
		t.Fatal(err)
	}
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	b.Field(0).(*array.Int64Builder).AppendValues(values, nil)
	if err := w.Write(b.NewRecord()); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil { // closes f
		t.Fatal(err)
	}
}

func read(t *testing.T, c *Config, d sources.Deps) (rows []string, err error) {
	t.Helper()
	s, err := c.New(d)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(t.Context()) //nolint:errcheck // of a test's files
	if err := s.Open(t.Context(), nil, listener{}); err != nil {
		return nil, err
	}
	for {
		var b record.Batch
		err := s.Read(t.Context(), &b)
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if err != nil {
			return rows, err
		}
		for _, r := range b.Records {
			rows = append(rows, string(r.Value))
		}
	}
}

// TestRealTable: the partitions that the metastore knows are read where it says that they are, in their order.
func TestRealTable(t *testing.T) {
	address := os.Getenv("KEYSTONE_TEST_METASTORE")
	if address == "" {
		t.Skip("needs a real Hive Metastore: run it under .testenv/with-metastore")
	}
	m, err := metastore.New(address, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close() //nolint:errcheck // nothing is on its way
	ctx, db, dir, elsewhere := t.Context(), fmt.Sprintf("s%d", time.Now().UnixNano()), t.TempDir(), t.TempDir()
	if err := m.EnsureDatabase(ctx, db); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "dt=2026-01-01", "b.parquet"), 1, 2)
	write(t, filepath.Join(dir, "dt=2026-01-02", "000000_0"), 3)
	write(t, filepath.Join(dir, "dt=2026-01-02", ".hidden.parquet"), 99)
	write(t, filepath.Join(dir, "dt=2026-01-03", "unknown.parquet"), 98) // not registered
	write(t, filepath.Join(elsewhere, "c.parquet"), 5)
	write(t, filepath.Join(dir, "_keystone", "compacted", "x.parquet"), 4)
	table := metastore.Table{DB: db, Name: "plays", Location: "file://" + dir, Columns: []metastore.Column{{Name: "n", Type: "bigint"}}, Partitions: []metastore.Column{{Name: "dt", Type: "string"}}}
	if err := m.CreateTable(ctx, table); err != nil {
		t.Fatal(err)
	}
	if err := m.AddPartitions(ctx, db, "plays", []metastore.Partition{
		{Values: []string{"2026-01-05"}, Location: "file://" + elsewhere},
		{Values: []string{"2026-01-04"}, Location: table.Location + "/_keystone/compacted"},
		{Values: []string{"2026-01-02"}, Location: table.Location + "/dt=2026-01-02"},
		{Values: []string{"2026-01-01"}, Location: table.Location + "/dt=2026-01-01"},
	}); err != nil {
		t.Fatal(err)
	}
	c := &Config{Metastore: address, Table: db + ".plays", Timeout: time.Minute}
	rows, err := read(t, c, sources.Deps{Scan: record.Scan{All: true}})
	want := []string{`{"n":1,"dt":"2026-01-01"}`, `{"n":2,"dt":"2026-01-01"}`, `{"n":3,"dt":"2026-01-02"}`, `{"n":4,"dt":"2026-01-04"}`, `{"n":5,"dt":"2026-01-05"}`}
	if err != nil || !slices.Equal(rows, want) {
		t.Errorf("rows %q, %v, want %q", rows, err, want)
	}
	after := record.Bound{Path: []string{"dt"}, Op: ">", Values: []any{"2026-01-02"}}
	if rows, err = read(t, c, sources.Deps{Scan: record.Scan{Fields: []string{"n"}, Bounds: []record.Bound{after}}}); err != nil || !slices.Equal(rows, []string{`{"n":4}`, `{"n":5}`}) {
		t.Errorf("pruned rows %q, %v", rows, err)
	}
	c.Table = db + ".none"
	if _, err := read(t, c, sources.Deps{}); err == nil || !strings.Contains(err.Error(), "has no table") || !sources.IsFatal(err) {
		t.Errorf("a table that is not there: %v", err)
	}
}
