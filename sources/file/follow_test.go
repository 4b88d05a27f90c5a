package file

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"keystone/pipeline/record"
)

// tail reads a source that follows, as its worker does.
type tail struct {
	t    *testing.T
	s    *source
	l    *listener
	got  map[int32][]string // by partition
	next map[int32]record.Position
}

func follow(t *testing.T, c Config, from ...record.Position) *tail {
	c.Follow = true
	s, l := open(t, c, from...)
	return &tail{t, s, l, map[int32][]string{}, map[int32]record.Position{}}
}

// until reads until ok holds. All tests end by the test's own time limit at the latest.
func (f *tail) until(ok func() bool) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), time.Minute)
	defer cancel()
	b := &record.Batch{}
	for !ok() {
		b.Reset()
		if err := f.s.Read(ctx, b); err != nil {
			f.t.Fatalf("%v; got %q", err, f.got)
		}
		for _, r := range b.Records {
			f.got[b.Partition] = append(f.got[b.Partition], string(r.Value))
		}
		if len(b.Records) > 0 {
			f.next[b.Partition] = b.Next
			if err := f.s.Commit(ctx, []record.Position{b.Next}); err != nil {
				f.t.Fatal(err)
			}
		}
	}
}

// expect reads until the partition has the values.
func (f *tail) expect(part int32, values ...string) {
	f.t.Helper()
	f.until(func() bool { return len(f.got[part]) >= len(values) })
	equal(f.t, f.got[part], values...)
}

func TestFollow(t *testing.T) {
	for _, watched := range []bool{true, false} {
		path := filepath.Join(t.TempDir(), "app.log")
		write(t, path, "a\nb")
		c := config(path)
		if watched {
			c.PollInterval = time.Hour // hear of it, or wait for ever
		}
		f := follow(t, c)
		if !watched {
			if err := f.s.watch.notify.Close(); err != nil {
				t.Fatal(err)
			}
		}
		f.expect(0, "a")
		add(t, path, "b\nc\n")
		f.expect(0, "a", "bb", "c")
		add(t, path, "torn")
		add(t, path, "\nd\n")
		f.expect(0, "a", "bb", "c", "torn", "d")
		if ends := f.s.Ends(); ends[0] != 14 {
			t.Errorf("the end is at %d, want 14", ends[0])
		}
	}
}

func TestFollowWaitsForTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.log")
	f := follow(t, config(path))
	if len(f.l.assigned) > 0 {
		t.Fatal("a partition of nothing")
	}
	write(t, path, "a\n")
	f.expect(0, "a")
}

// TestRotation renames the file while it is followed; its writer has it open a little longer.
func TestRotation(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "app.log")
	write(t, path, "a\n")
	writer, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close() //nolint:errcheck // only a test
	c := config(path)
	c.RotateWait = 50 * time.Millisecond
	f := follow(t, c)
	f.expect(0, "a")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if _, err := writer.WriteString("b\n"); err != nil {
		t.Fatal(err)
	}
	write(t, path, "c\n")
	f.expect(1, "c")
	f.expect(0, "a", "b")
	f.until(func() bool { return len(f.l.revoked) == 1 })
	if f.l.revoked[0] != 0 {
		t.Errorf("partition %d was given up", f.l.revoked[0])
	}
	add(t, path, "d\n")
	f.expect(1, "c", "d")
	if _, ok := f.s.Ends()[0]; ok || len(f.s.inputs) != 1 {
		t.Error("the rotated file is still there")
	}
}

