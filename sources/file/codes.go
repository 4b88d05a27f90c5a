package file

import "keystone/configs/diag"

// The codes of this kind.
const (
	codeEmpty      = "KS4101"
	codePattern    = "KS4102"
	codeFollowGzip = "KS4103"
)

// Codes documents the diagnostics of this package.
func Codes() []diag.Code {
	return []diag.Code{
		{Code: codeEmpty, Summary: "No path to read", Doc: "`path` of a source \"file\" names a file, or several with `*`, `?` and `[…]`. To read what is piped into the process use a source \"stdin\"."},
		{Code: codePattern, Summary: "Invalid path pattern", Doc: "A pattern has `*` (any run of characters but `/`), `?` (one character), `[a-z]` (one of), and `\\` before a character that stands for itself. `**` is not supported: write one `*` for each folder, or one source for each depth."},
		{Code: codeFollowGzip, Summary: "A compressed file cannot be followed", Doc: "`follow` waits for lines that are added. The end of a compressed file says nothing until its frame is complete, so only plain files are followed. Follow the plain file before it is compressed, or read finished files without `follow`."},
	}
}
