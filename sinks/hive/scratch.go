package hive

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"keystone/sources/hive/storage"
)

// scratch is a folder for what is not uploaded yet, made when it is needed and gone with the process.
type scratch struct {
	in string // folder that it is made in; "" is the system's

	mu    sync.Mutex // guards all below
	dir   string
	lock  *os.File
	local *storage.Local
}

const scratchPrefix = "keystone-hive-"

// open gives the folder. What processes left that are no more is deleted with its first use.
func (s *scratch) open() (*storage.Local, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.local != nil {
		return s.local, nil
	}
	in := s.in
	if in == "" {
		in = os.TempDir()
	} else if err := os.MkdirAll(in, 0o777); err != nil {
		return nil, err
	}
	sweepScratch(in)
	dir, err := os.MkdirTemp(in, scratchPrefix)
	if err != nil {
		return nil, err
	}
	if s.lock, err = os.Create(filepath.Join(dir, "lock")); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := tryLock(s.lock); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", s.lock.Name(), err), s.lock.Close(), os.RemoveAll(dir))
	}
	d, err := storage.OpenDisk(dir)
	if err != nil {
		return nil, errors.Join(err, s.lock.Close(), os.RemoveAll(dir))
	}
	s.dir, s.local = dir, storage.NewLocal(dir, d)
	return s.local, nil
}

func (s *scratch) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.local == nil {
		return nil
	}
	err := errors.Join(s.local.Close(), s.lock.Close(), os.RemoveAll(s.dir))
	s.local, s.lock = nil, nil
	return err
}

// sweepScratch deletes folders whose process is no more: nobody holds their lock. One that has
// no lock yet is being made.
func sweepScratch(in string) {
	dirs, _ := filepath.Glob(filepath.Join(in, scratchPrefix+"*"))
	for _, dir := range dirs {
		f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if fi, err := f.Stat(); err == nil && tryLock(f) == nil && fi.Mode().IsRegular() {
			_ = os.RemoveAll(dir)
		}
		_ = f.Close()
	}
}
