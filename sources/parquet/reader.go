package parquet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet/file"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"

	"keystone/dsl/types"
	"keystone/pipeline/json"
	"keystone/pipeline/record"
	"keystone/sources/hive/storage"
)

// rowsAtOnce is how many rows are decoded together.
const rowsAtOnce = 4096

// reader reads the rows of one file from one of them on.
type reader struct {
	f     *File
	place Place
	scan  record.Scan
	typ   types.Type
	time  string // the column of event time; "" for none

	object storage.Object
	pf     *file.Reader
	fr     *pqarrow.FileReader
	cols   []int  // leaves that are read; none: rows have only partition columns
	keys   []byte // ,"dt":"2026-01-01" of the partition columns

	group  int   // that is read, or will be
	row    int64 // of the next row, in the file
	end    int64 // of the group that is read: its first row that is not in it
	rows   records
	now    arrow.Record
	at     int // row of now
	render writer
	stamp  func(int) int64 // event time of a row of now, in ms

	pruned int64 // rows of row groups that were left out
}

// records is a sequence of decoded rows.
type records interface {
	Next() bool
	Record() arrow.Record
	Err() error
	Release()
}

func newReader(ctx context.Context, s *source, f *File, row int64) (*reader, error) {
	r := &reader{f: f, place: s.places[f.Place], scan: s.scan, typ: s.typ, time: s.eventTime, row: row}
	var err error
	if r.pf, r.object, err = open(ctx, r.place, f); err != nil {
		return nil, err
	}
	err = guard(func() (err error) {
		r.fr, err = pqarrow.NewFileReader(r.pf, pqarrow.ArrowReadProperties{BatchSize: rowsAtOnce}, memory.DefaultAllocator)
		return err
	})
	if err != nil {
		return nil, errors.Join(r.damaged(err), r.close())
	}
	r.columns()
	return r, nil
}

func (r *reader) damaged(err error) error {
	return &damagedError{r.f.Name, r.place.Store.String(), err}
}

// columns chooses what is read.
func (r *reader) columns() {
	s := r.pf.MetaData().Schema
	have := map[string]bool{}
	for i := range s.NumColumns() {
		root := s.Column(i).ColumnPath()[0]
		have[strings.ToLower(root)] = true
		if r.wants(root) {
			r.cols = append(r.cols, i)
		}
	}
	for _, k := range r.f.Keys {
		if have[strings.ToLower(k.Name)] || !r.wants(k.Name) {
			continue
		}
		name, typ := k.Name, types.Type{}
		if f, ok := field(r.typ, k.Name); ok {
			name, typ = f.Name, f.Type
		}
		r.keys = append(r.keys, ',')
		r.keys = append(json.AppendString(r.keys, []byte(name)), ':')
		r.keys = k.append(r.keys, typ)
	}
}

func (r *reader) wants(column string) bool {
	return r.scan.All || strings.EqualFold(column, r.time) ||
		slices.ContainsFunc(r.scan.Fields, func(f string) bool { return strings.EqualFold(f, column) })
}

