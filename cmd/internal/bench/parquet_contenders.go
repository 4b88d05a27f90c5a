package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"strconv"
	"syscall"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet"
	"github.com/apache/arrow/go/v15/parquet/compress"
	"github.com/apache/arrow/go/v15/parquet/file"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"
	"github.com/apache/arrow/go/v15/parquet/schema"

	"keystone/dsl/types"
	"keystone/sinks/hive/rows"
)

// play is a row as a typed program has it.
type play struct {
	user  string
	ts    int64 // ms
	title string
	os    string
	pct   float64
}

// plays makes rows, alike in each process.
func plays(n int) []play {
	r := rand.New(rand.NewPCG(11, 11))
	out := make([]play, n)
	systems := []string{"ios", "android", "tizen", "webos", "roku", "fire os"}
	for i := range out {
		out[i] = play{
			user:  fmt.Sprintf("u%07d", r.IntN(1<<(8+r.IntN(13)))),
			ts:    1_700_000_000_000 + int64(i)*3 + r.Int64N(40),
			title: fmt.Sprintf("t%05d", r.IntN(1<<(4+r.IntN(10)))),
			os:    systems[r.IntN(len(systems))],
			pct:   float64(r.IntN(5_400_000)) / float64((20+r.IntN(100))*60_000) * 100,
		}
	}
	return out
}

func (p play) json() []byte {
	b := fmt.Appendf(nil, `{"user_id":"%s","ts":%d,"title_id":"%s","os":"%s","pct":`, p.user, p.ts, p.title, p.os)
	return append(strconv.AppendFloat(b, p.pct, 'f', -1, 64), '}')
}

const (
	playsDistinct   = 1_000_000 // rows that are made; they come again until there are enough
	parquetRowGroup = 1 << 20
)

func parquetContender(name string, args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	out, err := os.Create(args[2])
	if err != nil {
		return err
	}
	defer out.Close()
	in := plays(min(n, playsDistinct))
	write := func() error { return writeArrow(name, in, n, args[1], out) }
	if name == parquetOurs {
		events := make([][]byte, len(in))
		for i, p := range in {
			events[i] = p.json()
		}
		in = nil
		write = func() error { return writeRows(events, n, rows.Compression(args[1]), out) }
	}
	cpu, begin := cpuTime(), time.Now()
	if err := write(); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(parquetCost{CPU: (cpuTime() - cpu).Seconds(), Wall: time.Since(begin).Seconds()})
}

