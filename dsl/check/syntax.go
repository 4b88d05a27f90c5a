package check

import (
	"errors"
	"slices"
	"strings"

	"keystone/configs/diag"
	"keystone/dsl/ir"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/conf"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/parser/lexer"
)

// parse gives expr's tree. The configuration is empty but for the limit of
// nodes, which the limit of the text's length makes needless: an environment
// would make fields called count or map unparsable.
func (s *source) parse() (ast.Node, diag.Diagnostics) {
	config := &conf.Config{}
	if s.aggregates {
		config.Functions = overridden()
	}
	tree, err := parser.ParseWithConfig(s.parsed, config)
	if err == nil {
		return tree.Node, nil
	}
	var diags diag.Diagnostics
	var e *file.Error
	if !errors.As(err, &e) {
		diags.Addf(s.text.Range, codeSyntax, "Not an expression", "%v.", err)
		return nil, diags
	}
	rng, detail := s.explain(e)
	diags.Addf(rng, codeSyntax, "Not an expression", "%s", detail)
	return nil, diags
}

// explain turns a complaint of the parser into one that says what to do.
func (s *source) explain(e *file.Error) (diag.Range, string) {
	i := s.at(e.From)
	t := s.token(i)
	last := s.tokens[len(s.tokens)-1]
	if j := s.badName(); j >= 0 && e.Message == "expected name" {
		bad := s.tokens[j]
		return s.text.At(bad.From, bad.To), "A name must follow the dot. Other members are written x[\"name\"] or x[0]."
	}
	// The end has no token; its location is that of the last rune, which may also be a token's.
	if i < 0 || strings.Contains(e.Message, "token EOF") || strings.Contains(e.Message, "unexpected end") {
		if n := len(s.tokens); n > 1 && s.tokens[n-2].Is(lexer.Operator, "|") && last.Kind == lexer.Identifier {
			return s.text.At(s.tokens[n-2].From, s.tokens[n-2].To), singlePipe
		}
		return s.text.At(last.To, last.To), "Something is missing at the end" + s.behind(last) + "."
	}
	rng := s.text.At(t.From, t.To)
	prev, next := s.token(i-1), s.token(i+1)
	switch {
	case strings.Contains(e.Message, "cannot be mixed"):
		return rng, "?? needs parentheses beside other operators: (a ?? b) " + t.Value + " c."
	case strings.HasPrefix(e.Message, "wrap predicate"):
		return rng, "A predicate of several parts stands in braces: any(tags, {let t = .name; t != nil})."
	case strings.HasPrefix(e.Message, "a map key"):
		return rng, "The name in an object is an identifier or a quoted string."
	case strings.HasPrefix(e.Message, "expected at least"):
		return rng, "Arguments are missing here."
	case t.Is(lexer.Operator, "#", ".") && s.aggregates:
		return rng, "# and .field stand for the element, only inside the second argument of any, all, filter, map and their like. In an aggregation count, sum, first and so on are of rows; those of a list are written ::count(tags, # == 'a')."
	case t.Is(lexer.Operator, "#", "."):
		return rng, "# and .field stand for the element, only inside the second argument of any, all, filter, map and their like. A field of the event is written without a dot; comments begin with //."
	case prev.Is(lexer.Operator, "let") || s.token(i-2).Is(lexer.Operator, "let") && prev.Kind == lexer.Identifier:
		return rng, "A variable is declared as let name = value; and what uses it."
	case t.Is(lexer.Operator, "=") && prev.Is(lexer.Operator, "==", "!=") && prev.To == t.From:
		return s.text.At(prev.From, t.To), "Write " + prev.Value + "."
	case t.Is(lexer.Operator, "="):
		return rng, "Write == to compare."
	case t.Is(lexer.Operator, ">") && prev.Is(lexer.Operator, "<"):
		return s.text.At(prev.From, t.To), "Write !=."
	case t.Is(lexer.Operator, "&"):
		return rng, "Write && or and; bits are combined by bitand(a, b)."
	case t.Is(lexer.Operator, "!") && operand(prev):
		return rng, "! stands before what it negates. Write not in, not contains and so on, or !=."
	case prev.Is(lexer.Operator, "not") && operand(s.token(i-2)):
		return s.text.At(prev.From, t.To), "Behind a value not stands before in, contains, matches, startsWith or endsWith. Otherwise write !=."
	case t.Kind == lexer.Operator && isWord(t.Value) && !operand(prev) && slices.Contains(s.fields, s.joined(i)):
		return rng, "Where a value is expected " + t.Value + " is a word of the language. The field is written event[\"" + s.joined(i) + "\"]."
	case t.Kind == lexer.Operator && isWord(t.Value) && !operand(prev):
		return rng, "Where a value is expected " + t.Value + " is a word of the language. A field of that name is event." + t.Value + "."
	case t.Kind == lexer.Identifier && operand(prev):
		return rng, missingOperator(t.Value)
	case t.Kind == lexer.Number && t.Value[0] == '.' && operand(prev) && prev.To == t.From:
		return rng, "An index is written in brackets: x[" + t.Value[1:] + "]."
	case (t.Kind == lexer.String || t.Kind == lexer.Number || t.Is(lexer.Bracket, "(", "{")) && operand(prev):
		if prev.Is(lexer.Operator, "|") || t.Is(lexer.Bracket, "(") && prev.Kind != lexer.Identifier {
			return rng, "An operator is missing before this bracket."
		}
		return rng, "An operator is missing before this. Text is quoted on both sides ('it''s' is written 'it\\'s' or \"it's\")."
	case prev.Is(lexer.Operator, "|"):
		return rng, singlePipe
	case t.Kind == lexer.Operator && prev.Kind == lexer.Operator:
		return rng, "There is no operator " + prev.Value + " " + t.Value + "; a value is missing between the two."
	case t.Is(lexer.Bracket, ")", "]", "}") || t.Is(lexer.Operator, ","):
		if next.Kind == lexer.EOF || !operand(prev) {
			return rng, "Something is missing before this " + t.Value + s.behind(prev) + "."
		}
	}
	return rng, "This " + t.Value + " cannot stand here."
}

