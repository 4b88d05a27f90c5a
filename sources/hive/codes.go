package hive

import "keystone/configs/diag"

const (
	codeMetastore = "KS4601"
	codeTable     = "KS4602"
)

// Codes documents the problems that this kind reports.
func Codes() []diag.Code {
	return []diag.Code{
		{Code: codeMetastore, Summary: "Invalid address of a metastore", Doc: "A metastore is spoken to by Thrift: thrift://HOST:PORT, or several of them with commas between."},
		{Code: codeTable, Summary: "Invalid table", Doc: "A table is DATABASE.TABLE; access_key and secret_key are given both or neither."},
	}
}
