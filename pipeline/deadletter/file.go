package deadletter

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
	"unicode/utf8"

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

// Letter is a line of the file. Bytes that are not UTF-8 are in base64, under
// the name with the suffix; a null value is null.
type Letter struct {
	Route       string         `json:"route"`
	Topic       string         `json:"topic"`
	Partition   int32          `json:"partition"`
	Offset      int64          `json:"offset"`
	Identity    string         `json:"identity,omitempty"`
	Timestamp   int64          `json:"timestamp,omitempty"` // of the record, milliseconds since 1970
	Key         *string        `json:"key,omitempty"`
	KeyBase64   []byte         `json:"key_base64,omitempty"`
	Value       *string        `json:"value"`
	ValueBase64 []byte         `json:"value_base64,omitempty"`
	Headers     []LetterHeader `json:"headers,omitempty"`
	Code        string         `json:"error_code"`
	Error       string         `json:"error"`
	At          string         `json:"error_at,omitempty"`
	Attempts    int            `json:"attempts"`
	Time        time.Time      `json:"time"`
	Revision    int64          `json:"revision"`
}

// LetterHeader is a header of the record.
type LetterHeader struct {
	Key         string  `json:"key"`
	Value       *string `json:"value"`
	ValueBase64 []byte  `json:"value_base64,omitempty"`
}

// line gives the letter as it is written.
func line(l *pipeline.DeadLetter) Letter {
	x := Letter{
		Route: l.Route.String(), Topic: l.Topic, Partition: l.Partition, Offset: l.Record.Offset, Identity: l.Identity,
		Timestamp: l.Record.Timestamp, Code: l.Code, Error: bound(l.Error), At: l.At, Attempts: l.Attempts, Time: l.Time.UTC(), Revision: l.Revision,
	}
	x.Key, x.KeyBase64 = text(l.Record.Key)
	x.Value, x.ValueBase64 = text(l.Record.Value)
	for _, h := range l.Record.Headers {
		lh := LetterHeader{Key: h.Key}
		lh.Value, lh.ValueBase64 = text(h.Value)
		x.Headers = append(x.Headers, lh)
	}
	return x
}

func text(b []byte) (*string, []byte) {
	if b == nil {
		return nil, nil
	}
	if !utf8.Valid(b) {
		return nil, b
	}
	s := string(b)
	return &s, nil
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
func (f *File) append(file *os.File, lines []byte) (*os.File, error) {
	if file == nil {
		var err error
		if file, err = open(f.path); err != nil {
			return nil, err
		}
	}
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

// open makes the file durable in its directory and ends a line that a crash cut short.
func open(path string) (*os.File, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	if err := prepare(file, dir); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

func prepare(file *os.File, dir string) error {
	if end, err := file.Seek(0, io.SeekEnd); err != nil {
		return err
	} else if end > 0 {
		last := make([]byte, 1)
		if _, err := file.ReadAt(last, end-1); err != nil {
			return err
		}
		if last[0] != '\n' {
			if _, err := file.Write([]byte("\n")); err != nil {
				return err
			}
		}
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Close closes the file, if it is open.
func (f *File) Close(ctx context.Context) error {
	select {
	case file := <-f.file:
		f.file <- nil
		if file != nil {
			return file.Close()
		}
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
