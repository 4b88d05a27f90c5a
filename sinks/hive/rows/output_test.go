package rows

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	parquet "github.com/apache/arrow/go/v15/parquet/file"
	"golang.org/x/sync/errgroup"
)

// limited fails when more than so many bytes are written, and is one who must not be closed.
type limited struct {
	t    *testing.T
	left int
}

var errFull = errors.New("disk full")

func (l *limited) Write(b []byte) (int, error) {
	if len(b) > l.left {
		n := l.left
		l.left = 0
		return n, errFull
	}
	l.left -= len(b)
	return len(b), nil
}

func (l *limited) Close() error {
	l.t.Error("the writer closed its output")
	return nil
}

// TestOutputFails makes the output fail at every byte: each time it is told, and nobody is told that rows are written.
func TestOutputFails(t *testing.T) {
	s := mustSchema(t, parse(t, "object({a = int, s = optional(string), l = list(int)})"))
	write := func(out io.Writer) (FileStats, error) {
		w := NewWriter(out, s, Options{Compression: Snappy, RowGroupRows: 64, PageBytes: 128})
		for i := range 200 {
			if err := w.Append(fmt.Appendf(nil, `{"a":%d,"s":"x%d","l":[1,%d]}`, i, i%3, i)); err != nil {
				if again := w.Append([]byte(`{}`)); !errors.Is(again, errFull) {
					t.Errorf("after the output failed: %v", again)
				}
				w.Abort()
				return FileStats{}, err
			}
		}
		return w.Close()
	}
	whole := &limited{t: t, left: 1 << 20}
	stats, err := write(whole)
	if err != nil || stats.RowGroups < 3 {
		t.Fatal(stats, err)
	}
	for n := range int(stats.Bytes) {
		if _, err := write(&limited{t: t, left: n}); !errors.Is(err, errFull) {
			t.Fatalf("a disk for %d of %d bytes: %v", n, stats.Bytes, err)
		}
	}
	if _, err := write(&limited{t: t, left: int(stats.Bytes)}); err != nil {
		t.Fatal(err)
	}
}

