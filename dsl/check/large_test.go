package check_test

import (
	"strings"
	"testing"

	"keystone/dsl/check"
	"keystone/dsl/types"
)

// TestLarge gives the checker what might hurt it. Each is refused, or
// checked without a deep stack or quadratic work that anybody would notice.
func TestLarge(t *testing.T) {
	closed := types.ObjectOf(types.Field{Name: "x", Type: types.BoolType}, types.Field{Name: "n", Type: types.IntType})
	repeat := strings.Repeat
	for name, c := range map[string]struct {
		text string
		want string // code of the first error, "" for none
	}{
		"brackets":      {repeat("(", 1_000_000), "KS2001"},
		"nested":        {repeat("(", 201) + "x" + repeat(")", 201), "KS2001"},
		"nested enough": {repeat("(", 200) + "x" + repeat(")", 200), ""},
		"lists":         {repeat("[", 201) + repeat("]", 201), "KS2001"},
		"signs":         {repeat("-", 60_000) + "n", "KS2001"},
		"nots":          {repeat("not ", 201) + "x", "KS2001"},
		"text":          {"x" + repeat(" || x", 14_000), "KS2001"},
		"alternatives":  {"x" + repeat("||x", 20_000), ""},
		"sums":          {"n" + repeat("+n", 30_000), ""},
		"powers":        {"n" + repeat("**n", 20_000), ""},
		"choices":       {repeat("x?n:", 16_000) + "n", ""},
		"comparisons":   {"n" + repeat("<n", 30_000), ""},
		"lets":          {repeat("let a=n;", 8_000) + "a", ""},
		"unknown names": {"y" + repeat("-y", 32_000), "KS2010"},
		"nulls":         {"null" + repeat("|null", 13_000), "KS2004"},
		"coalesces":     {"n" + repeat("??n", 20_000), ""},
		"members":       {"event['y']" + repeat(".a", 30_000), "KS2001"},
		"calls":         {repeat("abs(", 200) + "n" + repeat(")", 200), ""},
		"elements":      {"[" + repeat("1,", 10_000) + "]", ""},
		"more elements": {"[" + repeat("1,", 10_001) + "]", "KS2033"},
		"names":         {"{" + repeat("a:1,", 10_001) + "}", "KS2033"},
		"digits":        {repeat("9", 60_000), "KS2003"},
		"regexp":        {"string(n) matches `" + repeat("(a{1000}){1000}", 10) + "`", "KS2032"},
		"string":        {"'" + repeat("a", 65_000) + "' == string(n)", ""},
		"open string":   {"'" + repeat("a", 65_000), "KS2002"},
		"not UTF-8":     {"'\xff'", "KS2002"},
		"zero":          {"\x00", "KS2002"},
	} {
		t.Run(name, func(t *testing.T) {
			_, diags := check.Expr(text(c.text), check.Env{Event: closed})
			got := ""
			if len(diags) > 0 {
				got = diags[0].Code
			}
			if got != c.want || len(diags) > 50 {
				t.Errorf("%d errors, the first %.300s; want %q", len(diags), got+" "+diags.Sort().Err().Error(), c.want)
			}
		})
	}
}
