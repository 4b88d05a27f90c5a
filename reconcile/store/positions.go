package store

import (
	"context"
	"database/sql"
	"errors"

	"keystone/configs/addr"
	"keystone/pipeline/record"
)

// putPosition is prepared: it is what an idle server writes most.
const putPosition = `INSERT INTO positions (namespace, route, source, partition, "offset", epoch, identity, cluster, name) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
	ON CONFLICT DO UPDATE SET "offset" = excluded."offset", epoch = excluded.epoch, identity = excluded.identity, cluster = excluded.cluster, name = excluded.name`

// Positions keeps where routes go on reading one source, and what one sink
// said at that point. Positions in another source are kept beside them: a route
// that changes its source and changes back goes on where it was.
type Positions struct {
	store        *Store
	source, sink string
}

// Positions gives the positions of routes in one source. source and sink tell
// apart what positions and sink states can be used with: a source's or sink's address and kind.
func (s *Store) Positions(source, sink string) *Positions {
	return &Positions{store: s, source: source, sink: sink}
}

// LoadPositions gives what was saved last for a route: positions in partition
// order, and the state of the sink, nil if there is none.
func (p *Positions) LoadPositions(ctx context.Context, route addr.Addr) ([]record.Position, []byte, error) {
	s := p.store
	tx, err := s.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, nil, s.wrap("read positions from", err)
	}
	defer tx.Rollback() //nolint:errcheck // nothing was written
	rows, err := tx.QueryContext(ctx, `SELECT partition, "offset", epoch, identity, cluster, name FROM positions WHERE namespace = ? AND route = ? AND source = ? ORDER BY partition`,
		s.namespace, route.String(), p.source)
	if err != nil {
		return nil, nil, s.wrap("read positions from", err)
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells
	var from []record.Position
	for rows.Next() {
		var x record.Position
		if err := rows.Scan(&x.Partition, &x.Offset, &x.LeaderEpoch, &x.Identity, &x.Cluster, &x.Name); err != nil {
			return nil, nil, s.wrap("read positions from", err)
		}
		from = append(from, x)
	}
	if err := rows.Err(); err != nil {
		return nil, nil, s.wrap("read positions from", err)
	}
	var state []byte
	err = tx.QueryRowContext(ctx, `SELECT state FROM sink_states WHERE namespace = ? AND route = ? AND source = ? AND sink = ?`,
		s.namespace, route.String(), p.source, p.sink).Scan(&state)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return from, state, s.wrap("read positions from", err)
}

// SavePositions stores positions and the sink's state in one transaction;
// both are durable when it returns. Partitions that are not named keep their positions.
func (p *Positions) SavePositions(ctx context.Context, route addr.Addr, from []record.Position, sinkState []byte) error {
	s := p.store
	return s.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		put := tx.StmtContext(ctx, s.putPosition)
		for _, x := range from {
			if _, err := put.ExecContext(ctx, s.namespace, route.String(), p.source, x.Partition, x.Offset, x.LeaderEpoch, x.Identity, x.Cluster, x.Name); err != nil {
				return s.wrap("save positions in", err)
			}
		}
		if sinkState == nil {
			return nil
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO sink_states (namespace, route, source, sink, state) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET state = excluded.state`, s.namespace, route.String(), p.source, p.sink, sinkState)
		return s.wrap("save positions in", err)
	})
}

// MovePositions gives everything that is stored for a route to its new name.
// It does nothing when it was done before.
func (s *Store) MovePositions(ctx context.Context, from, to addr.Addr) error {
	return s.write(ctx, func(ctx context.Context, tx *sql.Tx) error { return s.movePositions(ctx, tx, from, to) })
}

func (s *Store) movePositions(ctx context.Context, tx *sql.Tx, from, to addr.Addr) error {
	for _, table := range []string{"positions", "sink_states", "programs", "holds", "rewinds", "generations", "backfills"} {
		if _, err := tx.ExecContext(ctx, `UPDATE OR REPLACE `+table+` SET route = ? WHERE namespace = ? AND route = ?`, to.String(), s.namespace, from.String()); err != nil {
			return s.wrap("move positions in", err)
		}
	}
	return nil
}

// DropPositions forgets where a route is: it starts anew, in the next generation. Which programs ran stays, since what they wrote does.
func (s *Store) DropPositions(ctx context.Context, route addr.Addr) error {
	return s.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		for _, table := range []string{"positions", "sink_states"} {
			if _, err := tx.ExecContext(ctx, `DELETE FROM `+table+` WHERE namespace = ? AND route = ?`, s.namespace, route.String()); err != nil {
				return s.wrap("drop positions in", err)
			}
		}
		return s.nextGeneration(ctx, tx, route)
	})
}

// CountPositions gives, per route, how many partitions have a stored position.
func (s *Store) CountPositions(ctx context.Context) (map[addr.Addr]int, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT route, COUNT(*) FROM positions WHERE namespace = ? GROUP BY route`, s.namespace)
	if err != nil {
		return nil, s.wrap("read positions from", err)
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells
	out := map[addr.Addr]int{}
	for rows.Next() {
		var route string
		var n int
		if err := rows.Scan(&route, &n); err != nil {
			return nil, s.wrap("read positions from", err)
		}
		a, err := addr.Parse(route)
		if err != nil {
			return nil, s.wrap("read positions from", err)
		}
		out[a] = n
	}
	return out, s.wrap("read positions from", rows.Err())
}
