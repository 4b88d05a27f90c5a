package agg

import (
	"fmt"
	"hash/maphash"
	"strings"

	"keystone/dsl/eval"
	"keystone/dsl/ir"
	"keystone/dsl/types"

	"github.com/cespare/xxhash/v2"
)

// Plan is how an aggregation is computed: immutable, shared by all its states.
type Plan struct {
	calls  []call
	exprs  []*ir.Expr
	words  int // of a state
	parts  int // of a state
	row    []ir.Output
	input  types.Type // of the results
	fields *eval.FieldsProgram
	seed   maphash.Seed // of tables in memory
	max    bounds
}

// call is how one call of an aggregate is computed.
type call struct {
	op    op
	word  int // the first of its words in a state
	part  int // its part of a state, -1: none
	arg   int // index of the expression, -1: none
	where int // index of the condition, -1: none
	limit int // of collect, top_k
	p     float64
	src   *ir.AggCall
}

type op uint8

// The operations. What they keep in words is next to what adds to them.
const (
	opCount   op = iota // rows; nothing is extracted
	opCountIf           // rows for which a bool was extracted that is true
	opSumInt
	opSum
	opAvgInt
	opAvg
	opStddev
	opMinNumber
	opMaxNumber
	opMinTime
	opMaxTime
	opMin
	opMax
	opFirst
	opLast
	opAny
	opDistinct
	opApprox
	opCollect
	opTopK
	opPercentile
)

// wordsOf says how many words the operations have in a state.
var wordsOf = [...]int{opCount: 1, opCountIf: 1, opSumInt: 3, opSum: 2 + sumWords, opAvgInt: 3, opAvg: 2 + sumWords, opStddev: 1 + sumWords + squareWords,
	opMinNumber: 2, opMaxNumber: 2, opMinTime: 3, opMaxTime: 3, opPercentile: 0}

// hasPart tells the operations that keep something of a size which is not known beforehand.
func (o op) hasPart() bool { return o == opSum || o == opAvg || o >= opMin || o == opStddev }

// Compile makes the plan of a checked aggregation over rows of the type. An error means that the aggregation did not come from
// the checker.
func Compile(a *ir.Aggregation, input types.Type) (*Plan, error) {
	p := &Plan{row: a.Row, input: a.Results, seed: maphash.MakeSeed(), max: bounds{ir.MaxDistinct, ir.MaxDistinctBytes, ir.MaxCollectBytes}}
	for i := range a.Calls {
		c, err := p.compile(&a.Calls[i])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a.Calls[i].Func, err)
		}
		p.calls = append(p.calls, c)
	}
	if p.input.Kind != types.Object {
		p.input = types.Type{Kind: types.Object}
		for i := range a.Calls {
			p.input.Fields = append(p.input.Fields, types.Field{Name: ir.AggField(i), Type: a.Calls[i].Type})
		}
	}
	var err error
	if p.fields, err = eval.CompileFields(a.Row, p.input); err != nil {
		return nil, err
	}
	if _, err = eval.CompileRow(p.exprs, input); err != nil { // what the engine will do, told here
		return nil, err
	}
	return p, nil
}

func (p *Plan) compile(src *ir.AggCall) (call, error) {
	c := call{src: src, word: p.words, part: -1, arg: -1, where: -1}
	if len(src.Args) > 1 {
		return c, fmt.Errorf("%d arguments", len(src.Args))
	}
	t := types.AnyType
	if len(src.Args) == 1 {
		t = src.Args[0].Root.Type
		c.arg = p.expr(src.Args[0])
	}
	if src.Where != nil {
		c.where = p.expr(src.Where)
	}
	var ok bool
	if c.op, ok = opOf(src.Func, t, c.arg >= 0 || c.where >= 0); !ok || c.arg < 0 && c.op > opCountIf {
		return c, fmt.Errorf("no such aggregate of %d arguments", len(src.Args))
	}
	if err := c.params(src); err != nil {
		return c, err
	}
	if c.op.hasPart() {
		c.part = p.parts
		p.parts++
	}
	if int(c.op) < len(wordsOf) {
		p.words += wordsOf[c.op]
	}
	return c, nil
}

func (p *Plan) expr(e *ir.Expr) int {
	for i, f := range p.exprs {
		if f == e {
			return i
		}
	}
	p.exprs = append(p.exprs, e)
	return len(p.exprs) - 1
}

