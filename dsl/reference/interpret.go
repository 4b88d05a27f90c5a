package reference

import (
	"math"
	"strings"
	"time"

	"keystone/dsl/ir"
	"keystone/dsl/types"
)

// Input is what an expression is evaluated on.
type Input struct {
	Event any            // an *Object, or nil for a null value
	Meta  map[string]any // topic, key: string; partition, offset: int64; timestamp: time; headers: *Object; tombstone: bool
	Now   time.Time
}

// Eval gives the value of an expression.
func Eval(n *ir.Node, in Input) (any, *Error) {
	m := &machine{in: in, lets: map[int]any{}}
	v, err := m.eval(n)
	if err != nil {
		return nil, err
	}
	if num, ok := v.(Number); ok && n.Op != ir.Field && n.Op != ir.Member {
		return num.wide()
	}
	return v, nil
}

// Constant computes a node whose kids are all constants.
func Constant(n *ir.Node) (any, *Error) {
	m := &machine{lets: map[int]any{}}
	return m.eval(n)
}

// Written gives the value of an expression as it is written: a field that is
// only copied stands as it does in the event, its numbers unread. form is the
// type that is written; a time of another form is no copy.
func Written(n *ir.Node, in Input, form types.Type) (any, *Error) {
	if n.Op == ir.Field && n.Type.Kind == types.Any {
		return walk(n.Path, in.Event)
	}
	v, err := Eval(n, in)
	if err != nil || n.Op != ir.Field || n.Type.IsTime() && form.IsTime() && n.Type.Kind != form.Kind {
		return v, err
	}
	return walk(n.Path, in.Event)
}

// Copy gives the value of a field as it stands in the event, unread. ok is
// false for other expressions.
func Copy(n *ir.Node, in Input) (v any, ok bool) {
	if n.Op != ir.Field {
		return nil, false
	}
	v, err := walk(n.Path, in.Event)
	return v, err == nil
}

func walk(path []ir.Step, v any) (any, *Error) {
	for _, s := range path {
		x, err := member(v, key(s))
		if err != nil {
			return nil, err
		}
		v = x
	}
	return v, nil
}

type machine struct {
	in     Input
	lets   map[int]any
	frames []frame
}

type frame struct {
	elem, acc any
	index     int
}

// eval evaluates a node; an error without a token gets the node's.
func (m *machine) eval(n *ir.Node) (any, *Error) {
	v, err := m.op(n)
	if err != nil {
		if err.Token == (ir.Span{}) {
			err.Token = n.Token
		}
		return nil, err
	}
	return v, nil
}

func (m *machine) all(kids []*ir.Node) ([]any, *Error) {
	out := make([]any, len(kids))
	for i, k := range kids {
		if k == nil {
			continue
		}
		v, err := m.eval(k)
		if err != nil {
			return nil, err
		}
		out[i] = v
	}
	return out, nil
}

