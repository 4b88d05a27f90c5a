// Package check turns the text of expressions into trees. It reports every
// error at its exact token; what it accepts has a meaning in every engine.
//
// The grammar is that of expr-lang: its lexer and parser give the syntax
// tree. Its checker, optimiser and machine are not used.
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

// Env is what an expression may refer to.
type Env struct {
	Event  types.Type     // of the event; Kind Any where nothing is known of it
	Format ir.Format      // "" is JSON
	Consts map[string]any // var.x, local.x, each.key, each.value by written name: nil, bool, int64, float64, string, []any, map[string]any
	Jobs   bool           // whether the expression is a job's
	NoMeta bool           // whether the event is no record that was read, so that meta says nothing
	// Source is the type of the event that Event was computed from, where it
	// was: for saying which fields a projection left out.
	Source *types.Type
	// Dropped are paths that drop removed from Event.
	Dropped [][]string
}

// Expr checks an expression. The tree is nil if there are errors.
func Expr(text diag.Text, env Env) (*ir.Expr, diag.Diagnostics) {
	return run(text, env, func(*checker, *ir.Node) {})
}

// Condition checks an expression that must be true or false.
func Condition(text diag.Text, env Env) (*ir.Expr, diag.Diagnostics) {
	return run(text, env, func(c *checker, n *ir.Node) { c.condition(n, "A condition") })
}

// List checks an expression that must be a list.
func List(text diag.Text, env Env) (*ir.Expr, diag.Diagnostics) {
	return run(text, env, func(c *checker, n *ir.Node) {
		if k := n.Type.Kind; k != types.Any && k != types.List && !c.failed[n] {
			c.errorf(n.Span, codeOperand, "Wrong type of operand", "This must be a list, and it is %s.", n.Type)
		}
	})
}

func run(text diag.Text, env Env, must func(*checker, *ir.Node)) (*ir.Expr, diag.Diagnostics) {
	src, diags := scan(text)
	if diags.HasErrors() {
		return nil, diags
	}
	src.fields = env.Event.FieldNames()
	tree, diags := src.parse()
	if diags.HasErrors() {
		return nil, diags
	}
	c := &checker{src: src, env: env, failed: map[*ir.Node]bool{}}
	root := c.node(tree)
	if !c.failed[root] {
		must(c, root)
	}
	if c.diags.HasErrors() {
		return nil, c.diags
	}
	return &ir.Expr{Root: root, Text: text}, c.diags
}

// checker walks one syntax tree.
type checker struct {
	src    *source
	env    Env
	diags  diag.Diagnostics
	scope  []variable
	hidden []variable // those that stand around an aggregate, and are of all rows
	elems  []element
	slots  int
	calls  *Calls            // of the fields of an aggregation; nil elsewhere, and within the arguments of an aggregate
	failed map[*ir.Node]bool // nodes with an error that is reported: nothing more is said of them
}

// variable is a let in scope.
type variable struct {
	name string
	slot int
	typ  types.Type
}

// element is the predicate that is being walked.
type element struct {
	typ    types.Type
	reduce bool
}

func (c *checker) at(s ir.Span) diag.Range { return c.src.text.At(s.Start, s.End) }

// maxErrors bounds what is said about one expression.
const maxErrors = 50

func (c *checker) errorf(s ir.Span, code, summary, detail string, args ...any) {
	if len(c.diags) >= maxErrors {
		return
	}
	c.diags.Addf(c.at(s), code, summary, detail, args...)
}

// fail reports an error and gives a node that causes no others.
func (c *checker) fail(s ir.Span, code, summary, detail string, args ...any) *ir.Node {
	c.errorf(s, code, summary, detail, args...)
	return c.broken(s)
}

func (c *checker) broken(s ir.Span) *ir.Node {
	n := &ir.Node{Op: ir.Event, Type: types.AnyType, Span: s, Token: s}
	c.failed[n] = true
	return n
}

func loc(n ast.Node) ir.Span { return ir.Span{Start: n.Location().From, End: n.Location().To} }

// closed widens a span that begins with, or is followed by, the bracket at
// rune open to the end of its partner.
func (c *checker) closed(s ir.Span, open int) ir.Span {
	if end, ok := c.src.close[open]; ok {
		s.End = max(s.End, end)
	}
	return s
}

func constant(v any, s ir.Span) *ir.Node {
	return &ir.Node{Op: ir.Const, Type: TypeOf(v), Value: v, Span: s, Token: s}
}

