package rows

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"testing"

	"keystone/dsl/types"
)

// testMerge merges files in two ways: row group by row group, which gives the same statistics, and many row groups in
// one, which gives the same rows.
func testMerge(t *testing.T, r *rand.Rand, typ types.Type, files [2]bytes.Buffer, want [2][]any) {
	t.Helper()
	var parts [2]*Part
	for i := range files {
		var err error
		if parts[i], err = OpenPart(bytes.NewReader(files[i].Bytes()), int64(files[i].Len())); err != nil {
			t.Fatal(err)
		}
	}
	if parts[0].Columns() != parts[1].Columns() || parts[0].Columns() == "" {
		t.Errorf("%s: files of one schema have other columns", typ)
	}
	merge := func(groups [][]Group, rows []any) *Part {
		t.Helper()
		var out bytes.Buffer
		m := NewMerger(&out, parts[0], []Compression{Zstd, Snappy, None}[r.IntN(3)])
		for _, g := range groups {
			if err := m.Append(g); err != nil {
				t.Fatal(err)
			}
		}
		stats, err := m.Close(KeyValue{"k", "v"})
		if err != nil || stats.Rows != int64(len(rows)) || stats.Bytes != int64(out.Len()) {
			t.Fatalf("%+v, %v; want %d rows", stats, err, len(rows))
		}
		got := readBack(t, out.Bytes(), typ)
		if len(got) != len(rows) {
			t.Fatalf("%d rows, want %d", len(got), len(rows))
		}
		for i := range got {
			if !reflect.DeepEqual(got[i], rows[i]) {
				t.Fatalf("%s\nrow %d: %v\nwant   %v", typ, i, got[i], rows[i])
			}
		}
		p, err := OpenPart(bytes.NewReader(out.Bytes()), int64(out.Len()))
		if err != nil {
			t.Fatal(err)
		}
		if p.Columns() != parts[0].Columns() {
			t.Errorf("columns %s\nwant    %s", p.Columns(), parts[0].Columns())
		}
		return p
	}
	var all []Group
	for i := range parts {
		var one [][]Group
		for g := range parts[i].RowGroups() {
			one = append(one, []Group{{parts[i], g}})
			all = append(all, Group{parts[i], g})
		}
		sameStatistics(t, typ, parts[i], merge(one, want[i]))
	}
	if len(all) > 0 {
		merge([][]Group{all}, append(append([]any{}, want[0]...), want[1]...))
	}
}

// sameStatistics wants of each row group what the other has. Where one has none of long values, the other may.
func sameStatistics(t *testing.T, typ types.Type, want, got *Part) {
	t.Helper()
	for g := range want.RowGroups() {
		a, b := want.r.MetaData().RowGroup(g), got.r.MetaData().RowGroup(g)
		for c := range a.NumColumns() {
			x, err1 := a.ColumnChunk(c)
			y, err2 := b.ColumnChunk(c)
			if err1 != nil || err2 != nil {
				t.Fatal(err1, err2)
			}
			s1, err1 := x.Statistics()
			s2, err2 := y.Statistics()
			if err1 != nil || err2 != nil || s1 == nil || s2 == nil {
				continue
			}
			if s1.HasMinMax() && s2.HasMinMax() && (!bytes.Equal(s1.EncodeMin(), s2.EncodeMin()) || !bytes.Equal(s1.EncodeMax(), s2.EncodeMax())) {
				t.Errorf("%s: column %s: bounds %x %x, want %x %x", typ, x.PathInSchema(), s2.EncodeMin(), s2.EncodeMax(), s1.EncodeMin(), s1.EncodeMax())
			}
			if s1.HasNullCount() && s1.NullCount() != s2.NullCount() {
				t.Errorf("%s: column %s: %d nulls, want %d", typ, x.PathInSchema(), s2.NullCount(), s1.NullCount())
			}
		}
	}
}

// A damaged file is an error, wherever it is damaged.
func TestDamagedPart(t *testing.T) {
	typ := types.ObjectOf(types.Field{Name: "id", Type: types.IntType}, types.Field{Name: "name", Type: types.StringType, Optional: true})
	var buf bytes.Buffer
	w := NewWriter(&buf, mustSchema(t, typ), Options{})
	for range 100 {
		if err := w.Append([]byte(`{"id":1,"name":"abc"}`)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	good := buf.Bytes()
	for i := 0; i < len(good); i++ {
		bad := bytes.Clone(good)
		bad[i] ^= 0xff
		p, err := OpenPart(bytes.NewReader(bad), int64(len(bad)))
		if err != nil {
			continue
		}
		m := NewMerger(&bytes.Buffer{}, p, Zstd)
		for g := range p.RowGroups() {
			if err := m.Append([]Group{{p, g}}); err != nil { // it may be well where nothing relies on the byte
				break
			}
		}
	}
	if _, err := OpenPart(bytes.NewReader(good[:len(good)-3]), int64(len(good)-3)); err == nil {
		t.Error("a file that was cut off is opened")
	}
}
