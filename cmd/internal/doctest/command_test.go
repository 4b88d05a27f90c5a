package doctest

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// TestCommands holds each command line that a page shows to the command
// line's own reference: the command is there, and so are its flags.
func TestCommands(t *testing.T) {
	all := pages(t)
	known := commands(t, all)
	lines := 0
	for _, p := range all {
		blocks, prose := p.blocks(t)
		for _, b := range blocks {
			if b.is("hcl") || b.is("eval") {
				continue
			}
			for i, line := range strings.Split(b.text, "\n") {
				for _, l := range strings.Split(line, "&&") {
					l = strings.TrimPrefix(strings.TrimSpace(l), "$ ")
					lines += checkCommand(t, fmt.Sprintf("%s:%d", p.name, b.line+i), l, known)
				}
			}
		}
		for i, line := range strings.Split(prose, "\n") {
			for _, c := range code.FindAllString(line, -1) {
				lines += checkCommand(t, fmt.Sprintf("%s:%d", p.name, i+1), strings.Trim(c, "`"), known)
			}
		}
	}
	if lines < 30 {
		t.Errorf("only %d command lines were found", lines)
	}
}

// flagName is a flag in the tables of the reference.
var flagName = regexp.MustCompile("^\\| `-([a-z-]+)")

// commands reads the reference: the flags of each command.
func commands(t *testing.T, all []page) map[string]map[string]bool {
	t.Helper()
	out := map[string]map[string]bool{}
	for _, p := range all {
		if p.name != referenceDir+"/cli.md" {
			continue
		}
		command := "" // before the first heading: flags of every command
		out[command] = map[string]bool{}
		for _, line := range strings.Split(p.text, "\n") {
			if name, ok := strings.CutPrefix(line, "## keystone "); ok {
				command = name
				out[command] = map[string]bool{}
			}
			if m := flagName.FindStringSubmatch(line); m != nil {
				out[command][m[1]] = true
			}
		}
	}
	if len(out) < 10 || len(out[""]) == 0 {
		t.Fatalf("the reference has only the commands %v", out)
	}
	return out
}

// checkCommand checks one line if it is a call of keystone, and gives how many it checked.
func checkCommand(t *testing.T, at, line string, known map[string]map[string]bool) int {
	t.Helper()
	words := strings.Fields(line)
	if len(words) < 2 || words[0] != "keystone" || strings.ToLower(words[1]) != words[1] || !isWord(words[1]) {
		return 0 // prose about keystone, or a placeholder
	}
	flags, ok := known[words[1]]
	if !ok {
		t.Errorf("%s: there is no command keystone %s", at, words[1])
		return 1
	}
	for _, w := range words[2:] {
		if strings.ContainsAny(w[:1], "#|<>") || w == "--" {
			break
		}
		if name, ok := strings.CutPrefix(w, "-"); ok && name != "" {
			name, _, _ = strings.Cut(strings.TrimPrefix(name, "-"), "=")
			if !flags[name] && !known[""][name] {
				t.Errorf("%s: keystone %s has no flag -%s", at, words[1], name)
			}
		}
	}
	return 1
}

func isWord(s string) bool {
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz") == ""
}
