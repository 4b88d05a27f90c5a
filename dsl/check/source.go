package check

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"keystone/configs/diag"

	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser/lexer"
)

const (
	maxBytes   = 64 << 10
	maxNesting = 200
)

// source is the text of an expression with what the token pass found.
type source struct {
	text       diag.Text
	runes      int
	parsed     string // the text that the parser gets, of the same length
	tokens     []lexer.Token
	close      map[int]int  // start of an opening bracket → end of its closing one
	fields     []string     // of the event, for advice
	aggregates bool         // names of aggregates mean those, and not functions of lists
	minInt     map[int]bool // starts of 9223372036854775808 after a minus, which parsed has as …807
}

// at gives the index of the token that starts at a rune, or -1.
func (s *source) at(start int) int {
	i, ok := slices.BinarySearchFunc(s.tokens, start, func(t lexer.Token, start int) int { return t.From - start })
	if !ok {
		return -1
	}
	return i
}

// token gives token i, or an empty one beyond the ends.
func (s *source) token(i int) lexer.Token {
	if i < 0 || i >= len(s.tokens) {
		return lexer.Token{Kind: lexer.EOF}
	}
	return s.tokens[i]
}

// scan reads the tokens and refuses, before the parser may see it, what
// would hurt the parser or be reported by it at another place.
func scan(text diag.Text) (*source, diag.Diagnostics) {
	var diags diag.Diagnostics
	if len(text.S) > maxBytes {
		diags.Addf(text.Range, codeSize, "Expression too large", "The expression has %d bytes; the limit is %d. Split it: a filter may be a list of conditions.", len(text.S), maxBytes)
		return nil, diags
	}
	s := &source{text: text, runes: utf8.RuneCountInString(text.S), parsed: text.S, close: map[int]int{}, minInt: map[int]bool{}}
	if !utf8.ValidString(text.S) {
		diags.Addf(text.Range, codeSyntax, "Not an expression", "The text is not UTF-8.")
		return nil, diags
	}
	lex := lexer.New()
	lex.Reset(file.NewSource(text.S))
	for {
		t, err := lex.Next()
		if errors.Is(err, io.EOF) || err == nil && t.Kind == lexer.EOF {
			break
		}
		if err != nil {
			s.lexical(&diags, err)
			return nil, diags
		}
		s.tokens = append(s.tokens, t)
	}
	if len(s.tokens) == 0 {
		diags.Addf(text.Range, codeEmpty, "Empty expression", "Write an expression, or leave the option out.")
		return nil, diags
	}
	s.brackets(&diags)
	for i := 0; i < len(s.tokens) && len(diags) < maxErrors; i++ {
		s.check(&diags, i)
	}
	if diags.HasErrors() {
		return nil, diags
	}
	return s, nil
}

// lexical reports what is no token at all.
func (s *source) lexical(diags *diag.Diagnostics, err error) {
	var e *file.Error
	if !errors.As(err, &e) {
		diags.Addf(s.text.Range, codeSyntax, "Not an expression", "%v.", err)
		return
	}
	runes := []rune(s.text.S)
	from := 0 // the first rune after the last token
	if n := len(s.tokens); n > 0 {
		from = s.tokens[n-1].To
	}
	for from < len(runes) && strings.ContainsRune(" \t\r\n", runes[from]) {
		from++
	}
	at := min(max(e.From, from), max(len(runes)-1, 0))
	switch {
	case strings.HasPrefix(e.Message, "literal not terminated"):
		diags.Addf(s.text.At(from, from+1), codeSyntax, "Not an expression", "This quote is never closed.%s", ifThen(at < len(runes) && slices.Contains(runes[from:], '\n'), " A string ends on its line; only backticks may hold line breaks."))
	case strings.HasPrefix(e.Message, "unclosed comment"):
		diags.Addf(s.text.At(from, from+2), codeSyntax, "Not an expression", "This comment is never closed.")
	case strings.HasPrefix(e.Message, "invalid char escape"), strings.Contains(e.Message, "unescape"), strings.Contains(e.Message, "invalid syntax"):
		slash := at
		for slash > from && runes[slash] != '\\' {
			slash--
		}
		if runes[slash] != '\\' {
			slash = at
		}
		diags.Addf(s.text.At(slash, at+1), codeSyntax, "Not an expression", "There is no such escape in a string. Write \\\\ for a backslash; regular expressions go in backticks, where it is an ordinary character.")
	case strings.HasPrefix(e.Message, "bad number"):
		for at+1 < len(runes) && (runes[at+1] == '_' || unicode.IsLetter(runes[at+1]) || unicode.IsDigit(runes[at+1])) {
			at++
		}
		word := string(runes[from : at+1])
		way := fmt.Sprintf(" A name does not begin with a digit: such a field is event[%q].", word)
		if runes[from] == '0' || !unicode.IsDigit(runes[from]) {
			way = ""
		}
		diags.Addf(s.text.At(from, at+1), codeSyntax, "Not an expression", "%s is not a number.%s", word, way)
	case strings.HasPrefix(e.Message, "unrecognized character"):
		detail := "The character " + strconv.QuoteRune(runes[at]) + " has no meaning here."
		switch runes[at] {
		case '@':
			detail += " A field with other characters in its name is event[\"@name\"]."
		case '‘', '’', '“', '”', '´':
			detail += " Strings are in plain quotes: 'tv'."
		case '~':
			detail += " Regular expressions are compared with matches."
		}
		diags.Addf(s.text.At(at, at+1), codeSyntax, "Not an expression", "%s", detail)
	default:
		diags.Addf(s.text.At(at, at+1), codeSyntax, "Not an expression", "%s.", e.Message)
	}
}