// TestRotatedFileWaitsForItsCommit holds that a partition whose records are on
// their way is not given up.
func TestRotatedFileWaitsForItsCommit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.log")
	write(t, path, "a\n")
	c := config(path)
	c.RotateWait = 0
	f := follow(t, c)
	b := &record.Batch{}
	for len(b.Records) == 0 {
		if err := f.s.Read(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	f.until(func() bool { return f.s.inputs[0].left })
	for range 5 {
		f.until(func() bool { return true })
		if err := f.s.look(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if len(f.l.revoked) > 0 {
		t.Fatal("given up before it was committed")
	}
	if err := f.s.Commit(t.Context(), []record.Position{b.Next}); err != nil {
		t.Fatal(err)
	}
	f.until(func() bool { return len(f.l.revoked) == 1 })
}

// TestRotationWithinThePattern follows a file under its new name, and does not read it again.
func TestRotationWithinThePattern(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "app.log")
	write(t, path, "a\n")
	f := follow(t, config(filepath.Join(dir, "app.log*")))
	f.expect(0, "a")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	write(t, path, "b\n")
	add(t, path+".1", "late\n")
	f.expect(1, "b")
	f.expect(0, "a", "late")
	f.until(func() bool { return f.s.inputs[0].position().Name == path+".1" })
	write(t, path+".2.gz", pack(t, Gzip, "a\nlate\n")) // what logrotate does next
	if err := os.Remove(path + ".1"); err != nil {
		t.Fatal(err)
	}
	f.until(func() bool { return len(f.l.revoked) == 1 })
	add(t, path, "c\n")
	f.expect(1, "b", "c")
	if len(f.got) != 2 {
		t.Errorf("got %q", f.got)
	}
}

// TestTruncation cuts the file back while it is followed.
func TestTruncation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.log")
	write(t, path, "first\nsecond\n")
	f := follow(t, config(path))
	f.expect(0, "first", "second")
	old := f.next[0]
	write(t, path, "third\n") // truncates and writes
	f.expect(1, "third")
	f.until(func() bool { return len(f.l.revoked) == 1 })
	if f.next[1].Identity == old.Identity {
		t.Error("the identity stayed")
	}
	write(t, path, "a longer line than all of them before\n") // grows beyond where it was
	f.expect(2, "a longer line than all of them before")
	now := f.next[2]

	// A restart with what is stored of all of them goes on in the newest.
	again := follow(t, config(path), old, f.next[1], now)
	add(t, path, "fourth\n")
	again.expect(2, "fourth")
	if len(again.l.assigned) != 1 || again.l.assigned[0].Offset != now.Offset {
		t.Errorf("assigned %+v", again.l.assigned)
	}
}

// TestSymlink follows what a link leads to, and what it leads to next.
func TestSymlink(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "current.log")
	write(t, filepath.Join(dir, "v1", "x"), "a\n")
	write(t, filepath.Join(dir, "v2", "x"), "c\n")
	if err := os.Symlink("v1/x", link); err != nil {
		t.Fatal(err)
	}
	c := config(link)
	c.PollInterval = time.Hour // changes behind the link are heard of, too
	f := follow(t, c)
	f.expect(0, "a")
	add(t, filepath.Join(dir, "v1", "x"), "b\n")
	f.expect(0, "a", "b")
	if err := os.Symlink("v2/x", link+".new"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(link+".new", link); err != nil {
		t.Fatal(err)
	}
	f.expect(1, "c")
}

// TestRestartFindsRotatedFile goes on in a file that was renamed while nobody looked.
func TestRestartFindsRotatedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.log")
	write(t, path, "a\nb\n")
	f := follow(t, config(path))
	f.expect(0, "a", "b")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	add(t, path+".1", "c\n")
	write(t, path, "d\n")
	again := follow(t, config(path), f.next[0])
	again.expect(0, "c")
	again.expect(1, "d")
	again.until(func() bool { return len(again.l.revoked) == 1 })
}

// TestRestartAfterInodeReuse reads a new file from its start though it has the number of the old one.
func TestRestartAfterInodeReuse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.log")
	write(t, path, "old\n")
	f := follow(t, config(path))
	f.expect(0, "old")
	write(t, path, "new and longer\n") // the same inode, other content
	again := follow(t, config(path), f.next[0])
	again.expect(1, "new and longer")
}

func TestFollowEndsWithContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.log")
	write(t, path, "")
	f := follow(t, config(path))
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	for {
		err := f.s.Read(ctx, &record.Batch{Want: record.Want{Linger: time.Hour}})
		if errors.Is(err, context.Canceled) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
