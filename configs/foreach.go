package configs

import (
	"slices"

	"github.com/zclconf/go-cty/cty"

	"keystone/configs/diag"
)

// maxInstances bounds what one for_each makes.
const maxInstances = 100_000

// expand makes the instances of a block, once. It returns false if for_each
// is wrong, which has been reported.
func (l *loader) expand(b *block) bool {
	switch b.expansion {
	case expanded:
		return true
	case expansionFailed:
		return false
	case expanding:
		l.diags.Addf(b.header, codeForEach, "for_each in a circle", "The for_each of %s needs its own instances.", b.addr)
		b.expansion = expansionFailed
		return false
	}
	b.expansion = expanding
	a := b.body.Attributes["for_each"]
	if a == nil {
		b.instances, b.expansion = []instance{{addr: b.addr, block: b}}, expanded
		return true
	}
	b.each = true
	v, ok := l.value(a.Expr, nil)
	if ok {
		ok = l.instances(b, v, toRange(a.Expr.Range()))
	}
	if b.expansion == expansionFailed || !ok {
		b.expansion = expansionFailed
		return false
	}
	b.expansion = expanded
	return true
}

type expansion uint8

const (
	notExpanded expansion = iota
	expanding
	expanded
	expansionFailed
)

func (l *loader) instances(b *block, v cty.Value, rng diag.Range) bool {
	if v.ContainsMarked() {
		l.diags.Addf(rng, codeSensitive, "Sensitive for_each", "for_each shows its keys in addresses, so it cannot come from a sensitive value.")
		return false
	}
	t := v.Type()
	isList := t.IsListType() || t.IsTupleType() || t.IsSetType()
	if v.IsNull() || !isList && !t.IsMapType() && !t.IsObjectType() {
		l.diags.Addf(rng, codeForEach, "Wrong type of for_each", "for_each takes a map, a set or a list of distinct strings; this is %s.", typeName(v))
		return false
	}
	if v.LengthInt() > maxInstances {
		l.diags.Addf(rng, codeForEach, "Too many instances", "for_each makes at most %d instances; this has %d.", maxInstances, v.LengthInt())
		return false
	}
	seen := map[string]bool{}
	for it := v.ElementIterator(); it.Next(); {
		key, value := it.Element()
		if isList {
			key = value
		}
		if key.IsNull() || key.Type() != cty.String {
			l.diags.Addf(rng, codeForEach, "Wrong type of for_each", "A list or set in for_each has strings only; this one has %s. Use a map { key = value } for others.", typeName(key))
			return false
		}
		k := key.AsString()
		if seen[k] {
			l.diags.Addf(rng, codeForEach, "Key used twice", "for_each has the key %q twice; each makes one instance.", k)
			return false
		}
		seen[k] = true
		b.instances = append(b.instances, instance{addr: b.addr.Instance(k), block: b, value: eachValue{set: true, key: key, value: value}})
	}
	slices.SortFunc(b.instances, func(x, y instance) int {
		if x.addr.Less(y.addr) {
			return -1
		}
		return 1
	})
	return true
}

func typeName(v cty.Value) string {
	if v.IsNull() {
		return "null"
	}
	return "a value of type " + v.Type().FriendlyName()
}
