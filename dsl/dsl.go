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
	"keystone/dsl/ir"
	"keystone/dsl/types"
)

// The words of a route's format, as ir has them.
type (
	Format     = ir.Format
	Decode     = ir.Decode
	Tombstones = ir.Tombstones
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
