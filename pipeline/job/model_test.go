package job

import (
	"cmp"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"keystone/configs"
	"keystone/dsl/ir"
	"keystone/dsl/reference"
	"keystone/dsl/types"
)

// The model computes what a window gives of its whole input, in the plainest way: all records are there, sorted, and each
// result is made anew of all rows of its group. It shares nothing with the engine: expressions are evaluated by dsl/reference, sums
// are rational numbers. percentile is not modelled, since it is not exact, nor approx_count_distinct beyond 1,024 values.

// modelInput is a read and the partitions behind it, the values of their records in order.
type modelInput struct {
	read  *configs.Operator
	id    uint16 // decides ties
	where []*ir.Expr
	parts [][]string
}

// modelResult is sorted.
type modelResult struct {
	rows    []string // at the end: each window once, as it is last
	late    []string // records that came too late for all their windows
	letters []string // records of which something could not be evaluated
}

// modelRow is a record on its way into a window.
type modelRow struct {
	read      uint16
	partition int
	offset    int
	time      int64
	mark      int64
	doc       string
	event     any
}

func (r *modelRow) input() reference.Input {
	return reference.Input{Event: r.event, Meta: map[string]any{"topic": "in", "partition": int64(r.partition), "offset": int64(r.offset), "tombstone": false}}
}

// modelGroup is the rows of a key and window.
type modelGroup struct {
	key        []any
	start, end int64
	rows       []*modelRow
}

// runModel gives what the window, or the operator aggregate, makes of the inputs.
func runModel(t testing.TB, o *configs.Operator, inputs ...modelInput) modelResult {
	t.Helper()
	m := model{o: o, groups: map[string]*modelGroup{}}
	for _, in := range inputs {
		for p := range in.parts {
			m.partition(in, p)
		}
	}
	if o.Window.Kind == configs.WindowSession {
		m.sessions()
	}
	for _, g := range m.groups {
		row, err := m.written(g)
		if err != nil {
			t.Fatalf("the row of %v at %d: %v", g.key, g.start, err)
		}
		m.out.rows = append(m.out.rows, row)
	}
	slices.Sort(m.out.rows)
	slices.Sort(m.out.late)
	slices.Sort(m.out.letters)
	return m.out
}

type model struct {
	o      *configs.Operator
	groups map[string]*modelGroup // by key and start
	out    modelResult
}

// partition reads the records of one partition: the watermark of each is decided by those before it alone.
func (m *model) partition(in modelInput, p int) {
	mark := int64(math.MinInt64)
	for i, doc := range in.parts[p] {
		r := &modelRow{read: in.id, partition: p, offset: i, doc: doc}
		var err error
		if r.event, err = reference.Decode([]byte(doc)); err != nil {
			m.out.letters = append(m.out.letters, doc)
			continue
		}
		at, ok := modelTime(in.read.Read.EventTime, r)
		if !ok {
			m.out.letters = append(m.out.letters, doc)
			continue
		}
		mark = max(mark, at-in.read.Read.Watermark.Milliseconds())
		r.time, r.mark = at, mark
		holds, fail := modelHolds(in.where, r)
		switch {
		case fail != nil:
			m.out.letters = append(m.out.letters, doc)
		case holds:
			m.row(r)
		}
	}
}

func modelTime(e *ir.Expr, r *modelRow) (int64, bool) {
	v, err := reference.Eval(e.Root, r.input())
	if err != nil {
		return 0, false
	}
	switch v := modelValue(v).(type) {
	case int64:
		return v, true
	case time.Time:
		return v.UnixMilli(), true
	}
	return 0, false
}

func modelHolds(where []*ir.Expr, r *modelRow) (bool, *reference.Error) {
	for _, e := range where {
		v, err := reference.Eval(e.Root, r.input())
		if err != nil {
			return false, err
		}
		if v != true {
			return false, nil
		}
	}
	return true, nil
}

// row puts a row into its windows. What has no window is late; that is decided before anything else is evaluated.
func (m *model) row(r *modelRow) {
	w := m.o.Window
	size, every, lateness := w.Size.Milliseconds(), w.Every.Milliseconds(), w.Lateness.Milliseconds()
	var starts []int64
	switch w.Kind {
	case configs.WindowTumbling, configs.WindowHopping:
		if w.Kind == configs.WindowTumbling {
			every = size
		}
		first := r.time - ((r.time%every)+every)%every
		for s := first; s > r.time-size; s -= every {
			if s+size+lateness > r.mark {
				starts = append(starts, s)
			}
		}
	case configs.WindowSession:
		if r.time+lateness >= r.mark {
			starts = []int64{0}
		}
	default:
		starts = []int64{0}
	}
	if len(starts) == 0 {
		m.out.late = append(m.out.late, r.doc)
		return
	}
	var key []any
	id := ""
	for _, k := range m.o.Key {
		v, err := reference.Eval(k.Expr.Root, r.input())
		if err != nil {
			m.out.letters = append(m.out.letters, r.doc)
			return
		}
		key = append(key, modelValue(v))
		id += modelText(modelValue(v)) + ","
	}
	for i := range m.o.Aggregation.Calls {
		if _, _, err := modelArgument(&m.o.Aggregation.Calls[i], r); err != nil {
			m.out.letters = append(m.out.letters, r.doc)
			return
		}
	}
	for _, s := range starts {
		at := id + strconv.FormatInt(s, 10)
		g := m.groups[at]
		if g == nil {
			g = &modelGroup{key: key, start: s, end: s + size}
			m.groups[at] = g
		}
		g.rows = append(g.rows, r)
	}
}

