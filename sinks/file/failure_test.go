package file

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"keystone/sinks"
)

// TestFullDisk writes until the disk is full, makes room, and goes on: no line
// is missing or repeated, and the file never ends within a line.
func TestFullDisk(t *testing.T) {
	for _, name := range []string{"out.ndjson", "out.ndjson.gz"} {
		t.Run(name, func(t *testing.T) {
			dir, full := t.TempDir(), true
			s := config(name).make(sinks.Deps{Dir: dir})
			s.limit = 100
			s.edge = func(f file) file { return &faulty{file: f, fail: func() bool { return full }} }
			s.Restore(nil)
			if err := s.Open(t.Context()); err != nil {
				t.Fatal(err)
			}
			taken, failed := 0, 0
			for failed < 3 {
				err := put(s, fmt.Sprint(taken))
				if err == nil {
					if _, err = s.Sync(t.Context()); err == nil {
						t.Fatal("a checkpoint was made on a full disk")
					}
					taken++
				}
				if err != nil {
					failed++
				}
				if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EIO) || sinks.IsPermanent(err) || !strings.Contains(err.Error(), "full") {
					t.Fatalf("got %v, want that the disk is full, and not for good", err)
				}
				if fi, err := os.Stat(filepath.Join(dir, name)); err != nil || fi.Size() != 0 {
					t.Fatalf("a part of a write stayed: %d bytes, %v", fi.Size(), err)
				}
			}
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := s.Sync(ended); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "full") {
				t.Errorf("got %v, want also why it was not done before", err)
			}
			full = false
			mustPut(t, s, fmt.Sprint(taken))
			mustSync(t, s)
			mustClose(t, s)
			var want string
			for i := range taken + 1 {
				want += fmt.Sprintln(i)
			}
			if got := content(t, filepath.Join(dir, name)); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// TestFileSizeLimit writes to a file that the system does not let grow.
func TestFileSizeLimit(t *testing.T) {
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := open(t, config("out.ndjson"), sinks.Deps{Dir: dir}, nil)
	s.limit = 1000
	line := strings.Repeat("x", 99)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 2050, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	var err error
	for n := 0; n < 100 && err == nil; n++ {
		err = put(s, line)
	}
	if e := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); e != nil {
		t.Fatal(e)
	}
	if !sinks.IsPermanent(err) || !strings.Contains(err.Error(), "rotate_bytes") {
		t.Errorf("got %v", err)
	}
	text := content(t, filepath.Join(dir, "out.ndjson"))
	if len(text) == 0 || len(text)%100 != 0 || len(text) > 2050 {
		t.Errorf("the file has %d bytes, want whole lines of 100", len(text))
	}
}

func TestDevices(t *testing.T) {
	s := open(t, config("/dev/null"), sinks.Deps{Dir: t.TempDir(), OneShot: true}, nil)
	mustPut(t, s, "1")
	state := mustSync(t, s)
	if err := s.Finish(t.Context()); err != nil {
		t.Error(err)
	}
	mustClose(t, s)
	s = open(t, config("/dev/null"), sinks.Deps{Dir: t.TempDir()}, state)
	mustPut(t, s, "1")
	mustClose(t, s)
	s = open(t, config("/dev/full"), sinks.Deps{Dir: t.TempDir()}, nil)
	mustPut(t, s, "1")
	if _, err := s.Sync(t.Context()); !errors.Is(err, syscall.ENOSPC) || sinks.IsPermanent(err) {
		t.Errorf("got %v, want a full disk", err)
	}
	if fi, err := os.Stat("/dev/null"); err != nil || fi.Mode().IsRegular() {
		t.Fatalf("/dev/null is no device any more: %v", err)
	}
}

func TestOpenFailures(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, want string }{
		{dir, "it is a folder"},
		{filepath.Join(dir, "file", "x.ndjson"), "is a file, not a folder"},
		{filepath.Join(dir, "file", "{x}.ndjson"), "is a file, not a folder"},
		{"/sys/kernel/keystone.ndjson", "permission denied"},
	} {
		for _, once := range []bool{false, true} {
			s := config(c.path).make(sinks.Deps{Dir: dir, OneShot: once})
			s.Restore(nil)
			err := s.Open(t.Context())
			if !sinks.IsPermanent(err) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: got %v, want %q", c.path, err, c.want)
			}
			mustClose(t, s)
		}
	}
}

