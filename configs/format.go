package configs

import (
	"github.com/hashicorp/hcl/v2/hclwrite"

	"keystone/configs/diag"
)

// Format gives a file of a configuration in the canonical form, whatever it
// declares; nil with errors of its syntax. name is what ranges say.
func Format(name string, src []byte) ([]byte, diag.Diagnostics) {
	if _, diags := parseSource(src, name); diags.HasErrors() {
		return nil, diags
	}
	return hclwrite.Format(src), nil
}
