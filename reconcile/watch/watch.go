// Package watch tells when the content of a configuration's files has
// changed, however that is done: in place, by an editor's rename, by the symlink swap of a
// mounted ConfigMap, or by a directory that goes and comes back. Events of the
// file system make it quick; comparing contents now and then makes it sure.
package watch

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Options say what to watch. Zero durations are the defaults.
type Options struct {
	Dir      string
	Others   []string      // files elsewhere that belong to it: compared, without events
	Debounce time.Duration // for which contents must stay the same before they count; 100ms
	Poll     time.Duration // between comparisons without events; 2s
	Log      *slog.Logger
}

// Change is new content that has come to rest.
type Change struct {
	Snapshot
	// Err says why there is no content: the directory is missing, unreadable, or has no
	// configuration any more. Nobody's goal: what runs goes on.
	Err error
	// Again says that the files were no longer this content when they were
	// read: what they hold at rest is told again, be it this. Only while tell runs.
	Again func()
	// Later says that the content could not be taken for now: it is told again after a poll, until it is. Only
	// while tell runs.
	Later func()
}

// Watcher watches one directory. Make it with New and run it once.
type Watcher struct {
	o        Options
	last     string // hash that was told last, or the error's text
	pollOnly bool   // tests: without events
	compared func() // tests: after each comparison
}

// New makes a watcher. since is the hash that the caller knows already (of
// Take); "" has the first content told.
func New(o Options, since string) *Watcher {
	if o.Debounce <= 0 {
		o.Debounce = 100 * time.Millisecond
	}
	if o.Poll <= 0 {
		o.Poll = 2 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Watcher{o: o, last: since, compared: func() {}}
}

// Run calls tell with each change, from its own goroutine, until ctx is done.
// While tell runs no other change is told; the next one is what the files hold then.
func (w *Watcher) Run(ctx context.Context, tell func(Change)) {
	e := w.newEvents()
	defer e.close()
	poll := time.NewTicker(w.o.Poll)
	defer poll.Stop()
	rest := time.NewTimer(0)
	defer rest.Stop()
	c := candidate{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.wake():
			rest.Reset(w.o.Debounce)
		case err := <-e.errors():
			w.o.Log.Warn("file events are lost; contents are compared instead", "dir", w.o.Dir, "error", err.Error())
			rest.Reset(w.o.Debounce)
		case <-poll.C:
			e.follow()
			if !c.open {
				rest.Reset(0)
			}
		case <-rest.C:
			if w.compare(&c, tell) {
				rest.Reset(w.o.Debounce)
			}
			w.compared()
		}
	}
}

// candidate is content that differs from what was told, and must prove that
// nobody is still writing it.
type candidate struct {
	open  bool
	hash  string
	tries int
}

// maxTries bounds the wait for rest: files that are written all the time are told as they are.
const maxTries = 50

// compare tells whether to look again after the debounce.
func (w *Watcher) compare(c *candidate, tell func(Change)) (again bool) {
	s, err := Take(w.o.Dir, w.o.Others...)
	hash := s.Hash
	if err != nil {
		hash = "error: " + err.Error()
	}
	if hash == w.last {
		*c = candidate{}
		return false
	}
	if !c.open || c.hash != hash && c.tries < maxTries {
		c.tries++
		c.open, c.hash = true, hash
		return true
	}
	*c = candidate{}
	w.last = hash
	unread, later := false, false
	tell(Change{Snapshot: s, Err: err, Again: func() { unread = true }, Later: func() { later = true }})
	if unread || later {
		w.last = "not taken"
	}
	return unread
}

// events are those of the file system, as long as there are any.
type events struct {
	w    *Watcher
	fs   *fsnotify.Watcher // nil: only contents are compared
	info os.FileInfo       // of the directory that is watched; nil: none
}

func (w *Watcher) newEvents() *events {
	e := &events{w: w}
	if w.pollOnly {
		return e
	}
	fs, err := fsnotify.NewWatcher()
	if err != nil {
		w.o.Log.Warn("no file events; contents are compared instead", "dir", w.o.Dir, "error", err.Error())
		return e
	}
	e.fs = fs
	e.follow()
	return e
}

// follow watches the directory that is at the path now: it may have been
// removed and made again, or replaced by another one.
func (e *events) follow() {
	if e.fs == nil {
		return
	}
	info, err := os.Stat(e.w.o.Dir)
	if err != nil {
		e.info = nil
		return
	}
	if e.info != nil && os.SameFile(e.info, info) {
		return
	}
	_ = e.fs.Remove(e.w.o.Dir) // it may be gone already
	if err := e.fs.Add(e.w.o.Dir); err != nil {
		e.w.o.Log.Warn("no file events; contents are compared instead", "dir", e.w.o.Dir, "error", err.Error())
		return
	}
	e.info = info
}

func (e *events) wake() <-chan fsnotify.Event {
	if e.fs == nil {
		return nil
	}
	return e.fs.Events
}

func (e *events) errors() <-chan error {
	if e.fs == nil {
		return nil
	}
	return e.fs.Errors
}

func (e *events) close() {
	if e.fs != nil {
		_ = e.fs.Close() // nothing can be done about it
	}
}