func (m *machine) op(n *ir.Node) (any, *Error) {
	switch n.Op {
	case ir.Const:
		return read(fromConst(n.Value), n.Type)
	case ir.Field:
		v, err := walk(n.Path, m.in.Event)
		if err != nil {
			return nil, err
		}
		return read(v, n.Type)
	case ir.Event:
		return m.in.Event, nil
	case ir.Meta:
		return m.in.Meta[n.Name], nil
	case ir.Let:
		v, err := m.eval(n.Kids[0])
		if err != nil {
			return nil, err
		}
		m.lets[n.Slot] = v
		return m.eval(n.Kids[1])
	case ir.Var:
		return m.lets[n.Slot], nil
	case ir.Elem:
		return read(m.frames[len(m.frames)-1-n.Depth].elem, n.Type)
	case ir.ElemIndex:
		return int64(m.frames[len(m.frames)-1-n.Depth].index), nil
	case ir.ElemAcc:
		return read(m.frames[len(m.frames)-1-n.Depth].acc, n.Type)
	case ir.And:
		return m.logic(n, false)
	case ir.Or:
		return m.logic(n, true)
	case ir.Coalesce:
		v, err := m.eval(n.Kids[0])
		if err != nil || v != nil {
			return v, err
		}
		return m.eval(n.Kids[1])
	case ir.Cond:
		v, err := m.eval(n.Kids[0])
		if err != nil {
			return nil, err
		}
		b, isBool := v.(bool)
		if v != nil && !isBool {
			return nil, failure(ir.CodeType, "a condition must be a bool, and it is %s", kindName(v))
		}
		if b {
			return m.eval(n.Kids[1])
		}
		return m.eval(n.Kids[2])
	case ir.Call:
		return m.call(n)
	}
	kids, err := m.all(n.Kids)
	if err != nil {
		return nil, err
	}
	switch n.Op {
	case ir.List:
		return kids, nil
	case ir.Object:
		o := NewObject()
		for i, name := range n.Names {
			o.Put(name, kids[i])
		}
		return o, nil
	case ir.Member:
		if kids[0] != nil && kids[1] == nil {
			return nil, nil
		}
		v, err := member(kids[0], kids[1])
		if err != nil {
			return nil, err
		}
		return read(v, n.Type)
	case ir.Slice:
		return slice(n, kids)
	case ir.Matches:
		if kids[0] == nil {
			return false, nil
		}
		s, ok := kids[0].(string)
		if !ok {
			return nil, failure(ir.CodeType, "matches takes a string, and this is %s", kindName(kids[0]))
		}
		return n.Regexp.MatchString(s), nil
	case ir.Not, ir.Neg:
		return unary(n.Op, kids[0])
	}
	return binary(n.Op, kids[0], kids[1])
}

// logic is && and ||, which decides is the value that ends it.
func (m *machine) logic(n *ir.Node, decides bool) (any, *Error) {
	var out any = !decides
	for _, k := range n.Kids {
		v, err := m.eval(k)
		if err != nil {
			return nil, err
		}
		switch b, ok := v.(bool); {
		case v == nil:
			out = nil
		case !ok:
			return nil, failure(ir.CodeType, "a condition must be a bool, and it is %s", kindName(v))
		case b == decides:
			return decides, nil
		}
	}
	return out, nil
}

func key(s ir.Step) any {
	if s.IsIndex {
		return int64(s.Index)
	}
	return s.Name
}

// member gives x[key].
func member(x, key any) (any, *Error) {
	switch x := x.(type) {
	case nil:
		return nil, nil
	case *Object:
		if name, ok := key.(string); ok {
			return x.Values[name], nil
		}
	case []any:
		if i, ok := key.(int64); ok {
			if i < 0 {
				i += int64(len(x))
			}
			if i < 0 || i >= int64(len(x)) {
				return nil, nil
			}
			return x[i], nil
		}
	case string:
		if i, ok := key.(int64); ok {
			runes := []rune(x)
			if i < 0 {
				i += int64(len(runes))
			}
			if i < 0 || i >= int64(len(runes)) {
				return nil, nil
			}
			return string(runes[i]), nil
		}
	}
	return nil, failure(ir.CodeType, "%s has no such member", kindName(x))
}

func slice(n *ir.Node, kids []any) (any, *Error) {
	x := kids[0]
	for i, k := range kids {
		if n.Kids[i] != nil && k == nil { // nil before types, as everywhere
			return nil, nil
		}
	}
	var length int
	var list []any
	var runes []rune
	switch x := x.(type) {
	case []any:
		list, length = x, len(x)
	case string:
		runes = []rune(x)
		length = len(runes)
	default:
		return nil, failure(ir.CodeType, "only lists and strings have slices, and this is %s", kindName(x))
	}
	bounds := [2]int{0, length}
	for i := range bounds {
		if n.Kids[i+1] == nil {
			continue
		}
		switch b := kids[i+1].(type) {
		case int64:
			if b < 0 {
				b = max(b, -int64(length)) + int64(length)
			}
			bounds[i] = int(min(b, int64(length)))
		default:
			return nil, failure(ir.CodeType, "the bound of a slice is an int, and this is %s", kindName(b))
		}
	}
	from, to := bounds[0], max(bounds[0], bounds[1])
	if list != nil {
		return list[from:to], nil
	}
	return string(runes[from:to]), nil
}

