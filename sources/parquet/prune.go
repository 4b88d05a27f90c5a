package parquet

import (
	"bytes"
	"cmp"
	"math"
	"strings"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/parquet/metadata"
	"github.com/apache/arrow/go/v15/parquet/schema"

	"keystone/pipeline/record"
)

// mayHold tells whether any row of a row group can be one for which all bounds hold,
// by the statistics in the file's footer. Where these say nothing, it can.
func mayHold(m *metadata.FileMetaData, group int, bounds []record.Bound) bool {
	rg := m.RowGroup(group)
	for _, b := range bounds {
		i := leaf(m.Schema, b.Path)
		if i < 0 {
			continue
		}
		chunk, err := rg.ColumnChunk(i)
		if err != nil {
			continue
		}
		if set, err := chunk.StatsSet(); err != nil || !set {
			continue
		}
		stats, err := chunk.Statistics()
		if err != nil || stats == nil {
			continue
		}
		if stats.HasNullCount() && stats.NullCount() == rg.NumRows() {
			return false // a bound holds for no nil
		}
		if !stats.HasMinMax() {
			continue
		}
		if least, most, ok := extremes(stats, m.Schema.Column(i)); ok && !within(b, least, most) {
			return false
		}
	}
	return true
}

// leaf gives the column of a path through objects, -1 if there is none.
func leaf(s *schema.Schema, path []string) int {
	name := strings.Join(path, ".")
	if i := s.ColumnIndexByName(name); i >= 0 {
		return i
	}
	for i := range s.NumColumns() {
		if strings.EqualFold(s.Column(i).Path(), name) {
			return i
		}
	}
	return -1
}

// extremes gives the least and the greatest value as an expression sees them: int64, float64, string, bool, time.Time.
func extremes(stats metadata.TypedStatistics, col *schema.Column) (least, most any, ok bool) {
	if col.MaxRepetitionLevel() > 0 {
		return nil, nil, false
	}
	logical := col.LogicalType()
	switch s := stats.(type) {
	case *metadata.Int32Statistics:
		switch logical.(type) {
		case schema.DateLogicalType:
			return arrow.Date32(s.Min()).ToTime(), arrow.Date32(s.Max()).ToTime(), true
		case schema.NoLogicalType, *schema.IntLogicalType, schema.IntLogicalType:
			return int64(s.Min()), int64(s.Max()), signed(logical)
		}
	case *metadata.Int64Statistics:
		switch l := logical.(type) {
		case schema.TimestampLogicalType:
			return instant(s.Min(), l), instant(s.Max(), l), true
		case *schema.TimestampLogicalType:
			return instant(s.Min(), *l), instant(s.Max(), *l), true
		case schema.NoLogicalType, *schema.IntLogicalType, schema.IntLogicalType:
			return s.Min(), s.Max(), signed(logical)
		}
	case *metadata.Float64Statistics:
		return s.Min(), s.Max(), !math.IsNaN(s.Min()) && !math.IsNaN(s.Max())
	case *metadata.BooleanStatistics:
		return s.Min(), s.Max(), true
	case *metadata.ByteArrayStatistics:
		if _, text := logical.(schema.StringLogicalType); text {
			return string(bytes.Clone(s.Min())), string(bytes.Clone(s.Max())), true
		}
	}
	return nil, nil, false
}

func signed(l schema.LogicalType) bool {
	switch l := l.(type) {
	case *schema.IntLogicalType:
		return l.IsSigned()
	case schema.IntLogicalType:
		return l.IsSigned()
	}
	return true
}

func instant(n int64, l schema.TimestampLogicalType) time.Time {
	switch l.TimeUnit() {
	case schema.TimeUnitMillis:
		return time.UnixMilli(n).UTC()
	case schema.TimeUnitMicros:
		return time.UnixMicro(n).UTC()
	}
	return time.Unix(0, n).UTC()
}

// within tells whether a bound can hold for a value between least and most.
// Where they cannot be compared with what the bound says, it can.
func within(b record.Bound, least, most any) bool {
	for _, v := range b.Values {
		lo, ok1 := compare(least, v)
		hi, ok2 := compare(most, v)
		if !ok1 || !ok2 {
			return true
		}
		switch b.Op {
		case "=", "in":
			if lo <= 0 && hi >= 0 {
				return true
			}
		case "<":
			if lo < 0 {
				return true
			}
		case "<=":
			if lo <= 0 {
				return true
			}
		case ">":
			if hi > 0 {
				return true
			}
		case ">=":
			if hi >= 0 {
				return true
			}
		default:
			return true
		}
	}
	return len(b.Values) == 0
}

// exact is the largest whole number up to which float64 has all.
const exact = 1 << 53

func compare(a, b any) (int, bool) {
	switch a := a.(type) {
	case int64:
		switch b := b.(type) {
		case int64:
			return cmp.Compare(a, b), true
		case float64:
			return cmp.Compare(float64(a), b), a > -exact && a < exact
		}
	case float64:
		switch b := b.(type) {
		case float64:
			return cmp.Compare(a, b), true
		case int64:
			return cmp.Compare(a, float64(b)), b > -exact && b < exact
		}
	case string:
		if b, ok := b.(string); ok {
			return strings.Compare(a, b), true
		}
	case bool:
		if b, ok := b.(bool); ok {
			return cmp.Compare(bit(a), bit(b)), true
		}
	case time.Time:
		if b, ok := b.(time.Time); ok {
			return a.Compare(b), true
		}
	}
	return 0, false
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}
