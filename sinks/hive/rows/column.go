package rows

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

// column is a leaf of a writer: the page that is being filled, in plain
// encoding, and the pages of the row group that are encoded.
type column struct {
	n     *node
	width int

	// The page.
	values  []byte // PLAIN, but that a bool is a byte
	defs    []byte // definition levels; none while all values of a column that is not repeated are there
	reps    []byte // repetition levels, of a repeated column
	levels  int    // how many of both
	present int    // how many have a value
	rows    int    // of the row group, with the one that is being appended
	mark    mark   // where its last row begins

	// The chunk.
	pages        [][]byte // with their headers
	size         int      // of the pages
	uncompressed int
	plainPages   int
	dictPages    int
	total        int // levels in pages
	nulls        int
	mode         mode
	dict         *dictionary
	bounds       bounds
}

// mark is where a row begins in a page.
type mark struct{ values, levels, present int }

// mode is how the next page of a chunk is encoded.
type mode uint8

const (
	undecided mode = iota // the first page decides
	dictMode
	plainMode
)

// level begins a value: one that is there has its node's level, def is n.def.
func (c *column) level(w *Writer, rep, def uint8) {
	if rep == 0 {
		c.mark = mark{len(c.values), c.levels, c.present}
		c.rows++
	}
	if c.n.rep > 0 {
		c.reps = append(w.room(c.reps, 1), rep)
		c.defs = append(w.room(c.defs, 1), def)
	} else if c.n.def > 0 && (def < c.n.def || c.defs != nil) {
		c.flatLevel(w, def)
	}
	c.levels++
	if def == c.n.def {
		c.present++
	}
}

// flatLevel writes levels of a column that is not repeated, from its first null on.
func (c *column) flatLevel(w *Writer, def uint8) {
	if c.defs == nil {
		c.defs = w.room(nil, c.levels+1)
		for range c.levels {
			c.defs = append(c.defs, c.n.def)
		}
	}
	c.defs = append(w.room(c.defs, 1), def)
}

// undo takes back the row that began at the mark.
func (c *column) undo() {
	c.values, c.levels, c.present = c.values[:c.mark.values], c.mark.levels, c.mark.present
	if c.defs != nil {
		c.defs = c.defs[:c.levels]
	}
	if c.reps != nil {
		c.reps = c.reps[:c.levels]
	}
	c.rows--
}

// pageSize is how large the open page is.
func (c *column) pageSize() int { return len(c.values) + len(c.defs) + len(c.reps) }

// held is the memory of the column.
func (c *column) held() int {
	n := cap(c.values) + cap(c.defs) + cap(c.reps) + c.size + cap(c.bounds.minB) + cap(c.bounds.maxB)
	if c.dict != nil {
		n += c.dict.held()
	}
	return n
}

// When a dictionary pays. It has to be read whole before the first value, so
// it is bounded; and of values that hardly repeat, plain ones compress better.
const (
	repeatsMin   = 4       // one in so many of the first page's second half may be new
	entriesBytes = 1 << 20 // beyond it, further pages are plain
)

// closePage encodes the open page.
func (c *column) closePage(w *Writer, e *encoder) {
	if c.levels == 0 {
		return
	}
	page := e.page[:0]
	if c.n.rep > 0 {
		page = appendLevels(page, c.reps, c.n.rep)
	}
	if c.n.def > 0 {
		if c.defs != nil {
			page = appendLevels(page, c.defs, c.n.def)
		} else {
			at := len(page)
			page = appendRun(append(page, 0, 0, 0, 0), c.levels, uint32(c.n.def), bits.Len8(c.n.def))
			binary.LittleEndian.PutUint32(page[at:], uint32(len(page)-at-4))
		}
	}
	encoding := c.decide(e)
	switch {
	case encoding == encodingDictionary:
		width := c.dict.bitWidth()
		page = appendRuns(append(page, byte(width)), e.ids, width)
		c.dictPages++
	case c.n.form == formBool:
		page = appendBits(page, c.values)
		c.bounds.plain(c.n, c.values)
		c.plainPages++
	default:
		page = append(page, c.values...)
		c.bounds.plain(c.n, c.values)
		c.plainPages++
	}
	e.page = page
	c.keep(e.compress(w.opts.Compression, page), e, c.levels, encoding, len(page))

	c.total += c.levels
	c.nulls += c.levels - c.present
	w.pool.put(c.values)
	w.pool.put(c.defs)
	w.pool.put(c.reps)
	c.values, c.defs, c.reps, c.levels, c.present = nil, nil, nil, 0, 0
}

// keep holds an encoded page until the row group is written.
func (c *column) keep(body []byte, e *encoder, levels int, encoding int32, uncompressed int) {
	e.header = appendDataHeader(e.header[:0], body, levels, encoding, uncompressed)
	data := make([]byte, len(e.header)+len(body))
	copy(data[copy(data, e.header):], body)
	c.pages = append(c.pages, data)
	c.size += len(data)
	c.uncompressed += len(e.header) + uncompressed
}

// decide gives the encoding of the open page; for one with a dictionary, the numbers of its
// values are in e.ids then.
func (c *column) decide(e *encoder) int32 {
	if c.mode == plainMode || c.n.form == formBool || c.present == 0 {
		return encodingPlain
	}
	if c.mode == undecided {
		c.dict = newDictionary(c.width)
		if !c.sample(e) {
			c.dict, c.mode = nil, plainMode
			return encodingPlain
		}
		c.mode = dictMode
		return encodingDictionary
	}
	before := len(c.dict.entries)
	e.ids, _ = c.dict.ids(e.ids[:0], c.values, 1<<31-1)
	size := len(c.dict.entries) - before + c.present*c.dict.bitWidth()/8
	if len(c.dict.entries) > entriesBytes || size > len(c.values)*3/4 {
		c.mode = plainMode // from the next page on: this one is encoded already
	}
	return encodingDictionary
}

// sample tries a dictionary on the first page of a chunk.
func (c *column) sample(e *encoder) bool {
	var ok bool
	if e.ids, ok = c.dict.ids(e.ids[:0], c.values, max(c.present/2, 1)); !ok {
		return false
	}
	if len(c.dict.entries)+c.present*c.dict.bitWidth()/8 > len(c.values)*3/4 {
		return false
	}
	// What counts is how much is still new later on: numbers are given in order.
	half := len(e.ids) / 2
	if half == 0 {
		return true
	}
	before := int(slices.Max(e.ids[:half])) + 1
	return (c.dict.len()-before)*repeatsMin <= len(e.ids)-half
}

// reset begins a new chunk.
func (c *column) reset() {
	c.pages, c.size, c.uncompressed, c.plainPages, c.dictPages, c.total, c.nulls, c.rows = nil, 0, 0, 0, 0, 0, 0, 0
	c.mode, c.dict, c.bounds = undecided, nil, bounds{}
}

// appendLevels appends levels with their length in front.
func appendLevels(dst, levels []byte, most uint8) []byte {
	at := len(dst)
	dst = appendRuns(append(dst, 0, 0, 0, 0), levels, bits.Len8(most))
	binary.LittleEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	return dst
}

// appendBits packs bools.
func appendBits(dst, values []byte) []byte {
	for len(values) > 0 {
		var b byte
		n := min(8, len(values))
		for i, v := range values[:n] {
			b |= v << i
		}
		dst = append(dst, b)
		values = values[n:]
	}
	return dst
}