func unary(op ir.Op, x any) (any, *Error) {
	if x == nil {
		return nil, nil
	}
	if op == ir.Not {
		if b, ok := x.(bool); ok {
			return !b, nil
		}
		return nil, failure(ir.CodeType, "a condition must be a bool, and it is %s", kindName(x))
	}
	switch x := x.(type) {
	case int64:
		if x == math.MinInt64 {
			return nil, failure(ir.CodeOverflow, "-(%d) does not fit an int", x)
		}
		return -x, nil
	case float64:
		return -x, nil
	}
	return nil, failure(ir.CodeType, "- takes a number, and this is %s", kindName(x))
}

func binary(op ir.Op, a, b any) (any, *Error) {
	switch op {
	case ir.Eq, ir.Ne:
		same, err := equal(a, b)
		return same == (op == ir.Eq), err
	case ir.In:
		return in(a, b)
	case ir.Contains, ir.StartsWith, ir.EndsWith:
		if a == nil || b == nil {
			return false, nil
		}
		x, ok1 := a.(string)
		y, ok2 := b.(string)
		if !ok1 || !ok2 {
			return nil, failure(ir.CodeType, "both sides must be strings, and they are %s and %s", kindName(a), kindName(b))
		}
		switch op {
		case ir.Contains:
			return strings.Contains(x, y), nil
		case ir.StartsWith:
			return strings.HasPrefix(x, y), nil
		}
		return strings.HasSuffix(x, y), nil
	}
	if a == nil || b == nil {
		return nil, nil
	}
	switch op {
	case ir.Lt, ir.Le, ir.Gt, ir.Ge:
		c, err := compare(a, b)
		if err != nil {
			return nil, err
		}
		return map[ir.Op]bool{ir.Lt: c < 0, ir.Le: c <= 0, ir.Gt: c > 0, ir.Ge: c >= 0}[op], nil
	case ir.Range:
		return rangeOf(a, b)
	}
	return arithmetic(op, a, b)
}

func in(x, in any) (any, *Error) {
	switch in := in.(type) {
	case nil:
		return false, nil
	case []any:
		for _, e := range in {
			if same, err := equal(x, e); same || err != nil {
				return same, err
			}
		}
		return false, nil
	case *Object:
		if x == nil {
			return false, nil
		}
		name, ok := x.(string)
		if !ok {
			return nil, failure(ir.CodeType, "members of an object have names, and this is %s", kindName(x))
		}
		_, has := in.Values[name]
		return has, nil
	}
	return nil, failure(ir.CodeType, "in looks into lists and objects, and this is %s", kindName(in))
}

// compare orders two numbers, strings or times.
func compare(a, b any) (int, *Error) {
	switch x := a.(type) {
	case int64, float64:
		switch b.(type) {
		case int64, float64:
			return compareNumbers(a, b), nil
		}
	case string:
		if y, ok := b.(string); ok {
			return strings.Compare(x, y), nil
		}
	case time.Time:
		if y, ok := b.(time.Time); ok {
			return x.Compare(y), nil
		}
	}
	return 0, failure(ir.CodeType, "%s and %s have no order", kindName(a), kindName(b))
}

func rangeOf(a, b any) (any, *Error) {
	lo, ok1 := a.(int64)
	hi, ok2 := b.(int64)
	if !ok1 || !ok2 {
		return nil, failure(ir.CodeType, ".. takes ints, and these are %s and %s", kindName(a), kindName(b))
	}
	if hi >= lo && uint64(hi)-uint64(lo) >= ir.MaxElements {
		return nil, failure(ir.CodeLimit, "the range has more than %d elements", ir.MaxElements)
	}
	out := []any{}
	for i := lo; i <= hi; i++ {
		out = append(out, i)
		if i == math.MaxInt64 {
			break
		}
	}
	return out, nil
}

