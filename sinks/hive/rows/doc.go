// Package rows writes events to Parquet files: raw JSON in, columns out.
//
// A Schema says which columns a route's output type has, in the file and in a
// Hive metastore; a Writer scans each event once, appends its values to the
// columns, and is left unchanged by an event that does not fit (RowError). A Pool and
// a Parser are what many open writers share.
//
// # Types
//
//	bool                             BOOLEAN                      boolean
//	int                              INT64                        bigint
//	float                            DOUBLE                       double
//	decimal(P, S)                    FIXED_LEN_BYTE_ARRAY DECIMAL decimal(P,S)
//	timestamp_ms, timestamp_rfc3339  INT64 TIMESTAMP(MICROS, UTC) timestamp
//	date                             INT32 DATE                   date
//	string                           BYTE_ARRAY STRING            string
//	bytes                            BYTE_ARRAY                   binary
//	list(T)                          LIST, three levels           array<T>
//	map(T)                           MAP                          map<string,T>
//	object({…})                      group                        struct<…>
//	any, open objects                a problem; or, if asked for, their JSON text as a string
//
// Both timestamps are microseconds of an instant: Hive 4 and Spark have no finer
// one that both read, and one unit for both lets files of both be read as one
// table. Digits of RFC 3339 text behind the microsecond are cut off. Decimals
// are as Hive itself writes them, in as few bytes as the precision needs.
//
// Fields that are not optional are REQUIRED columns, and an event without one does not
// fit. Elements of lists and values of maps may be null, since no type says otherwise.
//
// # What Arrow does and what stands here
//
// The schema, the statistics' form and the footer are Arrow's. Pages are
// built here, for three reasons: Arrow makes a new zstd encoder for each
// page; its column writers hold several pages' worth of buffers per column, too much
// for thousands of files; and whether a dictionary pays must be known when the
// file is opened, whereas here the first page of each chunk decides.
//
// A Writer, a Parser and what they share are for one goroutine at a time; a
// Pool is for all.
package rows
