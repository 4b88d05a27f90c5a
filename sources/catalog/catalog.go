// Package catalog lists the kinds of sources.
package catalog

import (
	"slices"

	"keystone/configs/diag"
	"keystone/sources"
	"keystone/sources/file"
	"keystone/sources/generator"
	"keystone/sources/hive"
	"keystone/sources/parquet"
	"keystone/sources/stdin"
)

// Kinds lists what a source block may be, in the order of the reference.
// Streams on Kafka are not among them: they are blocks of their own.
func Kinds() []sources.Kind {
	return []sources.Kind{file.Kind(), generator.Kind(), hive.Kind(), parquet.Kind(), stdin.Kind()}
}

// Codes lists the diagnostics of all kinds.
func Codes() []diag.Code {
	return slices.Concat(file.Codes(), generator.Codes(), hive.Codes(), parquet.Codes())
}
