package store

import (
	"context"
	"database/sql"
	"time"

	"keystone/configs/addr"
	"keystone/reconcile"
)

// Holds gives the routes that operators hold back, by address.
func (s *Store) Holds(ctx context.Context) (map[addr.Addr]reconcile.Hold, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT route, kind, who, since FROM holds WHERE namespace = ?`, s.namespace)
	if err != nil {
		return nil, s.wrap("read what is held back from", err)
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells
	out := map[addr.Addr]reconcile.Hold{}
	for rows.Next() {
		var h reconcile.Hold
		var route string
		var since int64
		if err := rows.Scan(&route, &h.Kind, &h.Who, &since); err != nil {
			return nil, s.wrap("read what is held back from", err)
		}
		if h.Addr, err = addr.Parse(route); err != nil {
			return nil, s.wrap("read what is held back from", err)
		}
		h.Since = time.Unix(0, since).UTC()
		out[h.Addr] = h
	}
	return out, s.wrap("read what is held back from", rows.Err())
}

// Hold holds a route back, in the place of an earlier hold, and writes it into
// the audit, in one transaction.
func (s *Store) Hold(ctx context.Context, h reconcile.Hold, e reconcile.AuditEntry) error {
	return s.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO holds (namespace, route, kind, who, since) VALUES (?, ?, ?, ?, ?)`,
			s.namespace, h.Addr.String(), string(h.Kind), h.Who, h.Since.UnixNano()); err != nil {
			return s.wrap("hold a route back in", err)
		}
		return s.audit(ctx, tx, e)
	})
}

// Unhold ends the hold of a route, if there is one, and writes it into the
// audit, in one transaction.
func (s *Store) Unhold(ctx context.Context, route addr.Addr, e reconcile.AuditEntry) error {
	return s.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM holds WHERE namespace = ? AND route = ?`, s.namespace, route.String()); err != nil {
			return s.wrap("end a hold in", err)
		}
		return s.audit(ctx, tx, e)
	})
}
