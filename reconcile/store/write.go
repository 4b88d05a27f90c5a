package store

import (
	"context"
	"database/sql"
	"errors"
)

// write is one change that waits for its transaction.
type write struct {
	ctx  context.Context
	do   func(*sql.Tx) error
	err  error
	done chan bool // true: the write is done; false: it is this writer's turn to lead
}

// maxTogether bounds the writes of one transaction.
const maxTogether = 512

// write runs do in a transaction that may hold the writes of others, and
// returns when it is durable. The first writer leads: it takes all that wait, commits them
// together, and hands the lead to the first that came meanwhile.
func (s *Store) write(ctx context.Context, do func(*sql.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w := &write{ctx: ctx, do: do, done: make(chan bool, 1)}
	s.mu.Lock()
	s.waiting = append(s.waiting, w)
	lead := !s.leading
	s.leading = true
	s.mu.Unlock()
	if !lead && <-w.done {
		return w.err
	}
	s.lead()
	return w.err
}

// lead commits one batch, which holds the leader's own write, since it is the first that waits.
func (s *Store) lead() {
	s.mu.Lock()
	n := min(len(s.waiting), maxTogether)
	batch := s.waiting[:n:n]
	s.waiting = s.waiting[n:]
	s.mu.Unlock()

	err := s.together(batch)
	for _, w := range batch {
		if w.err == nil {
			w.err = err
		}
	}

	s.mu.Lock()
	var next *write
	if len(s.waiting) > 0 {
		next = s.waiting[0]
	} else {
		s.leading, s.waiting = false, nil
	}
	s.mu.Unlock()
	if next != nil {
		next.done <- false
	}
	for _, w := range batch[1:] {
		w.done <- true
	}
}

// together runs writes in one transaction. Each failure is its own; what is
// returned concerns all of them.
func (s *Store) together(batch []*write) error {
	ctx := context.Background() // one writer's cancellation is not the others'
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return s.wrap("write", err)
	}
	for _, w := range batch {
		if w.err = w.ctx.Err(); w.err == nil {
			w.err = in(ctx, tx, w.do)
		}
	}
	if err := tx.Commit(); err != nil {
		return s.wrap("write", errors.Join(err, ignoreDone(tx.Rollback())))
	}
	return nil
}

func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
}
