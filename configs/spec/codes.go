package spec

import "keystone/configs/diag"

// The codes of problems that Decode reports.
const (
	codeUnknown   = "KS3001"
	codeForm      = "KS3002"
	codeMissing   = "KS3003"
	codeWrongType = "KS3004"
	codeBounds    = "KS3005"
	codeWord      = "KS3006"
	codeUnit      = "KS3007"
	codeRefType   = "KS3008"
)

// Codes documents the problems that Decode reports.
func Codes() []diag.Code {
	return []diag.Code{
		{Code: codeUnknown, Summary: "Unknown option", Doc: "The block has no option or nested block of this name. The message lists a near name if there is one; the block's reference page lists all."},
		{Code: codeForm, Summary: "Option in the wrong form", Doc: "A nested block was written as an attribute (`delivery = {…}`), or an option as a block. Write `delivery { … }` for a block and `name = value` for an option."},
		{Code: codeMissing, Summary: "Missing option", Doc: "The block needs this option; `null` counts as leaving it out."},
		{Code: codeWrongType, Summary: "Wrong type of value", Doc: "The option takes another type of value. Nothing is converted silently: write 8, not \"8\", or use `tonumber(…)`, `tostring(…)`."},
		{Code: codeBounds, Summary: "Value out of bounds", Doc: "The number, duration or size is below the option's least or above its largest value."},
		{Code: codeWord, Summary: "Unknown word", Doc: "The option takes one of a few words; the message lists them."},
		{Code: codeUnit, Summary: "Not a duration or size", Doc: "Durations are written with a unit (\"500ms\", \"10s\", \"24h\", \"7d\"), sizes as bytes or with a unit (\"512KiB\", \"1MiB\")."},
		{Code: codeRefType, Summary: "Reference to a block of another type", Doc: "The option refers to blocks of certain types only, such as `to = sink.x` or `to = stream.x`."},
	}
}
