package check

import "keystone/configs/diag"

// The codes of what can be wrong with an expression.
const (
	codeSize        = "KS2001"
	codeSyntax      = "KS2002"
	codeNumber      = "KS2003"
	codeNull        = "KS2004"
	codeTemplate    = "KS2005"
	codeEmpty       = "KS2006"
	codeName        = "KS2010"
	codeFunction    = "KS2011"
	codeConst       = "KS2012"
	codeProjected   = "KS2013"
	codeMeta        = "KS2014"
	codePointer     = "KS2015"
	codeRaw         = "KS2016"
	codeMember      = "KS2017"
	codeOperand     = "KS2020"
	codeCompare     = "KS2021"
	codeArgument    = "KS2022"
	codeArgCount    = "KS2023"
	codeConstArg    = "KS2024"
	codeCondition   = "KS2025"
	codeRefused     = "KS2030"
	codeNot         = "KS2031"
	codeRegexp      = "KS2032"
	codeElements    = "KS2033"
	codeAlwaysFails = "KS2034"
	codeJobs        = "KS2035"
	codeAggregate   = "KS2036"
	codeNoMeta      = "KS2037"
	codePattern     = "KS2050"
)

// Codes documents the codes of this package.
func Codes() []diag.Code {
	return []diag.Code{
		{Code: codeSize, Summary: "Expression too large", Doc: "An expression has at most 64 KiB of text, and brackets, signs and negations nest at most 200 deep. Split it: filters may be a list of conditions, and locals share them."},
		{Code: codeSyntax, Summary: "Not an expression", Doc: "The text breaks the grammar of expressions. The message names the token that cannot stand where it does."},
		{Code: codeNumber, Summary: "Number out of range", Doc: "Ints are from -9223372036854775808 to 9223372036854775807, other numbers as large as float64 holds."},
		{Code: codeNull, Summary: "null is not a word of the language", Doc: "What JSON calls null is written nil: x == nil."},
		{Code: codeTemplate, Summary: "Template inside an expression", Doc: "${…} and %{…} would paste text into the expression before it is checked. Write the reference itself, without quotes and braces: region == var.region. In a string literal that needs the two characters write $${ in HCL."},
		{Code: codeEmpty, Summary: "Empty expression", Doc: "The text has no expression. Leave the option out instead."},
		{Code: codeName, Summary: "Unknown field", Doc: "The event's schema has no such field. Text must be quoted inside the expression ('tv'). A field that the schema does not declare is read with event[\"x\"]."},
		{Code: codeFunction, Summary: "Unknown function", Doc: "A name followed by ( is a function, and there is none of that name. See the reference of functions."},
		{Code: codeConst, Summary: "Unknown constant", Doc: "var.x, local.x, each.key and each.value stand for constants of the configuration, and this one is not declared."},
		{Code: codeProjected, Summary: "Field is not in the output", Doc: "Keys, headers and what a sink needs are computed from the output event, and the projection or drop leaves this field out. Add it to the projection."},
		{Code: codeMeta, Summary: "Unknown property of meta", Doc: "meta has topic, partition, offset, timestamp, key, headers and tombstone."},
		{Code: codePointer, Summary: "Element outside of a predicate", Doc: "# and .field stand for the element inside the second argument of any, all, filter, map and their like; #acc only inside reduce."},
		{Code: codeRaw, Summary: "Raw events have no fields", Doc: "With format = \"raw\" values are bytes that nobody looks into: expressions see only meta."},
		{Code: codeMember, Summary: "No such member", Doc: "Only objects have members by name, only lists and strings by index."},
		{Code: codeOperand, Summary: "Wrong type of operand", Doc: "The operator does not take values of this type. Convert with int(), float(), string() or parse_time()."},
		{Code: codeCompare, Summary: "Values of different types", Doc: "Values of different types are never equal and have no order. Convert one of them."},
		{Code: codeArgument, Summary: "Wrong argument", Doc: "The function does not take an argument of this type, or not this value."},
		{Code: codeArgCount, Summary: "Wrong number of arguments", Doc: "See the function's signature in the reference."},
		{Code: codeConstArg, Summary: "Argument must be a constant", Doc: "Layouts, units, algorithms, orders and regular expressions are known before the first event: a literal, var.x, local.x or each.value."},
		{Code: codeCondition, Summary: "Not a condition", Doc: "A condition is true or false (or nil, which does not hold). Compare the value with something: n > 0, x != nil."},
		{Code: codeRefused, Summary: "Not part of the language", Doc: "The grammar has it, but it has no meaning for events. The message says what to write instead."},
		{Code: codeNot, Summary: "Ambiguous not", Doc: "not binds tighter than comparisons: not a == b means (not a) == b. Write a != b, or a not in b, or use parentheses."},
		{Code: codeRegexp, Summary: "Invalid regular expression", Doc: "Regular expressions have the syntax of RE2 and are written in backticks: name matches `^tv-\\\\d+$` in an HCL string."},
		{Code: codeElements, Summary: "Too many elements", Doc: "Literals and ranges have at most 10,000 elements."},
		{Code: codeAlwaysFails, Summary: "Always fails", Doc: "The value is the same for every event, and computing it is an error."},
		{Code: codeJobs, Summary: "Not in jobs", Doc: "A job gives the same rows whenever it runs: now() is refused. Use the event's time."},
		{Code: codeAggregate, Summary: "Wrong use of an aggregate", Doc: "A field of aggregate is computed of many rows: fields of the row stand inside of an aggregate, aggregates do not stand inside of one another, and where(CONDITION) is the last argument of one. The functions of lists of the same name are written with two colons, ::count(tags, # == 'a')."},
		{Code: codeNoMeta, Summary: "No meta here", Doc: "meta is of the record that was read. Behind an operator that changes rows or is keyed there is none: keep what is needed as a field."},
		{Code: codePattern, Summary: "Invalid pattern", Doc: "A pattern is text with {PATH} or {PATH:LAYOUT}; a brace of the text is written twice."},
	}
}
