package parquet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"keystone/dsl/types"
	"keystone/pipeline/record"
	"keystone/sources"
	"keystone/sources/hive/storage"
)

const (
	linger    = time.Second // how long a paused Read waits
	batchRows = 1000        // that Read gives where nothing is asked for
	batchMost = 1 << 20     // bytes of them
)

// Reading says what of which files is read.
type Reading struct {
	// Places finds the folders; it is called by Open.
	Places func(ctx context.Context) ([]Place, error)
	// Files are the files to read, as List and Count gave them; nil: all that are there when Open is called.
	Files []File
	// EventTime is the column that the records' time comes from; "" for none.
	EventTime string
	// Since and Until leave out rows before and from a time on, by EventTime; zero for no bound.
	Since, Until time.Time
	// Where names what is read, for people.
	Where string
}

// source reads files one after the other, as one partition. A position is the number of
// a row, counted over all files, pruned or not.
type source struct {
	reading   Reading
	eventTime string
	scan      record.Scan
	typ       types.Type
	log       *slog.Logger

	places []Place
	files  []File
	id     string
	total  int64
	cur    *reader
	index  int   // of the file that is read, or will be
	first  int64 // row of its first row, over all files
	at     int64 // the next row

	pruned int64 // rows that were left out

	mu     sync.Mutex // guards what follows
	paused bool
	bell   chan struct{} // closed by Resume
}

var (
	_ sources.Lagger = (*source)(nil)
	_ sources.Pruner = (*source)(nil)
)

// New makes a source; it does no I/O.
func New(r Reading, d sources.Deps) sources.Source {
	s := &source{reading: r, eventTime: r.EventTime, scan: d.Scan, typ: d.Type, log: d.Log, bell: make(chan struct{})}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	bound := func(op string, t time.Time) {
		if !t.IsZero() && r.EventTime != "" {
			s.scan.Bounds = append(s.scan.Bounds[:len(s.scan.Bounds):len(s.scan.Bounds)], record.Bound{Path: []string{r.EventTime}, Op: op, Values: []any{t}})
		}
	}
	bound(">=", r.Since)
	bound("<", r.Until)
	return s
}

// Pruned gives what is read.
func (s *source) Pruned() record.Scan { return s.scan }

// Open lists the files and goes on where from says, if they are still the same.
func (s *source) Open(ctx context.Context, from []record.Position, l sources.Listener) (err error) {
	if s.places, err = s.reading.Places(ctx); err != nil {
		return err
	}
	if s.files = s.reading.Files; s.files == nil {
		if s.files, err = List(ctx, s.places); err == nil {
			err = Count(ctx, s.places, s.files, nil)
		}
		if err != nil {
			return fatal(err)
		}
	}
	if len(s.files) == 0 {
		return sources.Fatal{Err: fmt.Errorf("there is no Parquet file in %s", s.reading.Where)}
	}
	for _, f := range s.files {
		s.total += f.Rows
	}
	s.id = identity(s.places, s.files)
	for _, p := range from {
		if p.Identity != s.id {
			return sources.Fatal{Err: fmt.Errorf("the files in %s are not those that row %d of them was stored for: files came, went or changed. "+
				"Read them anew from the start (rewind -to-start), which repeats rows, or put back what changed", s.reading.Where, p.Offset)}
		}
		s.at = p.Offset
	}
	s.seek()
	l.Assigned([]record.Position{s.position()})
	return nil
}

// fatal says of an error whether trying again may mend it.
func fatal(err error) error {
	var damaged *damagedError
	if errors.As(err, &damaged) {
		return sources.Fatal{Err: err}
	}
	return err
}

// seek finds the file that the next row is in.
func (s *source) seek() {
	for s.index < len(s.files) && s.first+s.files[s.index].Rows <= s.at {
		s.first += s.files[s.index].Rows
		s.index++
	}
}

func (s *source) position() record.Position {
	p := record.Position{Offset: s.at, Identity: s.id}
	if s.index < len(s.files) {
		p.Name = s.files[s.index].Name
	}
	return p
}

