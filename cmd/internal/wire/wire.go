// Package wire is the composition root: it turns a checked configuration
// into running workers, and is the one place that knows the catalogs, the
// store and the data plane together.
package wire

import (
	"log/slog"
	"slices"
	"time"

	"keystone/cmd/internal/api"
	"keystone/configs"
	"keystone/configs/addr"
	"keystone/configs/diag"
	"keystone/dsl"
	"keystone/reconcile"
	"keystone/sinks"
	sinkcatalog "keystone/sinks/catalog"
	sinkkafka "keystone/sinks/kafka"
	sourcecatalog "keystone/sources/catalog"
	sourcekafka "keystone/sources/kafka"
)

// Catalog lists every kind of source and sink of this binary.
func Catalog() configs.Catalog {
	return configs.Catalog{Sources: sourcecatalog.Kinds(), Sinks: sinkcatalog.Kinds()}
}

// Codes lists every diagnostic code of this binary, for the reference.
func Codes() []diag.Code {
	return slices.Concat(configs.Codes(), dsl.Codes(), sourcecatalog.Codes(), sourcekafka.Codes(), sinkcatalog.Codes(), sinkkafka.Codes())
}

// RunSpec says what `keystone run` does: one route or job in the foreground.
type RunSpec struct {
	Config   *configs.Config
	Addr     addr.Addr
	From     string // "": as configured; file:PATH, stdin, generator…
	To       string // "": as configured; stdout, discard, file:PATH
	Limit    int64  // records to read; 0: all
	Resume   bool   // start where the last run stopped
	Log      *slog.Logger
	Progress func(reconcile.State) // called about ten times a second, from one goroutine; may be nil
}

// RunResult is what came of a run. It is valid, as far as it goes, beside an error.
type RunResult struct {
	Counters    reconcile.Counters
	Duration    time.Duration
	Hints       []string // about events: names that none had, a filter that was never true
	DeadLetters string   // the file that dead letters went to; "" if they go nowhere or to a stream
}

// ServeSpec says how `keystone serve` runs.
type ServeSpec struct {
	Dir       string
	Env       string
	Watch     bool
	Listen    string // HOST:PORT of the HTTP API; "": what the configuration says, or the unix socket alone
	Ephemeral bool   // the embedded broker and positions stay in memory
	Takeover  bool   // take the namespace from another directory
	Version   api.Version
	Log       *slog.Logger
	VarFiles  []string // that Load reads beside the directory's own
	Load      func() (*configs.Config, diag.Diagnostics)
	// Show prints what is wrong with an edit; the last good revision keeps running.
	Show func(diag.Diagnostics)

	step func(string)                            // called between the steps of a rewind, by tests
	wrap func(sinks.Sink, sinks.Deps) sinks.Sink // puts a test's sink in the place of a sink block's
}

// OfflineSpec says whose stored state to open.
type OfflineSpec struct {
	Dir      string // of the configuration
	Env      string
	StateDir string // ".keystone" unless the configuration says otherwise
}
