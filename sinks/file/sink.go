package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"keystone/pipeline/record"
	"keystone/sinks"
)

const (
	plainBuffer   = 1 << 20   // of lines, before they are written
	patternBuffer = 256 << 10 // of each file
	bufferLeast   = 4 << 10   // what a new buffer has
)

// sink writes the files of one block for one route.
type sink struct {
	cfg    Config
	log    *slog.Logger
	route  string
	dir    string // of the configuration
	once   bool   // of a single run: outputs appear when it is complete
	target target
	what   string          // is being done, for messages
	limit  int             // of a buffer
	edge   func(file) file // of the operating system: tests break it

	mu      sync.Mutex // guards all below; held while writing
	root    *os.Root   // all files are below it
	journal *journal   // nil for a single run and for a device
	epoch   int64
	restore *state
	outs    map[string]*output // by relative path
	last    *output            // the one written to last
	lastRaw []byte             // and the evaluated path that led to it
	mine    map[string]bool    // unfinished files of this run, by final name
	folders map[string]bool    // that have new names in them
	device  bool
	clock   uint64
	failed  bool  // an output could not be flushed
	why     error // what the last attempt to write failed with; nil if it did not
	dirty   bool  // written to since the last Sync
	given   bool  // Sync gave a state
	ended   bool  // Finish was called
}

func newSink(c Config, d sinks.Deps) *sink {
	log := d.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &sink{
		cfg: c, log: log, route: d.Route, dir: d.Dir, once: d.OneShot, target: parseTarget(c.Path.S),
		what:  "write " + c.Path.S,
		limit: plainBuffer, edge: func(f file) file { return f },
		outs: map[string]*output{}, mine: map[string]bool{}, folders: map[string]bool{},
	}
	if !s.target.plain {
		s.limit = patternBuffer
	}
	return s
}

// Open takes back what came after the restored state, and begins or continues a plain file.
func (s *sink) Open(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	dir, err := s.settle()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return explain("make the folder "+dir, err)
	}
	if s.root, err = os.OpenRoot(dir); err != nil {
		return explain("open the folder "+dir, err)
	}
	if err := s.recover(); err != nil {
		return explain("continue "+s.cfg.Path.S, err)
	}
	if s.target.plain {
		if _, err := s.output(s.target.path); err != nil {
			return explain("open "+filepath.Join(dir, s.target.path), err)
		}
	}
	return nil
}

// settle gives the folder that all files are below. A plain path is followed
// through links first, and its target is then its last part.
func (s *sink) settle() (string, error) {
	full := s.target.dir
	if s.target.plain {
		full = s.target.path
	}
	if !filepath.IsAbs(full) {
		full = filepath.Join(s.dir, full)
	}
	if !s.target.plain {
		return full, nil
	}
	if real, err := filepath.EvalSymlinks(full); err == nil {
		full = real
	}
	switch fi, err := os.Stat(full); {
	case err == nil && fi.IsDir():
		return "", sinks.Permanent{Err: fmt.Errorf("write %s: it is a folder; name a file in it", full)}
	case err == nil && !fi.Mode().IsRegular():
		s.device = true
	}
	s.target.path = filepath.Base(full)
	return filepath.Dir(full), nil
}

// Write takes a batch. Lines wait in memory until there are enough or Sync is called.
func (s *sink) Write(ctx context.Context, b *record.Batch, done func(error)) {
	done(s.write(ctx, b))
}

func (s *sink) write(ctx context.Context, b *record.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.root == nil {
		return sinks.Permanent{Err: errors.New("the sink is not open")}
	}
	if s.why = explain(s.what, s.ready()); s.why != nil {
		return s.why
	}
	s.dirty = true
	var refused []sinks.Failure
	for i := range b.Records {
		err := s.add(&b.Records[i])
		if err == nil {
			continue
		}
		var no *refusal
		if errors.As(err, &no) {
			refused = append(refused, sinks.Failure{Index: i, Outcome: sinks.Rejected, Code: no.code, Err: no})
			continue
		}
		err = explain(s.what, err)
		s.why = err
		if sinks.IsPermanent(err) {
			return err
		}
		for k := i; k < len(b.Records); k++ { // those before are taken, and stay in the buffers
			refused = append(refused, sinks.Failure{Index: k, Outcome: sinks.Retryable, Code: "write", Err: err})
		}
		break
	}
	if len(refused) > 0 {
		return &sinks.PartialError{Failures: refused}
	}
	return nil
}

