package store

import (
	"context"
	"fmt"
)

// formats are the steps from one format of the file to the next; the format
// is the number of steps taken (PRAGMA user_version). Steps are never
// changed once released, only added.
var formats = [...]string{
	`CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

	CREATE TABLE revisions (
		serial    INTEGER PRIMARY KEY,
		namespace TEXT NOT NULL,
		time      INTEGER NOT NULL, -- nanoseconds since 1970 UTC
		who       TEXT NOT NULL,
		why       TEXT NOT NULL,
		goal      BLOB,             -- gzip; NULL once it is old
		sources   TEXT NOT NULL,    -- JSON
		allow     TEXT NOT NULL     -- JSON: addresses
	) STRICT;
	CREATE INDEX revisions_namespace ON revisions (namespace, serial);

	CREATE TABLE resources (
		hash BLOB PRIMARY KEY,      -- SHA-256 of data
		data BLOB NOT NULL          -- JSON
	) STRICT, WITHOUT ROWID;

	CREATE TABLE applied (
		namespace   TEXT NOT NULL,
		addr        TEXT NOT NULL,
		resource    BLOB REFERENCES resources (hash),
		interrupted BLOB REFERENCES resources (hash),
		deps        TEXT NOT NULL,  -- JSON: address to hash in hex
		kept        TEXT NOT NULL,  -- JSON
		"group"     TEXT NOT NULL,
		topic       TEXT NOT NULL,
		serial      INTEGER NOT NULL,
		time        INTEGER NOT NULL,
		PRIMARY KEY (namespace, addr)
	) STRICT, WITHOUT ROWID;

	CREATE TABLE positions (
		namespace TEXT NOT NULL,
		route     TEXT NOT NULL,
		source    TEXT NOT NULL,
		partition INTEGER NOT NULL,
		"offset"  INTEGER NOT NULL,
		epoch     INTEGER NOT NULL,
		identity  TEXT NOT NULL,
		name      TEXT NOT NULL,
		PRIMARY KEY (namespace, route, source, partition)
	) STRICT, WITHOUT ROWID;

	CREATE TABLE sink_states (
		namespace TEXT NOT NULL,
		route     TEXT NOT NULL,
		source    TEXT NOT NULL,
		sink      TEXT NOT NULL,
		state     BLOB,
		PRIMARY KEY (namespace, route, source, sink)
	) STRICT, WITHOUT ROWID;

	CREATE TABLE audit (
		id        INTEGER PRIMARY KEY,
		namespace TEXT NOT NULL,
		time      INTEGER NOT NULL,
		who       TEXT NOT NULL,
		action    TEXT NOT NULL,
		addr      TEXT NOT NULL,
		serial    INTEGER NOT NULL,
		detail    TEXT NOT NULL
	) STRICT;

	CREATE TABLE leases (
		name  TEXT PRIMARY KEY,
		pid   INTEGER NOT NULL,
		host  TEXT NOT NULL,
		since INTEGER NOT NULL,
		token INTEGER NOT NULL  -- grows with every holder
	) STRICT, WITHOUT ROWID;`,

	`CREATE TABLE program_goals (
		hash BLOB PRIMARY KEY,      -- SHA-256 of the goal
		data BLOB NOT NULL          -- gzip: a route and what it refers to
	) STRICT, WITHOUT ROWID;

	CREATE TABLE programs (
		namespace TEXT NOT NULL,
		route     TEXT NOT NULL,
		source    TEXT NOT NULL,
		partition INTEGER NOT NULL,
		seq       INTEGER NOT NULL, -- in the order in which they ran
		first     INTEGER NOT NULL, -- offset that it began at
		identity  TEXT NOT NULL,
		kind      TEXT NOT NULL,    -- start, swap, rewind, skip
		revision  INTEGER NOT NULL,
		time      INTEGER NOT NULL,
		goal      BLOB REFERENCES program_goals (hash),
		PRIMARY KEY (namespace, route, source, partition, seq)
	) STRICT, WITHOUT ROWID;
	CREATE INDEX programs_goal ON programs (goal);`,

	// What operators hold back.
	`CREATE TABLE holds (
		namespace TEXT NOT NULL,
		route     TEXT NOT NULL,
		kind      TEXT NOT NULL, -- pause, drain
		who       TEXT NOT NULL,
		since     INTEGER NOT NULL,
		PRIMARY KEY (namespace, route)
	) STRICT, WITHOUT ROWID;`,

	// Which cluster a position counts in; "" where it was stored before.
	`ALTER TABLE positions ADD COLUMN cluster TEXT NOT NULL DEFAULT ''`,

	// Rewinds that are not completed.
	`CREATE TABLE rewinds (
		namespace TEXT NOT NULL,
		route     TEXT NOT NULL,
		data      TEXT NOT NULL, -- JSON
		PRIMARY KEY (namespace, route)
	) STRICT, WITHOUT ROWID;`,

	// What became of dead letters that are still where they were written.
	`CREATE TABLE letters (
		place     TEXT NOT NULL,    -- where they are: a topic's id, a file
		partition INTEGER NOT NULL,
		"offset"  INTEGER NOT NULL,
		state     TEXT NOT NULL,    -- replayed, purged
		time      INTEGER NOT NULL,
		PRIMARY KEY (place, partition, "offset")
	) STRICT, WITHOUT ROWID;`,

	// How often routes were rewound or started anew.
	`CREATE TABLE generations (
		namespace TEXT NOT NULL,
		route     TEXT NOT NULL,
		n         INTEGER NOT NULL,
		PRIMARY KEY (namespace, route)
	) STRICT, WITHOUT ROWID;`,

	// The latest backfill of each route.
	`CREATE TABLE backfills (
		namespace TEXT NOT NULL,
		route     TEXT NOT NULL,
		data      TEXT NOT NULL, -- JSON
		files     BLOB NOT NULL, -- what is read
		PRIMARY KEY (namespace, route)
	) STRICT, WITHOUT ROWID;`,
}

// migrate takes the steps that the file lacks, in one transaction.
func (s *Store) migrate(ctx context.Context) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return s.wrap("open", err)
	}
	defer tx.Rollback() //nolint:errcheck // after Commit there is nothing to roll back
	var format int
	if err := tx.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&format); err != nil {
		return s.wrap("open", err)
	}
	if format > len(formats) {
		return &NewerFormatError{Path: s.path, Format: format, Wanted: len(formats)}
	}
	for i, step := range formats[format:] {
		if _, err := tx.ExecContext(ctx, step); err != nil {
			return fmt.Errorf("bring %s to format %d: %w", s.path, format+i+1, err)
		}
	}
	if format < len(formats) {
		if _, err := tx.ExecContext(ctx, fmt.Sprintf(`PRAGMA user_version = %d`, len(formats))); err != nil {
			return s.wrap("open", err)
		}
	}
	return s.wrap("open", tx.Commit())
}
