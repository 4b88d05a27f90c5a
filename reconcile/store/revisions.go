package store

import (
	"bytes"
	"compress/gzip"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"keystone/reconcile"
)

// Goals of older revisions are dropped, and so are old lines of the audit;
// who stored which revision when and why stays.
const (
	keepGoals = 50
	keepAudit = 10_000
)

// maxGoalBytes bounds what a stored goal may unpack to.
const maxGoalBytes = 1 << 30

const revisionColumns = `serial, namespace, time, who, why, goal, sources, allow`

// Current gives the latest revision of the namespace; Serial 0 if there is none.
func (s *Store) Current(ctx context.Context) (reconcile.Revision, error) {
	row := s.db.QueryRowContext(ctx, `SELECT `+revisionColumns+` FROM revisions WHERE namespace = ? ORDER BY serial DESC LIMIT 1`, s.namespace)
	r, err := s.scanRevision(row)
	if errors.Is(err, sql.ErrNoRows) {
		return reconcile.Revision{Env: s.env, Namespace: s.namespace}, nil
	}
	return r, s.wrap("read the goal from", err)
}

// Revision gives one revision; false if there is none of that serial. Goal is
// nil if it is too old to be kept.
func (s *Store) Revision(ctx context.Context, serial int64) (reconcile.Revision, bool, error) {
	row := s.db.QueryRowContext(ctx, `SELECT `+revisionColumns+` FROM revisions WHERE namespace = ? AND serial = ?`, s.namespace, serial)
	r, err := s.scanRevision(row)
	if errors.Is(err, sql.ErrNoRows) {
		return reconcile.Revision{}, false, nil
	}
	return r, err == nil, s.wrap("read a revision from", err)
}

// Revisions gives the latest revisions, newest first, without their goals.
func (s *Store) Revisions(ctx context.Context, limit int) ([]reconcile.Revision, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT serial, namespace, time, who, why, NULL, sources, allow FROM revisions WHERE namespace = ? ORDER BY serial DESC LIMIT ?`, s.namespace, limit)
	if err != nil {
		return nil, s.wrap("list the revisions of", err)
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells
	var out []reconcile.Revision
	for rows.Next() {
		r, err := s.scanRevision(rows)
		if err != nil {
			return nil, s.wrap("list the revisions of", err)
		}
		out = append(out, r)
	}
	return out, s.wrap("list the revisions of", rows.Err())
}

// Commit stores r as the next revision if the latest one of the namespace has
// the given serial; else it gives a *reconcile.StaleError. Env and Namespace, where
// set, must be the store's. It gives the revision as it is stored.
func (s *Store) Commit(ctx context.Context, r reconcile.Revision, serial int64) (reconcile.Revision, error) {
	if r.Env != "" && r.Env != s.env {
		return r, &reconcile.OtherGoalError{What: "environment", Got: r.Env, Want: s.env}
	}
	if r.Namespace != "" && r.Namespace != s.namespace {
		return r, &reconcile.OtherGoalError{What: "namespace", Got: r.Namespace, Want: s.namespace}
	}
	r.Env, r.Namespace = s.env, s.namespace
	goal, err := pack(r.Goal)
	if err != nil {
		return r, s.wrap("store a revision in", err)
	}
	sources, err := json.Marshal(r.Sources)
	if err != nil {
		return r, s.wrap("store a revision in", err)
	}
	allow, err := json.Marshal(r.Allow)
	if err != nil {
		return r, s.wrap("store a revision in", err)
	}
	err = s.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		var current, last int64
		if err := tx.QueryRowContext(ctx, `SELECT COALESCE(MAX(CASE WHEN namespace = ? THEN serial END), 0), COALESCE(MAX(serial), 0) FROM revisions`, s.namespace).Scan(&current, &last); err != nil {
			return s.wrap("store a revision in", err)
		}
		if current != serial {
			return &reconcile.StaleError{Planned: serial, Stored: current}
		}
		r.Serial = last + 1
		if _, err := tx.ExecContext(ctx, `INSERT INTO revisions (`+revisionColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
			r.Serial, s.namespace, r.Time.UnixNano(), r.Who, r.Why, goal, string(sources), string(allow)); err != nil {
			return s.wrap("store a revision in", err)
		}
		if _, err := tx.ExecContext(ctx, `UPDATE revisions SET goal = NULL WHERE goal IS NOT NULL AND namespace = ? AND serial NOT IN
			(SELECT serial FROM revisions WHERE namespace = ? ORDER BY serial DESC LIMIT ?)`, s.namespace, s.namespace, keepGoals); err != nil {
			return s.wrap("store a revision in", err)
		}
		return s.audit(ctx, tx, reconcile.AuditEntry{Time: r.Time, Who: r.Who, Action: "commit", Serial: r.Serial, Detail: r.Why})
	})
	if err != nil {
		r.Serial = 0
	}
	return r, err
}

// Audit writes down who did what. It must hold no secrets.
func (s *Store) Audit(ctx context.Context, e reconcile.AuditEntry) error {
	return s.write(ctx, func(ctx context.Context, tx *sql.Tx) error { return s.audit(ctx, tx, e) })
}

func (s *Store) audit(ctx context.Context, tx *sql.Tx, e reconcile.AuditEntry) error {
	res, err := tx.ExecContext(ctx, `INSERT INTO audit (namespace, time, who, action, addr, serial, detail) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		s.namespace, e.Time.UnixNano(), e.Who, e.Action, e.Addr, e.Serial, e.Detail)
	if err != nil {
		return s.wrap("write the audit of", err)
	}
	id, err := res.LastInsertId()
	if err == nil {
		_, err = tx.ExecContext(ctx, `DELETE FROM audit WHERE id <= ?`, id-keepAudit)
	}
	return s.wrap("write the audit of", err)
}

