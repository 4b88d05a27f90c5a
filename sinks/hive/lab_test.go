package hive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	parquet "github.com/apache/arrow/go/v15/parquet/file"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"

	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/dsl/types"
	"keystone/pipeline/record"
	"keystone/sinks"
	"keystone/sinks/hive/rows"
	"keystone/sources/hive/storage"
)

var eventType = types.ObjectOf(
	types.Field{Name: "id", Type: types.IntType},
	types.Field{Name: "day", Type: types.StringType},
	types.Field{Name: "ts", Type: types.TimestampMsType, Optional: true},
	types.Field{Name: "pad", Type: types.StringType, Optional: true},
)

// testConfig is what blocks of tests declare.
func testConfig(t testing.TB, change func(*Config)) Config {
	t.Helper()
	var c Config
	opts := c.Options()
	for _, d := range spec.Decode(opts, spec.Body{Attrs: map[string]spec.Attr{"location": {Value: "unused"}}}) {
		t.Fatal(d)
	}
	c.PartitionBy = []spec.Field{{Name: "dt", Expr: diag.Text{S: "day"}}}
	c.Compression = rows.Snappy
	if change != nil {
		change(&c)
	}
	if ds := c.Check(); len(ds) > 0 {
		t.Fatal(ds)
	}
	return c
}

func testSink(t testing.TB, st storage.Store, c Config) *Sink {
	t.Helper()
	made, err := c.New(sinks.Deps{Route: "route.r", ID: "keystone.default.default.route.r", Type: eventType})
	if err != nil {
		t.Fatal(err)
	}
	s := made.(*Sink)
	s.scratch.in = t.TempDir()
	s.place = func(context.Context) (storage.Store, error) { return kept{st}, nil }
	if a, ok := st.(storage.Appender); ok {
		s.place = func(context.Context) (storage.Store, error) { return keptAppender{a}, nil }
	}
	s.slots = make(chan struct{}, 1) // one operation after the other
	return s
}

// kept is a store that outlives the sink.
type kept struct{ storage.Store }

func (kept) Close() error { return nil }

type keptAppender struct{ storage.Appender }

func (keptAppender) Close() error { return nil }

// position is in the one source of the tests.
func position(part int32, offset int64) record.Position {
	return record.Position{Partition: part, Offset: offset, LeaderEpoch: -1, Identity: "b3BhcXVl/w", Cluster: "c", Name: "plays"}
}

// day of a record; some have none.
func day(offset int64) []byte {
	if offset%7 == 6 {
		return nil
	}
	return fmt.Appendf(nil, "2026:01/%d", offset%3)
}

func event(part int32, offset int64) []byte {
	return fmt.Appendf(nil, `{"id":%d,"day":%q,"ts":%d,"pad":"%s"}`, int64(part)*1_000_000+offset, day(offset), 1_700_000_000_000+offset, strings.Repeat("x", int(offset%5)*10))
}

func batchOf(part int32, from, to int64) *record.Batch {
	b := &record.Batch{Topic: "plays", Partition: part, Next: position(part, to)}
	for o := from; o < to; o++ {
		v := event(part, o)
		b.Records = append(b.Records, record.Record{Offset: o, Value: v, Derived: [][]byte{day(o)}, Source: int32(len(b.Records))})
		b.Bytes += len(v)
	}
	return b
}

// put writes a batch and gives the answer.
func put(ctx context.Context, s *Sink, b *record.Batch) error {
	answer := make(chan error, 1)
	s.Write(ctx, b, func(err error) { answer <- err })
	return <-answer
}

// life runs a sink as a worker does, until all of each partition is durable, or it fails. Every few records are
// cut.
func life(ctx context.Context, s *Sink, parts int32, total, every int64) error {
	defer s.Close(context.WithoutCancel(ctx)) //nolint:errcheck // what is durable is what counts
	if err := s.Open(ctx); err != nil {
		return err
	}
	next := make([]int64, parts)
	for p := range parts {
		for {
			at, err := s.Begin(ctx, position(p, 0))
			if err == nil {
				next[p] = at.Offset
				break
			}
			if sinks.IsPermanent(err) || ctx.Err() != nil {
				return err
			}
			pause(ctx)
		}
	}
	for ctx.Err() == nil {
		var at []record.Position
		for p := range parts {
			end := min(next[p]+every, total)
			if next[p] == end {
				continue
			}
			for {
				half := (next[p] + end + 1) / 2
				err := put(ctx, s, batchOf(p, next[p], half))
				if err == nil {
					next[p] = half
				} else if sinks.IsPermanent(err) || ctx.Err() != nil || errors.Is(err, sinks.ErrFenced) {
					return err
				} else {
					pause(ctx)
				}
				if half == end {
					break
				}
			}
			at = append(at, position(p, end))
		}
		if len(at) == 0 {
			break
		}
		s.Cut(at)
	}
	var all []int32
	for p := range parts {
		all = append(all, p)
	}
	if err := s.Settle(ctx, all); err != nil {
		return err
	}
	at, err := s.Durable()
	if err != nil {
		return err
	}
	for _, p := range at {
		if p.Offset != total {
			return fmt.Errorf("partition %d is durable up to %d, want %d", p.Partition, p.Offset, total)
		}
	}
	return ctx.Err()
}

func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(100 * time.Millisecond):
	}
}

// shown reads the table as readers of the folder do: every whole file that is not hidden.
func shown(t testing.TB, st storage.Store) []int64 {
	t.Helper()
	var ids []int64
	for i, err := range st.List(context.Background(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(i.Name, "_") {
			continue
		}
		if !strings.HasSuffix(i.Name, ".parquet") || strings.Contains("/"+i.Name, "/.") {
			t.Fatalf("readers see %s", i.Name)
		}
		b, err := st.Get(context.Background(), i.Name)
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range idsOf(t, i.Name, b) {
			want := "dt=" + storage.DefaultPartition
			if d := day(id % 1_000_000); d != nil {
				want = string(storage.AppendPartition(nil, "dt", d))
			}
			if dirOf(i.Name) != want {
				t.Fatalf("%s has row %d, which belongs to %s", i.Name, id, want)
			}
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	for i := 1; i < len(ids); i++ {
		if ids[i] == ids[i-1] {
			t.Fatalf("row %d is there twice", ids[i])
		}
	}
	return ids
}

func idsOf(t testing.TB, name string, b []byte) []int64 {
	t.Helper()
	f, err := parquet.NewParquetReader(bytes.NewReader(b))
	if err != nil {
		t.Fatalf("%s is no whole file: %v", name, err)
	}
	defer f.Close() //nolint:errcheck // only read
	r, err := pqarrow.NewFileReader(f, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
	if err != nil {
		t.Fatal(err)
	}
	table, err := r.ReadTable(context.Background())
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	defer table.Release()
	var ids []int64
	for _, chunk := range table.Column(0).Data().Chunks() {
		ids = append(ids, chunk.(*array.Int64).Int64Values()...)
	}
	return ids
}

// expect wants exactly the input.
func expect(t testing.TB, st storage.Store, parts int32, total int64) {
	t.Helper()
	ids := shown(t, st)
	var want []int64
	for p := range parts {
		for o := range total {
			want = append(want, int64(p)*1_000_000+o)
		}
	}
	if !slices.Equal(ids, want) {
		missing := 0
		for _, id := range want {
			if _, ok := slices.BinarySearch(ids, id); !ok {
				missing++
			}
		}
		t.Fatalf("the table has %d rows, want %d; %d are missing", len(ids), len(want), missing)
	}
}
