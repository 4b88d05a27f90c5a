package ir

// The values that a tree works on at run time are
//
//	nil, bool, int (int64), float (float64, never NaN or infinite), string
//	(UTF-8), time (an instant, in nanoseconds), bytes, list, object (named
//	values in order; a repeated name has its last value; equality ignores
//	the order).
//
// How a JSON value becomes one: where the type of a Field, Elem or Member
// node is declared, the value must be of that type, else reading it is an
// error with the code "type"; nil always passes.
//
//	int       a number without fraction and exponent that fits int64
//	float     any number, as the nearest float64
//	decimal   any number, as the nearest float64
//	timestamp_ms, timestamp_rfc3339, date   a time, from the form of that name
//	bytes     a string of base64
//	list, map, object   of that form; their parts are checked when they are read
//
// Where the type is any, a number without fraction and exponent that fits
// int64 is an int, every other number a float (one beyond float64 is an error
// with the code "range" where it is read), and nothing is a time or bytes.
//
// Members: a member of nil is nil, a missing field is nil, an index out of
// range is nil and a negative one counts from the end; any other member (a
// name of a list, an index of an object, anything of a scalar but an index of
// a string) is a type error. A slice clamps its bounds, negative ones count
// from the end, and it is empty when from is behind to. Strings are indexed
// by code points.
//
// Times: time - time is an int of milliseconds (truncated toward zero), time + int and
// time - int move by milliseconds, times compare with times only.
//
// Zero to a negative power divides by zero; a power that is not a real number is a range error.
//
// && and || go from left to right and do not evaluate the right side where the left
// decides. The predicate of a function holds only when it is true: nil counts
// as false, and anything but a bool or nil is a type error.
//
// A function that goes through a list (sum, mean, max, join, sort …) goes from the left, and the
// first element that is nil or of a wrong type decides. sum is reduce(list, #acc + #, 0).
//
// A computed value is written as JSON: floats as the shortest text that reads
// back the same (as encoding/json does), times in the form of the output's
// type (an undeclared one as RFC 3339 in UTC), bytes as base64. A number that goes into
// a decimal field, copied or computed, is an error with the code "range" if it has too many
// digits once it is rounded to the scale; a computed one is written with that scale, a
// copied one keeps its bytes. Numbers within lists, keys and headers have no such form.

// The codes of errors at run time: stable, in dead letters and metrics.
const (
	CodeDecode         = "decode"           // the record is not a JSON object in UTF-8
	CodeType           = "type"             // a value of the wrong type
	CodeOverflow       = "overflow"         // beyond int64, or a float beyond float64
	CodeDivisionByZero = "division_by_zero" // by / or %
	CodeRange          = "range"            // a number outside what is allowed there
	CodeConversion     = "conversion"       // text that cannot be read as what is asked for
	CodeLimit          = "limit"            // a result larger than the language allows
)

// Limits of what one evaluation may build; beyond them is an error with the code "limit".
const (
	MaxElements = 10_000  // of a range or a list literal
	MaxText     = 1 << 20 // bytes of a string made by repeat, join, replace or +
)