// ready notes that the last state was stored, retries what failed, and ends files that are due.
func (s *sink) ready() error {
	if s.journal != nil && s.given && !s.dirty {
		if err := s.journal.mark(); err != nil {
			return err
		}
	}
	if s.failed {
		for _, o := range s.outputs() {
			if o.failed {
				if err := o.flush(); err != nil {
					return err
				}
			}
		}
		s.failed = false
	}
	return s.retire()
}

// retire ends files that have been written for rotate_interval.
func (s *sink) retire() error {
	if s.cfg.RotateInterval <= 0 {
		return nil
	}
	now := time.Now()
	for _, o := range s.outputs() {
		if now.Sub(o.began) >= s.cfg.RotateInterval && o.length() > 0 {
			if err := s.end(o); err != nil {
				return err
			}
		}
	}
	return nil
}

// refusal is a record that cannot be written for what it holds.
type refusal struct{ code, text string }

func (r *refusal) Error() string { return r.text }

// add appends one record to its file.
func (s *sink) add(r *record.Record) error {
	v := r.Value
	if v == nil {
		return &refusal{"null_value", "a line has no form for a null value"}
	}
	broken := bytes.IndexByte(v, '\n') >= 0
	if broken && s.cfg.Newlines == Refuse {
		return &refusal{"newline", "the value has a line break in it (newlines = \"refuse\")"}
	}
	o := s.last
	if o == nil || !s.target.plain && (len(r.Derived) == 0 || !bytes.Equal(r.Derived[0], s.lastRaw)) {
		var err error
		if o, err = s.choose(r); err != nil {
			return err
		}
	}
	if s.cfg.RotateBytes > 0 && s.full(o, len(v)+1) {
		if err := s.end(o); err != nil {
			return err
		}
		var err error
		if o, err = s.begin(o.rel, o.seq); err != nil {
			return err
		}
		s.last = o
	}
	if len(o.lines)+len(v) >= s.limit && len(o.lines) > 0 {
		if err := s.flush(o); err != nil {
			return err
		}
	}
	s.clock++
	o.used = s.clock
	at := len(o.lines)
	o.lines = append(append(o.lines, v...), '\n')
	if broken {
		for i, c := range o.lines[at : at+len(v)] {
			if c == '\n' || c == '\r' {
				o.lines[at+i] = ' '
			}
		}
	}
	return nil
}

// full tells whether a file that has something would become too large.
func (s *sink) full(o *output, more int) bool {
	have := o.length()
	if o.pack != nil {
		return have >= s.cfg.RotateBytes
	}
	return have > 0 && have+int64(more) > s.cfg.RotateBytes
}

func (s *sink) flush(o *output) error {
	if o.pack != nil && o.packed.Len()+len(o.lines)/4 < s.limit {
		return o.pour()
	}
	err := o.flush()
	s.failed = s.failed || err != nil
	return err
}

// choose gives the file for a record, and remembers it for the next.
func (s *sink) choose(r *record.Record) (*output, error) {
	rel := s.target.path
	if !s.target.plain {
		if len(r.Derived) == 0 || r.Derived[0] == nil {
			return nil, &refusal{"path", "the path needs a field that the event does not have"}
		}
		s.last = nil
		s.lastRaw = append(s.lastRaw[:0], r.Derived[0]...)
		raw := s.lastRaw[min(len(s.target.dir), len(s.lastRaw)):]
		if o := s.outs[string(raw)]; o != nil && bytes.HasPrefix(s.lastRaw, []byte(s.target.dir)) {
			s.last = o
			return o, nil
		}
		var err error
		if rel, err = s.target.relative(string(s.lastRaw)); err != nil {
			return nil, &refusal{"path", err.Error()}
		}
	}
	o, err := s.output(rel)
	if err != nil {
		if !s.target.plain && ofData(err) {
			return nil, &refusal{"path", err.Error()}
		}
		return nil, err
	}
	s.last = o
	return o, nil
}

