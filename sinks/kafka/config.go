// Package kafka writes records to a topic: acknowledged by all in-sync
// replicas, by an idempotent producer that the routes of a process share.
//
// A record with a key goes to the partition that Kafka's own clients choose
// for it. One without goes to the partition with the number of its source
// partition, modulo how many there are, so that the order of a source
// partition is kept.
package kafka

import (
	"log/slog"
	"slices"
	"strings"
	"time"

	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/sinks"
	"keystone/sources/kafka/client"
)

// Config is what a stream says of how it is written. It is filled from the
// stream and its cluster; no block of its own decodes into it.
type Config struct {
	Client client.Options
	Pool   *client.Pool // of the process; nil: a producer of its own
	// Transaction, if not nil, is what the records are part of, in place of Pool.
	Transaction *Transaction
	// Owns tells that the sink opens, ends and closes Transaction; the others write into it.
	Owns  bool
	Topic string
	// Compression is zstd, lz4, snappy, gzip or none.
	Compression string
	Linger      time.Duration // how long a partition waits for more records
	BatchBytes  int32         // largest record batch: the topic's max.message.bytes; 0: Kafka's default
	BufferBytes int64         // records that are on their way at most, bookkeeping included; 32 MiB unless said
	// Origin adds the header ks-origin: where each record came from. One that a
	// record brought along is never kept.
	Origin bool
}

// Options declares nothing: streams declare what is set here.
func (c *Config) Options() spec.Options { return nil }

// Check reports what is missing.
func (c *Config) Check() diag.Diagnostics {
	var ds diag.Diagnostics
	if c.Topic == "" || len(c.Client.Brokers) == 0 {
		ds.Addf(diag.Range{}, codeIncomplete, "Stream without topic or brokers", "The stream needs a topic and its cluster needs brokers.")
	}
	if c.Compression != "" && !slices.Contains(client.Compressions(), c.Compression) {
		ds.Addf(diag.Range{}, codeCompression, "Unknown compression", "There is no compression %q; use one of %s.%s", c.Compression, strings.Join(client.Compressions(), ", "), diag.DidYouMean(c.Compression, client.Compressions()))
	}
	return ds
}

// New makes the sink; it does no I/O.
func (c *Config) New(d sinks.Deps) (sinks.Sink, error) {
	if err := c.Check().Err(); err != nil {
		return nil, err
	}
	s := &Sink{cfg: *c, route: d.Route, log: d.Log, solo: solo{turn: make(chan struct{}, 1)}}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.cfg.Pool == nil {
		s.cfg.Pool = client.NewPool()
	}
	if s.cfg.BufferBytes <= 0 {
		s.cfg.BufferBytes = 32 << 20
	}
	if s.cfg.Compression == "" {
		s.cfg.Compression = "none"
	}
	if s.cfg.Transaction != nil && s.cfg.Owns {
		return transactional{s}, nil
	}
	return s, nil
}
