package parquet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/decimal128"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"

	"keystone/dsl/types"
	"keystone/pipeline/record"
	"keystone/sources"
	"keystone/sources/sourcetest"
)

// write makes a file of a schema; each row group has groupRows rows. fill adds row i to a builder.
func write(t testing.TB, path string, schema *arrow.Schema, rows, groupRows int, fill func(b *array.RecordBuilder, i int)) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w, err := pqarrow.NewFileWriter(schema, f, parquet.NewWriterProperties(parquet.WithStats(true), parquet.WithMaxRowGroupLength(int64(groupRows))), pqarrow.DefaultWriterProps())
	if err != nil {
		t.Fatal(err)
	}
	for first := 0; first < rows; first += groupRows {
		b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
		for i := first; i < min(rows, first+groupRows); i++ {
			fill(b, i)
		}
		if err := w.Write(b.NewRecord()); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil { // closes f
		t.Fatal(err)
	}
}

var plain = arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}, {Name: "name", Type: arrow.BinaryTypes.String, Nullable: true}}, nil)

func plainRow(b *array.RecordBuilder, i int) {
	b.Field(0).(*array.Int64Builder).Append(int64(i))
	if i%7 == 3 {
		b.Field(1).AppendNull()
	} else {
		b.Field(1).(*array.StringBuilder).Append(fmt.Sprintf("row \"%d\"", i))
	}
}

func plainText(i int) string {
	if i%7 == 3 {
		return fmt.Sprintf(`{"n":%d,"name":null}`, i)
	}
	return fmt.Sprintf(`{"n":%d,"name":"row \"%d\""}`, i, i)
}

