package eval

import (
	"encoding/base64"
	"strconv"

	"keystone/dsl/ir"
	"keystone/dsl/types"
	"keystone/pipeline/json"
)

// out compiles a node for the output: what is only copied keeps its bytes.
// t is the declared type of the output, which says how a computed time is written.
func (c *compiler) out(n *ir.Node, t types.Type) outF {
	switch n.Op {
	case ir.Const:
		if !n.Type.IsTime() && !t.IsTime() && t.Kind != types.Decimal && n.Type.Kind != types.Bytes {
			m := &machine{}
			text, ok := m.appendJSON(nil, constant(n.Value), t, c.site(n))
			if !ok {
				c.refuse("a constant that cannot be written: %s", m.err.Text)
			}
			return func(_ *machine, dst []byte) ([]byte, bool) { return append(dst, text...), true }
		}
	case ir.Field:
		if f := c.copied(n, t); f != nil {
			return f
		}
	case ir.Neg, ir.Add, ir.Sub, ir.Mul, ir.Div, ir.Mod, ir.Pow:
		f, st := c.num(n), c.site(n)
		return func(m *machine, dst []byte) ([]byte, bool) {
			x := f(m)
			switch {
			case x.k == numFloat && t.Kind != types.Decimal:
				return json.AppendFloat(dst, x.f), true
			case x.k == numInt && t.Kind != types.Decimal:
				return appendInt(dst, x.i), true
			}
			return m.appendJSON(dst, m.valueOf(x), t, st)
		}
	}
	f, st := c.val(n), c.site(n)
	return func(m *machine, dst []byte) ([]byte, bool) { return m.appendJSON(dst, f(m), t, st) }
}

// copied compiles a field that goes to the output as it is. Where its type
// is declared the value is checked; where the form of a time differs from
// the output's it is no copy, and a decimal has to be looked at: then nil is given.
func (c *compiler) copied(n *ir.Node, t types.Type) outF {
	if n.Type.IsTime() && t.IsTime() && n.Type.Kind != t.Kind || t.Kind == types.Decimal {
		return nil
	}
	id, rest := c.path(n.Path)
	if rest != nil {
		return nil
	}
	st, read := c.site(n), c.val(n)
	var plain json.Kind // of which a value needs no further look
	switch n.Type.Kind {
	case types.String:
		plain = json.String
	case types.List:
		plain = json.Array
	case types.Object, types.Map:
		plain = json.Object
	case types.Int, types.TimestampMs:
		plain = json.Number
	}
	whole := plain == json.Number
	always := n.Type.Kind == types.Any
	return func(m *machine, dst []byte) ([]byte, bool) {
		s := &m.slots[id]
		if s.Kind == json.Missing || s.Kind != plain && !always || whole && (s.Marked || s.End-s.Start > 18) {
			v := read(m)
			if v.k == kErr || v.k == kNil || s.Kind == json.Missing {
				return m.appendJSON(dst, v, t, st)
			}
		}
		return append(dst, m.doc[s.Start:s.End]...), true
	}
}

// appendJSON appends a value as JSON in the form of the declared type.
func (m *machine) appendJSON(dst []byte, v value, t types.Type, st *site) ([]byte, bool) {
	switch v.k {
	case kNil:
		return append(dst, "null"...), true
	case kBool:
		return strconv.AppendBool(dst, v.n == 1), true
	case kInt, kFloat:
		return m.appendNumber(dst, v, t, st)
	case kString:
		if v.aux&escaped != 0 {
			return append(append(append(dst, '"'), v.s...), '"'), true
		}
		return json.AppendString(dst, v.s), true
	case kTime:
		if t.Kind == types.TimestampMs {
			return m.appendTime(dst, v, t, st)
		}
		dst, ok := m.appendTime(append(dst, '"'), v, t, st)
		return append(dst, '"'), ok
	case kBytes:
		dst = append(dst, '"')
		dst = base64.StdEncoding.AppendEncode(dst, v.s)
		return append(dst, '"'), true
	case kList:
		return m.appendList(dst, v, t, st)
	case kObject:
		return m.appendObject(dst, v, t, st)
	}
	return dst, false
}

// appendTime appends a time without quotes in the form of the type, RFC 3339 if it is none.
func (m *machine) appendTime(dst []byte, v value, t types.Type, st *site) ([]byte, bool) {
	k := types.TimestampRFC3339
	if t.IsTime() {
		k = t.Kind
	}
	dst, ok := appendTime(dst, v, k)
	if !ok {
		m.fail(st, ir.CodeRange, "This time cannot be written as "+types.Type{Kind: k}.String()+".")
	}
	return dst, ok
}

// appendNumber appends a number, a copied one as it is. What does not fit a
// decimal is refused, copied or computed.
func (m *machine) appendNumber(dst []byte, v value, t types.Type, st *site) ([]byte, bool) {
	at := len(dst)
	switch {
	case v.s != nil:
		dst = append(dst, v.s...)
	case v.k == kInt:
		dst = appendInt(dst, v.n)
	case t.Kind == types.Decimal:
		dst = strconv.AppendFloat(dst, v.float(), 'f', t.Scale, 64)
	default:
		dst = json.AppendFloat(dst, v.float())
	}
	if t.Kind == types.Decimal && !fitsDecimal(dst[at:], t) {
		m.fail(st, ir.CodeRange, "This number does not fit "+t.String()+".")
		return dst, false
	}
	return dst, true
}

