package json

// Depth says how much of a document a Scanner checks.
type Depth uint8

const (
	// Full checks all of it.
	Full Depth = iota
	// Lazy checks what is wanted and, of the rest, that brackets and quotes close.
	Lazy
)

// Scanner finds the paths of a Trie in documents, one after the other. It
// learns the order of keys from the documents it has seen and tries that
// first. One goroutine at a time.
type Scanner struct {
	// Slots has, after a Scan, where the value of each path of the Trie is.
	// They are indices into the scanned document.
	Slots []Slot

	trie   *Trie
	lazy   []bool // by path: whether members that no path leads to go unchecked
	orders []order
	buf    []byte // for decoding keys
	err    SyntaxError
}

// NewScanner makes a scanner for the paths of t.
func NewScanner(t *Trie, d Depth) *Scanner {
	s := &Scanner{trie: t, Slots: make([]Slot, t.Len()), orders: make([]order, t.Len()), lazy: make([]bool, t.Len())}
	for id := range t.nodes { // parents come before their children
		n := &t.nodes[id]
		s.lazy[id] = d == Lazy && !n.wanted && (n.parent < 0 || s.lazy[n.parent])
	}
	return s
}

// Trie gives the paths that the scanner finds.
func (s *Scanner) Trie() *Trie { return s.trie }

// Clear makes all paths missing.
func (s *Scanner) Clear() { clear(s.Slots) }

// Scan finds the paths in a document, which must be one JSON object. The
// error, a *SyntaxError, is valid until the next Scan; the slots mean nothing then.
func (s *Scanner) Scan(doc []byte) error {
	clear(s.Slots)
	if len(doc) > MaxBytes {
		s.err = SyntaxError{what: errTooLarge}
		return &s.err
	}
	i := 0
	if len(doc) == 0 || doc[0] != '{' {
		i = space(doc, 0)
		if i >= len(doc) || doc[i] != '{' {
			return s.notObject(doc, i)
		}
	}
	end := s.object(doc, i+1, 0, 1)
	if end >= 0 {
		s.Slots[0] = Slot{Start: uint32(i), End: uint32(end), Kind: Object}
		if end < len(doc) {
			if end = space(doc, end); end < len(doc) {
				end = fail(end, errTrailing)
			}
		}
	}
	if end < 0 {
		at, what := problemOf(end)
		s.err = SyntaxError{Offset: at, what: what}
		return &s.err
	}
	return nil
}

func (s *Scanner) notObject(doc []byte, i int) error {
	s.err = SyntaxError{Offset: i, what: errNotObject}
	if i >= len(doc) {
		s.err.what = errEnd
	}
	return &s.err
}

// object reads an object that some path leads to or through, from after its
// opening brace on.
func (s *Scanner) object(doc []byte, i int, id int32, depth int) int {
	if depth > MaxDepth {
		return fail(i-1, errDepth)
	}
	o, lazy := &s.orders[id], s.lazy[id]
	at := int32(-1) // the key before, as the order knows it
	first := true
	for {
		var child int32
		next := o.first
		if at >= 0 {
			next = o.keys[at].next
		}
		if uint(next) < uint(len(o.keys)) {
			k := &o.keys[next]
			if i+16 <= len(doc) && k.n <= 16 {
				if k.begins(doc, i) {
					at, child = next, k.child
					i += int(k.n)
					goto known
				}
			} else if k.match(doc, i) {
				at, child = next, k.child
				i += int(k.n)
				goto known
			}
		}
		if first {
			if j := space(doc, i); j < len(doc) && doc[j] == '}' {
				return j + 1
			}
		}
		if i, child, at = s.key(doc, i, id, at); i < 0 {
			return i
		}
	known:
		first = false
		switch {
		case child >= 0:
			i = s.value(doc, i, child, depth)
		case lazy:
			_, i = skipValue(doc, i, depth)
		case i < len(doc) && doc[i] == '"':
			i, _ = checkString(doc, i+1)
		default:
			_, i, _, _ = checkValue(doc, i, depth)
		}
		if i < 0 {
			return i
		}
		if i < len(doc) && doc[i] == ',' {
			i++
			continue
		}
		i = space(doc, i)
		if i >= len(doc) {
			return fail(i, errEnd)
		}
		switch doc[i] {
		case ',':
			i++
		case '}':
			return i + 1
		default:
			return fail(i, errComma)
		}
	}
}

