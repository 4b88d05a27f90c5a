package dsl_test

import (
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"

	"keystone/dsl"
	"keystone/dsl/types"
)

// TestTokensInFile puts an unknown name into expressions written in every
// way that HCL has: its error must cover exactly its bytes in the file.
func TestTokensInFile(t *testing.T) {
	r := rand.New(rand.NewSource(3))
	schema := types.ObjectOf(types.Field{Name: "s", Type: types.StringType}, types.Field{Name: "ñ", Type: types.IntType})
	parts := []string{"s == 'é👩‍👩‍👧x'", "ñ > 1", "s matches `^\\d\"$`", "s != \"a\\\"b\"", "'${x}' == s", "s == '%{'", "/* 日本 */ ñ < 2", "s == 'e\u0301\u0301'"}
	joints := []string{" && ", "\n  && ", " ||\t", "&&", " and\n\n   "}
	for i := range 5000 {
		var expr strings.Builder
		for range r.Intn(4) {
			expr.WriteString(parts[r.Intn(len(parts))] + joints[r.Intn(len(joints))])
		}
		at := len([]rune(expr.String()))
		expr.WriteString("zzz")
		expr.WriteString([]string{"", " == 1", joints[0] + parts[1], "\n"}[r.Intn(4)])

		src, token := inFile(r, i%3, []rune(expr.String()), at)
		e, hclDiags := attribute(src)
		if hclDiags.HasErrors() {
			t.Fatalf("%q: %v", src, hclDiags)
		}
		text, diags := dsl.TextOf(e, []byte(src))
		if diags.HasErrors() {
			t.Fatalf("%q: %v", src, diags)
		}
		_, diags = dsl.CheckExpr(text, dsl.Env{Event: schema})
		if len(diags) != 1 {
			t.Fatalf("%q: %v", src, diags)
		}
		rng := diags[0].Range
		if got := src[rng.Start.Byte:rng.End.Byte]; got != token {
			t.Fatalf("%q: the error %v covers %q, want %q", src, diags[0], got, token)
		}
		if line := 1 + strings.Count(src[:rng.Start.Byte], "\n"); line != rng.Start.Line || rng.End.Line != line {
			t.Fatalf("%q: lines %d to %d, want %d", src, rng.Start.Line, rng.End.Line, line)
		}
	}
}

// inFile writes an expression as the attribute x in one of three forms, and
// gives how its runes at to at+3 are written.
func inFile(r *rand.Rand, form int, runes []rune, at int) (src, token string) {
	var b strings.Builder
	indent := strings.Repeat(" ", 4)
	b.WriteString([]string{"# ñ\nx = \"", "x = <<-EOT\n" + indent, "x = <<EOT\n"}[form])
	for i, c := range runes {
		start := b.Len()
		next := i+1 < len(runes) && runes[i+1] == '{'
		switch {
		case (c == '$' || c == '%') && next:
			fmt.Fprintf(&b, "%c%c", c, c)
		case form > 0:
			b.WriteRune(c)
			if c == '\n' && form == 1 {
				b.WriteString(indent)
			}
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\t':
			b.WriteString(`\t`)
		case c == '"' || c == '\\':
			b.WriteString(`\` + string(c))
		case r.Intn(4) == 0 && c > 0xffff:
			fmt.Fprintf(&b, `\U%08X`, c)
		case r.Intn(4) == 0 && c <= 0xffff && !slices.Contains([]rune("${%"), c):
			fmt.Fprintf(&b, `\u%04x`, c)
		default:
			b.WriteRune(c)
		}
		if i >= at && i < at+3 {
			token += b.String()[start:]
		}
	}
	b.WriteString([]string{"\"\n", "\n  EOT\n", "\nEOT\n"}[form])
	return b.String(), token
}
