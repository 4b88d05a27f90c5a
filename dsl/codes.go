package dsl

import "keystone/configs/diag"

const (
	codeText       = "KS2070"
	codeTemplate   = "KS2005" // as in check: a template inside an expression
	codeFieldName  = "KS2040"
	codeFieldTwice = "KS2041"
	codeFieldValue = "KS2042"
	codeExclusive  = "KS2043"
	codePath       = "KS2044"
	codeRaw        = "KS2045"
	codeKeyType    = "KS2046"
	codeAggregate  = "KS2047"
	codeType       = "KS2060"
	codeTypeName   = "KS2061"
)

func codes() []diag.Code {
	return []diag.Code{
		{Code: codeFieldName, Summary: "Invalid name of a field", Doc: "A name in project, set or headers is one output field: an identifier, or text in quotes. A dot is an error in project (nest { } instead) and makes a path in set."},
		{Code: codeFieldTwice, Summary: "Repeated field", Doc: "HCL would silently keep one of the two. In set, a path and another path below it contradict each other as well."},
		{Code: codeFieldValue, Summary: "Invalid value of a field", Doc: "A value is text (an expression), a number or a bool (itself), or a nested { }. Constant text is quoted twice: kind = \"'tv'\"."},
		{Code: codeExclusive, Summary: "Contradicting options", Doc: "project says everything that the output has; set and drop change what is there. Use one or the other."},
		{Code: codePath, Summary: "Invalid path", Doc: "drop and explode take paths: names with dots between them, as device.os; other characters are written [\"@name\"]."},
		{Code: codeRaw, Summary: "Raw events cannot be changed", Doc: "format = \"raw\" and decode = \"none\" pass the bytes of values as they are: project, set, drop and explode need JSON."},
		{Code: codeKeyType, Summary: "Not a key", Doc: "Keys and headers are text: a string, number, bool, time or bytes, not a list or an object."},
		{Code: codeAggregate, Summary: "Too many aggregates", Doc: "An aggregation makes at most 1,000 different calls of aggregates: each has its state, for each key."},
		{Code: codeType, Summary: "Not a type", Doc: "Types are written as string, list(int), object({ a = string, b = optional(int) }), decimal(10, 2), sensitive(string)."},
		{Code: codeTypeName, Summary: "Unknown type", Doc: "The types are string, bool, int, float, decimal(P, S), timestamp_ms, timestamp_rfc3339, date, bytes, any, list(T), map(T), object({…}), optional(T) and sensitive(T)."},
		{Code: codeText, Summary: "Not the text of an expression", Doc: "An expression over events is a literal string, so that its errors can point into it; HCL cannot compute it."},
	}
}
