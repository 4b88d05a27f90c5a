package rows

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"

	"keystone/dsl/types"
	"keystone/pipeline/json"
)

// Code is why an event does not fit.
type Code string

// The codes.
const (
	CodeJSON    Code = "json"    // it is no valid JSON object
	CodeMissing Code = "missing" // a field that is not optional is missing or null
	CodeType    Code = "type"    // a value has another type
	CodeRange   Code = "range"   // a value is too large or too fine for its type
	CodeFormat  Code = "format"  // a text is not of the form of its type
)

// RowError says that an event does not fit the columns. The writer is as it was before.
type RowError struct {
	Column string // path of the field, "" for the event
	Code   Code
	Text   string // what is wrong, without the value
}

func (e *RowError) Error() string {
	if e.Column == "" {
		return e.Text
	}
	return e.Column + ": " + e.Text
}

// Parser holds what is learnt of the order of the events' keys, and memory for taking
// them apart. All writers of a schema that one goroutine appends to may share one.
type Parser struct {
	schema   *Schema
	scanners []*json.Scanner
	members  []members // by nesting of maps
	maps     int       // how many maps the value is in
	text     []byte
}

// NewParser makes a parser for events of the schema.
func (s *Schema) NewParser() *Parser {
	p := &Parser{schema: s, scanners: make([]*json.Scanner, len(s.scopes))}
	for i, sc := range s.scopes {
		depth := json.Full
		if i > 0 {
			depth = json.Lazy // the event's scan has checked it
		}
		p.scanners[i] = json.NewScanner(sc.trie, depth)
	}
	return p
}

// fail remembers why an event does not fit.
func (w *Writer) fail(n *node, code Code, format string, args ...any) bool {
	w.fault = &RowError{Column: n.shown(), Code: code, Text: fmt.Sprintf(format, args...)}
	return false
}

// put appends a value, whose place in the doc is in s; slots are those of its scope. It gives
// false when the value does not fit.
func (w *Writer) put(n *node, doc []byte, s json.Slot, slots []json.Slot, rep uint8) bool {
	if s.Kind <= json.Null {
		return w.null(n, s, rep)
	}
	switch n.shape {
	case leafShape:
		return w.leaf(n, doc, s, rep)
	case objectShape:
		if s.Kind != json.Object {
			return w.fail(n, CodeType, "It must be an object, and is %s.", s.Kind)
		}
		for _, f := range n.fields {
			if !w.put(f, doc, slots[f.slot], slots, rep) {
				return false
			}
		}
		return true
	case listShape:
		if s.Kind != json.Array {
			return w.fail(n, CodeType, "It must be a list, and is %s.", s.Kind)
		}
		return w.list(n, s.Raw(doc), rep)
	}
	if s.Kind != json.Object {
		return w.fail(n, CodeType, "It must be an object, and is %s.", s.Kind)
	}
	return w.dict(n, s.Raw(doc), rep)
}

func (w *Writer) null(n *node, s json.Slot, rep uint8) bool {
	if !n.optional {
		if s.Kind == json.Null {
			return w.fail(n, CodeMissing, "It is null, and the field is not optional.")
		}
		return w.fail(n, CodeMissing, "It is missing, and the field is not optional.")
	}
	w.absent(n, rep, n.def-1)
	return true
}

// absent writes the level up to which the path of all leaves below n is there.
func (w *Writer) absent(n *node, rep, def uint8) {
	for i := n.first; i < n.end; i++ {
		w.columns[i].level(w, rep, def)
	}
}

func (w *Writer) list(n *node, raw []byte, rep uint8) bool {
	it := json.Over(raw)
	some := false
	for it.Next() {
		if !w.element(n, it.Value, rep) {
			return false
		}
		rep, some = n.rep+1, true
	}
	if !some {
		w.absent(n, rep, n.def)
	}
	return true
}

// element appends an element of a list, or a value of a map.
func (w *Writer) element(n *node, raw []byte, rep uint8) bool {
	s := json.Slot{End: uint32(len(raw)), Kind: json.KindOf(raw)}
	if s.Kind == json.String {
		s.Marked = escaped(raw)
	}
	var slots []json.Slot
	if n.scope > 0 && s.Kind == json.Object {
		sc := w.parser.scanners[n.scope]
		if err := sc.Scan(raw); err != nil {
			return w.fail(n, CodeJSON, "%v", err)
		}
		slots = sc.Slots
	}
	return w.put(n.elem, raw, s, slots, rep)
}

func escaped(raw []byte) bool {
	for _, c := range raw {
		if c == '\\' {
			return true
		}
	}
	return false
}

