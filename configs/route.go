package configs

import (
	"time"

	"keystone/configs/addr"
	"keystone/configs/spec"
	"keystone/dsl"
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
	DeadLetter  spec.Ref // stream; zero: the managed one
	Delivery    Delivery
	Limits      Limits
	Batch       Batch
	Retry       Retry
	Throttle    Throttle
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
