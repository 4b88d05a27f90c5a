package configs

import (
	"time"

	"keystone/configs/addr"
	"keystone/configs/spec"
	"keystone/dsl"
	"keystone/dsl/ir"
)

// Route is one pipeline: a stream or source, an optional filter and
// projection, a sink or stream.
type Route struct {
	Addr        addr.Addr
	Description string
	Enabled     bool
	From        spec.Ref // stream or source
	To          spec.Ref // sink or stream
	Start       string   // earliest, latest, or RFC 3339
	Parallelism int      // evaluating goroutines; 0: as many as there are processors
	Order       Order
	OnError     OnError
	OnDataLoss  string // continue, stop
	Group       string // Kafka consumer group, derived: keystone.NAMESPACE.ENV.route.NAME[.KEY]
	Events      dsl.RouteSpec
	DeadLetter  spec.Ref // stream or sink; zero: the managed stream
	Delivery    Delivery
	Limits      Limits
	Batch       Batch
	Retry       Retry
	Throttle    Throttle
	OneWorker   string // why a restart drains whatever delivery.redeploy says; "" if two workers may overlap
	// LetterProgram makes what a sink for dead letters wants to know of them; nil unless DeadLetter is a sink.
	LetterProgram *ir.Route
	Checked       *ir.Route // what dsl.CheckRoute made of Events; never nil in a checked configuration
}

