package deadletter

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"keystone/pipeline"
)

func TestReadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.ndjson")
	if n, err := ReadFile(path, func(Line) error { t.Error("a letter"); return nil }); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	if err := os.WriteFile(path, []byte("{\"half\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := NewFile(path, 0)
	defer f.Close(t.Context())
	for i := range 3 {
		if err := f.Write(t.Context(), []pipeline.DeadLetter{letter(fmt.Append(nil, i))}); err != nil {
			t.Fatal(err)
		}
	}
	var got []Line
	broken, err := ReadFile(path, func(l Line) error { got = append(got, l); return nil })
	if err != nil || broken != 1 || len(got) != 3 || got[0].Offset != 7 || *got[2].Letter.Value != "2" {
		t.Fatalf("%v, %d broken, %+v", err, broken, got)
	}
	removed, err := RemoveLines(path, func(l Line) bool { return l.Hash == got[1].Hash })
	if err != nil || removed != 1 {
		t.Fatal(removed, err)
	}
	// The writer had the old file open, and goes on in the new one.
	if err := f.Write(t.Context(), []pipeline.DeadLetter{letter([]byte("3"))}); err != nil {
		t.Fatal(err)
	}
	var left []Line
	broken, err = ReadFile(path, func(l Line) error { left = append(left, l); return nil })
	if err != nil || broken != 1 || len(left) != 3 || left[0].Hash != got[0].Hash || left[1].Hash != got[2].Hash || *left[2].Letter.Value != "3" {
		t.Errorf("%v, %d broken, %+v", err, broken, left)
	}
}

// TestRemoveBesideWriters: no letter is lost while others are written.
func TestRemoveBesideWriters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.ndjson")
	var wg sync.WaitGroup
	const each = 50
	for w := range 4 {
		f := NewFile(path, 0)
		wg.Go(func() {
			for i := range each {
				name := "keep"
				if i%2 == 0 {
					name = "gone"
				}
				if err := f.Write(t.Context(), []pipeline.DeadLetter{letter(fmt.Appendf(nil, "%s %d %d", name, w, i))}); err != nil {
					t.Error(err)
				}
			}
			if err := f.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	removed := int64(0)
	remove := func() {
		n, err := RemoveLines(path, func(l Line) bool { return (*l.Letter.Value)[:4] == "gone" })
		if err != nil {
			t.Error(err)
		}
		removed += n
	}
	for running := true; running; {
		remove()
		select {
		case <-done:
			running = false
		default:
		}
	}
	remove()
	kept := map[string]bool{}
	if _, err := ReadFile(path, func(l Line) error { kept[*l.Letter.Value] = true; return nil }); err != nil {
		t.Fatal(err)
	}
	if removed != 4*each/2 || len(kept) != 4*each/2 {
		t.Errorf("%d removed, %d kept, of %d each", removed, len(kept), 4*each/2)
	}
}
