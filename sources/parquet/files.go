package parquet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow/go/v15/parquet/file"
	"github.com/apache/arrow/go/v15/parquet/metadata"
	"golang.org/x/sync/errgroup"

	"keystone/dsl/types"
	"keystone/pipeline/json"
	"keystone/pipeline/record"
	"keystone/sources"
	"keystone/sources/hive/storage"
)

// Place is a folder with data files.
type Place struct {
	Store  storage.Store
	Folder string  // within the store: "" or "a/b/"
	Keys   []Value // partition columns that the folder stands for; those below it are in the names of folders
	Plain  bool    // files need not be called *.parquet
}

// Value is the value of one partition column.
type Value struct {
	Name string `json:"name"`
	Text string `json:"text,omitempty"`
	Null bool   `json:"null,omitempty"`
}

// File is one data file.
type File struct {
	Place int     `json:"place,omitempty"` // which of the places
	Name  string  `json:"name"`            // within its place's store
	Size  int64   `json:"size"`
	Rows  int64   `json:"rows"`
	Kept  int64   `json:"kept"` // of them, in row groups that may have rows that pass; see Plan
	Keys  []Value `json:"keys,omitempty"`
}

// NullPartition is how Hive writes a partition whose value is null.
const NullPartition = "__HIVE_DEFAULT_PARTITION__"

// List gives the data files of places, in the order of places and names: what a Hive reader
// takes for data, so nothing in a folder or a file that begins with _ or a dot.
func List(ctx context.Context, places []Place) ([]File, error) {
	var out []File
	for i, p := range places {
		for info, err := range p.Store.List(ctx, p.Folder) {
			if err != nil {
				return nil, fmt.Errorf("list %s: %w", p.Store, err)
			}
			rest := strings.TrimPrefix(info.Name, p.Folder)
			if hidden(rest) || info.Size == 0 || !p.Plain && !strings.HasSuffix(rest, ".parquet") {
				continue
			}
			out = append(out, File{Name: info.Name, Size: info.Size, Keys: slices.Concat(p.Keys, keys(rest)), Place: i})
		}
	}
	return out, nil
}

func hidden(name string) bool {
	for part := range strings.SplitSeq(name, "/") {
		if strings.HasPrefix(part, "_") || strings.HasPrefix(part, ".") {
			return true
		}
	}
	return false
}

// keys gives the partition columns that the folders of a name stand for.
func keys(name string) (out []Value) {
	for part := range strings.SplitSeq(path.Dir(name), "/") {
		k, v, ok := strings.Cut(part, "=")
		if ok && k != "" {
			out = append(out, Value{Name: storage.Unescape(k), Text: storage.Unescape(v), Null: v == NullPartition})
		}
	}
	return out
}

// append writes the value as the event declares it.
func (v Value) append(dst []byte, t types.Type) []byte {
	switch {
	case v.Null:
		return append(dst, "null"...)
	case t.Kind == types.Int: // folders are called hour=07
		if n, err := strconv.ParseInt(v.Text, 10, 64); err == nil {
			return strconv.AppendInt(dst, n, 10)
		}
	case t.IsNumber():
		if _, ok := json.NumberOf([]byte(v.Text)); ok {
			return append(dst, v.Text...)
		}
	case t.Kind == types.Bool && (v.Text == "true" || v.Text == "false"):
		return append(dst, v.Text...)
	}
	return json.AppendString(dst, []byte(v.Text))
}

// holds tells whether a bound may hold for rows with this value.
func (v Value) holds(b record.Bound, t types.Type) bool {
	if v.Null {
		return false
	}
	if t.Kind == types.Int {
		if n, err := strconv.ParseInt(v.Text, 10, 64); err == nil {
			return within(b, n, n)
		}
	}
	if t.Kind == types.String || t.Kind == types.Any {
		return within(b, v.Text, v.Text)
	}
	return true
}