// TypeOf gives the type of a constant.
func TypeOf(v any) types.Type {
	switch v := v.(type) {
	case nil:
		return types.NilType
	case bool:
		return types.BoolType
	case int64:
		return types.IntType
	case float64:
		return types.FloatType
	case string:
		return types.StringType
	case []any:
		t := types.NilType
		for _, e := range v {
			t = types.Join(t, TypeOf(e))
		}
		if t.Kind == types.Nil {
			t = types.AnyType
		}
		return types.ListOf(t)
	case map[string]any:
		t := types.Type{Kind: types.Object}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			t.Fields = append(t.Fields, types.Field{Name: name, Type: TypeOf(v[name])})
		}
		return t
	}
	panic(fmt.Sprintf("check: a constant of Go type %T", v))
}

// node checks one node of the syntax tree. It never gives nil.
func (c *checker) node(n ast.Node) *ir.Node {
	switch n := n.(type) {
	case *ast.NilNode:
		return constant(nil, loc(n))
	case *ast.BoolNode:
		return constant(n.Value, loc(n))
	case *ast.IntegerNode:
		if c.src.minInt[n.Location().From] {
			return c.fail(loc(n), codeNumber, "Number out of range", "9223372036854775808 fits an int only with its sign: -9223372036854775808, in parentheses beside **.")
		}
		return constant(int64(n.Value), loc(n))
	case *ast.FloatNode:
		return constant(n.Value, loc(n))
	case *ast.StringNode:
		return constant(n.Value, loc(n))
	case *ast.BytesNode:
		return c.fail(loc(n), codeRefused, "Not part of the language", "There are no literals of bytes. Write a string.")
	case *ast.IdentifierNode:
		return c.identifier(n)
	case *ast.ChainNode:
		return c.node(n.Node) // a member of nil is nil anyway
	case *ast.MemberNode:
		return c.member(n)
	case *ast.SliceNode:
		return c.slice(n)
	case *ast.UnaryNode:
		return c.unary(n)
	case *ast.BinaryNode:
		return c.binary(n)
	case *ast.ConditionalNode:
		return c.conditional(n)
	case *ast.VariableDeclaratorNode:
		return c.let(n)
	case *ast.ArrayNode:
		return c.list(n)
	case *ast.MapNode:
		return c.object(n)
	case *ast.PointerNode:
		return c.pointer(n)
	case *ast.BuiltinNode:
		return c.call(n.Name, n.Arguments, loc(n))
	case *ast.CallNode:
		return c.callNode(n)
	case *ast.SequenceNode:
		kids := c.nodes(n.Nodes)
		s := kids[0].Span
		for _, k := range kids {
			s = union(s, k.Span)
		}
		return c.fail(s, codeRefused, "Not part of the language", "Of values with ; between them only the last would count. Write one; ; only ends a let: let x = n * 2; x + 1.")
	case *ast.PredicateNode:
		return c.node(n.Node)
	}
	panic(fmt.Sprintf("check: a syntax node of Go type %T", n))
}

func (c *checker) nodes(list []ast.Node) []*ir.Node {
	out := make([]*ir.Node, len(list))
	for i, n := range list {
		out[i] = c.node(n)
	}
	return out
}

// parent makes a node over its kids; it is broken if one of them is.
func (c *checker) parent(op ir.Op, t types.Type, token ir.Span, kids ...*ir.Node) *ir.Node {
	n := &ir.Node{Op: op, Type: t, Span: token, Token: token, Kids: kids}
	for _, k := range kids {
		if k != nil {
			n.Span = union(n.Span, k.Span)
			if c.failed[k] {
				c.failed[n] = true
			}
		}
	}
	return n
}

func (c *checker) let(n *ast.VariableDeclaratorNode) *ir.Node {
	token := loc(n)
	if isRoot(n.Name) {
		c.errorf(token, codeRefused, "Not part of the language", "%s is a word of the language and cannot be the name of a variable.", n.Name)
	}
	value := c.node(n.Value)
	v := variable{name: n.Name, slot: c.slots, typ: value.Type}
	c.slots++
	c.scope = append(c.scope, v)
	body := c.node(n.Expr)
	c.scope = c.scope[:len(c.scope)-1]
	out := c.parent(ir.Let, body.Type, token, value, body)
	out.Slot, out.Name = v.slot, v.name
	if i := c.src.at(token.Start); c.src.token(i-1).Is(lexer.Operator, "let") {
		out.Span.Start = min(out.Span.Start, c.src.token(i-1).From)
	}
	// A broken value breaks what uses it, and has been reported.
	return out
}

// bind computes a value once for a body that uses it twice.
func (c *checker) bind(value *ir.Node, body func(use *ir.Node) *ir.Node) *ir.Node {
	switch value.Op {
	case ir.Const, ir.Field, ir.Var, ir.Event, ir.Meta, ir.Elem, ir.ElemIndex, ir.ElemAcc:
		return body(value)
	}
	slot := c.slots
	c.slots++
	use := &ir.Node{Op: ir.Var, Type: value.Type, Span: value.Span, Token: value.Token, Slot: slot}
	c.failed[use] = c.failed[value]
	in := body(use)
	out := c.parent(ir.Let, in.Type, value.Token, value, in)
	out.Slot = slot
	return out
}