// Read gives rows of one file.
func (s *source) Read(ctx context.Context, b *record.Batch) error {
	if err := s.unpaused(ctx); err != nil || s.isPaused() {
		return err
	}
	for {
		if s.cur == nil {
			s.seek()
			if s.index == len(s.files) {
				return io.EOF
			}
			if f := &s.files[s.index]; !f.mayHold(s.scan.Bounds, s.typ) {
				s.at = s.first + f.Rows
				s.pruned += f.Rows
				b.Next = s.position()
				continue
			}
			r, err := newReader(ctx, s, &s.files[s.index], s.at-s.first)
			if err != nil {
				return fatal(err)
			}
			s.cur = r
		}
		more, err := s.cur.next(ctx)
		if err != nil {
			// It is opened anew, and goes on at the same row.
			err = errors.Join(err, s.cur.close())
			s.cur = nil
			return fatal(err)
		}
		if more {
			break
		}
		s.pruned += s.cur.pruned
		err = s.cur.close()
		s.cur, s.at = nil, s.first+s.files[s.index].Rows
		if err != nil {
			return err
		}
		if s.index == len(s.files)-1 && s.pruned > 0 {
			s.log.Info("rows that cannot pass the filter were not read", "rows", s.pruned, "of", s.total)
		}
	}
	s.fill(b)
	return ctx.Err()
}

// fill takes rows that are decoded.
func (s *source) fill(b *record.Batch) {
	r := s.cur
	rows, most := b.Want.Records, b.Want.Bytes
	if rows <= 0 {
		rows = batchRows
	}
	if most <= 0 {
		most = batchMost
	}
	b.Topic = r.f.Name
	for n := int(r.now.NumRows()); r.at < n && len(b.Records) < rows && len(b.Buf) < most; r.at++ {
		var stamp int64
		if r.stamp != nil {
			stamp = r.stamp(r.at)
		}
		if !s.outside(stamp, r.stamp != nil) {
			start := len(b.Buf)
			b.Buf = r.append(b.Buf)
			b.Records = append(b.Records, record.Record{Offset: s.first + r.row, Timestamp: stamp, Key: nil, Source: int32(len(b.Buf) - start)})
		}
		r.row++
	}
	s.at = s.first + r.row
	at := 0
	for i := range b.Records { // only now: the buffer may have moved
		x := &b.Records[i]
		x.Value = b.Buf[at : at+int(x.Source) : at+int(x.Source)]
		at += int(x.Source)
		x.Source = 0
	}
	b.Bytes = len(b.Buf)
	b.Next = s.position()
}

// outside tells whether a row is not between Since and Until. One without a time is outside.
func (s *source) outside(stamp int64, known bool) bool {
	since, until := s.reading.Since, s.reading.Until
	if since.IsZero() && until.IsZero() {
		return false
	}
	return !known || stamp == 0 || !since.IsZero() && stamp < since.UnixMilli() || !until.IsZero() && stamp >= until.UnixMilli()
}

func (s *source) isPaused() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.paused
}

// unpaused waits for Resume, a linger long.
func (s *source) unpaused(ctx context.Context) error {
	s.mu.Lock()
	paused, bell := s.paused, s.bell
	s.mu.Unlock()
	if !paused {
		return ctx.Err()
	}
	t := time.NewTimer(linger)
	defer t.Stop()
	select {
	case <-bell:
	case <-t.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// Commit has nothing to do: positions are kept elsewhere.
func (s *source) Commit(context.Context, []record.Position) error { return nil }

// Pause stops reading.
func (s *source) Pause(parts []int32) {
	if len(parts) == 0 {
		return
	}
	s.mu.Lock()
	s.paused = true
	s.mu.Unlock()
}

// Resume ends Pause.
func (s *source) Resume(parts []int32) {
	if len(parts) == 0 {
		return
	}
	s.mu.Lock()
	if s.paused {
		s.paused = false
		close(s.bell)
		s.bell = make(chan struct{})
	}
	s.mu.Unlock()
}

// Ends gives the number of rows.
func (s *source) Ends() map[int32]int64 { return map[int32]int64{0: s.total} }

// Close frees everything.
func (s *source) Close(context.Context) error {
	var errs []error
	if s.cur != nil {
		errs = append(errs, s.cur.close())
		s.cur = nil
	}
	closed := map[storage.Store]bool{}
	for _, p := range s.places { // that may share a store
		if !closed[p.Store] {
			closed[p.Store] = true
			errs = append(errs, p.Store.Close())
		}
	}
	s.places = nil
	return errors.Join(errs...)
}
