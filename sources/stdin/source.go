package stdin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"keystone/pipeline/record"
	"keystone/sources"
	"keystone/sources/lines"
)

const (
	linger   = time.Second
	name     = "standard input"
	pollOver = time.Millisecond // added to what is left, so that polling does not end early
)

// source reads one descriptor. A read of a pipe or a terminal cannot be
// interrupted, so it waits with poll(2) for input or for its bell to ring,
// and reads only what is there.
type source struct {
	max   int64
	in    *os.File
	split *lines.Splitter

	mu     sync.Mutex // guards all below
	opened bool
	bell   int // a pipe: what is written to ring
	ring   int // wakes a Read that waits
	paused bool
}

// Open begins where the input is now; from does not count.
func (s *source) Open(_ context.Context, _ []record.Position, l sources.Listener) error {
	fi, err := s.in.Stat()
	if err != nil {
		return sources.Fatal{Err: fmt.Errorf("standard input is not open: %w", err)}
	}
	if fi.IsDir() {
		return sources.Fatal{Err: errors.New("standard input is a directory; redirect a file to it, or use a source \"file\"")}
	}
	var pipe [2]int
	if err := unix.Pipe(pipe[:]); err != nil {
		return fmt.Errorf("open standard input: %w", err)
	}
	for _, fd := range pipe {
		unix.CloseOnExec(fd)
		if err := unix.SetNonblock(fd, true); err != nil {
			return fmt.Errorf("open standard input: %w", err)
		}
	}
	s.mu.Lock()
	s.bell, s.ring, s.opened = pipe[0], pipe[1], true
	s.mu.Unlock()
	s.split = lines.New(s.max, 0)
	l.Assigned([]record.Position{s.position()})
	return nil
}

func (s *source) position() record.Position {
	return record.Position{Offset: s.split.Offset(), Name: name}
}

// Read gives the lines that are there, or waits for the first.
func (s *source) Read(ctx context.Context, b *record.Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, s.wake)()
	wait := linger
	if b.Want.Linger > 0 {
		wait = b.Want.Linger
	}
	r := &reader{s: s, ctx: ctx, until: time.Now().Add(wait)}
	err := s.split.Fill(b, r, lines.Final)
	switch {
	case errors.Is(err, errLinger):
		return nil
	case err != nil:
		return err
	}
	if len(b.Records) > 0 {
		b.Topic, b.Next = name, s.position()
	}
	return nil
}

// errLinger ends a wait for input.
var errLinger = errors.New("nothing came")

// reader reads when there is something to read.
type reader struct {
	s     *source
	ctx   context.Context
	until time.Time
}

// Read gives what is there. It takes more only while it need not wait, so
// that a slow input is passed on at once and a fast one in large pieces.
func (r *reader) Read(p []byte) (int, error) {
	if err := r.await(); err != nil {
		return 0, err
	}
	n := 0
	for {
		k, err := unix.Read(int(r.s.in.Fd()), p[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil || k <= 0 {
			return n, failed(n, err)
		}
		n += k
		if n == len(p) || !ready(int(r.s.in.Fd())) {
			return n, nil
		}
	}
}

// failed tells the end of the input from an error. After n bytes both can wait.
func failed(n int, err error) error {
	switch {
	case n > 0 || errors.Is(err, unix.EAGAIN):
		return nil
	case err == nil:
		return io.EOF
	}
	return fmt.Errorf("read standard input: %w", err)
}

// await waits until there is something to read.
func (r *reader) await() error {
	for {
		bell, paused, err := r.s.state()
		if err != nil {
			return err
		}
		if err := r.ctx.Err(); err != nil {
			return err
		}
		left := time.Until(r.until)
		if left <= 0 {
			return errLinger
		}
		fds := []unix.PollFd{{Fd: int32(bell), Events: unix.POLLIN}, {Fd: int32(r.s.in.Fd()), Events: unix.POLLIN}}
		if paused {
			fds = fds[:1]
		}
		_, err = unix.Poll(fds, int((left+pollOver)/time.Millisecond))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for standard input: %w", err)
		}
		if fds[0].Revents != 0 {
			var rung [16]byte
			_, _ = unix.Read(bell, rung[:])
			continue
		}
		if len(fds) > 1 && fds[1].Revents != 0 {
			return nil
		}
	}
}

func ready(fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0
}

func (s *source) state() (bell int, paused bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.opened {
		return 0, false, sources.Fatal{Err: errors.New("standard input was closed")}
	}
	return s.bell, s.paused, nil
}

// wake rings the bell. A full pipe has rung enough.
func (s *source) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opened {
		_, _ = unix.Write(s.ring, []byte{1})
	}
}

// Commit keeps nothing: the input cannot be read again.
func (s *source) Commit(context.Context, []record.Position) error { return nil }

// Pause leaves the input where it is.
func (s *source) Pause(parts []int32) { s.setPaused(parts, true) }

// Resume ends Pause.
func (s *source) Resume(parts []int32) { s.setPaused(parts, false) }

func (s *source) setPaused(parts []int32, to bool) {
	if !slices.Contains(parts, 0) {
		return
	}
	s.mu.Lock()
	s.paused = to
	s.mu.Unlock()
	s.wake()
}

// Close frees the bell. Standard input stays open: it is the process's.
func (s *source) Close(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.opened {
		return nil
	}
	s.opened = false
	return errors.Join(unix.Close(s.bell), unix.Close(s.ring))
}