func cpuTime() time.Duration {
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		panic(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

func writeRows(events [][]byte, n int, c rows.Compression, out *os.File) error {
	t, err := types.Parse("object({user_id = string, ts = timestamp_ms, title_id = string, os = string, pct = float})")
	if err != nil {
		return err
	}
	s, problems := rows.NewSchema(t, rows.SchemaOptions{})
	if problems != nil {
		return fmt.Errorf("schema: %v", problems)
	}
	w := rows.NewWriter(out, s, rows.Options{Compression: c, RowGroupRows: parquetRowGroup})
	for i := range n {
		if err := w.Append(events[i%len(events)]); err != nil {
			return err
		}
	}
	_, err = w.Close()
	return err
}

func writeArrow(name string, in []play, n int, codec string, out *os.File) error {
	c := compress.Codecs.Zstd
	if codec == "snappy" {
		c = compress.Codecs.Snappy
	}
	opts := []parquet.WriterProperty{parquet.WithCompression(c), parquet.WithMaxRowGroupLength(parquetRowGroup)}
	if name != parquetAll { // what pays for these columns, chosen by hand
		opts = append(opts, parquet.WithDictionaryDefault(false), parquet.WithDictionaryFor("os", true), parquet.WithDictionaryFor("title_id", true))
	}
	props := parquet.NewWriterProperties(opts...)
	if name == parquetChunks {
		return writeChunks(in, n, props, out)
	}
	return writeRecords(in, n, props, out)
}

// writeRecords is how Arrow's documentation writes files: a builder, records, a file writer.
func writeRecords(in []play, n int, props *parquet.WriterProperties, out *os.File) error {
	s := arrow.NewSchema([]arrow.Field{
		{Name: "user_id", Type: arrow.BinaryTypes.String}, {Name: "ts", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}},
		{Name: "title_id", Type: arrow.BinaryTypes.String}, {Name: "os", Type: arrow.BinaryTypes.String}, {Name: "pct", Type: arrow.PrimitiveTypes.Float64},
	}, nil)
	w, err := pqarrow.NewFileWriter(s, out, props, pqarrow.DefaultWriterProps())
	if err != nil {
		return err
	}
	b := array.NewRecordBuilder(memory.DefaultAllocator, s)
	defer b.Release()
	user, ts, title, system, pct := b.Field(0).(*array.StringBuilder), b.Field(1).(*array.TimestampBuilder), b.Field(2).(*array.StringBuilder), b.Field(3).(*array.StringBuilder), b.Field(4).(*array.Float64Builder)
	const batch = 64 << 10
	for i := range n {
		p := &in[i%len(in)]
		user.Append(p.user)
		ts.Append(arrow.Timestamp(p.ts * 1000))
		title.Append(p.title)
		system.Append(p.os)
		pct.Append(p.pct)
		if i+1 == n || (i+1)%batch == 0 {
			r := b.NewRecord()
			if err := w.WriteBuffered(r); err != nil {
				return err
			}
			r.Release()
		}
	}
	return w.Close() // closes the file, too
}

// writeChunks is the least that a program can do with Arrow: slices of values, handed to the column writers.
func writeChunks(in []play, n int, props *parquet.WriterProperties, out *os.File) error {
	text := func(name string) schema.Node {
		return schema.MustPrimitive(schema.NewPrimitiveNodeLogical(name, parquet.Repetitions.Required, schema.StringLogicalType{}, parquet.Types.ByteArray, -1, -1))
	}
	root := schema.MustGroup(schema.NewGroupNode("event", parquet.Repetitions.Required, schema.FieldList{
		text("user_id"),
		schema.MustPrimitive(schema.NewPrimitiveNodeLogical("ts", parquet.Repetitions.Required, schema.NewTimestampLogicalType(true, schema.TimeUnitMicros), parquet.Types.Int64, -1, -1)),
		text("title_id"), text("os"), schema.NewFloat64Node("pct", parquet.Repetitions.Required, -1),
	}, -1))
	w := file.NewParquetWriter(out, root, file.WithWriterProps(props))
	const batch = 8 << 10
	var user, title, system []parquet.ByteArray
	var ts []int64
	var pct []float64
	for at := 0; at < n; at += parquetRowGroup {
		group := w.AppendBufferedRowGroup()
		for from, end := at, min(n, at+parquetRowGroup); from < end; from += batch {
			user, ts, title, system, pct = user[:0], ts[:0], title[:0], system[:0], pct[:0]
			for i := from; i < min(from+batch, end); i++ {
				p := &in[i%len(in)]
				user, title, system = append(user, []byte(p.user)), append(title, []byte(p.title)), append(system, []byte(p.os))
				ts, pct = append(ts, p.ts*1000), append(pct, p.pct)
			}
			for c := range 5 {
				column, err := group.Column(c)
				if err != nil {
					return err
				}
				switch c {
				case 0:
					_, err = column.(*file.ByteArrayColumnChunkWriter).WriteBatch(user, nil, nil)
				case 1:
					_, err = column.(*file.Int64ColumnChunkWriter).WriteBatch(ts, nil, nil)
				case 2:
					_, err = column.(*file.ByteArrayColumnChunkWriter).WriteBatch(title, nil, nil)
				case 3:
					_, err = column.(*file.ByteArrayColumnChunkWriter).WriteBatch(system, nil, nil)
				case 4:
					_, err = column.(*file.Float64ColumnChunkWriter).WriteBatch(pct, nil, nil)
				}
				if err != nil {
					return err
				}
			}
		}
		if err := group.Close(); err != nil {
			return err
		}
	}
	return w.Close() // closes the file, too
}

// sameParquet compares files by value, as Arrow reads them.
func sameParquet(paths ...string) error {
	var first arrow.Table
	for _, path := range paths {
		t, err := readParquet(path)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if first == nil {
			first = t
			continue
		}
		if first.NumRows() != t.NumRows() || first.NumCols() != t.NumCols() {
			return fmt.Errorf("%s has %d rows of %d columns, %s %d of %d", paths[0], first.NumRows(), first.NumCols(), path, t.NumRows(), t.NumCols())
		}
		for c := range int(t.NumCols()) {
			a, b := flat(first.Column(c)), flat(t.Column(c))
			if !reflect.DeepEqual(a, b) {
				return fmt.Errorf("%s and %s differ in %s", paths[0], path, t.Column(c).Name())
			}
		}
	}
	return nil
}

func readParquet(path string) (arrow.Table, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return pqarrow.ReadTable(context.Background(), f, parquet.NewReaderProperties(nil), pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
}

// flat gives the values of a column in order.
func flat(c *arrow.Column) (out []any) {
	for _, chunk := range c.Data().Chunks() {
		for i := range chunk.Len() {
			switch a := chunk.(type) {
			case *array.String:
				out = append(out, a.Value(i))
			case *array.Timestamp:
				out = append(out, int64(a.Value(i)))
			case *array.Float64:
				out = append(out, a.Value(i))
			default:
				out = append(out, fmt.Sprintf("%T", chunk))
			}
		}
	}
	return out
}
