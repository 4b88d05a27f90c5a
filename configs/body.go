package configs

import (
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"keystone/configs/addr"
	"keystone/configs/diag"
	"keystone/configs/spec"
)

// body evaluates a block's body as its options are declared. What the
// declaration does not know is kept without a value, for Decode to report.
func (l *loader) body(b *block, body *hclsyntax.Body, header diag.Range, opts spec.Options, in *instance) spec.Body {
	out := spec.Body{Range: header, Attrs: make(map[string]spec.Attr, len(body.Attributes))}
	for _, a := range sortedAttrs(body) {
		if a.Name == "for_each" && (body == b.body || b == l.tree.defaults) {
			continue
		}
		x := spec.Attr{Range: toRange(a.Expr.Range()), NameRange: toRange(a.NameRange), Layer: spec.LayerBlock}
		if b.layers[a] {
			x.Layer = spec.LayerOverlay
		}
		if o := opts.Find(a.Name); o != nil && o.Kind != spec.KindBlock {
			x.Value, x.Items = l.option(o, a.Expr, in), items(o, a.Expr)
		}
		out.Attrs[a.Name] = x
	}
	for _, nested := range body.Blocks {
		rng := toRange(nested.DefRange())
		if o := opts.Find(nested.Type); o != nil && o.Kind == spec.KindLabelled {
			l.labelled(b, nested, o, &out, in)
			continue
		}
		if len(nested.Labels) > 0 {
			l.diags.Addf(toRange(nested.LabelRanges[0]), codeLabels, "Wrong number of labels", "The nested block %q has no name: write %s { … }.", nested.Type, nested.Type)
		}
		if first, ok := out.Blocks[nested.Type]; ok {
			l.diags.Addf(rng, codeTwice, "Block written twice", "%q may be written once; it is already at %s.", nested.Type, first.Range)
			continue
		}
		if out.Blocks == nil {
			out.Blocks = map[string]spec.Body{}
		}
		o := opts.Find(nested.Type)
		if o == nil || o.Kind != spec.KindBlock {
			out.Blocks[nested.Type] = spec.Body{Range: rng}
			continue
		}
		out.Blocks[nested.Type] = l.body(b, nested.Body, rng, o.Block, in)
	}
	return out
}

// items says where the elements of a list or a map of strings are written, as far as they stand there by themselves.
func items(o *spec.Option, expr hclsyntax.Expression) map[string]diag.Range {
	out := map[string]diag.Range{}
	switch x := expr.(type) {
	case *hclsyntax.TupleConsExpr:
		if o.Kind != spec.KindStrings {
			return nil
		}
		for i, e := range x.Exprs {
			out[strconv.Itoa(i)] = toRange(e.Range())
		}
	case *hclsyntax.ObjectConsExpr:
		if o.Kind != spec.KindStringMap {
			return nil
		}
		for _, item := range x.Items {
			if key, diags := item.KeyExpr.Value(nil); !diags.HasErrors() && key.Type() == cty.String && key.IsKnown() && !key.IsNull() {
				out[key.AsString()] = toRange(hcl.RangeBetween(item.KeyExpr.Range(), item.ValueExpr.Range()))
			}
		}
	}
	return out
}

// labelled evaluates a nested block with a name into out.
func (l *loader) labelled(b *block, nested *hclsyntax.Block, o *spec.Option, out *spec.Body, in *instance) {
	rng := toRange(nested.DefRange())
	if !checkLabels(nested, []string{"name"}, &l.diags) {
		return
	}
	label := nested.Labels[0]
	if out.Blocks == nil {
		out.Blocks = map[string]spec.Body{}
	}
	group, ok := out.Blocks[nested.Type]
	if !ok {
		group = spec.Body{Range: rng, Blocks: map[string]spec.Body{}}
	}
	if first, twice := group.Blocks[label]; twice {
		l.diags.Addf(rng, codeTwice, "Block written twice", "%s %q is already written at %s.", nested.Type, label, first.Range)
		return
	}
	group.Blocks[label] = l.body(b, nested.Body, rng, o.Each(label), in)
	if o.Ordered {
		group.Order = append(group.Order, label)
	}
	out.Blocks[nested.Type] = group
}

