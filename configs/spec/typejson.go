package spec

import (
	"fmt"

	"keystone/dsl/types"
)

// typeJSON is a types.Type in JSON, its kind by name.
type typeJSON struct {
	Kind      string          `json:"kind"`
	Elem      *typeJSON       `json:"elem,omitempty"`
	Fields    []typeFieldJSON `json:"fields,omitempty"`
	Open      bool            `json:"open,omitempty"`
	Precision int             `json:"precision,omitempty"`
	Scale     int             `json:"scale,omitempty"`
	Sensitive bool            `json:"sensitive,omitempty"`
}

type typeFieldJSON struct {
	Name     string   `json:"name"`
	Type     typeJSON `json:"type"`
	Optional bool     `json:"optional,omitempty"`
}

var typeNames = map[types.Kind]string{
	types.Any: "any", types.Nil: "nil", types.Bool: "bool", types.Int: "int", types.Float: "float",
	types.String: "string", types.Decimal: "decimal", types.TimestampMs: "timestamp_ms",
	types.TimestampRFC3339: "timestamp_rfc3339", types.Date: "date", types.Bytes: "bytes",
	types.List: "list", types.Map: "map", types.Object: "object",
}

func typeToJSON(t types.Type) typeJSON {
	j := typeJSON{Kind: typeNames[t.Kind], Open: t.Open, Precision: t.Precision, Scale: t.Scale, Sensitive: t.Sensitive}
	if t.Elem != nil {
		e := typeToJSON(*t.Elem)
		j.Elem = &e
	}
	for _, f := range t.Fields {
		j.Fields = append(j.Fields, typeFieldJSON{f.Name, typeToJSON(f.Type), f.Optional})
	}
	return j
}

func (j typeJSON) decode() (types.Type, error) {
	t := types.Type{Open: j.Open, Precision: j.Precision, Scale: j.Scale, Sensitive: j.Sensitive}
	found := false
	for k, name := range typeNames {
		if name == j.Kind {
			t.Kind, found = k, true
		}
	}
	if !found {
		return t, fmt.Errorf("%q is not a type that this version knows", j.Kind)
	}
	if j.Elem != nil {
		e, err := j.Elem.decode()
		if err != nil {
			return t, err
		}
		t.Elem = &e
	} else if t.Kind == types.List || t.Kind == types.Map {
		return t, fmt.Errorf("a stored %s has no element type", j.Kind)
	}
	for _, f := range j.Fields {
		ft, err := f.Type.decode()
		if err != nil {
			return t, err
		}
		t.Fields = append(t.Fields, types.Field{Name: f.Name, Type: ft, Optional: f.Optional})
	}
	return t, nil
}
