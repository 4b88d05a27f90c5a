package rows

import (
	"bytes"
	"context"
	stdjson "encoding/json"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	parquet "github.com/apache/arrow/go/v15/parquet/file"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"

	"keystone/dsl/types"
)

// readBack gives the rows of a file as Arrow reads them, in the form of worth.
func readBack(t *testing.T, data []byte, typ types.Type) []any {
	t.Helper()
	f, err := parquet.NewParquetReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	r, err := pqarrow.NewFileReader(f, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
	if err != nil {
		t.Fatal(err)
	}
	table, err := r.ReadTable(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer table.Release()
	out := make([]any, table.NumRows())
	for i := range out {
		out[i] = map[string]any{}
	}
	for c := range int(table.NumCols()) {
		name, at := table.Schema().Field(c).Name, 0
		f, _ := typ.Field(name)
		for _, chunk := range table.Column(c).Data().Chunks() {
			for i := range chunk.Len() {
				out[at].(map[string]any)[name] = cell(t, f.Type, chunk, i)
				at++
			}
		}
	}
	return out
}

func cell(t *testing.T, typ types.Type, a arrow.Array, i int) any {
	if a.IsNull(i) {
		return nil
	}
	switch a := a.(type) {
	case *array.Boolean:
		return a.Value(i)
	case *array.Int64:
		return a.Value(i)
	case *array.Float64:
		return a.Value(i)
	case *array.Decimal128:
		return a.Value(i).BigInt().String()
	case *array.Timestamp:
		if a.DataType().(*arrow.TimestampType).Unit != arrow.Microsecond {
			t.Fatalf("unit of %s", a.DataType())
		}
		return int64(a.Value(i))
	case *array.Date32:
		return int64(a.Value(i))
	case *array.String:
		if s := a.Value(i); typ.Kind != types.Any {
			return s
		}
		d := stdjson.NewDecoder(strings.NewReader(a.Value(i)))
		d.UseNumber()
		var v any
		if err := d.Decode(&v); err != nil {
			t.Fatal(err)
		}
		return v
	case *array.Binary:
		return string(a.Value(i))
	case *array.Map: // before List, which it is, too
		from, to := a.ValueOffsets(i)
		m := map[string]any{}
		for j := from; j < to; j++ {
			key := a.Keys().(*array.String).Value(int(j))
			if _, twice := m[key]; twice {
				t.Fatalf("key %q twice in a map", key)
			}
			m[key] = cell(t, *typ.Elem, a.Items(), int(j))
		}
		return m
	case *array.List:
		from, to := a.ValueOffsets(i)
		l := make([]any, 0, to-from)
		for j := from; j < to; j++ {
			l = append(l, cell(t, *typ.Elem, a.ListValues(), int(j)))
		}
		return l
	case *array.Struct:
		m := map[string]any{}
		for j := range a.NumField() {
			name := a.DataType().(*arrow.StructType).Field(j).Name
			f, _ := typ.Field(name)
			m[name] = cell(t, f.Type, a.Field(j), i)
		}
		return m
	}
	t.Fatalf("no such array: %T", a)
	return nil
}
