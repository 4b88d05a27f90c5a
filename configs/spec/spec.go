// Package spec declares options once: the field that an option sets, its
// default, its bounds, its documentation and the effect of changing it.
// Decoding, validation, plan and the reference pages all read the same
// declaration. It is a leaf.
package spec

import (
	"time"

	"keystone/configs/addr"
	"keystone/configs/diag"
	"keystone/dsl/types"
)

// Effect says what changing an option does to what runs, from least to most.
type Effect uint8

const (
	// Live changes are swapped in; nothing stops.
	Live Effect = iota
	// Drain finishes what is in flight and restarts with the new value.
	Drain
	// Replace loses kept state (a topic, positions, operator state).
	Replace
)

// String gives live, drain or replace.
func (e Effect) String() string { return [...]string{"live", "drain", "replace"}[e] }

// Kind is the form of an option's value.
type Kind uint8

// The kinds of options. The comment gives the Go type of the bound field.
const (
	KindString    Kind = iota // string
	KindBool                  // bool
	KindInt                   // int64 (bound through Int: *int, *int64)
	KindFloat                 // float64
	KindDuration              // time.Duration, written "10s", "24h", "7d"
	KindBytes                 // int64, written 1048576 or "1MiB"
	KindStrings               // []string
	KindStringMap             // map[string]string
	KindEnum                  // string, one of Option.Enum
	KindExpr                  // diag.Text: one expression in a string
	KindExprs                 // []diag.Text: one expression or a list that must all hold
	KindExprMap               // []Field: a literal { name = "expression" }, order kept
	KindPattern               // diag.Text: text with {PATH} or {PATH:LAYOUT}
	KindRef                   // Ref: an address, as stream.plays
	KindType                  // types.Type: a schema
	KindSecret                // Secret
	KindBlock                 // nested block, Option.Block; its presence is bound to *bool when asked
	KindLabelled              // nested blocks with a name, any number of them: Option.Each
	KindPort                  // Port: an operator of the same job, or one of its other outputs
	KindPorts                 // []Port
)

// Ref is a reference to another block instance.
type Ref struct {
	Addr  addr.Addr
	Range diag.Range
}

// Port refers to an output of an operator of the same job: window.by_user, window.by_user.late.
type Port struct {
	Operator    string     `json:"operator"`        // "window.by_user"
	Output      string     `json:"output,omitzero"` // "late"; "" for its rows
	Range       diag.Range `json:"range"`
	OutputRange diag.Range `json:"output_range,omitzero"`
}

// String gives the reference as it is written.
func (p Port) String() string {
	if p.Output == "" {
		return p.Operator
	}
	return p.Operator + "." + p.Output
}

// Field is one entry of a KindExprMap. Exactly one of Expr, Lit and Object counts.
type Field struct {
	Name      string
	NameRange diag.Range
	Expr      diag.Text // a string: an expression
	Lit       any       // a bool, int64 or float64: itself
	Object    []Field   // a nested { }
	IsObject  bool
}

// Secret is a value that only the worker resolves, at start. It prints as a
// reference, never as its value. Parts are joined.
type Secret struct {
	Parts []SecretPart
	Range diag.Range
}

// SecretPart is one piece of a secret; exactly one field is set.
type SecretPart struct {
	Literal string `json:"literal,omitempty"` // written in the file
	Env     string `json:"env,omitempty"`     // environment variable
	File    string `json:"file,omitempty"`    // path, absolute or relative to the configuration
	Var     string `json:"var,omitempty"`     // sensitive input variable
	Plain   string `json:"plain,omitempty"`   // written in the file, and no secret: see Option.Writable
	Omitted string `json:"omitted,omitempty"` // where it is written in the files, of a literal that was not stored
}

// IsZero tells a secret that is not set.
func (s Secret) IsZero() bool { return len(s.Parts) == 0 }

// String never shows a value.
func (s Secret) String() string {
	if s.IsZero() {
		return ""
	}
	return "(sensitive value)"
}

// GoString never shows a value either.
func (s Secret) GoString() string { return s.String() }

// Option is one declared option. Make it with a constructor and refine it
// with the methods; all of them return the option itself.
type Option struct {
	Name    string
	Kind    Kind
	Doc     string // sentences, for the reference and messages
	Enum    []string
	EnumDoc map[string]string

	IsRequired bool
	Change     Effect
	HasDefault bool
	DefaultVal any // of the bound field's type; the constructor's field is set to it before decoding
	HasMin     bool
	HasMax     bool
	Min, Max   float64                    // numbers; durations in seconds; bytes in bytes
	Example    string                     // HCL of the value, for the reference
	Refs       []string                   // block types that a KindRef may name
	Output     bool                       // an expression or pattern over the route's output event rather than its input
	Block      Options                    // of KindBlock
	Each       func(label string) Options // of KindLabelled: the declaration of the block with the label
	Ordered    bool                       // of KindLabelled: the order of the blocks counts
	Synonyms   []string                   // what other tools call it: never accepted, but suggested from
	Writable   bool                       // of KindSecret: it may be written in the file, as the name of a user may, and is stored then
	Present    *bool                      // of KindBlock: set to whether the block is written
	Set        *bool                      // if not nil: set to whether the user wrote the option

	Target any // pointer to the bound field

	made   map[string]Options // of KindLabelled: what was decoded
	order  []string           // of its blocks
	assign func(string)       // of KindEnum
	read   func() string
}

// Options is a block's declaration.
type Options []*Option

