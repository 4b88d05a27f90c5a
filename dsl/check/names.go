package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"keystone/configs/diag"
	"keystone/dsl/ir"
	"keystone/dsl/types"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/parser/lexer"
)

// isRoot tells the words that are neither fields nor variables.
func isRoot(name string) bool {
	switch name {
	case "event", "meta", "var", "local", "each", "$env", "true", "false", "nil", "null":
		return true
	}
	return false
}

// metaType gives the type of a property of meta.
func metaType(name string) (types.Type, bool) {
	switch name {
	case "topic", "key":
		return types.StringType, true
	case "partition", "offset":
		return types.IntType, true
	case "timestamp":
		return types.TimestampMsType, true
	case "headers":
		return types.MapOf(types.StringType), true
	case "tombstone":
		return types.BoolType, true
	}
	return types.Type{}, false
}

func metaNames() []string {
	return []string{"topic", "partition", "offset", "timestamp", "key", "headers", "tombstone"}
}

func (c *checker) variable(name string) (variable, bool) {
	for _, v := range slices.Backward(c.scope) {
		if v.name == name {
			return v, true
		}
	}
	return variable{}, false
}

func (c *checker) identifier(n *ast.IdentifierNode) *ir.Node {
	token := loc(n)
	if v, ok := c.variable(n.Value); ok {
		return &ir.Node{Op: ir.Var, Type: v.typ, Span: token, Token: token, Slot: v.slot, Name: v.name}
	}
	if slices.ContainsFunc(c.hidden, func(v variable) bool { return v.name == n.Value }) {
		return c.fail(token, codeAggregate, "Variable outside of the aggregate", "%s is declared by let outside of the aggregate, so it is one for all rows. Declare it inside, or rename it if a field is meant.", n.Value)
	}
	if c.calls != nil && !slices.Contains([]string{"meta", "var", "local", "each", "$env"}, n.Value) {
		return c.outside(n.Value, token)
	}
	switch n.Value {
	case "event":
		if c.env.Format == ir.Raw {
			return c.raw(token)
		}
		return &ir.Node{Op: ir.Event, Type: c.env.Event, Span: token, Token: token}
	case "meta":
		return c.fail(token, codeMeta, "Unknown property of meta", "Say which: meta.%s.", strings.Join(metaNames(), ", meta."))
	case "var", "local", "each":
		return c.fail(token, codeConst, "Unknown constant", "Say which: %s. A field of that name is event.%s.", c.some(n.Value), n.Value)
	case "$env":
		return c.fail(token, codeRefused, "Not part of the language", "The whole event is event.")
	}
	return c.field(&ir.Node{Op: ir.Event, Type: c.env.Event, Span: token, Token: token}, n.Value, token, false)
}

func (c *checker) raw(s ir.Span) *ir.Node {
	return c.fail(s, codeRaw, "Raw events have no fields", "With format = \"raw\" or decode = \"none\" expressions see only meta, as meta.key and meta.headers[\"x\"].")
}

// some gives examples of constants below a root.
func (c *checker) some(root string) string {
	if names := c.constants(root); len(names) > 0 {
		return strings.Join(names[:min(len(names), 3)], ", ")
	}
	return map[string]string{"var": "var.NAME", "local": "local.NAME", "each": "each.key or each.value"}[root]
}

func (c *checker) constants(root string) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(c.env.Consts)) {
		if strings.HasPrefix(name, root+".") {
			names = append(names, name)
		}
	}
	return names
}

// root gives the name of a member's object if that is one of the words that
// only make sense with a member.
func (c *checker) root(n ast.Node) string {
	for {
		chain, ok := n.(*ast.ChainNode)
		if !ok {
			break
		}
		n = chain.Node
	}
	id, ok := n.(*ast.IdentifierNode)
	if !ok {
		return ""
	}
	if _, shadowed := c.variable(id.Value); shadowed {
		return ""
	}
	switch id.Value {
	case "meta", "var", "local", "each":
		return id.Value
	}
	return ""
}

