package agg

import (
	"math"
	"strconv"

	"keystone/dsl/eval"
	"keystone/dsl/ir"
	"keystone/dsl/types"
	"keystone/pipeline/json"
)

// Writer writes the fields of states; one goroutine at a time.
type Writer struct {
	p      *Plan
	direct []direct // the fields, if all are results as they are
	eval   *eval.FieldsEval
	doc    []byte
	value  []byte
	top    []int
}

// direct is a field that is the result of a call.
type direct struct {
	lead []byte
	call int
}

// NewWriter makes a writer.
func (p *Plan) NewWriter() *Writer {
	w := &Writer{p: p, eval: p.fields.NewEval()}
	for i, f := range p.row {
		at := p.directOf(f)
		if at < 0 {
			w.direct = nil
			break
		}
		var lead []byte
		if i > 0 {
			lead = append(lead, ',')
		}
		w.direct = append(w.direct, direct{lead: append(json.AppendString(lead, []byte(f.Name)), ':'), call: at})
	}
	return w
}

// directOf gives the call whose result a field is, -1 if something has to be done to it.
func (p *Plan) directOf(f ir.Output) int {
	if f.Expr == nil || f.Expr.Root.Op != ir.Field || len(f.Expr.Root.Path) != 1 {
		return -1
	}
	for i := range p.calls {
		t := p.calls[i].src.Type
		if f.Expr.Root.Path[0].Name == ir.AggField(i) && t.Kind != types.Decimal && (types.Equal(f.Type, t) || f.Type.Kind == types.Any) {
			return i
		}
	}
	return -1
}

// AppendFields appends the fields of the row, `"name":value,…` in the written order, without braces. The error is valid
// until the next call; what was appended by then means nothing.
func (w *Writer) AppendFields(dst []byte, s *State) ([]byte, *eval.Error) {
	var err *eval.Error
	if w.direct != nil {
		for i := range w.direct {
			d := &w.direct[i]
			if dst, err = w.result(append(dst, d.lead...), s, &w.p.calls[d.call]); err != nil {
				return dst, err
			}
		}
		return dst, nil
	}
	w.doc = append(w.doc[:0], '{')
	for i := range w.p.calls {
		if i > 0 {
			w.doc = append(w.doc, ',')
		}
		w.doc = append(strconv.AppendInt(append(w.doc, '"', 'a'), int64(i), 10), '"', ':')
		if w.doc, err = w.result(w.doc, s, &w.p.calls[i]); err != nil {
			return dst, err
		}
	}
	w.doc = append(w.doc, '}')
	return w.eval.Append(dst, w.doc)
}

// result appends the result of a call as JSON.
func (w *Writer) result(dst []byte, s *State, c *call) ([]byte, *eval.Error) {
	x := s.w[c.word:]
	switch c.op {
	case opCount, opCountIf:
		return strconv.AppendUint(dst, x[0], 10), nil
	case opSumInt, opSum, opAvgInt, opAvg, opStddev:
		if x[0] == 0 {
			return append(dst, "null"...), nil
		}
		return c.appendSum(dst, s, x)
	case opMinNumber, opMaxNumber:
		if x[0] == wordNone {
			return append(dst, "null"...), nil
		}
		w.value = appendNumber(w.value[:0], x)
		dst, _ = eval.JSONOfValue(dst, w.value, c.src.Type)
		return dst, nil
	case opMinTime, opMaxTime:
		if x[0] == wordNone {
			return append(dst, "null"...), nil
		}
		w.value = eval.AppendTimeValue(w.value[:0], int64(x[1]), uint32(x[2]))
		dst, _ = eval.JSONOfValue(dst, w.value, c.src.Type)
		return dst, nil
	}
	return w.appendPart(dst, s.kept(c), c)
}

