package state

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Epochs go on where they ended, through any number of openings.
func TestCommit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	var m model
	for n := int64(0); n < 120; n += 20 {
		s := open(t, dir, Options{Fingerprint: "f1"})
		if got := m.check(t, s); got != n {
			t.Fatalf("opened at %d, want %d", got, n)
		}
		for i := n + 1; i <= n+20; i++ {
			if err := commitEpoch(s, i); err != nil {
				t.Fatal(err)
			}
			if i%5 == 0 {
				m.check(t, s)
			}
		}
		if got := s.Fingerprint(); got != "f1" {
			t.Errorf("fingerprint %q", got)
		}
		if x := s.Metrics(); x.Logged == 0 || x.Disk == 0 || x.Memory == 0 {
			t.Errorf("metrics %+v", x)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// An epoch that is not the next, or of another generation, changes nothing.
func TestStale(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{Generation: 3})
	put := func(e Epoch) error {
		b := s.NewBatch()
		defer b.Close()
		b.Set([]byte("k"), []byte(e.String()))
		return s.Commit(b, e, nil)
	}
	if err := put(Epoch{3, 5}); err != nil {
		t.Fatal(err)
	}
	for _, e := range []Epoch{{3, 5}, {3, 4}, {2, 9}, {4, 1}, {3, 0}, {}} {
		if err := put(e); !errors.Is(err, ErrStale) {
			t.Errorf("%v: %v", e, err)
		}
	}
	if v, _, err := s.Get([]byte("k")); err != nil || string(v) != "3.5" {
		t.Errorf("%q, %v", v, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, Options{Generation: 4}) // a rewind
	defer s.Close()
	if err := put(Epoch{3, 6}); !errors.Is(err, ErrStale) {
		t.Error(err)
	}
	if err := put(Epoch{4, 1}); err != nil {
		t.Error(err)
	}
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	if _, err := tryOpen(dir, Options{}); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Errorf("opened twice: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(nil, Epoch{1, 1}, nil); err == nil {
		t.Error("committed to a closed store")
	}
	s = open(t, dir, Options{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := tryOpen(dir, Options{Job: "job-2"}); !errors.Is(err, ErrOtherJob) {
		t.Errorf("another job: %v", err)
	}
}

// Older and newer formats: the two before are read, others are refused and not touched.
func TestFormat(t *testing.T) {
	for _, c := range []struct {
		found, ours int
		ok          bool
	}{{1, 1, true}, {2, 1, false}, {1, 2, true}, {1, 3, true}, {1, 4, false}, {2, 4, true}, {4, 4, true}, {5, 4, false}, {0, 1, false}} {
		if err := readable(c.found, c.ours); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrFormat) {
			t.Errorf("format %d read by %d: %v", c.found, c.ours, err)
		}
	}
	dir := t.TempDir()
	s := open(t, dir, Options{})
	if err := commitEpoch(s, 1); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, formatName)
	was, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, content, want string }{
		{"newer", strings.Replace(string(was), `"format":1`, `"format":2`, 1), "newer version of Keystone wrote format 2"},
		{"damaged", "{", "FORMAT is damaged"},
	} {
		if err := os.WriteFile(path, []byte(c.content), 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := tryOpen(dir, Options{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	var corrupt *CorruptError
	if _, err := tryOpen(dir, Options{}); !errors.As(err, &corrupt) || corrupt.File != path {
		t.Errorf("no FORMAT: %v", err)
	}
	if err := os.WriteFile(path, was, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, dbName), filepath.Join(dir, "elsewhere")); err != nil {
		t.Fatal(err)
	}
	if _, err := tryOpen(dir, Options{}); !errors.As(err, &corrupt) || corrupt.File != filepath.Join(dir, dbName) {
		t.Errorf("no db: %v", err)
	}
	if err := os.RemoveAll(filepath.Join(dir, dbName)); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "elsewhere"), filepath.Join(dir, dbName)); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, Options{})
	defer s.Close()
	new(model).check(t, s)
}

// What belongs to the store cannot be changed, seen or taken away, and a batch too large is refused whole.
func TestBatch(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	defer s.Close()
	b := s.NewBatch()
	defer b.Close()
	for i, f := range []func(){
		func() { b.Set(epochKey, nil) },
		func() { b.Delete(ownKeys) },
		func() { b.DeleteRange([]byte("a"), []byte{0xff, 0xff, 0}) },
		func() { b.DeleteRange([]byte("a"), []byte{0xff, 0xff, 0xff}) },
	} {
		b.Reset()
		f()
		if err := s.Commit(b, Epoch{1, 1}, nil); !errors.Is(err, ErrReserved) {
			t.Errorf("%d: %v", i, err)
		}
	}
	b.Reset()
	if !b.Empty() {
		t.Error("not empty after Reset")
	}
	b.Set([]byte("a"), []byte("1"))
	other := s.NewBatch()
	defer other.Close()
	other.Set([]byte("a"), []byte("2"))
	other.Set([]byte("b"), nil)
	b.Append(other)
	if b.Empty() || b.Size() <= other.Size() {
		t.Errorf("sizes %d, %d", b.Size(), other.Size())
	}
	if err := s.Commit(b, Epoch{1, 1}, nil); err != nil {
		t.Fatal(err)
	}
	b.Reset() // a batch is used again
	b.DeleteRange([]byte("b"), []byte("c"))
	b.DeleteRange([]byte("b"), []byte("a")) // nothing
	if err := s.Commit(b, Epoch{1, 2}, nil); err != nil {
		t.Fatal(err)
	}
	if v, ok, err := s.Get([]byte("a")); string(v) != "2" || !ok || err != nil {
		t.Errorf("%q %v %v", v, ok, err)
	}
	if _, ok, err := s.Get([]byte("b")); ok || err != nil {
		t.Error(ok, err)
	}
	stop := errors.New("stop")
	if err := s.Scan(nil, nil, func(k, v []byte) error { return stop }); !errors.Is(err, stop) {
		t.Error(err)
	}
	b.Reset()
	b.err = ErrTooLarge // as room says behind MaxBatch: a GiB is too much for a test
	if err := s.Commit(b, Epoch{1, 3}, nil); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
}
