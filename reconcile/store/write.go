package store

import (
	"context"
	"database/sql"
	"errors"
)

// write is one change that waits for its transaction.
type write struct {
	ctx  context.Context
	do   func(context.Context, *sql.Tx) error
	err  error
	done chan bool // true: the write is done; false: it is this writer's turn to lead
}

// maxTogether bounds the writes of one transaction.
const maxTogether = 512

// write runs do in a transaction that may hold the writes of others, and
// returns when it is durable. do may run twice; the first time is undone then. The first writer leads: it takes all that wait, commits them
// together, and hands the lead to the first that came meanwhile.
func (s *Store) write(ctx context.Context, do func(context.Context, *sql.Tx) error) error {
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

// together runs writes in one transaction. If one of them fails, each runs in
// a transaction of its own: a failure undoes what it did, and nothing else. What is returned
// concerns all of them.
func (s *Store) together(batch []*write) error {
	failed := false
	err := s.transaction(func(ctx context.Context, tx *sql.Tx) error {
		for _, w := range batch {
			if w.err = w.ctx.Err(); w.err == nil {
				w.err = w.do(ctx, tx)
			}
			if w.err != nil {
				failed = len(batch) > 1
				return w.err
			}
		}
		return nil
	})
	if !failed {
		return err
	}
	for _, w := range batch {
		if w.err = w.ctx.Err(); w.err == nil {
			w.err = s.transaction(w.do)
		}
	}
	return nil
}

// transaction commits what do did, or undoes it if it fails. One writer's
// cancellation is not the others', so none ends it.
func (s *Store) transaction(do func(context.Context, *sql.Tx) error) error {
	ctx := context.Background()
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return s.wrap("write", err)
	}
	if err := do(ctx, tx); err != nil {
		return errors.Join(err, s.wrap("undo", tx.Rollback()))
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
