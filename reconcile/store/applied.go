package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"keystone/configs"
	"keystone/configs/addr"
	"keystone/reconcile"
)

// LoadApplied gives what was applied in the namespace, in no order. Rows that
// refer to the same resource share it.
func (s *Store) LoadApplied(ctx context.Context) ([]reconcile.Applied, error) {
	tx, err := s.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, s.wrap("read what was applied from", err)
	}
	defer tx.Rollback() //nolint:errcheck // nothing was written
	resources, err := loadResources(ctx, tx)
	if err != nil {
		return nil, s.wrap("read what was applied from", err)
	}
	rows, err := tx.QueryContext(ctx, `SELECT addr, resource, interrupted, deps, kept, "group", topic, serial, time FROM applied WHERE namespace = ?`, s.namespace)
	if err != nil {
		return nil, s.wrap("read what was applied from", err)
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells
	var out []reconcile.Applied
	for rows.Next() {
		a, err := scanApplied(rows, resources)
		if err != nil {
			return nil, s.wrap("read what was applied from", err)
		}
		out = append(out, a)
	}
	return out, s.wrap("read what was applied from", rows.Err())
}

func loadResources(ctx context.Context, tx *sql.Tx) (map[string]*configs.Resource, error) {
	rows, err := tx.QueryContext(ctx, `SELECT hash, data FROM resources`)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells
	out := map[string]*configs.Resource{}
	for rows.Next() {
		var hash, data []byte
		if err := rows.Scan(&hash, &data); err != nil {
			return nil, err
		}
		r, err := reconcile.DecodeResource(data)
		if err != nil {
			return nil, err
		}
		out[string(hash)] = r
	}
	return out, rows.Err()
}

func scanApplied(rows *sql.Rows, resources map[string]*configs.Resource) (reconcile.Applied, error) {
	var a reconcile.Applied
	var at, deps, kept string
	var resource, interrupted []byte
	var ns int64
	if err := rows.Scan(&at, &resource, &interrupted, &deps, &kept, &a.Group, &a.Topic, &a.Serial, &ns); err != nil {
		return a, err
	}
	var err error
	if a.Addr, err = addr.Parse(at); err != nil {
		return a, err
	}
	a.At = time.Unix(0, ns).UTC()
	a.Resource, a.Interrupted = resources[string(resource)], resources[string(interrupted)]
	if err := json.Unmarshal([]byte(kept), &a.Kept); err != nil {
		return a, fmt.Errorf("%s: %w", a.Addr, err)
	}
	var hashes map[addr.Addr]string
	if err := json.Unmarshal([]byte(deps), &hashes); err != nil {
		return a, fmt.Errorf("%s: %w", a.Addr, err)
	}
	if len(hashes) > 0 {
		a.Deps = make(map[addr.Addr]*configs.Resource, len(hashes))
	}
	for dep, h := range hashes {
		hash, err := hex.DecodeString(h)
		if err != nil || resources[string(hash)] == nil {
			return a, fmt.Errorf("%s: the resource of %s is missing", a.Addr, dep)
		}
		a.Deps[dep] = resources[string(hash)]
	}
	return a, nil
}

// SaveApplied writes and removes rows in one transaction, durable when it
// returns. The positions of a moved route go along with reconcile.Move by MovePositions.
func (s *Store) SaveApplied(ctx context.Context, put []reconcile.Applied, gone []addr.Addr) error {
	if len(put)+len(gone) == 0 {
		return nil
	}
	e := encoder{done: map[*configs.Resource][]byte{}, data: map[string][]byte{}}
	rows := make([]appliedRow, len(put))
	for i, a := range put {
		var err error
		if rows[i], err = e.row(a); err != nil {
			return s.wrap("write what was applied to", err)
		}
	}
	return s.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		return s.wrap("write what was applied to", s.saveApplied(ctx, tx, e.data, rows, gone))
	})
}

func (s *Store) saveApplied(ctx context.Context, tx *sql.Tx, data map[string][]byte, rows []appliedRow, gone []addr.Addr) error {
	for hash, d := range data {
		if _, err := tx.ExecContext(ctx, `INSERT OR IGNORE INTO resources (hash, data) VALUES (?, ?)`, []byte(hash), d); err != nil {
			return err
		}
	}
	for _, a := range gone {
		if _, err := tx.ExecContext(ctx, `DELETE FROM applied WHERE namespace = ? AND addr = ?`, s.namespace, a.String()); err != nil {
			return err
		}
	}
	for _, r := range rows {
		if _, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO applied (namespace, addr, resource, interrupted, deps, kept, "group", topic, serial, time) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			s.namespace, r.Addr.String(), r.resource, r.interrupted, r.deps, r.kept, r.Group, r.Topic, r.Serial, r.At.UnixNano()); err != nil {
			return err
		}
	}
	return nil
}

// CompactApplied removes resources that no row refers to any more.
func (s *Store) CompactApplied(ctx context.Context) error {
	return s.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM resources WHERE hash NOT IN (
			SELECT resource FROM applied WHERE resource IS NOT NULL
			UNION SELECT interrupted FROM applied WHERE interrupted IS NOT NULL
			UNION SELECT unhex(d.value) FROM applied, json_each(applied.deps) d)`)
		return s.wrap("compact", err)
	})
}

type appliedRow struct {
	reconcile.Applied
	resource, interrupted []byte
	deps, kept            string
}

// encoder encodes each resource once.
type encoder struct {
	done map[*configs.Resource][]byte // hashes
	data map[string][]byte            // by hash
}

func (e *encoder) row(a reconcile.Applied) (appliedRow, error) {
	r := appliedRow{Applied: a}
	var err error
	if r.resource, err = e.hash(a.Resource); err != nil {
		return r, err
	}
	if r.interrupted, err = e.hash(a.Interrupted); err != nil {
		return r, err
	}
	hashes := make(map[addr.Addr]string, len(a.Deps))
	for dep, res := range a.Deps {
		h, err := e.hash(res)
		if err != nil {
			return r, err
		}
		hashes[dep] = hex.EncodeToString(h)
	}
	deps, err := json.Marshal(hashes)
	if err != nil {
		return r, err
	}
	kept, err := json.Marshal(a.Kept)
	r.deps, r.kept = string(deps), string(kept)
	return r, err
}

func (e *encoder) hash(r *configs.Resource) ([]byte, error) {
	if r == nil {
		return nil, nil
	}
	if h, ok := e.done[r]; ok {
		return h, nil
	}
	b, err := reconcile.EncodeResource(r)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b)
	e.done[r], e.data[string(sum[:])] = sum[:], b
	return sum[:], nil
}