// next decodes more rows if there are none; false: the file is read to its end.
func (r *reader) next(ctx context.Context) (bool, error) {
	for r.now == nil || r.at >= int(r.now.NumRows()) {
		if r.now != nil {
			r.at -= int(r.now.NumRows())
			r.now = nil
		}
		if r.rows == nil {
			ok, err := r.nextGroup(ctx)
			if !ok || err != nil {
				return false, err
			}
			continue
		}
		var more bool
		err := guard(func() error {
			more = r.rows.Next()
			if !more {
				if err := r.rows.Err(); err != nil && !errors.Is(err, io.EOF) {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return false, r.failed(err)
		}
		if !more {
			r.rows.Release()
			r.rows, r.row, r.at = nil, r.end, 0
			r.group++
			continue
		}
		if err := r.take(r.rows.Record()); err != nil {
			return false, err
		}
	}
	return true, nil
}

// failed tells what reading again may mend from what it cannot.
func (r *reader) failed(err error) error {
	var probe [1]byte
	if _, e := r.object.ReadAt(probe[:], 0); e != nil && !errors.Is(e, io.EOF) {
		return fmt.Errorf("read %s in %s: %w", r.f.Name, r.place.Store, errors.Join(err, e))
	}
	return r.damaged(err)
}

// nextGroup begins with the next row group that may hold rows that pass.
func (r *reader) nextGroup(ctx context.Context) (bool, error) {
	m := r.pf.MetaData()
	var first int64
	for i := range r.group {
		first += m.RowGroup(i).NumRows()
	}
	for ; r.group < len(m.RowGroups); r.group++ {
		n := m.RowGroup(r.group).NumRows()
		if first+n <= r.row {
			first += n
			continue
		}
		if !mayHold(m, r.group, r.scan.Bounds) {
			r.pruned += first + n - max(r.row, first)
			first += n
			r.row = first
			continue
		}
		r.end = first + n
		if len(r.cols) == 0 {
			return r.bare(first, n)
		}
		var err error
		if e := guard(func() error {
			r.rows, err = r.fr.GetRecordReader(ctx, r.cols, []int{r.group})
			return err
		}); e != nil {
			return false, r.failed(e)
		}
		r.row = max(r.row, first)
		r.at = int(r.row - first) // rows of the group to pass over; take counts them down
		return true, nil
	}
	return false, nil
}

// bare makes rows of partition columns alone.
func (r *reader) bare(first, n int64) (bool, error) {
	skip := max(r.row, first) - first
	empty := array.NewRecord(arrow.NewSchema(nil, nil), nil, n)
	rows, err := array.NewRecordReader(empty.Schema(), []arrow.Record{empty})
	if err != nil {
		return false, r.damaged(err)
	}
	r.rows, r.row, r.at = rows, first+skip, int(skip)
	return true, nil
}

// take begins with decoded rows, of which r.at are to be passed over.
func (r *reader) take(rec arrow.Record) error {
	if n := int(rec.NumRows()); r.at >= n {
		r.at -= n
		return nil
	}
	r.now = rec
	render, err := object(rec.Schema().Fields(), rec.Column, r.typ)
	if err != nil {
		return r.damaged(err)
	}
	r.render, r.stamp = render, nil
	for i, f := range rec.Schema().Fields() {
		if r.time != "" && strings.EqualFold(f.Name, r.time) {
			r.stamp = stamps(rec.Column(i))
		}
	}
	return nil
}

// stamps gives the event time of rows; nil where the column holds none.
func stamps(a arrow.Array) func(int) int64 {
	value := func(int) int64 { return 0 }
	switch a := a.(type) {
	case *array.Timestamp:
		unit := a.DataType().(*arrow.TimestampType).Unit
		value = func(i int) int64 { return a.Value(i).ToTime(unit).UnixMilli() }
	case *array.Date32:
		value = func(i int) int64 { return a.Value(i).ToTime().UnixMilli() }
	case *array.Int64:
		value = a.Value
	default:
		return nil
	}
	return func(i int) int64 {
		if a.IsNull(i) {
			return 0
		}
		return value(i)
	}
}

// append writes the row at r.at.
func (r *reader) append(dst []byte) []byte {
	start := len(dst)
	dst = r.render(dst, r.at)
	if len(r.keys) == 0 {
		return dst
	}
	keys := r.keys
	if len(dst) == start+2 { // {}
		keys = keys[1:]
	}
	dst = append(dst[:len(dst)-1], keys...)
	return append(dst, '}')
}

func (r *reader) close() error {
	if r.rows != nil {
		r.rows.Release()
		r.rows = nil
	}
	if r.object == nil {
		return nil
	}
	err := r.object.Close()
	r.object = nil
	return err
}
