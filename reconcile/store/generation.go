package store

import (
	"context"
	"database/sql"
	"errors"

	"keystone/configs/addr"
)

// Generation gives how often a route was rewound or started anew. It survives a rename.
func (s *Store) Generation(ctx context.Context, route addr.Addr) (n int64, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT n FROM generations WHERE namespace = ? AND route = ?`, s.namespace, route.String()).Scan(&n)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return n, s.wrap("read the generation of a route from", err)
}

func (s *Store) nextGeneration(ctx context.Context, tx *sql.Tx, route addr.Addr) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO generations (namespace, route, n) VALUES (?, ?, 1)
		ON CONFLICT DO UPDATE SET n = n + 1`, s.namespace, route.String())
	return s.wrap("count a generation in", err)
}
