package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"keystone/pipeline/record"
	"keystone/sources"
)

// await waits until a file may have something to read: false if d passes
// first. Without follow, that is when a file is resumed.
func (s *source) await(ctx context.Context, d time.Duration) (again bool, err error) {
	if d <= 0 {
		return false, nil
	}
	var changed <-chan struct{}
	poll := d
	if s.cfg.Follow {
		changed = s.watch.changed
		poll = min(d, s.cfg.PollInterval)
	}
	timer := time.NewTimer(poll)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case <-s.awake:
		return true, nil
	case <-changed:
	case <-timer.C:
		if !s.cfg.Follow {
			return false, nil
		}
	}
	return true, s.look(ctx)
}

// look finds out what happened to the files that are followed: added to, cut
// back, renamed, deleted, new.
func (s *source) look(ctx context.Context) error {
	files, err := s.list()
	if err != nil {
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
			s.once(s.path, "the path cannot be read at the moment: "+err.Error())
			files = nil
		} else if sources.IsFatal(err) {
			return err
		} else {
			return fmt.Errorf("look at %s: %w", s.path, err)
		}
	}
	there := make(map[node]found, len(files))
	for _, f := range files {
		there[f.node] = f
	}
	for _, in := range slices.Clone(s.inputs) {
		if in.left {
			s.forget(ctx, in)
			continue
		}
		f, is := there[in.id.node]
		switch {
		case is && in.path != f.path:
			s.log.Info("a file was renamed: it is followed on", "from", in.path, "to", f.path)
			s.mu.Lock()
			in.path = f.path
			s.mu.Unlock()
			in.away = false
		case !is && !in.away:
			in.away, in.changed = true, time.Now()
			s.log.Info("a file is no longer under the path: it is read to its end", "path", in.path)
		}
		if err := s.inspect(in); err != nil {
			return err
		}
	}
	for _, f := range files {
		if s.byNum[f.node] != nil {
			continue
		}
		if err := s.appear(f, 0); err != nil {
			return err
		}
	}
	return nil
}

// appear begins to follow a file that was not there before.
func (s *source) appear(f found, cut int) error {
	err := s.fresh(f, cut)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // it went again
	case errors.Is(err, fs.ErrPermission):
		s.once(f.path, "permission denied: the file is tried again until it can be read")
		return nil
	case err != nil:
		return fmt.Errorf("open %s: %w", f.path, err)
	}
	in := s.inputs[len(s.inputs)-1]
	s.log.Info("following", "path", f.path, "partition", in.part)
	s.hear.Assigned([]record.Position{in.position()})
	return nil
}

// inspect looks at one file that is followed.
func (s *source) inspect(in *input) error {
	if in.f == nil || in.split == nil {
		return nil // not begun: it is fresh
	}
	fi, err := in.f.Stat()
	if err != nil {
		return fmt.Errorf("look at %s: %w", in.path, err)
	}
	size, read := fi.Size(), in.split.ReadTo()
	cut := size < read
	if size != read && !cut && in.id.length > 0 {
		same, err := in.id.sameBeginning(in.f)
		if err != nil {
			return fmt.Errorf("look at %s: %w", in.path, err)
		}
		cut = !same
	}
	s.mu.Lock()
	in.size = size
	s.mu.Unlock()
	switch {
	case cut:
		s.log.Warn("a file was cut back: it is read again from its start, as a new partition; what was added before the cut and not read is lost", "path", in.path, "partition", in.part, "read", in.split.Offset(), "size", size)
		return s.restart(in)
	case size > read:
		in.fresh, in.changed = true, time.Now()
	case in.away && !in.fresh && time.Since(in.changed) >= s.cfg.RotateWait:
		return s.leave(in)
	}
	return nil
}

// restart follows a file that was cut back, under a new identity.
func (s *source) restart(in *input) error {
	if err := s.end(in); err != nil {
		return err
	}
	if fi, err := os.Stat(in.path); err == nil && !in.away && nodeOf(fi) == in.id.node {
		return s.appear(found{in.path, fi, in.id.node}, in.id.cut+1)
	}
	return nil // nobody finds it by its name any more
}

// leave ends a file that was renamed away or deleted, and has long been silent.
func (s *source) leave(in *input) error {
	if left := in.split.ReadTo() - in.split.Offset(); left > 0 {
		s.log.Warn("a file ended within a line, which is left out", "path", in.path, "offset", in.split.Offset(), "bytes", left)
	}
	return s.end(in)
}

// end closes a file for good. Its partition stays until what was read is committed:
// a partition that is given up is not delivered any further.
func (s *source) end(in *input) error {
	in.left, in.ended = true, true
	delete(s.byNum, in.id.node)
	if err := in.close(); err != nil {
		return fmt.Errorf("close %s: %w", in.path, err)
	}
	return nil
}

// forget gives the partition of a file up that has ended, once all of it is committed.
func (s *source) forget(ctx context.Context, in *input) {
	s.mu.Lock()
	done := in.committed >= in.split.Offset()
	s.mu.Unlock()
	if !done {
		return
	}
	s.hear.Revoked(ctx, []int32{in.part})
	s.log.Info("a file that was rotated away is done", "path", in.path, "partition", in.part)
	s.mu.Lock()
	s.inputs = slices.DeleteFunc(s.inputs, func(o *input) bool { return o == in })
	s.mu.Unlock()
}

// folder gives the folder that a file is really in.
func folder(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	return filepath.Dir(path)
}
