package hive

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"keystone/pipeline/record"
	"keystone/sinks"
	"keystone/sinks/hive/rows"
	"keystone/sources/hive/chain"
)

// lane is one partition of what is read: its open commit, and those on their way.
type lane struct {
	s      *Sink
	key    chain.Key
	stem   string // of its files' names
	chain  *chain.Chain
	ctx    context.Context
	cancel context.CancelFunc
	gone   chan struct{} // closed when the lane was left and nothing of it is under way

	dueAt  atomic.Int64 // when the open commit is due, in nanoseconds since 1970; 0: nothing is open
	urgent atomic.Bool  // it is due now

	mu      sync.Mutex // guards all below: the open commit
	parser  *rows.Parser
	outs    map[string]*output // by folder
	last    *output            // the one written to last
	dir     []byte             // scratch: the folder of the record at hand
	values  [][]byte           // scratch: its typed values
	touched []*output          // in this batch
	pieces  []*piece           // that were ended before the cut
	first   record.Position    // where the open commit begins
	idle    bool               // the chain's position may move to idleAt, and nothing else is open
	idleAt  record.Position
	files   int   // that were begun, for their names
	rows    int64 // of the open commit
	full    int64 // of them, those in pieces that are full
	left    bool

	line line
}

// line has the commits on their way. Its lock comes after lane.mu.
type line struct {
	mu      sync.Mutex // guards all below
	queue   []*commit
	working bool
	ended   bool // nothing is committed any more
	err     error
	durable record.Position
	moved   time.Time     // when it moved last
	changed chan struct{} // closed when something of it changed
}

func newLane(s *Sink, key chain.Key, c *chain.Chain, at record.Position) *lane {
	l := &lane{
		s: s, key: key, stem: fileStem(key), chain: c, gone: make(chan struct{}),
		parser: s.schema.NewParser(), outs: map[string]*output{}, first: at,
		line: line{durable: at, moved: s.now(), changed: make(chan struct{})},
	}
	l.ctx, l.cancel = context.WithCancel(s.ctx)
	return l
}

// write takes a batch.
func (l *lane) write(b *record.Batch) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left {
		return l.why()
	}
	clock := l.s.clock.Add(1)
	var refused []sinks.Failure
	for i := range b.Records {
		err := l.add(&b.Records[i], clock)
		if err == nil {
			continue
		}
		var no *refusal
		if !errors.As(err, &no) {
			return sinks.Permanent{Err: err} // a mistake of ours: the lane's rows are lost with it, and read again
		}
		refused = append(refused, sinks.Failure{Index: i, Outcome: sinks.Rejected, Code: no.code, Err: no})
	}
	for _, o := range l.touched {
		if o.w != nil {
			l.look(o)
		}
	}
	l.touched = l.touched[:0]
	l.hurry()
	if refused != nil {
		return &sinks.PartialError{Failures: refused}
	}
	return nil
}

func (l *lane) why() error {
	_, err, _ := l.where()
	if err == nil {
		err = fmt.Errorf("partition %d was given up", l.key.Partition)
	}
	return err
}

// add takes one record.
func (l *lane) add(r *record.Record, clock uint64) error {
	if r.Value == nil {
		return &refusal{"null_value", "a table has no form for a null value"}
	}
	values := r.Derived
	if l.s.keys != nil {
		l.values = l.values[:0]
		for i, v := range r.Derived {
			text, why := l.s.keys[i].write(v)
			if why != "" {
				return &refusal{"partition", why}
			}
			l.values = append(l.values, text)
		}
		values = l.values
	}
	l.dir = appendDir(l.dir[:0], l.s.names, values)
	o := l.last
	if o == nil || o.dir != string(l.dir) {
		var err error
		if o, err = l.output(); err != nil {
			return err
		}
		l.last = o
	}
	if err := o.w.Append(r.Value); err != nil {
		var no *rows.RowError
		if errors.As(err, &no) {
			return &refusal{string(no.Code), no.Error()}
		}
		return err
	}
	l.rows++
	if o.w.Rows() == 1 {
		o.min, o.max = r.Offset, r.Offset
		if l.dueAt.Load() == 0 {
			l.dueAt.Store(l.s.now().Add(l.s.cfg.RollInterval).UnixNano())
		}
	}
	o.min, o.max = min(o.min, r.Offset), max(o.max, r.Offset)
	if o.used != clock {
		o.used = clock
		l.touched = append(l.touched, o)
	}
	if o.size() >= l.s.cfg.RollBytes || l.s.cfg.RollRows > 0 && o.w.Rows() >= l.s.cfg.RollRows || o.w.RowGroups() >= groupsMax {
		return l.end(o, true)
	}
	return nil
}

// groupsMax is below what the format counts.
const groupsMax = 30_000

// output gives the file for the folder in l.dir.
func (l *lane) output() (*output, error) {
	if o := l.outs[string(l.dir)]; o != nil {
		return o, nil
	}
	dir := string(l.dir)
	if why := checkDir(dir); why != "" {
		return nil, &refusal{"partition", why}
	}
	o := &output{dir: dir, staged: chain.Staged(l.key, l.first.Offset, l.s.writer, l.files), columns: l.s.columns}
	l.files++
	o.w = rows.NewWriter(&o.spool, l.s.schema, rows.Options{
		Compression: l.s.cfg.Compression, RowGroupBytes: int(min(rows.RowGroupBytesDefault, l.s.cfg.MaxOpenBytes/4)), Pool: l.s.pool, Parser: l.parser,
	})
	o.base = o.w.OpenBytes()
	l.outs[dir] = o
	l.s.outputs.Add(1)
	l.account(o)
	return o, nil
}

