package eval

import (
	"keystone/dsl/ir"
	"keystone/dsl/types"
	"keystone/pipeline/json"
	"keystone/pipeline/record"
)

// ExprProgram is one compiled expression: immutable.
type ExprProgram struct {
	st   *stage
	expr *ir.Expr
	out  outF
}

// CompileExpr makes the program of a checked expression over events of the
// type, types.AnyType where there is no schema. An error means that the
// expression did not come from the checker.
func CompileExpr(e *ir.Expr, input types.Type) (*ExprProgram, error) {
	p := &ExprProgram{st: newStage(json.Full), expr: e}
	c := &compiler{st: p.st, input: input, expr: e}
	p.out = c.out(e.Root, e.Root.Type)
	return p, c.err
}

// Reads tells whether the expression reads the event, and not only meta and constants.
func (p *ExprProgram) Reads() bool { return p.st.reads }

// NewEval makes an evaluator of the expression.
func (p *ExprProgram) NewEval() *ExprEval { return &ExprEval{p: p, m: p.st.machine()} }

// ExprEval evaluates one expression; one goroutine at a time.
type ExprEval struct {
	p *ExprProgram
	m *machine
}

// Append appends the value of the expression for one record as JSON. A null
// value is an event without fields. The error is valid until the next Append;
// what was appended by then means nothing.
func (e *ExprEval) Append(dst []byte, topic string, partition int32, rec *record.Record) ([]byte, *Error) {
	m := e.m
	m.begin()
	m.topic, m.partition, m.rec = topic, partition, rec
	if err := m.read(rec.Value); err != nil {
		return dst, err
	}
	dst, ok := e.p.out(m, dst)
	if !ok {
		return dst, &m.err
	}
	return dst, nil
}
