package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Store is the state of one job. Get and Scan may be called at any time, from several goroutines, and see what was
// committed; one Commit is made at a time.
//
// Lock order: commit, then mu. commit is held over I/O, mu is not.
type Store struct {
	dir    string
	id     string // of the directory: files of the same name in another one are others
	o      Options
	fs     vfs.FS
	log    *slog.Logger
	lock   io.Closer
	db     *pebble.DB
	commit sync.Mutex // one at a time; a checkpoint is a commit's turn

	mu         sync.Mutex // guards what follows
	generation int64
	last       Epoch
	shape      string // fingerprint of last
	meta       []byte
	failed     error  // for good
	problem    error  // of the last flush or compaction
	damaged    string // the file that was found corrupt
}

// Names in the directory.
const (
	lockName   = "LOCK"
	formatName = "FORMAT"
	dbName     = "db"
)

// The store's own keys.
var (
	ownKeys  = []byte{0xff, 0xff}
	epochKey = []byte{0xff, 0xff, 'e'}
)

// Open opens a directory, which is made if need be, at the last committed epoch. It reads what it needs, not all.
func Open(dir string, o Options) (*Store, error) {
	if o.Job == "" {
		return nil, errors.New("state: a job without identity")
	}
	if o.Memory <= 0 {
		o.Memory = 64 << 20
	}
	if o.fs == nil {
		o.fs = vfs.Default
	}
	s := &Store{dir: filepath.Clean(dir), o: o, fs: o.fs, log: o.Log}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := s.open(); err != nil {
		if s.db != nil {
			err = errors.Join(err, s.db.Close())
		}
		if s.lock != nil {
			err = errors.Join(err, s.lock.Close())
		}
		return nil, fmt.Errorf("open the state in %s: %w", s.dir, err)
	}
	return s, nil
}

func (s *Store) open() error {
	if err := s.makeDir(); err != nil {
		return err
	}
	lock, err := s.fs.Lock(s.path(lockName))
	if err != nil {
		return explainLock(err)
	}
	s.lock = lock
	if err := s.sweep(); err != nil {
		return err
	}
	f, found, err := readFormat(s.fs, s.path(formatName))
	if err != nil {
		return err
	}
	if found {
		if err := f.check(s.o.Job); err != nil {
			return err
		}
	}
	if found {
		if err := s.checkManifest(); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if s.db, err = pebble.Open(s.path(dbName), s.pebbleOptions(found)); err != nil {
		s.db = nil
		if errors.Is(err, pebble.ErrDBDoesNotExist) {
			return &CorruptError{s.path(dbName), errors.New("it is missing")}
		}
		if found && errors.Is(err, fs.ErrNotExist) {
			err = &CorruptError{s.path(dbName), err}
		}
		return s.explain(err)
	}
	if err := s.readLast(); err != nil {
		return err
	}
	if !found {
		// A directory that was being made when the process ended has no epoch yet.
		if !s.last.IsZero() {
			return &CorruptError{s.path(formatName), errors.New("it is missing, and there is state")}
		}
		f = newFormat(s.o.Job, 0)
		if err := f.write(s.fs, s.dir); err != nil {
			return err
		}
	}
	s.id = f.Store
	s.generation = max(1, s.o.Generation, f.Generation, s.last.Generation)
	return nil
}

func (s *Store) path(name string) string { return s.fs.PathJoin(s.dir, name) }

// makeDir makes the directory and brings its name to disk.
func (s *Store) makeDir() error {
	if _, err := s.fs.Stat(s.dir); err == nil {
		return nil
	}
	if err := s.fs.MkdirAll(s.dir, 0o777); err != nil {
		return err
	}
	return syncDir(s.fs, s.fs.PathDir(s.dir))
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// readLast finds the last epoch.
func (s *Store) readLast() error {
	v, done, err := s.db.Get(epochKey)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	if err != nil {
		return s.explain(err)
	}
	defer done.Close() //nolint:errcheck // only read
	s.last, s.shape, s.meta, err = decodeEpoch(v)
	if err != nil {
		return &CorruptError{s.path(dbName), err}
	}
	s.meta = bytes.Clone(s.meta)
	return nil
}

// Close gives the directory free. What was committed is there.
func (s *Store) Close() error {
	s.commit.Lock()
	defer s.commit.Unlock()
	s.fail(errClosed)
	err := s.closeDB()
	if err2 := s.lock.Close(); err == nil {
		err = err2
	}
	if err != nil {
		return fmt.Errorf("close the state in %s: %w", s.dir, err)
	}
	return nil
}

var errClosed = errors.New("the state is closed")

// Generation is the one that the next epochs are of.
func (s *Store) Generation() int64 { return s.generation }

// Last gives the last committed epoch and what was committed with it; the zero Epoch if there is none. meta is not to be changed.
func (s *Store) Last() (e Epoch, meta []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last, s.meta
}

// Fingerprint is what Options.Fingerprint was when the last epoch was committed.
func (s *Store) Fingerprint() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shape
}

// Get gives the committed value of a key; v is the caller's.
func (s *Store) Get(key []byte) (v []byte, ok bool, err error) {
	if err := s.failure(); err != nil {
		return nil, false, err
	}
	b, done, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read the state in %s: %w", s.dir, s.explain(err))
	}
	v = append(make([]byte, 0, len(b)), b...)
	return v, true, done.Close()
}

