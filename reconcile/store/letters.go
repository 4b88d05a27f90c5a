package store

import (
	"context"
	"database/sql"
	"time"
)

// LetterID names a dead letter at its place.
type LetterID struct {
	Partition int32
	Offset    int64
}

// What became of a dead letter.
const (
	LetterReplayed = "replayed" // went through its route again
	LetterPurged   = "purged"   // nobody wants it any more
)

// MarkLetters notes what became of letters; it is durable on return. A letter
// that was purged stays so.
func (s *Store) MarkLetters(ctx context.Context, place string, ids []LetterID, state string, at time.Time) error {
	return s.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		put, err := tx.PrepareContext(ctx, `INSERT INTO letters (place, partition, "offset", state, time) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET state = excluded.state, time = excluded.time WHERE state <> 'purged'`)
		if err != nil {
			return s.wrap("mark dead letters in", err)
		}
		defer put.Close() //nolint:errcheck // ends with the transaction
		for _, id := range ids {
			if _, err := put.ExecContext(ctx, place, id.Partition, id.Offset, state, at.UnixNano()); err != nil {
				return s.wrap("mark dead letters in", err)
			}
		}
		return nil
	})
}

// LetterMarks gives what became of the letters at a place; those of which
// nothing did are left out.
func (s *Store) LetterMarks(ctx context.Context, place string) (map[LetterID]string, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT partition, "offset", state FROM letters WHERE place = ?`, place)
	if err != nil {
		return nil, s.wrap("read the marks of dead letters from", err)
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells
	marks := map[LetterID]string{}
	for rows.Next() {
		var id LetterID
		var state string
		if err := rows.Scan(&id.Partition, &id.Offset, &state); err != nil {
			return nil, s.wrap("read the marks of dead letters from", err)
		}
		marks[id] = state
	}
	return marks, s.wrap("read the marks of dead letters from", rows.Err())
}

// ForgetLetters drops the marks of letters that are no longer there.
func (s *Store) ForgetLetters(ctx context.Context, place string, ids []LetterID) error {
	return s.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		for _, id := range ids {
			if _, err := tx.ExecContext(ctx, `DELETE FROM letters WHERE place = ? AND partition = ? AND "offset" = ?`, place, id.Partition, id.Offset); err != nil {
				return s.wrap("forget dead letters in", err)
			}
		}
		return nil
	})
}