func open2(t testing.TB, dir string, d sources.Deps) sources.Source {
	t.Helper()
	c := &Config{}
	c.Location.URL = dir
	s, err := c.New(d)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestContract(t *testing.T) {
	sourcetest.Run(t, func(t *testing.T) sourcetest.Case {
		dir := t.TempDir()
		var want []string
		for i, rows := range []int{10, 5000, 1} {
			first := len(want)
			write(t, filepath.Join(dir, fmt.Sprintf("f%d.parquet", i)), plain, rows, 1700, func(b *array.RecordBuilder, i int) { plainRow(b, first+i) })
			for j := range rows {
				want = append(want, plainText(first+j))
			}
		}
		return sourcetest.Case{
			New:     func() sources.Source { return open2(t, dir, sources.Deps{Scan: record.Scan{All: true}}) },
			Want:    map[int32][]string{0: want},
			Bounded: true, HeedsWant: true,
			Unopenable: func() sources.Source { return open2(t, filepath.Join(dir, "none"), sources.Deps{}) },
		}
	})
}

type deaf struct{ at []record.Position }

func (d *deaf) Assigned(p []record.Position)            { d.at = p }
func (*deaf) Revoked(context.Context, []int32)          {}
func (*deaf) Lost([]int32)                              {}
func (*deaf) DataLoss(part int32, from int64, to int64) {}

// all reads a source to its end.
func all(t testing.TB, s sources.Source, from ...record.Position) (rows []string, offsets []int64) {
	t.Helper()
	defer s.Close(t.Context()) //nolint:errcheck // of a test's files
	if err := s.Open(t.Context(), from, &deaf{}); err != nil {
		t.Fatal(err)
	}
	for {
		var b record.Batch
		err := s.Read(t.Context(), &b)
		if errors.Is(err, io.EOF) {
			return rows, offsets
		}
		if err != nil {
			t.Fatal(err)
		}
		for i := range b.Records {
			rows, offsets = append(rows, string(b.Records[i].Value)), append(offsets, b.Records[i].Offset)
		}
	}
}

func typ(t testing.TB, s string) types.Type {
	t.Helper()
	x, err := types.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestForms(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678_000_000, time.UTC)
	tags := arrow.ListOf(arrow.BinaryTypes.String)
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "userid", Type: arrow.PrimitiveTypes.Int32},
		{Name: "ms", Type: arrow.FixedWidthTypes.Timestamp_us, Nullable: true},
		{Name: "text", Type: arrow.FixedWidthTypes.Timestamp_ms, Nullable: true},
		{Name: "day", Type: arrow.FixedWidthTypes.Date32, Nullable: true},
		{Name: "price", Type: &arrow.Decimal128Type{Precision: 20, Scale: 3}, Nullable: true},
		{Name: "x", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		{Name: "raw", Type: arrow.BinaryTypes.Binary, Nullable: true},
		{Name: "ok", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
		{Name: "tags", Type: tags, Nullable: true},
		{Name: "device", Type: arrow.StructOf(arrow.Field{Name: "os", Type: arrow.BinaryTypes.String, Nullable: true}, arrow.Field{Name: "sizes", Type: arrow.ListOf(arrow.PrimitiveTypes.Int64), Nullable: true}), Nullable: true},
		{Name: "labels", Type: arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64), Nullable: true},
	}, nil)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "dt=2026-01-02", "hour=07", "kind=__HIVE_DEFAULT_PARTITION__", "a.parquet"), schema, 2, 10, func(b *array.RecordBuilder, i int) {
		b.Field(0).(*array.Int32Builder).Append(int32(i))
		if i == 1 {
			for _, f := range b.Fields()[1:] {
				f.AppendNull()
			}
			return
		}
		b.Field(1).(*array.TimestampBuilder).Append(arrow.Timestamp(at.UnixMicro()))
		b.Field(2).(*array.TimestampBuilder).Append(arrow.Timestamp(at.UnixMilli()))
		b.Field(3).(*array.Date32Builder).Append(arrow.Date32FromTime(at))
		b.Field(4).(*array.Decimal128Builder).Append(decimal128.FromI64(-1234567890123))
		b.Field(5).(*array.Float64Builder).Append(0.1)
		b.Field(6).(*array.BinaryBuilder).Append([]byte{0, 1, 255})
		b.Field(7).(*array.BooleanBuilder).Append(true)
		l := b.Field(8).(*array.ListBuilder)
		l.Append(true)
		l.ValueBuilder().(*array.StringBuilder).AppendValues([]string{"a", "ü\n"}, nil)
		s := b.Field(9).(*array.StructBuilder)
		s.Append(true)
		s.FieldBuilder(0).(*array.StringBuilder).Append("tv")
		n := s.FieldBuilder(1).(*array.ListBuilder)
		n.Append(true)
		n.ValueBuilder().(*array.Int64Builder).AppendValues([]int64{1, 2}, nil)
		m := b.Field(10).(*array.MapBuilder)
		m.Append(true)
		m.KeyBuilder().(*array.StringBuilder).Append("k")
		m.ItemBuilder().(*array.Int64Builder).Append(5)
	})
	declared := typ(t, "object({userId = int, ms = timestamp_ms, text = timestamp_rfc3339, day = date, hour = int})")
	rows, _ := all(t, open2(t, dir, sources.Deps{Scan: record.Scan{All: true}, Type: declared}))
	want := []string{
		`{"userId":0,"ms":1767323045678,"text":"2026-01-02T03:04:05.678Z","day":"2026-01-02","price":-1234567890.123,"x":0.1,"raw":"AAH/","ok":true,"tags":["a","ü\n"],"device":{"os":"tv","sizes":[1,2]},"labels":{"k":5},"dt":"2026-01-02","hour":07,"kind":null}`,
		`{"userId":1,"ms":null,"text":null,"day":null,"price":null,"x":null,"raw":null,"ok":null,"tags":null,"device":null,"labels":null,"dt":"2026-01-02","hour":07,"kind":null}`,
	}
	for i := range want {
		want[i] = strings.Replace(want[i], `"hour":07`, `"hour":7`, 1)
	}
	if strings.Join(rows, "\n") != strings.Join(want, "\n") {
		t.Errorf("rows\n%s\nwant\n%s", strings.Join(rows, "\n"), strings.Join(want, "\n"))
	}
	rows, _ = all(t, open2(t, dir, sources.Deps{Scan: record.Scan{Fields: []string{"dt", "x"}}, Type: declared}))
	if got := strings.Join(rows, " "); got != `{"x":0.1,"dt":"2026-01-02"} {"x":null,"dt":"2026-01-02"}` {
		t.Errorf("two fields: %s", got)
	}
	rows, _ = all(t, open2(t, dir, sources.Deps{Scan: record.Scan{Fields: []string{"dt"}}}))
	if got := strings.Join(rows, " "); got != `{"dt":"2026-01-02"} {"dt":"2026-01-02"}` {
		t.Errorf("a partition column alone: %s", got)
	}
	rows, _ = all(t, open2(t, dir, sources.Deps{}))
	if got := strings.Join(rows, " "); got != `{} {}` {
		t.Errorf("nothing: %s", got)
	}
}

