package dsl_test

import (
	"fmt"
	"math/rand"
	"strings"
	"testing"
	"unicode/utf8"

	"keystone/configs/diag"
	"keystone/dsl"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"golang.org/x/text/unicode/norm"
)

// attribute parses src and gives the expression of its attribute x.
func attribute(src string) (hclsyntax.Expression, hcl.Diagnostics) {
	f, diags := hclsyntax.ParseConfig([]byte(src), "f.ks.hcl", hcl.InitialPos)
	if diags.HasErrors() {
		return nil, diags
	}
	if a := f.Body.(*hclsyntax.Body).Attributes["x"]; a != nil {
		return a.Expr, nil
	}
	return nil, hcl.Diagnostics{{Severity: hcl.DiagError, Summary: "no attribute"}}
}

// written is a rune of a text and how the file writes it.
type written struct {
	r   rune
	src string
}

var alphabet = []written{
	{'a', "a"}, {'b', "b"}, {' ', " "}, {'=', "="}, {'é', "é"}, {'日', "日"}, {'𝒳', "𝒳"}, {'\u0301', "\u0301"}, {'👩', "👩"}, {'\u200d', "\u200d"}, {'🇧', "🇧"}, {'🇷', "🇷"},
	{'\u00c5', "\u00c5"}, {'\u212b', "\u212b"}, {'\ufe0f', "\ufe0f"}, {'\'', "'"}, {'#', "#"}, {'}', "}"}, {'`', "`"}, {'\u0e33', "\u0e33"}, {'\u1100', "\u1100"}, {'\u1161', "\u1161"}, {'$', "$"}, {'%', "%"},
}

var escapes = []written{
	{'\n', `\n`}, {'\t', `\t`}, {'\r', `\r`}, {'"', `\"`}, {'\\', `\\`}, {'é', `\u00e9`}, {'\u0301', `\u0301`}, {'😀', `\U0001F600`}, {'\u200d', `\u200D`}, {'A', `\u0041`},
}

func TestTextOfQuoted(t *testing.T) {
	r := rand.New(rand.NewSource(7))
	checked := 0
	for range 20_000 {
		var want []written
		for range r.Intn(12) {
			switch r.Intn(6) {
			case 0:
				want = append(want, escapes[r.Intn(len(escapes))])
			case 1:
				c := []string{"$", "%"}[r.Intn(2)]
				want = append(want, written{rune(c[0]), c + c}, written{'{', "{"})
			default:
				want = append(want, alphabet[r.Intn(len(alphabet))])
			}
		}
		var body strings.Builder
		for _, w := range want {
			body.WriteString(w.src)
		}
		src := strings.Repeat("# ñ\n", r.Intn(3)) + "x = \"" + body.String() + "\"\ny = 1\n"
		if checkText(t, src, want) {
			checked++
		}
	}
	if checked < 15_000 {
		t.Errorf("only %d texts were strings to HCL", checked)
	}
}

