package cli

import (
	"slices"
	"strings"
	"testing"
)

func TestNormalise(t *testing.T) {
	takes := func(name string) (bool, bool) {
		switch name {
		case "from", "var", "limit", "event":
			return true, true
		case "json", "watch":
			return false, true
		}
		return false, false
	}
	for _, c := range []struct{ in, want string }{
		{"validate -json", "validate --json"},
		{"validate --json dir", "validate --json -- dir"},
		{"run route.x -from file:a -limit 5 dir", "run --from file:a --limit 5 -- route.x dir"},
		{"-json run route.x", "run --json -- route.x"},
		{"serve -watch=false", "serve --watch=false"},
		{"fmt -", "fmt -- -"},
		{"eval 1 -event -", "eval --event - -- 1"},
		{"run -limit -5", "run --limit -5"},
		{"eval -1.5", "eval -- -1.5"},
		{"eval -.5", "eval -- -.5"},
		{"plan -var -json", "plan --var -json"},      // the value of -var
		{"plan -var=x -json", "plan --var=x --json"}, // has its value
		{"eval -json -- -x", "eval --json -- -x"},
		{"plan -nosuch x", "plan --nosuch -- x"},
		{"plan -from", "plan --from"},
		{"plan -h", "plan --help"},
		{"-json", "--json"},
		{"", ""},
	} {
		if got := normalise(strings.Fields(c.in), takes, func(s string) bool { return s == "group" }); !slices.Equal(got, strings.Fields(c.want)) {
			t.Errorf("normalise(%s) = %q, want %q", c.in, got, c.want)
		}
	}
}

// A flag of one name is a switch on every command or takes a value on every
// command: normalise reads the line before it is known which command it is.
func TestFlagsAgree(t *testing.T) {
	takes := map[string]bool{}
	var visit func(c *command)
	visit = func(c *command) {
		for _, f := range flagsOf(c) {
			value := f.NoOptDefVal == ""
			if before, ok := takes[f.Name]; ok && before != value {
				t.Errorf("-%s takes a value on one command and none on %s", f.Name, c.CommandPath())
			}
			takes[f.Name] = value
		}
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(New(Deps{}).root)
	if len(takes) < 10 {
		t.Fatalf("only %d flags seen", len(takes))
	}
}
