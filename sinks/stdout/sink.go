package stdout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"keystone/pipeline/record"
	"keystone/sinks"
)

const (
	keepMax  = 4 << 20 // a buffer beyond this is not kept
	closeMax = time.Second
)

// sink writes batches one after the other. mu is held while writing: the
// lines of two batches must not mix, and a reader that does not read holds
// back every lane.
type sink struct {
	open func() (*os.File, error)

	mu   sync.Mutex // guards all below
	out  *os.File
	buf  []byte
	torn []byte // the rest of a line that was written in part
}

// openStdout gives standard output under a descriptor of its own, so that a
// closed pipe is an error and not the end of the process (package os raises SIGPIPE for descriptor 1 only).
// A pipe is opened anew, without blocking, so that a deadline can end a write.
func openStdout() (*os.File, error) {
	if fi, err := os.Stdout.Stat(); err == nil && fi.Mode()&os.ModeNamedPipe != 0 {
		if f, err := os.OpenFile("/dev/fd/1", os.O_WRONLY|syscall.O_NONBLOCK, 0); err == nil {
			return f, nil
		}
	}
	fd, err := syscall.Dup(int(os.Stdout.Fd()))
	if err != nil {
		return nil, sinks.Permanent{Err: fmt.Errorf("standard output is not open: %w", err)}
	}
	syscall.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), "standard output"), nil
}

// Open takes standard output.
func (s *sink) Open(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	out, err := s.open()
	s.out = out
	return err
}

// Write writes a batch's lines before it returns.
func (s *sink) Write(ctx context.Context, b *record.Batch, done func(error)) {
	done(s.write(ctx, b))
}

func (s *sink) write(ctx context.Context, b *record.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.out == nil {
		return sinks.Permanent{Err: os.ErrClosed}
	}
	defer s.interruptible(ctx)()
	if err := s.mend(); err != nil {
		return explain(err)
	}
	var refused *sinks.PartialError
	buf := s.buf[:0]
	for i := range b.Records {
		v := b.Records[i].Value
		if v == nil {
			refused = add(refused, sinks.Failure{Index: i, Outcome: sinks.Rejected, Code: "null_value", Err: errors.New("a line has no form for a null value")})
			continue
		}
		buf = appendLine(buf, v)
	}
	if s.buf = buf; cap(buf) > keepMax {
		s.buf = nil
	}
	n, err := s.out.Write(buf)
	if err != nil {
		return s.failed(b, buf, n, err)
	}
	if refused != nil {
		return refused
	}
	return nil
}

// interruptible lets the end of ctx end a write, where the output is a pipe.
func (s *sink) interruptible(ctx context.Context) func() {
	out := s.out
	stop := context.AfterFunc(ctx, func() { _ = out.SetWriteDeadline(time.Unix(1, 0)) })
	return func() {
		if !stop() {
			_ = out.SetWriteDeadline(time.Time{})
		}
	}
}

// mend finishes a line that was written in part.
func (s *sink) mend() error {
	if len(s.torn) == 0 {
		return nil
	}
	n, err := s.out.Write(s.torn)
	s.torn = s.torn[n:]
	return err
}

// failed says which records were written when only n bytes were. The one that
// was written in part counts: what is missing of it is written first next time.
func (s *sink) failed(b *record.Batch, buf []byte, n int, err error) error {
	explained := explain(err)
	if n == 0 || sinks.IsPermanent(explained) {
		return explained
	}
	end := n
	if buf[n-1] != '\n' {
		end += bytes.IndexByte(buf[n:], '\n') + 1
	}
	s.torn = bytes.Clone(buf[n:end])
	lines := bytes.Count(buf[:end], []byte{'\n'})
	var partial *sinks.PartialError
	for i := range b.Records {
		switch {
		case b.Records[i].Value == nil:
			partial = add(partial, sinks.Failure{Index: i, Outcome: sinks.Rejected, Code: "null_value", Err: errors.New("a line has no form for a null value")})
		case lines > 0:
			lines--
		default:
			partial = add(partial, sinks.Failure{Index: i, Outcome: sinks.Retryable, Code: "write", Err: explained})
		}
	}
	if partial == nil {
		return nil
	}
	return partial
}

func add(p *sinks.PartialError, f sinks.Failure) *sinks.PartialError {
	if p == nil {
		p = new(sinks.PartialError)
	}
	p.Failures = append(p.Failures, f)
	return p
}

// explain says what to do about a failed write.
func explain(err error) error {
	switch {
	case errors.Is(err, syscall.EPIPE):
		return sinks.Permanent{Err: fmt.Errorf("standard output was closed by its reader: %w", err)}
	case errors.Is(err, syscall.EBADF), errors.Is(err, os.ErrClosed):
		return sinks.Permanent{Err: fmt.Errorf("standard output is not open: %w", err)}
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("the disk that standard output is written to is full: %w", err)
	}
	return fmt.Errorf("write to standard output: %w", err)
}

// Close finishes a line written in part, and gives standard output back.
func (s *sink) Close(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out == nil {
		return nil
	}
	_ = s.out.SetWriteDeadline(time.Now().Add(closeMax))
	err := s.mend()
	if e := s.out.Close(); err == nil {
		err = e
	}
	s.out = nil
	if err != nil {
		return explain(err)
	}
	return nil
}

// appendLine appends value as one line. A line break in a JSON document stands
// between tokens and becomes a space.
func appendLine(dst, value []byte) []byte {
	at := len(dst)
	dst = append(dst, value...)
	if bytes.IndexByte(value, '\n') >= 0 {
		for i, c := range dst[at:] {
			if c == '\n' || c == '\r' {
				dst[at+i] = ' '
			}
		}
	}
	return append(dst, '\n')
}
