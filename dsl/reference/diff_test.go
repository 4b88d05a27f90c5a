package reference_test

import (
	"encoding/json"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"keystone/configs/diag"
	"keystone/dsl/check"
	"keystone/dsl/ir"
	"keystone/dsl/reference"
	"keystone/dsl/types"
)

const fuzzSchema = `object({i = int, f = float, d = decimal(10, 2), s = string, b = bool, ms = timestamp_ms, at = timestamp_rfc3339, day = date, bin = bytes, l = list(int), m = map(string), o = object({x = int, s = string}), x = any})`

// FuzzEval holds the compiler to the reference on whatever the fuzzer makes
// of the tables: any expression that the checker accepts, on any event.
func FuzzEval(f *testing.F) {
	schema, err := types.Parse(fuzzSchema)
	if err != nil {
		f.Fatal(err)
	}
	for _, fn := range ir.Functions() {
		for _, e := range fn.Examples {
			f.Add(e.Expr, e.Event)
		}
	}
	data, err := os.ReadFile("testdata/semantics.txt")
	if err != nil {
		f.Fatal(err)
	}
	event := "{}"
	for _, line := range strings.Split(string(data), "\n") {
		if strings.HasPrefix(line, "@event ") {
			event = line[7:]
		} else if text, _, ok := strings.Cut(line, " => "); ok && !strings.HasPrefix(line, "##") {
			f.Add(text, event)
		}
	}
	f.Fuzz(func(t *testing.T, text, event string) {
		if event == "" {
			event = "{}"
		}
		// Texts of a megabyte are right, and slow.
		if len(event) > 4<<10 || strings.Contains(text, "repeat") || strings.Contains(text, "now") || strings.Count(text, "..") > 1 {
			return
		}
		v, err := reference.Decode([]byte(event))
		if err != nil || !json.Valid([]byte(event)) {
			return
		}
		if _, ok := v.(*reference.Object); !ok {
			return
		}
		if beyond(v) {
			return // an error where it is read, and what only passes a number on may leave it unread
		}
		for _, input := range []types.Type{types.AnyType, schema} {
			e, diags := check.Expr(diag.Text{S: text}, check.Env{Event: input})
			if diags.HasErrors() {
				continue
			}
			want, wantCode := interpreted(e, v)
			got, code := compiled(t, e, input, event)
			if code != wantCode || code == "" && !sameJSON(got, want) {
				t.Fatalf("%s\non %s (%s)\nthe compiler gives %s %s\nthe reference    %s %s", text, event, input, got, code, want, wantCode)
			}
		}
	})
}

// beyond tells whether a document has a number that float64 does not hold.
func beyond(v any) bool {
	switch v := v.(type) {
	case reference.Number:
		f, err := strconv.ParseFloat(string(v), 64)
		return err != nil || math.IsInf(f, 0)
	case []any:
		return slices.ContainsFunc(v, beyond)
	case *reference.Object:
		for _, x := range v.Values {
			if beyond(x) {
				return true
			}
		}
	}
	return false
}
