// Package eval compiles checked trees into programs over the raw bytes of
// events: the used paths are found in one scan into slots, closures typed at
// compile time run over the slots, output is appended from raw slices. No map
// of the event is ever built and nothing is allocated per event.
package eval

import (
	"keystone/configs/diag"
	"keystone/pipeline/record"
)

// Verdict is what a program decided about one record.
type Verdict uint8

const (
	// Passed: outputs were appended (none, if explode found an empty list, or several).
	Passed Verdict = iota
	// Filtered: a condition was not true.
	Filtered
	// Dropped: a null value whose policy is to drop it.
	Dropped
	// Failed: nothing was appended; the error says why.
	Failed
)

// Error is why a record could not be evaluated. Code is short and stable:
// decode, type, overflow, division_by_zero, range, function…
type Error struct {
	Code  string
	Text  string
	Range diag.Range // of the token in the configuration; zero for a decode error
}

// Error gives the text and where it happened.
func (e *Error) Error() string {
	if e.Range.IsZero() {
		return e.Text
	}
	return e.Range.String() + ": " + e.Text
}

// Program is a compiled route: immutable, shared by all its lanes.
type Program struct{}

// Eval runs a program; one goroutine at a time. It reuses its memory.
type Eval struct{}

// NewEval makes an evaluator of the program.
func (p *Program) NewEval() *Eval { return &Eval{} }

// Run evaluates record i of in and appends what comes of it to out: records
// whose Source is i, with memory in out.Buf or in's own (so in must live as
// long as out). The error is only valid with Failed, until the next Run.
func (e *Eval) Run(in *record.Batch, i int, out *record.Batch) (Verdict, *Error) {
	return Passed, nil
}
