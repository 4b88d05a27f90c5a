package ir

import (
	"strconv"

	"keystone/configs/diag"
	"keystone/dsl/types"
)

// Aggregation is what a window or an aggregate computes of the rows of a key, checked.
type Aggregation struct {
	Calls []AggCall // each distinct call once
	// Row has the written fields in order. Their expressions are over an object with a field for the result of
	// each call, named by AggField: `sum(a) / count()` is `a0 / a1`.
	Row  []Output
	Type types.Type // of the row: the fields of Row alone
	// Results is the type of the object that Row's expressions read.
	Results types.Type
}

// AggCall is one call of an aggregate.
type AggCall struct {
	Func   string     // count sum avg min max first last count_distinct approx_count_distinct collect top_k percentile stddev any_value
	Args   []*Expr    // over the input's row
	Params []any      // constants behind them, with their defaults: int64 or float64
	Where  *Expr      // only rows for which it is true; nil: all
	Type   types.Type // of the result
	Text   diag.Text  // of the field's whole expression; the call is at Span
	Span   Span
}

// AggField names the field of an aggregation's results that call i has.
func AggField(i int) string { return "a" + strconv.Itoa(i) }
