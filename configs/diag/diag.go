// Package diag holds what is wrong with a user's configuration: a stable
// code, a summary, a detail that says the way out, and the range it is about.
//
// It is a leaf: it imports nothing of Keystone's and no HCL, so that every
// package can report problems in one form.
package diag

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
)

// Pos is a place in a file, as HCL counts: Line and Column from 1, Column in
// grapheme clusters, Byte from 0.
type Pos struct {
	Line   int `json:"line"`
	Column int `json:"column"`
	Byte   int `json:"byte"`
}

// Range is a stretch of a file; End is the first position after it. The zero
// Range means that the problem has no place in a file.
type Range struct {
	File  string `json:"filename"`
	Start Pos    `json:"start"`
	End   Pos    `json:"end"`
}

// String gives file:line:column of the start, or the file alone where there
// is no line.
func (r Range) String() string {
	switch {
	case r.File == "":
		return "-"
	case r.Start.Line == 0:
		return r.File
	}
	return fmt.Sprintf("%s:%d:%d", r.File, r.Start.Line, r.Start.Column)
}

// IsZero tells that the range points nowhere.
func (r Range) IsZero() bool { return r == Range{} }

// Severity tells an error, which stops, from a warning, which does not.
type Severity string

// The severities; the strings are those of Terraform's validate -json.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// Diagnostic is one problem. Code is stable and documented (see Code);
// Summary is a short phrase without a final period; Detail is sentences that
// name what was found and what to do.
type Diagnostic struct {
	Severity Severity
	Code     string
	Summary  string
	Detail   string
	Range    Range
	Address  string // of the block instance, when there is one
	Hidden   bool   // the source at Range may hold a secret: show the place, never the text
	Option   string // the option that it is about ("tls.cert", "urls.0"), of one that has no Range yet: who has the block's body puts it in
}

// Error gives the diagnostic on one line, for logs and tests.
func (d Diagnostic) Error() string {
	var b strings.Builder
	if !d.Range.IsZero() {
		b.WriteString(d.Range.String())
		b.WriteString(": ")
	}
	fmt.Fprintf(&b, "%s (%s)", d.Summary, d.Code)
	if d.Detail != "" {
		b.WriteString(": ")
		b.WriteString(d.Detail)
	}
	return b.String()
}

// Diagnostics collects problems: all of them, not only the first.
type Diagnostics []Diagnostic

// Addf adds an error. The detail is a format.
func (ds *Diagnostics) Addf(rng Range, code, summary, detail string, args ...any) {
	*ds = append(*ds, Diagnostic{Severity: Error, Code: code, Summary: summary, Detail: fmt.Sprintf(detail, args...), Range: rng})
}

// Warnf adds a warning. The detail is a format.
func (ds *Diagnostics) Warnf(rng Range, code, summary, detail string, args ...any) {
	*ds = append(*ds, Diagnostic{Severity: Warning, Code: code, Summary: summary, Detail: fmt.Sprintf(detail, args...), Range: rng})
}

// AddOptionf adds an error about an option, named by its path from the block: "tls.cert"; "urls.0" is an
// element of a list, "settings.NAME" one of a map. Its range follows from where that is written.
func (ds *Diagnostics) AddOptionf(option, code, summary, detail string, args ...any) {
	ds.Addf(Range{}, code, summary, detail, args...)
	(*ds)[len(*ds)-1].Option = option
}

// WarnOptionf adds a warning about an option, as AddOptionf.
func (ds *Diagnostics) WarnOptionf(option, code, summary, detail string, args ...any) {
	ds.Warnf(Range{}, code, summary, detail, args...)
	(*ds)[len(*ds)-1].Option = option
}

// Append adds the problems of others.
func (ds *Diagnostics) Append(others ...Diagnostic) { *ds = append(*ds, others...) }

// Hide marks the problems from index from on as being about text that may
// hold a secret.
func (ds Diagnostics) Hide(from int) {
	for i := from; i < len(ds); i++ {
		ds[i].Hidden = true
	}
}

// HasErrors tells whether at least one is an error.
func (ds Diagnostics) HasErrors() bool {
	return slices.ContainsFunc(ds, func(d Diagnostic) bool { return d.Severity == Error })
}

// Sort orders by file and position, keeping the order of equals, and removes
// exact repetitions.
func (ds Diagnostics) Sort() Diagnostics {
	out := slices.Clone(ds)
	slices.SortStableFunc(out, func(a, b Diagnostic) int {
		return cmp.Or(cmp.Compare(a.Range.File, b.Range.File), cmp.Compare(a.Range.Start.Byte, b.Range.Start.Byte), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Summary, b.Summary), cmp.Compare(a.Detail, b.Detail))
	})
	return slices.Compact(out)
}

// Err gives nil without errors, else the diagnostics as one error.
func (ds Diagnostics) Err() error {
	if !ds.HasErrors() {
		return nil
	}
	return listError(ds)
}

type listError Diagnostics

// Error gives one diagnostic a line.
func (e listError) Error() string {
	lines := make([]string, 0, len(e))
	for _, d := range e {
		if d.Severity == Error {
			lines = append(lines, d.Error())
		}
	}
	return strings.Join(lines, "\n")
}

// Code documents a diagnostic's code: the generated reference lists them all,
// and a test holds that every code that the sources use is listed.
type Code struct {
	Code    string // KS1203
	Summary string
	Doc     string // why it is refused and what to do instead
}

// Nearest gives the candidate most like given, or "" if none is near enough
// to be meant: the "did you mean" of every message. Two neighbours that are
// swapped count as one slip; short words may have one, longer ones two.
func Nearest(given string, candidates []string) string {
	best, bestDistance := "", 3
	if len(given) < 5 {
		bestDistance = 2
	}
	for _, c := range candidates {
		if d := distance(given, c); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

func distance(a, b string) int {
	if len(a) == len(b) {
		for i := range len(a) - 1 {
			if a[i] != b[i] {
				if a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:] {
					return 1
				}
				break
			}
		}
	}
	return levenshtein.Distance(a, b, nil)
}

// DidYouMean gives ` Did you mean "x"?` or "".
func DidYouMean(given string, candidates []string) string {
	if near := Nearest(given, candidates); near != "" {
		return fmt.Sprintf(" Did you mean %q?", near)
	}
	return ""
}
