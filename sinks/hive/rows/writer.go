package rows

import (
	"errors"
	"fmt"
	"io"
	"math"
)

// Defaults of Options.
const (
	RowGroupBytesDefault = 64 << 20
	RowGroupRowsDefault  = 1 << 20
	PageBytesDefault     = 256 << 10
)

// Options of a writer. The zero value is a file in zstd with the defaults.
type Options struct {
	Compression Compression
	// RowGroupBytes is how much memory a row group may hold, its encoded
	// pages and open ones, before it is written. Engines read a row group at a
	// time, and skip those whose statistics say that they need not.
	RowGroupBytes int
	RowGroupRows  int
	// PageBytes is the size of a page before it is encoded and compressed:
	// what an engine decompresses at once.
	PageBytes int
	Pool      *Pool   // shared with other writers; nil: its own
	Parser    *Parser // of the same schema, shared with other writers of this goroutine; nil: its own
}

func (o Options) withDefaults(s *Schema) Options {
	if o.Compression == "" {
		o.Compression = Zstd
	}
	if o.RowGroupBytes == 0 {
		o.RowGroupBytes = RowGroupBytesDefault
	}
	if o.RowGroupRows == 0 {
		o.RowGroupRows = RowGroupRowsDefault
	}
	if o.PageBytes == 0 {
		o.PageBytes = PageBytesDefault
	}
	if o.Pool == nil {
		o.Pool = NewPool()
	}
	if o.Parser == nil {
		o.Parser = s.NewParser()
	}
	return o
}

// Writer writes one file. It is for one goroutine.
type Writer struct {
	schema  *Schema
	opts    Options
	parser  *Parser
	pool    *Pool
	file    *file
	columns []column

	groupRows int       // rows of the open row group
	rows      int64     // rows of the file
	nulls     []int64   // by column, of the row groups that are written
	bounds    []bounds  // by column, of the row groups that are written
	fault     *RowError // of the event that is being appended
	err       error     // what ended the file
	closed    bool
	full      bool // only Close may write one more row group

	held    int // memory of the columns when it was last counted
	pending int // bytes of events since then
	since   int // rows since then
}

// NewWriter makes a writer of a Parquet file. Nothing is written before the first
// row group is full, and w is never closed.
func NewWriter(w io.Writer, s *Schema, opts Options) *Writer {
	opts = opts.withDefaults(s)
	out := &Writer{schema: s, opts: opts, parser: opts.Parser, pool: opts.Pool, columns: make([]column, len(s.leaves)), file: newFile(w, s, opts.Compression)}
	for i, n := range s.leaves {
		out.columns[i].n, out.columns[i].width = n, n.width()
	}
	out.held = out.count()
	return out
}

// How often the memory is counted and pages are looked at.
const (
	countRows  = 64
	countBytes = 8 << 10
)

// groupsMax is how many row groups a file has: they are counted in 16 bits. Close may write the last of them.
const groupsMax = math.MaxInt16

// ErrFull says that a file has as many row groups as it can: close it and begin another.
// What was taken is still in it; the event that Append got is not.
var ErrFull = errors.New("the file has as many row groups as it can")

// Append takes one event, raw JSON. The error is a *RowError if the event does not fit, and then the
// writer is unchanged; ErrFull if another file is needed for it; any other error is of the output, stays, and means that
// the file is lost.
// The event's memory is not kept.
func (w *Writer) Append(event []byte) error {
	if w.err != nil {
		return w.err
	}
	if w.full && w.over() {
		return ErrFull
	}
	sc := w.parser.scanners[0]
	if err := sc.Scan(event); err != nil {
		return &RowError{Code: CodeJSON, Text: err.Error()}
	}
	for _, n := range w.schema.root.fields {
		if !w.put(n, event, sc.Slots[n.slot], sc.Slots, 0) {
			return w.undo()
		}
	}
	w.groupRows++
	w.pending += len(event)
	if w.since++; w.since >= countRows || w.pending >= countBytes {
		return w.look()
	}
	return nil
}

// undo takes back what an event has left in the columns.
func (w *Writer) undo() error {
	for i := range w.columns {
		if c := &w.columns[i]; c.rows > w.groupRows {
			c.undo()
		}
	}
	err := w.fault
	w.fault = nil
	return err
}

// room gives a buffer with room for n bytes.
func (w *Writer) room(b []byte, n int) []byte {
	if cap(b)-len(b) >= n {
		return b
	}
	return w.pool.grow(b, n)
}

// look closes pages that are full, counts the memory, and writes the row group if it is full.
func (w *Writer) look() error {
	w.since, w.pending = 0, 0
	full := w.opts.PageBytes - w.opts.PageBytes/16 // so that a page mostly fits a buffer of the pool
	var e *encoder
	for i := range w.columns {
		if c := &w.columns[i]; c.pageSize() >= full {
			if e == nil {
				e = w.pool.encoder()
			}
			c.closePage(w, e)
		}
	}
	if e != nil {
		w.pool.release(e)
	}
	w.held = w.count()
	if w.over() && !w.full {
		return w.Flush()
	}
	return nil
}