func TestTwoWriters(t *testing.T) {
	dir := t.TempDir()
	first := open(t, config("out.ndjson"), sinks.Deps{Dir: dir, Route: "route.a"}, nil)
	for _, route := range []string{"route.a", "route.b"} {
		second := config("out.ndjson").make(sinks.Deps{Dir: dir, Route: route})
		second.Restore(nil)
		err := second.Open(t.Context())
		if !errors.Is(err, errBusy) || sinks.IsPermanent(err) {
			t.Errorf("%s: got %v, want that the file is being written, and not for good", route, err)
		}
		mustClose(t, second)
	}
	mustPut(t, first, "1")
	mustSync(t, first)
	mustClose(t, first)
	second := open(t, config("out.ndjson"), sinks.Deps{Dir: dir, Route: "route.b"}, nil)
	mustPut(t, second, "2")
	mustSync(t, second)
	expect(t, dir, map[string]string{"out.ndjson": "1\n2\n"})
}

func TestRefusedValues(t *testing.T) {
	dir := t.TempDir()
	s := open(t, config("out.ndjson"), sinks.Deps{Dir: dir}, nil)
	b := lines("1", "x", "{\r\n\"a\":\n2}")
	b.Records[1].Value = nil
	var got error
	s.Write(t.Context(), b, func(err error) { got = err })
	var partial *sinks.PartialError
	if !errors.As(got, &partial) || len(partial.Failures) != 1 || partial.Failures[0].Index != 1 || partial.Failures[0].Code != "null_value" {
		t.Errorf("got %v, want that record 1 is refused", got)
	}
	if string(b.Records[2].Value) != "{\r\n\"a\":\n2}" {
		t.Error("the batch was changed")
	}
	mustSync(t, s)
	mustClose(t, s)
	expect(t, dir, map[string]string{"out.ndjson": "1\n{  \"a\": 2}\n"})

	c := config("out.ndjson")
	c.Newlines = Refuse
	s = open(t, c, sinks.Deps{Dir: dir}, nil)
	if err := put(s, "a\nb", "c"); !errors.As(err, &partial) || len(partial.Failures) != 1 || partial.Failures[0].Code != "newline" {
		t.Errorf("got %v, want that the line break is refused", err)
	}
}

func TestSingleRun(t *testing.T) {
	for _, path := range []string{"out.ndjson", "{k}/out.ndjson"} {
		t.Run(path, func(t *testing.T) {
			dir := t.TempDir()
			deps := sinks.Deps{Dir: dir, OneShot: true}
			key, file := "", "out.ndjson"
			if !parseTarget(path).plain {
				key, file = "k/out.ndjson=", "k/out.ndjson"
			}
			run := func() *sink { return open(t, config(path), deps, nil) }

			s := run() // complete
			mustPut(t, s, key+"1")
			mustSync(t, s)
			if _, err := os.Stat(filepath.Join(dir, file)); err == nil {
				t.Error("the file appeared before the run was complete")
			}
			if err := s.Finish(t.Context()); err != nil {
				t.Fatal(err)
			}
			mustClose(t, s)
			expect(t, dir, map[string]string{file: "1\n"})

			s = run() // interrupted before a checkpoint
			mustPut(t, s, key+"2")
			mustClose(t, s)
			expect(t, dir, map[string]string{file: "1\n"})

			s = run() // interrupted after a checkpoint
			mustPut(t, s, key+"2")
			mustSync(t, s)
			mustClose(t, s)
			expect(t, dir, map[string]string{file: "1\n", unfinished(file): "2\n"})

			s = run() // killed
			mustPut(t, s, key+"3")
			mustSync(t, s)
			crash(s)
			hiddenFile := unfinished(file)
			expect(t, dir, map[string]string{file: "1\n", hiddenFile: "3\n"})

			s = run() // again: what the killed one left goes
			mustPut(t, s, key+"4")
			mustSync(t, s)
			if err := s.Finish(t.Context()); err != nil {
				t.Fatal(err)
			}
			mustClose(t, s)
			expect(t, dir, map[string]string{file: "4\n"})
		})
	}
}

