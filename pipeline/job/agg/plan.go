package agg

import (
	"fmt"

	"keystone/dsl/eval"
	"keystone/dsl/ir"
	"keystone/dsl/types"
)

// Plan is how an aggregation is computed: immutable, shared by all its states.
type Plan struct {
	exprs []*ir.Expr
}

// Compile makes the plan of a checked aggregation over rows of the type. An error means that the aggregation did not come from
// the checker.
func Compile(a *ir.Aggregation, input types.Type) (*Plan, error) {
	return nil, fmt.Errorf("aggregates are not built yet")
}

// Exprs gives the expressions over the row that the plan needs. Whoever compiles them behind others of its own tells
// Extract where they begin.
func (p *Plan) Exprs() []*ir.Expr { return p.exprs }

// Extract appends what the states need to know of the row that e has begun: its payload. base is the index of the
// first of Exprs in e's program. The error is that of the row, valid until e's next call.
func (p *Plan) Extract(e *eval.RowEval, base int, dst []byte) ([]byte, *eval.Error) {
	return dst, nil
}
