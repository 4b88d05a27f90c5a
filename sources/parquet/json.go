package parquet

import (
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"

	"keystone/dsl/types"
	"keystone/pipeline/json"
)

// writer appends the JSON of value i of a column.
type writer func(dst []byte, i int) []byte

// column makes the writer of an array. t is what the event declares for it, which decides how
// times are written: as a number of milliseconds or as text.
func column(a arrow.Array, t types.Type) (writer, error) {
	w, err := values(a, t)
	if err != nil || a.NullN() == 0 {
		return w, err
	}
	return func(dst []byte, i int) []byte {
		if a.IsNull(i) {
			return append(dst, "null"...)
		}
		return w(dst, i)
	}, nil
}

func values(a arrow.Array, t types.Type) (writer, error) {
	switch a := a.(type) {
	case *array.Null:
		return func(dst []byte, _ int) []byte { return append(dst, "null"...) }, nil
	case *array.Boolean:
		return func(dst []byte, i int) []byte { return strconv.AppendBool(dst, a.Value(i)) }, nil
	case *array.Int8:
		return integer(a.Int8Values()), nil
	case *array.Int16:
		return integer(a.Int16Values()), nil
	case *array.Int32:
		return integer(a.Int32Values()), nil
	case *array.Int64:
		return integer(a.Int64Values()), nil
	case *array.Uint8:
		return integer(a.Uint8Values()), nil
	case *array.Uint16:
		return integer(a.Uint16Values()), nil
	case *array.Uint32:
		return integer(a.Uint32Values()), nil
	case *array.Uint64:
		return func(dst []byte, i int) []byte { return strconv.AppendUint(dst, a.Value(i), 10) }, nil
	case *array.Float32:
		return func(dst []byte, i int) []byte { return float(dst, float64(a.Value(i)), 32) }, nil
	case *array.Float64:
		return func(dst []byte, i int) []byte { return float(dst, a.Value(i), 64) }, nil
	case *array.String:
		return func(dst []byte, i int) []byte { return json.AppendString(dst, []byte(a.Value(i))) }, nil
	case *array.LargeString:
		return func(dst []byte, i int) []byte { return json.AppendString(dst, []byte(a.Value(i))) }, nil
	case *array.Binary:
		return bytesWriter(a.Value, t), nil
	case *array.LargeBinary:
		return bytesWriter(a.Value, t), nil
	case *array.FixedSizeBinary:
		return bytesWriter(a.Value, t), nil
	case *array.Decimal128:
		scale := a.DataType().(*arrow.Decimal128Type).Scale
		return func(dst []byte, i int) []byte { return append(dst, a.Value(i).ToString(scale)...) }, nil
	case *array.Decimal256:
		scale := a.DataType().(*arrow.Decimal256Type).Scale
		return func(dst []byte, i int) []byte { return append(dst, a.Value(i).ToString(scale)...) }, nil
	case *array.Date32:
		return func(dst []byte, i int) []byte { return moment(dst, a.Value(i).ToTime(), t, types.Date) }, nil
	case *array.Date64:
		return func(dst []byte, i int) []byte { return moment(dst, a.Value(i).ToTime(), t, types.Date) }, nil
	case *array.Timestamp:
		unit := a.DataType().(*arrow.TimestampType).Unit
		return func(dst []byte, i int) []byte { return moment(dst, a.Value(i).ToTime(unit), t, types.TimestampRFC3339) }, nil
	case *array.Dictionary:
		w, err := column(a.Dictionary(), t)
		return func(dst []byte, i int) []byte { return w(dst, a.GetValueIndex(i)) }, err
	case *array.Map: // before List, which it is
		return mapWriter(a, t)
	case *array.List:
		return listWriter(a, a.ListValues(), t)
	case *array.LargeList:
		return listWriter(a, a.ListValues(), t)
	case *array.FixedSizeList:
		return listWriter(a, a.ListValues(), t)
	case *array.Struct:
		return structWriter(a, t)
	}
	return nil, fmt.Errorf("its type %s has no form in JSON that is known here", a.DataType())
}

func integer[N int8 | int16 | int32 | int64 | uint8 | uint16 | uint32](values []N) writer {
	return func(dst []byte, i int) []byte { return strconv.AppendInt(dst, int64(values[i]), 10) }
}

