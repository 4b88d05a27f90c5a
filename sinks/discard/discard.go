// Package discard takes records and forgets them: for measuring a route, and
// for trying one without writing anywhere.
package discard

import (
	"context"

	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/pipeline/record"
	"keystone/sinks"
)

// Kind is the entry of the catalog.
func Kind() sinks.Kind {
	return sinks.Kind{
		Letters: "keeps nothing",
		Name:    "discard",
		Cannot:  map[string]string{"exactly_once": "nothing is kept, so there is nothing that could be there once"},
		Doc:     "Takes records and forgets them: to measure a route, or to try its filter and projection without writing anywhere. It has no options.",
		New:     func() sinks.Config { return new(Config) },
	}
}

// Config has no options.
type Config struct{}

// Options is empty.
func (*Config) Options() spec.Options { return nil }

// Check finds nothing.
func (*Config) Check() diag.Diagnostics { return nil }

// New makes the sink.
func (*Config) New(sinks.Deps) (sinks.Sink, error) { return sink{}, nil }

type sink struct{}

// Open does nothing.
func (sink) Open(context.Context) error { return nil }

// Write is done at once.
func (sink) Write(_ context.Context, _ *record.Batch, done func(error)) { done(nil) }

// DefaultOrder is none: nobody sees it.
func (sink) DefaultOrder() string { return "none" }

// Close does nothing.
func (sink) Close(context.Context) error { return nil }
