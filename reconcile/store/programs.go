package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"keystone/configs/addr"
	"keystone/pipeline/record"
)

// keepPrograms bounds how many programs are remembered of one partition of a
// route. Offsets before the oldest of them cannot be judged any more.
const keepPrograms = 1024

// ProgramBegin says why a program began at an offset.
type ProgramBegin string

const (
	// ProgramStart is a lane that began there: what an earlier program had read beyond may be there twice.
	ProgramStart ProgramBegin = "start"
	// ProgramSwap is a program that took the place of another between two batches: no record saw both.
	ProgramSwap ProgramBegin = "swap"
	// ProgramRewind is a route that somebody sent there, back or ahead: Skipped records are not read.
	ProgramRewind ProgramBegin = "rewind"
	// ProgramSkip begins records that somebody had the route skip: none is run over them.
	ProgramSkip ProgramBegin = "skip"
)

// Program is one entry of a route's history: from First on, records of a
// partition were run through the program of a revision.
type Program struct {
	Partition int32
	First     int64
	Identity  string // of what the offset counts in
	Begin     ProgramBegin
	Revision  int64
	Time      time.Time
	Goal      []byte // the route and what it refers to, as the composition root encodes it; nil of a skip
}

// SavePrograms adds to the history of a route in one source; it is durable
// when it returns. An entry that says what the last one of its partition said is left out.
func (s *Store) SavePrograms(ctx context.Context, route addr.Addr, source string, entries []Program) error {
	return s.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		for i := range entries {
			if err := s.saveProgram(ctx, tx, route, source, &entries[i]); err != nil {
				return s.wrap("save programs in", err)
			}
		}
		return nil
	})
}

func (s *Store) saveProgram(ctx context.Context, tx *sql.Tx, route addr.Addr, source string, p *Program) error {
	key := []any{s.namespace, route.String(), source, p.Partition}
	var seq, first int64
	var identity string
	var begin ProgramBegin
	var last []byte
	err := tx.QueryRowContext(ctx, `SELECT seq, first, identity, kind, goal FROM programs WHERE namespace = ? AND route = ? AND source = ? AND partition = ? ORDER BY seq DESC LIMIT 1`, key...).
		Scan(&seq, &first, &identity, &begin, &last)
	known := err == nil
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	var hash []byte
	if p.Goal != nil {
		sum := sha256.Sum256(p.Goal)
		hash = sum[:]
	}
	same := known && identity == p.Identity && string(last) == string(hash)
	if same && first <= p.First && p.Begin != ProgramRewind || same && first == p.First && begin == p.Begin {
		return nil
	}
	if hash != nil {
		var there int
		if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM program_goals WHERE hash = ?`, hash).Scan(&there); err != nil {
			return err
		}
		if there == 0 {
			data, err := pack(p.Goal)
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, `INSERT INTO program_goals (hash, data) VALUES (?, ?)`, hash, data); err != nil {
				return err
			}
		}
	}
	seq++
	if _, err := tx.ExecContext(ctx, `INSERT INTO programs (namespace, route, source, partition, seq, first, identity, kind, revision, time, goal) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		append(key, seq, p.First, p.Identity, string(p.Begin), p.Revision, p.Time.UnixNano(), hash)...); err != nil {
		return err
	}
	return prunePrograms(ctx, tx, key, seq-keepPrograms)
}