// Options declares the block route.
func (r *Route) Options() spec.Options {
	e := &r.Events
	return spec.Options{
		spec.String("description", &r.Description, "What the route is for, for people.").Effect(spec.Live),
		spec.Bool("enabled", &r.Enabled, "With false the route is stopped and keeps its position.").Default(true).Effect(spec.Live).Also("disabled", "paused"),
		spec.Reference("from", &r.From, "The stream or source whose events it reads.", "stream", "source").Required().Eg("stream.playback").Also("source", "input", "inputs", "read"),
		spec.Reference("to", &r.To, "The sink or stream that it writes.", "sink", "stream").Required().Eg("sink.search").Also("sink", "output", "outputs", "destination", "target", "write"),
		spec.Exprs("filter", &e.Filter, "Only events for which it is true pass; of a list, all must be true.").Effect(spec.Live).Eg(`"country == 'BR' && position_ms > 1000"`).Also("where", "condition", "when", "if"),
		spec.Expr("explode", &e.Explode, "A list of the event; each element becomes an event of its own.").Effect(spec.Live).Eg(`"items"`),
		spec.ExprMap("project", &e.Project, "The fields of the output, in this order; nothing else passes.").Effect(spec.Live).Eg(`{ user = "user_id", ts = "ts" }`).Also("select", "map", "fields", "transform", "columns", "projection"),
		spec.ExprMap("set", &e.Set, "Fields that are added or replaced, by path; the rest passes byte for byte.").Effect(spec.Live).Eg(`{ "device.os" = "lower(device.os)" }`).Also("add", "update", "assign"),
		spec.Exprs("drop", &e.Drop, "Paths that are removed; the rest passes byte for byte.").Effect(spec.Live).Eg(`["payload", "device.os"]`).Also("remove", "exclude", "omit", "unset"),
		spec.Expr("key", &e.Key, "The message key, over the output event. Unless said the target stream's, else the record's own.").Effect(spec.Live).OverOutput().Eg(`"user_id"`).Also("message_key", "partition_by"),
		spec.ExprMap("headers", &e.Headers, "Headers that are added, over the output event; nil removes one.").Effect(spec.Live).OverOutput().Eg(`{ region = "country" }`),
		spec.Enum("format", &e.Format, "How the values of records are read: as one JSON object each, or as bytes that pass untouched.", ir.JSON, ir.Raw).Default(ir.JSON),
		spec.Enum("decode", &e.Decode, "How much of a JSON document is checked: all of it, what expressions read, or nothing.", ir.DecodeFull, ir.DecodeLazy, ir.DecodeNone).Default(ir.DecodeFull).Effect(spec.Live),
		spec.Enum("tombstones", &e.Tombstones, "What becomes of a null value: it goes through as null, the projection runs with every field nil, or it is dropped. Unless said, streams get it and sinks do not.", ir.TombstonesPass, ir.TombstonesProject, ir.TombstonesDrop).Effect(spec.Live),
		spec.String("start", &r.Start, "Where reading begins as long as the route has no position: \"earliest\", \"latest\" or a time (RFC 3339).").Default("earliest").Effect(spec.Live).Eg(`"2026-01-31T00:00:00Z"`),
		spec.Int("parallelism", &r.Parallelism, "Goroutines that evaluate; 0 is as many as there are processors.").Default(0).Between(0, 1024).Effect(spec.Live).Also("workers", "concurrency", "threads"),
		spec.Enum("order", &r.Order, "The order that is kept among first deliveries: \"partition\", all of a source partition; \"key\", those of one source partition that have the same output key (records without a key count as one key); \"none\". Less order means more speed: with \"key\" and \"none\" up to 16 writes of one partition are under way at once, and a record that has to be tried again holds up only what its order wants behind it. Unless said, the sink's own, which is \"partition\" for all but discard. Files, and routes that are exactly_once, are always written in the order of the partition.", OrderPartition, OrderKey, OrderNone),
		spec.Enum("on_error", &r.OnError, "What becomes of a record that cannot be evaluated or delivered.", DeadLetter, DropRecord, PassRecord, StopRoute).Default(DeadLetter).Effect(spec.Live),
		spec.Enum("on_data_loss", &r.OnDataLoss, "What to do when retention removed records before they were read.", "continue", "stop").Default("continue").Effect(spec.Live),
		spec.Reference("dead_letter", &r.DeadLetter, "Where records go that could not be processed, instead of the managed stream: a stream, or a sink whose documents the letters become.", "stream", "sink").Eg("stream.rejected").Also("dlq", "dead_letter_queue", "dead_letters"),
		spec.Nested("delivery", "What is promised about each record.", spec.Options{
			spec.Enum("guarantee", &r.Delivery.Guarantee, "Whether a record may be lost or repeated when something fails. exactly_once is for routes from a stream to a stream of the same cluster: positions, records and dead letters are in one transaction of Kafka, and retry.max_attempts and retry.max_elapsed do not count, since a transaction that failed is repeated as a whole.", AtMostOnce, AtLeastOnce, ExactlyOnce).Default(AtLeastOnce),
			spec.Enum("redeploy", &r.Delivery.Redeploy, "When a change restarts the route: with prefer_latency the new worker joins before the old one leaves, which waits for nothing, so what is in flight may be delivered twice; with prefer_no_duplicates the old one finishes first. Only a route that reads a stream, at least once, into something that two may write, can have the first; others always finish first, and the plan says why.", PreferLatency, PreferNoDuplicates).Default(PreferLatency).Effect(spec.Live),
			spec.Duration("drain_timeout", &r.Delivery.DrainTimeout, "How long finishing what is in flight may take.").Default(30*time.Second).Between(0, 3600).Effect(spec.Live),
			spec.Duration("commit_interval", &r.Delivery.CommitInterval, "How often positions are stored: what is repeated after a crash.").Default(time.Second).Between(0.01, 600).Effect(spec.Live),
		}),
		spec.Nested("limits", "Bounds of what the route holds.", spec.Options{
			spec.Bytes("max_in_flight_bytes", &r.Limits.MaxInFlightBytes, "Bytes that were read and have no outcome yet; at the bound reading waits.").Default(64<<20).Between(64<<10, 16<<30).Effect(spec.Live),
			spec.Bytes("max_record_bytes", &r.Limits.MaxRecordBytes, "Largest record; a larger one is an error, for which on_error decides.").Default(16<<20).Between(1<<10, 1<<30).Effect(spec.Live),
		}).Effect(spec.Live),
		spec.Nested("batch", "What one read takes.", spec.Options{
			spec.Bytes("bytes", &r.Batch.Bytes, "Most bytes of a batch.").Default(1<<20).Between(1<<10, 64<<20).Effect(spec.Live),
			spec.Int("records", &r.Batch.Records, "Most records of a batch.").Default(10_000).Between(1, 1_000_000).Effect(spec.Live),
			spec.Duration("linger", &r.Batch.Linger, "How long a batch that is not full may wait for more.").Default(100*time.Millisecond).Between(0, 60).Effect(spec.Live),
		}).Effect(spec.Live),
		spec.Nested("retry", "How deliveries that failed are tried again.", spec.Options{
			spec.Duration("initial", &r.Retry.Initial, "The first wait; it doubles, with jitter.").Default(100*time.Millisecond).Between(0.001, 3600).Effect(spec.Live),
			spec.Duration("max", &r.Retry.Max, "The longest wait.").Default(30*time.Second).Between(0.001, 3600).Effect(spec.Live),
			spec.Duration("max_elapsed", &r.Retry.MaxElapsed, "Give a record up after so long; 0s never does.").Default(time.Duration(0)).Between(0, 30*24*3600).Effect(spec.Live),
			spec.Int("max_attempts", &r.Retry.MaxAttempts, "Give a record up after so many attempts; 0 never does.").Default(0).Between(0, 1_000_000).Effect(spec.Live),
		}).Effect(spec.Live),
		spec.Nested("throttle", "Bounds of speed; 0 is none.", spec.Options{
			spec.Int("records_per_second", &r.Throttle.RecordsPerSecond, "Most records read in a second.").Default(0).Between(0, 1_000_000_000).Effect(spec.Live),
			spec.Bytes("bytes_per_second", &r.Throttle.BytesPerSecond, "Most bytes read in a second.").Default(0).Between(0, 1<<40).Effect(spec.Live),
		}).Effect(spec.Live),
	}
}

