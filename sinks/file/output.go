package file

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// output is one file that is being written.
//
// Lines are gathered, packed if wanted, and written in large pieces. A piece
// that could not be written as a whole is cut off again and kept: the file never
// ends within a line for longer than a write takes.
type output struct {
	rel   string // the path below the folder, as evaluated
	name  string // of the file, below the folder: with number
	seq   int
	began time.Time

	f      file
	device bool  // no regular file: it has no length
	temp   bool  // written under its unfinished name
	size   int64 // of the file: where writing goes on
	synced bool  // all of size is on disk

	lines  []byte // not yet packed
	pack   packer // nil: lines are written as they are
	packed bytes.Buffer
	frame  bool // pack has taken something since the last frame end

	used   uint64 // tells when it was last written to
	failed bool   // the last flush did not succeed
}

// file is what of *os.File is needed: tests break it.
type file interface {
	io.Writer
	io.WriterAt
	io.ReaderAt
	Truncate(size int64) error
	Sync() error
	Close() error
	Stat() (os.FileInfo, error)
	Fd() uintptr
}

// packer is a compressor that can begin a new frame.
type packer interface {
	io.WriteCloser
	Reset(w io.Writer)
}

func newPacker(c Compression) (packer, error) {
	switch c {
	case Gzip:
		return gzip.NewWriterLevel(nil, gzip.DefaultCompression)
	case Zstd:
		return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
	}
	return nil, nil
}

// length gives the bytes of the file with what waits to be written; of a
// packed one without what is not packed yet.
func (o *output) length() int64 {
	if o.pack != nil {
		return o.size + int64(o.packed.Len())
	}
	return o.size + int64(len(o.lines))
}

// pour packs the lines.
func (o *output) pour() error {
	if len(o.lines) == 0 {
		return nil
	}
	if !o.frame {
		o.pack.Reset(&o.packed)
		o.frame = true
	}
	_, err := o.pack.Write(o.lines)
	o.lines = o.lines[:0]
	return err
}

// flush writes what waits, up to the last byte that is packed.
func (o *output) flush() error {
	if o.pack == nil {
		err := o.put(o.lines)
		if err == nil {
			o.lines = o.lines[:0]
		}
		return err
	}
	if err := o.pour(); err != nil {
		return fmt.Errorf("pack %s: %w", o.name, err)
	}
	err := o.put(o.packed.Bytes())
	if err == nil {
		o.packed.Reset()
	}
	return err
}

// finish writes what waits, and ends the frame.
func (o *output) finish() error {
	if o.pack != nil {
		if err := o.pour(); err != nil {
			return fmt.Errorf("pack %s: %w", o.name, err)
		}
		if o.frame {
			if err := o.pack.Close(); err != nil {
				return fmt.Errorf("pack %s: %w", o.name, err)
			}
			o.frame = false
		}
	}
	return o.flush()
}

// put writes all of p, or nothing.
func (o *output) put(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	o.synced = false
	if o.device {
		_, err := o.f.Write(p)
		o.failed = err != nil
		return err
	}
	n, err := o.f.WriteAt(p, o.size)
	o.failed = err != nil
	if err == nil {
		o.size += int64(n)
		return nil
	}
	if cut := o.f.Truncate(o.size); cut != nil {
		return fmt.Errorf("%w; and cutting off the part that was written failed: %w", err, cut)
	}
	return err
}

// sync brings the file to disk, with a frame end.
func (o *output) sync() error {
	if err := o.finish(); err != nil {
		return err
	}
	if o.synced || o.device {
		return nil
	}
	if err := o.f.Sync(); err != nil {
		o.failed = true
		return err
	}
	o.synced = true
	return nil
}