// mayHold tells whether bounds can hold for the file's partition.
func (f *File) mayHold(bounds []record.Bound, event types.Type) bool {
	for _, b := range bounds {
		if len(b.Path) != 1 {
			continue
		}
		for _, k := range f.Keys {
			typ := types.Type{}
			if d, ok := field(event, k.Name); ok {
				typ = d.Type
			}
			if strings.EqualFold(k.Name, b.Path[0]) && !k.holds(b, typ) {
				return false
			}
		}
	}
	return true
}

// meta reads the footer of a file.
func meta(ctx context.Context, p Place, f *File) (*metadata.FileMetaData, error) {
	r, o, err := open(ctx, p, f)
	if err != nil {
		return nil, err
	}
	defer o.Close() //nolint:errcheck // it was only read
	return r.MetaData(), nil
}

// open opens a file and reads its footer. The caller closes the object.
func open(ctx context.Context, p Place, f *File) (r *file.Reader, o storage.Object, err error) {
	o, err = p.Store.Open(ctx, f.Name)
	if err != nil {
		return nil, nil, fmt.Errorf("open %s in %s: %w", f.Name, p.Store, err)
	}
	err = guard(func() (err error) {
		r, err = file.NewParquetReader(io.NewSectionReader(o, 0, o.Size()))
		return err
	})
	if err != nil {
		again := looks(o)
		err = errors.Join(err, o.Close())
		if again {
			return nil, nil, fmt.Errorf("read the footer of %s in %s: %w", f.Name, p.Store, err)
		}
		return nil, nil, &damagedError{f.Name, p.Store.String(), fmt.Errorf("it is no file of Parquet: %w", err)}
	}
	return r, o, nil
}

// looks tells whether an object begins like a file of Parquet: then a reading that failed may go well another time.
func looks(o storage.Object) bool {
	var magic [4]byte
	_, err := o.ReadAt(magic[:], 0)
	return err != nil && !errors.Is(err, io.EOF) || bytes.Equal(magic[:], []byte("PAR1"))
}

// damagedError is a file that no repetition mends.
type damagedError struct {
	name, place string
	err         error
}

// Error names the file and says what to do.
func (e *damagedError) Error() string {
	return fmt.Sprintf("%s in %s: %v. Move it away, or give it a name that begins with _ to have it left out", e.name, e.place, e.err)
}

// Unwrap gives the cause.
func (e *damagedError) Unwrap() error { return e.err }

// guard turns a panic of the decoder, which damaged files can bring about, into an error.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("damaged: %v", p)
		}
	}()
	return f()
}

// footersAtOnce bounds how many footers are being read: on an object store each takes a round trip or two.
const footersAtOnce = 16

// Count fills in how many rows the files have, and in how many of them the bounds may hold.
func Count(ctx context.Context, places []Place, files []File, bounds []record.Bound) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(footersAtOnce)
	for i := range files {
		f := &files[i]
		g.Go(func() error {
			m, err := meta(ctx, places[f.Place], f)
			if err != nil {
				return err
			}
			f.Rows, f.Kept = m.GetNumRows(), 0
			for group := range m.RowGroups {
				if mayHold(m, group, bounds) {
					f.Kept += m.RowGroup(group).NumRows()
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// Plan gives the files that a reading comes down to, without those in which no row can pass: what
// Reading.Files takes, so that the reading stays the same whatever comes to the places.
func Plan(ctx context.Context, r Reading, d sources.Deps) (files []File, err error) {
	s := New(r, d).(*source)
	defer func() { err = errors.Join(err, s.Close(ctx)) }()
	if s.places, err = r.Places(ctx); err != nil {
		return nil, err
	}
	all, err := List(ctx, s.places)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(f File) bool { return !f.mayHold(s.scan.Bounds, s.typ) })
	if err := Count(ctx, s.places, all, s.scan.Bounds); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(f File) bool { return f.Kept == 0 }), nil
}

// identity names a list of files: positions count in it.
func identity(places []Place, files []File) string {
	h := sha256.New()
	for _, f := range files {
		fmt.Fprintf(h, "%q %q %d %d\n", places[f.Place].Store, f.Name, f.Size, f.Rows)
	}
	return "files-" + base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])
}
