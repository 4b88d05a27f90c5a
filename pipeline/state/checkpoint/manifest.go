// Package checkpoint keeps copies of a job's state in a folder or an object store.
//
// A checkpoint is a manifest that names files. Files are named by their content, so a checkpoint adds only
// what no earlier one has. Manifests are numbered and made where there is none of that number: of two processes that go
// on with the same job, one makes the next manifest, and the other is fenced. A savepoint is a manifest with a name of
// its own, which stays until somebody deletes it.
package checkpoint

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"keystone/pipeline/state"
	"keystone/sources/hive/storage"
)

// Manifest says what a checkpoint is.
type Manifest struct {
	Format      int             `json:"format"`
	Job         string          `json:"job"`
	Number      int64           `json:"number"`         // of the checkpoint; 0 of a savepoint
	Name        string          `json:"name,omitempty"` // of a savepoint
	Generation  int64           `json:"generation"`
	Epoch       int64           `json:"epoch"`
	Time        time.Time       `json:"time"`
	Fingerprint string          `json:"fingerprint"`
	Operators   json.RawMessage `json:"operators,omitempty"` // the engine's: what state each operator has
	Store       string          `json:"store"`               // the directory that it was made from
	Files       []File          `json:"files"`
	Sum         string          `json:"sum"` // of all before it
}

// File is a file of a checkpoint.
type File struct {
	Name   string `json:"name"` // in the state's folder
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Bytes is what the state takes.
func (m *Manifest) Bytes() (n int64) {
	for _, f := range m.Files {
		n += f.Size
	}
	return n
}

// At is the epoch of the state.
func (m *Manifest) At() state.Epoch { return state.Epoch{Generation: m.Generation, N: m.Epoch} }

// String names it for people.
func (m *Manifest) String() string {
	if m.Name != "" {
		return "savepoint " + m.Name
	}
	return fmt.Sprintf("checkpoint %d", m.Number)
}

func (m *Manifest) sum() string {
	c := *m
	c.Sum = ""
	b, err := json.Marshal(&c)
	if err != nil {
		return ""
	}
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

func (m *Manifest) encode() ([]byte, error) {
	m.Sum = m.sum()
	return json.Marshal(m)
}

// DamagedError is a checkpoint that is not what was written.
type DamagedError struct {
	Object string
	Err    error
}

// Error names the object.
func (e *DamagedError) Error() string { return fmt.Sprintf("%s is damaged: %v", e.Object, e.Err) }

// Unwrap gives the cause.
func (e *DamagedError) Unwrap() error { return e.Err }

const (
	manifests  = "manifests/"
	savepoints = "savepoints/"
	files      = "files/"
)

func (f *File) object() string { return files + f.SHA256 }

func (m *Manifest) object() string {
	if m.Name != "" {
		return savepoints + m.Name + ".json"
	}
	return fmt.Sprintf("%s%020d.json", manifests, m.Number)
}

var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

// CheckName refuses names that a savepoint cannot have.
func CheckName(name string) error {
	if !nameForm.MatchString(name) {
		return fmt.Errorf("a savepoint cannot have the name %q: use up to 100 letters, digits, dots, dashes and underscores", name)
	}
	return nil
}

// read gets a manifest. What is damaged is a *DamagedError.
func read(ctx context.Context, place storage.Store, object, job string) (*Manifest, error) {
	b, err := place.Get(ctx, object)
	if err != nil {
		return nil, err
	}
	damaged := func(err error) error { return &DamagedError{place.String() + "/" + object, err} }
	m := &Manifest{}
	if err := json.Unmarshal(b, m); err != nil {
		return nil, damaged(err)
	}
	if err := state.Readable(m.Format); err != nil { // first: the rest may mean something else there
		return nil, fmt.Errorf("%s/%s: %w", place, object, err)
	}
	if m.Sum != m.sum() {
		return nil, damaged(errors.New("its checksum is another"))
	}
	if m.object() != object {
		return nil, damaged(fmt.Errorf("it is the manifest of %s", m))
	}
	if m.Job != job {
		return nil, fmt.Errorf("%s/%s: %w: of %s, wanted %s", place, object, state.ErrOtherJob, m.Job, job)
	}
	for _, f := range m.Files {
		if len(f.SHA256) != 64 || f.Name == "" || strings.ContainsAny(f.Name, `/\`) {
			return nil, damaged(fmt.Errorf("it names a file %q", f.Name))
		}
	}
	return m, nil
}
