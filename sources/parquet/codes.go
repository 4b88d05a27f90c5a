package parquet

import "keystone/configs/diag"

const codeLocation = "KS4501"

// Codes documents the problems that this kind reports.
func Codes() []diag.Code {
	return []diag.Code{
		{Code: codeLocation, Summary: "Invalid location of a table", Doc: "location is a folder, or s3://, gs:// or azblob:// with a bucket and a path. Credentials are not part of it."},
	}
}
