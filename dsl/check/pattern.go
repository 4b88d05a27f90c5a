package check

import (
	"slices"
	"sort"
	"strings"

	"keystone/configs/diag"
	"keystone/dsl/ir"
	"keystone/dsl/types"

	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser/lexer"
)

// Part gives the runes [start, end) of a text as a text of its own.
func Part(t diag.Text, start, end int) diag.Text {
	runes := []rune(t.S)
	out := diag.Text{S: string(runes[start:end]), Range: t.At(start, end)}
	if len(t.Runs) == 0 {
		return out
	}
	first := max(sort.Search(len(t.Runs), func(i int) bool { return t.Runs[i].Rune > start })-1, 0)
	for _, r := range t.Runs[first:] {
		if r.Rune >= end && len(out.Runs) > 0 {
			break
		}
		if k := start - r.Rune; k > 0 {
			r.Byte, r.Column, r.Rune = r.Byte+k*r.Bytes, r.Column+k*r.Columns, start
		}
		r.Rune -= start
		out.Runs = append(out.Runs, r)
	}
	return out
}

// piece is a stretch of a pattern in runes: literal text, or what stands between braces.
type piece struct {
	lit        string
	path       bool
	start, end int // of the path
	layout     string
	layoutAt   int
	layoutEnd  int
}

// pieces takes a pattern apart.
func pieces(text diag.Text, diags *diag.Diagnostics) []piece {
	var out []piece
	var lit strings.Builder
	flush := func() {
		if lit.Len() > 0 {
			out = append(out, piece{lit: lit.String()})
			lit.Reset()
		}
	}
	runes := []rune(text.S)
	for i := 0; i < len(runes); i++ {
		r := runes[i]
		switch {
		case (r == '{' || r == '}') && i+1 < len(runes) && runes[i+1] == r:
			lit.WriteRune(r)
			i++
			continue
		case r != '{':
			lit.WriteRune(r)
			continue
		}
		flush()
		end, colon := placeholder(runes, i+1)
		if end < 0 {
			diags.Addf(text.At(i, i+1), codePattern, "Invalid pattern", "This { is never closed. A brace that is meant as text is written {{.")
			return nil
		}
		p := piece{path: true, start: i + 1, end: end}
		if colon >= 0 {
			p.end, p.layout, p.layoutAt, p.layoutEnd = colon, string(runes[colon+1:end]), colon+1, end
		}
		if strings.TrimSpace(string(runes[p.start:p.end])) == "" {
			diags.Addf(text.At(i, end+1), codePattern, "Invalid pattern", "The braces are empty. They hold the path of a field: {user_id}. A brace that is meant as text is written {{.")
		} else {
			out = append(out, p)
		}
		i = end
	}
	flush()
	return out
}

// placeholder finds the closing brace, and the colon before it that stands in no bracket or quote.
func placeholder(runes []rune, from int) (end, colon int) {
	colon = -1
	depth, quote := 0, rune(0)
	for i := from; i < len(runes); i++ {
		r := runes[i]
		switch {
		case colon >= 0:
			if r == '}' {
				return i, colon
			}
		case quote != 0:
			if r == quote {
				quote = 0
			}
		case r == '\'' || r == '"':
			quote = r
		case r == '[':
			depth++
		case r == ']':
			depth--
		case r == ':' && depth == 0:
			colon = i
		case r == '}' && depth <= 0:
			return i, colon
		}
	}
	return -1, -1
}

// Pattern checks text with {PATH} or {PATH:LAYOUT}; {{ and }} are braces.
func Pattern(text diag.Text, env Env) ([]ir.PatternPart, diag.Diagnostics) {
	var diags diag.Diagnostics
	if len(text.S) > maxBytes {
		diags.Addf(text.Range, codeSize, "Expression too large", "The pattern has %d bytes; the limit is %d.", len(text.S), maxBytes)
		return nil, diags
	}
	var out []ir.PatternPart
	for _, p := range pieces(text, &diags) {
		if !p.path {
			out = append(out, ir.PatternPart{Lit: p.lit})
			continue
		}
		part := Part(text, p.start, p.end)
		expr, more := Expr(part, env)
		diags.Append(more...)
		if more.HasErrors() {
			continue
		}
		switch expr.Root.Op {
		case ir.Field, ir.Meta, ir.Const, ir.Member:
		default:
			diags.Addf(part.At(0, len(part.S)), codePattern, "Invalid pattern", "Only the path of a field or of meta stands in braces. Compute the value in a field of project or set, and name that.")
			continue
		}
		t := expr.Root.Type
		at := text.At(p.layoutAt, p.layoutEnd)
		switch {
		case t.Kind == types.List || t.Kind == types.Map || t.Kind == types.Object:
			diags.Addf(part.At(0, len(part.S)), codePattern, "Invalid pattern", "This is %s, which has no place in a name.", typeName(t))
		case p.layoutAt == 0:
		case t.Kind != types.Any && !t.IsTime():
			diags.Addf(at, codePattern, "Invalid pattern", "A layout is for times, and this is %s. Make a time of it by parse_time() in project or set.", typeName(t))
		case !ir.IsLayout(p.layout):
			diags.Addf(at, codePattern, "Invalid pattern", "%q is no layout of Go: it shows how Mon Jan 2 15:04:05 2006 is written, as {ts:2006-01-02}.", p.layout)
		}
		out = append(out, ir.PatternPart{Expr: expr, Layout: p.layout})
	}
	if diags.HasErrors() {
		return nil, diags
	}
	return out, diags
}

// References gives the constants that an expression refers to, each once, in
// the order of their first use; also of text that does not parse.
func References(text diag.Text) []string {
	if len(text.S) > maxBytes {
		return nil
	}
	var tokens []lexer.Token
	lex := lexer.New()
	lex.Reset(file.NewSource(text.S))
	for {
		t, err := lex.Next()
		if err != nil || t.Kind == lexer.EOF {
			break
		}
		tokens = append(tokens, t)
	}
	var out []string
	for i, t := range tokens {
		if !t.Is(lexer.Identifier, "var", "local", "each") || i+2 >= len(tokens) || i > 0 && tokens[i-1].Is(lexer.Operator, ".", "?.") {
			continue
		}
		name := tokens[i+2]
		dot := tokens[i+1].Is(lexer.Operator, ".", "?.") && (name.Kind == lexer.Identifier || name.Kind == lexer.Operator)
		bracket := tokens[i+1].Is(lexer.Bracket, "[") && name.Kind == lexer.String
		if full := t.Value + "." + name.Value; (dot || bracket) && !slices.Contains(out, full) {
			out = append(out, full)
		}
	}
	return out
}

// PatternReferences is References for a pattern.
func PatternReferences(text diag.Text) []string {
	var ignored diag.Diagnostics
	var out []string
	for _, p := range pieces(text, &ignored) {
		if !p.path {
			continue
		}
		for _, name := range References(Part(text, p.start, p.end)) {
			if !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	return out
}
