package json

import "encoding/binary"

const (
	keyBytesMax = 48  // longer keys are not foreseen
	keysMax     = 128 // of one object; beyond them the order is learnt anew
)

// order is what is known of the keys of the objects at one path: which ones
// there are, as they are written with the white space around them up to the
// value, and which one came after which. A key that is only sometimes there
// costs one search, since it is the link that changes and not a sequence.
type order struct {
	keys  []key
	first int32 // index of the first key of the last object
}

type key struct {
	word0, mask0 uint64 // the first eight bytes, and ones where the key has any
	word1, mask1 uint64 // the next eight
	child        int32  // in the trie, or -1
	next         int32  // index of the key that came after it last time, or -1
	n            int32
	text         [keyBytesMax]byte
}

// begins tells whether doc[i:], of at least 16 bytes, begins with the first
// 16 bytes of the key.
func (k *key) begins(doc []byte, i int) bool {
	d := doc[i : i+16]
	return (binary.LittleEndian.Uint64(d)^k.word0)&k.mask0|(binary.LittleEndian.Uint64(d[8:])^k.word1)&k.mask1 == 0
}

// match tells whether doc[i:] begins with the key.
func (k *key) match(doc []byte, i int) bool {
	if i+16 <= len(doc) && k.n <= 16 {
		return k.begins(doc, i)
	}
	n := int(k.n)
	return i+n <= len(doc) && string(doc[i:i+n]) == string(k.text[:n])
}

func newKey(text []byte, child int32) key {
	k := key{child: child, next: -1, n: int32(len(text))}
	copy(k.text[:], text)
	k.word0, k.word1 = binary.LittleEndian.Uint64(k.text[:]), binary.LittleEndian.Uint64(k.text[8:])
	k.mask0 = ^uint64(0) >> (64 - 8*min(len(text), 8))
	k.mask1 = 1<<(8*min(max(len(text)-8, 0), 8)) - 1
	return k
}

// learn remembers that text came after the key before, and gives its index,
// or -1 if it is not remembered.
func (o *order) learn(before int32, text []byte, child int32) int32 {
	if len(text) > keyBytesMax {
		return -1
	}
	at := int32(-1)
	for i := range o.keys {
		if k := &o.keys[i]; int(k.n) == len(text) && string(k.text[:k.n]) == string(text) {
			at = int32(i)
			break
		}
	}
	if at < 0 {
		if len(o.keys) == keysMax {
			o.keys, o.first, before = o.keys[:0], 0, -1
		}
		at = int32(len(o.keys))
		o.keys = append(o.keys, newKey(text, child))
	}
	if before >= 0 {
		o.keys[before].next = at
	} else {
		o.first = at
	}
	return at
}