// TestPruning: what is left out is what cannot pass, a position is the same whatever is left out, and reading can go on at any.
func TestPruning(t *testing.T) {
	dir := t.TempDir()
	for d := range 3 {
		write(t, filepath.Join(dir, fmt.Sprintf("dt=2026-01-0%d", d+1), "a.parquet"), plain, 1000, 100, func(b *array.RecordBuilder, i int) { plainRow(b, d*1000+i) })
	}
	for name, tc := range map[string]struct {
		bounds []record.Bound
		first  int64
		rows   int
	}{
		"none":        {nil, 0, 3000},
		"a partition": {[]record.Bound{{Path: []string{"dt"}, Op: "=", Values: []any{"2026-01-02"}}}, 1000, 1000},
		"two":         {[]record.Bound{{Path: []string{"dt"}, Op: ">=", Values: []any{"2026-01-02"}}}, 1000, 2000},
		"a row group": {[]record.Bound{{Path: []string{"n"}, Op: "=", Values: []any{int64(1234)}}}, 1200, 100},
		"a range":     {[]record.Bound{{Path: []string{"n"}, Op: ">", Values: []any{1999.5}}, {Path: []string{"n"}, Op: "<", Values: []any{int64(2150)}}}, 2000, 200},
		"some":        {[]record.Bound{{Path: []string{"n"}, Op: "in", Values: []any{int64(5), int64(2999)}}}, 0, 200},
		"text":        {[]record.Bound{{Path: []string{"name"}, Op: "<=", Values: []any{"row \"0\""}}}, 0, 100},
		"nothing":     {[]record.Bound{{Path: []string{"n"}, Op: "<", Values: []any{int64(0)}}}, 0, 0},
		"no such":     {[]record.Bound{{Path: []string{"q"}, Op: "<", Values: []any{int64(0)}}}, 0, 3000},
		"other types": {[]record.Bound{{Path: []string{"n"}, Op: "=", Values: []any{"x"}}}, 0, 3000},
	} {
		t.Run(name, func(t *testing.T) {
			scan := record.Scan{All: true, Bounds: tc.bounds}
			rows, offsets := all(t, open2(t, dir, sources.Deps{Scan: scan}))
			if len(rows) != tc.rows || len(offsets) > 0 && offsets[0] != tc.first {
				t.Fatalf("%d rows from %v, want %d from %d", len(rows), offsets[:min(1, len(offsets))], tc.rows, tc.first)
			}
			for i, o := range offsets {
				if want := strings.TrimSuffix(plainText(int(o)), "}"); !strings.HasPrefix(rows[i], want) {
					t.Fatalf("row %d is %s, want %s…", o, rows[i], want)
				}
			}
			if len(offsets) < 2 {
				return
			}
			s := open2(t, dir, sources.Deps{Scan: scan})
			l := &deaf{}
			if err := s.Open(t.Context(), nil, l); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, k := range []int{1, len(offsets) / 2, len(offsets) - 1} {
				at := l.at[0]
				at.Offset = offsets[k]
				if rest, _ := all(t, open2(t, dir, sources.Deps{Scan: scan}), at); strings.Join(rest, "\n") != strings.Join(rows[k:], "\n") {
					t.Errorf("from row %d there are %d rows, want %d", offsets[k], len(rest), len(rows)-k)
				}
			}
		})
	}
}

