// Package eval compiles checked trees into programs over the raw bytes of
// events: the used paths are found in one scan into slots, closures typed at
// compile time run over the slots, output is appended from raw slices. No map
// of the event is ever built and nothing is allocated per event. What
// expressions mean is written in dsl/ir (values.go).
package eval

import (
	"strconv"
	"time"

	"keystone/configs/diag"
	"keystone/dsl/ir"
	"keystone/pipeline/json"
	"keystone/pipeline/record"
)

// Verdict is what a program decided about one record.
type Verdict uint8

const (
	// Passed: outputs were appended (none, if explode found an empty list, or several).
	Passed Verdict = iota
	// Filtered: a condition was not true.
	Filtered
	// Dropped: a null value whose policy is to drop it.
	Dropped
	// Failed: nothing was appended; the error says why.
	Failed
)

// Error is why a record could not be evaluated. Code is short and stable
// (ir.CodeDecode and those beside it, or that of a record.Defect). Text never
// shows values of the event.
type Error struct {
	Code  string
	Text  string
	Range diag.Range // of the token in the configuration; zero for a decode error
}

// Error gives the text and where it happened.
func (e *Error) Error() string {
	if e.Range.IsZero() {
		return e.Text
	}
	return e.Range.String() + ": " + e.Text
}

// maxBuilt bounds the bytes that one record may become.
const maxBuilt = 256 << 20

// Eval runs a program; one goroutine at a time. It reuses its memory.
type Eval struct {
	// Violations counts fields that the schema requires, that the program
	// reads and that were missing or null in a record.
	Violations int64

	p             *Program
	in, each, out *machine
	built         []byte // events with one element, that a projection reads
	total         int    // bytes built for the record
}

// NewEval makes an evaluator of the program.
func (p *Program) NewEval() *Eval {
	e := &Eval{p: p, in: p.in.machine()}
	e.each, e.out = e.in, e.in
	if p.each != p.in {
		e.each = p.each.machine()
		e.out = e.each
	}
	if p.out != p.each {
		e.out = p.out.machine()
	}
	return e
}

// Run evaluates record i of in and appends what comes of it to out: records
// whose Source is i, with memory in out.Buf or in's own (so in must live as
// long as out). The error is only valid with Failed, until the next Run.
func (e *Eval) Run(in *record.Batch, i int, out *record.Batch) (Verdict, *Error) {
	rec := &in.Records[i]
	m := e.in
	m.begin()
	m.topic, m.partition, m.rec = in.Topic, in.Partition, rec
	if rec.Bad != record.Whole {
		m.err = Error{Code: rec.Bad.String(), Text: "The source could not give the record whole."}
		return Failed, &m.err
	}
	if e.p.scans {
		if err := m.read(rec.Value); err != nil {
			return Failed, err
		}
		if rec.Value != nil {
			e.countViolations()
		}
	}
	for _, f := range e.p.filter {
		switch f(m) {
		case triTrue:
		case triErr:
			return Failed, &m.err
		default:
			return Filtered, nil
		}
	}
	if rec.Value == nil && (e.p.tombstones == ir.TombstonesDrop) {
		return Dropped, nil
	}
	mark := markOf(out)
	e.total = 0
	var err *Error
	if e.p.explode != nil && (rec.Value != nil || e.p.tombstones == ir.TombstonesProject) {
		err = e.explode(int32(i), out)
	} else {
		err = e.emit(m, int32(i), rec.Value, out)
	}
	if err != nil {
		mark.restore(out)
		return Failed, err
	}
	return Passed, nil
}

// read scans a document; nil is one without fields.
func (m *machine) read(doc []byte) *Error {
	m.doc = doc
	if doc == nil {
		m.scan.Clear()
		return nil
	}
	if err := m.scan.Scan(doc); err != nil {
		m.err = Error{Code: ir.CodeDecode, Text: err.Error()}
		return &m.err
	}
	return nil
}

func (e *Eval) countViolations() {
	m := e.in
	for _, id := range e.p.in.required {
		if m.slots[id].Kind <= json.Null && m.slots[m.scan.Trie().Parent(id)].Kind == json.Object {
			e.Violations++
		}
	}
}

