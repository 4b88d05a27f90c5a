package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"

	"keystone/configs/addr"
	"keystone/reconcile"
)

// Backfills gives the latest backfill of each route that had one.
func (s *Store) Backfills(ctx context.Context) (map[addr.Addr]reconcile.Backfill, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT route, data FROM backfills WHERE namespace = ?`, s.namespace)
	if err != nil {
		return nil, s.wrap("read backfills from", err)
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells
	out := map[addr.Addr]reconcile.Backfill{}
	for rows.Next() {
		var route string
		var data []byte
		var b reconcile.Backfill
		if err = rows.Scan(&route, &data); err == nil {
			err = json.Unmarshal(data, &b)
		}
		if err == nil {
			b.Addr, err = addr.Parse(route)
		}
		if err != nil {
			return nil, s.wrap("read backfills from", err)
		}
		out[b.Addr] = b
	}
	return out, s.wrap("read backfills from", rows.Err())
}

// BackfillFiles gives what the route's backfill reads.
func (s *Store) BackfillFiles(ctx context.Context, route addr.Addr) (files []byte, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT files FROM backfills WHERE namespace = ? AND route = ?`, s.namespace, route.String()).Scan(&files)
	return files, s.wrap("read a backfill from", err)
}

// BeginBackfill writes a backfill down with what it reads, in the place of an earlier one that is over, with a line of the
// audit. It gives the other one and false where that is not over.
func (s *Store) BeginBackfill(ctx context.Context, b reconcile.Backfill, files []byte, e reconcile.AuditEntry) (old reconcile.Backfill, begun bool, err error) {
	data, err := json.Marshal(b)
	if err != nil {
		return old, false, s.wrap("write a backfill to", err)
	}
	err = s.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		old, begun = reconcile.Backfill{}, false
		var have []byte
		err := tx.QueryRowContext(ctx, `SELECT data FROM backfills WHERE namespace = ? AND route = ?`, s.namespace, b.Addr.String()).Scan(&have)
		if err == nil {
			err = json.Unmarshal(have, &old)
		}
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return s.wrap("write a backfill to", err)
		}
		if err == nil && !old.Phase.Over() {
			old.Addr = b.Addr
			return nil
		}
		begun = true
		if _, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO backfills (namespace, route, data, files) VALUES (?, ?, ?, ?)`, s.namespace, b.Addr.String(), string(data), files); err != nil {
			return s.wrap("write a backfill to", err)
		}
		return s.audit(ctx, tx, e)
	})
	return old, begun, err
}

// SaveBackfill writes down how a backfill stands, with a line of the audit if e is not nil. Another one of the route stays as it is.
func (s *Store) SaveBackfill(ctx context.Context, b reconcile.Backfill, e *reconcile.AuditEntry) error {
	data, err := json.Marshal(b)
	if err != nil {
		return s.wrap("write a backfill to", err)
	}
	return s.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE backfills SET data = ? WHERE namespace = ? AND route = ? AND json_extract(data, '$.id') = ?`, string(data), s.namespace, b.Addr.String(), b.ID)
		if err != nil || e == nil {
			return s.wrap("write a backfill to", err)
		}
		return s.audit(ctx, tx, *e)
	})
}
