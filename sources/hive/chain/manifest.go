// Package chain keeps the commits of a table: for each partition of what is read, a chain of
// manifests, each of which says from which offset to which it goes and what files its rows are in. A row is in
// the table when a manifest lists its file, and where reading goes on is where the chain ends.
//
// A manifest is made under the offset that it begins with, if there is none: of two writers that
// continue one chain, one gets ErrFenced. The files of a manifest are published
// before the next manifest is made, so that only the last one's may be missing after a crash.
//
//	_keystone/ROUTE/GENERATION/TOPIC ID/PARTITION/start                     where the chain begins
//	_keystone/ROUTE/GENERATION/TOPIC ID/PARTITION/00000000000000000000      a manifest
//	_keystone/ROUTE/GENERATION/TOPIC ID/PARTITION/FIRST-NEXT.json.gz        many old ones, folded
//	_keystone/ROUTE/GENERATION/TOPIC ID/PARTITION/sealed                    a later generation has ended the chain
//	_keystone/staging/ROUTE/GENERATION/TOPIC ID/PARTITION/FIRST-WRITER-N    a file that is not published yet
package chain

import (
	"encoding/json"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"keystone/pipeline/record"
	"keystone/sources/hive/storage"
)

const (
	root    = "_keystone"
	staging = root + "/staging"
	// manifestVersion is of the manifests that this program writes, and version the highest that it reads.
	manifestVersion = 1
	version         = sealVersion
)

// Key names a chain.
type Key struct {
	Route      string // the lasting name of the route
	Generation int64
	Identity   string // of what is read: a topic's id, a file's identity
	Partition  int32
}

// dir is the folder of the chain's manifests below _keystone or _keystone/staging.
func (k Key) dir() string {
	id := k.Identity
	if id == "" {
		id = "-"
	}
	return path.Join(storage.Escape(k.Route), strconv.FormatInt(k.Generation, 10), storage.Escape(id), strconv.FormatInt(int64(k.Partition), 10))
}

// String names the chain for people.
func (k Key) String() string { return path.Join(root, k.dir()) }

func parseKey(dir string) (Key, bool) {
	p := strings.Split(dir, "/")
	if len(p) != 4 {
		return Key{}, false
	}
	gen, err1 := strconv.ParseInt(p[1], 10, 64)
	part, err2 := strconv.ParseInt(p[3], 10, 32)
	k := Key{Route: storage.Unescape(p[0]), Generation: gen, Identity: storage.Unescape(p[2]), Partition: int32(part)}
	if k.Identity == "-" {
		k.Identity = ""
	}
	return k, err1 == nil && err2 == nil
}

// Value is the value of one partition column. Null stands for null and for the empty text, which
// the layout does not tell apart.
type Value struct {
	Name  string `json:"name"`
	Value string `json:"value,omitempty"`
	Null  bool   `json:"null,omitempty"`
}

// File is a data file of a commit.
type File struct {
	Path   string           `json:"path"`   // below the table's location
	Staged string           `json:"staged"` // where it was written; gone once it is published
	Values []Value          `json:"partition,omitempty"`
	Rows   int64            `json:"rows"`
	Bytes  int64            `json:"bytes"`
	Min    int64            `json:"min_offset"` // of the events in it
	Max    int64            `json:"max_offset"`
	Bounds map[string]Bound `json:"bounds,omitempty"` // of the columns that are times
}

// Bound is the least and the greatest value of a column, as the file's statistics have them.
type Bound struct {
	Min string `json:"min"`
	Max string `json:"max"`
}

// Manifest is a commit.
type Manifest struct {
	Version int             `json:"version"`
	First   int64           `json:"first"` // the offset that it begins with
	Next    record.Position `json:"next"`  // where the next one begins
	Writer  string          `json:"writer"`
	Made    time.Time       `json:"made"` // by the writer's clock, for people
	Files   []File          `json:"files"`
	Sealed  int64           `json:"sealed,omitempty"` // the generation that ended the chain here: this is no commit
}

// Rows counts the rows of a commit.
func (m *Manifest) Rows() (n int64) {
	for i := range m.Files {
		n += m.Files[i].Rows
	}
	return n
}

// start is the root of a chain.
type start struct {
	Version int             `json:"version"`
	Key     keyJSON         `json:"chain"`
	At      record.Position `json:"at"`
	Made    time.Time       `json:"made"`
}

// keyJSON keeps names that escaping does not show.
type keyJSON struct {
	Route      string `json:"route"`
	Generation int64  `json:"generation"`
	Identity   string `json:"identity,omitempty"`
	Partition  int32  `json:"partition"`
}

func decode(name string, b []byte, to any, v *int) error {
	if err := json.Unmarshal(b, to); err != nil {
		return &DamagedError{name, err}
	}
	if *v < 1 || *v > version {
		return &DamagedError{name, fmt.Errorf("it has version %d, and this program reads up to %d: use the one that wrote it", *v, version)}
	}
	return nil
}

// DamagedError is a manifest that cannot be read: a human has to look.
type DamagedError struct {
	Name string
	Err  error
}

// Error names it.
func (e *DamagedError) Error() string { return fmt.Sprintf("the manifest %s: %v", e.Name, e.Err) }

// Unwrap gives the cause.
func (e *DamagedError) Unwrap() error { return e.Err }

// offsetName is the name of a manifest: offsets sort as their names do.
func offsetName(first int64) string { return fmt.Sprintf("%020d", first) }

// entry is what a name in a chain's folder stands for.
type entry struct {
	first  int64
	next   int64 // of a fold
	folded bool
	name   string
}

const foldSuffix = ".json.gz"

func parseEntry(name string) (entry, bool) {
	base := path.Base(name)
	if a, b, ok := strings.Cut(strings.TrimSuffix(base, foldSuffix), "-"); ok && strings.HasSuffix(base, foldSuffix) {
		first, ok1 := parseOffset(a)
		next, ok2 := parseOffset(b)
		return entry{first, next, true, name}, ok1 && ok2
	}
	first, ok := parseOffset(base)
	return entry{first: first, name: name}, ok
}

func parseOffset(s string) (int64, bool) {
	if len(s) != 20 {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && n >= 0
}
