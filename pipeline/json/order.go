package json

import "encoding/binary"

const (
	keyBytesMax = 46  // longer keys are not foreseen
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
	child int32 // in the trie, or -1
	next  int32 // index of the key that came after it last time, or -1
	n     uint16
	text  [keyBytesMax + 8]byte // zeros after n
}

// match tells whether doc[i:] begins with the key.
func (k *key) match(doc []byte, i int) bool {
	n := int(k.n)
	if i+keyBytesMax+8 > len(doc) {
		return i+n <= len(doc) && string(doc[i:i+n]) == string(k.text[:n])
	}
	d := doc[i : i+keyBytesMax+8]
	j := 0
	for ; j+8 <= n; j += 8 {
		if binary.LittleEndian.Uint64(d[j:]) != binary.LittleEndian.Uint64(k.text[j:]) {
			return false
		}
	}
	// The rest of the last word: shift out what is beyond the key.
	rest := uint(8*(8-(n-j))) & 127
	return (binary.LittleEndian.Uint64(d[j:])^binary.LittleEndian.Uint64(k.text[j:]))<<rest == 0
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
		o.keys = append(o.keys, key{child: child, next: -1, n: uint16(len(text))})
		copy(o.keys[at].text[:], text)
	}
	if before >= 0 {
		o.keys[before].next = at
	} else {
		o.first = at
	}
	return at
}