func arithmetic(op ir.Op, a, b any) (any, *Error) {
	if x, ok := a.(string); ok && op == ir.Add {
		if y, ok := b.(string); ok {
			if len(x)+len(y) > ir.MaxText {
				return nil, failure(ir.CodeLimit, "the string is longer than %d bytes", ir.MaxText)
			}
			return x + y, nil
		}
	}
	if v, err, ok := timeArithmetic(op, a, b); ok {
		return v, err
	}
	x, ok1 := a.(int64)
	y, ok2 := b.(int64)
	if ok1 && ok2 {
		switch op {
		case ir.Add, ir.Sub, ir.Mul, ir.Mod:
			return integer(op, x, y)
		}
	}
	f, ok1 := float(a)
	g, ok2 := float(b)
	if !ok1 || !ok2 || op == ir.Mod {
		return nil, failure(ir.CodeType, "the operator does not take %s and %s", kindName(a), kindName(b))
	}
	var r float64
	switch op {
	case ir.Add:
		r = f + g
	case ir.Sub:
		r = f - g
	case ir.Mul:
		r = f * g
	case ir.Div:
		if g == 0 {
			return nil, failure(ir.CodeDivisionByZero, "division by zero")
		}
		r = f / g
	case ir.Pow:
		if f == 0 && g < 0 {
			return nil, failure(ir.CodeDivisionByZero, "division by zero")
		}
		r = math.Pow(f, g)
	}
	switch {
	case math.IsNaN(r):
		return nil, failure(ir.CodeRange, "the result is not a real number")
	case math.IsInf(r, 0):
		return nil, failure(ir.CodeOverflow, "the result is beyond float64")
	}
	return r, nil
}

func float(v any) (float64, bool) {
	switch v := v.(type) {
	case int64:
		return float64(v), true
	case float64:
		return v, true
	}
	return 0, false
}

func integer(op ir.Op, x, y int64) (any, *Error) {
	over := failure(ir.CodeOverflow, "the result does not fit an int")
	switch op {
	case ir.Add:
		if s := x + y; (s > x) == (y > 0) {
			return s, nil
		}
		return nil, over
	case ir.Sub:
		if s := x - y; (s < x) == (y > 0) {
			return s, nil
		}
		return nil, over
	case ir.Mul:
		p := x * y
		if x != 0 && (p/x != y || x == -1 && y == math.MinInt64) {
			return nil, over
		}
		return p, nil
	}
	if y == 0 {
		return nil, failure(ir.CodeDivisionByZero, "division by zero")
	}
	if y == -1 {
		return int64(0), nil
	}
	return x % y, nil
}

func timeArithmetic(op ir.Op, a, b any) (any, *Error, bool) {
	x, ok1 := a.(time.Time)
	y, ok2 := b.(time.Time)
	switch {
	case ok1 && ok2 && op == ir.Sub:
		s, ns := x.Unix()-y.Unix(), int64(x.Nanosecond()-y.Nanosecond())
		if s > 0 && ns < 0 {
			s, ns = s-1, ns+1e9
		} else if s < 0 && ns > 0 {
			s, ns = s+1, ns-1e9
		}
		return s*1000 + ns/1e6, nil, true
	case ok1 && !ok2 && (op == ir.Add || op == ir.Sub):
		if ms, ok := b.(int64); ok {
			v, err := move(x, ms, op == ir.Sub)
			return v, err, true
		}
	case ok2 && !ok1 && op == ir.Add:
		if ms, ok := a.(int64); ok {
			v, err := move(y, ms, false)
			return v, err, true
		}
	}
	return nil, nil, false
}

func move(t time.Time, ms int64, back bool) (any, *Error) {
	const span = 400_000_000_000_000 // milliseconds, more than 10,000 years
	if ms > span || ms < -span {
		return nil, failure(ir.CodeRange, "the time lies outside of the years 0 to 9999")
	}
	if back {
		ms = -ms
	}
	seconds, rest := ms/1000, ms%1000
	return inYears(time.Unix(t.Unix()+seconds, int64(t.Nanosecond())+rest*1e6).UTC())
}
