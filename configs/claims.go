package configs

import (
	"slices"

	"keystone/configs/addr"
	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/sinks"
)

// checkClaims refuses sinks that keep the same thing outside: each would undo what the other does.
func (d *decoder) checkClaims() {
	type claim struct {
		sink addr.Addr
		sinks.Claim
	}
	var made []claim
	for _, a := range sorted(d.c.Sinks) {
		c, ok := d.c.Sinks[a].Config.(sinks.Claimer)
		if !ok || d.broken[a] {
			continue
		}
		var ds diag.Diagnostics
		told := map[addr.Addr]bool{}
		mine := c.Claims()
		for _, x := range mine {
			for _, o := range made {
				if o.Thing != x.Thing || told[o.sink] || x.Form != "" && x.Form == o.Form || !slices.ContainsFunc(x.Places, func(p string) bool { return slices.Contains(o.Places, p) }) {
					continue
				}
				told[o.sink] = true
				ds.AddOptionf(x.Option, codeClash, "Kept by two sinks", "%s and %s both keep the %s, and each would undo what the other does. Give it another name in one of them, or write both routes to one sink.", o.sink, a, x.Thing)
			}
		}
		for _, x := range mine {
			made = append(made, claim{a, x})
		}
		d.scope(a, d.header(a), func(diags *diag.Diagnostics) { diags.Append(spec.Locate(d.bodies[a], ds)...) })
	}
}
