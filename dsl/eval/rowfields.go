package eval

import (
	"keystone/dsl/ir"
	"keystone/dsl/types"
	"keystone/pipeline/json"
	"keystone/pipeline/record"
)

// FieldsProgram is fields of an object that are computed of a row: immutable, shared.
type FieldsProgram struct {
	st     *stage
	fields []member
}

// CompileFields makes the program of checked fields over rows of the type. An error means that they did not come
// from the checker.
func CompileFields(fields []ir.Output, input types.Type) (*FieldsProgram, error) {
	p := &FieldsProgram{st: newStage(json.Lazy)}
	c := &compiler{st: p.st, input: input}
	for i, f := range fields {
		var lead []byte
		if i > 0 {
			lead = append(lead, ',')
		}
		lead = append(json.AppendString(lead, []byte(f.Name)), ':')
		p.fields = append(p.fields, member{lead: lead, val: c.outputValue(f)})
	}
	return p, c.err
}

// NewEval makes an evaluator of the program.
func (p *FieldsProgram) NewEval() *FieldsEval {
	return &FieldsEval{p: p, m: p.st.machine()}
}

// FieldsEval computes fields; one goroutine at a time.
type FieldsEval struct {
	p   *FieldsProgram
	m   *machine
	rec record.Record
}

// Append appends the fields that the row has, `"name":value,…` in their order, without braces. The error is valid
// until the next Append; what was appended by then means nothing.
func (e *FieldsEval) Append(dst, row []byte) ([]byte, *Error) {
	m := e.m
	m.begin()
	m.rec = &e.rec
	if err := m.read(row); err != nil {
		return dst, err
	}
	for i := range e.p.fields {
		f := &e.p.fields[i]
		var ok bool
		if dst, ok = f.val(m, append(dst, f.lead...)); !ok {
			return dst, &m.err
		}
	}
	return dst, nil
}
