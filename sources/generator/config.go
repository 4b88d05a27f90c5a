// Package generator makes realistic playback events out of a seed. Event n of
// a partition is a pure function of the seed, the partition and n, so reading
// goes on anywhere without keeping state.
package generator

import (
	"math"
	"time"

	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/sources"
)

// Kind is the entry of the catalog.
func Kind() sources.Kind {
	return sources.Kind{
		Name:   "generator",
		Cannot: map[string]string{"exactly_once": "its position is not kept in Kafka, so no transaction can hold it"},
		Doc: "Makes playback events of about 400 bytes (event_id, ts, user_id, country, device, title_id, action, position_ms, duration_ms, session, tags, payload) for demos, tests and measurements. " +
			"Few users and titles make most of the events, as in life; a user keeps a country, and has two devices. " +
			"The same seed gives the same events: with `start` byte for byte, without it `ts` is the time at which the event is made. " +
			"A position is the number of the next event, so that a restart continues the sequence. The message key is the user_id. " +
			"About 20 % of the events pass `country in ['BR', 'US'] && device.type == 'tv' && position_ms > 1000`.",
		Times: true,
		New:   func() sources.Config { return new(Config) },
	}
}

// Config is the options of source "generator".
type Config struct {
	Rate       float64
	Count      int64
	Seed       int64
	Partitions int
	Start      string
	Step       time.Duration
}

// Options declares them.
func (c *Config) Options() spec.Options {
	return spec.Options{
		spec.Float("rate", &c.Rate, "Events a second over all partitions; 0 is as fast as they are taken.").Default(float64(0)).Between(0, 1e9).Eg("1000"),
		spec.Int64("count", &c.Count, "Events over all partitions, after which the source ends; 0 is endless.").Default(int64(0)).AtLeast(0).Eg("1000000"),
		spec.Int64("seed", &c.Seed, "Another seed gives other events.").Default(int64(1)).Effect(spec.Replace),
		spec.Int("partitions", &c.Partitions, "Partitions, which take turns. The events of a user may be in several.").Default(1).Between(1, 1024).Effect(spec.Replace),
		spec.String("start", &c.Start, "Time of the first event of each partition, as RFC 3339 has it; empty is the time at which an event is made.").Default("").Eg(`"2026-01-01T00:00:00Z"`),
		spec.Duration("step", &c.Step, "Time between an event and the next of its partition, where `start` is set.").Default(10*time.Millisecond).Between(0, 86400),
	}
}

// Check reports an unreadable start.
func (c *Config) Check() diag.Diagnostics {
	var ds diag.Diagnostics
	if _, err := c.start(); err != nil {
		ds.AddOptionf("start", codeStart, "Invalid start of a generator", "start = %q is not a time as RFC 3339 has it. Write it as \"2026-01-01T00:00:00Z\".", c.Start)
	}
	if math.IsNaN(c.Rate) || math.IsInf(c.Rate, 0) {
		ds.AddOptionf("rate", codeRate, "Invalid rate of a generator", "rate must be a finite number of events a second.")
	}
	return ds
}

func (c *Config) start() (time.Time, error) {
	if c.Start == "" {
		return time.Time{}, nil
	}
	return time.Parse(time.RFC3339, c.Start)
}

// Bounded tells whether there is a count.
func (c *Config) Bounded() bool { return c.Count > 0 }

// New makes the source.
func (c *Config) New(d sources.Deps) (sources.Source, error) {
	start, err := c.start()
	if err != nil {
		return nil, sources.Fatal{Err: err}
	}
	return newSource(*c, start), nil
}