func (c *checker) member(n *ast.MemberNode) *ir.Node {
	if root := c.root(n.Node); root != "" {
		return c.rooted(n, root)
	}
	x := c.node(n.Node)
	token := loc(n)
	name, isName := n.Property.(*ast.StringNode)
	if isName && !c.bracketed(name) {
		return c.widen(c.named(x, name.Value, loc(name), false), x, token)
	}
	key := c.node(n.Property)
	span := c.closed(union(union(x.Span, key.Span), token), token.Start)
	if c.failed[x] || c.failed[key] {
		return c.broken(span)
	}
	var out *ir.Node
	if s, ok := key.Value.(string); ok && key.Op == ir.Const {
		out = c.named(x, s, key.Span, true)
	} else {
		out = c.index(x, key, token)
	}
	out.Span = union(out.Span, span)
	return out
}

func (c *checker) widen(out, x *ir.Node, token ir.Span) *ir.Node {
	out.Span = union(union(out.Span, x.Span), token)
	return out
}

// bracketed tells x["name"] from x.name.
func (c *checker) bracketed(n *ast.StringNode) bool {
	return c.src.token(c.src.at(n.Location().From)).Kind == lexer.String
}

// rooted checks a member of meta, var, local or each.
func (c *checker) rooted(n *ast.MemberNode, root string) *ir.Node {
	base := ir.Span{Start: n.Node.Location().From, End: n.Node.Location().To}
	token := loc(n.Property)
	span := c.closed(union(base, token), n.Location().From)
	name, ok := n.Property.(*ast.StringNode)
	if !ok {
		c.node(n.Property)
		return c.fail(span, codeConst, "Unknown constant", "The name after %s is fixed, as in %s.", root, map[string]string{"meta": "meta.topic"}[root]+ifThen(root != "meta", c.some(root)))
	}
	if root == "meta" {
		if c.calls != nil {
			return c.outside("meta."+name.Value, span)
		}
		if c.env.NoMeta {
			return c.fail(span, codeNoMeta, "No meta here", "meta is of the record that was read, and the rows here were made of several or changed. Keep what is needed as a field, where it is still known: project = { topic = \"meta.topic\" }.")
		}
		t, ok := metaType(name.Value)
		if !ok {
			return c.fail(token, codeMeta, "Unknown property of meta", "meta has %s.%s", strings.Join(metaNames(), ", "), diag.DidYouMean(name.Value, metaNames()))
		}
		return &ir.Node{Op: ir.Meta, Type: t, Span: span, Token: token, Name: name.Value}
	}
	full := root + "." + name.Value
	v, ok := c.env.Consts[full]
	if !ok {
		if root == "each" {
			return c.fail(span, codeConst, "Unknown constant", "%s", eachUnknown(name.Value, len(c.constants("each")) > 0))
		}
		return c.fail(span, codeConst, "Unknown constant", "There is no %s.%s", full, diag.DidYouMean(full, c.constants(root)))
	}
	out := constant(v, span)
	out.Token = token
	return out
}

func eachUnknown(name string, has bool) string {
	if has {
		return fmt.Sprintf("There is no each.%s: an instance has each.key and each.value.", name)
	}
	return "There is each.key and each.value only in a block with for_each. A field of that name is event.each."
}

// named checks x.name or x["name"].
func (c *checker) named(x *ir.Node, name string, token ir.Span, bracket bool) *ir.Node {
	if c.failed[x] {
		return c.broken(union(x.Span, token))
	}
	if x.Op == ir.Const {
		if m, ok := x.Value.(map[string]any); ok {
			if v, ok := m[name]; ok {
				return constant(v, union(x.Span, token))
			}
			if !bracket {
				return c.fail(token, codeConst, "Unknown constant", "The constant has no member %q.%s", name, diag.DidYouMean(name, x.Type.FieldNames()))
			}
			return constant(nil, union(x.Span, token))
		}
	}
	switch x.Type.Kind {
	case types.Any, types.Object, types.Map:
		return c.field(x, name, token, bracket)
	case types.Nil:
		return constant(nil, union(x.Span, token))
	case types.List:
		return c.fail(token, codeMember, "No such member", "A list has no members by name. Ask one element (x[0].%s) or all (any(x, .%s == 1), map(x, .%s)).", name, name, name)
	}
	way := ""
	if ir.FuncNamed(name) != nil {
		way = fmt.Sprintf(" The function is written %s(x).", name)
	}
	return c.fail(token, codeMember, "No such member", "%s has no members.%s", upperFirst(typeName(x.Type)), way)
}

