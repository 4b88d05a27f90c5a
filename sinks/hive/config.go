// Package hive writes events to Parquet files in Hive's layout, each row exactly once.
//
// For each partition of what is read there is a lane: the open files of one commit, one for each value of
// partition_by. A cut hands them to the lane's committer, which finishes and stages the files, makes
// the manifest (sources/hive/chain), publishes the files, and has their partitions registered.
//
// What is open is bounded by max_open_bytes over all lanes: beyond it row groups are written early, and
// files ended early, the largest first. Encoded bytes go to the staged file itself in a folder, and to a
// scratch file on the local disk before an object store.
//
// Locks: lane.mu is held while a lane's files are changed, also while encoded bytes go to disk. A lane that
// makes room in others only tries their locks. Sink.mu comes after lane.mu, and is held for moments.
package hive

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"

	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/dsl/types"
	"keystone/sinks"
	"keystone/sinks/hive/rows"
	"keystone/sources/hive/storage"
)

// Kind is the entry of the catalog.
func Kind() sinks.Kind {
	return sinks.Kind{
		Name:    "hive",
		Letters: "makes rows durable together with the positions of the route that writes it, and a dead letter must be durable before",
		Cannot: map[string]string{
			"exactly_once": "files take part in no transaction of Kafka. With at_least_once each row is in the table exactly once already; only dead letters may repeat",
			"at_most_once": "where reading goes on is stored with the rows, so nothing is lost and nothing is repeated. Use at_least_once",
		},
		Doc: "Writes events to Parquet files in the layout of Hive (`dt=2026-01-02/hour=03/….parquet`), in a folder or in an object store. " +
			"Each event that is read becomes a row exactly once: files are staged, a manifest that says from which offset to which they go is put if there is none (that is the commit), and then they get their names, which are the same at each attempt. " +
			"After a crash the route goes on where the chain of manifests ends, and a worker that was replaced cannot commit. Readers of the folder see whole files, each row at most once at any time. " +
			"The columns come from the type of the route's output, which must be known. An event that does not fit them is a dead letter. " +
			"Late events go to the partition that they belong to. `_keystone` beside the partitions holds the manifests: do not delete it, and exclude it where a reader takes every file. " +
			"After a rewind what is read again is written again, in files whose names have another generation (`-g1-`).",
		New: func() sinks.Config { return new(Config) },
	}
}

// Config is the options of sink "hive".
type Config struct {
	Location    storage.Location
	Table       string
	Metastore   Metastore
	PartitionBy []spec.Field

	PartitionTypes map[string]string // by name; others are string

	Compression rows.Compression
	JSONText    bool

	RollBytes    int64
	RollRows     int64
	RollInterval time.Duration

	Compact Compact

	MaxOpenBytes      int64
	MaxOpenPartitions int
	Scratch           string
	Grace             time.Duration
}

// Options declares them.
func (c *Config) Options() spec.Options {
	return slices.Concat(c.Location.Options(), spec.Options{
		spec.String("table", &c.Table, "Name of the table in the metastore, as `DATABASE.TABLE`.").Default("").Eg(`"ads.plays"`),
		spec.ExprMap("partition_by", &c.PartitionBy, "The partition columns and their values over the output event, in the order of the folders. A value becomes text as in a header; nil and the empty text become `__HIVE_DEFAULT_PARTITION__`, which readers take for null. A column of the same name as its expression (`country = \"country\"`) is not stored in the files again.").
			OverOutput().Default([]spec.Field(nil)).Eg(`{ dt = "format_time(ts, '2006-01-02')", hour = "format_time(ts, '15')" }`),
		spec.StringMap("partition_types", &c.PartitionTypes, "Types of partition columns in the metastore, where they are not `string`, as `{ dt = \"date\", hour = \"int\" }`: `int`, `bigint`, `smallint`, `tinyint` or `date`. A value is written as Hive writes the type (`hour=3`, also of the text 03); an event whose value is of another type is a dead letter. Types never change once the table is there.").
			Default(map[string]string(nil)),
		spec.Enum("compression", &c.Compression, "How pages are packed: zstd is smaller, snappy takes less time.", rows.Zstd, rows.Snappy, rows.None).Default(rows.Zstd),
		spec.Bool("json_text", &c.JSONText, "Store fields of which no type is known as their JSON text, in columns of type string. Without it they are errors.").Default(false),
		spec.Nested("roll", "When files end. A commit comes when `interval` is over, or sooner when most of what is open is in files that are full.", spec.Options{
			spec.Bytes("bytes", &c.RollBytes, "Size of a full file, about.").Default(int64(128<<20)).Between(1<<10, 4<<30),
			spec.Int64("rows", &c.RollRows, "Rows of a full file. 0 is no bound.").Default(int64(0)).AtLeast(0),
			spec.Duration("interval", &c.RollInterval, "How long events wait at most to be in the table.").Default(5*time.Minute).Between(0.1, 24*3600).Eg(`"10m"`),
		}),
		c.Compact.option(),
		spec.Bytes("max_open_bytes", &c.MaxOpenBytes, "Memory for open files, of all partitions of the route. Beyond it the largest are written out early, in smaller row groups, and if that does not help in smaller files. The process takes up to two thirds more, for garbage that is not collected yet.").Default(int64(512<<20)).Between(1<<20, 1<<40),
		spec.Int("max_open_partitions", &c.MaxOpenPartitions, "Open files at most, over all partitions of the table and of what is read. Beyond it those not written to for the longest are ended.").Default(10_000).Between(1, 1_000_000),
		spec.String("scratch", &c.Scratch, "Folder on the local disk for what is not uploaded yet; empty is the system's own for temporary files. A table in a folder needs none.").Default("").Eg(`"/var/tmp/keystone"`),
		spec.Duration("staging_grace", &c.Grace, "How old staged files must be that a crashed worker left, before they are deleted.").Default(time.Hour).AtLeast(60),
	}, c.Metastore.options())
}

