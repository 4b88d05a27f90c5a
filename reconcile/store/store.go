// Package store keeps the state of one environment in a SQLite file,
// .keystone/ENV/state.db: revisions of the goal, what was applied, positions of routes, the
// audit. It never holds secret values.
//
// All writes of a process go through one connection, and writes that wait at
// the same time share one transaction and one fsync. Lock order: Store.mu is never held
// across I/O.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"keystone/reconcile"

	"modernc.org/sqlite" // registers the driver, in pure Go
	sqlite3 "modernc.org/sqlite/lib"
)

// File is the name of the database in the state directory of an environment.
const File = "state.db"

// Store is an open state file, seen from one namespace. Its methods may be
// called from several goroutines.
type Store struct {
	db        *sql.DB
	path      string
	env       string
	namespace string

	putPosition *sql.Stmt

	mu      sync.Mutex // guards waiting, leading
	waiting []*write
	leading bool
}

// Options say which state to open.
type Options struct {
	Dir       string // of the environment: .keystone/ENV. Created if it is missing.
	Env       string
	Namespace string // "" is that of the latest revision, or "default"
}

// NewerFormatError says that a later version of Keystone wrote the file.
type NewerFormatError struct {
	Path           string
	Format, Wanted int
}

// Error says what to do.
func (e *NewerFormatError) Error() string {
	return fmt.Sprintf("%s has format %d, and this version of Keystone knows formats up to %d: use the version that wrote it, or a later one", e.Path, e.Format, e.Wanted)
}

// Open opens the state, creates it if it is missing, and brings an older
// format up to date. Several processes may have it open.
func Open(ctx context.Context, o Options) (*Store, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("the state directory: %w", err)
	}
	path, err := filepath.Abs(filepath.Join(o.Dir, File))
	if err != nil {
		return nil, fmt.Errorf("the state directory: %w", err)
	}
	// Two processes that make the file at once both read it and want to write:
	// SQLite refuses one of them without waiting, since neither would give way.
	for until := time.Now().Add(busyTimeout); ; {
		s, err := open(ctx, path, o)
		if e, ok := errors.AsType[*sqlite.Error](err); !ok || e.Code()&0xff != sqlite3.SQLITE_BUSY || time.Now().After(until) {
			return s, err
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// busyTimeout is how long one process waits for another's transaction.
const busyTimeout = 10 * time.Second

// Exists tells whether there is stored state in a state directory.
func Exists(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, File))
	return err == nil
}

func open(ctx context.Context, path string, o Options) (*Store, error) {
	db, err := sql.Open("sqlite", dsn(path))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	db.SetMaxOpenConns(1)
	s := &Store{db: db, path: path, env: o.Env, namespace: o.Namespace}
	if err := s.prepare(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

// dsn names the file and what every connection sets. The cache is 1 MiB.
func dsn(path string) string {
	u := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath()}
	q := url.Values{"_txlock": {"immediate"}}
	for _, p := range []string{fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()), "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)", "cache_size(-1024)", "journal_size_limit(16777216)"} {
		q.Add("_pragma", p)
	}
	u.RawQuery = q.Encode()
	return u.String()
}

func (s *Store) prepare(ctx context.Context) error {
	if err := s.migrate(ctx); err != nil {
		return err
	}
	var err error
	if s.putPosition, err = s.db.PrepareContext(ctx, putPosition); err != nil {
		return s.wrap("open", err)
	}
	return s.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		var env string
		err := tx.QueryRowContext(ctx, `SELECT value FROM meta WHERE key = 'env'`).Scan(&env)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			_, err = tx.ExecContext(ctx, `INSERT INTO meta (key, value) VALUES ('env', ?)`, s.env)
		case err == nil && env != s.env:
			err = &reconcile.OtherGoalError{What: "environment", Got: env, Want: s.env}
		}
		if err != nil || s.namespace != "" {
			return s.wrap("open", err)
		}
		err = tx.QueryRowContext(ctx, `SELECT namespace FROM revisions ORDER BY serial DESC LIMIT 1`).Scan(&s.namespace)
		if errors.Is(err, sql.ErrNoRows) {
			s.namespace, err = "default", nil
		}
		return s.wrap("open", err)
	})
}

// Env gives the environment that the store is of.
func (s *Store) Env() string { return s.env }

// Namespace gives the namespace that the store is seen from.
func (s *Store) Namespace() string { return s.namespace }

// Close closes the file.
func (s *Store) Close() error {
	return s.wrap("close", errors.Join(s.putPosition.Close(), s.db.Close()))
}

func (s *Store) wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*sqlite.Error](err); ok && e.Code()&0xff == sqlite3.SQLITE_FULL {
		return fmt.Errorf("%s %s: the disk is full: free some space: %w", what, s.path, err)
	}
	return fmt.Errorf("%s %s: %w", what, s.path, err)
}