// Find gives the option by name, or nil.
func (o Options) Find(name string) *Option {
	for _, x := range o {
		if x.Name == name {
			return x
		}
	}
	return nil
}

// Names lists the option names.
func (o Options) Names() []string {
	names := make([]string, len(o))
	for i, x := range o {
		names[i] = x.Name
	}
	return names
}

func option(name string, kind Kind, target any, doc string) *Option {
	return &Option{Name: name, Kind: kind, Target: target, Doc: doc, Change: Drain}
}

// String declares a string.
func String(name string, p *string, doc string) *Option { return option(name, KindString, p, doc) }

// Bool declares a bool.
func Bool(name string, p *bool, doc string) *Option { return option(name, KindBool, p, doc) }

// Int declares an integer.
func Int(name string, p *int, doc string) *Option { return option(name, KindInt, p, doc) }

// Int64 declares a 64-bit integer.
func Int64(name string, p *int64, doc string) *Option { return option(name, KindInt, p, doc) }

// Float declares a number.
func Float(name string, p *float64, doc string) *Option { return option(name, KindFloat, p, doc) }

// Duration declares a duration.
func Duration(name string, p *time.Duration, doc string) *Option {
	return option(name, KindDuration, p, doc)
}

// Bytes declares a size in bytes.
func Bytes(name string, p *int64, doc string) *Option { return option(name, KindBytes, p, doc) }

// Strings declares a list of strings.
func Strings(name string, p *[]string, doc string) *Option { return option(name, KindStrings, p, doc) }

// StringMap declares a map of strings.
func StringMap(name string, p *map[string]string, doc string) *Option {
	return option(name, KindStringMap, p, doc)
}

// Enum declares one of several words; the field is of a string type.
func Enum[T ~string](name string, p *T, doc string, values ...T) *Option {
	o := option(name, KindEnum, p, doc)
	for _, v := range values {
		o.Enum = append(o.Enum, string(v))
	}
	o.assign = func(s string) { *p = T(s) }
	o.read = func() string { return string(*p) }
	return o
}

// Expr declares one expression.
func Expr(name string, p *diag.Text, doc string) *Option { return option(name, KindExpr, p, doc) }

// Exprs declares one condition, or several that must all hold.
func Exprs(name string, p *[]diag.Text, doc string) *Option { return option(name, KindExprs, p, doc) }

// ExprMap declares a map of names to expressions.
func ExprMap(name string, p *[]Field, doc string) *Option { return option(name, KindExprMap, p, doc) }

// Pattern declares text with {PATH} placeholders.
func Pattern(name string, p *diag.Text, doc string) *Option {
	return option(name, KindPattern, p, doc)
}

// Reference declares a reference to a block of one of the given types.
func Reference(name string, p *Ref, doc string, blockTypes ...string) *Option {
	o := option(name, KindRef, p, doc)
	o.Refs = blockTypes
	return o
}

// Schema declares a type.
func Schema(name string, p *types.Type, doc string) *Option { return option(name, KindType, p, doc) }

// Sensitive declares a secret.
func Sensitive(name string, p *Secret, doc string) *Option { return option(name, KindSecret, p, doc) }

// Nested declares a nested block that may be written once.
func Nested(name string, doc string, opts Options) *Option {
	o := option(name, KindBlock, nil, doc)
	o.Block = opts
	return o
}

// Labelled declares nested blocks with a name. each declares the one of a name: it is called anew for
// every block that is decoded, and for the reference with "NAME".
func Labelled(name string, doc string, each func(label string) Options) *Option {
	o := option(name, KindLabelled, nil, doc)
	o.Each = each
	return o
}

// Input declares a reference to an output of an operator of the same job.
func Input(name string, p *Port, doc string) *Option { return option(name, KindPort, p, doc) }

// Inputs declares references to outputs of operators of the same job.
func Inputs(name string, p *[]Port, doc string) *Option { return option(name, KindPorts, p, doc) }

// InOrder says that the order of labelled blocks counts.
func (o *Option) InOrder() *Option { o.Ordered = true; return o }

// Required makes leaving the option out an error.
func (o *Option) Required() *Option { o.IsRequired = true; return o }

// MayBeWritten says of a Sensitive option that its value is no secret by itself.
func (o *Option) MayBeWritten() *Option { o.Writable = true; return o }

// Default gives the value of an option that is left out, in the field's Go type.
func (o *Option) Default(v any) *Option { o.HasDefault, o.DefaultVal = true, v; return o }

// Between bounds a number (durations in seconds), both ends included.
func (o *Option) Between(lo, hi float64) *Option {
	o.HasMin, o.HasMax, o.Min, o.Max = true, true, lo, hi
	return o
}

// AtLeast bounds a number from below.
func (o *Option) AtLeast(lo float64) *Option { o.HasMin, o.Min = true, lo; return o }

// Effect says what a change does; Drain unless said.
func (o *Option) Effect(e Effect) *Option { o.Change = e; return o }

// Eg gives an example value in HCL for the reference.
func (o *Option) Eg(hcl string) *Option { o.Example = hcl; return o }

// OverOutput marks an expression or pattern over the output event.
func (o *Option) OverOutput() *Option { o.Output = true; return o }

// Presence binds whether a nested block is written.
func (o *Option) Presence(p *bool) *Option { o.Present = p; return o }

// Also names what other tools call the option, so that who writes that is
// told the right name.
func (o *Option) Also(words ...string) *Option { o.Synonyms = words; return o }

// Written binds whether the user wrote the option.
func (o *Option) Written(p *bool) *Option { o.Set = p; return o }
