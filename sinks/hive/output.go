package hive

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"keystone/sinks/hive/rows"
	"keystone/sources/hive/chain"
)

// output is an open file of a lane: rows of one partition of the table.
type output struct {
	dir     string // of the partition
	staged  string // name while it is not published
	w       *rows.Writer
	spool   spool
	min     int64 // offsets of its events
	max     int64
	used    uint64 // the lane's clock when it was written to last
	columns int
	base    int   // memory that the writer had when it was new
	counted int64 // of its memory, in the sink's sum
}

// memory is what the output holds: pages, what is known of row groups that are written, and encoded bytes.
func (o *output) memory() int64 {
	return int64(o.w.OpenBytes()+o.columns*o.w.RowGroups()*rowGroupMeta) + int64(cap(o.spool.buf)) + outputFixed
}

const (
	rowGroupMeta = 256     // bytes that a footer has for a column of a row group, about
	outputFixed  = 1 << 10 // bytes that any output takes, about
)

// size is about how large the file would be if it ended here.
func (o *output) size() int64 { return o.w.Written() + int64(o.w.OpenBytes()-o.base) }

// piece is a finished file on its way to be published.
type piece struct {
	file chain.File

	mu      sync.Mutex // guards all below; held while the file is staged
	spool   spool
	counted int64
	staged  bool
	dropped bool
}

// finish ends the file. It does not wait for storage, and cannot fail but by a mistake of ours.
func (o *output) finish(l *lane) (*piece, error) {
	stats, err := o.w.Close(
		rows.KeyValue{Key: "keystone.route", Value: l.key.Route},
		rows.KeyValue{Key: "keystone.generation", Value: strconv.FormatInt(l.key.Generation, 10)},
		rows.KeyValue{Key: "keystone.source", Value: l.key.Identity},
		rows.KeyValue{Key: "keystone.partition", Value: strconv.FormatInt(int64(l.key.Partition), 10)},
		rows.KeyValue{Key: "keystone.offsets", Value: fmt.Sprintf("%d-%d", o.min, o.max)},
	)
	if err != nil {
		return nil, fmt.Errorf("finish a file: %w", err)
	}
	f := chain.File{Staged: o.staged, Values: valuesOf(o.dir), Rows: stats.Rows, Bytes: stats.Bytes, Min: o.min, Max: o.max}
	for _, c := range stats.Columns {
		if c.Min == nil || c.Max == nil || !l.s.isTime(c.Path) {
			continue
		}
		if f.Bounds == nil {
			f.Bounds = map[string]chain.Bound{}
		}
		f.Bounds[c.Path] = chain.Bound{Min: *c.Min, Max: *c.Max}
	}
	p := &piece{file: f, spool: o.spool, counted: o.counted}
	p.file.Path = o.dir // the name comes with the commit
	o.w, o.spool.buf = nil, nil
	return p, nil
}

// stage makes the file durable under its staged name. It may be repeated.
func (p *piece) stage(ctx context.Context, s *Sink) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.staged || p.dropped {
		return nil
	}
	err := p.spool.deliver(ctx, s, p.file.Staged)
	if p.staged = err == nil; p.staged {
		s.spooled(nil)
	}
	p.recountLocked(s)
	return err
}

// recount keeps the sink's sum right.
func (p *piece) recount(s *Sink) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.recountLocked(s)
}

func (p *piece) recountLocked(s *Sink) {
	have := int64(cap(p.spool.buf))
	s.count(have - p.counted)
	p.counted = have
}

// release gives up the memory.
func (p *piece) release(s *Sink) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropped, p.spool.buf = true, nil
	p.recountLocked(s)
}

// discard deletes what is on disk and in the store.
func (p *piece) discard(ctx context.Context, s *Sink) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spool.discard(ctx, s, p.file.Staged)
	if p.staged {
		if err := s.store.Delete(ctx, p.file.Staged); err != nil {
			s.log.Debug("a staged file is left", "name", p.file.Staged, "error", err)
		}
	}
}