func TestSinceUntil(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "ts", Type: arrow.FixedWidthTypes.Timestamp_ms, Nullable: true}}, nil)
	dir := t.TempDir()
	zero := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	write(t, filepath.Join(dir, "a.parquet"), schema, 100, 10, func(b *array.RecordBuilder, i int) {
		if i == 55 {
			b.Field(0).AppendNull()
			return
		}
		b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(zero.Add(time.Duration(i) * time.Minute).UnixMilli()))
	})
	c := &Config{EventTime: "ts"}
	c.Location.URL = dir
	d := sources.Deps{Scan: record.Scan{}}
	r := c.Reading(d)
	r.Since, r.Until = zero.Add(42*time.Minute), zero.Add(61*time.Minute)
	_, offsets := all(t, New(r, d))
	if len(offsets) != 18 || offsets[0] != 42 || offsets[17] != 60 {
		t.Errorf("rows %v, want 42 to 60 without 55", offsets)
	}
}

// TestTrouble: what cannot be read is said, with the file and what to do.
func TestTrouble(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "a.parquet")
	write(t, good, plain, 100, 50, plainRow)
	whole, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	l := &deaf{}
	s := open2(t, dir, sources.Deps{})
	if err := s.Open(t.Context(), nil, l); err != nil {
		t.Fatal(err)
	}
	s.Close(t.Context())
	for name, tc := range map[string]struct {
		change func()
		from   []record.Position
		want   string
	}{
		"cut":     {func() { os.WriteFile(good, whole[:len(whole)-5], 0o644) }, nil, "a.parquet"},
		"text":    {func() { os.WriteFile(good, []byte("hello, this is text and no Parquet at all"), 0o644) }, nil, "no file of Parquet"},
		"short":   {func() { os.WriteFile(good, []byte("PAR"), 0o644) }, nil, "no file of Parquet"},
		"changed": {func() { os.WriteFile(good, whole, 0o644); os.WriteFile(filepath.Join(dir, "b.parquet"), whole, 0o644) }, l.at, "came, went or changed"},
		"empty":   {func() { os.Remove(good); os.Remove(filepath.Join(dir, "b.parquet")) }, nil, "no Parquet file"},
	} {
		t.Run(name, func(t *testing.T) {
			defer os.WriteFile(good, whole, 0o644)           //nolint:errcheck // the next one says
			defer os.Remove(filepath.Join(dir, "b.parquet")) //nolint:errcheck // may be missing
			tc.change()
			s := open2(t, dir, sources.Deps{Scan: record.Scan{All: true}})
			defer s.Close(t.Context()) //nolint:errcheck // of a test's files
			err := s.Open(t.Context(), tc.from, l)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("open: %v, want %q", err, tc.want)
			}
		})
	}
}

// FuzzDamage: whatever is in a file, reading ends with rows or an error.
func FuzzDamage(f *testing.F) {
	dir := f.TempDir()
	name := filepath.Join(dir, "a.parquet")
	write(f, name, plain, 100, 50, plainRow)
	whole, err := os.ReadFile(name)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(10, byte(0), len(whole))
	f.Fuzz(func(t *testing.T, at int, value byte, length int) {
		b := append([]byte(nil), whole[:min(max(length, 0), len(whole))]...)
		if at >= 0 && at < len(b) {
			b[at] = value
		}
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "a.parquet"), b, 0o644); err != nil {
			t.Fatal(err)
		}
		s := open2(t, dir, sources.Deps{Scan: record.Scan{All: true}})
		defer s.Close(t.Context()) //nolint:errcheck // of a test's files
		if s.Open(t.Context(), nil, &deaf{}) != nil {
			return
		}
		for range 1000 {
			var b record.Batch
			if s.Read(t.Context(), &b) != nil {
				return
			}
		}
		t.Error("it does not end")
	})
}
