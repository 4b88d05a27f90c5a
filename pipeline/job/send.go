package job

import (
	"fmt"

	"keystone/configs"
	"keystone/dsl/eval"
	"keystone/pipeline/job/agg"
)

// sender is the way of a task's rows into a keyed operator: it evaluates what the operator needs of a row and sends it
// to the task that owns the key.
type sender struct {
	t     *task
	s     *scope
	of    *configs.Operator
	out   *outlet
	c     *counts
	key   int // first of the key's expressions in the scope
	keys  int
	kind  string
	side  uint8
	late  []step
	plan  *agg.Plan
	first int // of the plan's expressions, or the order of top

	size, every, lateness int64

	keyBuf, load []byte
}

// The kinds of what a sender makes of a row.
const (
	sendRow      = "row"      // the row itself
	sendInterval = "interval" // the row itself, late by its own time
	sendWindowed = "windowed" // the row itself, into windows
	sendTop      = "top"
	sendAgg      = "aggregate" // the arguments of aggregates, without windows
	sendAggIn    = "tumbling"  // the same, into windows
	sendSession  = "session"
)

func (t *task) buildSend(c consumer, s *scope) (step, error) {
	o := c.op
	x := &sender{t: t, s: s, of: o, c: t.j.graph.counts[o], kind: sendRow, side: uint8(c.input)} //nolint:gosec // 0 or 1
	for _, out := range t.outs {
		if out.to == t.j.graph.nodes[o] {
			x.out = out
		}
	}
	if x.out == nil {
		return nil, fmt.Errorf("no way from %s to %s", t.n.name(), o.Name())
	}
	key := o.Key
	if o.Kind == "join" {
		key = o.Join.Left
		if c.input == 1 {
			key = o.Join.Right
		}
	}
	x.keys = len(key)
	for i, k := range key {
		if n := s.add(k.Expr); i == 0 {
			x.key = n
		}
	}
	switch o.Kind {
	case "window", "aggregate":
		var err error
		if x.plan, err = agg.Compile(o.Aggregation, o.Inputs[0].Type()); err != nil {
			return nil, fmt.Errorf("%s: %w", o.Name(), err)
		}
		x.first = s.add(x.plan.Exprs()...)
		w := o.Window
		x.size, x.every, x.lateness = w.Size.Milliseconds(), w.Every.Milliseconds(), w.Lateness.Milliseconds()
		switch w.Kind {
		case configs.WindowTumbling:
			x.kind, x.every = sendAggIn, x.size
		case configs.WindowHopping:
			x.kind = sendAggIn
		case configs.WindowSession:
			x.kind = sendSession
		default:
			x.kind = sendAgg
		}
	case "join":
		w := o.Join
		x.size, x.every, x.lateness = w.Size.Milliseconds(), w.Every.Milliseconds(), w.Lateness.Milliseconds()
		x.kind = sendWindowed
		switch w.Window {
		case configs.WindowTumbling:
			x.every = x.size
		case configs.WindowHopping:
		default:
			x.kind = sendInterval
		}
	case "top":
		x.kind = sendTop
		x.first = s.add(o.Top.OrderBy)
	}
	var err error
	x.late, err = t.build(o, portLate, s)
	return x, err
}

// row sends a row, or gives it to those who read what is late.
func (x *sender) row(r *row) error {
	h := head{time: r.time, mark: r.mark, tie: r.tie, side: x.side}
	switch x.kind {
	case sendAggIn, sendWindowed:
		h.space = floorTo(r.time, x.every)
		if after(h.space, x.size+x.lateness) <= r.mark {
			return x.tooLate(r)
		}
	case sendSession, sendInterval:
		if after(r.time, x.lateness) < r.mark {
			return x.tooLate(r)
		}
	}
	e := x.s.eval
	var err *eval.Error
	x.keyBuf = x.keyBuf[:0]
	for i := x.key; i < x.key+x.keys; i++ {
		if x.keyBuf, err = e.AppendValue(x.keyBuf, i); err != nil {
			return x.t.fail(x.of, r, err)
		}
	}
	if x.of.Kind == "lookup" {
		x.load = messageKey(x.load[:0], x.keyBuf, &x.of.Key[0])
		x.keyBuf, x.load = x.load, x.keyBuf
	}
	x.load = x.load[:0]
	switch x.kind {
	case sendAgg, sendAggIn, sendSession:
		x.load, err = x.plan.Extract(e, x.first, x.load)
	case sendTop:
		if x.load, err = e.AppendValue(x.load, x.first); err == nil {
			x.load = append(x.load, r.rec.Value...)
		}
	default:
		x.load = append(x.load, r.rec.Value...)
	}
	if err != nil {
		return x.t.fail(x.of, r, err)
	}
	return x.out.add(h, x.keyBuf, x.load)
}