// AuditLog gives the latest lines of the audit, newest first.
func (s *Store) AuditLog(ctx context.Context, limit int) ([]reconcile.AuditEntry, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT time, who, action, addr, serial, detail FROM audit WHERE namespace = ? ORDER BY id DESC LIMIT ?`, s.namespace, limit)
	if err != nil {
		return nil, s.wrap("read the audit of", err)
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells
	var out []reconcile.AuditEntry
	for rows.Next() {
		var e reconcile.AuditEntry
		var ns int64
		if err := rows.Scan(&ns, &e.Who, &e.Action, &e.Addr, &e.Serial, &e.Detail); err != nil {
			return nil, s.wrap("read the audit of", err)
		}
		e.Time = time.Unix(0, ns).UTC()
		out = append(out, e)
	}
	return out, s.wrap("read the audit of", rows.Err())
}

type scanner interface{ Scan(...any) error }

func (s *Store) scanRevision(row scanner) (reconcile.Revision, error) {
	r := reconcile.Revision{Env: s.env}
	var ns int64
	var goal []byte
	var sources, allow string
	err := row.Scan(&r.Serial, &r.Namespace, &ns, &r.Who, &r.Why, &goal, &sources, &allow)
	if err != nil {
		return r, err
	}
	r.Time = time.Unix(0, ns).UTC()
	if r.Goal, err = unpack(goal); err != nil {
		return r, fmt.Errorf("the goal of revision %d: %w", r.Serial, err)
	}
	if err := json.Unmarshal([]byte(sources), &r.Sources); err != nil {
		return r, fmt.Errorf("the sources of revision %d: %w", r.Serial, err)
	}
	if err := json.Unmarshal([]byte(allow), &r.Allow); err != nil {
		return r, fmt.Errorf("what revision %d allows: %w", r.Serial, err)
	}
	return r, nil
}

func pack(b []byte) ([]byte, error) {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b); err != nil {
		return nil, err
	}
	err := z.Close()
	return out.Bytes(), err
}

func unpack(b []byte) ([]byte, error) {
	if len(b) == 0 {
		return nil, nil
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	out, err := io.ReadAll(io.LimitReader(z, maxGoalBytes+1))
	if err == nil && len(out) > maxGoalBytes {
		err = fmt.Errorf("it is larger than %d bytes", maxGoalBytes)
	}
	return out, err
}
