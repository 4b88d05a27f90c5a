package file

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"keystone/configs/diag"
	"keystone/pipeline/record"
	"keystone/sources"
)

// found is a file under the path, or a file that a position is of.
type found struct {
	path string
	fi   os.FileInfo
	node node
}

// list gives the regular files that path names now, each once, in the order of their names.
func (s *source) list() ([]found, error) {
	paths := []string{s.path}
	if s.glob {
		var err error
		if paths, err = filepath.Glob(s.path); err != nil {
			return nil, err
		}
		slices.Sort(paths)
	}
	var files []found
	seen := map[node]bool{}
	for _, p := range paths {
		fi, err := os.Stat(p)
		switch {
		case errors.Is(err, fs.ErrNotExist) && (s.glob || s.cfg.Follow): // it went since, or is to come
			continue
		case err != nil:
			return nil, err
		case s.glob && !fi.Mode().IsRegular():
			continue
		case s.cfg.Follow && s.cfg.Compression.of(p) != None:
			s.once(p, "a compressed file is not followed")
			continue
		case !fi.Mode().IsRegular():
			return nil, irregular(p, fi)
		}
		n := nodeOf(fi)
		if seen[n] {
			s.once(p, "the same file has a name that comes before: it is read once")
			continue
		}
		seen[n] = true
		files = append(files, found{p, fi, n})
	}
	if len(files) > s.cfg.MaxFiles {
		return nil, sources.Fatal{Err: fmt.Errorf("%s names %d files, more than max_files = %d; raise it, or narrow the pattern", s.path, len(files), s.cfg.MaxFiles)}
	}
	return files, nil
}

// once logs a remark about a path the first time.
func (s *source) once(path, remark string) {
	if !s.told[path+remark] && len(s.told) < 10_000 {
		s.told[path+remark] = true
		s.log.Info(remark, "path", path)
	}
}

func irregular(path string, fi os.FileInfo) error {
	advice := "it is not a regular file; pipe it into a source \"stdin\""
	if fi.IsDir() {
		advice = fmt.Sprintf("it is a directory; name the files in it, such as %q", filepath.Join(path, "*.ndjson"))
	}
	return sources.Fatal{Err: fmt.Errorf("read %s: %s", path, advice)}
}

// explain says what to do about a file that cannot be opened. What can
// mend itself is not Fatal.
func explain(path string, err error) error {
	switch {
	case sources.IsFatal(err):
		return err
	case errors.Is(err, fs.ErrNotExist):
		return sources.Fatal{Err: fmt.Errorf("there is no file %s%s", path, near(path))}
	case errors.Is(err, fs.ErrPermission):
		return sources.Fatal{Err: fmt.Errorf("read %s: permission denied; let the user that runs this read it (and enter its folders)", path)}
	}
	var not *fs.PathError
	if errors.As(err, &not) && not.Err.Error() == "not a directory" {
		return sources.Fatal{Err: fmt.Errorf("read %s: a part of the path before the last is a file, not a folder", path)}
	}
	return err
}

// near gives a hint at a name that may have been meant.
func near(path string) string {
	dir := filepath.Dir(path)
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Sprintf(": there is no folder %s", dir)
	}
	if err != nil {
		return ""
	}
	defer d.Close() //nolint:errcheck // only read
	names, err := d.Readdirnames(10_000)
	if err != nil {
		return "; the folder is there, and is empty"
	}
	return strings.TrimRight("."+diag.DidYouMean(filepath.Base(path), names), ".")
}

// resume finds the file of a position among those under the path, and then,
// by its node, in the folders where it was and where they are.
// nil: it is gone, or is another file now.
func (s *source) resume(p record.Position, files []found) (*found, identity) {
	id, ok := parseIdentity(p.Identity)
	if !ok {
		s.log.Warn("a stored position is of no file and does not count", "position", p)
		return nil, id
	}
	for _, same := range []func(f found) bool{
		func(f found) bool { return f.node == id.node },
		func(f found) bool { return f.node.ino == id.node.ino }, // a device number changes when a volume is mounted again
		func(f found) bool { return f.path == p.Name && id.length >= 64 },
	} {
		for i := range files {
			if same(files[i]) && s.continues(files[i], id, p) {
				return &files[i], id
			}
		}
	}
	if p.Offset == 0 {
		return nil, id
	}
	for _, dir := range slices.Compact([]string{filepath.Dir(s.path), filepath.Dir(p.Name)}) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			fi, err := e.Info()
			if err != nil || !fi.Mode().IsRegular() {
				continue
			}
			f := found{filepath.Join(dir, e.Name()), fi, nodeOf(fi)}
			if f.node == id.node && s.continues(f, id, p) {
				return &f, id
			}
		}
	}
	return nil, id
}

// continues tells whether the file holds what was read up to the position: it
// begins the same, reaches there, and a line ends there.
func (s *source) continues(c found, id identity, p record.Position) bool {
	f, err := os.Open(c.path)
	if err != nil {
		return false
	}
	defer f.Close() //nolint:errcheck // only read
	if same, err := id.sameBeginning(f); err != nil || !same {
		return false
	}
	if p.Offset == 0 || s.cfg.Compression.of(c.path) != None {
		return true // a packed file is checked when it is unpacked
	}
	if c.fi.Size() < p.Offset {
		return false
	}
	var around [2]byte
	n, err := f.ReadAt(around[:], p.Offset-1)
	if n == 0 {
		return err == nil
	}
	return around[0] == '\n' || n == 1 || around[1] == '\n' || around[1] == '\r'
}
