package doctest

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// link is [TEXT](TARGET); the text may be in backticks.
var link = regexp.MustCompile(`\[([^\[\]]*)\]\(([^()\s]+)\)`)

// code is text in backticks, where brackets are no link.
var code = regexp.MustCompile("`[^`\n]*`")

// testName is the text of a link that names a test.
var testName = regexp.MustCompile(`^([Tt]est|Fuzz|Benchmark)[A-Z]\w*$`)

// TestLinks follows every link to a file of the tree: the file is there, and
// so is the heading. Where a link's text is the name of a test, the file declares it.
func TestLinks(t *testing.T) {
	all := pages(t)
	headings := map[string]map[string]bool{}
	for _, p := range all {
		headings[p.name] = anchors(t, p)
	}
	links, tests := 0, 0
	for _, p := range all {
		_, prose := p.blocks(t)
		for i, line := range strings.Split(prose, "\n") {
			at := fmt.Sprintf("%s:%d", p.name, i+1)
			for _, m := range link.FindAllStringSubmatch(uncode(line), -1) {
				name, target := strings.Trim(m[1], "\x00"), m[2]
				if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
					continue
				}
				links++
				file, anchor, _ := strings.Cut(target, "#")
				resolved := p.name
				if file != "" {
					resolved = path.Join(path.Dir(p.name), file)
				}
				_, isPage := headings[resolved]
				if _, err := os.Stat(filepath.Join(root, resolved)); err != nil && !isPage && resolved != referenceDir {
					t.Errorf("%s: there is no %s", at, resolved)
					continue
				}
				if anchor != "" && !headings[resolved][anchor] {
					t.Errorf("%s: %s has no heading #%s", at, resolved, anchor)
				}
				if testName.MatchString(name) {
					tests++
					declares(t, at, resolved, name)
				}
			}
		}
	}
	if links < 20 || tests < 10 {
		t.Errorf("only %d links were found, %d of them to tests", links, tests)
	}
}

// uncode keeps the text of `[x](y)` in backticks from being a link, but not
// that of a link whose text is in backticks.
func uncode(line string) string {
	return code.ReplaceAllStringFunc(line, func(s string) string {
		if strings.ContainsAny(s, "[]()") {
			return strings.Repeat("x", len(s))
		}
		return "\x00" + s[1:len(s)-1] + "\x00"
	})
}

func declares(t *testing.T, at, file, test string) {
	t.Helper()
	src, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Errorf("%s: %v", at, err)
		return
	}
	if !strings.Contains(string(src), "\nfunc "+test+"(") {
		t.Errorf("%s: %s has no test %s", at, file, test)
	}
}

// anchors gives the names that a page's headings have in links, as code
// hosting sites derive them.
func anchors(t *testing.T, p page) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	_, prose := p.blocks(t)
	for _, line := range strings.Split(prose, "\n") {
		text := strings.TrimLeft(line, "#")
		if text == line || !strings.HasPrefix(text, " ") {
			continue
		}
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			}
			return -1
		}, strings.TrimSpace(text))
		for n, unique := 1, name; ; n++ {
			if !out[unique] {
				out[unique] = true
				break
			}
			unique = fmt.Sprintf("%s-%d", name, n)
		}
	}
	return out
}
