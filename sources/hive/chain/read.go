package chain

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path"
	"strings"

	"keystone/pipeline/record"
	"keystone/sources/hive/storage"
)

// Keys finds the chains of a place, those of one route if it is named, in the order of their names.
func Keys(ctx context.Context, st storage.Store, route string) ([]Key, error) {
	folder := root + "/"
	if route != "" {
		folder += storage.Escape(route) + "/"
	}
	var keys []Key
	for i, err := range st.List(ctx, folder) {
		if err != nil {
			return nil, err
		}
		dir, ok := strings.CutSuffix(strings.TrimPrefix(i.Name, root+"/"), "/start")
		if !ok {
			continue
		}
		if k, ok := parseKey(dir); ok {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

// Read gives the commits of a chain from the first to the last. Those that are made meanwhile may be
// missing. It ends after an error.
func Read(ctx context.Context, st storage.Store, key Key) iter.Seq2[*Manifest, error] {
	return func(yield func(*Manifest, error) bool) {
		dir := key.String() + "/"
		at, err := readStart(ctx, st, dir+"start")
		if err != nil {
			yield(nil, err)
			return
		}
		offset := at.Offset
		for range attempts {
			again, end, more := readFrom(ctx, st, dir, offset, yield)
			if !again || !more {
				return
			}
			offset = end
		}
		yield(nil, fmt.Errorf("%s changes faster than it can be read", key))
	}
}

// Begins gives where a chain begins.
func Begins(ctx context.Context, st storage.Store, key Key) (record.Position, error) {
	return readStart(ctx, st, path.Join(key.String(), "start"))
}

// readFrom gives the commits from an offset. again says that something was folded since it was listed, and end how
// far it got; more is false when the consumer wants no more.
func readFrom(ctx context.Context, st storage.Store, dir string, offset int64, yield func(*Manifest, error) bool) (again bool, end int64, more bool) {
	manifests, folds, err := list(ctx, st, dir)
	if err != nil {
		return false, offset, yield(nil, err)
	}
	for {
		var found []*Manifest
		if f, ok := folds[offset]; ok {
			found, err = readFold(ctx, st, f.name)
		} else if name, ok := manifests[offset]; ok {
			var m *Manifest
			m, err = readManifest(ctx, st, name)
			found = []*Manifest{m}
			if errors.Is(err, storage.ErrNotExist) {
				return true, offset, true
			}
		} else {
			return false, offset, true
		}
		if err != nil {
			return false, offset, yield(nil, err)
		}
		if found[0].Sealed != 0 {
			return false, offset, true
		}
		for _, m := range found {
			if !yield(m, nil) {
				return false, offset, false
			}
			offset = m.Next.Offset
		}
	}
}

// LastFiles gives the files of the last commit of each chain, whose writers may not have published them yet. Those of all commits
// before are published.
func LastFiles(ctx context.Context, st storage.Store) ([]File, error) {
	keys, err := Keys(ctx, st, "")
	if err != nil {
		return nil, err
	}
	var out []File
	for _, key := range keys {
		for again := true; again; {
			manifests, _, err := list(ctx, st, key.String()+"/")
			if err != nil {
				return nil, err
			}
			last, found := int64(-1), ""
			for first, name := range manifests {
				if first > last {
					last, found = first, name
				}
			}
			if again = false; found == "" {
				continue
			}
			m, err := readManifest(ctx, st, found)
			if errors.Is(err, storage.ErrNotExist) { // folded since
				again = true
				continue
			}
			if err != nil {
				return nil, err
			}
			out = append(out, m.Files...)
		}
	}
	return out, nil
}
