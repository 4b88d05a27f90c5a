package sinks

import (
	"context"

	"keystone/pipeline/record"
)

// Marker names the last part of a job's output that a destination has; the zero Marker is before all.
type Marker struct {
	Generation int64 `json:"generation"`
	Epoch      int64 `json:"epoch"`
	Chunk      int   `json:"chunk"`
}

// Outbox is a destination that takes a job's output in parts, each with its marker, all or nothing. Its methods are called one at a time.
type Outbox interface {
	// Recover makes this one the job's only writer: what an earlier one left open is ended, and what may still be on its way from there is
	// refused. It gives the marker of what is there. It is called first, and after each failure.
	Recover(ctx context.Context) (Marker, error)
	// Publish writes a part. A record's Source is the number of the topic or table that it goes to. After an error nobody knows
	// whether the part is there: Recover tells.
	Publish(ctx context.Context, m Marker, rows []record.Record) error
	Close(ctx context.Context) error
}
