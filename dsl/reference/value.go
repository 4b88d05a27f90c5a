// Package reference evaluates trees in the plainest way, over decoded values.
// It shares nothing with the compiler, which tests hold to it; the checker
// uses it to compute what is constant.
package reference

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"keystone/dsl/ir"
	"keystone/dsl/types"
)

// Values are nil, bool, int64, float64, string, time.Time (in UTC), Bytes,
// []any, *Object, and Number before it is read.

// Bytes is a value of the type bytes.
type Bytes []byte

// Number is a JSON number that has not been read yet.
type Number string

// Object is named values in order.
type Object struct {
	Names  []string
	Values map[string]any
}

// NewObject gives an empty object.
func NewObject() *Object { return &Object{Values: map[string]any{}} }

// Put sets a member; a name that is there keeps its place.
func (o *Object) Put(name string, v any) {
	if _, ok := o.Values[name]; !ok {
		o.Names = append(o.Names, name)
	}
	o.Values[name] = v
}

// Error is why an expression has no value.
type Error struct {
	Code  string
	Text  string
	Token ir.Span
}

// Error gives the text.
func (e *Error) Error() string { return e.Code + ": " + e.Text }

func failure(code, format string, args ...any) *Error {
	return &Error{Code: code, Text: fmt.Sprintf(format, args...)}
}

// Decode reads one JSON value, numbers unread. Nothing may follow it.
func Decode(data []byte) (any, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	v, err := decode(d)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("text after the value")
	}
	return v, nil
}

func decode(d *json.Decoder) (any, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case json.Number:
		return Number(t), nil
	case json.Delim:
		if t == '[' {
			list := []any{}
			for d.More() {
				v, err := decode(d)
				if err != nil {
					return nil, err
				}
				list = append(list, v)
			}
			_, err := d.Token()
			return list, err
		}
		o := NewObject()
		for d.More() {
			name, err := d.Token()
			if err != nil {
				return nil, err
			}
			v, err := decode(d)
			if err != nil {
				return nil, err
			}
			o.Put(name.(string), v)
		}
		_, err := d.Token()
		return o, err
	}
	return t, nil // nil, bool, string
}

// wide reads a number of no declared type.
func (n Number) wide() (any, *Error) {
	if !strings.ContainsAny(string(n), ".eE") {
		if i, err := strconv.ParseInt(string(n), 10, 64); err == nil {
			return i, nil
		}
	}
	f, err := strconv.ParseFloat(string(n), 64)
	if err != nil || math.IsInf(f, 0) {
		return nil, failure(ir.CodeRange, "the number %s is beyond float64", n)
	}
	return f, nil
}

// read gives a value of the event as the type says.
func read(v any, t types.Type) (any, *Error) {
	if v == nil {
		return nil, nil
	}
	wrong := failure(ir.CodeType, "this must be %s, and it is %s", t, kindName(v))
	switch t.Kind {
	case types.Any, types.Nil:
		if n, ok := v.(Number); ok {
			return n.wide()
		}
		return v, nil
	case types.Bool:
		if b, ok := v.(bool); ok {
			return b, nil
		}
	case types.Int:
		switch v := v.(type) {
		case int64:
			return v, nil
		case Number:
			if i, err := strconv.ParseInt(string(v), 10, 64); err == nil && !strings.ContainsAny(string(v), ".eE") {
				return i, nil
			}
		}
	case types.Float, types.Decimal:
		switch v := v.(type) {
		case float64:
			return v, nil
		case int64:
			return float64(v), nil
		case Number:
			f, err := strconv.ParseFloat(string(v), 64)
			if err != nil || math.IsInf(f, 0) {
				return nil, failure(ir.CodeRange, "the number %s is beyond float64", v)
			}
			return f, nil
		}
	case types.String:
		if s, ok := v.(string); ok {
			return s, nil
		}
	case types.TimestampMs:
		switch v := v.(type) {
		case time.Time:
			return v, nil
		case Number:
			if i, err := strconv.ParseInt(string(v), 10, 64); err == nil && !strings.ContainsAny(string(v), ".eE") {
				return inYears(time.UnixMilli(i).UTC())
			}
		}
	case types.TimestampRFC3339, types.Date:
		layout := time.RFC3339Nano
		if t.Kind == types.Date {
			layout = time.DateOnly
		}
		switch v := v.(type) {
		case time.Time:
			return v, nil
		case string:
			if x, err := time.Parse(layout, v); err == nil {
				return inYears(x.UTC())
			}
		}
	case types.Bytes:
		switch v := v.(type) {
		case Bytes:
			return v, nil
		case string:
			if b, err := base64.StdEncoding.Strict().DecodeString(v); err == nil {
				return Bytes(b), nil
			}
		}
	case types.List:
		if l, ok := v.([]any); ok {
			return l, nil
		}
	case types.Map, types.Object:
		if o, ok := v.(*Object); ok {
			return o, nil
		}
	}
	return nil, wrong
}

