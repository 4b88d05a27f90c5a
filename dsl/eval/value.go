package eval

import (
	"math"

	"keystone/pipeline/json"
)

type kind uint8

const (
	kNil    kind = iota
	kBool        // n is 0 or 1
	kInt         // n; s is the text it was copied from, or nil
	kFloat       // n is its bits; s as of kInt. Infinite: text beyond float64
	kString      // s; aux is escaped if escapes in it are not decoded yet
	kTime        // n seconds since 1970 UTC and aux nanoseconds
	kBytes       // s
	kList        // s is its JSON text, or nil and l has the elements
	kObject      // s is its JSON text, or nil and l has names and values in turn
	kErr         // the machine's err says why
)

const escaped = 1

// value is what an expression works on. Its slices point into the document,
// the program or the machine's memory, and live until the machine's next record.
type value struct {
	k   kind
	aux int32
	n   int64
	s   []byte
	l   []value
}

var kindNames = [...]string{"nil", "bool", "int", "float", "string", "time", "bytes", "list", "object", "error"}

// aKind names kinds in messages.
var aKind = [...]string{"nil", "a bool", "an int", "a float", "a string", "a time", "bytes", "a list", "an object", "an error"}

func boolValue(b bool) value {
	if b {
		return value{k: kBool, n: 1}
	}
	return value{k: kBool}
}

func intValue(n int64) value { return value{k: kInt, n: n} }

func floatValue(f float64) value { return value{k: kFloat, n: int64(math.Float64bits(f))} }

func stringValue(s []byte) value { return value{k: kString, s: s} }

func listValue(l []value) value { return value{k: kList, l: l} }

func (v value) float() float64 { return math.Float64frombits(uint64(v.n)) }

func (v value) isNumber() bool { return v.k == kInt || v.k == kFloat }

// constant makes a value of what ir.Node.Value holds.
func constant(x any) value {
	switch x := x.(type) {
	case nil:
		return value{}
	case bool:
		return boolValue(x)
	case int64:
		return intValue(x)
	case int:
		return intValue(int64(x))
	case float64:
		return floatValue(x)
	case string:
		return stringValue([]byte(x))
	case []any:
		l := make([]value, len(x))
		for i, e := range x {
			l[i] = constant(e)
		}
		return listValue(l)
	case map[string]any:
		l := make([]value, 0, 2*len(x))
		for _, name := range sortedKeys(x) {
			l = append(l, stringValue([]byte(name)), constant(x[name]))
		}
		return value{k: kObject, l: l}
	}
	return value{k: kErr}
}

// fromSlot makes a value of a slot that is neither missing nor null.
func fromSlot(doc []byte, s *json.Slot) value {
	switch s.Kind {
	case json.String:
		v := value{k: kString, s: doc[s.Start+1 : s.End-1 : s.End-1]}
		if s.Marked {
			v.aux = escaped
		}
		return v
	case json.Number:
		return number(doc[s.Start:s.End:s.End])
	case json.True:
		return value{k: kBool, n: 1}
	case json.False:
		return value{k: kBool}
	case json.Array:
		return value{k: kList, s: doc[s.Start:s.End:s.End]}
	case json.Object:
		return value{k: kObject, s: doc[s.Start:s.End:s.End]}
	}
	return value{}
}

// fromRaw makes a value of JSON text that is valid.
func fromRaw(raw []byte) value {
	switch json.KindOf(raw) {
	case json.String:
		v := value{k: kString, s: raw[1 : len(raw)-1 : len(raw)-1]}
		for _, c := range v.s {
			if c == '\\' {
				v.aux = escaped
				break
			}
		}
		return v
	case json.Number:
		return number(raw)
	case json.True:
		return value{k: kBool, n: 1}
	case json.False:
		return value{k: kBool}
	case json.Array:
		return value{k: kList, s: raw}
	case json.Object:
		return value{k: kObject, s: raw}
	}
	return value{}
}

func number(raw []byte) value {
	n, ok := json.NumberOf(raw)
	if !n.IsFloat {
		return value{k: kInt, n: n.Int, s: raw}
	}
	if !ok {
		n.Float = math.Inf(1)
	}
	return value{k: kFloat, n: int64(math.Float64bits(n.Float)), s: raw}
}