func (c *checker) list(n *ast.ArrayNode) *ir.Node {
	token := loc(n)
	span := c.closed(token, token.Start)
	if len(n.Nodes) > ir.MaxElements {
		return c.fail(span, codeElements, "Too many elements", "The list has %d elements; the limit is %d.", len(n.Nodes), ir.MaxElements)
	}
	kids := c.nodes(n.Nodes)
	t, values := types.NilType, make([]any, 0, len(kids))
	for _, k := range kids {
		t = types.Join(t, k.Type)
		if k.Op == ir.Const {
			values = append(values, k.Value)
		}
	}
	if t.Kind == types.Nil {
		t = types.AnyType
	}
	out := c.parent(ir.List, types.ListOf(t), token, kids...)
	out.Span = union(out.Span, span)
	if len(values) == len(kids) {
		return &ir.Node{Op: ir.Const, Type: out.Type, Value: values, Span: out.Span, Token: out.Token}
	}
	return out
}

func (c *checker) object(n *ast.MapNode) *ir.Node {
	token := loc(n)
	span := c.closed(token, token.Start)
	if len(n.Pairs) > ir.MaxElements {
		return c.fail(span, codeElements, "Too many elements", "The object has %d names; the limit is %d.", len(n.Pairs), ir.MaxElements)
	}
	t := types.Type{Kind: types.Object}
	var kids []*ir.Node
	var names []string
	for _, p := range n.Pairs {
		pair := p.(*ast.PairNode)
		value := c.node(pair.Value)
		kids = append(kids, value)
		key, ok := pair.Key.(*ast.StringNode)
		if !ok {
			c.errorf(c.node(pair.Key).Span, codeRefused, "Not part of the language", "The names of an object are fixed: an identifier or a quoted string. For computed names use fromPairs([[name, value]]).")
			continue
		}
		if _, dup := t.Field(key.Value); dup {
			c.errorf(loc(key), codeRefused, "Not part of the language", "The name %q is there twice.", key.Value)
		}
		names = append(names, key.Value)
		t.Fields = append(t.Fields, types.Field{Name: key.Value, Type: value.Type})
	}
	out := c.parent(ir.Object, t, token, kids...)
	out.Span = union(out.Span, span)
	out.Names = names
	return out
}

func (c *checker) pointer(n *ast.PointerNode) *ir.Node {
	token := loc(n)
	if i := c.src.at(token.Start); n.Name != "" && i >= 0 {
		token.End = max(token.End, c.src.token(i+1).To) // #index is two tokens
	}
	if len(c.elems) == 0 {
		return c.fail(token, codePointer, "Element outside of a predicate", "# stands for the element, only inside the second argument of any, all, filter, map and their like.")
	}
	in := c.elems[len(c.elems)-1]
	switch n.Name {
	case "":
		return &ir.Node{Op: ir.Elem, Type: in.typ, Span: token, Token: token}
	case "index":
		return &ir.Node{Op: ir.ElemIndex, Type: types.IntType, Span: token, Token: token}
	case "acc":
		if in.reduce {
			return &ir.Node{Op: ir.ElemAcc, Type: types.AnyType, Span: token, Token: token}
		}
		return c.fail(token, codePointer, "Element outside of a predicate", "#acc is what reduce has so far; there is none here.")
	}
	return c.fail(token, codePointer, "Element outside of a predicate", "There is no #%s. The element is #, its index #index, and inside reduce there is #acc.%s", n.Name, diag.DidYouMean(n.Name, []string{"index", "acc"}))
}

func (c *checker) condition(n *ir.Node, what string) {
	if k := n.Type.Kind; c.failed[n] || k == types.Bool || k == types.Any || k == types.Nil {
		return
	}
	way := " Compare it with something."
	switch {
	case n.Type.IsNumber():
		way = " Compare it: " + c.text(n) + " != 0."
	case n.Type.Kind == types.String:
		way = " Compare it: " + c.text(n) + " != ''."
	}
	c.errorf(n.Span, codeCondition, "Not a condition", "%s is true or false, and this is %s.%s", what, typeName(n.Type), way)
}

// text gives what was written for a node, shortened.
func (c *checker) text(n *ir.Node) string {
	runes := []rune(c.src.text.S)
	s := string(runes[min(n.Span.Start, len(runes)):min(n.Span.End, len(runes))])
	if len(s) > 40 || strings.ContainsAny(s, "\n%") {
		return "x"
	}
	return s
}

// typeName gives a type for messages: short, whatever it holds.
func typeName(t types.Type) string {
	switch t.Kind {
	case types.List:
		return "a list"
	case types.Map, types.Object:
		return "an object"
	case types.Nil:
		return "nil"
	}
	t.Sensitive = false
	return t.String()
}