// sessions splits the rows of each key where there is a gap of more than the session's.
func (m *model) sessions() {
	gap := m.o.Window.Gap.Milliseconds()
	split := map[string]*modelGroup{}
	for id, all := range m.groups {
		slices.SortFunc(all.rows, modelOrder)
		var g *modelGroup
		for _, r := range all.rows {
			if g == nil || r.time > g.end {
				g = &modelGroup{key: all.key, start: r.time}
				split[id+"/"+strconv.FormatInt(r.time, 10)] = g
			}
			g.end = r.time + gap
			g.rows = append(g.rows, r)
		}
	}
	m.groups = split
}

func modelOrder(a, b *modelRow) int {
	return cmp.Or(cmp.Compare(a.time, b.time), cmp.Compare(a.read, b.read), cmp.Compare(a.partition, b.partition), cmp.Compare(a.offset, b.offset))
}

// written gives the row of a group as it is written.
func (m *model) written(g *modelGroup) (string, error) {
	slices.SortFunc(g.rows, modelOrder)
	out := []byte{'{'}
	field := func(name string, v any, t types.Type) error {
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = strconv.AppendQuote(out, name)
		out = append(out, ':')
		var err *reference.Error
		if out, err = reference.Append(out, v, t); err != nil {
			return err
		}
		return nil
	}
	for i, k := range m.o.Key {
		if err := field(k.Name, g.key[i], k.Expr.Root.Type); err != nil {
			return "", err
		}
	}
	if k := m.o.Window.Kind; k != configs.WindowNone && k != configs.WindowGlobal {
		_ = field("window_start", g.start, types.TimestampMsType)
		_ = field("window_end", g.end, types.TimestampMsType)
	}
	results := reference.NewObject()
	for i := range m.o.Aggregation.Calls {
		v, err := modelResultOf(&m.o.Aggregation.Calls[i], g.rows)
		if err != nil {
			return "", err
		}
		results.Put(ir.AggField(i), v)
	}
	for _, f := range m.o.Aggregation.Row {
		v, fail := modelField(f, results)
		if fail != nil {
			return "", fail
		}
		if err := field(f.Name, v, f.Type); err != nil {
			return "", err
		}
	}
	return string(append(out, '}')), nil
}

// modelField gives a field of what the calls gave.
func modelField(f ir.Output, results *reference.Object) (any, error) {
	switch {
	case f.IsObject:
		o := reference.NewObject()
		for _, x := range f.Object {
			v, err := modelField(x, results)
			if err != nil {
				return nil, err
			}
			o.Put(x.Name, v)
		}
		return o, nil
	case f.Expr == nil:
		return f.Lit, nil
	case f.Expr.Root.Op == ir.Field && len(f.Expr.Root.Path) == 1: // as it is
		return results.Values[f.Expr.Root.Path[0].Name], nil
	}
	v, err := reference.Eval(f.Expr.Root, reference.Input{Event: results})
	if err != nil {
		return nil, err
	}
	return v, nil
}

// modelArgument gives the argument of a call for a row; counts is false where the row does not count.
func modelArgument(c *ir.AggCall, r *modelRow) (v any, counts bool, fail *reference.Error) {
	if c.Where != nil {
		if holds, err := modelHolds([]*ir.Expr{c.Where}, r); err != nil || !holds {
			return nil, false, err
		}
	}
	if len(c.Args) == 0 {
		return nil, true, nil
	}
	v, err := reference.Eval(c.Args[0].Root, r.input())
	v = modelValue(v)
	if err == nil {
		err = modelTakes(c.Func, v)
	}
	return v, err == nil && v != nil, err
}

func modelTakes(name string, v any) *reference.Error {
	ok := true
	switch v.(type) {
	case nil, int64, float64:
	case string, bool, time.Time:
		ok = !slices.Contains([]string{"sum", "avg", "stddev"}, name)
	default:
		ok = !slices.Contains([]string{"sum", "avg", "stddev", "min", "max"}, name)
	}
	if !ok {
		return &reference.Error{Code: ir.CodeType, Text: "no such argument of " + name}
	}
	return nil
}

// modelValue reads numbers that were not read.
func modelValue(v any) any {
	switch v := v.(type) {
	case reference.Number:
		if i, err := strconv.ParseInt(string(v), 10, 64); err == nil {
			return i
		}
		f, _ := strconv.ParseFloat(string(v), 64)
		return f
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = modelValue(v[i])
		}
		return out
	case *reference.Object:
		out := reference.NewObject()
		for _, n := range slices.Sorted(slices.Values(v.Names)) {
			out.Put(n, modelValue(v.Values[n]))
		}
		return out
	}
	return v
}

