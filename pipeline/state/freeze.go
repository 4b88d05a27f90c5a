package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Frozen is the state at one epoch, as files that nobody changes until Release.
type Frozen struct {
	Epoch       Epoch
	Fingerprint string
	Store       string // of which directory: a file's name means the same in all of its Frozens if it is Lasting
	Files       []FrozenFile

	s   *Store
	dir string
}

// FrozenFile is one file of a Frozen.
type FrozenFile struct {
	Name    string // in the folder of the state
	Path    string // where it can be read until Release
	Size    int64
	Lasting bool // it has the same content wherever it has the same name, and may be linked to
}

const frozenPrefix = "frozen-"

// Freeze gives the state as it is after the last epoch. It is quick: files are linked, not copied, and what is in memory is
// written before, while commits go on.
func (s *Store) Freeze() (*Frozen, error) {
	if err := s.failure(); err != nil {
		return nil, err
	}
	if err := s.db.Flush(); err != nil {
		return nil, fmt.Errorf("freeze the state in %s: %w", s.dir, s.explain(err))
	}
	s.commit.Lock() // one epoch, and not one more in the log
	defer s.commit.Unlock()
	if err := s.failure(); err != nil {
		return nil, err
	}
	f := &Frozen{s: s, Store: s.id, dir: s.path(frozenPrefix + s.last.String())}
	f.Epoch, f.Fingerprint = s.last, s.Fingerprint()
	if err := s.fs.RemoveAll(f.dir); err != nil { // of a process that was killed
		return nil, err
	}
	if err := s.db.Checkpoint(f.dir, pebble.WithFlushedWAL()); err != nil {
		return nil, fmt.Errorf("freeze the state in %s: %w", s.dir, s.explain(err))
	}
	names, err := s.fs.List(f.dir)
	if err != nil {
		return nil, errors.Join(err, f.Release())
	}
	slices.Sort(names)
	for _, n := range names {
		path := s.fs.PathJoin(f.dir, n)
		fi, err := s.fs.Stat(path)
		if err != nil {
			return nil, errors.Join(err, f.Release())
		}
		f.Files = append(f.Files, FrozenFile{n, path, fi.Size(), strings.HasSuffix(n, ".sst")})
	}
	return f, nil
}

// Release takes the files away.
func (f *Frozen) Release() error { return f.s.fs.RemoveAll(f.dir) }

// sweep removes what a Freeze of a process that was killed has left.
func (s *Store) sweep() error {
	names, err := s.fs.List(s.dir)
	for _, n := range names {
		if strings.HasPrefix(n, frozenPrefix) {
			err = errors.Join(err, s.fs.RemoveAll(s.path(n)))
		}
	}
	return err
}

// Adopt makes a new directory of the files of a Frozen, which fill is to put into a folder. Its epochs go on in a generation, which must be a new one. The directory appears when it is whole; there must be none of its name.
func Adopt(dir, job string, generation int64, fill func(folder string) error) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("restore the state to %s: %w", dir, errors.Join(err, fs.ErrExist))
	}
	temp := dir + ".restoring"
	err := os.RemoveAll(temp)
	if err == nil {
		err = os.MkdirAll(vfs.Default.PathJoin(temp, dbName), 0o777)
	}
	if err == nil {
		err = fill(vfs.Default.PathJoin(temp, dbName))
	}
	if err == nil {
		err = syncDir(vfs.Default, vfs.Default.PathJoin(temp, dbName))
	}
	if err == nil {
		err = newFormat(job, generation).write(vfs.Default, temp)
	}
	if err == nil {
		err = os.Rename(temp, dir)
	}
	if err == nil {
		err = syncDir(vfs.Default, vfs.Default.PathDir(dir))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("restore the state to %s: %w", dir, err), os.RemoveAll(temp))
	}
	return nil
}
