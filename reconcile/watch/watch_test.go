package watch

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// watching runs a watcher of dir. With events alone the poll never comes; by
// comparing alone there are no events.
type watching struct {
	t        *testing.T
	dir      string
	changes  chan Change
	compared chan struct{}
}

func watch(t *testing.T, dir string, pollOnly bool) *watching {
	t.Helper()
	o := Options{Dir: dir, Debounce: 5 * time.Millisecond, Poll: time.Hour}
	if pollOnly {
		o.Poll = 5 * time.Millisecond
	}
	return start(t, o, pollOnly)
}

func start(t *testing.T, o Options, pollOnly bool) *watching {
	t.Helper()
	first, err := Take(o.Dir, o.Others...)
	if err != nil {
		t.Fatal(err)
	}
	x := &watching{t: t, dir: o.Dir, changes: make(chan Change, 100), compared: make(chan struct{})}
	w := New(o, first.Hash)
	w.pollOnly = pollOnly
	ctx, cancel := context.WithCancel(context.Background())
	w.compared = func() {
		select {
		case x.compared <- struct{}{}:
		case <-ctx.Done():
		}
	}
	ended := make(chan struct{})
	go func() { defer close(ended); w.Run(ctx, func(c Change) { x.changes <- c }) }()
	t.Cleanup(func() { cancel(); <-ended })
	x.looks(1) // the first look: the events are set up
	return x
}

// looks waits for n comparisons.
func (x *watching) looks(n int) {
	x.t.Helper()
	for range n {
		select {
		case <-x.compared:
		case <-time.After(20 * time.Second):
			x.t.Fatal("nothing was compared")
		}
	}
}

// change waits for a change, and holds that it tells of the content that is there.
func (x *watching) change() Change {
	x.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case <-x.compared:
		case c := <-x.changes:
			s, err := Take(x.dir)
			if (err == nil) != (c.Err == nil) || s.Hash != c.Hash {
				x.t.Fatalf("told %+v, the directory has %+v, %v", c, s, err)
			}
			return c
		case <-deadline:
			x.t.Fatal("no change was told")
		}
	}
}

