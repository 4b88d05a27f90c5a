package file

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"
)

// output gives the file of a relative path: the one that is open, or opens it.
func (s *sink) output(rel string) (*output, error) {
	if o := s.outs[rel]; o != nil {
		return o, nil
	}
	return s.begin(rel, 0)
}

// begin opens the file of a relative path, where files are numbered one with
// a number above full.
func (s *sink) begin(rel string, full int) (*output, error) {
	for len(s.outs) >= max(s.cfg.MaxOpenFiles, 1) {
		if err := s.end(s.oldest()); err != nil {
			return nil, err
		}
	}
	o := &output{rel: rel, name: rel, device: s.device, temp: s.once && !s.device, began: time.Now()}
	if dir := path.Dir(rel); dir != "." {
		if err := s.root.MkdirAll(dir, 0o777); err != nil {
			return nil, err
		}
		for ; dir != "."; dir = path.Dir(dir) {
			s.folders[path.Dir(dir)] = true
		}
	}
	if s.rotates() {
		if err := s.number(o, full); err != nil {
			return nil, err
		}
	}
	pack, err := newPacker(s.cfg.Compression.of(rel))
	if err != nil {
		return nil, err
	}
	o.pack = pack
	if err := s.open(o); err != nil {
		return nil, err
	}
	o.lines = make([]byte, 0, bufferLeast)
	if err := s.mendEnd(o); err != nil {
		return nil, errors.Join(err, o.f.Close())
	}
	s.outs[rel] = o
	return o, nil
}

// outputs gives the open ones, in the order of their paths.
func (s *sink) outputs() []*output {
	all := make([]*output, 0, len(s.outs))
	for _, o := range s.outs {
		all = append(all, o)
	}
	slices.SortFunc(all, func(a, b *output) int { return strings.Compare(a.rel, b.rel) })
	return all
}

func (s *sink) rotates() bool {
	return !s.device && (s.cfg.RotateBytes > 0 || s.cfg.RotateInterval > 0)
}

// number gives an output the number to write: the highest there is, if that
// file may be continued, else the next. How long a file was written
// is only known of those in the restored state.
func (s *sink) number(o *output, full int) error {
	n, err := highest(s.root, o.rel)
	if err != nil {
		return err
	}
	o.seq = max(n, full)
	o.name = numbered(o.rel, o.seq)
	more := n > full && (!o.temp || s.mine[o.name])
	if more && s.cfg.RotateInterval > 0 {
		more = false
		if s.restore != nil {
			if f, ok := s.restore.file(o.name); ok {
				o.began = time.UnixMilli(f.Began)
				more = time.Since(o.began) < s.cfg.RotateInterval
			}
		}
	}
	if more && s.cfg.RotateBytes > 0 {
		name := o.name
		if o.temp {
			name = unfinished(name)
		}
		fi, err := s.root.Stat(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		more = err == nil && fi.Size() < s.cfg.RotateBytes
	}
	if !more {
		o.seq++
		o.name, o.began = numbered(o.rel, o.seq), time.Now()
	}
	return nil
}

// open opens the file of an output.
func (s *sink) open(o *output) error {
	name, flags := o.name, os.O_RDWR|os.O_CREATE
	if s.device {
		flags = os.O_WRONLY
	}
	if o.temp {
		name = unfinished(o.name)
	}
	f, err := s.root.OpenFile(name, flags, 0o666)
	if err != nil {
		return err
	}
	o.f = s.edge(f)
	if s.device {
		return nil
	}
	if err := s.claim(o, name); err != nil {
		return errors.Join(err, o.f.Close())
	}
	s.folders[path.Dir(name)] = true
	return nil
}

// claim takes the file for this sink, finds where writing goes on, and notes that
// in the journal before anything is written. Not before it is ours: the
// note would make us cut what its owner adds.
func (s *sink) claim(o *output, name string) error {
	if err := lock(o.f, path.Join(s.root.Name(), name)); err != nil {
		return err
	}
	if o.temp && !s.mine[o.name] {
		if err := o.f.Truncate(0); err != nil { // of a run that was killed
			return err
		}
		s.mine[o.name] = true
	}
	fi, err := o.f.Stat()
	if err != nil {
		return err
	}
	o.size = fi.Size()
	if s.journal != nil {
		return s.journal.touch(name, o.size)
	}
	return nil
}

// mendEnd ends a last line without line feed that somebody else wrote, so that ours are whole.
func (s *sink) mendEnd(o *output) error {
	if o.device || o.size == 0 || o.pack != nil {
		return nil
	}
	var last [1]byte
	if _, err := o.f.ReadAt(last[:], o.size-1); err != nil {
		return err
	}
	if last[0] != '\n' {
		s.log.Warn("the file ended within a line: a line feed is added before what comes", "path", path.Join(s.root.Name(), o.name))
		o.lines = append(o.lines, '\n')
	}
	return nil
}

// end brings an output to disk and closes it. It stays if that fails.
func (s *sink) end(o *output) error {
	if err := o.sync(); err != nil {
		s.failed = s.failed || o.failed
		return err
	}
	if s.last == o {
		s.last = nil
	}
	delete(s.outs, o.rel)
	return o.f.Close()
}

// oldest gives the output that was not written to for the longest.
func (s *sink) oldest() *output {
	var old *output
	for _, o := range s.outs {
		if old == nil || o.used < old.used {
			old = o
		}
	}
	return old
}

// publish gives a file of a single run its name.
func (s *sink) publish(name string) error {
	if err := s.root.Rename(unfinished(name), name); err != nil {
		return err
	}
	s.folders[path.Dir(name)] = true
	return nil
}

// astray tells whether the file is no longer under its name.
func (s *sink) astray(o *output) bool {
	if o.device {
		return false
	}
	name := o.name
	if o.temp {
		name = unfinished(name)
	}
	there, err := s.root.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	open, e := o.f.Stat()
	return err == nil && e == nil && !os.SameFile(there, open)
}
