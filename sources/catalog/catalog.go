// Package catalog lists the kinds of sources.
package catalog

import (
	"keystone/configs/diag"
	"keystone/sources"
	"keystone/sources/file"
	"keystone/sources/generator"
	"keystone/sources/stdin"
)

// Kinds lists what a source block may be, in the order of the reference.
// Streams on Kafka are not among them: they are blocks of their own.
func Kinds() []sources.Kind {
	return []sources.Kind{file.Kind(), generator.Kind(), stdin.Kind()}
}

// Codes lists the diagnostics of all kinds.
func Codes() []diag.Code {
	return append(file.Codes(), generator.Codes()...)
}
