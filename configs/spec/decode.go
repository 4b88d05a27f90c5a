package spec

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"

	"keystone/configs/addr"
	"keystone/configs/diag"
	"keystone/dsl/types"
)

// Decode fills the fields that the options are bound to: first every default,
// then what the body has. It reports all that is wrong; a field whose value
// is wrong keeps its default. A null value is as if it were not written.
func Decode(opts Options, body Body) diag.Diagnostics {
	return decode(opts, body, "")
}

func decode(opts Options, body Body, path string) diag.Diagnostics {
	var diags diag.Diagnostics
	opts.setDefaults()
	for _, name := range slices.Sorted(maps.Keys(body.Attrs)) {
		a := body.Attrs[name]
		o := opts.Find(name)
		switch {
		case o == nil:
			diags.Addf(a.NameRange, codeUnknown, "Unknown option", "There is no option %q here.%s", path+name, opts.didYouMean(name))
		case o.Kind == KindLabelled:
			diags.Addf(a.NameRange, codeForm, "Option in the wrong form", "%q is a nested block with a name; write %s \"NAME\" { … } without the equals sign.", path+name, name)
		case o.Kind == KindBlock:
			diags.Addf(a.NameRange, codeForm, "Option in the wrong form", "%q is a nested block; write %s { … } without the equals sign.", path+name, name)
		case a.Value == nil || a.Value == Value(Invalid{}):
		default:
			if o.Set != nil {
				*o.Set = true
			}
			o.decode(a, path+name, &diags)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(body.Blocks)) {
		b := body.Blocks[name]
		o := opts.Find(name)
		switch {
		case o == nil:
			diags.Addf(b.Range, codeUnknown, "Unknown nested block", "There is no block %q here.%s", path+name, opts.didYouMean(name))
		case o.Kind == KindLabelled:
			o.order = b.Order
			for _, label := range slices.Sorted(maps.Keys(b.Blocks)) {
				x := o.Each(label)
				o.made[label] = x
				diags.Append(decode(x, b.Blocks[label], path+name+"."+label+".")...)
			}
		case o.Kind != KindBlock:
			diags.Addf(b.Range, codeForm, "Option in the wrong form", "%q is an option, not a block; write %s = …, with %s.", path+name, name, o.Expects())
		default:
			if o.Present != nil {
				*o.Present = true
			}
			diags.Append(decode(o.Block, b, path+name+".")...)
		}
	}
	for _, o := range opts {
		if !o.IsRequired {
			continue
		}
		if o.Kind == KindBlock || o.Kind == KindLabelled {
			if _, ok := body.Blocks[o.Name]; !ok {
				diags.Addf(body.Range, codeMissing, "Missing block", "The block %q is required.", path+o.Name)
			}
		} else if a, ok := body.Attrs[o.Name]; !ok || a.Value == nil {
			if !ok {
				a.Range = body.Range
			}
			diags.Addf(a.Range, codeMissing, "Missing option", "The option %q is required: %s.%s", path+o.Name, o.Expects(), exampleOf(o))
		}
	}
	return diags
}

func exampleOf(o *Option) string {
	if o.Example == "" {
		return ""
	}
	return fmt.Sprintf(" For example: %s = %s", o.Name, o.Example)
}

func (o Options) didYouMean(name string) string {
	for _, x := range o {
		switch {
		case slices.Contains(x.Synonyms, name):
			return fmt.Sprintf(" It is called %q.", x.Name)
		case x.Kind == KindBlock && x.Block.Find(name) != nil:
			return fmt.Sprintf(" It belongs into the nested block %s { }.", x.Name)
		}
	}
	if near := diag.DidYouMean(name, o.Names()); near != "" {
		return near
	}
	if len(o) <= 12 && len(o) > 0 {
		return " There are " + strings.Join(o.Names(), ", ") + "."
	}
	return ""
}

// setDefaults gives every bound field its default or zero value.
func (o Options) setDefaults() {
	for _, x := range o {
		if x.Set != nil {
			*x.Set = false
		}
		if x.Kind == KindBlock {
			if x.Present != nil {
				*x.Present = false
			}
			x.Block.setDefaults()
			continue
		}
		if x.Kind == KindLabelled {
			x.made = map[string]Options{}
			continue
		}
		x.setDefault()
	}
}

func (o *Option) setDefault() {
	field := reflect.ValueOf(o.Target).Elem()
	if !o.HasDefault {
		field.SetZero()
		return
	}
	v := reflect.ValueOf(o.DefaultVal)
	if !v.CanConvert(field.Type()) {
		panic(fmt.Sprintf("option %s: default %v is no %s", o.Name, o.DefaultVal, field.Type()))
	}
	if v.Kind() == reflect.Slice {
		v = reflect.AppendSlice(reflect.MakeSlice(v.Type(), 0, v.Len()), v)
	}
	field.Set(v.Convert(field.Type()))
}

// decode sets the bound field, or reports why it cannot.
func (o *Option) decode(a Attr, path string, diags *diag.Diagnostics) {
	wrong := func() {
		diags.Addf(a.Range, codeWrongType, "Wrong type of value", "The option %q takes %s; this is %s.%s", path, o.Expects(), describe(a.Value), conversion(o.Kind, a.Value))
	}
	switch p := o.Target.(type) {
	case *bool:
		if v, ok := a.Value.(bool); ok {
			*p = v
		} else {
			wrong()
		}
	case *int:
		if v, ok := a.Value.(int64); ok && o.inBounds(float64(v), a, path, diags) {
			*p = int(v)
		} else if !ok {
			wrong()
		}
	case *int64:
		o.decodeInt64(p, a, path, diags, wrong)
	case *float64:
		if v, ok := asFloat64(a.Value); !ok {
			wrong()
		} else if o.inBounds(v, a, path, diags) {
			*p = v
		}
	case *time.Duration:
		s, ok := a.Value.(string)
		if !ok {
			wrong()
		} else if d, err := ParseDuration(s); err != nil {
			diags.Addf(a.Range, codeUnit, "Not a duration", "The option %q: %v.", path, err)
		} else if o.inBounds(d.Seconds(), a, path, diags) {
			*p = d
		}
	case *[]string:
		if v, ok := stringList(a.Value); ok {
			*p = v
		} else {
			wrong()
		}
	case *map[string]string:
		if v, ok := stringMap(a.Value); ok {
			*p = v
		} else {
			wrong()
		}
	case *diag.Text:
		if v, ok := asText(a.Value, a.Range); ok {
			*p = v
		} else {
			wrong()
		}
	case *[]diag.Text:
		if v, ok := asTexts(a.Value, a.Range); ok {
			*p = v
		} else {
			wrong()
		}
	case *[]Field:
		if v, ok := a.Value.([]Field); ok {
			*p = v
		} else {
			wrong()
		}
	case *types.Type:
		if v, ok := a.Value.(types.Type); ok {
			*p = v
		} else {
			wrong()
		}
	case *Secret:
		switch v := a.Value.(type) {
		case Secret:
			*p = v
		case string:
			*p = Secret{Parts: []SecretPart{{Literal: v}}, Range: a.Range}
		default:
			wrong()
		}
	case *Port:
		if v, ok := a.Value.(Port); ok {
			*p = v
		} else {
			wrong()
		}
	case *[]Port:
		switch v := a.Value.(type) {
		case []Port:
			*p = v
		case Port:
			*p = []Port{v}
		default:
			wrong()
		}
	case *Ref:
		o.decodeRef(p, a, path, diags, wrong)
	default:
		s, ok := a.Value.(string)
		switch {
		case !ok:
			wrong()
		case o.Kind == KindEnum:
			if !slices.Contains(o.Enum, s) {
				diags.Addf(a.Range, codeWord, "Unknown word", "The option %q takes %s, not %q.%s", path, o.Expects(), s, diag.DidYouMean(s, o.Enum))
				return
			}
			o.assign(s)
		default:
			reflect.ValueOf(o.Target).Elem().SetString(s)
		}
	}
}

func (o *Option) decodeInt64(p *int64, a Attr, path string, diags *diag.Diagnostics, wrong func()) {
	v, ok := a.Value.(int64)
	if s, isText := a.Value.(string); isText && o.Kind == KindBytes {
		n, err := ParseBytes(s)
		if err != nil {
			diags.Addf(a.Range, codeUnit, "Not a size", "The option %q: %v.", path, err)
			return
		}
		v, ok = n, true
	}
	if !ok {
		wrong()
	} else if o.inBounds(float64(v), a, path, diags) {
		*p = v
	}
}

func (o *Option) decodeRef(p *Ref, a Attr, path string, diags *diag.Diagnostics, wrong func()) {
	ref, ok := a.Value.(Ref)
	if s, isText := a.Value.(string); isText {
		if x, err := addr.Parse(s); err == nil {
			diags.Addf(a.Range, codeWrongType, "Wrong type of value", "The option %q takes %s; write %s without quotes.", path, o.Expects(), x)
			return
		}
	}
	if !ok {
		wrong()
		return
	}
	if len(o.Refs) > 0 && !slices.Contains(o.Refs, ref.Addr.Type) {
		diags.Addf(a.Range, codeRefType, "Reference to a block of another type", "The option %q takes %s; %s is a %s.", path, o.Expects(), ref.Addr, ref.Addr.Type)
		return
	}
	*p = ref
}

func (o *Option) inBounds(v float64, a Attr, path string, diags *diag.Diagnostics) bool {
	if math.IsNaN(v) || o.HasMin && v < o.Min || o.HasMax && v > o.Max || o.Kind == KindDuration && v < 0 && !o.HasMin {
		bounds := o.Bounds()
		if bounds == "" {
			bounds = "at least 0s"
		}
		diags.Addf(a.Range, codeBounds, "Value out of bounds", "The option %q must be %s; this is %s.", path, bounds, plainText(a.Value))
		return false
	}
	return true
}

func describe(v Value) string {
	switch v := v.(type) {
	case bool:
		return "a bool"
	case int64, float64:
		return "the number " + plainText(v)
	case string:
		return "a string"
	case []Value:
		return "a list"
	case map[string]Value:
		return "an object"
	case diag.Text, []diag.Text:
		return "an expression"
	case []Field:
		return "a map of expressions"
	case Ref:
		return "a reference to " + v.Addr.String()
	case Port, []Port:
		return "a reference to an operator"
	case types.Type:
		return "a type"
	case Secret:
		return "a secret"
	}
	return "null"
}

// conversion advises where the value is right and only its type is not.
func conversion(k Kind, v Value) string {
	s, isText := v.(string)
	switch {
	case isText && (k == KindInt || k == KindFloat) && s != "" && strings.Trim(s, "0123456789.-") == "":
		return " Write the number without quotes, or tonumber(…)."
	case isText && k == KindBool && (s == "true" || s == "false"):
		return " Write it without quotes."
	case isText && k == KindStrings:
		return " Write it in brackets."
	case k == KindDuration && !isText:
		if n, ok := asFloat64(v); ok && n == 0 {
			return ` Write "0s".`
		}
		return ` A number needs its unit, in quotes.`
	case k == KindInt:
		if _, ok := v.(float64); ok {
			return " It must be whole and fit 64 bits."
		}
	}
	return ""
}
