// Package dsl is the language of expressions: it checks what a route or a
// job says about events, and compiles it into programs that run on the raw
// bytes of events. See docs/reference for the language itself.
//
//	dsl/types      types of events (leaf)
//	dsl/ir         the typed tree and the table of functions
//	dsl/check      text → tree, with every error at its token
//	dsl/eval       tree → program over raw JSON
//	dsl/reference  a plain interpreter of trees, for tests
package dsl

import (
	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/dsl/types"
)

// Format is how the values of records are read.
type Format string

// The formats.
const (
	JSON Format = "json" // one JSON object per record
	Raw  Format = "raw"  // bytes; expressions see only meta
)

// Decode says how much of a JSON document is checked.
type Decode string

// The depths of checking.
const (
	DecodeFull Decode = "full" // all of it, used or not (default)
	DecodeLazy Decode = "lazy" // only what expressions read
	DecodeNone Decode = "none" // nothing: bytes are copied; only without expressions over the event
)

// Tombstones says what a projection does with a null value.
type Tombstones string

// The policies for null values.
const (
	TombstonesPass    Tombstones = "pass"    // null goes through as null
	TombstonesProject Tombstones = "project" // the projection runs with every field nil
	TombstonesDrop    Tombstones = "drop"
)

// RouteSpec is what a route says about events, as written.
type RouteSpec struct {
	Input      types.Type // of events; Kind Any where the stream has no schema
	Format     Format
	Decode     Decode
	Tombstones Tombstones
	Consts     map[string]any // var.x, local.x, each.key, each.value by written name
	Filter     []diag.Text    // all must hold
	Explode    diag.Text      // a list; each element becomes an event of its own. Empty: none
	Project    []spec.Field   // nil: none
	Set        []spec.Field
	Drop       []diag.Text // paths
	Key        diag.Text   // over the output; empty: as it is
	Headers    []spec.Field
	Derived    []Derived // what the sink wants to know of each output event
}

// Derived is an expression or pattern of a sink, over the output event.
type Derived struct {
	Name    string
	Text    diag.Text
	Pattern bool
}
