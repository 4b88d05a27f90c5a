package configs

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"keystone/configs/addr"
	"keystone/configs/diag"
)

// eachValue is what `each` stands for in an instance.
type eachValue struct {
	set        bool
	key, value cty.Value
}

// addressType is the type of a reference while HCL evaluates it.
var addressType = cty.CapsuleWithOps("reference to a block", reflect.TypeFor[addr.Addr](), &cty.CapsuleOps{
	GoString:     func(v any) string { return v.(*addr.Addr).String() },
	TypeGoString: func(reflect.Type) string { return "reference" },
	RawEquals:    func(a, b any) bool { return *a.(*addr.Addr) == *b.(*addr.Addr) },
	Equals: func(a, b any) cty.Value {
		return cty.BoolVal(*a.(*addr.Addr) == *b.(*addr.Addr))
	},
})

// local is one value of locals, evaluated when it is first needed.
type local struct {
	value   cty.Value
	ok      bool
	done    bool
	running bool
	used    bool // something read it: as a value, an expression, a type
}

// references are the types of blocks that an expression can refer to.
var referenceTypes = []string{"cluster", "stream", "source", "sink", "route", "job"}

// value evaluates an expression. What it refers to is checked first, so that
// messages name what is there. Unknown results (of variables without a
// value) were reported where they began; they give false.
func (l *loader) value(expr hclsyntax.Expression, in *instance) (cty.Value, bool) {
	names := map[string]map[string]bool{} // root → attributes; "" is all
	ok := true
	for _, t := range expr.Variables() {
		root, attr := t.RootName(), ""
		if len(t) > 1 {
			if a, isAttr := t[1].(hcl.TraverseAttr); isAttr {
				attr = a.Name
			}
		}
		if !l.checkTraversal(t, root, attr, in) {
			ok = false
			continue
		}
		if names[root] == nil {
			names[root] = map[string]bool{}
		}
		names[root][attr] = true
	}
	if !ok {
		return cty.DynamicVal, false
	}
	ctx := &hcl.EvalContext{Functions: l.functions, Variables: map[string]cty.Value{}}
	for root, attrs := range names {
		v, rootOK := l.root(root, attrs, in)
		ok = ok && rootOK
		ctx.Variables[root] = v
	}
	if !ok {
		return cty.DynamicVal, false
	}
	v, diags := expr.Value(ctx)
	l.diags.Append(l.evaluation(diags)...)
	if diags.HasErrors() {
		return cty.DynamicVal, false
	}
	if !withinSize(v) {
		l.diags.Addf(toRange(expr.Range()), codeEvaluate, "Value too large", "A value has at most %d elements and %d MiB of text, all in all.", maxElements, maxText>>20)
		return cty.DynamicVal, false
	}
	if unmarked, marks := v.UnmarkDeep(); !unmarked.IsWhollyKnown() && len(marks) == 0 {
		return v, false
	}
	return v, true
}

// evaluation turns HCL's messages into ours; those may quote values, so
// sensitive ones are kept out by HCL's own marks.
func (l *loader) evaluation(hclDiags hcl.Diagnostics) diag.Diagnostics {
	diags := fromHCL(hclDiags, codeEvaluate)
	for i, d := range hclDiags {
		if call, ok := d.Expression.(*hclsyntax.FunctionCallExpr); ok && d.Summary == "Call to unknown function" {
			diags[i].Detail = fmt.Sprintf("There is no function %q in configuration.%s Functions over events stand inside of expressions, in quotes.", call.Name, diag.DidYouMean(call.Name, slices.Sorted(maps.Keys(l.functions))))
		}
	}
	return diags
}