func (w *Writer) appendPart(dst []byte, p part, c *call) ([]byte, *eval.Error) {
	switch p := p.(type) {
	case *extreme:
		dst, _ = eval.JSONOfValue(dst, p.item.value, c.src.Type)
		return dst, nil
	case *approx:
		return strconv.AppendInt(dst, p.estimate(), 10), nil
	case *histogram:
		if p.n > 0 {
			return json.AppendFloat(dst, p.percentile(c.p)), nil
		}
	case *collected:
		return p.appendList(dst, c)
	case *distinct:
		if p.over {
			return dst, c.fail(ir.CodeLimit, "There are more than "+strconv.Itoa(w.p.max.distinct)+" different values of this key, or they are larger than "+strconv.Itoa(w.p.max.distinctBytes)+" bytes. approx_count_distinct has no such limit.")
		}
		if c.op == opTopK {
			return w.appendTop(dst, p, c), nil
		}
		return strconv.AppendInt(dst, int64(len(p.starts)), 10), nil
	}
	switch c.op { // of no rows
	case opDistinct, opApprox:
		return append(dst, '0'), nil
	case opCollect, opTopK:
		return append(dst, '[', ']'), nil
	}
	return append(dst, "null"...), nil
}

func elemOf(t types.Type) types.Type {
	if t.Elem != nil {
		return *t.Elem
	}
	return types.AnyType
}

func (p *collected) appendList(dst []byte, c *call) ([]byte, *eval.Error) {
	p.settle()
	if p.over() {
		return dst, c.fail(ir.CodeLimit, "The values of this key are larger than "+strconv.Itoa(p.max)+" bytes together. A second argument bounds how many are kept.")
	}
	dst = append(dst, '[')
	for i := range p.items {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst, _ = eval.JSONOfValue(dst, p.items[i].value, elemOf(c.src.Type))
	}
	return append(dst, ']'), nil
}

func (w *Writer) appendTop(dst []byte, p *distinct, c *call) []byte {
	form := types.AnyType
	if f, ok := elemOf(c.src.Type).Field("value"); ok {
		form = f.Type
	}
	w.top = p.top(w.top[:0], c.limit)
	dst = append(dst, '[')
	for n, i := range w.top {
		if n > 0 {
			dst = append(dst, ',')
		}
		dst, _ = eval.JSONOfValue(append(dst, `{"value":`...), p.value(i), form)
		dst = strconv.AppendUint(append(dst, `,"count":`...), p.counts[i], 10)
		dst = append(dst, '}')
	}
	return append(dst, ']')
}

// appendSum appends the result of sum, avg or stddev of at least one value.
func (c *call) appendSum(dst []byte, s *State, w []uint64) ([]byte, *eval.Error) {
	n := w[0]
	p, _ := s.kept(c).(*far)
	var f float64
	switch c.op {
	case opSumInt:
		return c.appendInt(dst, w[1:3])
	case opSum:
		sum := w[2 : 2+sumWords]
		if w[1] == 0 && c.src.Type.Kind != types.Float {
			return c.appendInt(dst, sum[sumWords-2:])
		}
		f = quotient(sum, p, 1)
	case opAvgInt:
		const exact = 1 << 53
		if v := int64(w[1]); w[2] == uint64(v>>63) && v > -exact && v < exact && n < exact {
			f = float64(v) / float64(n) // of two exact numbers, rounded once
		} else {
			f = rounded(bigOf(w[1:3]), 0, n)
		}
	case opAvg:
		f = quotient(w[2:2+sumWords], p, n)
	default:
		if n < 2 {
			return append(dst, "null"...), nil
		}
		f = deviation(w[1:], p, n)
	}
	if math.IsInf(f, 0) {
		return dst, c.fail(ir.CodeOverflow, "The result does not fit: floats go up to 1.8e308.")
	}
	return json.AppendFloat(dst, f), nil
}

// quotient gives a sum divided by n, rounded once.
func quotient(w []uint64, p *far, n uint64) float64 {
	if p == nil {
		if f, ok := nearest(w, n); ok {
			return f
		}
	}
	v, unit := exactSum(w, p)
	return rounded(v, unit, n)
}

// appendInt appends a sum of ints, in two words.
func (c *call) appendInt(dst []byte, w []uint64) ([]byte, *eval.Error) {
	v := int64(w[0])
	if w[1] != uint64(v>>63) {
		return dst, c.fail(ir.CodeOverflow, "The sum does not fit: ints go from -2^63 to 2^63-1.")
	}
	return strconv.AppendInt(dst, v, 10), nil
}
