// Package stdin reads the standard input, one record a line.
package stdin

import (
	"cmp"
	"os"

	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/sources"
)

// Kind is the entry of the catalog.
func Kind() sources.Kind {
	return sources.Kind{
		Name:   "stdin",
		Cannot: map[string]string{"exactly_once": "what was read cannot be read again"},
		Doc: "Reads the standard input of the process to its end, one record a line (NDJSON), as one partition. " +
			"A last line without line feed counts, a carriage return before the line feed does not, empty lines are skipped. " +
			"The input cannot be read again: a restart goes on with what comes then, and what was read but not delivered is lost. It is meant for `keystone run`.",
		New: func() sources.Config { return new(Config) },
	}
}

const maxLineBytes = 16 << 20 // the default

// Config is the options of source "stdin".
type Config struct{ MaxLineBytes int64 }

// Options declares them.
func (c *Config) Options() spec.Options {
	return spec.Options{
		spec.Bytes("max_line_bytes", &c.MaxLineBytes, "Longest line. A longer one is not held in memory: its beginning becomes a record that cannot be evaluated, for `on_error`.").Default(int64(maxLineBytes)).Between(1<<10, 1<<30),
	}
}

// Check finds nothing that the declarations do not.
func (c *Config) Check() diag.Diagnostics { return nil }

// Bounded is true.
func (c *Config) Bounded() bool { return true }

// New makes the source.
func (c *Config) New(d sources.Deps) (sources.Source, error) {
	return &source{max: cmp.Or(c.MaxLineBytes, maxLineBytes), in: os.Stdin}, nil
}
