package catalog

import (
	"regexp"
	"slices"
	"testing"

	"keystone/configs/spec"
)

var (
	name = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	code = regexp.MustCompile(`^KS5\d{3}$`)
)

func TestKinds(t *testing.T) {
	var names []string
	for _, k := range Kinds() {
		if !name.MatchString(k.Name) || slices.Contains(names, k.Name) || len(k.Doc) < 60 {
			t.Errorf("kind %q: its name is wrong or taken, or its paragraph too short", k.Name)
		}
		names = append(names, k.Name)
		options(t, k.Name, k.New().Options())
		if a, b := k.New(), k.New(); a == b && len(a.Options()) > 0 {
			t.Errorf("kind %q gives the same configuration twice", k.Name)
		}
	}
}

// options holds declarations to what the reference needs.
func options(t *testing.T, kind string, all spec.Options) {
	t.Helper()
	for i, o := range all {
		switch {
		case !name.MatchString(o.Name), slices.Contains(all.Names()[:i], o.Name):
			t.Errorf("%s: option %q is named wrong or twice", kind, o.Name)
		case len(o.Doc) < 15:
			t.Errorf("%s.%s has no documentation", kind, o.Name)
		case !o.IsRequired && !o.HasDefault && !mayBeAbsent(o):
			t.Errorf("%s.%s is neither required nor has a default", kind, o.Name)
		case o.Target == nil && o.Kind != spec.KindBlock:
			t.Errorf("%s.%s is bound to nothing", kind, o.Name)
		}
	}
}

// mayBeAbsent tells whether leaving the option out means something that no default could say.
func mayBeAbsent(o *spec.Option) bool {
	return slices.Contains([]spec.Kind{spec.KindExpr, spec.KindSecret, spec.KindBlock}, o.Kind) || o.Set != nil
}

func TestCodes(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range Codes() {
		if !code.MatchString(c.Code) || seen[c.Code] || c.Summary == "" || len(c.Doc) < 40 {
			t.Errorf("code %+v is wrong, taken or not explained", c)
		}
		seen[c.Code] = true
	}
}
