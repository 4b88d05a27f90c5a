package spec

import (
	"keystone/configs/diag"
)

// Value is an evaluated option, before it is decoded into its field: nil,
// bool, int64, float64, string, []Value, map[string]Value (a KindStringMap),
// or one of the package's own forms for the kind: diag.Text, []diag.Text,
// []Field, Ref, types.Type, Secret.
type Value any

// Invalid stands for a value that could not be evaluated, which has been
// reported: Decode leaves the field at its default and is silent.
type Invalid struct{}

// Layer says where an option's value came from, weakest first.
type Layer string

// The layers of configuration.
const (
	LayerDefault     Layer = "default"       // built in
	LayerDefaults    Layer = "defaults"      // a defaults block
	LayerBlock       Layer = "configuration" // the block itself
	LayerOverlay     Layer = "overlay"       // *.ENV.ks.hcl
	LayerEnvironment Layer = "environment"   // KEYSTONE_SET_…
)

// Attr is one evaluated attribute.
type Attr struct {
	Value     Value
	Range     diag.Range // of the value
	NameRange diag.Range
	Layer     Layer
	Items     map[string]diag.Range // of a list or a map that is written out: its elements, by "0", "1", … or by key
}

// Body is an evaluated block body: what Decode reads. Consts are the typed
// constants (var.x, local.x, each.key, each.value) that the body's expressions
// refer to, by their written name; values are nil, bool, int64, float64,
// string, []any, map[string]any.
type Body struct {
	Attrs map[string]Attr
	// Blocks are the nested blocks; a second one of a type is an error earlier. Blocks with a name are below
	// one of their type, by name: Blocks["window"].Blocks["by_user"].
	Blocks map[string]Body
	Order  []string // of Blocks of one type with names: as written
	Consts map[string]any
	Range  diag.Range // of the block's header, for what is missing
}
