package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
)

// checkManifest refuses a list of files that is damaged in its middle. The library takes what is behind the damage for the
// remains of a write that never ended, and would open an older version of the state without a word.
// Damage of the very last record cannot be told from such remains.
func (s *Store) checkManifest() error {
	names, err := s.fs.List(s.path(dbName))
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, n := range slices.Backward(names) { // marker.manifest.000003.MANIFEST-000007: the highest number counts
		_, name, is := strings.Cut(n, "marker.manifest.")
		if _, name, found := strings.Cut(name, "."); is && found {
			path := s.fs.PathJoin(s.path(dbName), name)
			b, err := readFile(s.fs, path)
			if err == nil {
				err = checkChunks(b)
			}
			if err != nil {
				return &CorruptError{path, err}
			}
			return nil
		}
	}
	return nil
}

const (
	chunkBlock  = 32 << 10
	chunkHeader = 7 // checksum, length, type
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// chunk gives the length of the chunk that b begins with, 0 if it is none.
func chunk(b []byte) int {
	if len(b) < chunkHeader {
		return 0
	}
	end := chunkHeader + int(binary.LittleEndian.Uint16(b[4:]))
	if b[6] == 0 || b[6] > 4 || end > len(b) {
		return 0
	}
	c := crc32.Checksum(b[6:end], castagnoli)
	if c = c>>15 | c<<17; c+0xa282ead8 != binary.LittleEndian.Uint32(b) {
		return 0
	}
	return end
}

// checkChunks refuses a log in which whole chunks follow something else.
func checkChunks(b []byte) error {
	bad := -1
	for at := 0; at < len(b); {
		block := b[at:min(len(b), (at/chunkBlock+1)*chunkBlock)]
		n := chunk(block)
		switch {
		case n > 0 && bad >= 0:
			return fmt.Errorf("byte %d does not belong to what is before byte %d", bad, at)
		case n > 0:
			at += n
		case len(block) < chunkHeader && bad < 0: // the rest of a block
			at += len(block)
		default:
			if bad < 0 {
				bad = at
			}
			at++
		}
	}
	if bad == 0 {
		return errors.New("it has no record")
	}
	return nil
}
