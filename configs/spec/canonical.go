package spec

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"keystone/configs/diag"
	"keystone/dsl/types"
)

// Canon is the canonical form of one option's value.
type Canon struct {
	// Text is written as in HCL: equal values have equal text, so plans
	// compare and show it. It is "" for an option that has no value. A
	// secret's text names where it comes from, never a value.
	Text   string
	Option *Option
	// Texts are the expressions and patterns in the value, in order.
	Texts []diag.Text
}

// Canonical gives the values of all options by path ("delivery.guarantee"),
// as the bound fields hold them.
func Canonical(opts Options) map[string]Canon {
	out := make(map[string]Canon, len(opts))
	canonical(opts, "", out)
	return out
}

func canonical(opts Options, prefix string, out map[string]Canon) {
	for _, o := range opts {
		if o.Kind == KindLabelled {
			if o.Ordered && len(o.order) > 0 {
				out[prefix+o.Name] = Canon{Text: plainText(o.order), Option: o}
			}
			for label, x := range o.made {
				canonical(x, prefix+o.Name+"."+label+".", out)
			}
			continue
		}
		if o.Kind != KindBlock {
			text, texts := o.canonical()
			out[prefix+o.Name] = Canon{Text: text, Option: o, Texts: texts}
			continue
		}
		if o.Present != nil && *o.Present {
			out[prefix+o.Name] = Canon{Text: "{ }", Option: o} // that a block is written may itself mean something
		}
		canonical(o.Block, prefix+o.Name+".", out)
	}
}

func (o *Option) canonical() (string, []diag.Text) {
	switch p := o.Target.(type) {
	case *time.Duration:
		return strconv.Quote(FormatDuration(*p)), nil
	case *int64:
		if o.Kind == KindBytes {
			if s := FormatBytes(*p); strings.HasSuffix(s, "B") {
				return strconv.Quote(s), nil
			}
		}
		return strconv.FormatInt(*p, 10), nil
	case *int:
		return strconv.Itoa(*p), nil
	case *bool:
		return strconv.FormatBool(*p), nil
	case *float64:
		return plainText(*p), nil
	case *[]string:
		if *p == nil {
			return "", nil
		}
		return plainText(*p), nil
	case *map[string]string:
		if *p == nil {
			return "", nil
		}
		return plainText(*p), nil
	case *diag.Text:
		if p.S == "" && p.Range.IsZero() {
			return "", nil
		}
		return strconv.Quote(p.S), []diag.Text{*p}
	case *[]diag.Text:
		if len(*p) == 0 {
			return "", nil
		}
		parts := make([]string, len(*p))
		for i, t := range *p {
			parts[i] = strconv.Quote(t.S)
		}
		if len(parts) == 1 {
			return parts[0], *p
		}
		return "[" + strings.Join(parts, ", ") + "]", *p
	case *[]Field:
		if *p == nil {
			return "", nil
		}
		var texts []diag.Text
		return fieldsText(*p, &texts), texts
	case *types.Type:
		if p.Kind == types.Any {
			return "", nil
		}
		return p.String(), nil
	case *Secret:
		return p.Reference(), nil
	case *Port:
		return p.String(), nil
	case *[]Port:
		if len(*p) == 0 {
			return "", nil
		}
		return listText(len(*p), func(i int) string { return (*p)[i].String() }), nil
	case *Ref:
		return p.Addr.String(), nil
	}
	s := ""
	if o.read != nil {
		s = o.read()
	} else if p, ok := o.Target.(*string); ok {
		s = *p
	}
	if s == "" {
		return "", nil
	}
	return strconv.Quote(s), nil
}

func fieldsText(fields []Field, texts *[]diag.Text) string {
	if len(fields) == 0 {
		return "{}"
	}
	parts := make([]string, len(fields))
	for i, f := range fields {
		var value string
		switch {
		case f.IsObject:
			value = fieldsText(f.Object, texts)
		case f.Lit != nil:
			value = plainText(f.Lit)
		default:
			value = strconv.Quote(f.Expr.S)
			*texts = append(*texts, f.Expr)
		}
		parts[i] = keyText(f.Name) + " = " + value
	}
	return "{ " + strings.Join(parts, ", ") + " }"
}

// Reference gives the secret as the file writes it, with literals hidden:
// "ApiKey ${env("K")}" is `"(literal)${env("K")}"`, env("K") itself.
func (s Secret) Reference() string {
	parts := make([]string, len(s.Parts))
	for i, p := range s.Parts {
		switch {
		case p.Env != "":
			parts[i] = "env(" + strconv.Quote(p.Env) + ")"
		case p.File != "":
			parts[i] = "file(" + strconv.Quote(p.File) + ")"
		case p.Var != "":
			parts[i] = "var." + p.Var
		case p.Plain != "":
			parts[i] = strconv.Quote(p.Plain)
		case p.Omitted != "":
			parts[i] = "(literal that is not stored)"
		default:
			parts[i] = "(literal " + fingerprint(p.Literal) + ")"
		}
	}
	return strings.Join(parts, " + ")
}

// ConstText writes a constant of an expression as canonical text.
func ConstText(v any) string { return plainText(v) }

func plainText(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return strconv.FormatBool(v)
	case string:
		return strconv.Quote(v)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case []string:
		return listText(len(v), func(i int) string { return strconv.Quote(v[i]) })
	case []any:
		return listText(len(v), func(i int) string { return plainText(v[i]) })
	case []Value:
		return listText(len(v), func(i int) string { return plainText(v[i]) })
	case map[string]string:
		return mapText(v, func(s string) string { return strconv.Quote(s) })
	case map[string]any:
		return mapText(v, plainText)
	case map[string]Value:
		return mapText(v, func(x Value) string { return plainText(x) })
	case diag.Text:
		return strconv.Quote(v.S)
	}
	if n, ok := asInt64(v); ok {
		return strconv.FormatInt(n, 10)
	}
	if s, ok := asString(v); ok {
		return strconv.Quote(s)
	}
	return "(value)"
}

func listText(n int, item func(int) string) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = item(i)
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

func mapText[V any](m map[string]V, item func(V) string) string {
	if len(m) == 0 {
		return "{}"
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, keyText(k)+" = "+item(m[k]))
	}
	return "{ " + strings.Join(parts, ", ") + " }"
}

// keyText quotes a key unless it is an identifier.
func keyText(k string) string {
	for i, c := range []byte(k) {
		if !(c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || i > 0 && c >= '0' && c <= '9') {
			return strconv.Quote(k)
		}
	}
	if k == "" {
		return `""`
	}
	return k
}
