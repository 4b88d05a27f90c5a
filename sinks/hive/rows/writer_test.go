package rows

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"keystone/dsl/types"
)

func mustSchema(t testing.TB, typ types.Type) *Schema {
	t.Helper()
	s, problems := NewSchema(typ, SchemaOptions{JSONText: true})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return s
}

// TestRandomRows writes events of random types, of which some do not fit, and reads
// back what fits.
func TestRandomRows(t *testing.T) {
	seeds := 80
	if testing.Short() {
		seeds = 20
	}
	taken, refused := 0, 0
	for seed := range seeds {
		a, b := testRandomRows(t, uint64(seed))
		taken, refused = taken+a, refused+b
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%d rows, %d events refused", taken, refused)
	if taken == 0 || refused == 0 {
		t.Error("one of the two never happened")
	}
}

func testRandomRows(t *testing.T, seed uint64) (taken, refused int) {
	r := rand.New(rand.NewPCG(seed, 1))
	typ := randomObject(r, r.IntN(4), 1+r.IntN(len(fieldNames)))
	s := mustSchema(t, typ)
	opts := Options{
		Compression: []Compression{Zstd, Snappy, None}[r.IntN(3)],
		PageBytes:   64 << r.IntN(10), RowGroupBytes: 64<<10 + r.IntN(1<<20),
		Pool: NewPool(), Parser: s.NewParser(),
	}
	if r.IntN(2) == 0 {
		opts.RowGroupRows = 1 + r.IntN(400)
	}
	w := &world{Rand: r, few: r.IntN(2) == 0, wrong: r.IntN(2) * 60}
	// Two writers share what can be shared.
	var files [2]bytes.Buffer
	var want [2][]any
	writers := [2]*Writer{NewWriter(&files[0], s, opts), NewWriter(&files[1], s, opts)}
	for range r.IntN(1500) {
		event := w.object(typ)
		i := r.IntN(2)
		row, fits := expected(typ, event)
		err := writers[i].Append([]byte(event))
		var fault *RowError
		switch {
		case err == nil && fits:
			want[i] = append(want[i], row)
		case err == nil:
			t.Errorf("%s\nwas taken: %s", typ, event)
		case !errors.As(err, &fault):
			t.Fatal(err)
		case fits:
			t.Errorf("%s\n%s: %v", typ, event, err)
		default:
			refused++
		}
		if r.IntN(300) == 0 {
			if err := writers[i].Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, w := range writers {
		stats, err := w.Close(KeyValue{"k", "v"})
		if err != nil {
			t.Fatal(err)
		}
		if stats.Rows != int64(len(want[i])) || stats.Bytes != int64(files[i].Len()) {
			t.Errorf("stats: %+v, want %d rows, %d bytes", stats, len(want[i]), files[i].Len())
		}
		if w.OpenBytes() != 0 {
			t.Errorf("%d bytes are held after Close", w.OpenBytes())
		}
		got := readBack(t, files[i].Bytes(), typ)
		if len(got) != len(want[i]) {
			t.Fatalf("%d rows, want %d", len(got), len(want[i]))
		}
		for j := range got {
			if !reflect.DeepEqual(got[j], want[i][j]) {
				t.Errorf("%s\nrow %d: %s\nwant   %s", typ, j, fmt.Sprint(got[j]), fmt.Sprint(want[i][j]))
				break
			}
		}
		taken += len(got)
	}
	testMerge(t, r, typ, files, want)
	return taken, refused
}
