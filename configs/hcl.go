package configs

import (
	"github.com/hashicorp/hcl/v2"

	"keystone/configs/diag"
)

func toPos(p hcl.Pos) diag.Pos { return diag.Pos{Line: p.Line, Column: p.Column, Byte: p.Byte} }

func toRange(r hcl.Range) diag.Range {
	return diag.Range{File: r.Filename, Start: toPos(r.Start), End: toPos(r.End)}
}

// maxHCL bounds how many of HCL's messages about one text are kept: garbage
// has hundreds of thousands.
const maxHCL = 100

// fromHCL gives HCL's own diagnostics our code.
func fromHCL(hclDiags hcl.Diagnostics, code string) diag.Diagnostics {
	var diags diag.Diagnostics
	for i, d := range hclDiags {
		if i >= maxHCL && diags.HasErrors() {
			diags.Addf(diags[len(diags)-1].Range, code, "Too many problems", "There are %d more like these.", len(hclDiags)-i)
			break
		}
		x := diag.Diagnostic{Severity: diag.Error, Code: code, Summary: d.Summary, Detail: d.Detail}
		if d.Severity == hcl.DiagWarning {
			x.Severity = diag.Warning
		}
		if d.Subject != nil {
			x.Range = toRange(*d.Subject)
		}
		diags.Append(x)
	}
	return diags
}
