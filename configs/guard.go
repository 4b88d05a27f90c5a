package configs

import (
	"bytes"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"keystone/configs/diag"
)

const (
	maxNesting   = 200       // brackets, blocks and templates inside one another
	maxTokens    = 1_000_000 // in one file: each costs the parser hundreds of bytes
	maxOperators = 10_000    // in one expression: HCL builds and walks a tree as deep as they are many
)

// guard refuses what HCL's recursive parser and evaluator must never see: a
// file of brackets overflows the stack of the process, which cannot be
// recovered. It reads tokens only.
func guard(src []byte, name string) diag.Diagnostics {
	var diags diag.Diagnostics
	if len(src) > maxFileBytes {
		diags.Addf(diag.Range{File: name}, codeTooLarge, "File too large", "The file has %d bytes; a file of a configuration has at most %d (4 MiB). Split it.", len(src), maxFileBytes)
		return diags
	}
	if at := invalidUTF8(src); at >= 0 {
		pos := bytePos(src, at)
		diags.Addf(diag.Range{File: name, Start: pos, End: pos}, codeEncoding, "Not UTF-8", "Byte %d of the file is not part of a UTF-8 character. Save the file in UTF-8.", at)
		return diags
	}
	if n := roughTokens(src); n > maxTokens {
		diags.Addf(diag.Range{File: name}, codeTooLarge, "File too large", "The file has about %d words and signs; a file of a configuration has at most %d. Split it.", n, maxTokens)
		return diags
	}
	tokens, _ := hclsyntax.LexConfig(src, name, hcl.InitialPos)
	if t, what, limit := tooDeep(tokens); t != nil {
		diags.Addf(toRange(t.Range), codeNesting, what, "More than %d here. Split the expression or block, for example with locals.", limit)
	}
	return diags
}

// roughTokens counts words and signs, wherever they stand.
func roughTokens(src []byte) int {
	n, word := 0, false
	for _, c := range src {
		isWord := c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= utf8.RuneSelf
		if isWord && !word || !isWord && c > ' ' {
			n++
		}
		word = isWord
	}
	return n
}

// level is one open bracket.
type level struct {
	operators int
	statement bool // a newline ends an expression here
}

func tooDeep(tokens hclsyntax.Tokens) (at *hclsyntax.Token, what string, limit int) {
	levels := []level{{statement: true}}
	control := 0 // %{ if and %{ for that are open
	for i := range tokens {
		t := &tokens[i]
		top := &levels[len(levels)-1]
		switch t.Type {
		case hclsyntax.TokenOBrace, hclsyntax.TokenOParen, hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl, hclsyntax.TokenOQuote, hclsyntax.TokenOHeredoc:
			levels = append(levels, level{statement: t.Type == hclsyntax.TokenOBrace})
			if t.Type == hclsyntax.TokenTemplateControl && i+1 < len(tokens) {
				control += controlDepth(tokens[i+1:])
			}
		case hclsyntax.TokenOBrack:
			top.operators++ // an index deepens the expression on its left
			levels = append(levels, level{})
		case hclsyntax.TokenCBrace, hclsyntax.TokenCParen, hclsyntax.TokenCBrack, hclsyntax.TokenTemplateSeqEnd, hclsyntax.TokenCQuote, hclsyntax.TokenCHeredoc:
			if len(levels) > 1 {
				levels = levels[:len(levels)-1]
			}
		case hclsyntax.TokenNewline, hclsyntax.TokenComment:
			if top.statement {
				top.operators = 0
			}
		case hclsyntax.TokenComma:
			top.operators = 0
		case hclsyntax.TokenPlus, hclsyntax.TokenMinus, hclsyntax.TokenStar, hclsyntax.TokenSlash, hclsyntax.TokenPercent,
			hclsyntax.TokenAnd, hclsyntax.TokenOr, hclsyntax.TokenBang, hclsyntax.TokenEqualOp, hclsyntax.TokenNotEqual,
			hclsyntax.TokenLessThan, hclsyntax.TokenLessThanEq, hclsyntax.TokenGreaterThan, hclsyntax.TokenGreaterThanEq,
			hclsyntax.TokenQuestion, hclsyntax.TokenDot, hclsyntax.TokenDoubleColon:
			top.operators++
		}
		if len(levels)+control > maxNesting+1 {
			return t, "Nested too deeply", maxNesting
		}
		if levels[len(levels)-1].operators > maxOperators {
			return t, "Too many operators in one expression", maxOperators
		}
	}
	return nil, "", 0
}

// controlDepth tells what a template directive does to the nesting.
func controlDepth(after hclsyntax.Tokens) int {
	if len(after) == 0 || after[0].Type != hclsyntax.TokenIdent {
		return 0
	}
	switch string(after[0].Bytes) {
	case "if", "for":
		return 1
	case "endif", "endfor":
		return -1
	}
	return 0
}

func invalidUTF8(src []byte) int {
	if utf8.Valid(src) {
		return -1
	}
	for i := 0; i < len(src); {
		r, n := utf8.DecodeRune(src[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

func bytePos(src []byte, at int) diag.Pos {
	line := bytes.Count(src[:at], []byte("\n")) + 1
	start := bytes.LastIndexByte(src[:at], '\n') + 1
	return diag.Pos{Line: line, Column: utf8.RuneCount(src[start:at]) + 1, Byte: at}
}
