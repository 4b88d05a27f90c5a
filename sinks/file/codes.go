package file

import "keystone/configs/diag"

// The codes of this kind.
const (
	codePath   = "KS5101"
	codeRotate = "KS5102"
)

// Codes documents the diagnostics of this package.
func Codes() []diag.Code {
	return []diag.Code{
		{Code: codePath, Summary: "Invalid path of a file sink", Doc: "`path` names a file, not a folder, and has no `..` in it after its first placeholder: files are only made below the folder that is written before the first placeholder."},
		{Code: codeRotate, Summary: "Rotation of what is no file", Doc: "`rotate_bytes` and `rotate_interval` number files. A device such as /dev/null has none: leave them out."},
	}
}
