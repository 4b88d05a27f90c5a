package agg

import (
	"errors"

	"keystone/dsl/eval"
)

// State is the aggregates of the rows of one key and window so far. One goroutine at a time.
type State struct {
	p *Plan
}

var errNotBuilt = errors.New("aggregates are not built yet")

// New gives the state of no rows.
func (p *Plan) New() *State { return &State{p: p} }

// Add adds a row by what Extract wrote of it. It keeps nothing of the payload. An error means that the payload is not
// one of this plan.
func (s *State) Add(payload []byte, at Order) error { return errNotBuilt }

// Merge adds the rows of another state of the same plan, which stays as it is.
func (s *State) Merge(o *State) {}

// Append appends the state, to be kept.
func (s *State) Append(dst []byte) []byte { return dst }

// Decode sets the state to what Append wrote.
func (s *State) Decode(b []byte) error { return errNotBuilt }

// Size gives about how many bytes of memory the state takes.
func (s *State) Size() int { return 0 }

// Reset makes it the state of no rows.
func (s *State) Reset() {}

// Writer writes the fields of states; one goroutine at a time.
type Writer struct {
	p *Plan
}

// NewWriter makes a writer.
func (p *Plan) NewWriter() *Writer { return &Writer{p: p} }

// AppendFields appends the fields of the row, `"name":value,…` in the written order, without braces. The error is valid
// until the next call; what was appended by then means nothing.
func (w *Writer) AppendFields(dst []byte, s *State) ([]byte, *eval.Error) {
	return dst, &eval.Error{Text: errNotBuilt.Error()}
}
