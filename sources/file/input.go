package file

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"keystone/pipeline/record"
	"keystone/sources/lines"
)

const (
	packedBlock   = 256 << 10 // read from a compressed file at once
	zstdWindowMax = 128 << 20 // what `zstd --long` needs; more is refused
)

// input is one file: a partition.
type input struct {
	part int32
	id   identity
	ids  string // id as it is stored
	path string
	pack Compression

	f     *os.File // nil before the first read of a bounded source, and after the last
	r     io.Reader
	free  func()
	split *lines.Splitter
	at    int64 // where reading begins
	ended bool

	// With follow:
	fresh   bool // there may be something to read
	away    bool // no longer under its path
	left    bool // read to its end for good: waits until that is committed
	changed time.Time

	// Shared with Pause, Ends and Commit; guarded by source.mu.
	paused    bool
	size      int64 // -1 if it is not known
	committed int64
}

func (in *input) identified(id identity) { in.id, in.ids = id, id.String() }

func (in *input) position() record.Position {
	at := in.at
	if in.split != nil {
		at = in.split.Offset()
	}
	return record.Position{Partition: in.part, Offset: at, Identity: in.ids, Name: in.path}
}

// open begins to read at in.at.
func (in *input) open(maxLine int64) error {
	if in.f == nil {
		f, err := os.Open(in.path)
		if err != nil {
			return err
		}
		in.f = f
	}
	in.split = lines.New(maxLine, in.at)
	r, free, err := unpack(in.f, in.pack)
	if err != nil {
		return err
	}
	in.r, in.free = r, free
	if in.pack == None {
		_, err = in.f.Seek(in.at, io.SeekStart)
		return err
	}
	if in.at == 0 {
		return nil
	}
	last := &lastByte{}
	n, err := io.CopyN(last, in.r, in.at)
	switch {
	case errors.Is(err, io.EOF):
		return errOther
	case err != nil:
		return fmt.Errorf("unpack the %d bytes that were read before, at %d: %w", in.at, n, err)
	case last.b == '\n':
		return nil
	}
	// The last line had no line feed. It may have got one since.
	var next [1]byte
	switch _, err := io.ReadFull(in.r, next[:]); {
	case err == io.EOF:
		return nil
	case err != nil:
		return err
	case next[0] != '\n' && next[0] != '\r':
		return errOther
	}
	in.r = io.MultiReader(bytes.NewReader(next[:]), in.r)
	return nil
}

// errOther is a file whose content is not what was read before.
var errOther = errors.New("the content is not what was read before")

// lastByte keeps the last byte written to it.
type lastByte struct{ b byte }

func (l *lastByte) Write(p []byte) (int, error) {
	if len(p) > 0 {
		l.b = p[len(p)-1]
	}
	return len(p), nil
}

// unpack gives a reader of the content, and what frees it. All frames are read.
func unpack(f *os.File, c Compression) (io.Reader, func(), error) {
	switch c {
	case Gzip:
		packed := bufio.NewReaderSize(f, packedBlock)
		if _, err := packed.Peek(1); err == io.EOF {
			return packed, func() {}, nil // an empty file has no header
		}
		z, err := gzip.NewReader(packed)
		if err != nil {
			return nil, nil, err
		}
		return whole{z}, func() { _ = z.Close() }, nil
	case Zstd:
		z, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(zstdWindowMax))
		if err != nil {
			return nil, nil, err
		}
		return whole{z}, z.Close, nil
	}
	return f, func() {}, nil
}

// whole fills blocks, where the reader below gives pieces. An error comes
// after the bytes before it.
type whole struct{ r io.Reader }

func (w whole) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		k, err := w.r.Read(p[n:])
		n += k
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// damaged tells that the content is wrong, rather than that the file could not be read.
func damaged(err error) bool {
	var path *os.PathError
	return !errors.As(err, &path)
}

// close frees the file.
func (in *input) close() error {
	if in.free != nil {
		in.free()
		in.free = nil
	}
	if in.f == nil {
		return nil
	}
	err := in.f.Close()
	in.f, in.r = nil, nil
	return err
}
