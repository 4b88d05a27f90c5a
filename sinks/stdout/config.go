// Package stdout writes records to the standard output, a line each.
package stdout

import (
	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/sinks"
)

// Kind is the entry of the catalog.
func Kind() sinks.Kind {
	return sinks.Kind{
		Letters: "keeps nothing that could be looked at later",
		Name:    "stdout",
		Cannot:  map[string]string{"exactly_once": "what was printed cannot be taken back"},
		Doc: "Writes each record's value as a line to the standard output of the process, as soon as its batch is done. Lines are whole, also when several routes write. " +
			"Line breaks between the tokens of a JSON document become spaces. A null value is refused: a line has no form for it. " +
			"When the reader of a pipe has gone (`| head`), the route stops and says so.",
		New: func() sinks.Config { return new(Config) },
	}
}

// Config has no options.
type Config struct{}

// Options is empty.
func (*Config) Options() spec.Options { return nil }

// Check finds nothing.
func (*Config) Check() diag.Diagnostics { return nil }

// New makes the sink.
func (*Config) New(sinks.Deps) (sinks.Sink, error) { return &sink{open: openStdout}, nil }