// silent holds that nothing was told.
func (x *watching) silent() {
	x.t.Helper()
	select {
	case c := <-x.changes:
		x.t.Fatalf("told %+v", c)
	default:
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func do(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func both(t *testing.T, f func(t *testing.T, pollOnly bool)) {
	t.Run("events", func(t *testing.T) { f(t, false) })
	t.Run("contents", func(t *testing.T) { f(t, true) })
}

func TestWrittenInPlace(t *testing.T) {
	both(t, func(t *testing.T, pollOnly bool) {
		dir := t.TempDir()
		path := filepath.Join(dir, "main.ks.hcl")
		write(t, path, "a")
		x := watch(t, dir, pollOnly)
		write(t, path, "b") // truncates, then writes
		x.change()
		write(t, filepath.Join(dir, "more.ksvars"), "c")
		x.change()
		do(t, os.Remove(filepath.Join(dir, "more.ksvars")))
		x.change()
	})
}

func TestEditorsThatRename(t *testing.T) {
	both(t, func(t *testing.T, pollOnly bool) {
		dir := t.TempDir()
		path := filepath.Join(dir, "main.ks.hcl")
		write(t, path, "a")
		x := watch(t, dir, pollOnly)
		for _, text := range []string{"b", "c"} { // as vim does, twice: the watch survives the first
			write(t, filepath.Join(dir, "4913"), "")
			do(t, os.Remove(filepath.Join(dir, "4913")))
			do(t, os.Rename(path, path+"~"))
			write(t, path, text)
			do(t, os.Remove(path+"~"))
			x.change()
		}
		write(t, filepath.Join(dir, ".main.ks.hcl.tmp"), "d") // as an atomic writer does
		do(t, os.Rename(filepath.Join(dir, ".main.ks.hcl.tmp"), path))
		x.change()
	})
}

func TestConfigMapSymlinkSwap(t *testing.T) {
	both(t, func(t *testing.T, pollOnly bool) {
		dir := t.TempDir()
		version := func(name, text string) {
			do(t, os.Mkdir(filepath.Join(dir, name), 0o700))
			write(t, filepath.Join(dir, name, "main.ks.hcl"), text)
		}
		version("..2026_01", "a")
		do(t, os.Symlink("..2026_01", filepath.Join(dir, "..data")))
		do(t, os.Symlink(filepath.Join("..data", "main.ks.hcl"), filepath.Join(dir, "main.ks.hcl")))
		x := watch(t, dir, pollOnly)
		swap := func(name string) {
			do(t, os.Symlink(name, filepath.Join(dir, "..data_tmp")))
			do(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
		}
		version("..2026_02", "b")
		swap("..2026_02")
		do(t, os.RemoveAll(filepath.Join(dir, "..2026_01")))
		x.change()
		version("..2026_03", "c")
		swap("..2026_03")
		x.change()
	})
}

func TestOnlyContentCounts(t *testing.T) {
	both(t, func(t *testing.T, pollOnly bool) {
		dir := t.TempDir()
		path := filepath.Join(dir, "main.ks.hcl")
		write(t, path, "a")
		x := watch(t, dir, pollOnly)
		at := time.Unix(1700000000, 0)
		do(t, os.Chtimes(path, at, at))
		x.looks(1)
		write(t, path, "a")
		x.looks(1)
		write(t, filepath.Join(dir, "notes.txt"), "x")
		write(t, filepath.Join(dir, ".swap.ks.hcl"), "x")
		do(t, os.Mkdir(filepath.Join(dir, "folder.ks.hcl"), 0o700))
		x.looks(1)
		x.silent()
		write(t, path, "b")
		x.change()
		x.silent()
	})
}

func TestDirectoryThatGoesAndComesBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "configuration")
	make := func(text string) {
		do(t, os.Mkdir(dir, 0o700))
		write(t, filepath.Join(dir, "main.ks.hcl"), text)
	}
	make("a")
	x := start(t, Options{Dir: dir, Debounce: 5 * time.Millisecond, Poll: 20 * time.Millisecond}, false)
	do(t, os.RemoveAll(dir))
	c := x.change()
	for !errors.Is(c.Err, fs.ErrNotExist) { // first the files went, then the directory
		if !errors.Is(c.Err, ErrNoFiles) {
			t.Fatalf("told %+v", c)
		}
		c = x.change()
	}
	make("b")
	for c = x.change(); c.Err != nil; c = x.change() {
	}
	write(t, filepath.Join(dir, "main.ks.hcl"), "c")
	x.change()
	do(t, os.Rename(dir, dir+".old")) // another directory takes its place
	make("d")
	for c = x.change(); c.Err != nil; c = x.change() {
	}
}

func TestEmptyDirectoriesAreNobodysGoal(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "main.ks.hcl")
	write(t, path, "a")
	x := watch(t, dir, false)
	do(t, os.Remove(path))
	if c := x.change(); !errors.Is(c.Err, ErrNoFiles) {
		t.Fatalf("told %+v", c)
	}
	write(t, path, "a")
	if c := x.change(); c.Err != nil || len(c.Files) != 1 || c.Files[0].Name != "main.ks.hcl" || c.Files[0].Bytes != 1 {
		t.Fatalf("told %+v", c)
	}
}

func TestOtherFiles(t *testing.T) {
	dir, other := t.TempDir(), filepath.Join(t.TempDir(), "team.vars")
	write(t, filepath.Join(dir, "main.ks.hcl"), "a")
	write(t, other, "x")
	before, err := Take(dir, other)
	do(t, err)
	write(t, other, "y")
	after, err := Take(dir, other)
	do(t, err)
	if before.Hash == after.Hash {
		t.Error("a change of a variable file elsewhere is not seen")
	}
	if _, err := Take(dir, other+".missing"); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("a missing file: %v", err)
	}
}

func TestContentMustComeToRest(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "main.ks.hcl")
	write(t, path, "a")
	first, err := Take(dir)
	do(t, err)
	w := New(Options{Dir: dir}, first.Hash)
	var told []Change
	tell := func(c Change) { told = append(told, c) }
	c := candidate{}
	for _, text := range []string{"b", "bc", "bcd"} {
		write(t, path, text)
		if !w.compare(&c, tell) || len(told) != 0 {
			t.Fatalf("%q was told while it was written", text)
		}
	}
	if w.compare(&c, tell) || len(told) != 1 {
		t.Fatal("content at rest was not told")
	}
	for i := 0; len(told) == 1; i++ {
		if i > maxTries+1 {
			t.Fatal("files that are written all the time are never told")
		}
		write(t, path, strings.Repeat("x", i))
		w.compare(&c, tell)
	}
}

// What was not read as it was told, or could not be taken, is told again, also if it is the same.
func TestAgain(t *testing.T) {
	dir := t.TempDir()
	put := func(text string) string {
		if err := os.WriteFile(filepath.Join(dir, "main.ks.hcl"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Take(dir)
		if err != nil {
			t.Fatal(err)
		}
		return s.Hash
	}
	w := New(Options{Dir: dir, Debounce: time.Millisecond, Poll: time.Millisecond}, put("a"))
	want := put("b")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	told := 0
	w.Run(ctx, func(c Change) {
		if c.Hash != want {
			t.Errorf("told %s, want %s", c.Hash, want)
		}
		switch told++; told {
		case 1, 2:
			c.Again()
		case 3, 4:
			c.Later()
		default:
			cancel()
		}
	})
	if told != 5 {
		t.Errorf("told %d times, want 5", told)
	}
}
