package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"keystone/sources/hive/storage"
)

// Run holds a kind of place to the contract of storage.Store. open gives the same empty place each time.
func Run(t *testing.T, open func(t *testing.T) storage.Store) {
	ctx := t.Context()
	s := open(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	read := func(name string) string {
		t.Helper()
		b, err := s.Get(ctx, name)
		if err != nil {
			t.Fatalf("get %s: %v", name, err)
		}
		return string(b)
	}

	// One of many creators wins, also through another handle, and its content stays.
	other := open(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var won []string
	for i := range 8 {
		wg.Go(func() {
			st, text := s, fmt.Sprintf("creator %d", i)
			if i%2 == 1 {
				st = other
			}
			err := st.Create(ctx, "a/b/one", []byte(text))
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won = append(won, text)
			} else if !errors.Is(err, storage.ErrExists) {
				t.Errorf("create: %v, want ErrExists", err)
			}
		})
	}
	wg.Wait()
	if len(won) != 1 || read("a/b/one") != won[0] {
		t.Fatalf("creators %q won, the object has %q", won, read("a/b/one"))
	}

	// Uploads replace, and one that is short never appears.
	big := bytes.Repeat([]byte("0123456789abcdef"), 700_000) // more than one part
	must(s.Upload(ctx, "a/big", bytes.NewReader(big), int64(len(big))))
	must(s.Upload(ctx, "a/small", strings.NewReader("old"), 3))
	must(s.Upload(ctx, "a/small", strings.NewReader("newer"), 5))
	if read("a/small") != "newer" || read("a/big") != string(big) {
		t.Error("an upload is not what was given")
	}
	if err := s.Upload(ctx, "a/short", strings.NewReader("abc"), 4); err == nil {
		t.Error("an upload that lacks a byte succeeded")
	}
	broken := errors.New("broken")
	if err := s.Upload(ctx, "a/short", io.MultiReader(strings.NewReader("abc"), failing{broken}), 6); !errors.Is(err, broken) {
		t.Errorf("an upload whose reader failed: %v", err)
	}
	if _, err := s.Stat(ctx, "a/short"); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("a broken upload is there: %v", err)
	}

	// Publish is idempotent, also when its source is gone.
	to := "dt=2026-01-02/region=a%2Fb/part-1.parquet"
	must(s.Publish(ctx, "a/big", to))
	must(s.Publish(ctx, "a/big", to))
	must(s.Delete(ctx, "a/big"))
	must(s.Delete(ctx, "a/big"))
	must(other.Publish(ctx, "a/big", to))
	if err := s.Publish(ctx, "a/big", "dt=2026-01-02/other"); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("publish of nothing: %v, want ErrNotExist", err)
	}
	o, err := s.Open(ctx, to)
	must(err)
	p := make([]byte, 10)
	if n, err := o.ReadAt(p, int64(len(big))-5); n != 5 || !errors.Is(err, io.EOF) || string(p[:n]) != "bcdef" {
		t.Errorf("read at the end: %d %q %v", n, p[:n], err)
	}
	if n, err := o.ReadAt(p, 16); n != 10 || err != nil || string(p) != "0123456789" {
		t.Errorf("read in the middle: %d %q %v", n, p, err)
	}
	must(o.Close())
	if o.Size() != int64(len(big)) {
		t.Errorf("size %d, want %d", o.Size(), len(big))
	}

	// Lists are in the order of names, of a folder and all below.
	for _, name := range []string{"l/b/x", "l/b-x", "l/a", "l/b/a/z", "l/bb"} {
		must(s.Create(ctx, name, []byte(name)))
	}
	list := func(folder string) (names []string) {
		for i, err := range s.List(ctx, folder) {
			must(err)
			if got := int64(len(i.Name)); folder == "l/" && i.Size != got || i.ModTime.IsZero() {
				t.Errorf("%s: size %d, changed %v", i.Name, i.Size, i.ModTime)
			}
			names = append(names, i.Name)
		}
		return names
	}
	if got, want := list("l/"), []string{"l/a", "l/b-x", "l/b/a/z", "l/b/x", "l/bb"}; !slices.Equal(got, want) {
		t.Errorf("list: %q, want %q", got, want)
	}
	if got := list("l/b/"); !slices.Equal(got, []string{"l/b/a/z", "l/b/x"}) {
		t.Errorf("list of a folder: %q", got)
	}
	if got := list(""); !slices.Equal(got, []string{"a/b/one", "a/small", to, "l/a", "l/b-x", "l/b/a/z", "l/b/x", "l/bb"}) {
		t.Errorf("list of all: %q", got)
	}
	if got := list("none/"); got != nil {
		t.Errorf("list of nothing: %q", got)
	}
	for _, err := range []error{
		func() error { _, err := s.Get(ctx, "none/x"); return err }(),
		func() error { _, err := s.Stat(ctx, "l/b"); return err }(),
		func() error { _, err := s.Open(ctx, "l/none"); return err }(),
	} {
		if !errors.Is(err, storage.ErrNotExist) {
			t.Errorf("what is not there: %v, want ErrNotExist", err)
		}
	}
	names(t, s)
	if a, ok := s.(storage.Appender); ok {
		appending(t, a)
	}
	must(other.Close())
	must(s.Close())
}

// names holds the place to refusing what leads out of it.
func names(t *testing.T, s storage.Store) {
	ctx := context.Background()
	for _, name := range []string{"", "/etc/passwd", "../x", "a/../../x", "a/./b", "a//b", "a/", "a\x00b", "a\\b", strings.Repeat("x", 256), strings.Repeat("abcdefg/", 130) + "x"} {
		var bad *storage.NameError
		for what, err := range map[string]error{
			"create": s.Create(ctx, name, nil), "upload": s.Upload(ctx, name, strings.NewReader(""), 0),
			"publish": s.Publish(ctx, "l/a", name), "delete": s.Delete(ctx, name),
		} {
			if !errors.As(err, &bad) {
				t.Errorf("%s %.30q: %v, want a *NameError", what, name, err)
			}
		}
		if _, err := s.Get(ctx, name); !errors.As(err, &bad) {
			t.Errorf("get %.30q: %v, want a *NameError", name, err)
		}
	}
}

func appending(t *testing.T, s storage.Appender) {
	ctx := context.Background()
	for range 2 { // it may be repeated
		for i, part := range []string{"one ", "two ", "three"} {
			if err := s.WriteAt(ctx, "w/x/grows", []byte(part), int64(4*i)); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Sync(ctx, "w/x/grows"); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := s.Get(ctx, "w/x/grows"); string(b) != "one two three" || err != nil {
		t.Errorf("written in parts: %q %v", b, err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