// leaf appends a value that is there.
func (w *Writer) leaf(n *node, doc []byte, s json.Slot, rep uint8) bool {
	c := &w.columns[n.first]
	c.level(w, rep, n.def)
	switch n.form {
	case formString:
		if s.Kind != json.String {
			return w.fail(n, CodeType, "It must be a string, and is %s.", s.Kind)
		}
		c.values = w.string(c.values, doc[s.Start+1:s.End-1], s.Marked)
	case formInt:
		num, ok := w.integer(n, doc, s)
		if !ok {
			return false
		}
		c.values = binary.LittleEndian.AppendUint64(w.room(c.values, 8), uint64(num))
	case formFloat:
		if s.Kind != json.Number {
			return w.fail(n, CodeType, "It must be a float, and is %s.", s.Kind)
		}
		num, ok := json.NumberOf(doc[s.Start:s.End])
		if !ok {
			return w.fail(n, CodeRange, "The number is beyond what a float holds.")
		}
		f := num.Float
		if !num.IsFloat {
			f = float64(num.Int)
		}
		c.values = binary.LittleEndian.AppendUint64(w.room(c.values, 8), math.Float64bits(f))
	case formBool:
		if s.Kind != json.True && s.Kind != json.False {
			return w.fail(n, CodeType, "It must be a bool, and is %s.", s.Kind)
		}
		c.values = append(w.room(c.values, 1), byte(s.Kind-json.False))
	case formTimestamp:
		return w.timestamp(n, c, doc, s)
	case formDate:
		text, ok := w.text(n, doc, s)
		if !ok {
			return false
		}
		days, fault := parseDate(text)
		if fault != timeFits {
			return w.notTime(n, fault, "a date, as in 2006-01-02")
		}
		c.values = binary.LittleEndian.AppendUint32(w.room(c.values, 4), uint32(days))
	case formDecimal:
		return w.decimal(n, c, doc, s)
	case formBytes:
		return w.base64(n, c, doc, s)
	case formJSON:
		raw := doc[s.Start:s.End]
		c.values = binary.LittleEndian.AppendUint32(w.room(c.values, 4+len(raw)), uint32(len(raw)))
		c.values = append(c.values, raw...)
	}
	return true
}

// string appends a text with its length in front.
func (w *Writer) string(dst, raw []byte, escapes bool) []byte {
	dst = w.room(dst, 4+len(raw))
	at := len(dst)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(raw)))
	if !escapes {
		return append(dst, raw...)
	}
	dst = json.Unescape(dst, raw)
	binary.LittleEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	return dst
}

func (w *Writer) integer(n *node, doc []byte, s json.Slot) (int64, bool) {
	if s.Kind != json.Number {
		return 0, w.fail(n, CodeType, "It must be %s, and is %s.", n.typ(), s.Kind)
	}
	num, ok := json.NumberOf(doc[s.Start:s.End])
	switch {
	case ok && !num.IsFloat:
		return num.Int, true
	case s.Marked || marked(doc[s.Start:s.End]):
		return 0, w.fail(n, CodeType, "It must be %s, and the number is written with a fraction or an exponent.", n.typ())
	}
	return 0, w.fail(n, CodeRange, "The number does not fit 64 bits.")
}

// marked tells a number with a fraction or an exponent.
func marked(raw []byte) bool {
	for _, c := range raw {
		if c == '.' || c|0x20 == 'e' {
			return true
		}
	}
	return false
}

// text gives the text of a value that must be one, valid until the next call.
func (w *Writer) text(n *node, doc []byte, s json.Slot) ([]byte, bool) {
	if s.Kind != json.String {
		return nil, w.fail(n, CodeType, "It must be %s, and is %s.", n.typ(), s.Kind)
	}
	raw := doc[s.Start+1 : s.End-1]
	if s.Marked {
		w.parser.text = json.Unescape(w.parser.text[:0], raw)
		raw = w.parser.text
	}
	return raw, true
}

func (w *Writer) timestamp(n *node, c *column, doc []byte, s json.Slot) bool {
	var micros int64
	if n.kind == types.TimestampMs && !n.bothTimes || n.bothTimes && s.Kind == json.Number {
		ms, ok := w.integer(n, doc, s)
		if !ok {
			return false
		}
		if ms < firstSecond*1000 || ms > lastSecond*1000+999 {
			return w.notTime(n, timeRange, "")
		}
		micros = ms * 1000
	} else {
		text, ok := w.text(n, doc, s)
		if !ok {
			return false
		}
		var fault timeFault
		if micros, fault = parseTimestamp(text); fault != timeFits {
			return w.notTime(n, fault, "a time, as in 2006-01-02T15:04:05Z")
		}
	}
	c.values = binary.LittleEndian.AppendUint64(w.room(c.values, 8), uint64(micros))
	return true
}

func (w *Writer) notTime(n *node, fault timeFault, what string) bool {
	if fault == timeRange {
		return w.fail(n, CodeRange, "The time is not between the years 0001 and 9999.")
	}
	return w.fail(n, CodeFormat, "The text is not %s.", what)
}

func (w *Writer) decimal(n *node, c *column, doc []byte, s json.Slot) bool {
	if s.Kind != json.Number {
		return w.fail(n, CodeType, "It must be %s, and is %s.", n.typ(), s.Kind)
	}
	d, fault := parseDecimal(doc[s.Start:s.End], n.precision, n.scale)
	switch fault {
	case decimalLarge:
		return w.fail(n, CodeRange, "The number has more digits before the point than %s.", n.typ())
	case decimalFine:
		return w.fail(n, CodeRange, "The number has more digits behind the point than %s; round(…, %d) cuts them.", n.typ(), n.scale)
	}
	c.values = d.append(w.room(c.values, c.width), c.width)
	return true
}

func (w *Writer) base64(n *node, c *column, doc []byte, s json.Slot) bool {
	text, ok := w.text(n, doc, s)
	if !ok {
		return false
	}
	values := w.room(c.values, 4+base64.StdEncoding.DecodedLen(len(text)))
	at := len(values)
	values = append(values, 0, 0, 0, 0)
	values, err := strict.AppendDecode(values, text)
	c.values = values
	if err != nil {
		return w.fail(n, CodeFormat, "The text is not base64.")
	}
	binary.LittleEndian.PutUint32(c.values[at:], uint32(len(c.values)-at-4))
	return true
}

var strict = base64.StdEncoding.Strict()