// emit appends the output of the event that m has read. doc is its bytes, nil for a tombstone.
func (e *Eval) emit(m *machine, source int32, doc []byte, out *record.Batch) *Error {
	p := e.p
	ok := true
	val := doc
	if doc != nil || p.tombstones == ir.TombstonesProject {
		at := len(out.Buf)
		switch {
		case p.project != nil:
			out.Buf, ok = p.project(m, out.Buf)
			val = out.Buf[at:len(out.Buf):len(out.Buf)]
		case p.edit != nil:
			out.Buf, ok = m.edited(out.Buf, p.edit)
			val = out.Buf[at:len(out.Buf):len(out.Buf)]
		}
		if e.total += len(out.Buf) - at; ok && e.total > maxBuilt {
			m.fail(nil, ir.CodeLimit, "What one record becomes is larger than "+strconv.Itoa(maxBuilt)+" bytes.")
			ok = false
		}
	}
	if !ok {
		return &m.err
	}
	rec := record.Record{Offset: e.in.rec.Offset, Timestamp: e.in.rec.Timestamp, Key: e.in.rec.Key, Value: val, Headers: e.in.rec.Headers, Source: source}
	if p.key != nil || len(p.headers)+len(p.derived) > 0 {
		if err := e.address(m, &rec, out); err != nil {
			return err
		}
	}
	out.Bytes += len(rec.Key) + len(rec.Value)
	for i := range rec.Headers {
		out.Bytes += len(rec.Headers[i].Key) + len(rec.Headers[i].Value)
	}
	out.Records = append(out.Records, rec)
	return nil
}

// edited appends the document with its edits.
func (m *machine) edited(dst []byte, ed *edit) ([]byte, bool) {
	s := m.slots[0]
	if s.Kind == json.Missing {
		return m.appendNew(dst, ed)
	}
	dst = append(dst, m.doc[:s.Start]...)
	dst, ok := m.appendEdited(dst, m.doc[s.Start:s.End], ed)
	return append(dst, m.doc[s.End:]...), ok
}

// address sets what the route and the sink want to know of the output event.
func (e *Eval) address(m *machine, rec *record.Record, out *record.Batch) *Error {
	p, o := e.p, e.out
	if o != m {
		o.begin()
		o.topic, o.partition, o.rec = m.topic, m.partition, m.rec
		if p.out.reads {
			if err := o.read(rec.Value); err != nil {
				return err
			}
		}
	}
	if p.key != nil {
		v := p.key(o)
		var ok bool
		if rec.Key, ok = o.textInto(out, v, part{typ: p.keyType, st: p.keyAt}); !ok {
			return &o.err
		}
	}
	if len(p.headers) > 0 {
		if err := e.setHeaders(o, rec, out); err != nil {
			return err
		}
	}
	if len(p.derived) == 0 {
		return nil
	}
	at := len(out.DerivedBuf)
	for i := range p.derived {
		b, ok := o.derive(out, &p.derived[i])
		if !ok {
			return &o.err
		}
		out.DerivedBuf = append(out.DerivedBuf, b)
	}
	rec.Derived = out.DerivedBuf[at:len(out.DerivedBuf):len(out.DerivedBuf)]
	return nil
}

func (e *Eval) setHeaders(o *machine, rec *record.Record, out *record.Batch) *Error {
	at := len(out.HeaderBuf)
next:
	for _, h := range rec.Headers {
		for i := range e.p.headers {
			if e.p.headers[i].name == h.Key {
				continue next
			}
		}
		out.HeaderBuf = append(out.HeaderBuf, h)
	}
	for i := range e.p.headers {
		h := &e.p.headers[i]
		b, ok := o.textInto(out, h.val(o), part{typ: h.typ, st: h.st})
		if !ok {
			return &o.err
		}
		if b != nil {
			out.HeaderBuf = append(out.HeaderBuf, record.Header{Key: h.name, Value: b})
		}
	}
	rec.Headers = out.HeaderBuf[at:len(out.HeaderBuf):len(out.HeaderBuf)]
	return nil
}

// textInto writes a value as text into the batch's memory; nil gives nil.
func (m *machine) textInto(out *record.Batch, v value, p part) ([]byte, bool) {
	if v.k == kNil || v.k == kErr {
		return nil, v.k == kNil
	}
	at := len(out.Buf)
	var ok bool
	out.Buf, ok = m.appendPart(out.Buf, v, p)
	if len(out.Buf) == at {
		return []byte{}, ok // empty is not nil
	}
	return out.Buf[at:len(out.Buf):len(out.Buf)], ok
}

