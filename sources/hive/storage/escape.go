package storage

import "strings"

// DefaultPartition is the name that Hive gives a partition whose value is null or empty.
const DefaultPartition = "__HIVE_DEFAULT_PARTITION__"

const hex = "0123456789ABCDEF"

// escaped tells the bytes that Hive writes as %XX in the names of partitions
// (FileUtils.charToEscape), which Spark, Trino and Arrow undo.
func escaped(c byte) bool {
	return c < 0x20 || c == 0x7f || strings.IndexByte("\"#%'*/:=?\\{[]^", c) >= 0
}

// AppendEscaped appends a value as a part of a path, as Hive does. It never appends a slash.
func AppendEscaped(dst, value []byte) []byte {
	at := 0
	for i, c := range value {
		if escaped(c) {
			dst = append(append(dst, value[at:i]...), '%', hex[c>>4], hex[c&15])
			at = i + 1
		}
	}
	return append(dst, value[at:]...)
}

// AppendPartition appends NAME=VALUE. A nil or empty value is DefaultPartition, of which
// readers make null..
func AppendPartition(dst []byte, name string, value []byte) []byte {
	dst = AppendEscaped(dst, []byte(name))
	dst = append(dst, '=')
	if len(value) == 0 {
		return append(dst, DefaultPartition...)
	}
	return AppendEscaped(dst, value)
}

// Escape gives a text as one part of a path.
func Escape(s string) string {
	switch s {
	case ".":
		return "%2E"
	case "..":
		return "%2E%2E"
	}
	return string(AppendEscaped(nil, []byte(s)))
}

// Unescape undoes Escape. What is no escape stays as it is, as in Hive.
func Unescape(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			hi, lo := unhex(s[i+1]), unhex(s[i+2])
			if hi >= 0 && lo >= 0 {
				out = append(out, byte(hi<<4|lo))
				i += 2
				continue
			}
		}
		out = append(out, s[i])
	}
	return string(out)
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}

// ParsePartition splits NAME=VALUE of a path. ok is false for a part that is none;
// null tells DefaultPartition.
func ParsePartition(part string) (name, value string, null, ok bool) {
	name, value, ok = strings.Cut(part, "=")
	if !ok || name == "" {
		return "", "", false, false
	}
	if value == DefaultPartition {
		return Unescape(name), "", true, true
	}
	return Unescape(name), Unescape(value), false, true
}
