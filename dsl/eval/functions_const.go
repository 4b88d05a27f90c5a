package eval

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
	"time"

	"keystone/dsl/ir"

	"github.com/cespare/xxhash/v2"
)

// bound gives the implementation of functions whose constant arguments are
// worked out when the program is made, or nil.
func (c *compiler) bound(n *ir.Node) impl {
	word := func(i int, otherwise string) string {
		if i >= len(n.Kids) {
			return otherwise
		}
		if n.Kids[i].Op != ir.Const {
			c.refuse("argument %d of %s is not constant", i+1, n.Func.Name)
		}
		s, ok := n.Kids[i].Value.(string)
		if !ok {
			return otherwise // a nil: the call is nil
		}
		return s
	}
	switch n.Func.Name {
	case "hash":
		return hashed(c, word(1, "sha256"))
	case "hmac":
		return keyedHash(c, word(2, "sha256"))
	case "parse_time":
		return parseTimeWith(word(1, ""))
	case "truncate_time":
		f, err := truncation(word(1, "second"))
		if err != nil {
			c.refuse("truncate_time: %v", err)
		}
		return f
	case "format_time":
		return c.formatTime(word(1, ""), word(2, "UTC"))
	}
	return nil
}

func algorithm(name string) func() hash.Hash {
	switch name {
	case "sha256":
		return sha256.New
	case "sha512":
		return sha512.New
	case "sha1":
		return sha1.New
	case "md5":
		return md5.New
	}
	return nil
}

func hashed(c *compiler, name string) impl {
	sum := func(dst, s []byte) []byte { h := sha256.Sum256(s); return append(dst, h[:]...) }
	switch name {
	case "sha256":
	case "sha512":
		sum = func(dst, s []byte) []byte { h := sha512.Sum512(s); return append(dst, h[:]...) }
	case "sha1":
		sum = func(dst, s []byte) []byte { h := sha1.Sum(s); return append(dst, h[:]...) }
	case "md5":
		sum = func(dst, s []byte) []byte { h := md5.Sum(s); return append(dst, h[:]...) }
	case "xxh64":
		sum = func(dst, s []byte) []byte {
			x := xxhash.Sum64(s)
			for shift := 56; shift >= 0; shift -= 8 {
				dst = append(dst, byte(x>>shift))
			}
			return dst
		}
	default:
		c.refuse("there is no hash %q", name)
	}
	return func(m *machine, st *site, a []value) value {
		s, ok := m.octets(a[0], st)
		if !ok {
			return value{k: kErr}
		}
		m.scratch = sum(m.scratch[:0], s)
		at := len(m.buf)
		m.buf = appendHex(m.buf, m.scratch)
		return stringValue(m.keep(at))
	}
}

// keyedState is an HMAC that is used again while the key stays the same.
type keyedState struct {
	key []byte
	sum hash.Hash
}

// keyed gives the HMAC of a call for a key.
func (m *machine) keyed(st *site, h func() hash.Hash, key []byte) hash.Hash {
	k := m.hashes[st]
	if k == nil || !bytes.Equal(k.key, key) {
		k = &keyedState{key: bytes.Clone(key), sum: hmac.New(h, key)}
		if m.hashes == nil {
			m.hashes = map[*site]*keyedState{}
		}
		m.hashes[st] = k
	}
	k.sum.Reset()
	return k.sum
}

func keyedHash(c *compiler, name string) impl {
	h := algorithm(name)
	if h == nil {
		c.refuse("there is no hash %q", name)
	}
	return func(m *machine, st *site, a []value) value {
		s, ok := m.octets(a[0], st)
		if !ok {
			return value{k: kErr}
		}
		key, ok := m.octets(a[1], st)
		if !ok {
			return value{k: kErr}
		}
		k := m.keyed(st, h, key)
		k.Write(s)
		m.scratch = k.Sum(m.scratch[:0])
		at := len(m.buf)
		m.buf = appendHex(m.buf, m.scratch)
		return stringValue(m.keep(at))
	}
}

func (c *compiler) formatTime(layout, zone string) impl {
	loc, err := time.LoadLocation(zone)
	if err != nil {
		c.refuse("format_time: %v", err)
		loc = time.UTC
	}
	return func(m *machine, st *site, a []value) value {
		if a[0].k != kTime {
			return m.wrongType(st, a[0], "a time; parse_time makes one")
		}
		at := len(m.buf)
		m.buf = a[0].time().In(loc).AppendFormat(m.buf, layout)
		return stringValue(m.keep(at))
	}
}
