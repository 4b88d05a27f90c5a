package check

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"keystone/configs/diag"
	"keystone/dsl/ir"
	"keystone/dsl/types"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/builtin"
	"github.com/expr-lang/expr/parser/lexer"
)

// Calls are the distinct calls of aggregates that the fields of one aggregation make.
type Calls struct {
	List  []ir.AggCall
	index map[string]int // by what distinguishes them
}

// Aggregate checks one field of an aggregation: its tree is over the results of the calls, which
// are added to calls. The tree is nil if there are errors.
func Aggregate(text diag.Text, env Env, calls *Calls) (*ir.Expr, diag.Diagnostics) {
	src, diags := scan(text)
	if diags.HasErrors() {
		return nil, diags
	}
	src.fields, src.aggregates = env.Event.FieldNames(), true
	tree, diags := src.parse()
	if diags.HasErrors() {
		return nil, diags
	}
	c := &checker{src: src, env: env, failed: map[*ir.Node]bool{}, calls: calls}
	root := c.node(tree)
	if c.diags.HasErrors() {
		return nil, c.diags
	}
	return &ir.Expr{Root: root, Text: text}, c.diags
}

// overridden are the names that mean aggregates and not functions of lists, for the parser.
func overridden() map[string]*builtin.Function {
	m := map[string]*builtin.Function{"where": nil}
	for _, a := range ir.Aggregates() {
		m[a.Name] = nil
	}
	return m
}

// aggregateCall gives the aggregate or where that a call names, nil and false for any other.
func (c *checker) aggregateCall(name string, token ir.Span) bool {
	if !c.src.aggregates || name != "where" && ir.AggregateNamed(name) == nil {
		return false
	}
	return !c.src.token(c.src.at(token.Start)-1).Is(lexer.Operator, "::")
}

// outside reports what is read of a row where there are many.
func (c *checker) outside(what string, token ir.Span) *ir.Node {
	return c.fail(token, codeAggregate, "Outside of an aggregate", "There are many rows here, each with its own %s: name an aggregate of it, such as any_value(%s), max(%s) or count(where(%s != nil)). The fields of the key are in the output anyway.", what, what, what, what)
}

// aggregate checks a call of an aggregate, or a where that stands elsewhere.
func (c *checker) aggregate(n *ast.CallNode, name string, token ir.Span) *ir.Node {
	span := token
	if i := c.src.at(token.Start); i >= 0 {
		span = c.closed(span, c.src.token(i+1).From)
	}
	switch {
	case name == "where":
		return c.fail(token, codeAggregate, "where outside of an aggregate", "where(CONDITION) is the last argument of an aggregate, such as count(where(ok)) or sum(n, where(ok)).")
	case c.calls == nil:
		way := ""
		if ir.FuncNamed(name) != nil {
			way = fmt.Sprintf(" The function of lists is written ::%s(…) here.", name)
		}
		return c.fail(token, codeAggregate, "Aggregate inside of an aggregate", "%s is computed of all rows, and this is computed of each.%s", name, way)
	case len(c.elems) > 0:
		return c.fail(token, codeAggregate, "Aggregate inside of a predicate", "%s is computed once for all rows. Write let x = %s; before what uses it.", name, c.text(&ir.Node{Span: span}))
	}
	a := ir.AggregateNamed(name)
	inner := &checker{src: c.src, env: c.env, failed: c.failed, hidden: c.scope}
	call := ir.AggCall{Func: name, Text: c.src.text, Span: span}
	args := n.Arguments
	if len(args) > 0 {
		if w, token, ok := whereOf(args[len(args)-1]); ok && c.aggregateCall("where", token) {
			args = args[:len(args)-1]
			call.Where = c.where(inner, w, token)
		}
	}
	least, most := a.Args, a.Args+len(a.Params)
	if a.Optional {
		least = 0
	}
	for _, p := range a.Params {
		if p.Default == nil {
			least++
		}
	}
	if len(args) < least || len(args) > most {
		for _, x := range args {
			inner.node(x)
		}
		c.diags.Append(inner.diags...)
		return c.fail(token, codeArgCount, "Wrong number of arguments", "%s, with where(CONDITION) as the last argument if only some rows count.", a.Signature)
	}
	behind := args[min(a.Args, len(args)):]
	args = args[:len(args)-len(behind)]
	var ok bool
	call.Params, ok = c.params(a, inner, behind)
	argTypes := make([]types.Type, 0, len(args))
	for _, x := range args {
		inner.slots, inner.scope = 0, nil
		root := inner.node(x)
		call.Args = append(call.Args, &ir.Expr{Root: root, Text: c.src.text})
		argTypes = append(argTypes, root.Type)
	}
	ok = ok && !inner.diags.HasErrors()
	c.diags.Append(inner.diags...)
	if !ok {
		return c.broken(span)
	}
	t, err := a.Result(argTypes)
	if wrong := (*ir.ArgError)(nil); errors.As(err, &wrong) {
		return c.fail(call.Args[wrong.Arg].Root.Span, codeArgument, "Wrong argument", "%s", wrong.Text)
	}
	call.Type = t
	return &ir.Node{Op: ir.Field, Type: t, Span: span, Token: token, Path: []ir.Step{{Name: ir.AggField(c.calls.add(call))}}}
}

