package dsl

import (
	"bytes"
	"unicode"
	"unicode/utf8"

	"keystone/configs/diag"

	"github.com/apparentlymart/go-textseg/v15/textseg"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// TextOf decodes the literal string or heredoc e, which was parsed from src
// (the whole file), and keeps for every rune where it was written. It reads
// the file's bytes: HCL's own value is normalised to NFC, which would move
// positions and change what strings mean.
func TextOf(e hclsyntax.Expression, src []byte) (diag.Text, diag.Diagnostics) {
	var diags diag.Diagnostics
	for {
		p, ok := e.(*hclsyntax.ParenthesesExpr)
		if !ok {
			break
		}
		e = p.Expression
	}
	rng := e.Range()
	switch x := e.(type) {
	case *hclsyntax.TemplateExpr:
	case *hclsyntax.TemplateWrapExpr:
		noTemplate(&diags, x.Range())
		return diag.Text{}, diags
	case *hclsyntax.ScopeTraversalExpr:
		name := traversalText(x.Traversal, src)
		diags.Addf(rangeOf(rng), codeText, "Not the text of an expression", "An expression over events is text in quotes: \"%s\". Text as a constant is quoted twice: \"'%s'\".", name, name)
		return diag.Text{}, diags
	default:
		diags.Addf(rangeOf(rng), codeText, "Not the text of an expression", "An expression over events is written as text in quotes; HCL does not compute it.")
		return diag.Text{}, diags
	}
	if !rng.CanSliceBytes(src) {
		diags.Addf(rangeOf(rng), codeText, "Not the text of an expression", "The file has changed since it was read.")
		return diag.Text{}, diags
	}
	t := textBuilder{text: diag.Text{Range: rangeOf(rng)}}
	lits, flush := literals(e, src, &diags)
	if diags.HasErrors() {
		return diag.Text{}, diags
	}
	if flush {
		unindent(lits)
	}
	for _, lit := range lits {
		t.literal(lit)
	}
	t.text.S = string(t.s)
	return t.text, diags
}

func traversalText(t hcl.Traversal, src []byte) string {
	if r := t.SourceRange(); r.CanSliceBytes(src) && r.End.Byte-r.Start.Byte < 60 {
		return string(r.SliceBytes(src))
	}
	return t.RootName()
}

func rangeOf(r hcl.Range) diag.Range {
	return diag.Range{File: r.Filename, Start: posOf(r.Start), End: posOf(r.End)}
}

func posOf(p hcl.Pos) diag.Pos { return diag.Pos{Line: p.Line, Column: p.Column, Byte: p.Byte} }

func noTemplate(diags *diag.Diagnostics, r hcl.Range) {
	diags.Addf(rangeOf(r), codeTemplate, "Template inside an expression",
		"A template would paste text into the expression before it is checked. Write the name itself, as region == var.region or each.key; a string that needs the two characters has $${ or %%%%{.")
}

// literal is a stretch of a template's text in the file. In a quoted one
// backslashes are escapes.
type literal struct {
	raw    []byte
	start  hcl.Pos
	quoted bool
}

// literals gives the literal tokens of a template by lexing it again, and
// whether its common indentation is to be removed.
func literals(e hclsyntax.Expression, src []byte, diags *diag.Diagnostics) (out []literal, flush bool) {
	r := e.Range()
	end := r.End.Byte
	if i := bytes.IndexByte(src[end:], '\n'); i >= 0 {
		end += i + 1 // the end of a heredoc is seen with its line
	} else {
		end = len(src)
	}
	raw := src[r.Start.Byte:end]
	if end == len(src) && bytes.HasPrefix(raw, []byte("<<")) {
		raw = append(bytes.Clone(raw), '\n')
	}
	tokens, _ := hclsyntax.LexExpression(raw, r.Filename, r.Start) // parsed before, so problems have been reported
	for _, t := range tokens {
		switch t.Type {
		case hclsyntax.TokenOHeredoc:
			flush = bytes.HasPrefix(t.Bytes, []byte("<<-"))
		case hclsyntax.TokenQuotedLit, hclsyntax.TokenStringLit:
			out = append(out, literal{raw: t.Bytes, start: t.Range.Start, quoted: t.Type == hclsyntax.TokenQuotedLit})
		case hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl:
			noTemplate(diags, t.Range)
			return nil, false
		case hclsyntax.TokenCQuote, hclsyntax.TokenCHeredoc:
			return out, flush
		}
	}
	return out, flush
}

// unindent removes the common indentation as HCL does for <<-: the smallest
// one, in grapheme clusters, of all lines but those of nothing but space.
func unindent(lits []literal) {
	type line struct {
		at    int
		space []byte
	}
	var lines []line
	least := -1
	newline := true
	for i, lit := range lits {
		if newline {
			// An escape is no space, so the raw text tells.
			trimmed := bytes.TrimLeftFunc(lit.raw, unicode.IsSpace)
			if len(trimmed) > 0 || !bytes.HasSuffix(lit.raw, []byte("\n")) {
				space := lit.raw[:len(lit.raw)-len(trimmed)]
				lines = append(lines, line{i, space})
				if n := clusters(space); least < 0 || n < least {
					least = n
				}
			}
		}
		newline = bytes.HasSuffix(lit.raw, []byte("\n"))
	}
	for _, l := range lines {
		lit := &lits[l.at]
		for range least {
			n, _, _ := textseg.ScanGraphemeClusters(lit.raw, true)
			lit.raw = lit.raw[n:]
			lit.start.Byte += n
			lit.start.Column++
		}
	}
}

func clusters(b []byte) (count int) {
	for len(b) > 0 {
		n, _, _ := textseg.ScanGraphemeClusters(b, true)
		b = b[n:]
		count++
	}
	return count
}

// textBuilder appends runes with where they come from.
type textBuilder struct {
	s    []byte
	n    int // runes so far
	text diag.Text
	last int // runes of the last run
}

// literal decodes one stretch.
func (t *textBuilder) literal(lit literal) {
	columns := columnsOf(lit)
	for i := 0; i < len(lit.raw); {
		r, n := unescape(lit.raw[i:], lit.quoted)
		t.rune(r, lit.start.Line, columns[i], lit.start.Byte+i, n, columns[i+n]-columns[i])
		i += n
	}
}

// columnsOf gives the column at each byte: that of the grapheme cluster that
// the byte is in. A literal begins a new cluster, as HCL counts them.
func columnsOf(lit literal) []int {
	columns := make([]int, len(lit.raw)+1)
	column := lit.start.Column
	for i := 0; i < len(lit.raw); column++ {
		n, _, _ := textseg.ScanGraphemeClusters(lit.raw[i:], true)
		for j := range n {
			columns[i+j] = column
		}
		i += n
	}
	columns[len(lit.raw)] = column
	return columns
}

// unescape gives the first rune of raw and how many bytes it was written with.
func unescape(raw []byte, quoted bool) (rune, int) {
	if quoted && raw[0] == '\\' && len(raw) > 1 {
		switch raw[1] {
		case 'n':
			return '\n', 2
		case 'r':
			return '\r', 2
		case 't':
			return '\t', 2
		case '"', '\\':
			return rune(raw[1]), 2
		case 'u', 'U':
			n := map[byte]int{'u': 6, 'U': 10}[raw[1]]
			if r, ok := hexRune(raw, n); ok {
				return r, n
			}
		}
	}
	if (raw[0] == '$' || raw[0] == '%') && len(raw) > 2 && raw[1] == raw[0] && raw[2] == '{' {
		return rune(raw[0]), 2
	}
	r, n := utf8.DecodeRune(raw)
	return r, n
}

func hexRune(raw []byte, n int) (rune, bool) {
	if len(raw) < n {
		return 0, false
	}
	var r rune
	for _, c := range raw[2:n] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return r, utf8.ValidRune(r)
}

func (t *textBuilder) rune(r rune, line, column, at, size, width int) {
	t.s = utf8.AppendRune(t.s, r)
	if n := len(t.text.Runs); n > 0 {
		p := t.text.Runs[n-1]
		if p.Line == line && p.Bytes == size && p.Columns == width && at == p.Byte+t.last*size && column == p.Column+t.last*width {
			t.last++
			t.n++
			return
		}
	}
	t.text.Runs = append(t.text.Runs, diag.Run{Rune: t.n, Line: line, Column: column, Byte: at, Bytes: size, Columns: width})
	t.last = 1
	t.n++
}
