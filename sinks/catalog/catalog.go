// Package catalog lists the kinds of sinks.
package catalog

import (
	"slices"

	"keystone/configs/diag"
	"keystone/sinks"
	"keystone/sinks/discard"
	"keystone/sinks/elasticsearch"
	"keystone/sinks/file"
	"keystone/sinks/hive"
	"keystone/sinks/stdout"
)

// Kinds lists what a sink block may be, in the order of the reference.
// Streams on Kafka are not among them: they are blocks of their own.
func Kinds() []sinks.Kind {
	return []sinks.Kind{file.Kind(), elasticsearch.Kind(), hive.Kind(), stdout.Kind(), discard.Kind()}
}

// Codes lists the diagnostics of all kinds.
func Codes() []diag.Code { return slices.Concat(file.Codes(), elasticsearch.Codes(), hive.Codes()) }