var (
	partitionName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,127}$`)
	tableName     = regexp.MustCompile(`^[a-z0-9_]{1,128}\.[a-z0-9_]{1,128}$`)
)

// Check reports what the declarations cannot express.
func (c *Config) Check() diag.Diagnostics {
	ds := c.Location.Check(codeLocation)
	for _, f := range c.PartitionBy {
		switch {
		case !partitionName.MatchString(f.Name):
			ds.Addf(f.NameRange, codePartition, "Invalid name of a partition", "%q is no name that Hive tells apart from others: write lower case letters, digits and underscores.", f.Name)
		case f.IsObject:
			ds.Addf(f.NameRange, codePartition, "A partition is one value", "%q is an object. Give each of its members a partition of its own.", f.Name)
		}
	}
	if c.Table != "" && !tableName.MatchString(c.Table) {
		ds.AddOptionf("table", codeTable, "Invalid table", "table = %q: write DATABASE.TABLE, in lower case letters, digits and underscores.", c.Table)
	}
	ds = append(ds, c.checkKeyTypes()...)
	c.checkCompact(&ds)
	return append(ds, c.checkMetastore()...)
}

// Misfits says what of a route's output cannot be columns.
func (c *Config) Misfits(t types.Type) []sinks.Misfit {
	_, problems := c.schema(t)
	out := make([]sinks.Misfit, len(problems))
	for i, p := range problems {
		out[i] = sinks.Misfit{Path: p.Column, Text: p.Summary + ". " + p.Detail}
		if p.Column != "" {
			out[i].Text = p.Summary + ": " + p.Column + ". " + p.Detail
		}
	}
	return out
}

// schema gives the columns of the files. A partition that is a field itself is stored in the path alone.
func (c *Config) schema(t types.Type) (*rows.Schema, []rows.Problem) {
	o := rows.SchemaOptions{JSONText: c.JSONText}
	for _, f := range c.PartitionBy {
		if strings.TrimSpace(f.Expr.S) == f.Name {
			o.Omit = append(o.Omit, f.Name)
		}
		o.Partitions = append(o.Partitions, f.Name)
	}
	return rows.NewSchema(t, o)
}

// New makes a sink.
func (c *Config) New(d sinks.Deps) (sinks.Sink, error) {
	schema, problems := c.schema(d.Type)
	if len(problems) > 0 {
		var errs []error
		for _, p := range problems {
			errs = append(errs, errors.New(p.String()))
		}
		return nil, sinks.Permanent{Err: errors.Join(errs...)}
	}
	r, err := c.registrar(d)
	if err != nil {
		return nil, err
	}
	return newSink(*c, d, schema, r), nil
}

// times lists the columns of the files that are times.
func times(t types.Type, omit []spec.Field) []string {
	var out []string
	for _, f := range t.Fields {
		if f.Type.IsTime() && !slices.ContainsFunc(omit, func(p spec.Field) bool { return p.Name == f.Name }) {
			out = append(out, f.Name)
		}
	}
	return out
}