func upperFirst(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// field checks a member of something that has, or may have, members by name.
func (c *checker) field(x *ir.Node, name string, token ir.Span, bracket bool) *ir.Node {
	if x.Op == ir.Event && c.env.Format == ir.Raw {
		return c.raw(token)
	}
	t := types.AnyType
	switch x.Type.Kind {
	case types.Map:
		t = *x.Type.Elem
	case types.Object:
		f, ok := x.Type.Field(name)
		switch {
		case ok:
			t = f.Type
		case x.Op == ir.Event && c.env.Source != nil && !x.Type.Open:
			return c.projected(name, token)
		case !x.Type.Open && !bracket:
			return c.unknown(x, name, token)
		}
	}
	if len(x.Path) >= maxNesting {
		return c.fail(token, codeSize, "Expression too large", "Members nest deeper than %d here.", maxNesting)
	}
	out := &ir.Node{Type: t, Span: union(x.Span, token), Token: token}
	switch x.Op {
	case ir.Event:
		out.Op, out.Path = ir.Field, []ir.Step{{Name: name}}
	case ir.Field:
		out.Op, out.Path = ir.Field, append(slices.Clone(x.Path), ir.Step{Name: name})
	default:
		key := constant(name, token)
		out.Op, out.Kids = ir.Member, []*ir.Node{x, key}
	}
	if out.Op == ir.Field {
		if d := c.dropped(out.Path); d != "" {
			return c.fail(token, codeProjected, "Field is not in the output", "drop removes %s, and this is computed from the output event. Leave it out of drop.", d)
		}
	}
	return out
}

func (c *checker) dropped(path []ir.Step) string {
	for _, d := range c.env.Dropped {
		if len(d) > len(path) {
			continue
		}
		match := true
		for i, name := range d {
			match = match && !path[i].IsIndex && path[i].Name == name
		}
		if match {
			return strings.Join(d, ".")
		}
	}
	return ""
}

// projected reports a field that the output event lacks.
func (c *checker) projected(name string, token ir.Span) *ir.Node {
	have := c.env.Event.FieldNames()
	_, known := c.env.Source.Field(name)
	if known || c.env.Source.Kind != types.Object || c.env.Source.Open {
		return c.fail(token, codeProjected, "Field is not in the output", "The projection does not keep %q, and this is computed from the output event. Add %s to project, or use one of its fields: %s.%s",
			name, hclEntry(name), strings.Join(have, ", "), diag.DidYouMean(name, have))
	}
	return c.fail(token, codeName, "Unknown field", "The output event has no field %q. It has %s.%s", name, strings.Join(have, ", "), diag.DidYouMean(name, have))
}

func hclEntry(name string) string { return fmt.Sprintf("%s = \"%s\"", name, name) }

// unknown reports a field that the schema does not declare.
func (c *checker) unknown(x *ir.Node, name string, token ir.Span) *ir.Node {
	if len(c.diags) >= maxErrors {
		return c.broken(token)
	}
	have := x.Type.FieldNames()
	if joined := c.src.joined(c.src.at(token.Start)); joined != "" {
		if _, ok := x.Type.Field(joined); ok {
			way := c.text(x)
			if x.Op == ir.Event {
				way = "event"
			}
			return c.fail(token, codeName, "Unknown field", "There is no field %q. Is the field %q meant? The minus makes it a subtraction: write %s[%q].", name, joined, way, joined)
		}
	}
	if x.Op != ir.Event {
		return c.fail(token, codeName, "Unknown field", "There is no field %q here, but %s.%s", name, list(have), diag.DidYouMean(name, have))
	}
	for _, root := range []string{"each", "var", "local"} {
		if _, ok := c.env.Consts[root+"."+name]; ok {
			return c.fail(token, codeName, "Unknown field", "The event has no field %q. Did you mean %s.%s?", name, root, name)
		}
	}
	quoted := ""
	if !c.src.token(c.src.at(token.Start)-1).Is(lexer.Operator, ".", "?.") {
		quoted = " Text is quoted: '" + name + "'."
	}
	if near := diag.DidYouMean(name, have); near != "" {
		return c.fail(token, codeName, "Unknown field", "The event has no field %q.%s%s", name, near, quoted)
	}
	if ir.FuncNamed(name) != nil {
		return c.fail(token, codeName, "Unknown field", "The event has no field %q. The function is called with parentheses: %s(…).", name, name)
	}
	return c.fail(token, codeName, "Unknown field", "The event has no field %q, but %s.%s A field that the schema does not declare is event[%q].", name, list(have), quoted, name)
}

func list(names []string) string {
	if len(names) == 0 {
		return "no fields at all"
	}
	if len(names) > 12 {
		return strings.Join(names[:12], ", ") + " and more"
	}
	return strings.Join(names, ", ")
}

// index checks x[key] where the key is not a constant name.
func (c *checker) index(x, key *ir.Node, token ir.Span) *ir.Node {
	t, k := types.AnyType, key.Type.Kind
	wantInt, wantName := false, false
	switch x.Type.Kind {
	case types.List:
		t, wantInt = *x.Type.Elem, true
	case types.String:
		t, wantInt = types.StringType, true
	case types.Map:
		t, wantName = *x.Type.Elem, true
	case types.Object:
		wantName = true
	case types.Nil:
		t = types.NilType
	case types.Any:
		if k != types.Any && k != types.Nil && k != types.Int && k != types.String {
			return c.fail(key.Span, codeMember, "No such member", "An index is an int or a name, and this is %s.", typeName(key.Type))
		}
	default:
		return c.fail(token, codeMember, "No such member", "%s has no members.", upperFirst(typeName(x.Type)))
	}
	known := k != types.Any && k != types.Nil
	if known && wantInt && k != types.Int {
		return c.fail(key.Span, codeMember, "No such member", "%s is indexed by an int, and this is %s.", upperFirst(typeName(x.Type)), typeName(key.Type))
	}
	if known && wantName && k != types.String {
		return c.fail(key.Span, codeMember, "No such member", "Members of an object have names, and this is %s.", typeName(key.Type))
	}
	out := c.parent(ir.Member, t, token, x, key)
	if i, ok := key.Value.(int64); ok && key.Op == ir.Const && x.Op == ir.Field && x.Type.Kind == types.List && i == int64(int32(i)) {
		out.Op, out.Kids = ir.Field, nil
		out.Path = append(slices.Clone(x.Path), ir.Step{Index: int(i), IsIndex: true})
		return out
	}
	return c.fold(out)
}

func (c *checker) slice(n *ast.SliceNode) *ir.Node {
	token := loc(n)
	kids := []*ir.Node{c.node(n.Node), nil, nil}
	for i, bound := range []ast.Node{n.From, n.To} {
		if bound == nil {
			continue
		}
		b := c.node(bound)
		kids[i+1] = b
		if k := b.Type.Kind; !c.failed[b] && k != types.Int && k != types.Any && k != types.Nil {
			c.errorf(b.Span, codeMember, "No such member", "The bound of a slice is an int, and this is %s.", typeName(b.Type))
		}
	}
	x := kids[0]
	switch x.Type.Kind {
	case types.Any, types.Nil, types.List, types.String:
	default:
		if !c.failed[x] {
			return c.fail(x.Span, codeMember, "No such member", "Only lists and strings have slices, and this is %s.", typeName(x.Type))
		}
	}
	out := c.parent(ir.Slice, x.Type, token, kids...)
	out.Span = c.closed(out.Span, token.Start)
	return c.fold(out)
}