func ifThen(cond bool, s string) string {
	if cond {
		return s
	}
	return ""
}

// brackets pairs brackets and bounds nesting, so that recursion over the text is bounded.
func (s *source) brackets(diags *diag.Diagnostics) {
	var open []lexer.Token
	signs := 0
	for _, t := range s.tokens {
		if t.Is(lexer.Operator, "-", "+", "!", "not") {
			if signs++; signs > maxNesting {
				diags.Addf(s.text.At(t.From, t.To), codeSize, "Expression too large", "More than %d signs and negations in a row.", maxNesting)
				return
			}
			continue
		}
		signs = 0
		if t.Kind != lexer.Bracket {
			continue
		}
		if strings.Contains("([{", t.Value) {
			if open = append(open, t); len(open) > maxNesting {
				diags.Addf(s.text.At(t.From, t.To), codeSize, "Expression too large", "Brackets nest deeper than %d here.", maxNesting)
				return
			}
			continue
		}
		if len(open) == 0 {
			diags.Addf(s.text.At(t.From, t.To), codeSyntax, "Not an expression", "Nothing is open that this %s could close.", t.Value)
			return
		}
		last := open[len(open)-1]
		if want := closing(last.Value); t.Value != want {
			diags.Addf(s.text.At(t.From, t.To), codeSyntax, "Not an expression", "%s is closed by %s, not by %s.", last.Value, want, t.Value)
			return
		}
		open = open[:len(open)-1]
		s.close[last.From] = t.To
	}
	if len(open) > 0 {
		last := open[len(open)-1]
		diags.Addf(s.text.At(last.From, last.To), codeSyntax, "Not an expression", "This %s is never closed.", last.Value)
	}
}

func closing(open string) string {
	return map[string]string{"(": ")", "[": "]", "{": "}"}[open]
}

// check looks at token i by itself.
func (s *source) check(diags *diag.Diagnostics, i int) {
	t, prev, next := s.tokens[i], s.token(i-1), s.token(i+1)
	afterDot := prev.Is(lexer.Operator, ".", "?.")
	switch {
	case t.Kind == lexer.Number:
		s.number(diags, i)
	case t.Kind == lexer.Identifier && t.Value == "null" && !afterDot && !(next.Is(lexer.Operator, ":") && (prev.Is(lexer.Bracket, "{") || prev.Is(lexer.Operator, ","))):
		diags.Addf(s.text.At(t.From, t.To), codeNull, "null is not a word of the language", "Write nil. A field of that name is event.null.")
	case (t.Is(lexer.Identifier, "$") || t.Is(lexer.Operator, "%")) && next.Is(lexer.Bracket, "{") && next.From == t.To:
		diags.Addf(s.text.At(t.From, next.To), codeTemplate, "Template inside an expression", "Expressions refer to values by name, not by templates: write var.x, local.x or each.key itself, without %s{ }.", t.Value)
	}
}

// number refuses numbers that the parser would refuse at the token behind them.
func (s *source) number(diags *diag.Diagnostics, i int) {
	t := s.tokens[i]
	value := strings.ReplaceAll(strings.ToLower(t.Value), "_", "")
	var err error
	if !strings.HasPrefix(value, "0x") && strings.ContainsAny(value, ".e") {
		var f float64
		if f, err = strconv.ParseFloat(value, 64); err == nil && math.IsInf(f, 0) {
			err = strconv.ErrRange
		}
	} else {
		base := 10
		if len(value) > 1 && strings.Contains("xob", value[1:2]) {
			base = 0
		}
		_, err = strconv.ParseInt(value, base, 64)
	}
	if err == nil {
		return
	}
	rng := s.text.At(t.From, t.To)
	switch {
	case errors.Is(err, strconv.ErrRange) && strings.TrimLeft(value, "0") == "9223372036854775808" && s.negated(i):
		s.minInt[t.From] = true
		at := len(string([]rune(s.parsed)[:t.From]))
		s.parsed = s.parsed[:at] + strings.Repeat("0", len(t.Value)-19) + "9223372036854775807" + s.parsed[at+len(t.Value):]
	case errors.Is(err, strconv.ErrRange) && strings.ContainsAny(value, ".e") && !strings.HasPrefix(value, "0x"):
		diags.Addf(rng, codeNumber, "Number out of range", "%s is beyond the largest float, 1.8e308.", t.Value)
	case errors.Is(err, strconv.ErrRange):
		diags.Addf(rng, codeNumber, "Number out of range", "%s does not fit an int (64 bits, up to %d). With a decimal point it is a float.", t.Value, math.MaxInt64)
	default:
		diags.Addf(rng, codeSyntax, "Not an expression", "%s is not a number.", t.Value)
	}
}

// negated tells whether token i stands behind a minus that is a sign.
func (s *source) negated(i int) bool {
	if !s.token(i-1).Is(lexer.Operator, "-") {
		return false
	}
	before := s.token(i - 2)
	return before.Kind == lexer.EOF || before.Kind == lexer.Operator || before.Is(lexer.Bracket, "(", "[", "{")
}