// TestFiles looks at what files say of themselves.
func TestFiles(t *testing.T) {
	s := mustSchema(t, parse(t, "object({a = int, few = string, many = string, long = string, none = optional(float)})"))
	long := strings.Repeat("y", 600)
	var out, again bytes.Buffer
	write := func(out io.Writer, n int) FileStats {
		r := rand.New(rand.NewPCG(5, 6))
		w := NewWriter(out, s, Options{PageBytes: 4 << 10, RowGroupRows: 3000})
		for i := range n {
			if err := w.Append(fmt.Appendf(nil, `{"a":%d,"few":"f%d","many":"m%d","long":"%s%d"}`, i, r.IntN(5), r.IntN(1<<30), long, i%2)); err != nil {
				t.Fatal(err)
			}
		}
		stats, err := w.Close(KeyValue{"keystone.origin", "t/0: 5 to 7"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Close(); err == nil {
			t.Error("closed twice")
		}
		return stats
	}
	stats := write(&out, 10_000)
	write(&again, 10_000)
	if !bytes.Equal(out.Bytes(), again.Bytes()) {
		t.Error("the same events gave another file")
	}
	f, err := parquet.NewParquetReader(bytes.NewReader(out.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if got := f.MetaData().KeyValueMetadata().FindValue("keystone.origin"); got == nil || *got != "t/0: 5 to 7" {
		t.Errorf("metadata: %v", got)
	}
	if f.NumRowGroups() != stats.RowGroups || stats.RowGroups != 4 {
		t.Errorf("%d row groups, said %d", f.NumRowGroups(), stats.RowGroups)
	}
	dictionaries := ""
	for i := range 5 {
		c, err := f.MetaData().RowGroup(1).ColumnChunk(i)
		if err != nil {
			t.Fatal(err)
		}
		if c.HasDictionaryPage() {
			dictionaries += c.PathInSchema().String() + " "
		}
		st, err := c.Statistics()
		if err != nil {
			t.Fatal(err)
		}
		if st.HasMinMax() != (i < 3) {
			t.Errorf("statistics of %s: %v", c.PathInSchema(), st)
		}
	}
	if dictionaries != "few long " {
		t.Errorf("columns with dictionaries: %s", dictionaries)
	}
	if c := stats.Columns[0]; *c.Min != "0" || *c.Max != "9999" {
		t.Errorf("a from %s to %s", *c.Min, *c.Max)
	}
	if c := stats.Columns[3]; c.Min != nil || c.Max != nil {
		t.Error("a long text stands in the statistics")
	}
	if c := stats.Columns[4]; c.Nulls != 10_000 || c.Min != nil {
		t.Errorf("none: %+v", c)
	}

	var empty bytes.Buffer
	if stats := write(&empty, 0); stats.Rows != 0 || stats.RowGroups != 0 {
		t.Errorf("an empty file: %+v", stats)
	}
	if f, err := parquet.NewParquetReader(bytes.NewReader(empty.Bytes())); err != nil || f.NumRows() != 0 {
		t.Errorf("an empty file: %v", err)
	}
}

// TestFull has a file reach the row groups that the format counts: what was taken is in it.
func TestFull(t *testing.T) {
	typ := parse(t, "object({n = int})")
	var out bytes.Buffer
	w := NewWriter(&out, mustSchema(t, typ), Options{Compression: None, RowGroupRows: 100})
	for i := range groupsMax - 1 {
		if err := w.Append(fmt.Appendf(nil, `{"n":%d}`, i)); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	taken := groupsMax - 1
	for {
		err := w.Append(fmt.Appendf(nil, `{"n":%d}`, taken))
		if errors.Is(err, ErrFull) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); !errors.Is(err, ErrFull) {
			t.Fatalf("a row group too many: %v", err)
		}
		taken++
	}
	stats, err := w.Close()
	if err != nil || stats.RowGroups != groupsMax || taken != groupsMax-1+100 {
		t.Fatalf("%d taken; %+v, %v", taken, stats, err)
	}
	f, err := parquet.NewParquetReader(bytes.NewReader(out.Bytes()))
	if err != nil || f.NumRows() != int64(taken) || *stats.Columns[0].Max != fmt.Sprint(taken-1) {
		t.Errorf("%v, %v", stats, err)
	}
}

// TestEmptyText has the empty text as the only value, and as a bound.
func TestEmptyText(t *testing.T) {
	var out bytes.Buffer
	w := NewWriter(&out, mustSchema(t, parse(t, "object({s = string, b = bytes})")), Options{})
	if err := w.Append([]byte(`{"s":"","b":""}`)); err != nil {
		t.Fatal(err)
	}
	stats, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	f, err := parquet.NewParquetReader(bytes.NewReader(out.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		c, err := f.MetaData().RowGroup(0).ColumnChunk(i)
		if err != nil {
			t.Fatal(err)
		}
		if st, err := c.Statistics(); err != nil || !st.HasMinMax() || stats.Columns[i].Min == nil || *stats.Columns[i].Min != "" {
			t.Errorf("statistics of %s: %v, %v", c.PathInSchema(), st, err)
		}
	}
}

// TestFallback has values repeat at first and not later.
func TestFallback(t *testing.T) {
	typ := parse(t, "object({s = string, n = int})")
	var out bytes.Buffer
	w := NewWriter(&out, mustSchema(t, typ), Options{PageBytes: 2 << 10})
	for i := range 20_000 {
		v := i % 4
		if i > 3000 {
			v = i
		}
		if err := w.Append(fmt.Appendf(nil, `{"s":"value %d","n":%d}`, v, v)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := parquet.NewParquetReader(bytes.NewReader(out.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	c, err := f.MetaData().RowGroup(0).ColumnChunk(0)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(c.Encodings()); got != "[RLE_DICTIONARY PLAIN RLE PLAIN]" {
		t.Errorf("encodings: %s", got)
	}
	rows := readBack(t, out.Bytes(), typ)
	for i, row := range rows {
		v := i % 4
		if i > 3000 {
			v = i
		}
		if got := fmt.Sprint(row); got != fmt.Sprintf("map[n:%d s:value %d]", v, v) {
			t.Fatalf("row %d: %s", i, got)
		}
	}
}

// TestPoolIsForAll has writers of several goroutines share a pool; the race detector looks on.
func TestPoolIsForAll(t *testing.T) {
	typ := parse(t, "object({n = int, s = string, o = optional(string)})")
	s, pool := mustSchema(t, typ), NewPool()
	var group errgroup.Group
	var files [4][3]bytes.Buffer
	for g := range files {
		group.Go(func() error {
			for f := range files[g] {
				w := NewWriter(&files[g][f], s, Options{Pool: pool, PageBytes: 1 << 10, RowGroupRows: 700})
				for i := range 2000 {
					if err := w.Append(fmt.Appendf(nil, `{"n":%d,"s":"%d of %d"}`, i, i, g)); err != nil {
						return err
					}
				}
				if _, err := w.Close(); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	for g := range files {
		for f := range files[g] {
			for i, row := range readBack(t, files[g][f].Bytes(), typ) {
				if want := fmt.Sprintf("map[n:%d o:<nil> s:%d of %d]", i, i, g); fmt.Sprint(row) != want {
					t.Fatalf("row %v, want %s", row, want)
				}
			}
		}
	}
}

func TestAppendAllocatesNothing(t *testing.T) {
	s := mustSchema(t, parse(t, `object({a = int, s = string, d = decimal(30, 3), at = timestamp_rfc3339, b = bytes, f = float,
		l = list(object({x = int, m = map(string)})), o = optional(object({p = string})), j = any})`))
	event := []byte(`{"a":1,"s":"a\nb","d":123456789012345678901.5,"at":"2024-01-01T00:00:00.5+02:00","b":"AAEC","f":0.12345678901234567,"l":[{"x":1,"m":{"a":"b","c":"d","a":"e"}},{"x":2,"m":{}}],"o":{"p":"q"},"j":{"x":[1]}}`)
	w := NewWriter(io.Discard, s, Options{PageBytes: 1 << 30})
	for range 5000 {
		if err := w.Append(event); err != nil {
			t.Fatal(err)
		}
	}
	for i := range w.columns { // what grows may grow: that is not per event
		c := &w.columns[i]
		c.values, c.defs, c.reps = w.room(c.values, 1<<19), w.room(c.defs, 1<<19), w.room(c.reps, 1<<19)
	}
	if n := testing.AllocsPerRun(1000, func() {
		if err := w.Append(event); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("allocs per event = %v, want 0", n)
	}
}
