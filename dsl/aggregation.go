package dsl

import (
	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/dsl/ir"
)

// CheckAggregation checks the fields of an aggregate: each is a call of an aggregate over the
// rows of a key, or what arithmetic and functions make of several. It is nil if there are errors.
func CheckAggregation(fields []spec.Field, env Env) (*ir.Aggregation, diag.Diagnostics) {
	var diags diag.Diagnostics
	if len(fields) > 0 {
		diags.Addf(fields[0].NameRange, codeAggregate, "Not built yet", "Aggregates are not built yet.")
	}
	return nil, diags
}
