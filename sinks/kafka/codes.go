package kafka

import "keystone/configs/diag"

// Codes documents the diagnostics of this sink.
func Codes() []diag.Code {
	return []diag.Code{
		{Code: codeIncomplete, Summary: "Stream without topic or brokers", Doc: "A stream that is written to needs a topic name and a cluster with at least one broker."},
		{Code: codeCompression, Summary: "Unknown compression", Doc: "compression is one of zstd, lz4, snappy, gzip, none."},
	}
}

const (
	codeIncomplete  = "KS5401"
	codeCompression = "KS5402"
)
