// Package dsl is the language of expressions: it checks what a route or a
// job says about events, and compiles it into programs that run on the raw
// bytes of events. See docs/reference for the language itself.
//
//	dsl/types      types of events (leaf)
//	dsl/ir         the typed tree and the table of functions
//	dsl/check      text → tree, with every error at its token
//	dsl/eval       tree → program over raw JSON
//	dsl/reference  a plain interpreter of trees: constants, tests
package dsl

import (
	"slices"

	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/dsl/check"
	"keystone/dsl/eval"
	"keystone/dsl/ir"
	"keystone/dsl/types"
)

// The words of a route's format, as ir has them.
type (
	Format     = ir.Format
	Decode     = ir.Decode
	Tombstones = ir.Tombstones
)

// Env is what an expression may refer to.
type Env = check.Env

// RouteSpec is what a route says about events, as written.
type RouteSpec struct {
	Input      types.Type // of events; Kind Any where the stream has no schema
	Format     Format
	Decode     Decode
	Tombstones Tombstones
	Consts     map[string]any // var.x, local.x, each.key, each.value by written name
	Filter     []diag.Text    // all must hold
	Explode    diag.Text      // the path of a list: one event per element, with the element in the list's place. Empty: none
	Project    []spec.Field   // nil: none
	Set        []spec.Field
	Drop       []diag.Text // paths
	Key        diag.Text   // over the output; empty: as it is
	Headers    []spec.Field
	Derived    []Derived  // what the sink wants to know of each output event
	Jobs       bool       // the events are rows of a job
	NoMeta     bool       // the events are no records that were read
	Target     types.Type // that the destination declares, Kind Any for none: computed times and decimals are written in its form
}

// Derived is an expression or pattern of a sink, over the output event.
type Derived struct {
	Name    string
	Text    diag.Text
	Pattern bool
}

// CheckExpr checks one expression. It is nil if there are errors.
func CheckExpr(text diag.Text, env Env) (*ir.Expr, diag.Diagnostics) { return check.Expr(text, env) }

// CheckCondition checks an expression that must be true or false. It is nil if there are errors.
func CheckCondition(text diag.Text, env Env) (*ir.Expr, diag.Diagnostics) {
	return check.Condition(text, env)
}

// PatternOf checks text with {PATH} and {PATH:LAYOUT}.
func PatternOf(text diag.Text, env Env) ([]ir.PatternPart, diag.Diagnostics) {
	return check.Pattern(text, env)
}

// References gives the constants (var.x, local.x, each.key, each.value) that
// an expression or a pattern refers to, each once, in the order of their
// first use. It also works on text that does not parse.
func References(text diag.Text) []string { return check.References(text) }

// PatternReferences gives the constants that a pattern refers to.
func PatternReferences(text diag.Text) []string { return check.PatternReferences(text) }

// Compile makes the program of a checked route. An error means that the
// route did not come from CheckRoute.
func Compile(r *ir.Route) (*eval.Program, error) { return eval.Compile(r) }

// Functions gives the functions of the language, in the order of the reference.
func Functions() []*ir.Func { return ir.Functions() }

// Codes documents every code of this package and those below it.
func Codes() []diag.Code { return slices.Concat(check.Codes(), codes()) }
