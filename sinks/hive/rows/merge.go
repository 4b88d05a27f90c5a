package rows

import (
	"errors"
	"fmt"
	"io"

	"github.com/apache/arrow/go/v15/parquet"
	"github.com/apache/arrow/go/v15/parquet/compress"
	parquetfile "github.com/apache/arrow/go/v15/parquet/file"
	"github.com/apache/arrow/go/v15/parquet/schema"
)

// Part is a whole file whose rows go into another one.
type Part struct{ r *parquetfile.Reader }

// OpenPart opens a file that has size bytes. What is damaged is an error, also where the decoder panics on it.
func OpenPart(r io.ReaderAt, size int64) (p *Part, err error) {
	err = guarded(func() error {
		f, err := parquetfile.NewParquetReader(io.NewSectionReader(r, 0, size))
		p = &Part{f}
		return err
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Columns tells the columns apart: parts with the same text have the same columns, and can be merged.
func (p *Part) Columns() string {
	root := p.r.MetaData().Schema.Root()
	text := ""
	for i := range root.NumFields() {
		text += describe(root.Field(i)) + ";"
	}
	return text
}

// describe has all that a merged file says of a column, and nothing of where it stands.
func describe(n schema.Node) string {
	text := fmt.Sprintf("(%s %v %v %v", n.Name(), n.RepetitionType(), n.LogicalType(), n.ConvertedType())
	if g, ok := n.(*schema.GroupNode); ok {
		for i := range g.NumFields() {
			text += describe(g.Field(i))
		}
	} else if leaf, ok := n.(*schema.PrimitiveNode); ok {
		text += fmt.Sprintf(" %v %d", leaf.PhysicalType(), leaf.TypeLength())
	}
	return text + ")"
}

// Rows counts the rows.
func (p *Part) Rows() int64 { return p.r.NumRows() }

// RowGroups gives the size of each row group before compression.
func (p *Part) RowGroups() []int64 {
	out := make([]int64, p.r.NumRowGroups())
	for i := range out {
		out[i] = p.r.MetaData().RowGroup(i).TotalByteSize()
	}
	return out
}

// Group names a row group of a part.
type Group struct {
	Part  *Part
	Index int
}

// Merger writes a file of the row groups of others, several in one. Memory is that of one column chunk. It is for one goroutine.
type Merger struct {
	w    *parquetfile.Writer
	out  *counted
	rows int64

	def, rep []int16
}

// counted is an output that is not closed, and counts.
type counted struct {
	w io.Writer
	n int64
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// NewMerger makes a merger of files that have the columns of like.
func NewMerger(w io.Writer, like *Part, c Compression) *Merger {
	codec := map[Compression]compress.Compression{Zstd: compress.Codecs.Zstd, Snappy: compress.Codecs.Snappy, None: compress.Codecs.Uncompressed}[c]
	props := parquet.NewWriterProperties(parquet.WithCompression(codec), parquet.WithCreatedBy(createdBy), parquet.WithVersion(parquet.V2_LATEST),
		parquet.WithDataPageSize(PageBytesDefault), parquet.WithStats(true))
	out := &counted{w: w}
	return &Merger{w: parquetfile.NewParquetWriter(out, like.r.MetaData().Schema.Root(), parquetfile.WithWriterProps(props)), out: out}
}

// Written is how many bytes have gone to the output.
func (m *Merger) Written() int64 { return m.out.n }

// Append writes one row group with the rows of several. After an error the file is lost.
func (m *Merger) Append(groups []Group) error {
	return guarded(func() error { return m.append(groups) })
}

func (m *Merger) append(groups []Group) error {
	to := m.w.AppendRowGroup()
	for i := range to.NumColumns() {
		w, err := to.NextColumn()
		if err != nil {
			return err
		}
		for _, g := range groups {
			r, err := g.Part.r.RowGroup(g.Index).Column(i)
			if err != nil {
				return err
			}
			if err := m.column(r, w); err != nil {
				return fmt.Errorf("column %s: %w", w.Descr().Path(), err)
			}
		}
		if err := w.Close(); err != nil {
			return err
		}
	}
	if err := to.Close(); err != nil {
		return err
	}
	for _, g := range groups {
		m.rows += g.Part.r.MetaData().RowGroup(g.Index).NumRows()
	}
	return nil
}

// levelsAtOnce is how many values are on their way from one file to the other.
const levelsAtOnce = 4096

// column copies the values of a column chunk.
func (m *Merger) column(r parquetfile.ColumnChunkReader, w parquetfile.ColumnChunkWriter) error {
	if m.def == nil {
		m.def, m.rep = make([]int16, levelsAtOnce), make([]int16, levelsAtOnce)
	}
	switch r := r.(type) {
	case *parquetfile.BooleanColumnChunkReader:
		return copyValues[bool](m, r, w.(*parquetfile.BooleanColumnChunkWriter))
	case *parquetfile.Int32ColumnChunkReader:
		return copyValues[int32](m, r, w.(*parquetfile.Int32ColumnChunkWriter))
	case *parquetfile.Int64ColumnChunkReader:
		return copyValues[int64](m, r, w.(*parquetfile.Int64ColumnChunkWriter))
	case *parquetfile.Float64ColumnChunkReader:
		return copyValues[float64](m, r, w.(*parquetfile.Float64ColumnChunkWriter))
	case *parquetfile.ByteArrayColumnChunkReader:
		return copyValues[parquet.ByteArray](m, r, w.(*parquetfile.ByteArrayColumnChunkWriter))
	case *parquetfile.FixedLenByteArrayColumnChunkReader:
		return copyValues[parquet.FixedLenByteArray](m, r, w.(*parquetfile.FixedLenByteArrayColumnChunkWriter))
	}
	return fmt.Errorf("values of type %v are not of a file that this program writes", r.Type())
}

type valueReader[T any] interface {
	HasNext() bool
	Err() error
	Descriptor() *schema.Column
	ReadBatch(n int64, values []T, def, rep []int16) (total int64, read int, err error)
}

type valueWriter[T any] interface {
	WriteBatch(values []T, def, rep []int16) (int64, error)
}

func copyValues[T any](m *Merger, r valueReader[T], w valueWriter[T]) error {
	values := make([]T, levelsAtOnce)
	def, rep := m.def, m.rep
	if r.Descriptor().MaxDefinitionLevel() == 0 {
		def = nil
	}
	if r.Descriptor().MaxRepetitionLevel() == 0 {
		rep = nil
	}
	for r.HasNext() {
		n, k, err := r.ReadBatch(levelsAtOnce, values, def, rep)
		if err != nil {
			return err
		}
		if n == 0 {
			return errors.New("it ends early")
		}
		d, p := def, rep
		if d != nil {
			d = d[:n]
		}
		if p != nil {
			p = p[:n]
		}
		if _, err := w.WriteBatch(values[:k], d, p); err != nil {
			return err
		}
	}
	return r.Err()
}

// Close writes the footer. The output is not closed, and not synced.
func (m *Merger) Close(entries ...KeyValue) (stats FileStats, err error) {
	err = guarded(func() error {
		entries = append([]KeyValue{{"writer.date.proleptic", "true"}}, entries...)
		for _, kv := range entries {
			if err := m.w.AppendKeyValueMetadata(kv.Key, kv.Value); err != nil {
				return err
			}
		}
		stats.RowGroups = m.w.NumRowGroups()
		return m.w.Close()
	})
	stats.Rows, stats.Bytes = m.rows, m.out.n
	return stats, err
}

// guarded makes an error of a panic: Arrow's decoder panics on some files that are damaged.
func guarded(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	return f()
}