// account keeps the sum right.
func (l *lane) account(o *output) {
	have := o.memory()
	l.s.count(have - o.counted)
	o.counted = have
}

// look brings encoded bytes to disk, if there are many, and keeps the sum right.
func (l *lane) look(o *output) {
	if len(o.spool.buf) >= drainAfter {
		l.s.spooled(o.spool.drain(l.ctx, l.s, o.staged))
	}
	l.account(o)
}

// drainAfter is how many encoded bytes go to disk at once.
const drainAfter = 512 << 10

// end ends a file before the cut, and begins to stage it.
func (l *lane) end(o *output, full bool) error {
	delete(l.outs, o.dir)
	if l.last == o {
		l.last = nil
	}
	p, err := l.finish(o)
	if p == nil || err != nil {
		return err
	}
	if full {
		l.full += p.file.Rows
	}
	l.pieces = append(l.pieces, p)
	l.s.wg.Go(func() {
		if err := p.stage(l.ctx, l.s); err != nil && l.ctx.Err() == nil {
			l.s.log.Debug("a file is not staged yet", "name", p.file.Staged, "error", err)
		}
	})
	return nil
}

// finish makes a piece of an open file; nil if it has no rows.
func (l *lane) finish(o *output) (*piece, error) {
	l.s.outputs.Add(-1)
	if o.w.Rows() == 0 {
		l.s.count(-o.counted)
		o.w.Abort()
		o.w = nil
		return nil, nil
	}
	p, err := o.finish(l)
	if err != nil {
		return nil, err
	}
	p.recount(l.s)
	return p, nil
}

// hurry tells the worker to cut where most of what is open is full.
func (l *lane) hurry() {
	if l.full > 0 && 2*l.full >= l.rows || len(l.pieces) >= piecesMax {
		l.urgent.Store(true)
	}
}

// piecesMax is how many files a commit has before its cut, when memory is short.
const piecesMax = 1000

// cut makes a commit of what is open.
func (l *lane) cut(at record.Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left || at.Offset <= l.first.Offset {
		return
	}
	for dir, o := range l.outs {
		if o.w.Rows() == 0 { // all that came was refused
			delete(l.outs, dir)
			_, _ = l.finish(o)
		}
	}
	l.last = nil
	if len(l.outs) == 0 && len(l.pieces) == 0 && l.s.now().Sub(l.line.since()) < l.s.cfg.RollInterval {
		l.idle, l.idleAt = true, at
		return
	}
	l.hand(at)
}

// commitIdle has the chain's position move though there are no rows.
func (l *lane) commitIdle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.idle && !l.left && len(l.outs) == 0 && len(l.pieces) == 0 {
		l.hand(l.idleAt)
	}
}

// hand gives the open commit to the committer.
func (l *lane) hand(at record.Position) {
	c := &commit{first: l.first.Offset, at: at, pieces: l.pieces}
	for _, dir := range slices.Sorted(maps.Keys(l.outs)) {
		c.outs = append(c.outs, l.outs[dir])
	}
	clear(l.outs)
	l.first, l.pieces, l.idle = at, nil, false
	l.rows, l.full = 0, 0
	l.dueAt.Store(0)
	l.urgent.Store(false)
	l.line.mu.Lock()
	defer l.line.mu.Unlock()
	l.line.queue = append(l.line.queue, c)
	if !l.line.working {
		l.line.working = true
		l.s.wg.Go(l.work)
	}
}

// leave gives up what is open and what is not on its way. why is nil where others may have the partition.
func (l *lane) leave(why error) {
	l.cancel()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.left {
		l.left = true
		pieces := l.pieces
		for _, o := range l.outs {
			pieces = append(pieces, l.drop(o))
		}
		clear(l.outs)
		l.pieces, l.last = nil, nil
		l.dueAt.Store(0)
		l.urgent.Store(false)
		l.discard(pieces)
	}
	l.line.mu.Lock()
	defer l.line.mu.Unlock()
	if why != nil && l.line.err == nil {
		l.line.err = why
	}
	if !l.line.ended {
		l.line.ended = true
		if !l.line.working {
			close(l.gone)
		}
	}
	l.line.notify()
}

// drop makes a piece of an open file that is not wanted.
func (l *lane) drop(o *output) *piece {
	o.w.Abort()
	l.s.outputs.Add(-1)
	p := &piece{file: chain.File{Staged: o.staged}, spool: o.spool, counted: o.counted}
	o.w, o.spool.buf, o.counted = nil, nil, 0
	return p
}

// discard deletes, as well as it can, staged files that no manifest names.
func (l *lane) discard(pieces []*piece) {
	for _, p := range pieces {
		p.release(l.s)
	}
	if len(pieces) == 0 {
		return
	}
	l.s.wg.Go(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(l.ctx), discardWait)
		defer cancel()
		for _, p := range pieces {
			p.discard(ctx, l.s)
		}
	})
}

const discardWait = 5 * time.Second

// where gives the end of the chain, and why it is not further.
func (l *lane) where() (at record.Position, err error, ended bool) {
	l.line.mu.Lock()
	defer l.line.mu.Unlock()
	return l.line.durable, l.line.err, l.line.ended && l.line.err != nil
}

// wait waits until the committer has nothing to do.
func (l *lane) wait(ctx context.Context) error {
	for {
		l.line.mu.Lock()
		quiet, changed := !l.line.working || l.line.ended, l.line.changed
		l.line.mu.Unlock()
		if quiet {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (n *line) notify() {
	close(n.changed)
	n.changed = make(chan struct{})
}

func (n *line) since() time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.moved
}
