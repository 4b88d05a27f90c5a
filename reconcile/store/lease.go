package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"keystone/reconcile"
)

// LockFile is the name of the file that the serving process holds a lock on.
const LockFile = "serve.lock"

// Lease is the right to serve the state: one process has it at a time. It
// is a lock of the operating system on a file, so it ends with the process however that
// ends, and a row in the store that says whose it is.
type Lease struct {
	Token int64 // grows with every holder
	file  *os.File
}

// holder is what the lock file says, for whoever finds it held.
type holder struct {
	PID   int       `json:"pid"`
	Host  string    `json:"host"`
	Since time.Time `json:"since"`
}

// Acquire takes the lease, or gives a *reconcile.HeldError that names the holder.
func (s *Store) Acquire(ctx context.Context, now time.Time) (*Lease, error) {
	path := filepath.Join(filepath.Dir(s.path), LockFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the lock of the state: %w", err)
	}
	held, err := lock(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	if held {
		h := readHolder(f)
		return nil, errors.Join(&reconcile.HeldError{Path: filepath.Dir(s.path), PID: h.PID, Host: h.Host, Since: h.Since}, f.Close())
	}
	host, _ := os.Hostname()
	l := &Lease{file: f}
	h := holder{PID: os.Getpid(), Host: host, Since: now.UTC()}
	if err := l.write(h); err != nil {
		return nil, errors.Join(fmt.Errorf("write %s: %w", path, err), f.Close())
	}
	err = s.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, `INSERT INTO leases (name, pid, host, since, token) VALUES ('serve', ?, ?, ?, 1)
			ON CONFLICT DO UPDATE SET pid = excluded.pid, host = excluded.host, since = excluded.since, token = token + 1 RETURNING token`,
			h.PID, h.Host, h.Since.UnixNano()).Scan(&l.Token)
		return s.wrap("write the lease to", err)
	})
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return l, nil
}

// Release gives the lease back.
func (l *Lease) Release() error {
	err := l.file.Truncate(0)
	return errors.Join(err, l.file.Close())
}

func (l *Lease) write(h holder) error {
	b, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	_, err = l.file.WriteAt(append(b, '\n'), 0)
	return err
}

// readHolder gives what the file says; nothing if the holder has not written it yet.
func readHolder(f *os.File) holder {
	var h holder
	b, err := io.ReadAll(io.LimitReader(f, 4096))
	if err == nil && json.Unmarshal(b, &h) != nil {
		h = holder{}
	}
	return h
}