func TestSingleRunWithoutRecords(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "out.ndjson"), []byte("old\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	mustClose(t, open(t, config("out.ndjson"), sinks.Deps{Dir: dir, OneShot: true}, nil))
	expect(t, dir, map[string]string{"out.ndjson": "old\n"}) // it failed before it began
	s := open(t, config("out.ndjson"), sinks.Deps{Dir: dir, OneShot: true}, nil)
	if err := s.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	expect(t, dir, map[string]string{"out.ndjson": ""})
}

// TestSingleRunResumed goes on with a run that was killed, and then adds to one that was complete.
func TestSingleRunResumed(t *testing.T) {
	dir := t.TempDir()
	deps := sinks.Deps{Dir: dir, OneShot: true}
	s := open(t, config("out.ndjson"), deps, nil)
	mustPut(t, s, "1")
	state := mustSync(t, s)
	mustPut(t, s, "not stored")
	s.Flush()
	crash(s)
	s = open(t, config("out.ndjson"), deps, state)
	mustPut(t, s, "2")
	state = mustSync(t, s)
	if err := s.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	expect(t, dir, map[string]string{"out.ndjson": "1\n2\n"})
	s = open(t, config("out.ndjson"), deps, state)
	mustPut(t, s, "3")
	mustSync(t, s)
	mustClose(t, s)
	expect(t, dir, map[string]string{"out.ndjson": "1\n2\n3\n"})
}

// TestSingleRunFollowsLinks replaces what a link leads to, not the link.
func TestSingleRunFollowsLinks(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "real"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "real", "out.ndjson"), []byte("old\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real/out.ndjson", filepath.Join(dir, "link.ndjson")); err != nil {
		t.Fatal(err)
	}
	s := open(t, config("link.ndjson"), sinks.Deps{Dir: dir, OneShot: true}, nil)
	mustPut(t, s, "new")
	if err := s.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	expect(t, dir, map[string]string{"real/out.ndjson": "new\n"})
	if fi, err := os.Lstat(filepath.Join(dir, "link.ndjson")); err != nil || fi.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v", err)
	}
}

// TestExistingFileIsContinued keeps what others wrote, and their torn line apart from ours.
func TestExistingFileIsContinued(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "out.ndjson"), []byte("theirs\ntorn"), 0o666); err != nil {
		t.Fatal(err)
	}
	s := open(t, config("out.ndjson"), sinks.Deps{Dir: dir}, nil)
	mustPut(t, s, "1")
	s.Flush()
	crash(s) // before the first checkpoint: ours is taken back, theirs is not
	s = open(t, config("out.ndjson"), sinks.Deps{Dir: dir}, nil)
	mustPut(t, s, "2")
	state := mustSync(t, s)
	mustPut(t, s, "3")
	s.Flush()
	crash(s)
	expect(t, dir, map[string]string{"out.ndjson": "theirs\ntorn\n2\n3\n"})

	// The store is lost: nothing is deleted that it had.
	s = open(t, config("out.ndjson"), sinks.Deps{Dir: dir}, nil)
	mustPut(t, s, "4")
	mustSync(t, s)
	mustClose(t, s)
	expect(t, dir, map[string]string{"out.ndjson": "theirs\ntorn\n2\n3\n4\n"})
	_ = state
}

// TestRenamedRoute takes back by the journal of the name that the route had.
func TestRenamedRoute(t *testing.T) {
	dir := t.TempDir()
	s := open(t, config("{k}.ndjson"), sinks.Deps{Dir: dir, Route: "route.old"}, nil)
	mustPut(t, s, "a.ndjson=1")
	state := mustSync(t, s)
	mustPut(t, s, "a.ndjson=2", "b.ndjson=3")
	s.Flush()
	crash(s)
	s = open(t, config("{k}.ndjson"), sinks.Deps{Dir: dir, Route: "route.new"}, state)
	expect(t, dir, map[string]string{"a.ndjson": "1\n"})
	mustClose(t, s)
}

