package chain

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"keystone/sources/hive/storage"
)

// Folding keeps chains quick to follow: many old manifests become one object, which is never
// changed or deleted. Each fold has the same number of manifests, counted from the beginning of the
// chain, so that two writers who fold make the same ones. That number is part of the format.
const (
	foldSize = 128 // manifests
	foldKeep = 16  // that stay behind them
)

// fold is many manifests.
type fold struct {
	Version   int         `json:"version"`
	Manifests []*Manifest `json:"manifests"`
}

// Fold folds old manifests if there are many, and deletes them. ready says of how many commits, from the
// oldest that is not folded, nothing is left to be done, such as registering their partitions. It may be repeated.
func (c *Chain) Fold(ctx context.Context, ready int) error {
	if ready < foldSize || len(c.tail) < foldSize+foldKeep {
		return nil
	}
	_, folds, err := list(ctx, c.st, c.dir)
	if err != nil {
		return err
	}
	f, made := folds[c.tail[0]] // by an attempt that failed later, or by another writer
	if !made {
		if f.next, err = c.fold(ctx, c.tail[:foldSize]); err != nil {
			return err
		}
	}
	if made {
		if err := c.st.Confirm(ctx, f.name); err != nil {
			return err
		}
	}
	n := 0 // the tail begins where a fold ends, so it is cut only when all is done
	for ; n < len(c.tail) && c.tail[n] < f.next; n++ {
		if err := c.st.Delete(ctx, c.dir+offsetName(c.tail[n])); err != nil {
			return err
		}
	}
	c.tail = slices.Clone(c.tail[n:])
	return nil
}

// fold makes a fold of manifests and gives where it ends.
func (c *Chain) fold(ctx context.Context, firsts []int64) (int64, error) {
	old := make([]*Manifest, len(firsts))
	for i, first := range firsts {
		var err error
		if old[i], err = readManifest(ctx, c.st, c.dir+offsetName(first)); err != nil {
			return 0, err
		}
	}
	text, err := packFold(old)
	if err != nil {
		return 0, err
	}
	next := old[len(old)-1].Next.Offset
	err = c.st.Create(ctx, c.dir+offsetName(old[0].First)+"-"+offsetName(next)+foldSuffix, text)
	if errors.Is(err, storage.ErrExists) {
		err = nil
	}
	return next, err
}

func packFold(old []*Manifest) ([]byte, error) {
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	if err := json.NewEncoder(z).Encode(fold{manifestVersion, old}); err != nil {
		return nil, err
	}
	err := z.Close()
	return buf.Bytes(), err
}

func readFold(ctx context.Context, st storage.Store, name string) ([]*Manifest, error) {
	b, err := st.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, &DamagedError{name, err}
	}
	text, err := io.ReadAll(z)
	if err != nil {
		return nil, &DamagedError{name, err}
	}
	var f fold
	if err := decode(name, text, &f, &f.Version); err != nil {
		return nil, err
	}
	e, _ := parseEntry(name)
	at := e.first
	for _, m := range f.Manifests {
		if m.First != at {
			return nil, &DamagedError{name, fmt.Errorf("after offset %d comes %d", at, m.First)}
		}
		at = m.Next.Offset
	}
	if len(f.Manifests) == 0 || at != e.next {
		return nil, &DamagedError{name, fmt.Errorf("it ends at %d", at)}
	}
	return f.Manifests, nil
}
