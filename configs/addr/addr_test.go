package addr

import (
	"encoding/json"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestParse(t *testing.T) {
	for in, want := range map[string]Addr{
		"route.plays":           New("route", "plays"),
		`route.tv["eu-west-1"]`: New("route", "tv").Instance("eu-west-1"),
		`stream.a[""]`:          New("stream", "a").Instance(""),
		`stream.a["]\"["]`:      New("stream", "a").Instance(`]"[`),
	} {
		got, err := Parse(in)
		if err != nil || got != want || got.String() != in {
			t.Errorf("Parse(%q) = %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "route", "route.", ".x", "route.A", "route.a[eu]", `route.a["x"`, `route.a["x"]y`, "route.a.b", "1.a", `route["x"].a`} {
		if got, err := Parse(in); err == nil {
			t.Errorf("Parse(%q) = %v, want an error", in, got)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := New("route", rapid.StringMatching(`[a-z][a-z0-9_]{0,9}`).Draw(t, "name"))
		if rapid.Bool().Draw(t, "each") {
			a = a.Instance(rapid.String().Draw(t, "key"))
		}
		b, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		var got Addr
		if err := json.Unmarshal(b, &got); err != nil || got != a {
			t.Fatalf("%s: %v, %v", b, got, err)
		}
	})
}

func TestOrder(t *testing.T) {
	want := []Addr{New("route", "a"), New("route", "a").Instance(""), New("route", "a").Instance("b"), New("route", "b"), New("sink", "a")}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, Compare)
	if !slices.Equal(got, want) {
		t.Error(got)
	}
}
