// Package addr has the addresses of blocks: route.tv["eu-west-1"].
package addr

import (
	"fmt"
	"strconv"
	"strings"
)

// Addr names one instance of a block: its type, its label, and the key of
// for_each if it has one. The kind of a sink or source is not part of it.
// Addresses are comparable and serve as map keys.
type Addr struct {
	Type string // route, stream, sink, source, cluster, job
	Name string
	Key  string // of for_each
	Each bool   // whether there is a key; an empty key is one
}

// New gives the address without a key.
func New(typ, name string) Addr { return Addr{Type: typ, Name: name} }

// Instance gives the address of the instance with the key.
func (a Addr) Instance(key string) Addr { a.Key, a.Each = key, true; return a }

// Block gives the address without its key: of the block that declares it.
func (a Addr) Block() Addr { return Addr{Type: a.Type, Name: a.Name} }

// IsZero tells the address of nothing.
func (a Addr) IsZero() bool { return a == Addr{} }

// String gives the form that Parse reads.
func (a Addr) String() string {
	if a.IsZero() {
		return ""
	}
	if a.Each {
		return a.Type + "." + a.Name + "[" + strconv.Quote(a.Key) + "]"
	}
	return a.Type + "." + a.Name
}

// Less orders by type, name, key.
func (a Addr) Less(b Addr) bool {
	if a.Type != b.Type {
		return a.Type < b.Type
	}
	if a.Name != b.Name {
		return a.Name < b.Name
	}
	if a.Each != b.Each {
		return !a.Each
	}
	return a.Key < b.Key
}

// Compare is Less as cmp.Compare gives it.
func Compare(a, b Addr) int {
	switch {
	case a == b:
		return 0
	case a.Less(b):
		return -1
	}
	return 1
}

// Parse reads TYPE.NAME or TYPE.NAME["KEY"].
func Parse(s string) (Addr, error) {
	typ, rest, ok := strings.Cut(s, ".")
	if !ok || !ident(typ) {
		return Addr{}, fmt.Errorf("%q is not an address; write TYPE.NAME, such as route.plays", s)
	}
	a := Addr{Type: typ, Name: rest}
	if i := strings.IndexByte(rest, '['); i >= 0 {
		key := strings.TrimSuffix(rest[i+1:], "]")
		k, err := strconv.Unquote(key)
		if err != nil || !strings.HasSuffix(rest, "]") {
			return Addr{}, fmt.Errorf("%q is not an address; write the key as in route.plays[\"eu\"]", s)
		}
		a.Name, a.Key, a.Each = rest[:i], k, true
	}
	if !ident(a.Name) {
		return Addr{}, fmt.Errorf("%q is not an address; a name has a to z, 0 to 9 and _ and begins with a letter", s)
	}
	return a, nil
}

// ident tells a label: [a-z][a-z0-9_]*.
func ident(s string) bool {
	for i, c := range []byte(s) {
		if !(c >= 'a' && c <= 'z' || i > 0 && (c == '_' || c >= '0' && c <= '9')) {
			return false
		}
	}
	return s != ""
}

// IsLabel tells whether s may be a block's label.
func IsLabel(s string) bool { return ident(s) }

// MarshalText gives String.
func (a Addr) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads what MarshalText gives.
func (a *Addr) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*a = Addr{}
		return nil
	}
	v, err := Parse(string(b))
	*a = v
	return err
}
