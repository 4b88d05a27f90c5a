package types

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Names are the words that types are written with.
func Names() []string {
	return []string{"any", "bool", "int", "float", "string", "decimal", "timestamp_ms", "timestamp_rfc3339", "date", "bytes", "list", "map", "object", "optional", "sensitive"}
}

// Scalar gives the type that a single word stands for.
func Scalar(name string) (Type, bool) {
	for k := Any; k <= Bytes; k++ {
		if names[k] == name && k != Nil && k != Decimal {
			return Type{Kind: k}, true
		}
	}
	return Type{}, false
}

// MarshalText gives what Parse reads; unlike String it marks open objects.
func (t Type) MarshalText() ([]byte, error) { return []byte(t.format(true)), nil }

// UnmarshalText reads what MarshalText gives.
func (t *Type) UnmarshalText(b []byte) error {
	u, err := Parse(string(b))
	if err == nil {
		*t = u
	}
	return err
}

const maxDepth = 200

// Parse reads a type as String and MarshalText write it. Errors are for
// stored text, not for users: what a user wrote is read with positions elsewhere.
func Parse(s string) (Type, error) {
	p := parser{rest: s}
	t, err := p.typ(0)
	if err == nil && p.word() != "" {
		err = p.fail("the end")
	}
	if err != nil {
		return Type{}, err
	}
	return t, nil
}

type parser struct {
	rest  string
	token string // peeked
}

// word gives the next token without taking it: a name, a number, a quoted name, a mark, or "" at the end.
func (p *parser) word() string {
	if p.token != "" {
		return p.token
	}
	p.rest = strings.TrimLeft(p.rest, " \t\r\n")
	if p.rest == "" {
		return ""
	}
	n := strings.IndexFunc(p.rest, func(r rune) bool { return strings.ContainsRune("(){}=,\" \t\r\n", r) })
	switch {
	case n < 0:
		n = len(p.rest)
	case n == 0 && p.rest[0] == '"':
		if q, err := strconv.QuotedPrefix(p.rest); err == nil {
			n = len(q)
		} else {
			n = len(p.rest)
		}
	case n == 0:
		n = 1
	}
	p.token, p.rest = p.rest[:n], p.rest[n:]
	return p.token
}

func (p *parser) next() string { w := p.word(); p.token = ""; return w }

func (p *parser) fail(want string) error {
	return fmt.Errorf("type: found %q where %s is expected", p.word(), want)
}

func (p *parser) expect(marks ...string) error {
	for _, m := range marks {
		if p.word() != m {
			return p.fail(m)
		}
		p.next()
	}
	return nil
}

func (p *parser) typ(depth int) (Type, error) {
	if depth > maxDepth {
		return Type{}, fmt.Errorf("type: nested deeper than %d", maxDepth)
	}
	name := p.word()
	if t, ok := Scalar(name); ok {
		p.next()
		return t, nil
	}
	if !slices.Contains([]string{"nil", "decimal", "list", "map", "object", "sensitive"}, name) {
		return Type{}, p.fail("a type")
	}
	p.next()
	if name == "nil" {
		return NilType, nil
	}
	if err := p.expect("("); err != nil {
		return Type{}, err
	}
	var t Type
	var err error
	switch name {
	case "decimal":
		t, err = p.decimal()
	case "object":
		t, err = p.object(depth)
	default:
		if t, err = p.typ(depth + 1); err != nil {
			return Type{}, err
		}
		switch name {
		case "list":
			t = ListOf(t)
		case "map":
			t = MapOf(t)
		default:
			t.Sensitive = true
		}
	}
	if err != nil {
		return Type{}, err
	}
	return t, p.expect(")")
}

func (p *parser) decimal() (Type, error) {
	precision, err := strconv.Atoi(p.next())
	if err != nil {
		return Type{}, fmt.Errorf("type: precision: %w", err)
	}
	if err := p.expect(","); err != nil {
		return Type{}, err
	}
	scale, err := strconv.Atoi(p.next())
	if err != nil {
		return Type{}, fmt.Errorf("type: scale: %w", err)
	}
	return DecimalOf(precision, scale)
}

// DecimalOf gives decimal(precision, scale), or why there is no such type.
func DecimalOf(precision, scale int) (Type, error) {
	if precision < 1 || precision > 38 {
		return Type{}, fmt.Errorf("the precision of a decimal is from 1 to 38, not %d", precision)
	}
	if scale < 0 || scale > precision {
		return Type{}, fmt.Errorf("the scale of a decimal is from 0 to its precision %d, not %d", precision, scale)
	}
	return Type{Kind: Decimal, Precision: precision, Scale: scale}, nil
}

func (p *parser) object(depth int) (Type, error) {
	t := Type{Kind: Object}
	if err := p.expect("{"); err != nil {
		return t, err
	}
	for p.word() != "}" {
		if len(t.Fields) > 0 || t.Open {
			if err := p.expect(","); err != nil {
				return t, err
			}
		}
		name := p.next()
		if name == "..." {
			t.Open = true
			continue
		}
		if strings.HasPrefix(name, `"`) {
			unquoted, err := strconv.Unquote(name)
			if err != nil {
				return t, fmt.Errorf("type: field name %s: %w", name, err)
			}
			name = unquoted
		} else if !plain(name) {
			return t, fmt.Errorf("type: found %q where a field name is expected", name)
		}
		if err := p.expect("="); err != nil {
			return t, err
		}
		f := Field{Name: name}
		if p.word() == "optional" {
			p.next()
			f.Optional = true
			if err := p.expect("("); err != nil {
				return t, err
			}
		}
		var err error
		if f.Type, err = p.typ(depth + 1); err != nil {
			return t, err
		}
		if f.Optional {
			if err := p.expect(")"); err != nil {
				return t, err
			}
		}
		t.Fields = append(t.Fields, f)
	}
	return t, p.expect("}")
}

// plain tells a name that is written without quotes in HCL.
func plain(s string) bool {
	for i, r := range s {
		if r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (i == 0 || r != '-' && (r < '0' || r > '9')) {
			return false
		}
	}
	return s != ""
}

func fieldName(s string) string {
	if plain(s) {
		return s
	}
	return strconv.Quote(s)
}