// Scan calls f for the committed keys from lo to before hi, in order; nil hi is the end. k and v are f's until it
// returns. An error of f ends it. All keys are of the same epoch, however long it takes.
func (s *Store) Scan(lo, hi []byte, f func(k, v []byte) error) error {
	if err := s.failure(); err != nil {
		return err
	}
	if hi == nil {
		hi = ownKeys
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lo, UpperBound: hi})
	if err != nil {
		return fmt.Errorf("read the state in %s: %w", s.dir, s.explain(err))
	}
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			break // it is the iterator's, too
		}
		if err := f(it.Key(), v); err != nil {
			return errors.Join(err, it.Close())
		}
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return fmt.Errorf("read the state in %s: %w", s.dir, s.explain(err))
	}
	return nil
}

// Commit makes the changes of a batch and meta, all or nothing and durable when it returns, the state of an epoch, which
// must be after Last. An error other than ErrStale, ErrTooLarge and ErrReserved is final: whether the epoch was committed
// is open, and the store is of no more use; open it anew. b may be nil. It can be used again after Reset.
func (s *Store) Commit(b *Batch, e Epoch, meta []byte) error {
	s.commit.Lock()
	defer s.commit.Unlock()
	if err := s.failure(); err != nil {
		return err
	}
	if e.N < 1 || e.Generation != s.generation || !e.After(s.last) {
		return fmt.Errorf("commit epoch %v after %v, in generation %d: %w", e, s.last, s.generation, ErrStale)
	}
	if b == nil {
		b = s.NewBatch()
		defer b.Close()
	}
	if b.err != nil {
		return fmt.Errorf("commit epoch %v: %w", e, b.err)
	}
	if b.Size() > MaxBatch {
		return fmt.Errorf("commit epoch %v: %w: %d MiB, at most %d; let checkpoint.interval be shorter or the job's memory smaller", e, ErrTooLarge, b.Size()>>20, MaxBatch>>20)
	}
	if err := b.b.Set(epochKey, appendEpoch(nil, e, s.o.Fingerprint, meta), nil); err != nil {
		return fmt.Errorf("commit epoch %v: %w", e, err)
	}
	b.committed = true
	err := s.db.Apply(b.b, pebble.Sync)
	if err == nil {
		err = s.failure() // the library calls a failed commit fatal and expects not to come back
	}
	if err != nil {
		err = fmt.Errorf("commit epoch %v to %s: %w", e, s.dir, s.explain(err))
		s.fail(err)
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last, s.shape, s.meta = e, s.o.Fingerprint, bytes.Clone(meta)
	return nil
}

// fail makes all that follows fail with the first error.
func (s *Store) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = err
	}
}

func (s *Store) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// Problem is why writing to disk behind the commits fails at the moment, as where the disk is full; nil if it does not. Commits wait
// for it in the end.
func (s *Store) Problem() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return s.failed
	}
	return s.problem
}

const epochVersion = 1

// appendEpoch encodes what a commit says of itself.
func appendEpoch(dst []byte, e Epoch, fingerprint string, meta []byte) []byte {
	dst = append(dst, epochVersion)
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.Generation))
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.N))
	dst = binary.AppendUvarint(dst, uint64(len(fingerprint)))
	dst = append(dst, fingerprint...)
	return append(dst, meta...)
}

func decodeEpoch(b []byte) (e Epoch, fingerprint string, meta []byte, err error) {
	if len(b) < 17 || b[0] != epochVersion {
		return e, "", nil, fmt.Errorf("the record of the last epoch has %d bytes and is not of version %d", len(b), epochVersion)
	}
	e = Epoch{int64(binary.BigEndian.Uint64(b[1:])), int64(binary.BigEndian.Uint64(b[9:]))}
	n, w := binary.Uvarint(b[17:])
	if w <= 0 || n > uint64(len(b)-17-w) {
		return e, "", nil, errors.New("the record of the last epoch ends in its middle")
	}
	b = b[17+w:]
	return e, string(b[:n]), b[n:], nil
}

// Forget takes away the keys from lo to before hi without an epoch. They may come back after a crash: it is for what does no harm then. It
// may run beside Commit.
func (s *Store) Forget(lo, hi []byte) error {
	if err := s.failure(); err != nil {
		return err
	}
	if bytes.Compare(hi, ownKeys) > 0 {
		return ErrReserved
	}
	if err := s.db.DeleteRange(lo, hi, pebble.NoSync); err != nil {
		return fmt.Errorf("write to the state in %s: %w", s.dir, s.explain(err))
	}
	return s.failure()
}

// Note gives a key a value without an epoch, durable when it returns. It may run beside Commit; a rewind does not take it back.
func (s *Store) Note(key, value []byte) error {
	if err := s.failure(); err != nil {
		return err
	}
	if own(key) {
		return ErrReserved
	}
	if err := s.db.Set(key, value, pebble.Sync); err != nil {
		return fmt.Errorf("write to the state in %s: %w", s.dir, s.explain(err))
	}
	return s.failure()
}