// inYears refuses times that RFC 3339 cannot write.
func inYears(t time.Time) (any, *Error) {
	if y := t.Year(); y < 0 || y > 9999 {
		return nil, failure(ir.CodeRange, "the time lies outside of the years 0 to 9999")
	}
	return t, nil
}

func kindName(v any) string {
	switch v := v.(type) {
	case nil:
		return "nil"
	case bool:
		return "bool"
	case int64:
		return "int"
	case float64:
		return "float"
	case Number:
		x, err := v.wide()
		if err != nil {
			return "float"
		}
		return kindName(x)
	case string:
		return "string"
	case time.Time:
		return "time"
	case Bytes:
		return "bytes"
	case []any:
		return "list"
	case *Object:
		return "object"
	}
	panic(fmt.Sprintf("reference: a value of Go type %T", v))
}

// fromConst makes a value of what a Const node holds.
func fromConst(v any) any {
	switch v := v.(type) {
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = fromConst(e)
		}
		return out
	case map[string]any:
		o := NewObject()
		for _, name := range slices.Sorted(maps.Keys(v)) {
			o.Put(name, fromConst(v[name]))
		}
		return o
	}
	return v
}

// Append writes a value as JSON, a time in the form of the type.
func Append(dst []byte, v any, t types.Type) ([]byte, *Error) {
	switch v := v.(type) {
	case nil:
		return append(dst, "null"...), nil
	case bool:
		return strconv.AppendBool(dst, v), nil
	case int64:
		if t.Kind == types.Decimal {
			if err := fits(strconv.FormatInt(v, 10), t); err != nil {
				return dst, err
			}
		}
		return strconv.AppendInt(dst, v, 10), nil
	case float64:
		if t.Kind == types.Decimal {
			text := strconv.FormatFloat(v, 'f', t.Scale, 64)
			return append(dst, text...), fits(text, t)
		}
		b, err := json.Marshal(v)
		if err != nil {
			return dst, failure(ir.CodeRange, "%v", err)
		}
		return append(dst, b...), nil
	case Number:
		return append(dst, v...), nil
	case string:
		return appendString(dst, v), nil
	case time.Time:
		switch t.Kind {
		case types.TimestampMs:
			return strconv.AppendInt(dst, v.UnixMilli(), 10), nil
		case types.Date:
			return append(dst, v.Format(`"2006-01-02"`)...), nil
		}
		return append(dst, v.Format(`"`+time.RFC3339Nano+`"`)...), nil
	case Bytes:
		return append(dst, `"`+base64.StdEncoding.EncodeToString(v)+`"`...), nil
	case []any:
		elem := types.AnyType
		if t.Kind == types.List {
			elem = within(*t.Elem)
		}
		dst = append(dst, '[')
		for i, e := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			var err *Error
			if dst, err = Append(dst, e, elem); err != nil {
				return dst, err
			}
		}
		return append(dst, ']'), nil
	case *Object:
		dst = append(dst, '{')
		for i, name := range v.Names {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendString(dst, name), ':')
			member := types.AnyType
			if f, ok := t.Field(name); ok {
				member = within(f.Type)
			} else if t.Kind == types.Map {
				member = within(*t.Elem)
			}
			var err *Error
			if dst, err = Append(dst, v.Values[name], member); err != nil {
				return dst, err
			}
		}
		return append(dst, '}'), nil
	}
	panic(fmt.Sprintf("reference: a value of Go type %T", v))
}