// TestRotatedByOthers begins anew when somebody renames the file.
func TestRotatedByOthers(t *testing.T) {
	dir := t.TempDir()
	s := open(t, config("out.ndjson"), sinks.Deps{Dir: dir}, nil)
	mustPut(t, s, "1")
	mustSync(t, s)
	if err := os.Rename(filepath.Join(dir, "out.ndjson"), filepath.Join(dir, "out.1")); err != nil {
		t.Fatal(err)
	}
	mustPut(t, s, "2")
	mustSync(t, s)
	mustPut(t, s, "3")
	state := mustSync(t, s)
	mustClose(t, s)
	expect(t, dir, map[string]string{"out.1": "1\n2\n", "out.ndjson": "3\n"})
	s = open(t, config("out.ndjson"), sinks.Deps{Dir: dir}, state)
	mustPut(t, s, "4")
	mustSync(t, s)
	expect(t, dir, map[string]string{"out.1": "1\n2\n", "out.ndjson": "3\n4\n"})
}

func TestStateOfAnotherVersion(t *testing.T) {
	for _, state := range []string{`{"v":99}`, `garbage`} {
		s := config("out.ndjson").make(sinks.Deps{Dir: t.TempDir()})
		s.Restore([]byte(state))
		if err := s.Open(t.Context()); err == nil || !strings.Contains(err.Error(), "version") {
			t.Errorf("%s: got %v", state, err)
		}
		mustClose(t, s)
	}
}

func TestJournalIsBounded(t *testing.T) {
	dir := memory(t)
	c := config("{k}.ndjson")
	c.MaxOpenFiles = 1
	s := open(t, c, sinks.Deps{Dir: dir}, nil)
	shrunk, last := 0, int64(0)
	for i := range 3000 {
		for k := range 10 {
			mustPut(t, s, fmt.Sprintf("%s%d.ndjson=%d", strings.Repeat("k", 150), k, i))
		}
		mustSync(t, s)
		if s.journal.size > journalMax {
			t.Fatalf("the journal has %d bytes", s.journal.size)
		}
		if s.journal.size < last {
			shrunk++
		}
		last = s.journal.size
	}
	if shrunk < 3 {
		t.Errorf("the journal was shortened %d times", shrunk)
	}
	state := mustSync(t, s)
	mustPut(t, s, strings.Repeat("k", 150)+"3.ndjson=later")
	s.Flush()
	crash(s)
	open(t, c, sinks.Deps{Dir: dir}, state)
	if got := content(t, filepath.Join(dir, strings.Repeat("k", 150)+"3.ndjson")); strings.Contains(got, "later") || strings.Count(got, "\n") != 3000 {
		t.Errorf("%d lines, and what came after the state: %v", strings.Count(got, "\n"), strings.Contains(got, "later"))
	}
}

func TestWriteAllocatesNothing(t *testing.T) {
	for _, path := range []string{"out.ndjson", "{a}/x.ndjson"} {
		c := config(path)
		s := open(t, c, sinks.Deps{Dir: t.TempDir()}, nil)
		var values []string
		for i := range 500 {
			values = append(values, fmt.Sprintf("%d/x.ndjson=%s", i/100%3, strings.Repeat("v", 80)))
		}
		b, done := lines(values...), func(error) {}
		run := func() { s.Write(context.Background(), b, done) }
		for range 100 {
			run()
		}
		if n := testing.AllocsPerRun(100, run); n != 0 {
			t.Errorf("%s: allocs per batch = %v, want 0", path, n)
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	for _, path := range []string{"out.ndjson", "{a}/x.ndjson", "out.ndjson.gz", "out.zst"} {
		b.Run(path, func(b *testing.B) {
			s := open(b, config(path), sinks.Deps{Dir: b.TempDir()}, nil)
			var values []string
			for i := range 500 {
				values = append(values, fmt.Sprintf("%d/x.ndjson={\"user_id\":\"u%07d\",\"ts\":%d,\"os\":\"tizen\",\"pct\":12.34567}", i%3, i*7919, 1_700_000_000_000+i))
			}
			batch, n := lines(values...), 0
			done := func(err error) {
				if err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				s.Write(context.Background(), batch, done)
				if n += 500; n%500_000 == 0 { // not the disk is measured
					for _, o := range s.outs {
						o.size = 0
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/record")
		})
	}
}
