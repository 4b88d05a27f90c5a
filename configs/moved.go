package configs

import (
	"maps"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"keystone/configs/addr"
	"keystone/configs/diag"
)

// movedAndRemoved reads the blocks moved and removed. The addresses in them
// name blocks that are no longer there, so they are never evaluated.
func (l *loader) movedAndRemoved() ([]Moved, []Removed) {
	var moved []Moved
	for _, b := range l.tree.moved {
		l.onlyAttrs(b, "from", "to")
		from, ok := l.staticAddr(b, "from")
		to, toOK := l.staticAddr(b, "to")
		if ok && toOK {
			moved = append(moved, Moved{From: from, To: to, Range: b.header})
		}
	}
	var removed []Removed
	for _, b := range l.tree.removed {
		l.onlyAttrs(b, "from", "destroy")
		from, ok := l.staticAddr(b, "from")
		r := Removed{From: from, Range: b.header}
		if a := b.body.Attributes["destroy"]; a != nil {
			v, evaluated := l.value(a.Expr, nil)
			if evaluated && (v.IsNull() || v.ContainsMarked() || v.Type() != cty.Bool) {
				l.diags.Addf(toRange(a.Expr.Range()), codeMoved, "Wrong type of value", "destroy is true or false.")
			} else if evaluated {
				r.Destroy = v.True()
			}
		}
		if ok {
			removed = append(removed, r)
		}
	}
	return moved, removed
}

func (l *loader) onlyAttrs(b *block, names ...string) {
	for _, a := range sortedAttrs(b.body) {
		known := false
		for _, n := range names {
			known = known || n == a.Name
		}
		if !known {
			l.diags.Addf(toRange(a.NameRange), codeMoved, "Unknown option", "There is no option %q here.%s", a.Name, diag.DidYouMean(a.Name, names))
		}
	}
	for _, x := range b.body.Blocks {
		l.diags.Addf(toRange(x.DefRange()), codeMoved, "Unknown nested block", "There is no block %q here.", x.Type)
	}
}

func (l *loader) staticAddr(b *block, option string) (addr.Addr, bool) {
	a := b.body.Attributes[option]
	if a == nil {
		l.diags.Addf(b.header, codeMoved, "Missing option", "The option %q is required: an address, such as route.plays.", option)
		return addr.Addr{}, false
	}
	x, ok := addrOf(a.Expr)
	if !ok {
		l.diags.Addf(toRange(a.Expr.Range()), codeMoved, "Not an address", "Write the address itself, such as route.plays or route.plays[\"eu\"], without quotes around it.")
		return addr.Addr{}, false
	}
	for _, t := range referenceTypes {
		if t == x.Type {
			return x, true
		}
	}
	l.diags.Addf(toRange(a.Expr.Range()), codeMoved, "Not an address", "An address begins with %s.%s", joinWords(referenceTypes), diag.DidYouMean(x.Type, referenceTypes))
	return addr.Addr{}, false
}

func addrOf(expr hclsyntax.Expression) (addr.Addr, bool) {
	t, diags := hcl.AbsTraversalForExpr(expr)
	if diags.HasErrors() || len(t) < 2 || len(t) > 3 {
		return addr.Addr{}, false
	}
	name, ok := t[1].(hcl.TraverseAttr)
	if !ok || !addr.IsLabel(name.Name) {
		return addr.Addr{}, false
	}
	a := addr.New(t.RootName(), name.Name)
	if len(t) == 3 {
		index, ok := t[2].(hcl.TraverseIndex)
		if !ok || index.Key.IsNull() || index.Key.Type() != cty.String {
			return addr.Addr{}, false
		}
		a = a.Instance(index.Key.AsString())
	}
	return a, true
}

// checkMoved holds moved and removed against each other and what is declared.
func (d *decoder) checkMoved() {
	declared := maps.Clone(d.failed)
	if declared == nil {
		declared = map[addr.Addr]bool{}
	}
	for a := range d.bodies {
		declared[a], declared[a.Block()] = true, true
	}
	gone := map[addr.Addr]diag.Range{}
	to := map[addr.Addr]diag.Range{}
	next := map[addr.Addr]addr.Addr{}
	for _, m := range d.c.Moved {
		switch {
		case m.From.Type != m.To.Type:
			d.diags.Addf(m.Range, codeMoved, "Moved to another type", "%s cannot become %s: a block keeps its type.", m.From, m.To)
			continue
		case m.From == m.To:
			d.diags.Addf(m.Range, codeMoved, "Moved to itself", "%s is already its name.", m.From)
			continue
		case d.has(m.From):
			d.diags.Addf(m.Range, codeMoved, "Moved block is still there", "%s is declared, so it has not moved. Remove its block or this one.", m.From)
		}
		if first, twice := gone[m.From]; twice {
			d.diags.Addf(m.Range, codeMoved, "Moved twice", "%s has already moved, at %s.", m.From, first)
		}
		if first, twice := to[m.To]; twice {
			d.diags.Addf(m.Range, codeMoved, "Two moved to one", "Another block has already moved to %s, at %s.", m.To, first)
		}
		gone[m.From], to[m.To], next[m.From] = m.Range, m.Range, m.To
	}
	for _, m := range d.c.Moved {
		if m.From == m.To {
			continue
		}
		end, steps := m.To, 0
		for ; steps <= len(next); steps++ {
			n, on := next[end]
			if !on {
				break
			}
			end = n
		}
		switch {
		case steps > len(next):
			d.diags.Addf(m.Range, codeMoved, "Moved in a circle", "%s moves on until it is back where it was.", m.From)
		case m.From.Type == m.To.Type && !declared[end]:
			d.diags.Addf(m.Range, codeMoved, "Moved to nothing", "There is no %s. To let go of %s write removed { from = %s }.", end, m.From, m.From)
		}
	}
	for _, r := range d.c.Removed {
		if d.has(r.From) {
			d.diags.Addf(r.Range, codeMoved, "Removed block is still there", "%s is declared. Remove its block or this one.", r.From)
		}
		if at, both := gone[r.From]; both {
			d.diags.Addf(r.Range, codeMoved, "Moved and removed", "%s has moved, at %s. Keep one of the two.", r.From, at)
		}
		gone[r.From] = r.Range
	}
}

// has tells whether exactly this is declared: an instance, or a block of
// whichever instances where the address has no key.
func (d *decoder) has(a addr.Addr) bool {
	_, ok := d.bodies[a]
	return ok
}
