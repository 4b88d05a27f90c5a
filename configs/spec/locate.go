package spec

import (
	"strings"

	"keystone/configs/diag"
)

// Locate gives problems that name an option the range where that is written in the body: the element, else
// the option, else the nested block that it belongs to, and none where even that is not written. What is written at
// a secret is never shown.
func Locate(body Body, diags diag.Diagnostics) diag.Diagnostics {
	for i := range diags {
		d := &diags[i]
		if d.Option == "" {
			continue
		}
		if d.Range.IsZero() {
			var secret bool
			d.Range, secret = body.at(d.Option)
			d.Hidden = d.Hidden || secret
		}
		d.Option = ""
	}
	return diags
}

func (b Body) at(option string) (rng diag.Range, secret bool) {
	name, rest, _ := strings.Cut(option, ".")
	if nested, ok := b.Blocks[name]; ok {
		if rng, secret = nested.at(rest); rng.IsZero() {
			rng = nested.Range
		}
		return rng, secret
	}
	a, ok := b.Attrs[name]
	if !ok {
		return diag.Range{}, false
	}
	if item, ok := a.Items[rest]; ok {
		return item, false
	}
	_, secret = a.Value.(Secret)
	return a.Range, secret
}