// within gives the form of what lists and objects hold: numbers there stand as they are.
func within(t types.Type) types.Type {
	if t.Kind == types.Decimal {
		return types.AnyType
	}
	return t
}

// fits tells whether a number, rounded to the scale of the decimal, has no
// more digits before the point than it.
func fits(text string, t types.Type) *Error {
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		return failure(ir.CodeRange, "%s is no number", text)
	}
	whole, _, _ := strings.Cut(r.Abs(r).FloatString(t.Scale), ".")
	if whole = strings.TrimLeft(whole, "0"); len(whole) > t.Precision-t.Scale {
		return failure(ir.CodeRange, "%s does not fit %s", text, t)
	}
	return nil
}

func appendString(dst []byte, s string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic(err) // a string always encodes
	}
	return append(dst, bytes.TrimSuffix(b.Bytes(), []byte("\n"))...)
}

// equal compares by value: numbers exactly, objects whatever their order.
func equal(a, b any) (bool, *Error) {
	var err *Error
	if n, ok := a.(Number); ok {
		if a, err = n.wide(); err != nil {
			return false, err
		}
	}
	if n, ok := b.(Number); ok {
		if b, err = n.wide(); err != nil {
			return false, err
		}
	}
	switch x := a.(type) {
	case nil:
		return b == nil, nil
	case bool:
		y, ok := b.(bool)
		return ok && x == y, nil
	case int64, float64:
		switch b.(type) {
		case int64, float64:
			return compareNumbers(a, b) == 0, nil
		}
		return false, nil
	case string:
		y, ok := b.(string)
		return ok && x == y, nil
	case time.Time:
		y, ok := b.(time.Time)
		return ok && x.Equal(y), nil
	case Bytes:
		y, ok := b.(Bytes)
		return ok && bytes.Equal(x, y), nil
	case []any:
		y, ok := b.([]any)
		if !ok || len(x) != len(y) {
			return false, nil
		}
		for i := range x {
			if same, err := equal(x[i], y[i]); !same || err != nil {
				return false, err
			}
		}
		return true, nil
	case *Object:
		y, ok := b.(*Object)
		if !ok || len(x.Names) != len(y.Names) {
			return false, nil
		}
		for _, name := range x.Names {
			other, ok := y.Values[name]
			if !ok {
				return false, nil
			}
			if same, err := equal(x.Values[name], other); !same || err != nil {
				return false, err
			}
		}
		return true, nil
	}
	panic(fmt.Sprintf("reference: a value of Go type %T", a))
}

// compareNumbers orders ints and floats by their exact values.
func compareNumbers(a, b any) int {
	switch x := a.(type) {
	case int64:
		switch y := b.(type) {
		case int64:
			return order(x < y, x > y)
		case float64:
			return compareIntFloat(x, y)
		}
	case float64:
		switch y := b.(type) {
		case int64:
			return -compareIntFloat(y, x)
		case float64:
			return order(x < y, x > y)
		}
	}
	panic("reference: not numbers")
}

func compareIntFloat(i int64, f float64) int {
	switch {
	case f >= 1<<63:
		return -1
	case f < -1<<63:
		return 1
	}
	whole := math.Trunc(f)
	if t := int64(whole); i != t {
		return order(i < t, i > t)
	}
	return order(whole < f, whole > f)
}

func order(less, more bool) int {
	switch {
	case less:
		return -1
	case more:
		return 1
	}
	return 0
}