// checkTraversal reports a reference to what is not there.
func (l *loader) checkTraversal(t hcl.Traversal, root, attr string, in *instance) bool {
	rng := toRange(t.SourceRange())
	switch {
	case root == "var":
		if attr != "" && l.vars[attr] == nil {
			l.diags.Addf(rng, codeReference, "Unknown variable", "There is no variable %q.%s", attr, diag.DidYouMean(attr, l.varNames()))
			return false
		}
	case root == "local":
		if attr != "" && l.tree.locals[attr] == nil {
			l.diags.Addf(rng, codeReference, "Unknown local", "There is no value %q in locals.%s", attr, diag.DidYouMean(attr, slices.Sorted(maps.Keys(l.tree.locals))))
			return false
		}
	case root == "each":
		if in == nil || !in.value.set {
			l.diags.Addf(rng, codeReference, "each without for_each", "each.key and each.value stand for the instance of a block with for_each, and there is none here.")
			return false
		}
		if attr != "key" && attr != "value" {
			l.diags.Addf(rng, codeReference, "Unknown reference", "There are each.key and each.value.")
			return false
		}
	case slices.Contains(referenceTypes, root):
		return l.checkBlockReference(t, root, attr, rng)
	default:
		l.diags.Addf(rng, codeReference, "Unknown reference", "There is no %q here.%s", root, l.adviceFor(root, len(t) == 1))
		return false
	}
	return true
}

func (l *loader) checkBlockReference(t hcl.Traversal, root, attr string, rng diag.Range) bool {
	if attr == "" {
		l.diags.Addf(rng, codeReference, "Unknown reference", "Write the name of the %s: %s.NAME.", root, root)
		return false
	}
	if l.tree.blocks[addr.New(root, attr)] == nil {
		detail := diag.DidYouMean(attr, l.blockNames(root))
		if detail == "" {
			for _, other := range referenceTypes {
				if l.tree.blocks[addr.New(other, attr)] != nil {
					detail = fmt.Sprintf(" There is %s.%s.", other, attr)
				}
			}
		}
		l.diags.Addf(rng, codeReference, "Unknown reference", "There is no %s %q.%s", root, attr, detail)
		return false
	}
	rest := t[2:]
	if len(rest) > 0 {
		if _, isIndex := rest[0].(hcl.TraverseIndex); isIndex {
			rest = rest[1:]
		}
	}
	if len(rest) > 0 {
		l.diags.Addf(rng, codeReference, "Unknown reference", "A reference names a block. Of its options only a stream's or source's schema can be read, and only in another one's: schema = stream.%s.schema.", attr)
		return false
	}
	return true
}

func (l *loader) blockNames(typ string) []string {
	var names []string
	for a := range l.tree.blocks {
		if a.Type == typ {
			names = append(names, a.Name)
		}
	}
	slices.Sort(names)
	return names
}

// adviceFor guesses what a name that is nothing was meant to be.
func (l *loader) adviceFor(root string, bare bool) string {
	for _, typ := range []string{"stream", "sink", "source", "cluster"} {
		if bare && l.tree.blocks[addr.New(typ, root)] != nil {
			return fmt.Sprintf(" Did you mean %s.%s?", typ, root)
		}
	}
	switch root {
	case "local", "locals":
		return " Values of locals are local.NAME."
	case "variable", "vars":
		return " Values of variables are var.NAME."
	}
	if near := diag.DidYouMean(root, append([]string{"var", "local", "each"}, referenceTypes...)); near != "" && !bare {
		return near
	}
	return " Text is written in quotes; references begin with var, local, each, " + strings.Join(referenceTypes, ", ") + "."
}

// root gives the value of one root name with the attributes that are needed.
func (l *loader) root(root string, attrs map[string]bool, in *instance) (cty.Value, bool) {
	all := attrs[""]
	values := map[string]cty.Value{}
	ok := true
	switch root {
	case "each":
		return cty.ObjectVal(map[string]cty.Value{"key": in.value.key, "value": in.value.value}), true
	case "var":
		for name, v := range l.vars {
			if all || attrs[name] {
				values[name] = v.value
			}
		}
	case "local":
		for name := range l.tree.locals {
			if all || attrs[name] {
				v, valueOK := l.local(name)
				values[name], ok = v, ok && valueOK
			}
		}
	default:
		for name := range attrs {
			v, valueOK := l.address(addr.New(root, name))
			values[name], ok = v, ok && valueOK
		}
	}
	return cty.ObjectVal(values), ok
}