func opOf(name string, t types.Type, conditional bool) (op, bool) {
	whole := t.Kind == types.Int
	pick := func(yes bool, a, b op) (op, bool) {
		if yes {
			return a, true
		}
		return b, true
	}
	switch name {
	case "count":
		return pick(conditional, opCountIf, opCount)
	case "sum":
		return pick(whole, opSumInt, opSum)
	case "avg":
		return pick(whole, opAvgInt, opAvg)
	case "min", "max":
		least := name == "min"
		switch {
		case t.IsNumber():
			return pick(least, opMinNumber, opMaxNumber)
		case t.IsTime():
			return pick(least, opMinTime, opMaxTime)
		}
		return pick(least, opMin, opMax)
	}
	o, ok := map[string]op{"first": opFirst, "last": opLast, "count_distinct": opDistinct, "approx_count_distinct": opApprox, "collect": opCollect, "top_k": opTopK,
		"percentile": opPercentile, "stddev": opStddev, "any_value": opAny}[name]
	return o, ok
}

func (c *call) params(src *ir.AggCall) error {
	switch c.op {
	case opCollect, opTopK:
		if len(src.Params) == 1 {
			if n, ok := src.Params[0].(int64); ok && n > 0 && n <= 1<<31-1 {
				c.limit = int(n)
				return nil
			}
		}
	case opPercentile:
		if len(src.Params) == 1 {
			switch x := src.Params[0].(type) {
			case float64:
				c.p = x
			case int64:
				c.p = float64(x)
			default:
				c.p = -1
			}
			if c.p >= 0 && c.p <= 1 {
				return nil
			}
		}
	default:
		if len(src.Params) == 0 {
			return nil
		}
	}
	return fmt.Errorf("the parameters %v", src.Params)
}

// Layout tells plans apart whose states are not in the same form: a state may be decoded by a plan of the same layout.
// What the calls are of does not count.
func (p *Plan) Layout() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d.%d", Format, eval.EncodingVersion)
	for i := range p.calls {
		c := &p.calls[i]
		fmt.Fprintf(&b, " %s(%d %v)", c.src.Func, c.op, c.src.Params)
	}
	return b.String()
}

// Exprs gives the expressions over the row that the plan needs. Whoever compiles them behind others of its own tells
// Extract where they begin.
func (p *Plan) Exprs() []*ir.Expr { return p.exprs }

// Extract appends what the states need to know of the row that e has begun: its payload, for each call that needs any an
// encoded value, nil where the row does not count. base is the index of the first of Exprs in e's program. The error is that of the row,
// valid until e's next call.
func (p *Plan) Extract(e *eval.RowEval, base int, dst []byte) ([]byte, *eval.Error) {
	for i := range p.calls {
		c := &p.calls[i]
		if c.op == opCount {
			continue
		}
		if c.where >= 0 {
			holds, err := e.True(base + c.where)
			if err != nil {
				return dst, err
			}
			if !holds {
				dst = eval.AppendNilValue(dst)
				continue
			}
		}
		if c.arg < 0 {
			dst = eval.AppendBoolValue(dst, true)
			continue
		}
		at := len(dst)
		var err *eval.Error
		if dst, err = e.AppendValue(dst, base+c.arg); err != nil {
			return dst, err
		}
		kind := eval.KindOfValue(dst[at:])
		if kind == eval.NilValue {
			continue
		}
		switch {
		case c.op == opCountIf:
			dst = eval.AppendBoolValue(dst[:at], true)
		case c.op == opApprox:
			dst = eval.AppendIntValue(dst[:at], int64(xxhash.Sum64(dst[at:])))
		case !c.takes(kind, dst[at:]):
			return dst, c.wrong()
		}
	}
	return dst, nil
}

// takes tells whether a value that is not nil is one of those that the aggregate is of.
func (c *call) takes(k eval.ValueKind, v []byte) bool {
	switch c.op {
	case opSumInt, opAvgInt:
		return k == eval.NumberValue && isInt(v)
	case opSum, opAvg, opStddev, opPercentile, opMinNumber, opMaxNumber:
		return k == eval.NumberValue
	case opMinTime, opMaxTime:
		return k == eval.TimeValue
	case opMin, opMax:
		return k <= eval.TimeValue
	case opApprox: // its hash
		return k == eval.NumberValue && isInt(v)
	case opCountIf:
		return k == eval.BoolValue
	}
	return k < eval.NoValue
}

func isInt(v []byte) bool {
	_, _, is := eval.NumberOfValue(v)
	return is
}

func (c *call) wrong() *eval.Error {
	want := "a number"
	switch c.op {
	case opSumInt, opAvgInt:
		want = "an int"
	case opMinTime, opMaxTime:
		want = "a time"
	case opMin, opMax:
		want = "a number, a string, a time or a bool"
	}
	arg := c.src.Args[0]
	return &eval.Error{Code: ir.CodeType, Text: "This must be " + want + " for " + c.src.Func + ".", Range: arg.Text.At(arg.Root.Span.Start, arg.Root.Span.End)}
}

// fail is an error of the result.
func (c *call) fail(code, text string) *eval.Error {
	return &eval.Error{Code: code, Text: text, Range: c.src.Text.At(c.src.Span.Start, c.src.Span.End)}
}