// whereOf takes where(CONDITION) apart.
func whereOf(n ast.Node) (*ast.CallNode, ir.Span, bool) {
	call, ok := n.(*ast.CallNode)
	if !ok {
		return nil, ir.Span{}, false
	}
	id, ok := call.Callee.(*ast.IdentifierNode)
	return call, loc(n), ok && id.Value == "where"
}

func (c *checker) where(inner *checker, w *ast.CallNode, token ir.Span) *ir.Expr {
	if len(w.Arguments) != 1 {
		c.errorf(token, codeArgCount, "Wrong number of arguments", "where takes one condition; join several by &&.")
		return nil
	}
	root := inner.node(w.Arguments[0])
	inner.condition(root, "The condition of where")
	return &ir.Expr{Root: root, Text: c.src.text}
}

// params gives the constants behind the arguments, and whether they are right.
func (c *checker) params(a *ir.Aggregate, inner *checker, given []ast.Node) ([]any, bool) {
	var out []any
	ok := true
	for i, p := range a.Params {
		v := p.Default
		if i < len(given) {
			var right bool
			v, right = inner.param(a, p, given[i])
			ok = ok && right
		}
		out = append(out, v)
	}
	return out, ok
}

func (c *checker) param(a *ir.Aggregate, p ir.Param, n ast.Node) (any, bool) {
	x := c.node(n)
	if c.failed[x] {
		return nil, false
	}
	if x.Op != ir.Const {
		c.errorf(x.Span, codeConstArg, "Argument must be a constant", "%s of %s is known before the first row: a literal, or a constant as var.x or local.x.", p.Name, a.Name)
		return nil, false
	}
	var f float64
	v := x.Value
	switch n := v.(type) {
	case int64:
		if f = float64(n); !p.Int {
			v = f
		}
	case float64:
		if f = n; p.Int {
			v = nil
		}
	default:
		v = nil
	}
	if v == nil || f < p.Min || f > p.Max {
		what := "a number"
		if p.Int {
			what = "a whole number"
		}
		c.errorf(x.Span, codeArgument, "Wrong argument", "%s of %s is %s from %s to %s.", p.Name, a.Name, what, strconv.FormatFloat(p.Min, 'f', -1, 64), strconv.FormatFloat(p.Max, 'f', -1, 64))
		return nil, false
	}
	return v, true
}

// add gives the index of the call, which is kept once.
func (s *Calls) add(call ir.AggCall) int {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %v", call.Func, call.Params)
	for _, a := range call.Args {
		same(&b, a.Root)
	}
	if call.Where != nil {
		b.WriteString(" where")
		same(&b, call.Where.Root)
	}
	if i, ok := s.index[b.String()]; ok {
		return i
	}
	if s.index == nil {
		s.index = map[string]int{}
	}
	s.index[b.String()] = len(s.List)
	s.List = append(s.List, call)
	return len(s.List) - 1
}

// same writes what a tree computes: equal text, equal values.
func same(b *strings.Builder, n *ir.Node) {
	if n == nil {
		b.WriteString(" _")
		return
	}
	fmt.Fprintf(b, " (%d %q %q %d %d %T %#v %q", n.Op, n.Name, n.Names, n.Slot, n.Depth, n.Value, n.Value, n.Type)
	for _, s := range n.Path {
		fmt.Fprintf(b, " %q.%d.%t", s.Name, s.Index, s.IsIndex)
	}
	if n.Regexp != nil {
		fmt.Fprintf(b, " %q", n.Regexp)
	}
	for _, k := range n.Kids {
		same(b, k)
	}
	b.WriteByte(')')
}

// aggregateNames lists what may be called in the fields of an aggregation besides functions.
func aggregateNames() []string {
	var names []string
	for _, a := range ir.Aggregates() {
		names = append(names, a.Name)
	}
	slices.Sort(names)
	return names
}
