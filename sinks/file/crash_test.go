package file

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"keystone/sinks"
)

// faulty is a file whose disk is sometimes full, and sometimes cannot sync.
type faulty struct {
	file
	fail func() bool
	sure int64 // so much is on disk
}

func (f *faulty) WriteAt(p []byte, at int64) (int, error) {
	if f.fail() {
		n, _ := f.file.WriteAt(p[:len(p)/2], at)
		return n, &os.PathError{Op: "write", Err: syscall.ENOSPC}
	}
	return f.file.WriteAt(p, at)
}

func (f *faulty) Sync() error {
	if f.fail() {
		return &os.PathError{Op: "sync", Err: syscall.EIO}
	}
	f.know()
	return f.file.Sync()
}

func (f *faulty) know() {
	if fi, err := f.Stat(); err == nil {
		f.sure = fi.Size()
	}
}

// world is a source that can be read again, a store, and the files.
type world struct {
	t      *rapid.T
	dir    string
	config Config
	deps   sinks.Deps
	keyed  bool
	next   int    // record to write
	stored int    // position in the store
	state  []byte // and what the sink said there
	sink   *sink
	faults bool
}

func (w *world) start() {
	w.sink = w.config.make(w.deps)
	w.sink.limit = 50
	w.sink.edge = func(f file) file {
		bad := &faulty{file: f, fail: func() bool { return w.faults && rapid.IntRange(0, 3).Draw(w.t, "fault") == 0 }}
		bad.know()
		return bad
	}
	w.sink.Restore(w.state)
	if err := w.sink.Open(context.Background()); err != nil {
		w.t.Fatalf("open: %v", err)
	}
	w.next = w.stored
}

func (w *world) value(n int) string {
	if w.keyed {
		return fmt.Sprintf("%d/%s=%d", n%5, filepath.Base(w.config.Path.S), n)
	}
	return fmt.Sprint(n)
}

// write writes the next records, as a worker does: what may be tried again is.
func (w *world) write() {
	n := rapid.IntRange(0, 12).Draw(w.t, "records")
	var batch []string
	for i := range n {
		batch = append(batch, w.value(w.next+i))
	}
	for range 1000 {
		err := put(w.sink, batch...)
		var partial *sinks.PartialError
		switch {
		case err == nil:
			w.next += n
			return
		case errors.As(err, &partial):
			var again []string
			for _, f := range partial.Failures {
				if f.Outcome != sinks.Retryable {
					w.t.Fatalf("a full disk rejects: %v", f.Err)
				}
				again = append(again, batch[f.Index])
			}
			batch = again
		case sinks.IsPermanent(err):
			w.t.Fatalf("a full disk is permanent: %v", err)
		}
	}
	w.t.Fatalf("it never succeeds")
}

// sync makes a checkpoint; stored says whether the store takes it.
func (w *world) sync(stored bool) {
	for range 1000 {
		state, err := w.sink.Sync(context.Background())
		if err != nil {
			continue
		}
		if stored {
			w.stored, w.state = w.next, state
		}
		return
	}
	w.t.Fatalf("it never succeeds")
}

// crash ends the process. Of what was not synced some is on disk, or none, or garbage.
func (w *world) crash() {
	for _, o := range w.sink.outputs() {
		now, sure := o.size, o.f.(*faulty).sure
		if err := o.f.Truncate(rapid.Int64Range(min(sure, now), now).Draw(w.t, "on disk")); err != nil {
			w.t.Fatal(err)
		}
		if rapid.Bool().Draw(w.t, "garbage") {
			if _, err := o.f.(*faulty).file.WriteAt([]byte("\x00\x00torn"), now); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	crash(w.sink)
	w.start()
}

// TestNothingLostOrTwice is the promise: whatever happens, when a checkpoint is
// stored, every record before it is in the files once, in order, and nothing else is.
func TestNothingLostOrTwice(t *testing.T) {
	for _, c := range []Config{
		config("out.ndjson"), config("out.ndjson.gz"), config("out.zst"),
		config("{k}/k.ndjson"), config("{k}/k.ndjson.gz"),
		{Path: config("out.ndjson").Path, RotateBytes: 30, MaxOpenFiles: 1, Newlines: Space},
		{Path: config("{k}/k.ndjson").Path, RotateBytes: 30, MaxOpenFiles: 2, Newlines: Space},
	} {
		t.Run(fmt.Sprintf("%s rotate %d", c.Path.S, c.RotateBytes), func(t *testing.T) {
			base := memory(t)
			rapid.Check(t, func(t *rapid.T) {
				dir, err := os.MkdirTemp(base, "")
				if err != nil {
					t.Fatal(err)
				}
				defer os.RemoveAll(dir) //nolint:errcheck // TempDir is removed too
				w := &world{t: t, dir: dir, config: c, deps: sinks.Deps{Dir: dir}, keyed: !parseTarget(c.Path.S).plain}
				w.start()
				w.faults = rapid.Bool().Draw(t, "faults")
				for range rapid.IntRange(1, 12).Draw(t, "steps") {
					switch rapid.SampledFrom([]string{"write", "write", "sync", "sync unstored", "flush", "crash", "restart"}).Draw(t, "step") {
					case "write":
						w.write()
					case "sync":
						w.sync(true)
					case "sync unstored":
						w.sync(false)
						w.crash() // a worker that could not store does not write on
					case "flush":
						w.sink.Flush()
					case "crash":
						w.crash()
					case "restart":
						_ = w.sink.Close(context.Background())
						w.start()
					}
				}
				w.faults = false
				w.write()
				w.sync(true)
				_ = w.sink.Close(context.Background())
				w.check()
			})
		})
	}
}

// check compares the files with the records up to the stored position.
func (w *world) check() {
	want := map[string]string{}
	for n := range w.stored {
		key, value, keyed := strings.Cut(w.value(n), "=")
		if !keyed {
			key, value = "all", key
		}
		want[key] += value + "\n"
	}
	got := map[string]string{}
	keys := []string{w.config.Path.S}
	if w.keyed {
		keys = nil
		for i := range 5 {
			keys = append(keys, fmt.Sprintf("%d/%s", i, filepath.Base(w.config.Path.S)))
		}
	}
	for _, key := range keys {
		to := key
		if !w.keyed {
			to = "all"
		}
		for i := range 1000 { // in the order of numbers
			path := filepath.Join(w.dir, key)
			if i > 0 {
				path = filepath.Join(w.dir, numbered(key, i))
			}
			if _, err := os.Stat(path); err == nil {
				got[to] += content(w.t, path)
			} else if i > 0 {
				break
			}
		}
	}
	for key, text := range want {
		if got[key] != text {
			w.t.Fatalf("%s: got %q, want %q", key, got[key], text)
		}
		delete(got, key)
	}
	for key, text := range got {
		if text != "" {
			w.t.Fatalf("%s holds %q, want nothing", key, text)
		}
	}
}

// memory gives a folder that is quick to sync, where the system has one.
func memory(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "keystone")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
