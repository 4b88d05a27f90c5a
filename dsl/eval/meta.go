package eval

import (
	"unicode/utf8"

	"keystone/dsl/ir"
)

// meta compiles meta.NAME.
func (c *compiler) meta(n *ir.Node) valF {
	switch n.Name {
	case "topic":
		return func(m *machine) value {
			at := len(m.buf)
			m.buf = append(m.buf, m.topic...)
			return stringValue(m.keep(at))
		}
	case "partition":
		return func(m *machine) value { return intValue(int64(m.partition)) }
	case "offset":
		return func(m *machine) value { return intValue(m.rec.Offset) }
	case "timestamp":
		return func(m *machine) value {
			if m.rec.Timestamp == 0 {
				return value{}
			}
			sec, ms := floorDiv(m.rec.Timestamp, 1000)
			return value{k: kTime, n: sec, aux: int32(ms) * 1e6}
		}
	case "key":
		return func(m *machine) value {
			if m.rec.Key == nil {
				return value{}
			}
			return stringValue(m.utf8(m.rec.Key))
		}
	case "headers":
		return func(m *machine) value {
			l := m.room(2 * len(m.rec.Headers))
			for i := range m.rec.Headers {
				h := &m.rec.Headers[i]
				at := len(m.buf)
				m.buf = append(m.buf, h.Key...)
				name := stringValue(m.utf8(m.keep(at)))
				if h.Value == nil {
					l = append(l, name, value{})
				} else {
					l = append(l, name, stringValue(m.utf8(h.Value)))
				}
			}
			return value{k: kObject, l: distinct(l)}
		}
	case "tombstone":
		return func(m *machine) value { return boolValue(m.rec.Value == nil) }
	}
	c.refuse("meta has no %q", n.Name)
	return func(*machine) value { return value{} }
}

// utf8 gives text of bytes that may be anything: what is not UTF-8 becomes U+FFFD.
func (m *machine) utf8(s []byte) []byte {
	if utf8.Valid(s) {
		return s
	}
	at := len(m.buf)
	for len(s) > 0 {
		r, n := utf8.DecodeRune(s)
		m.buf = utf8.AppendRune(m.buf, r)
		s = s[n:]
	}
	return m.keep(at)
}