func (x *sender) tooLate(r *row) error {
	x.c.late.add(1)
	return runAll(x.late, r)
}

// floorTo gives the largest multiple of n that is not after t.
func floorTo(t, n int64) int64 {
	d := t % n
	if d < 0 {
		d += n
	}
	return t - d
}

// newBody makes what a keyed operator's task does.
func (t *task) newBody() (body, error) {
	o := t.n.op
	switch o.Kind {
	case "window", "aggregate":
		plan, err := agg.Compile(o.Aggregation, o.Inputs[0].Type())
		if err != nil {
			return nil, err
		}
		w := newRowWriter(t, plan)
		if o.Window.Kind == configs.WindowSession {
			return newSessions(t, plan, w), nil
		}
		return newWindows(t, plan, w), nil
	case "dedup":
		return newDedup(t), nil
	case "top":
		return newTop(t), nil
	case "join":
		return newJoin(t)
	case "lookup":
		return newLookup(t)
	}
	return nil, fmt.Errorf("%s is not keyed", o.Name())
}

// rowWriter writes the rows of aggregates.
type rowWriter struct {
	t      *task
	keys   []configs.KeyField
	w      *agg.Writer
	bounds bool // window_start and window_end are fields
	buf    []byte
	r      row
}

func newRowWriter(t *task, plan *agg.Plan) *rowWriter {
	kind := t.n.op.Window.Kind
	return &rowWriter{t: t, keys: t.n.op.Key, w: plan.NewWriter(), bounds: kind != configs.WindowNone && kind != configs.WindowGlobal}
}

// appendKey appends the fields of a key, with a comma behind each.
func appendKey(dst []byte, key []configs.KeyField, enc []byte) []byte {
	for _, k := range key {
		dst = append(appendName(dst, k.Name), ':')
		dst, enc = eval.JSONOfValue(dst, enc, k.Expr.Root.Type)
		dst = append(dst, ',')
	}
	return dst
}

// append appends the row of a key and window; false says that it could not be made, and what became of it is done.
func (w *rowWriter) append(dst, key []byte, start, end int64, st *agg.State) ([]byte, bool, error) {
	at := len(dst)
	dst = appendKey(append(dst, '{'), w.keys, key)
	if w.bounds {
		dst = appendInt(append(dst, `"window_start":`...), start)
		dst = appendInt(append(dst, `,"window_end":`...), end)
		dst = append(dst, ',')
	}
	fields := len(dst)
	dst, err := w.w.AppendFields(dst, st)
	if err != nil {
		bad := append(trimComma(dst[at:fields:fields]), '}')
		w.t.made.Value, w.t.made.Timestamp = bad, end
		w.t.made.Key, w.t.made.Headers = nil, nil
		return dst[:at], false, w.t.fail(w.t.n.op, &row{time: end, rec: &w.t.made}, err)
	}
	return append(trimComma(dst), '}'), true, nil
}

func trimComma(b []byte) []byte {
	if len(b) > 0 && b[len(b)-1] == ',' {
		return b[:len(b)-1]
	}
	return b
}

// emit gives a row of a window, whose identity is its key and start.
func (w *rowWriter) emit(value, key []byte, start, at int64, what op, rev uint32) error {
	lateness := w.t.n.op.Window.Lateness.Milliseconds()
	w.r = row{time: at, mark: before(at, lateness+1), op: what, rev: rev}
	w.t.rowID(&w.r, key, start)
	return w.t.emit(&w.r, value)
}
