// Package parquet reads Parquet files: folders of them, in the layout of Hive or any other, on
// a disk or in an object store. The columns that a route does not use are not read, nor row groups
// and partitions that its filter cannot let through.
package parquet

import (
	"context"
	"errors"
	"fmt"

	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/sources"
	"keystone/sources/hive/chain"
	"keystone/sources/hive/storage"
)

// Kind is the entry of the catalog.
func Kind() sources.Kind {
	return sources.Kind{
		Name:   "parquet",
		Cannot: map[string]string{"exactly_once": "its position is not kept in Kafka, so no transaction can hold it"},
		Doc: "Reads the Parquet files below a folder, in the order of their names, to their end. Each row becomes a JSON object with the columns as fields: times in the form that `schema` declares for the field, else as RFC 3339; " +
			"decimals as numbers with all their digits; bytes as base64; NaN and infinities as null. Names of fields are those of `schema` where a column differs in case only. " +
			"Folders called NAME=VALUE are partition columns, and are fields too where the files have no such column. Files and folders whose names begin with `_` or a dot are left out, as are files that are not called *.parquet. " +
			"Only the columns that the route's expressions use are read (all of them where it has no `project`), and neither partitions nor row groups in which no row can pass `filter`, judged by comparisons with constants that all must hold; an error that an expression would have made on such a row is not made. " +
			"A position is the number of a row over all files as they were at the first start: where files come, go or change afterwards, the source is refused rather than read wrongly.",
		New: func() sources.Config { return new(Config) },
	}
}

// Config is the options of source "parquet".
type Config struct {
	Location  storage.Location
	EventTime string
}

// Options declares them.
func (c *Config) Options() spec.Options {
	return append(c.Location.Options(),
		spec.String("event_time", &c.EventTime, "The column that meta.timestamp comes from, of times or of integers in milliseconds; a backfill chooses rows by it.").Default("").Eg(`"ts"`))
}

// Check reports what cannot work.
func (c *Config) Check() diag.Diagnostics { return c.Location.Check(codeLocation) }

// Bounded tells that reading ends.
func (*Config) Bounded() bool { return true }

// New makes the source.
func (c *Config) New(d sources.Deps) (sources.Source, error) { return New(c.Reading(d), d), nil }

// Reading says what is read, for those that narrow it down.
func (c *Config) Reading(d sources.Deps) Reading {
	return Reading{
		Where: c.Location.URL, EventTime: c.EventTime,
		Places: func(ctx context.Context) ([]Place, error) {
			store, err := c.Location.Open(ctx, d.Dir, d.Resolve)
			if err != nil {
				return nil, err
			}
			compacted, err := chain.AnyCompacted(ctx, store)
			if err == nil && compacted {
				err = sources.Fatal{Err: fmt.Errorf("%s is a table with compacted partitions, which are where its metastore says and no more in the folders of their names: read it by a source of kind \"hive\"", store)}
			}
			if err != nil {
				return nil, errors.Join(err, store.Close())
			}
			return []Place{{Store: store}}, nil
		},
	}
}