// modelText tells values apart that are not equal.
func modelText(v any) string {
	if f, ok := v.(float64); ok && f == math.Trunc(f) && math.Abs(f) < 1<<62 {
		v = int64(f)
	}
	if x, ok := v.(time.Time); ok {
		return "t" + x.UTC().Format(time.RFC3339Nano)
	}
	out, err := reference.Append(nil, v, types.AnyType)
	if err != nil {
		panic(err)
	}
	return string(out)
}

// modelCompare orders bools, numbers, strings and times, each kind before the next.
func modelCompare(a, b any) int {
	kind := func(v any) int {
		switch v.(type) {
		case bool:
			return 1
		case int64, float64:
			return 2
		case string:
			return 3
		case time.Time:
			return 4
		}
		return 5
	}
	if o := cmp.Compare(kind(a), kind(b)); o != 0 {
		return o
	}
	switch x := a.(type) {
	case string:
		return strings.Compare(x, b.(string))
	case time.Time:
		return x.Compare(b.(time.Time))
	case int64, float64:
		return modelRat(a).Cmp(modelRat(b))
	}
	return strings.Compare(modelText(a), modelText(b))
}

func modelRat(v any) *big.Rat {
	if i, ok := v.(int64); ok {
		return new(big.Rat).SetInt64(i)
	}
	return new(big.Rat).SetFloat64(v.(float64))
}

// modelResultOf gives the result of a call over the rows of a group, which are in their order.
func modelResultOf(c *ir.AggCall, rows []*modelRow) (any, error) {
	var list []any
	for _, r := range rows {
		v, counts, err := modelArgument(c, r)
		if err != nil {
			return nil, err
		}
		if counts {
			list = append(list, v)
		}
	}
	switch c.Func {
	case "count":
		return int64(len(list)), nil
	case "count_distinct", "approx_count_distinct":
		_, n := modelCounts(list)
		return int64(len(n)), nil
	case "collect":
		return list[:min(len(list), int(c.Params[0].(int64)))], nil
	case "top_k":
		return modelTop(list, int(c.Params[0].(int64))), nil
	case "sum", "avg", "stddev":
		return modelSums(c, list)
	}
	if len(list) == 0 {
		return nil, nil
	}
	switch c.Func {
	case "first":
		return list[0], nil
	case "last":
		return list[len(list)-1], nil
	case "min":
		return slices.MinFunc(list, modelCompare), nil
	case "max":
		return slices.MaxFunc(list, modelCompare), nil
	}
	return nil, fmt.Errorf("%s is not modelled", c.Func)
}

func modelCounts(list []any) (values []any, n map[string]int64) {
	n = map[string]int64{}
	for _, v := range list {
		if n[modelText(v)]++; n[modelText(v)] == 1 {
			values = append(values, v)
		}
	}
	return values, n
}

func modelTop(list []any, k int) any {
	values, n := modelCounts(list)
	slices.SortFunc(values, func(a, b any) int {
		return cmp.Or(cmp.Compare(n[modelText(b)], n[modelText(a)]), modelCompare(a, b))
	})
	out := []any{}
	for _, v := range values[:min(len(values), k)] {
		o := reference.NewObject()
		o.Put("value", v)
		o.Put("count", n[modelText(v)])
		out = append(out, o)
	}
	return out
}

// modelSums gives sum, avg and stddev, exact and rounded once.
func modelSums(c *ir.AggCall, list []any) (any, error) {
	if len(list) == 0 || c.Func == "stddev" && len(list) == 1 {
		return nil, nil
	}
	sum, whole := new(big.Rat), c.Type.Kind != types.Float
	for _, v := range list {
		x := modelRat(v)
		sum.Add(sum, x)
		whole = whole && x.IsInt()
	}
	n := new(big.Rat).SetInt64(int64(len(list)))
	var f float64
	switch c.Func {
	case "sum":
		if whole {
			if !sum.Num().IsInt64() {
				return nil, fmt.Errorf("the sum %s overflows", sum)
			}
			return sum.Num().Int64(), nil
		}
		f, _ = sum.Float64()
	case "avg":
		f, _ = sum.Quo(sum, n).Float64()
	default:
		mean, squares := new(big.Rat).Quo(sum, n), new(big.Rat)
		for _, v := range list {
			d := modelRat(v)
			d.Sub(d, mean)
			squares.Add(squares, d.Mul(d, d))
		}
		squares.Quo(squares, n.Sub(n, big.NewRat(1, 1)))
		x := new(big.Float).SetPrec(700).SetRat(squares)
		f, _ = x.Sqrt(x).Float64()
	}
	if math.IsInf(f, 0) {
		return nil, fmt.Errorf("%s overflows", c.Func)
	}
	return f, nil
}
