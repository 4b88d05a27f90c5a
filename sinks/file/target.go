package file

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
)

// target is where a sink's path leads: a plain path, or a pattern with the
// folder that all files are below.
type target struct {
	plain bool
	path  string // of a plain one
	dir   string // of a pattern: its text up to the last slash before the first placeholder
}

func parseTarget(pattern string) target {
	var plain strings.Builder
	for i := 0; i < len(pattern); i++ {
		c := pattern[i]
		if c == '{' || c == '}' {
			if i+1 < len(pattern) && pattern[i+1] == c { // {{ stands for a brace
				i++
			} else if c == '{' {
				return target{dir: plain.String()[:strings.LastIndexByte(plain.String(), '/')+1]}
			}
		}
		plain.WriteByte(c)
	}
	return target{plain: true, path: plain.String()}
}

const (
	nameMax = 240 // of one part of a path, with room for a number and our own prefix
	pathMax = 3000
	hidden  = ".keystone-"
)

// relative gives where below the target's folder an evaluated path leads, or
// why it must not be followed.
func (t target) relative(value string) (string, error) {
	rel, ok := strings.CutPrefix(value, t.dir)
	switch {
	case !ok:
		return "", fmt.Errorf("the path %.200q is not below %q", value, t.dir)
	case len(rel) > pathMax:
		return "", fmt.Errorf("the path is %d bytes long, at most %d are allowed", len(rel), pathMax)
	}
	for part := range strings.SplitSeq(rel, "/") {
		switch {
		case part == "":
			return "", fmt.Errorf("the path %.200q has an empty part", value)
		case part == "." || part == "..":
			return "", fmt.Errorf("the path %.200q would lead elsewhere: %q is not allowed in values", value, part)
		case len(part) > nameMax:
			return "", fmt.Errorf("a part of the path %.200q is longer than %d bytes", value, nameMax)
		case strings.IndexByte(part, 0) >= 0:
			return "", fmt.Errorf("the path %.200q has a zero byte", value)
		case strings.HasPrefix(part, hidden) || strings.HasSuffix(part, runSuffix):
			return "", fmt.Errorf("the path %.200q is kept for the sink's own files", value)
		}
	}
	return rel, nil
}

const runSuffix = ".keystone-run"

// unfinished gives the name under which a file is written until a run is complete.
func unfinished(name string) string {
	return path.Join(path.Dir(name), "."+path.Base(name)+runSuffix)
}

// numbered puts a number before the extension.
func numbered(name string, n int) string {
	stem, ext := cutExtension(name)
	return fmt.Sprintf("%s.%06d%s", stem, n, ext)
}

// cutExtension takes off .gz or the like, and one extension more.
func cutExtension(name string) (stem, ext string) {
	packed := ""
	if Auto.of(name) != None {
		packed = path.Ext(name)
		name = name[:len(name)-len(packed)]
	}
	ext = path.Ext(name)
	if strings.TrimSuffix(path.Base(name), ext) == "" { // a name that begins with its only dot
		ext = ""
	}
	return name[:len(name)-len(ext)], ext + packed
}

// highest gives the largest number that a file beside name has; 0 if there is none.
func highest(root *os.Root, name string) (int, error) {
	dir, err := root.Open(path.Dir(name))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer dir.Close() //nolint:errcheck // only read
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return 0, err
	}
	stem, ext := cutExtension(path.Base(name))
	most := 0
	for _, n := range names {
		n = strings.TrimSuffix(strings.TrimPrefix(n, "."), runSuffix)
		digits, ok := strings.CutPrefix(n, stem+".")
		if !ok {
			continue
		}
		if digits, ok = strings.CutSuffix(digits, ext); !ok || len(digits) < 6 {
			continue
		}
		if k, err := strconv.Atoi(digits); err == nil {
			most = max(most, k)
		}
	}
	return most, nil
}
