package spec

import (
	"encoding/json"
	"fmt"
	"strconv"

	"keystone/configs/addr"
	"keystone/configs/diag"
	"keystone/dsl/types"
)

// Bodies are stored as JSON with the goal state. Null, bools and strings are
// themselves; every other value is an object with one key that tells its
// form, so that nothing is lost: {"int":"5"}, {"duration"…} has no form of
// its own because durations are strings until they are decoded.

type attrJSON struct {
	Value     valueJSON             `json:"value"`
	Range     diag.Range            `json:"range"`
	NameRange diag.Range            `json:"name_range"`
	Layer     Layer                 `json:"layer"`
	Items     map[string]diag.Range `json:"items,omitempty"`
}

// MarshalJSON tags the value with its form.
func (a Attr) MarshalJSON() ([]byte, error) {
	return json.Marshal(attrJSON{valueJSON{a.Value}, a.Range, a.NameRange, a.Layer, a.Items})
}

// UnmarshalJSON reads what MarshalJSON gives.
func (a *Attr) UnmarshalJSON(b []byte) error {
	var j attrJSON
	err := json.Unmarshal(b, &j)
	*a = Attr{Value: j.Value.v, Range: j.Range, NameRange: j.NameRange, Layer: j.Layer, Items: j.Items}
	return err
}

type bodyJSON struct {
	Attrs  map[string]Attr      `json:"attrs,omitempty"`
	Blocks map[string]Body      `json:"blocks,omitempty"`
	Order  []string             `json:"order,omitempty"`
	Consts map[string]constJSON `json:"consts,omitempty"`
	Range  diag.Range           `json:"range"`
}

// MarshalJSON tags every value with its form.
func (b Body) MarshalJSON() ([]byte, error) {
	j := bodyJSON{Attrs: b.Attrs, Blocks: b.Blocks, Order: b.Order, Range: b.Range}
	if len(b.Consts) > 0 {
		j.Consts = make(map[string]constJSON, len(b.Consts))
		for k, v := range b.Consts {
			j.Consts[k] = constJSON{v}
		}
	}
	return json.Marshal(j)
}

// UnmarshalJSON reads what MarshalJSON gives.
func (b *Body) UnmarshalJSON(data []byte) error {
	var j bodyJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	*b = Body{Attrs: j.Attrs, Blocks: j.Blocks, Order: j.Order, Range: j.Range}
	if len(j.Consts) > 0 {
		b.Consts = make(map[string]any, len(j.Consts))
		for k, v := range j.Consts {
			b.Consts[k] = v.v
		}
	}
	return nil
}

// valueJSON is a Value in JSON.
type valueJSON struct{ v Value }

func (j valueJSON) MarshalJSON() ([]byte, error) {
	tag := func(form string, v any) ([]byte, error) { return json.Marshal(map[string]any{form: v}) }
	switch v := j.v.(type) {
	case nil, bool, string:
		return json.Marshal(v)
	case int64:
		return tag("int", strconv.FormatInt(v, 10))
	case float64:
		return tag("float", strconv.FormatFloat(v, 'g', -1, 64))
	case []Value:
		list := make([]valueJSON, len(v))
		for i, x := range v {
			list[i] = valueJSON{x}
		}
		return tag("list", list)
	case map[string]Value:
		m := make(map[string]valueJSON, len(v))
		for k, x := range v {
			m[k] = valueJSON{x}
		}
		return tag("map", m)
	case diag.Text:
		return tag("text", v)
	case []diag.Text:
		return tag("texts", v)
	case []Field:
		return tag("fields", v)
	case Ref:
		return tag("ref", v)
	case Port:
		return tag("port", v)
	case []Port:
		return tag("ports", v)
	case types.Type:
		return tag("type", typeToJSON(v))
	case Secret:
		return tag("secret", v)
	}
	return nil, fmt.Errorf("a %T is not a value of an option", j.v)
}

func (j *valueJSON) UnmarshalJSON(b []byte) error {
	if len(b) == 0 || b[0] != '{' {
		var v any
		if err := json.Unmarshal(b, &v); err != nil {
			return err
		}
		switch v.(type) {
		case nil, bool, string:
			j.v = v
			return nil
		}
		return fmt.Errorf("%s is not a stored value", b)
	}
	form, raw, err := untag(b)
	if err != nil {
		return err
	}
	switch form {
	case "int":
		return number(raw, &j.v, func(s string) (Value, error) { return strconv.ParseInt(s, 10, 64) })
	case "float":
		return number(raw, &j.v, func(s string) (Value, error) { return strconv.ParseFloat(s, 64) })
	case "list":
		var list []valueJSON
		if err := json.Unmarshal(raw, &list); err != nil {
			return err
		}
		values := make([]Value, len(list))
		for i, x := range list {
			values[i] = x.v
		}
		j.v = values
		return nil
	case "map":
		var m map[string]valueJSON
		if err := json.Unmarshal(raw, &m); err != nil {
			return err
		}
		values := make(map[string]Value, len(m))
		for k, x := range m {
			values[k] = x.v
		}
		j.v = values
		return nil
	case "text":
		return into[diag.Text](raw, &j.v)
	case "texts":
		return into[[]diag.Text](raw, &j.v)
	case "fields":
		return into[[]Field](raw, &j.v)
	case "ref":
		return into[Ref](raw, &j.v)
	case "port":
		return into[Port](raw, &j.v)
	case "ports":
		return into[[]Port](raw, &j.v)
	case "secret":
		return into[Secret](raw, &j.v)
	case "type":
		var t typeJSON
		if err := json.Unmarshal(raw, &t); err != nil {
			return err
		}
		v, err := t.decode()
		j.v = v
		return err
	}
	return fmt.Errorf("%q is not a form of value that this version knows", form)
}

