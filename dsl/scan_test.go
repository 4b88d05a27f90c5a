package dsl_test

import (
	"fmt"
	"strings"
	"testing"

	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/dsl"
	"keystone/dsl/types"
)

func TestScan(t *testing.T) {
	schema, err := types.Parse("object({dt = string, n = int, x = float, ts = timestamp_ms, device = object({kind = string}), items = list(object({id = int})), ok = bool})")
	if err != nil {
		t.Fatal(err)
	}
	project := []spec.Field{{Name: "k", Expr: diag.Text{S: "device.kind"}}}
	for _, tc := range []struct {
		filter  []string
		explode string
		project []spec.Field
		want    string
	}{
		{[]string{"dt == '2026-01-01' && n > 5"}, "", project, "[device dt n]; dt = [2026-01-01]; n > [5]"},
		{[]string{"5 >= n", "dt in ['a', 'b']"}, "", project, "[device dt n]; n <= [5]; dt in [a b]"},
		{[]string{"device.kind < 'tv' && x == 1.5"}, "", project, "[device x]; device.kind < [tv]; x = [1.5]"},
		{[]string{"ts >= parse_time('2026-01-01T00:00:00Z')"}, "", project, "[device ts]; ts >= [2026-01-01 00:00:00 +0000 UTC]"},
		{[]string{"n > 5 || dt == 'a'"}, "", project, "[device dt n]"},
		{[]string{"!(n > 5) && ok"}, "", project, "[device n ok]"},
		{[]string{"n > 2 + 3"}, "", project, "[device n]; n > [5]"},
		{[]string{"n > x"}, "", project, "[device n x]"},
		{[]string{"n == nil"}, "", project, "[device n]"},
		{[]string{"ts > now()"}, "", project, "[device ts]"},
		{[]string{"len(keys(event)) > 3"}, "", project, "all"},
		{[]string{"n > 5"}, "", nil, "all; n > [5]"},
		{[]string{"n > 1"}, "items", []spec.Field{{Name: "k", Expr: diag.Text{S: "items.id"}}}, "[items n]; n > [1]"},
		{nil, "", []spec.Field{{Name: "o", IsObject: true, Object: []spec.Field{{Name: "k", Expr: diag.Text{S: "x"}}}}, {Name: "one", Lit: int64(1)}}, "[x]"},
	} {
		s := dsl.RouteSpec{Input: schema, Format: "json", Decode: "full", Explode: diag.Text{S: tc.explode}, Project: tc.project}
		for _, f := range tc.filter {
			s.Filter = append(s.Filter, diag.Text{S: f})
		}
		r, ds := dsl.CheckRoute(s)
		if ds.HasErrors() {
			t.Errorf("%v: %v", tc.filter, ds.Err())
			continue
		}
		scan := dsl.ScanOf(r)
		got := fmt.Sprint(scan.Fields)
		if scan.All {
			got = "all"
		}
		for _, b := range scan.Bounds {
			got += fmt.Sprintf("; %s %s %v", strings.Join(b.Path, "."), b.Op, b.Values)
		}
		if got != tc.want {
			t.Errorf("%v: %s, want %s", tc.filter, got, tc.want)
		}
	}
}
