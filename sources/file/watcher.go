package file

import (
	"log/slog"
	"sync"

	"github.com/fsnotify/fsnotify"
)

// watcher listens for changes in folders. It only hastens: what it does not
// hear of is found by polling.
type watcher struct {
	log     *slog.Logger
	notify  *fsnotify.Watcher // nil if the system has no more of them
	changed chan struct{}     // holds one: something changed since it was taken
	done    sync.WaitGroup
	watched map[string]bool
}

func newWatcher(log *slog.Logger) *watcher {
	w := &watcher{log: log, changed: make(chan struct{}, 1), watched: map[string]bool{}}
	n, err := fsnotify.NewWatcher()
	if err != nil {
		log.Warn("changes of files are only found by polling", "error", err)
		return w
	}
	w.notify = n
	w.done.Add(1)
	go w.listen()
	return w
}

func (w *watcher) listen() {
	defer w.done.Done()
	for {
		select {
		case _, ok := <-w.notify.Events:
			if !ok {
				return
			}
		case _, ok := <-w.notify.Errors: // events were dropped: look
			if !ok {
				return
			}
		}
		select {
		case w.changed <- struct{}{}:
		default:
		}
	}
}

// follow listens to the folder of a file, and to the one it is linked to.
func (w *watcher) follow(path string) { w.add(folder(path)) }

// add listens to a folder.
func (w *watcher) add(dir string) {
	if w.notify == nil || w.watched[dir] {
		return
	}
	w.watched[dir] = true
	if err := w.notify.Add(dir); err != nil {
		w.log.Debug("changes in a folder are only found by polling", "folder", dir, "error", err)
	}
}

func (w *watcher) close() error {
	if w.notify == nil {
		return nil
	}
	err := w.notify.Close()
	w.done.Wait()
	return err
}
