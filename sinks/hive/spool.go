package hive

import (
	"bytes"
	"context"
	"io"

	"keystone/sources/hive/storage"
)

// spool takes the encoded bytes of a file. Writing to it never fails: what cannot go to disk yet stays in memory, and
// counts. So a full disk loses nothing, and the writer of the file never hears of it.
type spool struct {
	buf []byte
	off int64 // bytes that are on disk, in front of buf
}

// Write keeps the bytes.
func (p *spool) Write(b []byte) (int, error) {
	p.buf = append(p.buf, b...)
	return len(b), nil
}

// drain brings what is in memory to disk. name is what the file is staged under.
func (p *spool) drain(ctx context.Context, s *Sink, name string) error {
	if len(p.buf) == 0 {
		return nil
	}
	disk, err := s.disk()
	if err != nil {
		return err
	}
	if err := disk.WriteAt(ctx, name, p.buf, p.off); err != nil {
		return err
	}
	p.off += int64(len(p.buf))
	p.buf = nil
	return nil
}

// deliver makes the whole content durable under its staged name, and gives up all memory. It may be repeated.
func (p *spool) deliver(ctx context.Context, s *Sink, name string) error {
	if a, ok := s.store.(storage.Appender); ok {
		if err := p.drain(ctx, s, name); err != nil {
			return err
		}
		return a.Sync(ctx, name)
	}
	if p.off == 0 {
		err := s.store.Upload(ctx, name, bytes.NewReader(p.buf), int64(len(p.buf)))
		if err == nil {
			p.buf = nil
		} else if int64(len(p.buf)) >= spillAfter {
			_ = p.drain(ctx, s, name) // the upload's error counts; memory is free meanwhile
		}
		return err
	}
	if err := p.drain(ctx, s, name); err != nil {
		return err
	}
	disk, err := s.disk()
	if err != nil {
		return err
	}
	o, err := disk.Open(ctx, name)
	if err != nil {
		return err
	}
	err = s.store.Upload(ctx, name, io.NewSectionReader(o, 0, p.off), p.off)
	if err2 := o.Close(); err == nil {
		err = err2
	}
	if err == nil {
		err = disk.Delete(ctx, name)
	}
	return err
}

// spillAfter is how large a file must be to wait on disk for its next upload.
const spillAfter = 64 << 10

// discard takes away what is on disk.
func (p *spool) discard(ctx context.Context, s *Sink, name string) {
	p.buf = nil
	if p.off == 0 {
		return
	}
	if disk, err := s.disk(); err == nil {
		if err := disk.Delete(ctx, name); err != nil {
			s.log.Debug("a staged file is left", "name", name, "error", err)
		}
	}
}
