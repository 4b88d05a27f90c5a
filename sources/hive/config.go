// Package hive reads a table of Parquet files that a Hive Metastore knows: the files of its partitions, wherever
// these are, as sources/parquet reads files.
package hive

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/sources"
	"keystone/sources/hive/metastore"
	"keystone/sources/hive/storage"
	"keystone/sources/parquet"
)

// Kind is the entry of the catalog.
func Kind() sources.Kind {
	return sources.Kind{
		Name:   "hive",
		Cannot: map[string]string{"exactly_once": "its position is not kept in Kafka, so no transaction can hold it"},
		Doc: "Reads a table of Parquet files that a Hive Metastore knows, partition by partition in the order of their names, to its end. " +
			"A partition is read where the metastore says that it is, so a compacted one from its new place. What becomes of rows, and what is not read at all, is as with source \"parquet\". " +
			"Tables of other files are refused.",
		New: func() sources.Config { return new(Config) },
	}
}

// Config is the options of source "hive".
type Config struct {
	Metastore string
	Timeout   time.Duration
	Table     string
	EventTime string
	Location  storage.Location // how to get at places; where they are the metastore says
}

// Options declares them.
func (c *Config) Options() spec.Options {
	opts := spec.Options{
		spec.String("metastore", &c.Metastore, "Address of the metastore; several with commas between are tried in turn.").Required().Eg(`"thrift://metastore.example:9083"`).Also("metastore_uri", "uri", "uris"),
		spec.Duration("metastore_timeout", &c.Timeout, "How long the metastore may take for one answer.").Default(time.Minute).Between(1, 3600),
		spec.String("table", &c.Table, "The table, as DATABASE.TABLE.").Required().Eg(`"ads.plays"`),
		spec.String("event_time", &c.EventTime, "The column that meta.timestamp comes from, of times or of integers in milliseconds; a backfill chooses rows by it.").Default("").Eg(`"ts"`),
	}
	for _, o := range c.Location.Options() {
		if o.Name != "location" {
			opts = append(opts, o)
		}
	}
	return opts
}

// Check reports what cannot work.
func (c *Config) Check() diag.Diagnostics {
	var ds diag.Diagnostics
	if _, err := metastore.New(c.Metastore, c.Timeout); err != nil {
		ds.AddOptionf("metastore", codeMetastore, "Invalid address of a metastore", "metastore: %v.", err)
	}
	if db, name := metastore.Name(c.Table); db == "" || name == "" || strings.ContainsAny(name, "./ ") {
		ds.AddOptionf("table", codeTable, "Invalid name of a table", "table = %q: write DATABASE.TABLE.", c.Table)
	}
	return append(ds, c.Location.CheckKeys(codeTable)...)
}

// Bounded tells that reading ends.
func (*Config) Bounded() bool { return true }

// New makes the source.
func (c *Config) New(d sources.Deps) (sources.Source, error) {
	return parquet.New(c.Reading(d), d), nil
}

// Reading says what is read, for those that narrow it down.
func (c *Config) Reading(d sources.Deps) parquet.Reading {
	return parquet.Reading{Where: c.Table, EventTime: c.EventTime, Places: func(ctx context.Context) ([]parquet.Place, error) {
		places, err := c.places(ctx, d)
		if err != nil {
			for _, p := range places {
				err = errors.Join(err, p.Store.Close())
			}
			return nil, err
		}
		return places, nil
	}}
}

// places gives the folders of the table's partitions.
func (c *Config) places(ctx context.Context, d sources.Deps) (places []parquet.Place, err error) {
	m, err := metastore.New(c.Metastore, c.Timeout)
	if err != nil {
		return nil, sources.Fatal{Err: err}
	}
	defer m.Close() //nolint:errcheck // nothing is on its way
	db, name := metastore.Name(c.Table)
	t, err := m.Table(ctx, db, name)
	switch {
	case err != nil:
		return nil, err
	case t == nil:
		return nil, sources.Fatal{Err: fmt.Errorf("the metastore has no table %s", c.Table)}
	case !t.Parquet:
		return nil, sources.Fatal{Err: fmt.Errorf("the table %s does not consist of Parquet files, and others are not read", c.Table)}
	}
	root := place(t.Location)
	stores := map[string]storage.Store{}
	add := func(location string, keys []parquet.Value) error {
		at, folder := place(location), ""
		if rest, below := strings.CutPrefix(at+"/", root+"/"); below {
			at, folder = root, rest
		}
		store := stores[at]
		if store == nil {
			l := c.Location
			l.URL = at
			var err error
			if store, err = l.Open(ctx, d.Dir, d.Resolve); err != nil {
				return fmt.Errorf("partition at %s: %w", location, err)
			}
			stores[at] = store
		}
		places = append(places, parquet.Place{Store: store, Folder: folder, Keys: keys, Plain: true})
		return nil
	}
	if len(t.Partitions) == 0 {
		return places, add(t.Location, nil)
	}
	err = m.EachPartition(ctx, db, name, "", func(p metastore.Partition) error {
		if len(p.Values) != len(t.Partitions) {
			return fmt.Errorf("a partition of %s has %d values for %d keys", c.Table, len(p.Values), len(t.Partitions))
		}
		keys := make([]parquet.Value, len(p.Values))
		for i, v := range p.Values {
			keys[i] = parquet.Value{Name: t.Partitions[i].Name, Text: v, Null: v == parquet.NullPartition}
		}
		return add(p.Location, keys)
	})
	return places, err
}

// place gives a location as storage has it.
func place(location string) string {
	location = strings.TrimSuffix(location, "/")
	if path, ok := strings.CutPrefix(location, "file:"); ok {
		return "/" + strings.TrimLeft(path, "/")
	}
	for _, s3 := range []string{"s3a://", "s3n://"} {
		if rest, ok := strings.CutPrefix(location, s3); ok {
			return "s3://" + rest
		}
	}
	return location
}