// Sync brings everything to disk and gives the lengths.
func (s *sink) Sync(ctx context.Context) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.root == nil {
		return nil, errors.New("the sink is not open")
	}
	if err := ctx.Err(); err != nil {
		if s.why != nil { // why it took so long
			return nil, fmt.Errorf("%w; before that: %w", err, s.why)
		}
		return nil, err
	}
	if s.why = explain(s.what, s.settleAll()); s.why != nil {
		return nil, s.why
	}
	if s.given && !s.dirty {
		// The state given last is still the one: it may not have been stored yet, and is asked for until it is.
		// The journal must not forget what came after the one that is stored.
		return s.state(s.epoch).encode()
	}
	st := s.state(s.epoch + 1)
	if s.journal != nil {
		if err := s.journal.advance(st.Epoch); err != nil {
			return nil, explain(s.what, err)
		}
	}
	s.epoch = st.Epoch
	s.dirty, s.given = false, true
	return st.encode()
}

// settleAll brings all files and names to disk. A file that somebody renamed or
// deleted is left, and the next record begins another under its name.
func (s *sink) settleAll() error {
	for _, o := range s.outputs() {
		if err := o.sync(); err != nil {
			s.failed = s.failed || o.failed
			return err
		}
		if s.astray(o) {
			s.log.Warn("a file was renamed or deleted while it was written: another is begun", "path", filepath.Join(s.root.Name(), o.name))
			if err := s.end(o); err != nil {
				return err
			}
		}
	}
	s.failed = false
	if err := s.retire(); err != nil {
		return err
	}
	for dir := range s.folders {
		if err := syncFolder(s.root, dir); err != nil {
			return err
		}
		delete(s.folders, dir)
	}
	return nil
}

// Flush writes the lines that wait, so that they can be seen.
func (s *sink) Flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.outputs() {
		if err := o.flush(); err != nil {
			s.failed = s.failed || o.failed
		}
	}
}

// Finish says that the run is complete: Close gives the files their names.
func (s *sink) Finish(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.root == nil {
		return errors.New("the sink is not open")
	}
	if err := s.settleAll(); err != nil {
		return explain(s.what, err)
	}
	s.ended, s.dirty = true, false
	return nil
}

// Close writes what waits and closes the files. The files of a single run get
// their names if the run was finished. Else they are deleted when there was
// no Sync, and kept under their unfinished names for whoever continues from it.
func (s *sink) Close(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.root == nil {
		return nil
	}
	var errs []error
	for _, o := range s.outputs() {
		if !o.temp || s.given || s.ended {
			errs = append(errs, o.sync())
		}
		errs = append(errs, o.f.Close())
		delete(s.outs, o.rel)
	}
	s.last = nil
	if s.journal != nil && s.given && !s.dirty {
		errs = append(errs, s.journal.mark())
	}
	for name := range s.mine {
		switch {
		case s.ended && !s.dirty && errors.Join(errs...) == nil:
			errs = append(errs, s.publish(name))
		case s.given:
			s.log.Warn("the run is not complete: what it wrote is left under another name", "path", filepath.Join(s.root.Name(), unfinished(name)))
		default:
			errs = append(errs, s.root.Remove(unfinished(name)))
		}
	}
	clear(s.mine)
	for dir := range s.folders {
		errs = append(errs, syncFolder(s.root, dir))
	}
	clear(s.folders)
	errs = append(errs, s.journal.close(), s.root.Close())
	s.journal, s.root = nil, nil
	if err := errors.Join(errs...); err != nil {
		return explain("close "+s.cfg.Path.S, err)
	}
	return nil
}
