package view

import (
	"encoding/json"
	"io"

	"keystone/cmd/internal/api"
)

// JSON prints v with indentation and a final newline. Angle brackets stay as
// they are: no browser reads this.
func JSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// JSONLine prints v on one line.
func JSONLine(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// Validation is `validate -json`.
type Validation struct {
	FormatVersion string           `json:"format_version"`
	Valid         bool             `json:"valid"`
	ErrorCount    int              `json:"error_count"`
	WarningCount  int              `json:"warning_count"`
	Diagnostics   []api.Diagnostic `json:"diagnostics"`
}

// NewValidation counts.
func NewValidation(ds []api.Diagnostic) Validation {
	v := Validation{FormatVersion: api.FormatVersion, Diagnostics: ds}
	for _, d := range ds {
		if d.Severity == "warning" {
			v.WarningCount++
		} else {
			v.ErrorCount++
		}
	}
	v.Valid = v.ErrorCount == 0
	return v
}