// prunePrograms forgets entries up to seq, and goals that no other entry has.
func prunePrograms(ctx context.Context, tx *sql.Tx, key []any, seq int64) error {
	if seq <= 0 {
		return nil
	}
	const of = ` FROM programs WHERE namespace = ? AND route = ? AND source = ? AND partition = ? AND seq <= ?`
	rows, err := tx.QueryContext(ctx, `SELECT DISTINCT goal`+of+` AND goal IS NOT NULL`, append(key, seq)...)
	if err != nil {
		return err
	}
	var old [][]byte
	for rows.Next() {
		var hash []byte
		if err := rows.Scan(&hash); err != nil {
			return errors.Join(err, rows.Close())
		}
		old = append(old, hash)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `DELETE`+of, append(key, seq)...); err != nil {
		return err
	}
	for _, hash := range old {
		if _, err := tx.ExecContext(ctx, `DELETE FROM program_goals WHERE hash = ? AND NOT EXISTS (SELECT 1 FROM programs WHERE goal = ?)`, hash, hash); err != nil {
			return err
		}
	}
	return nil
}

// Programs gives the history of a route in one source: per partition, in the
// order in which it was written.
func (s *Store) Programs(ctx context.Context, route addr.Addr, source string) ([]Program, error) {
	tx, err := s.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, s.wrap("read programs from", err)
	}
	defer tx.Rollback() //nolint:errcheck // nothing was written
	rows, err := tx.QueryContext(ctx, `SELECT partition, first, identity, kind, revision, time, goal FROM programs WHERE namespace = ? AND route = ? AND source = ? ORDER BY partition, seq`,
		s.namespace, route.String(), source)
	if err != nil {
		return nil, s.wrap("read programs from", err)
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells
	var out []Program
	var hashes [][]byte
	for rows.Next() {
		var p Program
		var ns int64
		var hash []byte
		if err := rows.Scan(&p.Partition, &p.First, &p.Identity, &p.Begin, &p.Revision, &ns, &hash); err != nil {
			return nil, s.wrap("read programs from", err)
		}
		p.Time = time.Unix(0, ns).UTC()
		out, hashes = append(out, p), append(hashes, hash)
	}
	if err := rows.Err(); err != nil {
		return nil, s.wrap("read programs from", err)
	}
	goals := map[string][]byte{} // shared: partitions have the same ones
	for i, hash := range hashes {
		if hash == nil {
			continue
		}
		if goals[string(hash)] == nil {
			var data []byte
			if err := tx.QueryRowContext(ctx, `SELECT data FROM program_goals WHERE hash = ?`, hash).Scan(&data); err != nil {
				return nil, s.wrap("read programs from", err)
			}
			if goals[string(hash)], err = unpack(data); err != nil {
				return nil, s.wrap("read programs from", fmt.Errorf("a program of %s: %w", route, err))
			}
		}
		out[i].Goal = goals[string(hash)]
	}
	return out, nil
}

// markRewind writes down that a partition of a route goes on at a position in
// one source. from is where the partitions were: what lies between it and a position ahead is skipped.
func (s *Store) markRewind(ctx context.Context, tx *sql.Tx, route addr.Addr, source string, from []record.Position, to record.Position, at time.Time) error {
	var revision int64
	var identity string
	var goal []byte
	err := tx.QueryRowContext(ctx, `SELECT p.revision, p.identity, g.data FROM programs p JOIN program_goals g ON g.hash = p.goal
		WHERE p.namespace = ? AND p.route = ? AND p.source = ? AND p.partition = ? ORDER BY p.seq DESC LIMIT 1`, s.namespace, route.String(), source, to.Partition).Scan(&revision, &identity, &goal)
	if errors.Is(err, sql.ErrNoRows) {
		return nil // it has read nothing yet
	}
	if err == nil {
		goal, err = unpack(goal)
	}
	if err != nil {
		return err
	}
	for _, f := range from {
		if f.Partition == to.Partition && f.Offset < to.Offset {
			if err := s.saveProgram(ctx, tx, route, source, &Program{Partition: to.Partition, First: f.Offset, Identity: identity, Begin: ProgramSkip, Revision: revision, Time: at}); err != nil {
				return err
			}
		}
	}
	return s.saveProgram(ctx, tx, route, source, &Program{Partition: to.Partition, First: to.Offset, Identity: identity, Begin: ProgramRewind, Revision: revision, Time: at, Goal: goal})
}
