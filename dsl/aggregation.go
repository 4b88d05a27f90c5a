package dsl

import (
	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/dsl/check"
	"keystone/dsl/ir"
	"keystone/dsl/types"
)

// CheckAggregation checks the fields of an aggregate: each is a call of an aggregate over the
// rows of a key, or what arithmetic and functions make of several. It is nil if there are errors.
func CheckAggregation(fields []spec.Field, env Env) (*ir.Aggregation, diag.Diagnostics) {
	c := aggregationChecker{env: env}
	row := c.outputs(fields)
	if c.diags.HasErrors() {
		return nil, c.diags
	}
	a := &ir.Aggregation{Calls: c.calls.List, Row: row, Type: objectOf(row), Results: types.Type{Kind: types.Object}}
	for i, call := range a.Calls {
		a.Results.Fields = append(a.Results.Fields, types.Field{Name: ir.AggField(i), Type: call.Type})
	}
	return a, c.diags
}

// maxCalls bounds the distinct calls of one aggregation: each has its state, for each key.
const maxCalls = 1000

type aggregationChecker struct {
	env   Env
	calls check.Calls
	diags diag.Diagnostics
}

func (c *aggregationChecker) outputs(fields []spec.Field) []ir.Output {
	out := make([]ir.Output, 0, len(fields))
	for _, f := range fields {
		o := ir.Output{Name: f.Name, Lit: f.Lit, IsObject: f.IsObject}
		switch {
		case f.IsObject:
			o.Object = c.outputs(f.Object)
			o.Type = objectOf(o.Object)
		case f.Lit != nil:
			o.Type = check.TypeOf(f.Lit)
		default:
			e, diags := check.Aggregate(f.Expr, c.env, &c.calls)
			c.diags.Append(diags...)
			if o.Expr = e; e != nil {
				o.Type = e.Root.Type
			}
			if o.Type.Kind == types.Nil {
				o.Type = types.AnyType
			}
			if len(c.calls.List) > maxCalls {
				c.diags.Addf(f.NameRange, codeAggregate, "Too many aggregates", "There are more than %d different calls of aggregates.", maxCalls)
				return out
			}
		}
		out = append(out, o)
	}
	return out
}

// Aggregates gives the aggregates of the language, in the order of the reference.
func Aggregates() []*ir.Aggregate { return ir.Aggregates() }