func into[T any](raw json.RawMessage, dst *Value) error {
	var v T
	err := json.Unmarshal(raw, &v)
	*dst = v
	return err
}

func number(raw json.RawMessage, dst *Value, parse func(string) (Value, error)) error {
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return err
	}
	v, err := parse(s)
	*dst = v
	return err
}

func untag(b []byte) (form string, raw json.RawMessage, err error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(b, &m); err != nil {
		return "", nil, err
	}
	for form, raw = range m {
		if len(m) == 1 {
			return form, raw, nil
		}
	}
	return "", nil, fmt.Errorf("a stored value has %d forms, wanted one", len(m))
}

// constJSON is a constant of an expression in JSON: as valueJSON, with plain
// Go lists and maps inside.
type constJSON struct{ v any }

func (j constJSON) MarshalJSON() ([]byte, error) { return valueJSON{toValue(j.v)}.MarshalJSON() }

func (j *constJSON) UnmarshalJSON(b []byte) error {
	var v valueJSON
	err := v.UnmarshalJSON(b)
	j.v = toPlain(v.v)
	return err
}

func toValue(v any) Value {
	switch v := v.(type) {
	case []any:
		list := make([]Value, len(v))
		for i, x := range v {
			list[i] = toValue(x)
		}
		return list
	case map[string]any:
		m := make(map[string]Value, len(v))
		for k, x := range v {
			m[k] = toValue(x)
		}
		return m
	}
	return v
}

func toPlain(v Value) any {
	switch v := v.(type) {
	case []Value:
		list := make([]any, len(v))
		for i, x := range v {
			list[i] = toPlain(x)
		}
		return list
	case map[string]Value:
		m := make(map[string]any, len(v))
		for k, x := range v {
			m[k] = toPlain(x)
		}
		return m
	}
	return v
}

// Plain gives a value of bools, numbers, strings, lists and maps as plain Go
// values: a constant of an expression.
func Plain(v Value) any { return toPlain(v) }

type fieldJSON struct {
	Name      string     `json:"name"`
	NameRange diag.Range `json:"name_range"`
	Expr      *diag.Text `json:"expr,omitempty"`
	Lit       *valueJSON `json:"lit,omitempty"`
	Object    []Field    `json:"object,omitempty"`
	IsObject  bool       `json:"is_object,omitempty"`
}

// MarshalJSON keeps the types of literals.
func (f Field) MarshalJSON() ([]byte, error) {
	j := fieldJSON{Name: f.Name, NameRange: f.NameRange, Object: f.Object, IsObject: f.IsObject}
	switch {
	case f.IsObject:
	case f.Lit != nil:
		j.Lit = &valueJSON{f.Lit}
	default:
		j.Expr = &f.Expr
	}
	return json.Marshal(j)
}

// UnmarshalJSON reads what MarshalJSON gives.
func (f *Field) UnmarshalJSON(b []byte) error {
	var j fieldJSON
	err := json.Unmarshal(b, &j)
	*f = Field{Name: j.Name, NameRange: j.NameRange, Object: j.Object, IsObject: j.IsObject}
	if j.Expr != nil {
		f.Expr = *j.Expr
	}
	if j.Lit != nil {
		f.Lit = j.Lit.v
	}
	return err
}

type refJSON struct {
	Addr  addr.Addr  `json:"addr"`
	Range diag.Range `json:"range"`
}

// MarshalJSON writes the address as text.
func (r Ref) MarshalJSON() ([]byte, error) { return json.Marshal(refJSON(r)) }

// UnmarshalJSON reads what MarshalJSON gives.
func (r *Ref) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, (*refJSON)(r)) }

type secretJSON struct {
	Parts []SecretPart `json:"parts"`
	Range diag.Range   `json:"range"`
}

// MarshalJSON writes references, and literals as the file has them.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(secretJSON(s)) }

// UnmarshalJSON reads what MarshalJSON gives.
func (s *Secret) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, (*secretJSON)(s)) }