// option evaluates one option as its kind says.
func (l *loader) option(o *spec.Option, expr hclsyntax.Expression, in *instance) spec.Value {
	switch o.Kind {
	case spec.KindExpr, spec.KindExprs, spec.KindExprMap, spec.KindType:
		v, ok := l.asWritten[expr]
		if !ok { // the same for all instances
			v = l.readWritten(o, expr)
			l.asWritten[expr] = v
		}
		return v
	case spec.KindPattern:
		return l.pattern(expr, in)
	case spec.KindSecret:
		return l.secret(o, expr, in)
	case spec.KindPort, spec.KindPorts:
		return l.ports(o, expr)
	case spec.KindRef:
		return l.reference(o, expr, in)
	}
	return l.plain(o, expr, in)
}

// readWritten reads what HCL does not evaluate.
func (l *loader) readWritten(o *spec.Option, expr hclsyntax.Expression) spec.Value {
	switch o.Kind {
	case spec.KindExpr:
		return l.text(expr)
	case spec.KindExprs:
		return l.texts(expr)
	case spec.KindExprMap:
		return l.fields(o, expr)
	}
	return l.typeOf(expr)
}

// ports reads references to operators, which HCL does not evaluate: who they are is known when all of the job is.
func (l *loader) ports(o *spec.Option, expr hclsyntax.Expression) spec.Value {
	list, isList := expr.(*hclsyntax.TupleConsExpr)
	if !isList || o.Kind == spec.KindPort {
		p, ok := l.port(o, expr)
		if !ok {
			return spec.Invalid{}
		}
		return p
	}
	out := make([]spec.Port, 0, len(list.Exprs))
	for _, e := range list.Exprs {
		p, ok := l.port(o, e)
		if !ok {
			return spec.Invalid{}
		}
		out = append(out, p)
	}
	return out
}

func (l *loader) port(o *spec.Option, expr hclsyntax.Expression) (spec.Port, bool) {
	rng := toRange(expr.Range())
	t, diags := hcl.AbsTraversalForExpr(expr)
	names := make([]string, 0, len(t))
	for i, step := range t {
		if a, ok := step.(hcl.TraverseAttr); ok && i > 0 {
			names = append(names, a.Name)
		} else if i == 0 {
			names = append(names, t.RootName())
		}
	}
	switch {
	case diags.HasErrors() || len(names) != len(t):
		l.diags.Addf(rng, codeReference, "Not an operator", "%q takes %s, without quotes.", o.Name, o.Expects())
		return spec.Port{}, false
	case slices.Contains(referenceTypes, names[0]):
		l.diags.Addf(rng, codeReference, "Not an operator", "%q refers to an operator of the same job. A stream or source is read by a block of its own: read \"%s\" { from = %s }; then write %s = read.%[2]s.", o.Name, names[len(names)-1], strings.Join(names, "."), o.Name)
		return spec.Port{}, false
	case len(names) < 2 || len(names) > 3:
		l.diags.Addf(rng, codeReference, "Not an operator", "An operator is KIND.NAME, such as read.plays or window.by_user, and its late rows are window.by_user.late.")
		return spec.Port{}, false
	}
	p := spec.Port{Operator: names[0] + "." + names[1], Range: rng}
	if len(names) == 3 {
		p.Output, p.OutputRange = names[2], toRange(t[2].SourceRange())
	}
	return p, true
}

// plain evaluates an option that holds an ordinary value.
func (l *loader) plain(o *spec.Option, expr hclsyntax.Expression, in *instance) spec.Value {
	if word := hcl.ExprAsKeyword(expr); word != "" && o.Kind == spec.KindEnum {
		l.diags.Addf(toRange(expr.Range()), codeReference, "Word without quotes", "Write it in quotes: %s = %q.%s", o.Name, word, l.unknownWord(o, word))
		return spec.Invalid{}
	}
	v, ok := l.value(expr, in)
	if !ok {
		return spec.Invalid{}
	}
	return l.plainValue(o, v, expr)
}

func (l *loader) unknownWord(o *spec.Option, word string) string {
	for _, w := range o.Enum {
		if w == word {
			return ""
		}
	}
	return " The words are " + o.Expects() + "."
}

