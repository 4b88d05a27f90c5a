// Package types has the types of events: what a stream's schema declares,
// what an expression yields, what a sink stores. It is a leaf.
package types

import (
	"strconv"
	"strings"
)

// Kind is the outermost form of a type.
type Kind uint8

// The kinds. Nil is the type of the literal nil; Any is checked at run time.
const (
	Any Kind = iota
	Nil
	Bool
	Int
	Float
	String
	Decimal
	TimestampMs      // a time, written as integer milliseconds since 1970 UTC
	TimestampRFC3339 // a time, written as an RFC 3339 string
	Date             // a day, written as "2006-01-02"
	Bytes            // binary, written as base64 (RFC 4648 §4)
	List
	Map
	Object
)

// Type is a type of the language. Types are values and never change once made.
type Type struct {
	Kind      Kind
	Elem      *Type   // of a List or Map
	Fields    []Field // of an Object, in the written order
	Open      bool    // an Object that may have more fields than it names
	Precision int     // of a Decimal
	Scale     int     // of a Decimal
	Sensitive bool    // samples of it are masked
}

// Field is one field of an Object.
type Field struct {
	Name     string
	Type     Type
	Optional bool
}

// Scalar types, for convenience.
var (
	AnyType         = Type{Kind: Any}
	NilType         = Type{Kind: Nil}
	BoolType        = Type{Kind: Bool}
	IntType         = Type{Kind: Int}
	FloatType       = Type{Kind: Float}
	StringType      = Type{Kind: String}
	BytesType       = Type{Kind: Bytes}
	DateType        = Type{Kind: Date}
	TimestampMsType = Type{Kind: TimestampMs}
	TimestampRFC    = Type{Kind: TimestampRFC3339}
)

// ListOf gives list(elem).
func ListOf(elem Type) Type { return Type{Kind: List, Elem: &elem} }

// MapOf gives map(elem).
func MapOf(elem Type) Type { return Type{Kind: Map, Elem: &elem} }

// ObjectOf gives object({fields}).
func ObjectOf(fields ...Field) Type { return Type{Kind: Object, Fields: fields} }

// Field finds a field by name.
func (t Type) Field(name string) (Field, bool) {
	for _, f := range t.Fields {
		if f.Name == name {
			return f, true
		}
	}
	return Field{}, false
}

// FieldNames lists the fields in order.
func (t Type) FieldNames() []string {
	names := make([]string, len(t.Fields))
	for i, f := range t.Fields {
		names[i] = f.Name
	}
	return names
}

// IsTime tells the types that are times in expressions.
func (t Type) IsTime() bool {
	return t.Kind == TimestampMs || t.Kind == TimestampRFC3339 || t.Kind == Date
}

// IsNumber tells int, float and decimal.
func (t Type) IsNumber() bool { return t.Kind == Int || t.Kind == Float || t.Kind == Decimal }

// Equal compares structure; Sensitive does not count.
func Equal(a, b Type) bool {
	if a.Kind != b.Kind || a.Precision != b.Precision || a.Scale != b.Scale || a.Open != b.Open || len(a.Fields) != len(b.Fields) || (a.Elem == nil) != (b.Elem == nil) {
		return false
	}
	if a.Elem != nil && !Equal(*a.Elem, *b.Elem) {
		return false
	}
	for i, f := range a.Fields {
		g := b.Fields[i]
		if f.Name != g.Name || f.Optional != g.Optional || !Equal(f.Type, g.Type) {
			return false
		}
	}
	return true
}

var names = [...]string{"any", "nil", "bool", "int", "float", "string", "decimal", "timestamp_ms", "timestamp_rfc3339", "date", "bytes", "list", "map", "object"}

// String gives the type as it is written in a schema. (An open object, which
// no schema declares, looks like a closed one.)
func (t Type) String() string { return t.format(false) }

func (t Type) format(open bool) string {
	s := names[t.Kind]
	switch t.Kind {
	case Decimal:
		s = "decimal(" + strconv.Itoa(t.Precision) + ", " + strconv.Itoa(t.Scale) + ")"
	case List, Map:
		s += "(" + t.Elem.format(open) + ")"
	case Object:
		fields := make([]string, 0, len(t.Fields)+1)
		for _, f := range t.Fields {
			text := f.Type.format(open)
			if f.Optional {
				text = "optional(" + text + ")"
			}
			fields = append(fields, fieldName(f.Name)+" = "+text)
		}
		if open && t.Open {
			fields = append(fields, "...")
		}
		s = "object({" + strings.Join(fields, ", ") + "})"
	}
	if t.Sensitive {
		s = "sensitive(" + s + ")"
	}
	return s
}
