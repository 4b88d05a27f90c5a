package file

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"keystone/pipeline/record"
	"keystone/sources"
	"keystone/sources/lines"
)

const linger = time.Second

// source reads the files of one block.
type source struct {
	cfg  Config
	log  *slog.Logger
	path string // absolute
	glob bool
	hear sources.Listener
	told map[string]bool // remarks made

	watch *watcher // with follow
	next  int32    // number of the next new partition
	turn  int      // of inputs, with follow
	byNum map[node]*input

	mu     sync.Mutex // guards inputs as a slice, and what input says
	inputs []*input
	awake  chan struct{} // told by Resume
}

func newSource(c Config, d sources.Deps) *source {
	c.MaxLineBytes, c.MaxFiles = cmp.Or(c.MaxLineBytes, maxLineBytes), cmp.Or(c.MaxFiles, maxFiles)
	c.PollInterval = cmp.Or(c.PollInterval, pollInterval)
	path := c.Path
	if !filepath.IsAbs(path) {
		path = filepath.Join(d.Dir, path)
	}
	log := d.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &source{cfg: c, log: log, path: path, told: map[string]bool{}, byNum: map[node]*input{}, awake: make(chan struct{}, 1)}
}

// Open finds the files, and those of from wherever they are now.
func (s *source) Open(ctx context.Context, from []record.Position, l sources.Listener) error {
	s.hear = l
	if _, err := os.Lstat(s.path); err != nil { // a name with [ in it may be meant as it is
		s.glob = strings.ContainsAny(s.path, `*?[\`)
	}
	if s.cfg.Follow {
		s.watch = newWatcher(s.log) // before listing: what comes between is seen twice, not never
		s.watch.add(filepath.Dir(s.path))
	}
	files, err := s.list()
	if err != nil {
		return explain(s.path, err)
	}
	for _, p := range from {
		s.next = max(s.next, p.Partition+1)
	}
	if err := s.take(files, from); err != nil {
		return err
	}
	if len(s.inputs) == 0 {
		if err := s.none(); err != nil {
			return err
		}
	}
	at := make([]record.Position, len(s.inputs))
	for i, in := range s.inputs {
		at[i] = in.position()
	}
	if len(at) > 0 {
		l.Assigned(at)
	}
	return nil
}

// none says that there is nothing to read, yet or at all.
func (s *source) none() error {
	dir := filepath.Dir(s.path)
	_, err := os.Stat(dir)
	if s.glob && strings.ContainsAny(dir, `*?[`) {
		err = nil
	}
	switch {
	case err != nil:
		return explain(s.path, err)
	case s.cfg.Follow:
		s.log.Warn("there is no file to follow yet: waiting for it", "path", s.path)
		return nil
	}
	return sources.Fatal{Err: fmt.Errorf("no file matches %s", s.path)}
}

// take makes the inputs: first those that positions are of, then new ones.
func (s *source) take(files []found, from []record.Position) error {
	taken := map[node]bool{}
	from = slices.Clone(from)
	slices.SortFunc(from, func(a, b record.Position) int { return int(b.Partition - a.Partition) })
	for _, p := range from { // the newest first: of two for one file, the older is of what was cut away
		f, id := s.resume(p, files)
		if f == nil {
			if p.Offset > 0 {
				s.log.Warn("a file that was read is gone or has other content: what was left of it cannot be read", "path", p.Name, "offset", p.Offset)
			}
			continue
		}
		if taken[f.node] {
			continue
		}
		taken[f.node] = true
		if f.path != p.Name {
			s.log.Info("a file was renamed: reading goes on", "from", p.Name, "to", f.path, "offset", p.Offset)
		}
		id.node = f.node
		if id.length == 0 { // it was empty
			id = identity{node: f.node, cut: id.cut}
		}
		in := &input{part: p.Partition, path: f.path, at: p.Offset}
		in.identified(id)
		if s.cfg.Follow { // it may be renamed before it is read
			var err error
			if in.f, err = os.Open(f.path); err != nil {
				return explain(f.path, err)
			}
		}
		s.adopt(in, f.fi.Size())
	}
	for _, f := range files {
		if !taken[f.node] {
			if err := s.fresh(f, 0); err != nil {
				return explain(f.path, err)
			}
		}
	}
	slices.SortFunc(s.inputs, func(a, b *input) int { return int(a.part - b.part) })
	return nil
}

// fresh makes an input of a file that no position is of.
func (s *source) fresh(c found, cut int) error {
	f, err := os.Open(c.path)
	if err != nil {
		return err
	}
	id, err := identify(f, c.node)
	if fi, e := f.Stat(); err == nil && e == nil && nodeOf(fi) != c.node {
		id.node = nodeOf(fi) // it was replaced since it was listed
	}
	in := &input{part: s.next, path: c.path, f: f}
	if err != nil || !s.cfg.Follow {
		if e := in.close(); err == nil {
			err = e
		}
	}
	if err != nil {
		return err
	}
	id.cut = cut
	in.identified(id)
	s.next++
	s.adopt(in, c.fi.Size())
	return nil
}

func (s *source) adopt(in *input, size int64) {
	in.pack = s.cfg.Compression.of(in.path)
	in.fresh, in.size, in.committed, in.changed = true, size, in.at, time.Now()
	if in.pack != None {
		in.size = -1
	}
	s.byNum[in.id.node] = in
	s.mu.Lock()
	s.inputs = append(s.inputs, in)
	s.mu.Unlock()
	if s.watch != nil {
		s.watch.follow(in.path)
	}
}

// Read gives the next lines of one file.
func (s *source) Read(ctx context.Context, b *record.Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	wait := linger
	if b.Want.Linger > 0 {
		wait = b.Want.Linger
	}
	until := time.Now().Add(wait)
	for {
		in, over := s.pick()
		switch {
		case over && !s.cfg.Follow:
			return io.EOF
		case in == nil:
			again, err := s.await(ctx, time.Until(until))
			if err != nil || !again {
				return err
			}
			continue
		}
		if err := s.fill(ctx, in, b); err != nil || len(b.Records) > 0 {
			return err
		}
		if time.Now().After(until) {
			return nil
		}
	}
}

// pick gives the file to read; over: all have ended. A bounded source
// finishes one file before the next, a following one takes turns.
func (s *source) pick() (in *input, over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	over = true
	for i := range s.inputs {
		k := i
		if s.cfg.Follow {
			k = (s.turn + i) % len(s.inputs)
		}
		in := s.inputs[k]
		if in.ended {
			continue
		}
		over = false
		if !in.paused && in.fresh {
			s.turn = k + 1
			return in, false
		}
	}
	return nil, over
}

// fill reads lines of one file; none if it is at its end.
func (s *source) fill(ctx context.Context, in *input, b *record.Batch) error {
	if in.split == nil || in.f == nil {
		if err := s.begin(in); err != nil {
			return err
		}
	}
	end := lines.Final
	if s.cfg.Follow {
		end = lines.MoreMayCome
	}
	err := in.split.Fill(b, in.r, end)
	switch {
	case errors.Is(err, io.EOF) && s.cfg.Follow:
		in.fresh = false
		return nil
	case errors.Is(err, io.EOF):
		in.ended = true
		return in.close()
	case err != nil && in.pack != None && damaged(err):
		return sources.Fatal{Err: fmt.Errorf("unpack %s as %s, after %d bytes of content: %w; the file is damaged or not complete", in.path, in.pack, in.split.ReadTo(), err)}
	case err != nil:
		return fmt.Errorf("read %s: %w", in.path, err)
	}
	if len(b.Records) == 0 {
		return ctx.Err()
	}
	in.changed = time.Now()
	b.Topic, b.Partition, b.Next = in.path, in.part, in.position()
	s.mu.Lock()
	if in.size >= 0 {
		in.size = max(in.size, in.split.ReadTo())
	}
	s.mu.Unlock()
	return nil
}

// begin opens a file. If it is not the one that was found, what it is now is
// read from the start.
func (s *source) begin(in *input) error {
	if err := s.replaced(in); err != nil {
		return explain(in.path, err)
	}
	err := in.open(s.cfg.MaxLineBytes)
	if errors.Is(err, errOther) {
		s.log.Warn("a file does not hold what was read before: it is read again from its start", "path", in.path, "offset", in.at)
		id := in.id
		id.cut++
		in.at = 0
		s.rename(in, id)
		if err = in.close(); err == nil {
			err = in.open(s.cfg.MaxLineBytes)
		}
	}
	if err == nil && in.at == 0 && in.id.length < prefixMax { // it may have grown since it was found
		var id identity
		if id, err = identify(in.f, in.id.node); err == nil {
			id.cut = in.id.cut
			s.rename(in, id)
		}
	}
	if err == nil {
		return nil
	}
	_ = in.close()
	in.split = nil
	if in.pack != None && damaged(err) {
		return sources.Fatal{Err: fmt.Errorf("unpack %s as %s: %w; the file is damaged, or is something else: see the option compression", in.path, in.pack, err)}
	}
	return explain(in.path, err)
}

// replaced opens the file, and if it is not the one that was found under
// that name, what it is now is read from the start.
func (s *source) replaced(in *input) error {
	if in.f != nil {
		return nil
	}
	f, err := os.Open(in.path)
	if err != nil {
		return err
	}
	in.f = f
	fi, err := f.Stat()
	if err != nil || nodeOf(fi) == in.id.node {
		return err
	}
	s.log.Warn("a file was replaced by another before it was read: the new one is read from its start", "path", in.path)
	id, err := identify(f, nodeOf(fi))
	in.at = 0
	s.rename(in, id)
	return err
}

// rename gives an input that others know already another identity.
func (s *source) rename(in *input, id identity) {
	s.mu.Lock()
	in.identified(id)
	s.mu.Unlock()
}

// Commit keeps nothing: the positions are stored by the route. A file that was
// rotated away is given up when all of it is committed.
func (s *source) Commit(_ context.Context, done []record.Position) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, in := range s.inputs {
		for _, p := range done {
			if p.Partition == in.part && p.Identity == in.ids {
				in.committed = max(in.committed, p.Offset)
			}
		}
	}
	return nil
}

// Pause stops reading of files.
func (s *source) Pause(parts []int32) { s.setPaused(parts, true) }

// Resume ends Pause.
func (s *source) Resume(parts []int32) { s.setPaused(parts, false) }

func (s *source) setPaused(parts []int32, to bool) {
	s.mu.Lock()
	for _, in := range s.inputs {
		if slices.Contains(parts, in.part) {
			in.paused = to
		}
	}
	s.mu.Unlock()
	if !to {
		select {
		case s.awake <- struct{}{}:
		default:
		}
	}
}

// Ends gives the size of each file as it was last seen; -1 for a compressed one.
func (s *source) Ends() map[int32]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	ends := make(map[int32]int64, len(s.inputs))
	for _, in := range s.inputs {
		ends[in.part] = in.size
	}
	return ends
}

// Close closes the files.
func (s *source) Close(context.Context) error {
	var errs []error
	if s.watch != nil {
		errs = append(errs, s.watch.close())
		s.watch = nil
	}
	for _, in := range s.inputs {
		errs = append(errs, in.close())
	}
	return errors.Join(errs...)
}
