package kafka

import "keystone/configs/diag"

// Codes documents the diagnostics of this source.
func Codes() []diag.Code {
	return []diag.Code{
		{Code: codeIncomplete, Summary: "Stream without topic or brokers", Doc: "A stream that is read needs a topic name and a cluster with at least one broker."},
		{Code: codeStart, Summary: "Invalid start", Doc: "start is \"earliest\", \"latest\" or a time as RFC 3339 writes it, such as 2026-01-31T08:00:00Z."},
	}
}

const (
	codeIncomplete = "KS4401"
	codeStart      = "KS4402"
)