func (l *loader) reportSensitive(o *spec.Option, expr hclsyntax.Expression) {
	l.diags.Addf(toRange(expr.Range()), codeSensitive, "Sensitive value in a plain option", "The option %q is stored and shown as it is, so it cannot hold a sensitive value. Only options that are declared secret can.", o.Name)
}

func (l *loader) plainValue(o *spec.Option, v cty.Value, expr hclsyntax.Expression) spec.Value {
	if v.ContainsMarked() {
		l.reportSensitive(o, expr)
		return spec.Invalid{}
	}
	x, err := fromCty(v)
	if err != nil {
		l.diags.Addf(toRange(expr.Range()), codeEvaluate, "Wrong type of value", "The option %q takes %s: %v.", o.Name, o.Expects(), err)
		return spec.Invalid{}
	}
	return x
}

// reference evaluates an option that names a block.
func (l *loader) reference(o *spec.Option, expr hclsyntax.Expression, in *instance) spec.Value {
	rng := toRange(expr.Range())
	v, ok := l.value(expr, in)
	if !ok {
		return spec.Invalid{}
	}
	if v.ContainsMarked() {
		l.reportSensitive(o, expr)
		return spec.Invalid{}
	}
	if v.IsNull() {
		return nil
	}
	if v.Type().Equals(addressType) {
		return spec.Ref{Addr: *v.EncapsulatedValue().(*addr.Addr), Range: rng}
	}
	if v.Type().Equals(cty.Map(addressType)) {
		if v.LengthInt() == 0 {
			l.diags.Addf(rng, codeReference, "Reference to no instance", "The for_each of the block that this refers to is empty.")
			return spec.Invalid{}
		}
		it := v.ElementIterator()
		it.Next()
		key, first := it.Element()
		l.diags.Addf(rng, codeReference, "Reference to several instances", "%s has for_each; name one of its instances, such as [%q] or [each.key].", first.EncapsulatedValue().(*addr.Addr).Block(), key.AsString())
		return spec.Invalid{}
	}
	x, err := fromCty(v)
	if err != nil {
		return spec.Invalid{}
	}
	return x // of another type: Decode says what is expected
}

// fromCty gives an evaluated value in the forms of package spec.
func fromCty(v cty.Value) (spec.Value, error) {
	t := v.Type()
	switch {
	case v.IsNull():
		return nil, nil
	case t == cty.Bool:
		return v.True(), nil
	case t == cty.String:
		return v.AsString(), nil
	case t == cty.Number:
		return fromNumber(v.AsBigFloat())
	case t.IsListType() || t.IsSetType() || t.IsTupleType():
		list := make([]spec.Value, 0, v.LengthInt())
		for it := v.ElementIterator(); it.Next(); {
			_, e := it.Element()
			x, err := fromCty(e)
			if err != nil {
				return nil, err
			}
			list = append(list, x)
		}
		return list, nil
	case t.IsMapType() || t.IsObjectType():
		m := make(map[string]spec.Value, v.LengthInt())
		for it := v.ElementIterator(); it.Next(); {
			k, e := it.Element()
			x, err := fromCty(e)
			if err != nil {
				return nil, err
			}
			m[k.AsString()] = x
		}
		return m, nil
	case t.Equals(addressType):
		return spec.Ref{Addr: *v.EncapsulatedValue().(*addr.Addr)}, nil
	}
	return nil, fmt.Errorf("%s cannot be used here", typeName(v))
}

func fromNumber(f *big.Float) (spec.Value, error) {
	if i, accuracy := f.Int64(); f.IsInt() && accuracy == big.Exact {
		return i, nil
	}
	x, _ := f.Float64()
	if f.IsInf() || x > 1.7976931348623157e308 || x < -1.7976931348623157e308 {
		return nil, fmt.Errorf("the number is too large")
	}
	return x, nil
}

func stringOf(v cty.Value) (string, error) {
	s, err := convert.Convert(v, cty.String)
	if err != nil {
		return "", err
	}
	if s.IsNull() {
		return "", fmt.Errorf("null is no text")
	}
	return s.AsString(), nil
}
