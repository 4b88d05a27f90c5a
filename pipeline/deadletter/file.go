package deadletter

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"keystone/pipeline"
)

// File appends dead letters to a file, one JSON object a line, fsynced before
// Write returns. The file and its directory are made with the first letter.
type File struct {
	path string
	max  int64
	file chan *os.File // holds the open file, nil before; who takes it may use it
}

var _ pipeline.DeadLetters = (*File)(nil)

// NewFile makes a writer to path. At maxBytes (0: no bound) it refuses further
// letters, so that the route waits for somebody to look.
func NewFile(path string, maxBytes int64) *File {
	f := &File{path: path, max: maxBytes, file: make(chan *os.File, 1)}
	f.file <- nil
	return f
}

// Write appends all letters or none, and returns when they are on disk.
func (f *File) Write(ctx context.Context, letters []pipeline.DeadLetter) error {
	var lines bytes.Buffer
	enc := json.NewEncoder(&lines)
	enc.SetEscapeHTML(false)
	for i := range letters {
		if err := enc.Encode(line(&letters[i])); err != nil {
			return fmt.Errorf("encode a dead letter: %w", err)
		}
	}
	var file *os.File
	select {
	case file = <-f.file:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	file, err := f.append(file, lines.Bytes())
	f.file <- file
	if err != nil {
		return fmt.Errorf("dead letters to %s: %w", f.path, err)
	}
	return nil
}

// append gives back the file to go on with; nil after a failure that leaves its state unknown.
func (f *File) append(file *os.File, lines []byte) (_ *os.File, err error) {
	if file, err = f.lock(file); err != nil {
		return nil, err
	}
	locked := file
	defer func() { _ = unlockFile(locked) }() // a file that was closed has given its lock up
	end, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if f.max > 0 && end+int64(len(lines)) > f.max {
		return file, fmt.Errorf("the file has %d bytes and may have %d: look at it, then move it away; the route waits", end, f.max)
	}
	if _, err = file.Write(lines); err == nil {
		err = file.Sync()
	}
	if err == nil {
		return file, nil
	}
	// Take back what was written of it, so that the repetition is no second copy and no half line stays.
	return nil, errors.Join(err, file.Truncate(end), file.Close())
}

// lock opens the file, if it is not open, and takes its lock.
//
// A: opens the file, and waits for the lock. B: has the lock, and puts a
// shorter file in its place. A: gets the lock of a file that has no name any
// more. So A looks whether the name is still that of what it has open.
func (f *File) lock(file *os.File) (*os.File, error) {
	for {
		if file == nil {
			var err error
			if file, err = open(f.path); err != nil {
				return nil, err
			}
		}
		if err := lockFile(file); err != nil {
			return nil, errors.Join(err, file.Close())
		}
		same, err := named(file, f.path)
		if err != nil {
			return nil, errors.Join(err, file.Close())
		}
		if same {
			return file, endLine(file)
		}
		if err := file.Close(); err != nil {
			return nil, err
		}
		file = nil
	}
}

// named tells whether path is the name of the open file.
func named(file *os.File, path string) (bool, error) {
	have, err := file.Stat()
	if err != nil {
		return false, err
	}
	now, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(have, now), err
}

// open makes the file durable in its directory.
func open(path string) (*os.File, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syncDir(dir); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// endLine ends a line that a crash cut short. The caller has the lock.
func endLine(file *os.File) error {
	end, err := file.Seek(0, io.SeekEnd)
	if err != nil || end == 0 {
		return err
	}
	last := make([]byte, 1)
	if _, err := file.ReadAt(last, end-1); err != nil || last[0] == '\n' {
		return err
	}
	_, err = file.Write([]byte("\n"))
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Close closes the file, if it is open: also when ctx is over, unless a Write still has it.
func (f *File) Close(ctx context.Context) error {
	var file *os.File
	select {
	case file = <-f.file:
	default:
		select {
		case file = <-f.file:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	f.file <- nil
	if file != nil {
		return file.Close()
	}
	return nil
}
