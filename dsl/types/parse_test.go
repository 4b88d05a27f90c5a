package types

import (
	"encoding/json"
	"math/rand"
	"testing"
)

// arbitrary makes a type of every form, to a depth.
func arbitrary(r *rand.Rand, depth int) Type {
	k := Kind(r.Intn(int(Object) + 1))
	if depth == 0 && k >= List {
		k = String
	}
	t := Type{Kind: k, Sensitive: r.Intn(8) == 0}
	switch k {
	case Decimal:
		t.Precision = 1 + r.Intn(38)
		t.Scale = r.Intn(t.Precision + 1)
	case List, Map:
		e := arbitrary(r, depth-1)
		t.Elem = &e
	case Object:
		for i := range r.Intn(4) {
			name := []string{"a", "ts_1", "@type", "with space", `quo"te`, "ñ", "", "a.b", "..."}[r.Intn(9)]
			t.Fields = append(t.Fields, Field{Name: name + string(rune('a'+i)), Type: arbitrary(r, depth-1), Optional: r.Intn(2) == 0})
		}
		t.Open = r.Intn(3) == 0
	}
	return t
}

func TestTextRoundTrip(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	for range 5000 {
		want := arbitrary(r, 4)
		b, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got Type
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		if !Equal(got, want) || got.format(true) != want.format(true) {
			t.Fatalf("%s became %s", want.format(true), got.format(true))
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, s := range []string{"", "strng", "list", "list()", "list(int", "list(int))", "object({a = })", "object({a int})", "object({a = int b = int})", "decimal(0, 0)", "decimal(39, 0)", "decimal(5, 6)", "decimal(x, 1)", `object({"a = int})`, "optional(int)", "object({a = optional(int})", "int int"} {
		if got, err := Parse(s); err == nil {
			t.Errorf("Parse(%q) = %s, want an error", s, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("object({a = optional(list(int)), \"b c\" = decimal(10, 2), ...})")
	f.Fuzz(func(t *testing.T, s string) {
		got, err := Parse(s)
		if err != nil {
			return
		}
		again, err := Parse(got.format(true))
		if err != nil || !Equal(got, again) {
			t.Fatalf("%q parsed as %s, which parses as %s, %v", s, got.format(true), again.format(true), err)
		}
	})
}