// within gives the form of what lists and objects hold: times have one; a
// number there is not read, so it stands as it is.
func within(t types.Type) types.Type {
	if t.Kind == types.Decimal {
		return types.AnyType
	}
	return t
}

// appendList appends a list; its JSON text as it is where it has one.
func (m *machine) appendList(dst []byte, v value, t types.Type, st *site) ([]byte, bool) {
	if v.s != nil {
		return append(dst, v.s...), true
	}
	elem := types.AnyType
	if t.Elem != nil {
		elem = within(*t.Elem)
	}
	dst = append(dst, '[')
	for i, e := range v.l {
		if i > 0 {
			dst = append(dst, ',')
		}
		var ok bool
		if dst, ok = m.appendJSON(dst, e, elem, st); !ok {
			return dst, false
		}
	}
	return append(dst, ']'), true
}

func (m *machine) appendObject(dst []byte, v value, t types.Type, st *site) ([]byte, bool) {
	if v.s != nil {
		return append(dst, v.s...), true
	}
	dst = append(dst, '{')
	for i := 0; i < len(v.l); i += 2 {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(json.AppendString(dst, v.l[i].s), ':')
		elem := types.AnyType
		if t.Kind == types.Map && t.Elem != nil {
			elem = within(*t.Elem)
		} else if t.Kind == types.Object {
			for j := range t.Fields {
				if t.Fields[j].Name == string(v.l[i].s) {
					elem = within(t.Fields[j].Type)
				}
			}
		}
		var ok bool
		if dst, ok = m.appendJSON(dst, v.l[i+1], elem, st); !ok {
			return dst, false
		}
	}
	return append(dst, '}'), true
}

// appendText appends a value as plain text: a string's own bytes, a time
// without quotes, everything else as JSON. nil is not for it.
func (m *machine) appendText(dst []byte, v value, t types.Type, st *site) ([]byte, bool) {
	switch v.k {
	case kString:
		return append(dst, m.text(v)...), true
	case kTime:
		return m.appendTime(dst, v, t, st)
	case kBytes:
		return append(dst, v.s...), true
	}
	return m.appendJSON(dst, v, within(t), st)
}

// member is one field of an object to be written: the text up to its value, and the value.
type member struct {
	lead []byte
	val  outF
}

// template compiles the fields of a projection into what is appended one after the other.
func (c *compiler) template(fields []ir.Output) outF {
	ms := make([]member, len(fields))
	for i, f := range fields {
		lead := []byte{'{'}
		if i > 0 {
			lead[0] = ','
		}
		lead = append(json.AppendString(lead, []byte(f.Name)), ':')
		ms[i] = member{lead: lead, val: c.outputValue(f)}
	}
	if len(ms) == 0 {
		return func(_ *machine, dst []byte) ([]byte, bool) { return append(dst, "{}"...), true }
	}
	return func(m *machine, dst []byte) ([]byte, bool) {
		for i := range ms {
			var ok bool
			dst = append(dst, ms[i].lead...)
			if dst, ok = ms[i].val(m, dst); !ok {
				return dst, false
			}
		}
		return append(dst, '}'), true
	}
}

func (c *compiler) outputValue(f ir.Output) outF {
	switch {
	case f.IsObject:
		return c.template(f.Object)
	case f.Expr != nil:
		outer := c.expr
		c.expr = f.Expr
		defer func() { c.expr = outer }()
		return c.out(f.Expr.Root, f.Type)
	}
	v := constant(f.Lit)
	if v.k == kErr {
		c.refuse("the literal of %q is a %T", f.Name, f.Lit)
	}
	t := f.Type
	return func(m *machine, dst []byte) ([]byte, bool) { return m.appendJSON(dst, v, t, nil) }
}

// appendCanonical appends a value as compact JSON. Numbers within lists and
// objects keep their text, since they have not been read.
func (m *machine) appendCanonical(dst []byte, v value, st *site) ([]byte, bool) {
	if v.isNumber() {
		if m.numOf(v, st).k == numErr {
			return dst, false
		}
		v.s = nil
	}
	return m.appendCompact(dst, v, st)
}

func (m *machine) appendCompact(dst []byte, v value, st *site) ([]byte, bool) {
	switch v.k {
	case kString:
		return json.AppendString(dst, m.text(v)), true
	case kList:
		dst = append(dst, '[')
		for i, e := range m.elements(v) {
			if i > 0 {
				dst = append(dst, ',')
			}
			var ok bool
			if dst, ok = m.appendCompact(dst, e, st); !ok {
				return dst, false
			}
		}
		return append(dst, ']'), true
	case kObject:
		dst = append(dst, '{')
		l := m.members(v)
		for i := 0; i < len(l); i += 2 {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(json.AppendString(dst, l[i].s), ':')
			var ok bool
			if dst, ok = m.appendCompact(dst, l[i+1], st); !ok {
				return dst, false
			}
		}
		return append(dst, '}'), true
	}
	return m.appendJSON(dst, v, types.AnyType, st)
}

// appendCanonicalText is appendCanonical, with times and bytes unquoted.
func (m *machine) appendCanonicalText(dst []byte, v value, st *site) ([]byte, bool) {
	switch v.k {
	case kTime:
		return m.appendTime(dst, v, types.AnyType, st)
	case kBytes:
		return base64.StdEncoding.AppendEncode(dst, v.s), true
	}
	return m.appendCanonical(dst, v, st)
}
