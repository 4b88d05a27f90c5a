package hive

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/sync/errgroup"

	"keystone/pipeline/record"
	"keystone/sinks"
	"keystone/sources/hive/chain"
)

// commit is a commit on its way: what is done of it is not done again.
type commit struct {
	first    int64
	at       record.Position
	outs     []*output
	pieces   []*piece
	manifest *chain.Manifest // nil until all files are staged
	made     bool            // the manifest is there
}

// work makes the lane's commits, one after the other. It ends when there are none.
func (l *lane) work() {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = 200*time.Millisecond, 15*time.Second
	for {
		l.line.mu.Lock()
		if len(l.line.queue) == 0 || l.line.ended {
			rest := l.line.queue
			l.line.queue, l.line.working = nil, false
			if l.line.ended {
				close(l.gone)
			}
			l.line.notify()
			l.line.mu.Unlock()
			l.abandon(rest)
			return
		}
		c := l.line.queue[0]
		l.line.mu.Unlock()
		err := l.commit(c)
		if err == nil {
			b.Reset()
			l.line.mu.Lock()
			l.line.queue, l.line.err = l.line.queue[1:], nil
			l.line.notify()
			l.line.mu.Unlock()
			continue
		}
		if l.ctx.Err() != nil {
			l.leave(nil)
			continue
		}
		if said := explain("commit to "+l.key.String(), err); ends(err) {
			l.leave(said)
			continue
		} else {
			err = errors.New(said.Error()) // what a refusal says may be mended while the route runs
		}
		l.s.log.Warn("a commit failed and is tried again", "chain", l.key.String(), "first", c.first, "next", c.at.Offset, "error", err)
		l.line.mu.Lock()
		l.line.err = err
		l.line.notify()
		l.line.mu.Unlock()
		select {
		case <-l.ctx.Done():
		case <-time.After(b.NextBackOff()):
		}
	}
}

// ends tells an error of a commit that no time mends.
func ends(err error) bool {
	var damaged *chain.DamagedError
	return errors.Is(err, chain.ErrFenced) || errors.As(err, &damaged) || sinks.IsPermanent(err)
}

// abandon gives up commits that were not on their way. The first one may have been made, so its files stay.
func (l *lane) abandon(rest []*commit) {
	for i, c := range rest {
		pieces := c.pieces
		for _, o := range c.outs {
			if o != nil {
				pieces = append(pieces, l.drop(o))
			}
		}
		if i == 0 && c.manifest != nil {
			for _, p := range pieces {
				p.release(l.s)
			}
			continue
		}
		l.discard(pieces)
	}
}

// commit does what is not done yet of a commit: it may be repeated after an error.
func (l *lane) commit(c *commit) error {
	if err := l.stage(c); err != nil {
		return err
	}
	if c.manifest == nil {
		m := &chain.Manifest{First: c.first, Next: c.at, Made: l.s.now().UTC().Truncate(time.Millisecond), Files: []chain.File{}}
		for i, p := range c.pieces {
			p.file.Path = fileName(p.file.Path, l.stem, c.first, i)
			m.Files = append(m.Files, p.file)
		}
		c.manifest = m
	}
	if !c.made {
		if err := l.chain.Commit(l.ctx, c.manifest); err != nil {
			return err
		}
		c.made = true
		l.line.mu.Lock()
		l.line.durable, l.line.moved = c.at, l.s.now()
		l.line.mu.Unlock()
	}
	if err := publish(l.ctx, l.chain, l.s.log); err != nil {
		return err
	}
	l.s.catalog.seen(c.manifest)
	ready := 0
	if l.s.catalog.idle() {
		ready = l.chain.Tail()
	}
	if err := l.chain.Fold(l.ctx, ready); err != nil && l.ctx.Err() == nil {
		l.s.log.Warn("old manifests are not folded", "chain", l.key.String(), "error", err)
	}
	return nil
}

// stage finishes the files and makes them durable, several at once.
func (l *lane) stage(c *commit) error {
	g, ctx := errgroup.WithContext(l.ctx)
	g.SetLimit(filesAtOnce)
	pieces := make([]*piece, len(c.outs))
	for i, o := range c.outs {
		if o == nil {
			continue
		}
		g.Go(func() error {
			if !l.s.slot(ctx) {
				return ctx.Err()
			}
			defer l.s.slotFree()
			p, err := l.finish(o)
			if err != nil {
				return sinks.Permanent{Err: err} // a mistake of ours: its rows are read again
			}
			pieces[i] = p
			l.s.collect()
			return nil
		})
	}
	err := g.Wait()
	for i, p := range pieces {
		if p != nil {
			c.pieces, c.outs[i] = append(c.pieces, p), nil
		}
	}
	if err != nil {
		return err
	}
	c.outs = nil
	g, ctx = errgroup.WithContext(l.ctx)
	g.SetLimit(filesAtOnce)
	for _, p := range c.pieces {
		g.Go(func() error {
			if !l.s.slot(ctx) {
				return ctx.Err()
			}
			defer l.s.slotFree()
			l.s.collect()
			return p.stage(ctx, l.s)
		})
	}
	return g.Wait()
}

// slot waits for the right to work on a file; false: ctx ended.
func (s *Sink) slot(ctx context.Context) bool {
	select {
	case s.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *Sink) slotFree() { <-s.slots }
