package admin

import "testing"

func TestMeta(t *testing.T) {
	for _, m := range []Meta{{}, {Topic: "t"}, {Topic: "t==", Cluster: "c"}, {Topic: "t", Cluster: "c", Rewind: "r"}, {Cluster: "c"}} {
		if got := ParseMeta(m.String()); got != m {
			t.Errorf("%q gives %+v, want %+v", m.String(), got, m)
		}
	}
	for text, want := range map[string]Meta{
		"":                            {},
		"keystone":                    {},
		"somebody else's":             {},
		"keystone topic=a":            {Topic: "a"}, // as version 1 wrote it
		"keystone topic=a future=b":   {Topic: "a"},
		"keystone topic=a cluster=b ": {Topic: "a", Cluster: "b"},
	} {
		if got := ParseMeta(text); got != want {
			t.Errorf("%q gives %+v, want %+v", text, got, want)
		}
	}
}