func TestTextOfHeredoc(t *testing.T) {
	r := rand.New(rand.NewSource(8))
	checked := 0
	for range 20_000 {
		flush := r.Intn(2) == 0
		var lines [][]written
		for range 1 + r.Intn(4) {
			var line []written
			for range r.Intn(4) {
				s := []string{" ", "\t", "\u00a0"}[max(r.Intn(6)-3, 0)]
				c, _ := utf8.DecodeRuneInString(s)
				line = append(line, written{c, s})
			}
			for range r.Intn(6) {
				if r.Intn(8) == 0 {
					line = append(line, written{'$', "$$"}, written{'{', "{"})
					continue
				}
				if r.Intn(8) == 0 {
					line = append(line, written{'\\', `\`}, written{'n', "n"})
					continue
				}
				line = append(line, alphabet[r.Intn(len(alphabet))])
			}
			if r.Intn(5) == 0 {
				line = append(line, written{'\r', "\r"})
			}
			lines = append(lines, append(line, written{'\n', "\n"}))
		}
		src := "x = <<EOT\n"
		if flush {
			src = "x = <<-EOT\n"
		}
		var want []written
		for _, l := range lines {
			for _, w := range l {
				src += w.src
			}
		}
		src += []string{"EOT\n", "   EOT\n", "EOT"}[r.Intn(3)]
		for _, l := range lines {
			want = append(want, l...)
		}
		if flush {
			want = nil // what remains is compared with HCL's value
		}
		if checkText(t, src, want) {
			checked++
		}
	}
	if checked < 12_000 {
		t.Errorf("only %d texts were heredocs to HCL", checked)
	}
}

// checkText holds TextOf to HCL's value, and each rune to what the file has
// at its range. It tells whether HCL takes src for a string.
func checkText(t *testing.T, src string, want []written) bool {
	t.Helper()
	e, hclDiags := attribute(src)
	if hclDiags.HasErrors() {
		return false // as "$" before "{", or a line that is the marker
	}
	text, diags := dsl.TextOf(e, []byte(src))
	template, ok := e.(*hclsyntax.TemplateExpr)
	if !ok {
		return false
	}
	if len(template.Parts) > 1 || len(template.Parts) == 1 && !isLiteral(template.Parts[0]) {
		if !diags.HasErrors() {
			t.Fatalf("%q: a template was accepted", src)
		}
		return false
	}
	if diags.HasErrors() {
		t.Fatalf("%q: %v", src, diags)
	}
	v, hclDiags := e.Value(nil)
	if hclDiags.HasErrors() {
		return false
	}
	if norm.NFC.String(text.S) != v.AsString() {
		t.Fatalf("%q: text %q, HCL has %q", src, text.S, v.AsString())
	}
	runes := []rune(text.S)
	if want != nil {
		if len(want) != len(runes) {
			t.Fatalf("%q: %d runes, want %d", src, len(runes), len(want))
		}
		for i, w := range want {
			at := text.At(i, i+1)
			if runes[i] != w.r || src[at.Start.Byte:at.End.Byte] != w.src {
				t.Fatalf("%q: rune %d is %q at %q, want %q at %q", src, i, runes[i], src[at.Start.Byte:at.End.Byte], w.r, w.src)
			}
		}
	}
	positions(t, src, text, runes)
	if last := text.At(len(runes), len(runes)); len(runes) > 0 && src[e.Range().End.Byte-1] == '"' {
		end := e.Range().End
		if want := (diag.Pos{Line: end.Line, Column: end.Column - 1, Byte: end.Byte - 1}); last.Start != want {
			t.Fatalf("%q: the text ends at %v, the string at %v", src, last.Start, want)
		}
	}
	return true
}

func isLiteral(e hclsyntax.Expression) bool {
	_, ok := e.(*hclsyntax.LiteralValueExpr)
	return ok
}

// positions holds every rune's range: in order, inside of the file, on the
// right line, and what is there reads as the rune.
func positions(t *testing.T, src string, text diag.Text, runes []rune) {
	t.Helper()
	before := text.Range.Start.Byte
	for i, r := range runes {
		at := text.At(i, i+1)
		if at.Start.Byte < before || at.End.Byte <= at.Start.Byte || at.End.Byte > len(src) {
			t.Fatalf("%q: rune %d at %v, after %d", src, i, at, before)
		}
		before = at.End.Byte
		if line := 1 + strings.Count(src[:at.Start.Byte], "\n"); line != at.Start.Line {
			t.Fatalf("%q: rune %d on line %d, want %d", src, i, at.Start.Line, line)
		}
		if at.End.Column < at.Start.Column || at.End.Column > at.Start.Column+10 {
			t.Fatalf("%q: rune %d spans columns %d to %d", src, i, at.Start.Column, at.End.Column)
		}
		if raw := src[at.Start.Byte:at.End.Byte]; read(raw) != r {
			t.Fatalf("%q: rune %d is %q, the file has %q", src, i, r, raw)
		}
	}
}

// read decodes one rune as a file has it.
func read(raw string) rune {
	var r rune
	switch {
	case raw == "$$" || raw == "%%":
		return rune(raw[0])
	case len(raw) == 2 && raw[0] == '\\':
		return map[byte]rune{'n': '\n', 'r': '\r', 't': '\t', '"': '"', '\\': '\\'}[raw[1]]
	case len(raw) > 2 && raw[0] == '\\':
		if _, err := fmt.Sscanf(strings.ToLower(raw[2:]), "%x", &r); err != nil {
			return -1
		}
		return r
	}
	r, n := utf8.DecodeRuneInString(raw)
	if n != len(raw) {
		return -1
	}
	return r
}

func FuzzTextOf(f *testing.F) {
	f.Add(`country == 'BR' && n > \"x\" $${a} \u00e9`, uint8(0))
	f.Add("  a ==\n    'ñ'\n\n  b", uint8(2))
	f.Add("a👩‍👩‍👧é == 1", uint8(1))
	f.Fuzz(func(t *testing.T, body string, form uint8) {
		src := "x = \"" + body + "\"\n"
		switch form % 3 {
		case 1:
			src = "x = <<E\n" + body + "\nE\n"
		case 2:
			src = "x = <<-E\n" + body + "\n  E\n"
		}
		if !utf8.ValidString(src) {
			return
		}
		e, diags := attribute(src)
		if diags.HasErrors() || e.Range().Start.Byte != 4 {
			return
		}
		checkText(t, src, nil)
	})
}

func TestTextOfRefuses(t *testing.T) {
	for src, want := range map[string]string{
		`x = "${var.a} == 1"`:               "f.ks.hcl:1:6 KS2005",
		`x = "a == ${b}"`:                   "f.ks.hcl:1:11 KS2005",
		`x = "${b}"`:                        "f.ks.hcl:1:5 KS2005",
		"x = <<E\na %{ if b }%{ endif }\nE": "f.ks.hcl:2:3 KS2005",
		`x = tv`:                            "f.ks.hcl:1:5 KS2070",
		`x = 5`:                             "f.ks.hcl:1:5 KS2070",
		`x = upper("a")`:                    "f.ks.hcl:1:5 KS2070",
	} {
		e, hclDiags := attribute(src + "\n")
		if hclDiags.HasErrors() {
			t.Fatal(hclDiags)
		}
		_, diags := dsl.TextOf(e, []byte(src+"\n"))
		if len(diags) != 1 || diags[0].Range.String()+" "+diags[0].Code != want {
			t.Errorf("%s: %v, want %s", src, diags, want)
		}
	}
}
