package eval

import (
	"keystone/dsl/ir"
	"keystone/dsl/types"
	"keystone/pipeline/json"
	"keystone/pipeline/record"
)

// RowProgram is several expressions over one row, whose fields are found in one scan: immutable, shared.
type RowProgram struct {
	st    *stage
	exprs []rowExpr
}

// rowExpr is one expression, compiled for each of the ways in which its value may be wanted.
type rowExpr struct {
	cond  condF
	time  timeF
	value outF
	json  outF
}

// CompileRow makes the program of checked expressions over rows of the type, types.AnyType where there is no
// schema. The rows are checked whole, used or not. An error means that an expression did not come from the checker.
func CompileRow(exprs []*ir.Expr, input types.Type) (*RowProgram, error) {
	p := &RowProgram{st: newStage(json.Full), exprs: make([]rowExpr, len(exprs))}
	c := &compiler{st: p.st, input: input}
	for i, e := range exprs {
		c.expr = e
		p.exprs[i] = rowExpr{cond: c.cond(e.Root), time: c.time(e.Root), value: c.encoded(e.Root), json: c.out(e.Root, e.Root.Type)}
	}
	return p, c.err
}

// Len gives how many expressions there are.
func (p *RowProgram) Len() int { return len(p.exprs) }

// NewEval makes an evaluator of the program.
func (p *RowProgram) NewEval() *RowEval { return &RowEval{p: p, m: p.st.machine()} }

// RowEval evaluates the expressions of a row in any order; one goroutine at a time. It reuses its memory. An error
// that it gives is valid until the next call.
type RowEval struct {
	// Violations counts fields that the schema requires, that the program reads and that were missing or null in a row.
	Violations int64

	p *RowProgram
	m *machine
}

// Begin reads a row: the value of the record, where nil is a row without fields. The record must stay as it is
// until the next Begin.
func (e *RowEval) Begin(topic string, partition int32, rec *record.Record) *Error {
	m := e.m
	m.begin()
	m.topic, m.partition, m.rec = topic, partition, rec
	if rec.Bad != record.Whole {
		m.err = Error{Code: rec.Bad.String(), Text: "The source could not give the record whole."}
		return &m.err
	}
	if err := m.read(rec.Value); err != nil {
		return err
	}
	if rec.Value != nil && len(e.p.st.required) > 0 {
		e.Violations += m.violations(e.p.st)
	}
	return nil
}

// violations counts the required fields of the document that are missing or null.
func (m *machine) violations(st *stage) (n int64) {
	for _, id := range st.required {
		if m.slots[id].Kind <= json.Null && m.slots[m.scan.Trie().Parent(id)].Kind == json.Object {
			n++
		}
	}
	return n
}

// True tells whether expression i, a condition, is true; nil is not.
func (e *RowEval) True(i int) (bool, *Error) {
	switch e.p.exprs[i].cond(e.m) {
	case triTrue:
		return true, nil
	case triErr:
		return false, &e.m.err
	}
	return false, nil
}

// Time gives expression i, a time or an int of milliseconds since 1970 UTC, rounded down to milliseconds. It is
// not ok if it is nil or outside of the years 0 to 9999.
func (e *RowEval) Time(i int) (ms int64, ok bool, err *Error) {
	ms, t := e.p.exprs[i].time(e.m)
	if t == triErr {
		return 0, false, &e.m.err
	}
	return ms, t == triTrue, nil
}

// AppendValue appends the value of expression i in the encoding of EncodingVersion.
func (e *RowEval) AppendValue(dst []byte, i int) ([]byte, *Error) {
	dst, ok := e.p.exprs[i].value(e.m, dst)
	if !ok {
		return dst, &e.m.err
	}
	return dst, nil
}

// AppendJSON appends the value of expression i as JSON in the form of its type; what is only copied keeps its bytes.
func (e *RowEval) AppendJSON(dst []byte, i int) ([]byte, *Error) {
	dst, ok := e.p.exprs[i].json(e.m, dst)
	if !ok {
		return dst, &e.m.err
	}
	return dst, nil
}

// timeF gives milliseconds since 1970 UTC, with triTrue; triNil where there is no such time.
type timeF func(*machine) (int64, tri)

// The bounds of times in milliseconds: the years 0 to 9999.
const (
	firstMillis = -62167219200_000
	lastMillis  = 253402300799_999
)

func (c *compiler) time(n *ir.Node) timeF {
	slow := c.slowTime(n)
	if n.Op != ir.Field || n.Type.Kind != types.TimestampMs && n.Type.Kind != types.Int && n.Type.Kind != types.Any {
		return slow
	}
	id, rest := c.path(n.Path)
	if rest != nil {
		return slow
	}
	return func(m *machine) (int64, tri) {
		s := &m.slots[id]
		if s.Kind == json.Number && !s.Marked && s.End-s.Start < 15 { // 14 digits are within the bounds
			return smallInt(m.doc[s.Start:s.End]), triTrue
		}
		return slow(m)
	}
}

func (c *compiler) slowTime(n *ir.Node) timeF {
	f, st := c.val(n), c.site(n)
	return func(m *machine) (int64, tri) {
		v := f(m)
		var ms int64
		switch v.k {
		case kErr:
			return 0, triErr
		case kNil:
			return 0, triNil
		case kInt:
			ms = v.n
		case kTime:
			var ok bool
			if ms, ok = millis(v); !ok {
				return 0, triNil
			}
		default:
			m.wrongType(st, v, "a time, or milliseconds since 1970 as an int")
			return 0, triErr
		}
		if ms < firstMillis || ms > lastMillis {
			return 0, triNil
		}
		return ms, triTrue
	}
}
