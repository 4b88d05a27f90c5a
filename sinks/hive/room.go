package hive

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"
)

// room waits until there is room for a batch, and makes it if need be.
func (s *Sink) room(ctx context.Context) error {
	patience := time.NewTimer(roomWait)
	defer patience.Stop()
	for {
		s.mu.Lock()
		freed := s.freed
		s.mu.Unlock()
		if s.fits() {
			return nil
		}
		if s.shrinks.TryLock() {
			s.shrink()
			s.shrinks.Unlock()
			s.mu.Lock()
			freed = s.freed // what this one freed is no news to it
			s.mu.Unlock()
			if s.fits() {
				return nil
			}
		}
		again := time.NewTimer(roomLook)
		select {
		case <-freed:
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return ctx.Err()
		case <-patience.C:
			again.Stop()
			return s.crowded()
		}
		again.Stop()
	}
}

const (
	roomWait = 20 * time.Second // before the route is told why it stands still
	roomLook = time.Second
)

// Buffers that no file has at the moment are kept for the next ones: so much of max_open_bytes, and no more than keptMost.
const (
	keptPart = 16
	keptMost = 64 << 20
)

func (s *Sink) fits() bool {
	return s.held.Load()+int64(s.pool.Kept()) <= s.cfg.MaxOpenBytes && s.outputs.Load() <= int64(s.cfg.MaxOpenPartitions)
}

// crowded says why there is no room. It is retryable.
func (s *Sink) crowded() error {
	_, err := s.Durable()
	if err == nil {
		return fmt.Errorf("max_open_bytes is reached, and what was cut is not written yet")
	}
	return fmt.Errorf("max_open_bytes is reached: %w", err)
}

// The steps of shrink: files that hold so much have their row group written.
var shrinkSteps = []int64{4 << 20, 512 << 10, 0}

// shrink frees memory until three quarters of the bound are used, the largest files first; and ends files that were not
// written to for long where there are too many. Lanes whose files are being written are left out: they come here themselves.
func (s *Sink) shrink() {
	lanes := s.all()
	goal := s.cfg.MaxOpenBytes / 4 * 3
	for _, least := range shrinkSteps {
		for _, l := range lanes {
			if s.held.Load() <= goal {
				break
			}
			if l.mu.TryLock() {
				l.shrink(least, goal)
				l.mu.Unlock()
			}
		}
	}
	if s.outputs.Load() <= int64(s.cfg.MaxOpenPartitions) {
		return
	}
	var used []uint64
	for _, l := range lanes {
		if l.mu.TryLock() {
			for _, o := range l.outs {
				used = append(used, o.used)
			}
			l.mu.Unlock()
		}
	}
	excess := int(s.outputs.Load()) - s.cfg.MaxOpenPartitions + s.cfg.MaxOpenPartitions/10
	if len(used) == 0 || excess < 0 { // committers end files meanwhile
		return
	}
	slices.Sort(used)
	oldest := uint64(math.MaxUint64)
	if excess < len(used) {
		oldest = used[excess]
	}
	for _, l := range lanes {
		if l.mu.TryLock() {
			l.retire(oldest, s.cfg.MaxOpenPartitions/10*9)
			l.mu.Unlock()
		}
	}
}

// shrink writes out files that hold at least so much, the largest first, until the goal is reached. mu is held.
func (l *lane) shrink(least, goal int64) {
	outs := make([]*output, 0, len(l.outs))
	for _, o := range l.outs {
		if o.counted >= least {
			outs = append(outs, o)
		}
	}
	slices.SortFunc(outs, func(a, b *output) int { return int(b.counted - a.counted) })
	for _, o := range outs {
		if l.s.held.Load() <= goal {
			return
		}
		l.relieve(o)
	}
	l.hurry()
}

// relieve frees most of what a file holds. Where a row group would free less than it leaves behind
// in the footer the file is ended.
func (l *lane) relieve(o *output) {
	pages := int64(o.w.OpenBytes())
	if behind := int64(o.columns * (o.w.RowGroups() + 1) * rowGroupMeta); pages < 2*behind {
		if err := l.end(o, false); err != nil {
			l.s.log.Error("a file could not be ended", "error", err)
		}
		return
	}
	if err := o.w.Flush(); err != nil {
		l.s.log.Error("a row group could not be ended", "error", err)
	}
	l.s.spooled(o.spool.drain(l.ctx, l.s, o.staged))
	l.account(o)
}

// retire ends files that were last written to at or before a time, until few enough are open. mu is held.
func (l *lane) retire(oldest uint64, goal int) {
	for _, o := range l.outs {
		if l.s.outputs.Load() <= int64(goal) {
			return
		}
		if o.used <= oldest {
			if err := l.end(o, false); err != nil {
				l.s.log.Error("a file could not be ended", "error", err)
			}
		}
	}
	l.hurry()
}
