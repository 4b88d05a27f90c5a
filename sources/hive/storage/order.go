package storage

import (
	"io/fs"
	"slices"
	"strings"
)

// sortAsPaths sorts the entries of a folder as the paths of the files in them sort.
func sortAsPaths(entries []fs.DirEntry) {
	key := func(e fs.DirEntry) string {
		if e.IsDir() {
			return e.Name() + "/"
		}
		return e.Name()
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(key(a), key(b)) })
}