// over tells that the open row group has reached a bound.
func (w *Writer) over() bool {
	return w.held >= w.opts.RowGroupBytes || w.groupRows >= w.opts.RowGroupRows
}

// What a column takes beside its buffers, and what the footer will say of each chunk that is written.
const (
	columnBytes = 512
	chunkBytes  = 600
)

func (w *Writer) count() int {
	n := len(w.columns) * (columnBytes + w.file.groups*chunkBytes)
	for i := range w.columns {
		n += w.columns[i].held()
	}
	return n
}

// Rows is how many events the file has, those in memory with it.
func (w *Writer) Rows() int64 { return w.rows + int64(w.groupRows) }

// Written is how many bytes have gone to the output.
func (w *Writer) Written() int64 { return w.file.at }

// OpenBytes is the memory that the writer holds, for a bound over all open files: Flush and Close free it.
func (w *Writer) OpenBytes() int { return w.held + w.pending }

// RowGroups is how many row groups are written.
func (w *Writer) RowGroups() int { return w.file.groups }

// Flush writes what is in memory as a row group. Small row groups make slow
// files: it is for when memory is short.
func (w *Writer) Flush() error {
	if w.err == nil && w.groupRows > 0 && w.full {
		return ErrFull
	}
	return w.flush()
}

func (w *Writer) flush() error {
	if w.err != nil || w.groupRows == 0 {
		return w.err
	}
	e := w.pool.encoder()
	for i := range w.columns {
		w.columns[i].closePage(w, e)
	}
	if w.err = w.file.rowGroup(w.columns, w.groupRows, e); w.err != nil {
		w.err = fmt.Errorf("write a row group: %w", w.err)
		w.drop()
		return w.err
	}
	w.pool.release(e)
	if w.bounds == nil {
		w.bounds, w.nulls = make([]bounds, len(w.columns)), make([]int64, len(w.columns))
	}
	for i := range w.columns {
		c := &w.columns[i]
		w.bounds[i].merge(c.n, &c.bounds)
		w.nulls[i] += int64(c.nulls)
		c.reset()
	}
	w.full = w.file.groups >= groupsMax-1
	w.rows += int64(w.groupRows)
	w.groupRows, w.since, w.pending = 0, 0, 0
	w.held = w.count()
	return nil
}

// drop gives back all memory.
func (w *Writer) drop() {
	for i := range w.columns {
		c := &w.columns[i]
		w.pool.put(c.values)
		w.pool.put(c.defs)
		w.pool.put(c.reps)
		*c = column{n: c.n, width: c.width}
	}
	w.held, w.pending = 0, 0
}

// Close writes what is in memory and the file's footer, in which metadata has what
// the caller knows of the file, such as the range of events that are in it. The
// output is not closed, and not synced.
func (w *Writer) Close(metadata ...KeyValue) (FileStats, error) {
	if w.closed {
		return FileStats{}, errors.New("the file is closed already")
	}
	w.closed = true
	err := w.flush()
	if err == nil {
		if err = w.file.close(metadata); err != nil {
			err = fmt.Errorf("write the footer: %w", err)
		}
	}
	if err != nil {
		w.Abort()
		return FileStats{}, err
	}
	stats := w.stats()
	w.Abort()
	return stats, nil
}

// Abort gives back the memory of a file that is not wanted. What is written of it has no footer.
func (w *Writer) Abort() {
	w.drop()
	w.groupRows = 0
	w.closed = true
	if w.err == nil {
		w.err = errors.New("the file is closed")
	}
}

// KeyValue is an entry of a file's metadata.
type KeyValue struct{ Key, Value string }

// FileStats is what a finished file has.
type FileStats struct {
	Rows      int64
	Bytes     int64
	RowGroups int
	Columns   []ColumnStats // one per column of the file, the leaves of nested ones
}

// ColumnStats is what a column of a file has. Min and Max are as events have
// such values: digits, RFC 3339, base64 for bytes. They are nil where the column is all null, and
// for text of more than 512 bytes.
type ColumnStats struct {
	Path     string
	Nulls    int64
	Min, Max *string
}

func (w *Writer) stats() FileStats {
	s := FileStats{Rows: w.rows, Bytes: w.file.at, RowGroups: w.file.groups, Columns: make([]ColumnStats, len(w.columns))}
	for i, n := range w.schema.leaves {
		c := &s.Columns[i]
		c.Path = n.path
		if w.bounds != nil {
			c.Nulls = w.nulls[i]
			c.Min, c.Max = w.bounds[i].text(n)
		}
	}
	return s
}
