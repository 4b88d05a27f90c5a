package file

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// prefixMax is how much of a file's beginning is part of its identity.
const prefixMax = 1 << 10

// node is a file as the file system knows it. The number is used again when
// the file is deleted.
type node struct{ dev, ino uint64 }

func nodeOf(fi os.FileInfo) node {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return node{}
	}
	return node{uint64(st.Dev), st.Ino} //nolint:unconvert // the width of Dev differs between systems
}

// identity is what an offset counts in. It is fixed when the file is first
// read: a file that grows keeps it. cut counts how often the file was
// cut back under us.
type identity struct {
	node   node
	length int    // of the beginning that hash is of
	hash   string // of those bytes as they are on disk
	cut    int
}

// String gives the form that is stored.
func (id identity) String() string {
	s := fmt.Sprintf("%x-%x-%d-%s", id.node.dev, id.node.ino, id.length, id.hash)
	if id.cut > 0 {
		s += "-" + strconv.Itoa(id.cut)
	}
	return s
}

// parseIdentity reads what String gives.
func parseIdentity(s string) (identity, bool) {
	p := strings.Split(s, "-")
	if len(p) != 4 && len(p) != 5 {
		return identity{}, false
	}
	dev, err1 := strconv.ParseUint(p[0], 16, 64)
	ino, err2 := strconv.ParseUint(p[1], 16, 64)
	length, err3 := strconv.Atoi(p[2])
	id := identity{node: node{dev, ino}, length: length, hash: p[3]}
	if len(p) == 5 {
		cut, err := strconv.Atoi(p[4])
		if err != nil {
			return identity{}, false
		}
		id.cut = cut
	}
	return id, err1 == nil && err2 == nil && err3 == nil && length >= 0 && length <= prefixMax
}

// identify gives the identity of an open file as it is now.
func identify(f io.ReaderAt, n node) (identity, error) {
	hash, length, err := prefix(f, prefixMax)
	return identity{node: n, length: length, hash: hash}, err
}

// sameBeginning tells whether f begins as the identity says.
func (id identity) sameBeginning(f io.ReaderAt) (bool, error) {
	hash, length, err := prefix(f, id.length)
	return err == nil && length == id.length && hash == id.hash, err
}

// prefix gives the hash of the first n bytes, or fewer if there are not so many.
func prefix(f io.ReaderAt, n int) (string, int, error) {
	var buf [prefixMax]byte
	k, err := f.ReadAt(buf[:n], 0)
	if err != nil && err != io.EOF {
		return "", 0, err
	}
	sum := sha256.Sum256(buf[:k])
	return hex.EncodeToString(sum[:8]), k, nil
}
