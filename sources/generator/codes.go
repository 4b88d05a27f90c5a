package generator

import "keystone/configs/diag"

// The codes of this kind.
const (
	codeStart = "KS4301"
	codeRate  = "KS4302"
)

// Codes documents the diagnostics of this package.
func Codes() []diag.Code {
	return []diag.Code{
		{Code: codeStart, Summary: "Invalid start of a generator", Doc: "`start` is the time of the first event, as RFC 3339 has it: \"2026-01-01T00:00:00Z\". Leave it out to stamp events with the time at which they are made."},
		{Code: codeRate, Summary: "Invalid rate of a generator", Doc: "`rate` is a finite number of events a second. 0 means as fast as the route takes them, which needs a `count` or fills whatever it is sent to."},
	}
}