// key reads a key that was not foreseen, up to its value, and remembers it as
// what follows the key at of the order.
func (s *Scanner) key(doc []byte, i int, id, at int32) (value int, child, now int32) {
	begin := i
	i = space(doc, i)
	if i >= len(doc) {
		return fail(i, errEnd), 0, 0
	}
	if doc[i] != '"' {
		return fail(i, errKey), 0, 0
	}
	end, escaped := checkString(doc, i+1)
	if end < 0 {
		return end, 0, 0
	}
	name := doc[i+1 : end-1]
	if escaped {
		s.buf = Unescape(s.buf[:0], name)
		name = s.buf
	}
	child = s.trie.field(id, name)
	if value = colon(doc, end); value < 0 {
		return value, 0, 0
	}
	if value < len(doc) && doc[value] == ' ' {
		value++
	}
	return value, child, s.orders[id].learn(at, doc[begin:value], child)
}

// value reads a value that some path leads to or through.
func (s *Scanner) value(doc []byte, i int, id int32, depth int) int {
	slot := &s.Slots[id]
	if slot.Kind != Missing { // a repeated key
		s.forget(id)
	}
	if i < len(doc) && doc[i] <= ' ' {
		i = space(doc, i)
	}
	n := &s.trie.nodes[id]
	if i < len(doc) {
		switch doc[i] {
		case '{':
			if len(n.fields) == 0 {
				break
			}
			end := s.object(doc, i+1, id, depth+1)
			*slot = Slot{Start: uint32(i), End: uint32(end), Kind: Object}
			return end
		case '[':
			if len(n.indices) == 0 {
				break
			}
			end := s.array(doc, i+1, id, depth+1)
			*slot = Slot{Start: uint32(i), End: uint32(end), Kind: Array}
			return end
		case '"':
			end, marked := checkString(doc, i+1)
			*slot = Slot{Start: uint32(i), End: uint32(end), Kind: String, Marked: marked}
			return end
		}
	}
	start, end, k, marked := checkValue(doc, i, depth)
	*slot = Slot{Start: uint32(start), End: uint32(end), Kind: k, Marked: marked}
	return end
}

// array reads a list of which some elements are wanted, from after its opening bracket on.
func (s *Scanner) array(doc []byte, i int, id int32, depth int) int {
	if depth > MaxDepth {
		return fail(i-1, errDepth)
	}
	if j := space(doc, i); j < len(doc) && doc[j] == ']' {
		return j + 1
	}
	for k := 0; ; k++ {
		if child := s.trie.index(id, k); child >= 0 {
			i = s.value(doc, i, child, depth)
		} else if !s.lazy[id] {
			_, i, _, _ = checkValue(doc, i, depth)
		} else {
			_, i = skipValue(doc, i, depth)
		}
		if i < 0 {
			return i
		}
		i = space(doc, i)
		if i >= len(doc) {
			return fail(i, errEnd)
		}
		switch doc[i] {
		case ',':
			i++
		case ']':
			return i + 1
		default:
			return fail(i, errComma)
		}
	}
}

// forget makes the path and all below it missing.
func (s *Scanner) forget(id int32) {
	s.Slots[id] = Slot{}
	n := &s.trie.nodes[id]
	for _, c := range n.fields {
		if s.Slots[c].Kind != Missing {
			s.forget(c)
		}
	}
	for _, c := range n.indices {
		if s.Slots[c].Kind != Missing {
			s.forget(c)
		}
	}
}