func (l *loader) localState(name string) *local {
	if l.locals[name] == nil {
		l.locals[name] = &local{}
	}
	return l.locals[name]
}

// local evaluates one local value, once.
func (l *loader) local(name string) (cty.Value, bool) {
	x := l.localState(name)
	x.used = true
	if x.done {
		return x.value, x.ok
	}
	a := l.tree.locals[name]
	if x.running {
		l.reportCycle(name)
		return cty.DynamicVal, false
	}
	x.running = true
	v, ok := l.value(a.Expr, nil)
	x.value, x.ok, x.done, x.running = v, ok, true, false
	return v, ok
}

// reportCycle names the path from a local back to itself, shortest first.
func (l *loader) reportCycle(name string) {
	path := l.cyclePath(name)
	l.diags.Addf(toRange(l.tree.locals[name].NameRange), codeLocalCycle, "Locals in a circle", "local.%s needs itself: %s.", name, strings.Join(path, " → "))
}

func (l *loader) cyclePath(name string) []string {
	type step struct {
		name string
		path []string
	}
	queue, seen := []step{{name, []string{"local." + name}}}, map[string]bool{}
	for len(queue) > 0 {
		s := queue[0]
		queue = queue[1:]
		for _, next := range localsOf(l.tree.locals[s.name]) {
			path := append(slices.Clone(s.path), "local."+next)
			if next == name {
				return path
			}
			if !seen[next] && l.tree.locals[next] != nil {
				seen[next] = true
				queue = append(queue, step{next, path})
			}
		}
	}
	return []string{"local." + name, "local." + name}
}

func localsOf(a *hclsyntax.Attribute) []string {
	var names []string
	for _, t := range a.Expr.Variables() {
		if t.RootName() == "local" && len(t) > 1 {
			if x, ok := t[1].(hcl.TraverseAttr); ok {
				names = append(names, x.Name)
			}
		}
	}
	return names
}

// checkLocals evaluates what nothing has read, so that errors in it show.
func (l *loader) checkLocals() {
	for _, name := range slices.Sorted(maps.Keys(l.tree.locals)) {
		if !l.localState(name).used && !isTypeExpr(l.tree.locals[name].Expr) && !readsSecret(l.tree.locals[name].Expr) {
			l.local(name)
		}
	}
}

// address gives the reference to a block, or to its instances by key.
func (l *loader) address(a addr.Addr) (cty.Value, bool) {
	b := l.tree.blocks[a]
	if !l.expand(b) {
		return cty.DynamicVal, false
	}
	if !b.each {
		return addressValue(a), true
	}
	if len(b.instances) == 0 {
		return cty.MapValEmpty(addressType), true
	}
	if b.addresses == cty.NilVal {
		values := make(map[string]cty.Value, len(b.instances))
		for _, x := range b.instances {
			values[x.addr.Key] = addressValue(x.addr)
		}
		b.addresses = cty.MapVal(values)
	}
	return b.addresses, true
}

func addressValue(a addr.Addr) cty.Value { return cty.CapsuleVal(addressType, &a) }

const (
	maxElements = 1_000_000
	maxText     = 64 << 20
)

// withinSize bounds a value: locals that repeat each other grow exponentially.
func withinSize(v cty.Value) bool {
	elements, text := 0, 0
	var walk func(v cty.Value) bool
	walk = func(v cty.Value) bool {
		v, _ = v.Unmark()
		elements++
		if v.IsKnown() && !v.IsNull() {
			switch {
			case v.Type() == cty.String:
				text += len(v.AsString())
			case v.CanIterateElements():
				for it := v.ElementIterator(); it.Next(); {
					if _, e := it.Element(); !walk(e) {
						return false
					}
				}
			}
		}
		return elements <= maxElements && text <= maxText
	}
	return walk(v)
}
