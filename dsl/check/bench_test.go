package check_test

import (
	"testing"

	"keystone/dsl/check"
	"keystone/dsl/types"
)

func BenchmarkExpr(b *testing.B) {
	schema, err := types.Parse(fuzzSchema)
	if err != nil {
		b.Fatal(err)
	}
	t := text("country in ['BR', 'US'] && device.type == 'tv' && position_ms > 1000")
	b.ReportAllocs()
	for b.Loop() {
		if _, diags := check.Expr(t, check.Env{Event: schema}); diags.HasErrors() {
			b.Fatal(diags)
		}
	}
}
