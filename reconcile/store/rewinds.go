package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"

	"keystone/configs/addr"
	"keystone/reconcile"
)

// Rewinds gives the rewinds that are not completed, by route.
func (s *Store) Rewinds(ctx context.Context) (map[addr.Addr]reconcile.Rewind, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT route, data FROM rewinds WHERE namespace = ?`, s.namespace)
	if err != nil {
		return nil, s.wrap("read rewinds from", err)
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells
	out := map[addr.Addr]reconcile.Rewind{}
	for rows.Next() {
		r, err := scanRewind(rows)
		if err != nil {
			return nil, s.wrap("read rewinds from", err)
		}
		out[r.Addr] = r
	}
	return out, s.wrap("read rewinds from", rows.Err())
}

func scanRewind(row scanner) (r reconcile.Rewind, err error) {
	var route string
	var data []byte
	if err := row.Scan(&route, &data); err != nil {
		return r, err
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, err
	}
	r.Addr, err = addr.Parse(route)
	return r, err
}

// BeginRewind writes a rewind down before anything is done for it, with a line
// of the audit, in one transaction. It gives a *reconcile.RewindUnderWayError
// where an earlier one of the route is not completed.
func (s *Store) BeginRewind(ctx context.Context, r reconcile.Rewind, e reconcile.AuditEntry) error {
	data, err := json.Marshal(r)
	if err != nil {
		return s.wrap("write a rewind to", err)
	}
	return s.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		old, err := scanRewind(tx.QueryRowContext(ctx, `SELECT route, data FROM rewinds WHERE namespace = ? AND route = ?`, s.namespace, r.Addr.String()))
		if err == nil {
			return &reconcile.RewindUnderWayError{Rewind: old}
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return s.wrap("write a rewind to", err)
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO rewinds (namespace, route, data) VALUES (?, ?, ?)`, s.namespace, r.Addr.String(), string(data)); err != nil {
			return s.wrap("write a rewind to", err)
		}
		return s.audit(ctx, tx, e)
	})
}

// EndRewind takes a rewind off, with a line of the audit. Where the route was
// moved, its stored positions, its generation and the history of its programs follow in the
// same transaction. Twice is once.
func (s *Store) EndRewind(ctx context.Context, r reconcile.Rewind, moved bool, e reconcile.AuditEntry) error {
	return s.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `DELETE FROM rewinds WHERE namespace = ? AND route = ? AND json_extract(data, '$.id') = ?`, s.namespace, r.Addr.String(), r.ID)
		if err != nil {
			return s.wrap("complete a rewind in", err)
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return s.wrap("complete a rewind in", err)
		}
		if !moved {
			return s.audit(ctx, tx, e)
		}
		if err := s.nextGeneration(ctx, tx, r.Addr); err != nil {
			return err
		}
		put := tx.StmtContext(ctx, s.putPosition)
		for _, x := range r.To {
			if _, err := put.ExecContext(ctx, s.namespace, r.Addr.String(), r.Source, x.Partition, x.Offset, x.LeaderEpoch, x.Identity, x.Cluster, x.Name); err != nil {
				return s.wrap("complete a rewind in", err)
			}
			if err := s.markRewind(ctx, tx, r.Addr, r.Source, r.From, x, e.Time); err != nil {
				return s.wrap("complete a rewind in", err)
			}
		}
		return s.audit(ctx, tx, e)
	})
}
