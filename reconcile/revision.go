package reconcile

import (
	"context"
	"time"

	"keystone/configs/addr"
)

// Revision is one stored goal: who stored it, when and why, and what it was
// read from. Goal is the configuration as the composition root encodes it; secrets
// in it are references.
type Revision struct {
	Serial    int64
	Env       string
	Namespace string
	Time      time.Time
	Who       string
	Why       string
	Goal      []byte
	Sources   []SourceFile
	// Allow is the addresses whose destructive changes were agreed to with this
	// revision. It is stored, so that a crash does not forget it.
	Allow []addr.Addr
}

// SourceFile is a file that a revision was read from: its name, relative to
// the configuration's directory, and the SHA-256 of its content. The content is
// not kept, since files may hold secrets that were written out.
type SourceFile struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
}

// Revisions keeps goals. The store implements it, for one environment and namespace.
type Revisions interface {
	// Current gives the latest revision; Serial 0 if there is none.
	Current(ctx context.Context) (Revision, error)
	// Commit stores r as the next revision if the latest one is of the given
	// serial, else it gives a *StaleError. It gives the revision with its serial.
	Commit(ctx context.Context, r Revision, serial int64) (Revision, error)
	// Audit writes down who did what.
	Audit(ctx context.Context, e AuditEntry) error
}

// AuditEntry is one line of the audit.
type AuditEntry struct {
	Time   time.Time
	Who    string
	Action string // commit, apply, allow, takeover
	Addr   string
	Serial int64
	Detail string
}
