package rows

import (
	"slices"

	"keystone/pipeline/json"
)

// members are those of a map's value, the last of each key only.
type members struct {
	list  []member
	keys  []byte         // decoded
	index map[string]int // of many: where a key is in list
}

type member struct {
	key, end int // in keys
	value    []byte
}

// fewMembers is up to where keys are compared one by one.
const fewMembers = 16

func (m *members) key(i int) []byte { return m.keys[m.list[i].key:m.list[i].end] }

// find gives where a key stands, or -1.
func (m *members) find(key []byte) int {
	if len(m.list) <= fewMembers {
		return slices.IndexFunc(m.list, func(e member) bool { return string(m.keys[e.key:e.end]) == string(key) })
	}
	if i, is := m.index[string(key)]; is {
		return i
	}
	return -1
}

// read takes the members of an object: of a key that comes again, the last value
// stands in the place of the first.
func (m *members) read(raw []byte) {
	m.list, m.keys = m.list[:0], m.keys[:0]
	if len(m.index) > 0 {
		clear(m.index)
	}
	for it := json.Over(raw); it.Next(); {
		at := len(m.keys)
		m.keys = it.AppendKey(m.keys)
		if i := m.find(m.keys[at:]); i >= 0 {
			m.list[i].value = it.Value
			m.keys = m.keys[:at]
			continue
		}
		m.list = append(m.list, member{key: at, end: len(m.keys), value: it.Value})
		if n := len(m.list); n > fewMembers {
			m.learn(n)
		}
	}
}

// learn puts the last key in the index, all of them where it is the first that does not fit the row.
func (m *members) learn(n int) {
	from := n - 1
	if n == fewMembers+1 {
		from = 0
		if m.index == nil {
			m.index = make(map[string]int)
		}
	}
	for i := from; i < n; i++ {
		m.index[string(m.key(i))] = i
	}
}

// dict appends a map.
func (w *Writer) dict(n *node, raw []byte, rep uint8) bool {
	p := w.parser
	if p.maps == len(p.members) {
		p.members = append(p.members, members{})
	}
	level := p.maps
	p.maps++
	defer func() { p.maps-- }()
	p.members[level].read(raw)
	count := len(p.members[level].list)
	if count == 0 {
		w.absent(n, rep, n.def)
		return true
	}
	key := &w.columns[n.key.first]
	for i := range count {
		m := &p.members[level] // maps below may have moved it
		key.level(w, rep, n.key.def)
		key.values = w.string(key.values, m.key(i), false)
		if !w.element(n, m.list[i].value, rep) {
			return false
		}
		rep = n.rep + 1
	}
	return true
}
