package state

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
)

// pebbleFormat is part of Format: the library writes nothing newer than this, and what it writes here tells a log that
// ends in the middle of a write from one that was damaged (FormatWALSyncChunks).
const pebbleFormat = pebble.FormatTableFormatV6

func (s *Store) pebbleOptions(exists bool) *pebble.Options {
	table := uint64(min(max(s.o.Memory/8, 1<<20), 64<<20))
	o := &pebble.Options{
		FS:                          s.fs,
		FormatMajorVersion:          pebbleFormat,
		ErrorIfNotExists:            exists,
		CacheSize:                   s.o.Memory / 2,
		MemTableSize:                table,
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       2,
		L0StopWritesThreshold:       1000,
		LBaseMaxBytes:               64 << 20,
		MaxManifestFileSize:         4 << 20, // it is read whole
		MaxOpenFiles:                512,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 2 },
		BytesPerSync:                1 << 20,
		Logger:                      quiet{s},
		EventListener: &pebble.EventListener{
			BackgroundError: s.backgroundError,
			DataCorruption:  s.corruption,
			FlushEnd: func(i pebble.FlushInfo) {
				if i.Err == nil {
					s.setProblem(nil)
				}
			},
		},
	}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10) // most keys of a window are new: they are looked for and are not there
		o.Levels[i].FilterType = pebble.TableFilter
	}
	return o
}

// closeDB closes the library's part. It panics where something is still in use, which after a failure may be the
// library itself.
func (s *Store) closeDB() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	return s.db.Close()
}

// backgroundError hears that a flush or a compaction failed, which is tried again at once.
func (s *Store) backgroundError(err error) {
	s.setProblem(fmt.Errorf("write the state in %s: %w", s.dir, s.explain(err)))
	time.Sleep(backgroundPause)
}

// backgroundPause keeps a flush that fails from taking a processor. Reads wait meanwhile.
const backgroundPause = 20 * time.Millisecond

func (s *Store) setProblem(err error) {
	s.mu.Lock()
	was := s.problem
	s.problem = err
	s.mu.Unlock()
	switch {
	case err != nil && (was == nil || was.Error() != err.Error()):
		s.log.Error("the state cannot be written", "err", err)
	case err == nil && was != nil:
		s.log.Info("the state can be written again", "dir", s.dir)
	}
}

// corruption hears which file is damaged; the error itself comes to who reads.
func (s *Store) corruption(i pebble.DataCorruptionInfo) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.damaged = i.Path
}

// explain gives an error of the library as one of ours.
func (s *Store) explain(err error) error {
	if err == nil || !pebble.IsCorruptionError(err) {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	file := s.damaged
	if file == "" {
		file = s.path(dbName)
	}
	return &CorruptError{file, err}
}

// quiet is the library's log. What it says at ease is for its makers.
type quiet struct{ s *Store }

func (q quiet) Infof(format string, args ...any) {
	if q.s.log.Enabled(context.Background(), slog.LevelDebug) {
		q.s.log.Debug(strings.TrimSpace(fmt.Sprintf(format, args...)), "dir", q.s.dir)
	}
}

func (q quiet) Errorf(format string, args ...any) {
	q.s.log.Warn(strings.TrimSpace(fmt.Sprintf(format, args...)), "dir", q.s.dir)
}

// Fatalf hears that the library cannot go on. Where a file could not be written it returns errors behind this,
// and the store is of no more use, but the process is. Anything else is a broken invariant.
func (q quiet) Fatalf(format string, args ...any) {
	for _, a := range args {
		if err, is := a.(error); is {
			q.s.fail(fmt.Errorf("write the state in %s: %w", q.s.dir, err))
			return
		}
	}
	panic(fmt.Sprintf(format, args...))
}
