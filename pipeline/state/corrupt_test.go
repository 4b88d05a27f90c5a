package state

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// A byte that is not what was written is found when it is read, and the file is named.
func TestCorrupt(t *testing.T) {
	for _, pattern := range []string{"*.sst", "*.log", "MANIFEST-*"} {
		t.Run(pattern, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, Options{})
			for n := int64(1); n <= 60; n++ {
				if err := commitEpoch(s, n); err != nil {
					t.Fatal(err)
				}
			}
			if pattern == "*.sst" {
				if err := s.db.Flush(); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			files, err := filepath.Glob(filepath.Join(dir, dbName, pattern))
			if err != nil || len(files) == 0 {
				t.Fatal(files, err)
			}
			largest := files[len(files)-1] // the newest; older logs may be kept for their space only
			for _, f := range files {
				if pattern == "*.sst" && size(t, f) > size(t, largest) {
					largest = f
				}
			}
			b, err := os.ReadFile(largest)
			if err != nil {
				t.Fatal(err)
			}
			for i := len(b) / 10; i < len(b)/10+64 && i < len(b); i++ {
				b[i] ^= 0x55
			}
			if err := os.WriteFile(largest, b, 0o666); err != nil {
				t.Fatal(err)
			}
			s, err = tryOpen(dir, Options{})
			if err == nil {
				err = s.Scan(nil, nil, func(k, v []byte) error { return nil })
				_ = s.Close()
			}
			var corrupt *CorruptError
			if !errors.As(err, &corrupt) {
				t.Fatalf("%s: %v", largest, err)
			}
			if corrupt.File != largest && (pattern != "*.log" || filepath.Dir(largest) != corrupt.File) {
				t.Errorf("%s is named, and %s is damaged: %v", corrupt.File, largest, err)
			}
			t.Log(err)
		})
	}
}

func size(t *testing.T, path string) int64 {
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fi.Size()
}
