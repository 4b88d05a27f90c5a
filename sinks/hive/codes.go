package hive

import "keystone/configs/diag"

// The codes of this kind.
const (
	codeLocation  = "KS5301"
	codePartition = "KS5302"
	codeTable     = "KS5303"
	codeMetastore = "KS5304"
	codeCompact   = "KS5305"
)

// Codes documents the diagnostics of this package.
func Codes() []diag.Code {
	return []diag.Code{
		{Code: codeLocation, Summary: "Invalid location of a table", Doc: "`location` is a folder, or `s3://BUCKET/PATH`, `gs://BUCKET/PATH`, `azblob://CONTAINER/PATH`, without credentials in it. `endpoint`, `region`, `path_style`, `access_key` and `secret_key` are for `s3://`."},
		{Code: codePartition, Summary: "Invalid partition of a table", Doc: "`partition_by` maps the names of partition columns, in lower case as Hive has them, to expressions over the output event, each of which gives one value."},
		{Code: codeTable, Summary: "Invalid table", Doc: "`table` is `DATABASE.TABLE`, in lower case letters, digits and underscores, as metastores have such names."},
		{Code: codeMetastore, Summary: "Invalid metastore", Doc: "`metastore` is `thrift://HOST:PORT`, or several of them with commas between. It needs a `table`, and `table_location` is where its readers find `location`: the same place in their words."},
		{Code: codeCompact, Summary: "Compaction without a meaning", Doc: "`compact { }` moves a partition to another folder, which only readers learn who ask a metastore: it needs `metastore` and `table`, and a table that has partitions."},
	}
}
