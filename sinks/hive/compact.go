package hive

import (
	"time"

	"keystone/configs/diag"
	"keystone/configs/spec"
)

// Compact says which partitions are compacted, and how, as blocks declare it.
type Compact struct {
	Written  bool
	Target   int64
	MinFiles int
	Quiet    time.Duration
	Interval time.Duration
	Grace    time.Duration
	Rate     int64
}

func (c *Compact) option() *spec.Option {
	return spec.Nested("compact", "Merge the small files of partitions that no more rows come for. The merged files are in another folder, to which the partition is moved in the metastore, from one moment to the next: readers who ask it see each row once, before, in and after. "+
		"Late rows go to where the partition is. Who reads the folders without asking the metastore does not find compacted partitions. Needs `metastore`.", spec.Options{
		spec.Bytes("target", &c.Target, "Size of a merged file, about. Files of less than half of it are small; larger ones are moved as they are.").Default(int64(256<<20)).Between(1<<10, 4<<30).Also("target_size", "target_file_size"),
		spec.Int("min_files", &c.MinFiles, "A partition is compacted when it has that many small files that are not merged yet.").Default(8).Between(2, 10_000).Also("min_input_files"),
		spec.Duration("quiet", &c.Quiet, "How long a partition must not have got a file.").Default(time.Hour).Between(0, 366*86400).Eg(`"2h"`),
		spec.Duration("interval", &c.Interval, "How often partitions are looked for. Each look lists the table.").Default(10*time.Minute).Between(0.1, 86400),
		spec.Duration("grace", &c.Grace, "How long the old files stay after the partition was moved: longer than any query takes that has begun before.").Default(time.Hour).Between(0, 366*86400),
		spec.Bytes("rate", &c.Rate, "Bytes that are read in a second at most, so that rows that come are not held up. 0 is no bound.").Default(int64(32<<20)).Between(0, 1<<40),
	}).Presence(&c.Written)
}

func (c *Config) checkCompact(ds *diag.Diagnostics) {
	switch {
	case !c.Compact.Written:
	case c.Metastore.Address == "":
		ds.AddOptionf("compact", codeCompact, "Compaction needs a metastore", "compact { } moves a partition to another folder, and only a metastore can say so to readers from one moment to the next: without one they would see rows twice, or not at all. Add metastore and table, or remove the block; a longer roll.interval makes fewer files, too.")
	case len(c.PartitionBy) == 0:
		ds.AddOptionf("compact", codeCompact, "Compaction needs partitions", "A table without partition_by is written to at all times, so none of it is ever quiet. Add partition_by, or remove the block; a longer roll.interval makes fewer files, too.")
	}
}
