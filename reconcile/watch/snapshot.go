package watch

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"keystone/reconcile"
)

// maxFileBytes bounds what is read of one file; the loader refuses far smaller ones.
const maxFileBytes = 64 << 20

// ErrNoFiles says that a directory has no configuration: it is a goal of nobody.
var ErrNoFiles = errors.New("there are no *.ks.hcl files")

// Snapshot is the content of a configuration's files at one moment.
type Snapshot struct {
	Hash  string // of names and contents
	Files []reconcile.SourceFile
}

// Match tells whether a file name belongs to a configuration.
func Match(name string) bool {
	return !strings.HasPrefix(name, ".") && (strings.HasSuffix(name, ".ks.hcl") || strings.HasSuffix(name, ".ksvars"))
}

// Take reads the files of a directory that belong to its configuration, and
// others that are named (variable files). A directory without *.ks.hcl files
// gives ErrNoFiles.
func Take(dir string, others ...string) (Snapshot, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return Snapshot{}, err
	}
	var s Snapshot
	blocks := false
	for _, e := range entries {
		if !Match(e.Name()) {
			continue
		}
		f, err := read(filepath.Join(dir, e.Name()), e.Name())
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errIsDir) {
			continue // it went between the two calls, or only looks like one
		}
		if err != nil {
			return Snapshot{}, err
		}
		blocks = blocks || strings.HasSuffix(e.Name(), ".ks.hcl")
		s.Files = append(s.Files, f)
	}
	if !blocks {
		return Snapshot{}, fmt.Errorf("%s: %w", dir, ErrNoFiles)
	}
	for _, o := range others {
		f, err := read(o, o)
		if err != nil {
			return Snapshot{}, err
		}
		s.Files = append(s.Files, f)
	}
	slices.SortFunc(s.Files, func(a, b reconcile.SourceFile) int { return strings.Compare(a.Name, b.Name) })
	h := sha256.New()
	for _, f := range s.Files {
		fmt.Fprintf(h, "%q %s\n", f.Name, f.SHA256)
	}
	s.Hash = hex.EncodeToString(h.Sum(nil))
	return s, nil
}

var errIsDir = errors.New("is a directory")

func read(path, name string) (reconcile.SourceFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return reconcile.SourceFile{}, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	if st, err := f.Stat(); err != nil {
		return reconcile.SourceFile{}, err
	} else if st.IsDir() {
		return reconcile.SourceFile{}, errIsDir
	}
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return reconcile.SourceFile{}, fmt.Errorf("read %s: %w", path, err)
	}
	if n > maxFileBytes {
		return reconcile.SourceFile{}, fmt.Errorf("%s is larger than %d bytes", path, maxFileBytes)
	}
	return reconcile.SourceFile{Name: name, SHA256: hex.EncodeToString(h.Sum(nil)), Bytes: n}, nil
}