// float writes what JSON has no number for as null.
func float(dst []byte, f float64, bits int) []byte {
	switch {
	case math.IsNaN(f) || math.IsInf(f, 0):
		return append(dst, "null"...)
	case bits == 64:
		return json.AppendFloat(dst, f)
	}
	return strconv.AppendFloat(dst, f, 'g', -1, bits)
}

// bytesWriter writes bytes as base64 where the event declares bytes or nothing, and as text where it
// declares a string: older writers of Parquet leave out that a column is text.
func bytesWriter(value func(int) []byte, t types.Type) writer {
	if t.Kind == types.String {
		return func(dst []byte, i int) []byte { return json.AppendString(dst, value(i)) }
	}
	return func(dst []byte, i int) []byte {
		dst = append(dst, '"')
		dst = base64.StdEncoding.AppendEncode(dst, value(i))
		return append(dst, '"')
	}
}

// moment writes a time in the form that the event declares, else in that of its column.
func moment(dst []byte, at time.Time, t types.Type, own types.Kind) []byte {
	kind := t.Kind
	if !t.IsTime() {
		kind = own
	}
	at = at.UTC()
	switch kind {
	case types.TimestampMs:
		return strconv.AppendInt(dst, at.UnixMilli(), 10)
	case types.Date:
		return at.AppendFormat(dst, `"2006-01-02"`)
	}
	return at.AppendFormat(dst, `"2006-01-02T15:04:05.999999999Z07:00"`)
}

type lister interface{ ValueOffsets(int) (int64, int64) }

func listWriter(a lister, elems arrow.Array, t types.Type) (writer, error) {
	elem := types.Type{}
	if t.Kind == types.List {
		elem = *t.Elem
	}
	w, err := column(elems, elem)
	return func(dst []byte, i int) []byte {
		from, to := a.ValueOffsets(i)
		dst = append(dst, '[')
		for j := from; j < to; j++ {
			if j > from {
				dst = append(dst, ',')
			}
			dst = w(dst, int(j))
		}
		return append(dst, ']')
	}, err
}

func mapWriter(a *array.Map, t types.Type) (writer, error) {
	elem := types.Type{}
	if t.Kind == types.Map {
		elem = *t.Elem
	}
	keys, err := column(a.Keys(), types.Type{Kind: types.String})
	if err != nil {
		return nil, err
	}
	items, err := column(a.Items(), elem)
	return func(dst []byte, i int) []byte {
		from, to := a.ValueOffsets(i)
		dst = append(dst, '{')
		for j := from; j < to; j++ {
			if j > from {
				dst = append(dst, ',')
			}
			at := len(dst)
			if dst = keys(dst, int(j)); dst[at] != '"' { // a name is text
				name := append([]byte{'"'}, dst[at:]...)
				dst = append(append(dst[:at], name...), '"')
			}
			dst = items(append(dst, ':'), int(j))
		}
		return append(dst, '}')
	}, err
}

func structWriter(a *array.Struct, t types.Type) (writer, error) {
	fields := a.DataType().(*arrow.StructType).Fields()
	row, err := object(fields, a.Field, t)
	return row, err
}

// object makes the writer of objects whose fields are columns.
func object(fields []arrow.Field, col func(int) arrow.Array, t types.Type) (writer, error) {
	names := make([][]byte, len(fields))
	writers := make([]writer, len(fields))
	for i, f := range fields {
		name, typ := f.Name, types.Type{}
		if declared, ok := field(t, f.Name); ok {
			name, typ = declared.Name, declared.Type
		}
		names[i] = append(json.AppendString(nil, []byte(name)), ':')
		w, err := column(col(i), typ)
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", f.Name, err)
		}
		writers[i] = w
	}
	return func(dst []byte, i int) []byte {
		dst = append(dst, '{')
		for j, w := range writers {
			if j > 0 {
				dst = append(dst, ',')
			}
			dst = w(append(dst, names[j]...), i)
		}
		return append(dst, '}')
	}, nil
}

// field finds what the event declares for a column: Hive and others keep names in lower case only.
func field(t types.Type, name string) (types.Field, bool) {
	if t.Kind != types.Object {
		return types.Field{}, false
	}
	if f, ok := t.Field(name); ok {
		return f, true
	}
	for _, f := range t.Fields {
		if strings.EqualFold(f.Name, name) {
			return f, true
		}
	}
	return types.Field{}, false
}
