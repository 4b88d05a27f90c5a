package eval

import (
	"slices"

	"keystone/dsl/ir"
	"keystone/pipeline/json"
	"keystone/pipeline/record"
)

// stage is what the expressions over one document have in common: the paths
// that they use and the memory that they need.
type stage struct {
	trie     *json.Trie
	depth    json.Depth
	lets     int // variables
	frames   int // depth of predicates
	reads    bool
	required []int // slots of fields that the schema requires
	paths    []int // slots of the fields that expressions name, in the order of the text
}

func newStage(d json.Depth) *stage { return &stage{trie: json.NewTrie(), depth: d} }

// machine runs the closures of one stage over one document at a time.
type machine struct {
	doc   []byte
	slots []json.Slot
	scan  *json.Scanner

	topic     string
	partition int32
	rec       *record.Record

	lets    []value
	frames  []frame
	args    []value   // of calls that are under way: a stack
	other   value     // what a numFn met that is not a number
	seen    []bool    // of set: fields that the event has, a stack
	buf     []byte    // text made for this record
	scratch []byte    // text under way
	nums    []float64 // numbers under way
	pairs   []keyed   // what is being sorted
	hashes  map[*site]*keyedState
	steps   int     // work done for this record
	made    int     // elements made for this record
	vals    []value // elements made for this record
	enc     encoder

	err Error
}

// frame is one predicate under way.
type frame struct {
	elem, acc value
	index     int64
}

const (
	keepText   = 1 << 20 // of buf, from one record to the next
	keepValues = 1 << 14
)

func (st *stage) machine() *machine {
	m := &machine{scan: json.NewScanner(st.trie, st.depth), lets: make([]value, st.lets), frames: make([]frame, st.frames)}
	m.slots = m.scan.Slots
	return m
}

// begin forgets what the record before left.
func (m *machine) begin() {
	if cap(m.buf) > keepText {
		m.buf = nil
	}
	if cap(m.scratch) > keepText {
		m.scratch = nil
	}
	if cap(m.nums)+cap(m.pairs) > keepValues {
		m.nums, m.pairs = nil, nil
	}
	if cap(m.vals) > keepValues {
		m.vals = nil
	}
	m.steps, m.made = 0, 0
	m.buf, m.vals, m.args = m.buf[:0], m.vals[:0], m.args[:0]
	m.enc.begin()
}

// site is where in an expression a closure comes from.
type site struct {
	expr *ir.Expr
	span ir.Span
}

// fail notes an error and gives the value that stands for it.
func (m *machine) fail(st *site, code, text string) value {
	m.err = Error{Code: code, Text: text}
	if st != nil {
		m.err.Range = st.expr.Text.At(st.span.Start, st.span.End)
	}
	return value{k: kErr}
}

// wrongType is the error of a value that is not what is wanted.
func (m *machine) wrongType(st *site, v value, want string) value {
	return m.fail(st, ir.CodeType, "This must be "+want+", and it is "+m.show(v)+".")
}

// show describes a value in messages: what it is, and a short one itself.
// Text is not shown, since it may be what nobody may see.
func (m *machine) show(v value) string { return aKind[v.k] }

// text gives a string's bytes, its escapes decoded.
func (m *machine) text(v value) []byte {
	if v.aux&escaped == 0 {
		return v.s
	}
	at := len(m.buf)
	m.buf = json.Unescape(m.buf, v.s)
	return m.buf[at:len(m.buf):len(m.buf)]
}

// keep gives the text that was appended to buf from at on.
func (m *machine) keep(at int) []byte { return m.buf[at:len(m.buf):len(m.buf)] }

// room gives memory for up to n values: an empty slice to append to.
func (m *machine) room(n int) []value {
	m.made += n
	if len(m.vals)+n > cap(m.vals) {
		m.vals = make([]value, 0, max(2*cap(m.vals), n, 64))
	}
	at := len(m.vals)
	m.vals = m.vals[:at+n]
	return m.vals[at : at : at+n]
}

// elements gives the elements of a list.
func (m *machine) elements(v value) []value {
	if v.s == nil {
		return v.l
	}
	m.steps += len(v.s) >> 4
	n := 0
	for it := json.Over(v.s); it.Next(); {
		n++
	}
	l := m.room(n)
	for it := json.Over(v.s); it.Next(); {
		l = append(l, fromRaw(it.Value))
	}
	return l
}

// members gives the names and values of an object in turn, each name once:
// at its first place, with its last value.
func (m *machine) members(v value) []value {
	if v.s == nil {
		return v.l
	}
	m.steps += len(v.s) >> 4
	n := 0
	for it := json.Over(v.s); it.Next(); {
		n++
	}
	l := m.room(2 * n)
	for it := json.Over(v.s); it.Next(); {
		name := it.Key
		if it.Escaped {
			at := len(m.buf)
			m.buf = it.AppendKey(m.buf)
			name = m.keep(at)
		}
		l = append(l, stringValue(name), fromRaw(it.Value))
	}
	return distinct(l)
}

// distinct merges repeated names, in place.
func distinct(l []value) []value {
	if len(l) > 64 {
		return distinctMany(l)
	}
	out := l[:0]
next:
	for i := 0; i < len(l); i += 2 {
		for j := 0; j < len(out); j += 2 {
			if string(out[j].s) == string(l[i].s) {
				out[j+1] = l[i+1]
				continue next
			}
		}
		out = append(out, l[i], l[i+1])
	}
	return out
}

func distinctMany(l []value) []value {
	at := make(map[string]int, len(l)/2)
	out := l[:0]
	for i := 0; i < len(l); i += 2 {
		if j, ok := at[string(l[i].s)]; ok {
			out[j+1] = l[i+1]
			continue
		}
		at[string(l[i].s)] = len(out)
		out = append(out, l[i], l[i+1])
	}
	return out
}

// named gives a member of an object, nil if there is none.
func (m *machine) named(v value, name []byte) value {
	if v.s == nil {
		for i := 0; i < len(v.l); i += 2 {
			if string(v.l[i].s) == string(name) {
				return v.l[i+1]
			}
		}
		return value{}
	}
	m.steps += len(v.s) >> 4
	var found []byte
	for it := json.Over(v.s); it.Next(); {
		key := it.Key
		if it.Escaped {
			at := len(m.buf)
			m.buf = it.AppendKey(m.buf)
			key = m.buf[at:]
			m.buf = m.buf[:at]
		}
		if string(key) == string(name) {
			found = it.Value
		}
	}
	if found == nil {
		return value{}
	}
	return fromRaw(found)
}

func sortedKeys(x map[string]any) []string {
	keys := make([]string, 0, len(x))
	for k := range x {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
