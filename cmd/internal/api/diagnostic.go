package api

import (
	"bytes"
	"strings"

	"keystone/configs/diag"
)

// Diagnostic is one problem in the form of Terraform's `validate -json`, with
// the code beside it.
type Diagnostic struct {
	Severity string      `json:"severity"`
	Code     string      `json:"code,omitempty"`
	Summary  string      `json:"summary"`
	Detail   string      `json:"detail"`
	Address  string      `json:"address,omitempty"`
	Range    *diag.Range `json:"range,omitempty"`
	Snippet  *Snippet    `json:"snippet,omitempty"`
}

// Snippet is the source that a diagnostic is about. The offsets are bytes in Code.
type Snippet struct {
	Context              *string `json:"context"` // the block around, or null
	Code                 string  `json:"code"`
	StartLine            int     `json:"start_line"`
	HighlightStartOffset int     `json:"highlight_start_offset"`
	HighlightEndOffset   int     `json:"highlight_end_offset"`
	Values               []any   `json:"values"` // always empty; Terraform's readers expect it
}

// NewDiagnostics gives the shown form; files are the sources by the name that
// ranges have, and may lack some or all of them.
func NewDiagnostics(ds diag.Diagnostics, files map[string][]byte) []Diagnostic {
	out := make([]Diagnostic, 0, len(ds))
	for _, d := range ds {
		s := Diagnostic{Severity: string(d.Severity), Code: d.Code, Summary: d.Summary, Detail: d.Detail, Address: d.Address}
		if !d.Range.IsZero() {
			rng := d.Range
			s.Range = &rng
			if !d.Hidden {
				s.Snippet = newSnippet(rng, files[rng.File])
			}
		}
		out = append(out, s)
	}
	return out
}

// maxSnippetLine bounds a shown line: generated files have lines of megabytes.
const maxSnippetLine = 4096

func newSnippet(rng diag.Range, src []byte) *Snippet {
	if rng.Start.Byte < 0 || rng.Start.Byte > len(src) || len(src) == 0 {
		return nil
	}
	from := bytes.LastIndexByte(src[:rng.Start.Byte], '\n') + 1
	to := len(src)
	if i := bytes.IndexByte(src[rng.Start.Byte:], '\n'); i >= 0 {
		to = rng.Start.Byte + i
	}
	line := bytes.TrimRight(src[from:to], "\r")
	if len(line) > maxSnippetLine || bytes.IndexByte(line, 0) >= 0 {
		return nil
	}
	start := min(rng.Start.Byte-from, len(line))
	end := min(max(rng.End.Byte-from, start), len(line))
	s := &Snippet{Code: string(line), StartLine: rng.Start.Line, HighlightStartOffset: start, HighlightEndOffset: end, Values: []any{}}
	if c := enclosing(src, from); c != "" && c != strings.TrimSpace(headerOf(line)) {
		s.Context = &c
	}
	return s
}

// enclosing gives the header of the top-level block around the line that
// begins at from: the last line before it that begins in the first column
// with a letter and ends in a brace, unless a closing brace stands between.
func enclosing(src []byte, from int) string {
	if from < len(src) && isLetter(src[from]) {
		return ""
	}
	for end := from - 1; end > 0; {
		begin := bytes.LastIndexByte(src[:end], '\n') + 1
		line := src[begin:end]
		switch {
		case len(line) > 0 && line[0] == '}':
			return ""
		case len(line) > 0 && isLetter(line[0]):
			return headerOf(line)
		}
		end = begin - 1
	}
	return ""
}

// headerOf gives a block's type and labels, or "" if the line opens no block.
func headerOf(line []byte) string {
	h, _, ok := bytes.Cut(line, []byte("{"))
	if !ok || len(h) > 200 {
		return ""
	}
	return strings.TrimSpace(string(h))
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
