package hive

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"

	"keystone/sources/hive/chain"
	"keystone/sources/hive/storage"
)

// fileStem is how the names of the files of a chain begin. They are the same at each attempt and no other
// chain's: the route's lasting name, the generation, the topic's id, the partition.
func fileStem(k chain.Key) string {
	return fmt.Sprintf("ks-%s-g%d-%s-p%d", short(k.Route), k.Generation, plainOr(k.Identity), k.Partition)
}

var plain = regexp.MustCompile(`^[A-Za-z0-9_-]{1,40}$`)

func plainOr(id string) string {
	if plain.MatchString(id) {
		return id
	}
	return short(id)
}

func short(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:8])
}

// fileName is the name of the n-th file of the commit that begins at an offset.
func fileName(dir, stem string, first int64, n int) string {
	name := fmt.Sprintf("%s-%020d-%04d.parquet", stem, first, n)
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// dirOf gives the folder of a file.
func dirOf(path string) string {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i]
	}
	return ""
}

// nameRoom is what a partition's folder leaves of a name's length for the file's.
const nameRoom = 1000 - 160

// appendDir appends the folder of a partition, "dt=2026-01-02/hour=03".
func appendDir(dst []byte, names []string, values [][]byte) []byte {
	for i, name := range names {
		if i > 0 {
			dst = append(dst, '/')
		}
		var v []byte
		if i < len(values) {
			v = values[i]
		}
		dst = storage.AppendPartition(dst, name, v)
	}
	return dst
}

// checkDir says why a partition's values cannot be a folder; "" if they can.
func checkDir(dir string) string {
	if len(dir) > nameRoom {
		return fmt.Sprintf("the values of the partition are %d bytes long, at most %d can be stored", len(dir), nameRoom)
	}
	for part := range strings.SplitSeq(dir, "/") {
		if len(part) > 255 {
			return fmt.Sprintf("a value of the partition is longer than 255 bytes: %.100q", part)
		}
	}
	return ""
}

// valuesOf gives a partition's values from its folder.
func valuesOf(dir string) []chain.Value {
	if dir == "" {
		return nil
	}
	var out []chain.Value
	for part := range strings.SplitSeq(dir, "/") {
		name, value, null, _ := storage.ParsePartition(part)
		out = append(out, chain.Value{Name: name, Value: value, Null: null})
	}
	return out
}