func (s *source) behind(t lexer.Token) string {
	if t.Kind == lexer.EOF {
		return ""
	}
	return ", after \"" + string([]rune(s.text.S)[t.From:t.To]) + "\""
}

// badName finds what stands behind a dot and is no name, or gives -1.
func (s *source) badName() int {
	for i, t := range s.tokens {
		if prev := s.token(i - 1); prev.Is(lexer.Operator, ".", "?.") && t.Kind != lexer.Identifier && !(t.Kind == lexer.Operator && isWord(t.Value)) && !(prev.Value == "?." && t.Is(lexer.Bracket, "[")) {
			return i
		}
	}
	return -1
}

const singlePipe = "A single | passes a value to a function: tags | count(). Conditions are joined by || or or."

// operand tells whether a value may end with the token.
func operand(t lexer.Token) bool {
	switch t.Kind {
	case lexer.Identifier, lexer.Number, lexer.String, lexer.Bytes:
		return true
	case lexer.Bracket:
		return strings.Contains(")]}", t.Value)
	}
	return false
}

func isWord(s string) bool { return s != "" && s[0] >= 'a' && s[0] <= 'z' }

func missingOperator(word string) string {
	switch strings.ToLower(word) {
	case "and", "or", "not", "in", "matches", "contains":
		return "Operators are written in lower case: " + strings.ToLower(word) + "."
	case "is":
		return "Write x == nil or x != nil."
	case "like", "ilike", "regexp", "rlike":
		return "Write x contains 'part', x startsWith 'part' or x matches `regular expression`."
	case "between":
		return "Write 1 <= x and x <= 9."
	case "then", "when", "case", "end":
		return "A choice is written condition ? a : b."
	case "startswith":
		return "The operator is startsWith."
	case "endswith":
		return "The operator is endsWith."
	case "div", "mod":
		return "Write / or %."
	case "xor":
		return "Write a != b."
	}
	return "An operator is missing before " + word + ". Text is quoted: '" + word + "'."
}

// joined gives the name with minus signs that the token is part of, as
// user-id of user - id written without blanks, or "".
func (s *source) joined(i int) string {
	name := func(t lexer.Token) bool {
		return t.Kind == lexer.Identifier || t.Kind == lexer.Operator && isWord(t.Value)
	}
	minus := func(i int) bool { // between two tokens, without blanks
		a, m, b := s.token(i-1), s.token(i), s.token(i+1)
		return m.Is(lexer.Operator, "-") && name(a) && name(b) && a.To == m.From && m.To == b.From
	}
	from, to := i, i
	for minus(from - 1) {
		from -= 2
	}
	for minus(to + 1) {
		to += 2
	}
	if from == to {
		return ""
	}
	var b strings.Builder
	for _, t := range s.tokens[from : to+1] {
		b.WriteString(t.Value)
	}
	return b.String()
}

func union(a, b ir.Span) ir.Span {
	return ir.Span{Start: min(a.Start, b.Start), End: max(a.End, b.End)}
}
