package deadletter

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Line is one letter of a file.
type Line struct {
	Offset int64 // of its first byte
	Hash   int64 // of its bytes: it stays when the lines before it are taken out
	Letter Letter
}

// ReadFile calls f with the letters of a file as it is now, in order. A file
// that is not there has none. Lines that are no letters, such as one that a
// crash cut short, are counted.
func ReadFile(path string, f func(Line) error) (broken int64, err error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer file.Close()
	err = lines(file, func(at int64, text []byte) error {
		l, ok := parseLine(at, text)
		if !ok {
			broken++
			return nil
		}
		return f(l)
	})
	if err != nil {
		err = fmt.Errorf("read dead letters from %s: %w", path, err)
	}
	return broken, err
}

// lines calls f with every line, without its end. What has no end yet is being written.
func lines(r io.Reader, f func(at int64, text []byte) error) error {
	in := bufio.NewReaderSize(r, 1<<20)
	at := int64(0)
	for {
		text, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := f(at, text[:len(text)-1]); err != nil {
			return err
		}
		at += int64(len(text))
	}
}

func parseLine(at int64, text []byte) (Line, bool) {
	l := Line{Offset: at}
	if err := json.Unmarshal(text, &l.Letter); err != nil || l.Letter.Route == "" {
		return l, false
	}
	sum := sha256.Sum256(text)
	l.Hash = int64(binary.BigEndian.Uint64(sum[:8]) >> 1)
	return l, true
}

// RemoveLines takes the letters out for which gone holds, and keeps every
// other line as it is. The file is replaced as a whole, under the lock of its
// writers: after a crash it is the old one or the new one.
func RemoveLines(path string, gone func(Line) bool) (removed int64, err error) {
	w := NewFile(path, 0)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	old, err := w.lock(nil)
	if err != nil {
		return 0, fmt.Errorf("take dead letters out of %s: %w", path, err)
	}
	removed, err = rewrite(old, path, gone)
	if err = errors.Join(err, old.Close()); err != nil { // which gives the lock up
		return 0, fmt.Errorf("take dead letters out of %s: %w", path, err)
	}
	return removed, nil
}

func rewrite(old *os.File, path string, gone func(Line) bool) (removed int64, err error) {
	if _, err := old.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	next, err := os.CreateTemp(filepath.Dir(path), ".purge-*")
	if err != nil {
		return 0, err
	}
	defer os.Remove(next.Name()) //nolint:errcheck // it has another name when all went well
	out := bufio.NewWriterSize(next, 1<<20)
	err = lines(old, func(at int64, text []byte) error {
		if l, ok := parseLine(at, text); ok && gone(l) {
			removed++
			return nil
		}
		_, err := out.Write(append(bytes.Clone(text), '\n'))
		return err
	})
	if err == nil {
		err = errors.Join(next.Chmod(0o600), out.Flush(), next.Sync())
	}
	if err = errors.Join(err, next.Close()); err != nil || removed == 0 {
		return 0, err
	}
	if err := os.Rename(next.Name(), path); err != nil {
		return 0, err
	}
	return removed, syncDir(filepath.Dir(path))
}