// The two ways of delivery.redeploy.
const (
	PreferLatency      = "prefer_latency"
	PreferNoDuplicates = "prefer_no_duplicates"
)

// Overlaps tells whether a worker that takes another's place starts before that one has left.
func (r *Route) Overlaps() bool {
	return r.Delivery.Redeploy == PreferLatency && r.OneWorker == ""
}

// Order is what is promised about first deliveries of one source partition.
type Order string

// The orders.
const (
	OrderPartition Order = "partition"
	OrderKey       Order = "key"
	OrderNone      Order = "none"
)

// OnError says what happens to a record that cannot be evaluated or delivered.
type OnError string

// The policies.
const (
	DeadLetter OnError = "dead_letter"
	DropRecord OnError = "drop"
	PassRecord OnError = "pass"
	StopRoute  OnError = "stop"
)

// Guarantee is what a route promises about each record.
type Guarantee string

// The guarantees.
const (
	AtMostOnce  Guarantee = "at_most_once"
	AtLeastOnce Guarantee = "at_least_once"
	ExactlyOnce Guarantee = "exactly_once"
)

// Delivery is the block delivery { }.
type Delivery struct {
	Guarantee      Guarantee
	Redeploy       string // prefer_latency, prefer_no_duplicates
	DrainTimeout   time.Duration
	CommitInterval time.Duration
}

// Limits is the block limits { }.
type Limits struct {
	MaxInFlightBytes int64
	MaxRecordBytes   int64
}

// Batch is the block batch { }: what one read takes at most, and how long it waits.
type Batch struct {
	Bytes   int64
	Records int
	Linger  time.Duration
}

// Retry is the block retry { } of deliveries.
type Retry struct {
	Initial     time.Duration
	Max         time.Duration
	MaxElapsed  time.Duration // 0: for ever
	MaxAttempts int           // 0: any number
}

// Throttle is the block throttle { }; 0 is no limit.
type Throttle struct {
	RecordsPerSecond int
	BytesPerSecond   int64
}
