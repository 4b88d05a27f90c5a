package rows

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"
)

// dictionary has the values of a chunk once each, in the order in which they
// first came, so that the file does not depend on hashes.
type dictionary struct {
	width   int    // of a value, 0 where it varies
	entries []byte // plain encoding
	begins  []uint32
	table   []uint32 // id + 1, 0 is free; at most half full
	seed    maphash.Seed
}

const tableFirst = 64

func newDictionary(width int) *dictionary {
	return &dictionary{width: width, table: make([]uint32, tableFirst), seed: maphash.MakeSeed()}
}

func (d *dictionary) len() int { return len(d.begins) }

// held is its memory.
func (d *dictionary) held() int { return cap(d.entries) + 4*cap(d.begins) + 4*cap(d.table) }

// ids appends the numbers of plain values to dst. It stops, and gives false, at more than most entries.
func (d *dictionary) ids(dst []uint32, values []byte, most int) ([]uint32, bool) {
	for len(values) > 0 {
		if len(d.begins) > most {
			return dst, false
		}
		var id uint32
		if d.width == 8 {
			id = d.id8(values[:8])
			values = values[8:]
		} else {
			end := d.width
			if end == 0 {
				end = 4 + int(binary.LittleEndian.Uint32(values))
			}
			id = d.id(values[:end])
			values = values[end:]
		}
		dst = append(dst, id)
	}
	return dst, len(d.begins) <= most
}

// id8 gives the number of a value of eight bytes.
func (d *dictionary) id8(value []byte) uint32 {
	v := binary.LittleEndian.Uint64(value)
	mask := uint64(len(d.table) - 1)
	h := v * 0x9E3779B97F4A7C15
	for i := (h ^ h>>32) & mask; ; i = (i + 1) & mask {
		id := d.table[i]
		if id == 0 {
			return d.add(value, i)
		}
		if binary.LittleEndian.Uint64(d.entries[(id-1)*8:]) == v {
			return id - 1
		}
	}
}

// id gives the number of a value, which has its length in front where that varies.
func (d *dictionary) id(value []byte) uint32 {
	mask := uint64(len(d.table) - 1)
	for i := maphash.Bytes(d.seed, value) & mask; ; i = (i + 1) & mask {
		id := d.table[i]
		if id == 0 {
			return d.add(value, i)
		}
		at := d.begins[id-1]
		if e := d.entries[at:]; len(e) >= len(value) && string(e[:len(value)]) == string(value) {
			return id - 1
		}
	}
}

func (d *dictionary) add(value []byte, slot uint64) uint32 {
	id := uint32(len(d.begins))
	d.table[slot] = id + 1
	d.begins = append(d.begins, uint32(len(d.entries)))
	d.entries = append(d.entries, value...)
	if 2*len(d.begins) > len(d.table) {
		d.rehash()
	}
	return id
}

func (d *dictionary) rehash() {
	d.table = make([]uint32, 4*len(d.table))
	mask := uint64(len(d.table) - 1)
	for id, at := range d.begins {
		end := len(d.entries)
		if id+1 < len(d.begins) {
			end = int(d.begins[id+1])
		}
		var h uint64
		if value := d.entries[at:end]; d.width == 8 {
			h = binary.LittleEndian.Uint64(value) * 0x9E3779B97F4A7C15
			h ^= h >> 32
		} else {
			h = maphash.Bytes(d.seed, value)
		}
		i := h & mask
		for d.table[i] != 0 {
			i = (i + 1) & mask
		}
		d.table[i] = uint32(id) + 1
	}
}

// bitWidth is how many bits a number of an entry has.
func (d *dictionary) bitWidth() int { return max(bits.Len(uint(len(d.begins)-1)), 1) }
