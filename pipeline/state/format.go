package state

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Format is how this version of Keystone writes state. It also reads the two formats before.
const Format = 1

// directory is the content of the file FORMAT: what a directory is, before anything else of it is read.
type directory struct {
	Format     int    `json:"format"`
	Job        string `json:"job"`
	Store      string `json:"store"`                // of this directory alone
	Generation int64  `json:"generation,omitempty"` // of the next epochs, at least
}

func newFormat(job string, generation int64) *directory {
	return &directory{Format: Format, Job: job, Store: rand.Text(), Generation: generation}
}

// readable refuses what a newer version wrote, and what is too old.
func readable(found, ours int) error {
	switch {
	case found > ours:
		return fmt.Errorf("%w: a newer version of Keystone wrote format %d, and this one reads up to %d; use that version", ErrFormat, found, ours)
	case found < ours-2 || found < 1:
		return fmt.Errorf("%w: format %d, and this version of Keystone reads %d to %d; let a version in between bring it up to date", ErrFormat, found, max(1, ours-2), ours)
	}
	return nil
}

func (f *directory) check(job string) error {
	if err := readable(f.Format, Format); err != nil {
		return err
	}
	if f.Job != job {
		return fmt.Errorf("%w: of %s, wanted %s", ErrOtherJob, f.Job, job)
	}
	return nil
}

// readFormat reads a FORMAT; found is false where there is none.
func readFormat(fsys vfs.FS, path string) (f *directory, found bool, err error) {
	b, err := readFile(fsys, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	f = &directory{}
	if err := json.Unmarshal(b, f); err != nil {
		return nil, false, &CorruptError{path, err}
	}
	return f, true, nil
}

// write makes FORMAT, whole or not at all, and durable.
func (f *directory) write(fsys vfs.FS, dir string) error {
	b, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return writeFile(fsys, fsys.PathJoin(dir, formatName), append(b, '\n'))
}

// readFile reads a small file.
func readFile(fsys vfs.FS, path string) ([]byte, error) {
	f, err := fsys.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	var b bytes.Buffer
	_, err = io.Copy(&b, f)
	return b.Bytes(), err
}

// writeFile makes or replaces a small file, whole or not at all, and durable.
func writeFile(fsys vfs.FS, path string, b []byte) error {
	temp := path + ".tmp"
	f, err := fsys.Create(temp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fsys.Rename(temp, path); err != nil {
		return err
	}
	return syncDir(fsys, fsys.PathDir(path))
}

// explainLock tells a lock that somebody has from one that cannot be made.
func explainLock(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) && !errors.Is(err, syscall.EAGAIN) {
		return err
	}
	return ErrLocked
}

// Readable refuses a format that this version of Keystone does not read.
func Readable(format int) error { return readable(format, Format) }
