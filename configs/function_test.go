package configs_test

import (
	"fmt"
	"testing"

	"keystone/configs/addr"
)

// TestFunctions evaluates functions of configuration through jsonencode.
func TestFunctions(t *testing.T) {
	for expr, want := range map[string]string{
		`toset(["b", "a", "b"])`:                           `["a","b"]`,
		`toset([])`:                                        `[]`,
		`toset(["a", 1])`:                                  `["1","a"]`,
		`toset(tolist([2, 1]))`:                            `[1,2]`,
		`tolist(["b", "a"])`:                               `["b","a"]`,
		`tolist(["b", null])`:                              `["b",null]`,
		`tolist(toset(["b", "a"]))`:                        `["a","b"]`,
		`merge({ a = 1 }, { b = 2 })`:                      `{"a":1,"b":2}`,
		`[for k, v in { a = 1, b = 2 } : "${k}${v}"]`:      `["a1","b2"]`,
		`try(env("NOT_SET"), "other")`:                     `"other"`,
		`can(env("NOT_SET"))`:                              `false`,
		`startswith("abc", "ab") && endswith("abc", "c")`:  `true`,
		`sha256("a")`:                                      `"ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"`,
		`base64decode(base64encode("ü"))`:                  `"ü"`,
		`urlencode("a b&c")`:                               `"a+b%26c"`,
		`formatdate("YYYY-MM-DD", "2026-01-31T00:00:00Z")`: `"2026-01-31"`,
		`split(",", "a,b")`:                                `["a","b"]`,
		`lookup({ a = 1 }, "b", 5)`:                        `5`,
		`format("%03d-%s", 7, "x")`:                        `"007-x"`,
		`setproduct(["a"], ["b", "c"])`:                    `[["a","b"],["a","c"]]`,
		`jsondecode("{\"a\":[1,null]}")`:                   `{"a":[1,null]}`,
		`file("main.ks.hcl") != ""`:                        `true`,
		`strcontains("abc", "b") ? upper("x") : null`:      `"X"`,
		`regex("[0-9]+", "a12b")`:                          `"12"`,
		`flatten([["a"], [["b"]]])`:                        `["a","b"]`,
		`parseint("ff", 16) + tonumber("1")`:               `256`,
	} {
		c, diags := loadText(t, testCatalog(), fmt.Sprintf("sink \"stdout\" \"a\" {\n  labels = { v = jsonencode(%s) }\n}\n", expr))
		if c == nil {
			t.Errorf("%s: %v", expr, diags.Err())
			continue
		}
		if got := c.Sinks[addr.New("sink", "a")].Config.(*testSink).Labels["v"]; got != want {
			t.Errorf("%s = %s, want %s", expr, got, want)
		}
	}
}