func (m *machine) appendPart(dst []byte, v value, p part) ([]byte, bool) {
	if p.layout == "" {
		return m.appendText(dst, v, p.typ, p.st)
	}
	if v.k != kTime {
		if v = m.asTime(v, p.st); v.k == kErr {
			return dst, false
		}
	}
	return v.time().AppendFormat(dst, p.layout), true
}

// asTime reads a value without a declared type for a layout: text in
// RFC 3339 or a date, or milliseconds since 1970 UTC.
func (m *machine) asTime(v value, st *site) value {
	switch v.k {
	case kInt:
		sec, ms := floorDiv(v.n, 1000)
		return value{k: kTime, n: sec, aux: int32(ms) * 1e6}
	case kString:
		s := m.text(v)
		if t, ok := parseTime(time.RFC3339Nano, s); ok {
			return t
		}
		if t, ok := parseTime(time.DateOnly, s); ok {
			return t
		}
		return m.fail(st, ir.CodeConversion, "This text is neither an RFC 3339 time nor a date.")
	}
	return m.wrongType(st, v, "a time")
}

// derive writes a value for the sink; nil if a part of it is nil.
func (m *machine) derive(out *record.Batch, d *derived) ([]byte, bool) {
	at := len(out.Buf)
	for i := range d.parts {
		p := &d.parts[i]
		if p.val == nil {
			out.Buf = append(out.Buf, p.lit...)
			continue
		}
		v := p.val(m)
		switch {
		case v.k == kErr:
			return nil, false
		case v.k == kNil:
			out.Buf = out.Buf[:at]
			return nil, true
		case d.pattern && (v.k == kList || v.k == kObject):
			m.wrongType(p.st, v, "a value that can stand in text")
			return nil, false
		}
		var ok bool
		if out.Buf, ok = m.appendPart(out.Buf, v, *p); !ok {
			return nil, false
		}
	}
	if len(out.Buf) == at {
		return []byte{}, true
	}
	return out.Buf[at:len(out.Buf):len(out.Buf)], true
}

// explode emits the event once for each element of the list, with the element in the list's place.
func (e *Eval) explode(source int32, out *record.Batch) *Error {
	m := e.in
	v := e.p.explode(m)
	switch v.k {
	case kErr:
		return &m.err
	case kNil:
		return nil
	case kList:
	default:
		m.wrongType(e.p.explodeAt, v, "a list")
		return &m.err
	}
	slot := m.slots[e.p.explodeID]
	before, after := m.doc[:slot.Start], m.doc[slot.End:]
	c := e.each
	c.topic, c.partition, c.rec = m.topic, m.partition, m.rec
	copies := e.p.project != nil || e.p.edit != nil
	for it := json.Over(m.doc[slot.Start:slot.End]); it.Next(); {
		if e.total += len(before) + len(it.Value) + len(after); e.total > maxBuilt {
			return m.explodedTooMuch(e.p.explodeAt)
		}
		var doc []byte
		if copies {
			e.built = append(append(append(e.built[:0], before...), it.Value...), after...)
			doc = e.built
		} else {
			at := len(out.Buf)
			out.Buf = append(append(append(out.Buf, before...), it.Value...), after...)
			doc = out.Buf[at:len(out.Buf):len(out.Buf)]
		}
		c.begin()
		if e.p.each.reads {
			if err := c.read(doc); err != nil {
				return err
			}
		}
		if err := e.emit(c, source, doc, out); err != nil {
			return err
		}
	}
	if cap(e.built) > keepText {
		e.built = nil
	}
	return nil
}

func (m *machine) explodedTooMuch(st *site) *Error {
	m.fail(st, ir.CodeLimit, "The events that this record becomes are larger than "+strconv.Itoa(maxBuilt)+" bytes.")
	return &m.err
}

// mark is how much of an output batch there was before a record.
type mark struct{ records, buf, headers, derived, bytes int }

func markOf(b *record.Batch) mark {
	return mark{len(b.Records), len(b.Buf), len(b.HeaderBuf), len(b.DerivedBuf), b.Bytes}
}

func (k mark) restore(b *record.Batch) {
	clear(b.Records[k.records:])
	b.Records, b.Buf, b.Bytes = b.Records[:k.records], b.Buf[:k.buf], k.bytes
	b.HeaderBuf, b.DerivedBuf = b.HeaderBuf[:k.headers], b.DerivedBuf[:k.derived]
}

func (m *machine) now() time.Time { return time.Now().UTC() }
