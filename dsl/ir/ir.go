// Package ir has the typed tree that the checker makes of an expression and
// that the compiler and the reference interpreter read. Whatever is in a tree
// has passed the checker: names are resolved, constants folded where their
// value is certain, functions bound, regular expressions compiled.
package ir

import (
	"regexp"

	"keystone/dsl/types"
)

// Op is what a node does.
type Op uint8

// The operations. Kids are listed in the order of Node.Kids.
const (
	Const     Op = iota // Value
	Field               // Path from the event's root: the fast path of the compiler
	Event               // the whole event
	Meta                // Name: topic partition offset timestamp key headers tombstone
	Let                 // Kids: value, body. Slot numbers the variable.
	Var                 // Slot of an enclosing Let
	Elem                // the element # of the predicate Depth levels up (0 is the innermost)
	ElemIndex           // #index
	ElemAcc             // #acc
	Member              // Kids: object, key (string or int; a constant where it was written so)
	Slice               // Kids: list or string, from or nil, to or nil (a missing bound is a nil *Node)
	Not                 // Kids: x
	Neg                 // Kids: x
	And                 // Kids: a, b; three-valued
	Or                  // Kids: a, b; three-valued
	Eq                  // two-valued, never nil
	Ne                  // two-valued, never nil
	Lt                  // and the rest give nil for nil
	Le
	Gt
	Ge
	Add // numbers or strings
	Sub
	Mul
	Div // float
	Mod // ints
	Pow // float
	In  // Kids: x, list or object
	Contains
	StartsWith
	EndsWith
	Matches  // Kids: x; Regexp
	Coalesce // Kids: a, b: a ?? b
	Cond     // Kids: if, then, else
	Call     // Func, Kids: arguments; a predicate argument is a node of its own that reads Elem
	List     // Kids: elements
	Object   // Kids: values; Names
	Range    // Kids: from, to: the list of ints from..to, both included; empty if from > to
)

// Step is one step of a static path: a field name, or an index of a list.
type Step struct {
	Name    string
	Index   int // -1 is the last
	IsIndex bool
}

// Span is a stretch of the expression's text, in runes; End is after the last.
type Span struct{ Start, End int }

// Node is one node of a tree.
type Node struct {
	Op     Op
	Type   types.Type
	Span   Span // of the whole subtree
	Token  Span // of the operator, name or literal itself: where run-time errors point
	Kids   []*Node
	Value  any // of Const: nil, bool, int64, float64, string, []any, map[string]any
	Path   []Step
	Name   string
	Names  []string
	Slot   int
	Depth  int
	Func   *Func
	Regexp *regexp.Regexp
}

// NilPolicy says what a function does with a nil argument.
type NilPolicy uint8

const (
	// NilGivesNil: any nil argument gives nil, before the types of the others
	// are looked at. Where there is a predicate only the list counts.
	NilGivesNil NilPolicy = iota
	// NilIsValue: the function says itself what nil means.
	NilIsValue
)

// Func declares a function of the language: all that the checker, the
// reference and the tests need. Its implementation is in dsl/eval, found by Name.
type Func struct {
	Name      string
	Signature string // as the reference shows it: truncate_time(t, unit) -> time
	Doc       string // sentences
	Nil       NilPolicy
	MinArgs   int
	MaxArgs   int   // -1: any number
	Predicate int   // index of the argument that is a predicate over elements, or -1
	Condition bool  // the predicate is a condition: a bool
	ConstArgs []int // indices of arguments that must be constants
	NotInJobs bool
	// Result gives the type for the argument types, or an error that names
	// the wrong argument.
	Result   func(args []types.Type, nodes []*Node) (types.Type, error)
	Examples []Example // each is a test
}

// ArgError is what Result gives for an argument that cannot be right.
type ArgError struct {
	Arg  int // index
	Text string
}

// Error gives the text.
func (e *ArgError) Error() string { return e.Text }

// Example is an expression, the event it runs on (JSON, or "" for {}) and
// the value it gives as JSON, or the error's code when it fails.
type Example struct {
	Expr  string
	Event string
	Want  string
	Error string
}

// Walk visits the tree depth first, parents before children; f says whether to go down.
func (n *Node) Walk(f func(*Node) bool) {
	if n == nil || !f(n) {
		return
	}
	for _, k := range n.Kids {
		k.Walk(f)
	}
}
