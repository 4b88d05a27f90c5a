package check

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"

	"keystone/dsl/ir"
	"keystone/dsl/reference"
	"keystone/dsl/types"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/parser/lexer"
)

func (c *checker) unary(n *ast.UnaryNode) *ir.Node {
	token := loc(n)
	if num, ok := n.Node.(*ast.IntegerNode); ok && n.Operator == "-" && c.src.minInt[num.Location().From] {
		return constant(int64(-1<<63), union(token, loc(num)))
	}
	x := c.node(n.Node)
	switch n.Operator {
	case "-":
		t := types.AnyType
		switch {
		case x.Type.Kind == types.Int, x.Type.Kind == types.Nil:
			t = x.Type
		case x.Type.IsNumber():
			t = types.FloatType
		case x.Type.Kind != types.Any && !c.failed[x]:
			return c.fail(x.Span, codeOperand, "Wrong type of operand", "- takes a number, and this is %s.", typeName(x.Type))
		}
		return c.fold(c.parent(ir.Neg, t, token, x))
	case "!", "not":
		c.condition(x, "What "+n.Operator+" takes")
		return c.fold(c.parent(ir.Not, types.BoolType, token, x))
	}
	return c.fail(token, codeRefused, "Not part of the language", "A sign + says nothing: leave it out.")
}

func (c *checker) binary(n *ast.BinaryNode) *ir.Node {
	if cmp := chain(n); cmp != nil {
		return c.chained(cmp)
	}
	token := loc(n)
	if c.ambiguousNot(n) {
		a, b := c.node(n.Left.(*ast.UnaryNode).Node), c.node(n.Right)
		return c.broken(union(union(a.Span, b.Span), loc(n.Left)))
	}
	if n.Operator == "matches" {
		return c.matches(n)
	}
	a := c.node(n.Left)
	return c.operator(n.Operator, token, a, c.node(n.Right))
}

// operator makes the node of a binary operator.
func (c *checker) operator(op string, token ir.Span, a, b *ir.Node) *ir.Node {
	switch op {
	case "&&", "and":
		c.condition(a, "What "+op+" joins")
		c.condition(b, "What "+op+" joins")
		return c.fold(c.parent(ir.And, types.BoolType, token, a, b))
	case "||", "or":
		c.condition(a, "What "+op+" joins")
		c.condition(b, "What "+op+" joins")
		return c.fold(c.parent(ir.Or, types.BoolType, token, a, b))
	case "==":
		return c.equality(ir.Eq, token, a, b)
	case "!=":
		return c.equality(ir.Ne, token, a, b)
	case "<":
		return c.ordering(ir.Lt, op, token, a, b)
	case "<=":
		return c.ordering(ir.Le, op, token, a, b)
	case ">":
		return c.ordering(ir.Gt, op, token, a, b)
	case ">=":
		return c.ordering(ir.Ge, op, token, a, b)
	case "in":
		return c.in(token, a, b)
	case "contains":
		return c.textual(ir.Contains, op, token, a, b)
	case "startsWith":
		return c.textual(ir.StartsWith, op, token, a, b)
	case "endsWith":
		return c.textual(ir.EndsWith, op, token, a, b)
	case "??":
		return c.fold(c.parent(ir.Coalesce, types.Join(a.Type, b.Type), token, a, b))
	case "..":
		return c.rangeOf(token, a, b)
	case "+":
		return c.arithmetic(ir.Add, op, token, a, b)
	case "-":
		return c.arithmetic(ir.Sub, op, token, a, b)
	case "*":
		return c.arithmetic(ir.Mul, op, token, a, b)
	case "/":
		return c.arithmetic(ir.Div, op, token, a, b)
	case "%":
		return c.arithmetic(ir.Mod, op, token, a, b)
	case "**", "^":
		return c.arithmetic(ir.Pow, op, token, a, b)
	}
	return c.fail(token, codeRefused, "Not part of the language", "There is no operator %s.", op)
}

// chain finds a < b < c, of which the parser makes a < b && b < c with b
// shared: it gives the comparisons from left to right, or nil.
func chain(n *ast.BinaryNode) []*ast.BinaryNode {
	var out []*ast.BinaryNode
	for n.Operator == "&&" {
		right, ok := n.Right.(*ast.BinaryNode)
		if !ok {
			return nil
		}
		out = append(out, right)
		left, ok := n.Left.(*ast.BinaryNode)
		if !ok {
			return nil
		}
		last := left
		if left.Operator == "&&" {
			if last, ok = left.Right.(*ast.BinaryNode); !ok {
				return nil
			}
		}
		if last.Right != right.Left {
			return nil
		}
		n = left
	}
	if len(out) == 0 {
		return nil
	}
	out = append(out, n)
	slices.Reverse(out)
	return out
}

// chained makes a < b && (b < c && …) with each middle value computed once.
func (c *checker) chained(cmp []*ast.BinaryNode) *ir.Node {
	return c.chainFrom(c.node(cmp[0].Left), cmp)
}

func (c *checker) chainFrom(a *ir.Node, cmp []*ast.BinaryNode) *ir.Node {
	b := c.node(cmp[0].Right)
	if len(cmp) == 1 {
		return c.operator(cmp[0].Operator, loc(cmp[0]), a, b)
	}
	return c.bind(b, func(use *ir.Node) *ir.Node {
		left := c.operator(cmp[0].Operator, loc(cmp[0]), a, use)
		right := c.chainFrom(use, cmp[1:])
		return c.fold(c.parent(ir.And, types.BoolType, loc(cmp[1]), left, right))
	})
}

// ambiguousNot refuses `not a == b`, and tells whether it did.
func (c *checker) ambiguousNot(n *ast.BinaryNode) bool {
	not, ok := n.Left.(*ast.UnaryNode)
	if !ok || not.Operator != "not" {
		return false
	}
	var instead string
	switch n.Operator {
	case "==":
		instead = "a != b"
	case "!=":
		instead = "a == b"
	case "<", "<=", ">", ">=":
		instead = "not (a " + n.Operator + " b)"
	case "in", "contains", "startsWith", "endsWith", "matches":
		instead = "a not " + n.Operator + " b"
	default:
		return false
	}
	// (not a) == b is clear: the bracket before not is closed right before the operator.
	i := c.src.at(not.Location().From)
	if open := c.src.token(i - 1); open.Is(lexer.Bracket, "(") && c.src.close[open.From] <= n.Location().From {
		return false
	}
	c.errorf(union(loc(not), loc(n)), codeNot, "Ambiguous not", "This means (not a) %s b. Write %s, or say (not a) with parentheses.", n.Operator, instead)
	return true
}

// class sorts types into those whose values can be equal or ordered: "" is unknown.
func class(t types.Type) string {
	switch {
	case t.Kind == types.Any || t.Kind == types.Nil:
		return ""
	case t.IsNumber():
		return "number"
	case t.IsTime():
		return "time"
	case t.Kind == types.Map:
		return "object"
	}
	return map[types.Kind]string{types.Bool: "bool", types.String: "string", types.Bytes: "bytes", types.List: "list", types.Object: "object"}[t.Kind]
}

// convert says how two types may be compared after all.
func (c *checker) convert(a, b *ir.Node) string {
	x, y := class(a.Type), class(b.Type)
	if y == "time" || x == "string" && y == "number" {
		a, b, x, y = b, a, y, x
	}
	switch {
	case x == "time" && y == "string":
		return fmt.Sprintf(" Write parse_time(%s).", c.text(b))
	case x == "time" && y == "number":
		return fmt.Sprintf(" Write int(%s), which is in milliseconds, or parse_time(%s).", c.text(a), c.text(b))
	case x == "number" && y == "string" && b.Op == ir.Const:
		return " Leave the quotes out if a number is meant."
	case x == "number" && y == "string":
		return fmt.Sprintf(" Convert one: float(%s) or string(%s).", c.text(b), c.text(a))
	case x == "bool" && y == "string" && b.Op == ir.Const:
		return " Leave the quotes out: true, false."
	case x == "list":
		return " To look for an element write x in list."
	}
	return ""
}

func (c *checker) equality(op ir.Op, token ir.Span, a, b *ir.Node) *ir.Node {
	out := c.parent(op, types.BoolType, token, a, b)
	if x, y := class(a.Type), class(b.Type); !c.failed[out] && x != "" && y != "" && x != y {
		always := map[ir.Op]string{ir.Eq: "false", ir.Ne: "true"}[op]
		return c.fail(token, codeCompare, "Values of different types", "This is always %s: %s is %s and %s is %s.%s", always, c.text(a), typeName(a.Type), c.text(b), typeName(b.Type), c.convert(a, b))
	}
	return c.fold(out)
}

func (c *checker) ordering(op ir.Op, name string, token ir.Span, a, b *ir.Node) *ir.Node {
	out := c.parent(op, types.BoolType, token, a, b)
	if c.failed[out] {
		return out
	}
	for _, k := range []*ir.Node{a, b} {
		if x := class(k.Type); x != "" && x != "number" && x != "string" && x != "time" {
			return c.fail(k.Span, codeOperand, "Wrong type of operand", "%s compares numbers, strings or times, and this is %s.", name, typeName(k.Type))
		}
	}
	if x, y := class(a.Type), class(b.Type); x != "" && y != "" && x != y {
		return c.fail(token, codeCompare, "Values of different types", "%s is %s and %s is %s: they have no order.%s", c.text(a), typeName(a.Type), c.text(b), typeName(b.Type), c.convert(a, b))
	}
	return c.fold(out)
}

func (c *checker) in(token ir.Span, a, b *ir.Node) *ir.Node {
	out := c.parent(ir.In, types.BoolType, token, a, b)
	if c.failed[out] {
		return out
	}
	switch b.Type.Kind {
	case types.List:
		elem := *b.Type.Elem
		if unread(b) {
			return c.fail(token, codeOperand, "Wrong type of operand", "The elements of an event's list are %s only where they are read one by one. Write any(%s, # == …).", typeName(elem), c.text(b))
		}
		if x, y := class(a.Type), class(elem); x != "" && y != "" && x != y {
			return c.fail(token, codeCompare, "Values of different types", "This is always false: %s is %s and the elements are %s.%s", c.text(a), typeName(a.Type), typeName(elem),
				c.convert(a, &ir.Node{Op: ir.Const, Type: elem, Span: b.Span}))
		}
		if values, ok := b.Value.([]any); ok && b.Op == ir.Const && class(a.Type) != "" {
			for _, v := range values {
				if y := class(TypeOf(v)); y != "" && y != class(a.Type) {
					return c.fail(token, codeCompare, "Values of different types", "%s is %s, and an element that is %s never equals it.", c.text(a), typeName(a.Type), typeName(TypeOf(v)))
				}
			}
		}
	case types.Map, types.Object:
		if x := class(a.Type); x != "" && x != "string" {
			return c.fail(a.Span, codeOperand, "Wrong type of operand", "in an object looks for a name, and this is %s.", typeName(a.Type))
		}
	case types.Any, types.Nil:
	case types.String:
		return c.fail(b.Span, codeOperand, "Wrong type of operand", "in looks into lists and objects. For a part of a string write %s contains %s.", c.text(b), c.text(a))
	default:
		return c.fail(b.Span, codeOperand, "Wrong type of operand", "in looks into lists and objects, and this is %s.", typeName(b.Type))
	}
	return c.fold(out)
}

// unread tells a list of the event whose elements are times or bytes: they
// become that where an element is read, not where a function compares them.
func unread(n *ir.Node) bool {
	if n.Type.Kind != types.List || !n.Type.Elem.IsTime() && n.Type.Elem.Kind != types.Bytes {
		return false
	}
	return n.Op != ir.List && !(n.Op == ir.Call && n.Func.Name == "map")
}

func (c *checker) textual(op ir.Op, name string, token ir.Span, a, b *ir.Node) *ir.Node {
	out := c.parent(op, types.BoolType, token, a, b)
	for _, k := range []*ir.Node{a, b} {
		if x := class(k.Type); !c.failed[k] && x != "" && x != "string" {
			way := ""
			if k == a && x == "list" && op == ir.Contains {
				way = fmt.Sprintf(" Write %s in %s.", c.text(b), c.text(a))
			}
			c.errorf(k.Span, codeOperand, "Wrong type of operand", "%s takes strings, and this is %s.%s", name, typeName(k.Type), way)
			c.failed[out] = true
		}
	}
	return c.fold(out)
}

func (c *checker) matches(n *ast.BinaryNode) *ir.Node {
	token := loc(n)
	x := c.node(n.Left)
	pattern := c.node(n.Right)
	out := c.parent(ir.Matches, types.BoolType, token, x, pattern)
	out.Kids = out.Kids[:1]
	if k := class(x.Type); !c.failed[x] && k != "" && k != "string" {
		return c.fail(x.Span, codeOperand, "Wrong type of operand", "matches takes a string, and this is %s.", typeName(x.Type))
	}
	if c.failed[out] {
		return out
	}
	text, ok := pattern.Value.(string)
	if pattern.Op != ir.Const || !ok {
		return c.fail(pattern.Span, codeConstArg, "Argument must be a constant", "The regular expression is known before the first event: text in backticks, or a constant as local.x.")
	}
	re, err := regexp.Compile(text)
	if err != nil {
		var e *syntax.Error
		detail := "The constant is no regular expression"
		if errors.As(err, &e) && c.src.token(c.src.at(pattern.Span.Start)).Kind == lexer.String { // a constant's value is not shown
			detail = e.Code.String() + ": `" + e.Expr + "`"
		}
		return c.fail(pattern.Span, codeRegexp, "Invalid regular expression", "%s.", detail)
	}
	out.Regexp = re
	return c.fold(out)
}

func (c *checker) arithmetic(op ir.Op, name string, token ir.Span, a, b *ir.Node) *ir.Node {
	out := c.parent(op, types.AnyType, token, a, b)
	if c.failed[out] {
		return out
	}
	x, y := class(a.Type), class(b.Type)
	moves := (op == ir.Add || op == ir.Sub)
	for _, k := range []*ir.Node{a, b} {
		switch kc := class(k.Type); {
		case kc == "" || kc == "number" && (op != ir.Mod || k.Type.Kind == types.Int):
		case kc == "number":
			return c.fail(k.Span, codeOperand, "Wrong type of operand", "%% takes ints, and this is %s. Write int(%s).", typeName(k.Type), c.text(k))
		case kc == "string" && op == ir.Add, kc == "time" && moves:
		case op == ir.Sub && c.minusField(k) != "":
			return c.fail(k.Span, codeOperand, "Wrong type of operand", "- subtracts, and %s is %s. The field %q is written event[%q].", c.text(k), typeName(k.Type), c.minusField(k), c.minusField(k))
		default:
			return c.fail(k.Span, codeOperand, "Wrong type of operand", "%s takes %s, and this is %s.%s", name, operands(op), typeName(k.Type), toNumber(kc, c.text(k)))
		}
	}
	switch {
	case x == "time" || y == "time":
		return c.timeArithmetic(out, op, a, b)
	case x == "" || y == "":
		if op == ir.Div || op == ir.Pow {
			out.Type = types.FloatType
		} else if op == ir.Mod {
			out.Type = types.IntType
		} else if x == "string" || y == "string" {
			out.Type = types.StringType
		} else if (a.Type.Kind == types.Float || b.Type.Kind == types.Float) && op == ir.Mul {
			out.Type = types.FloatType
		}
	case x != y:
		return c.fail(token, codeOperand, "Wrong type of operand", "%s is %s and %s is %s. To join text write string(%s).", c.text(a), typeName(a.Type), c.text(b), typeName(b.Type), c.text(map[bool]*ir.Node{true: a, false: b}[x == "number"]))
	case x == "string":
		out.Type = types.StringType
	case op == ir.Div || op == ir.Pow:
		out.Type = types.FloatType
	case a.Type.Kind == types.Int && b.Type.Kind == types.Int:
		out.Type = types.IntType
	default:
		out.Type = types.FloatType
	}
	return c.fold(out)
}

// minusField gives the field user-id if the node is user or id of user-id.
func (c *checker) minusField(n *ir.Node) string {
	if len(c.diags) >= maxErrors {
		return ""
	}
	name := c.src.joined(c.src.at(n.Span.Start))
	if _, ok := c.env.Event.Field(name); ok && name != "" {
		return name
	}
	return ""
}

func operands(op ir.Op) string {
	switch op {
	case ir.Add:
		return "numbers or strings"
	case ir.Mod:
		return "ints"
	}
	return "numbers"
}

func toNumber(class, text string) string {
	if class == "string" {
		return " Write float(" + text + ") or int(" + text + ") if it holds a number."
	}
	return ""
}

// timeArithmetic checks t - t, t + ms, ms + t and t - ms.
func (c *checker) timeArithmetic(out *ir.Node, op ir.Op, a, b *ir.Node) *ir.Node {
	x, y := class(a.Type), class(b.Type)
	if x == "time" && y == "time" {
		if op != ir.Sub {
			return c.fail(out.Token, codeOperand, "Wrong type of operand", "Two times can be subtracted, not added.")
		}
		out.Type = types.IntType
		return out
	}
	other, at := b, a
	if y == "time" {
		other, at = a, b
		if op == ir.Sub && x != "" {
			return c.fail(out.Token, codeOperand, "Wrong type of operand", "A time cannot be subtracted from %s.", typeName(a.Type))
		}
	}
	switch k := other.Type.Kind; {
	case k == types.Int || k == types.Nil && op == ir.Add:
		out.Type = at.Type
	case k == types.Any && op == ir.Add:
		out.Type = at.Type
	case k == types.Any || k == types.Nil:
		out.Type = types.AnyType // time - any is an int or a time
	default:
		return c.fail(other.Span, codeOperand, "Wrong type of operand", "A time moves by an int of milliseconds, and this is %s. Write duration('1h') for lengths.", typeName(other.Type))
	}
	return out
}

func (c *checker) rangeOf(token ir.Span, a, b *ir.Node) *ir.Node {
	out := c.parent(ir.Range, types.ListOf(types.IntType), token, a, b)
	for _, k := range []*ir.Node{a, b} {
		if kind := k.Type.Kind; !c.failed[k] && kind != types.Int && kind != types.Any && kind != types.Nil {
			c.errorf(k.Span, codeOperand, "Wrong type of operand", ".. takes ints, and this is %s.", typeName(k.Type))
			c.failed[out] = true
		}
	}
	lo, ok1 := a.Value.(int64)
	hi, ok2 := b.Value.(int64)
	if ok1 && ok2 && hi >= lo && uint64(hi)-uint64(lo) >= ir.MaxElements {
		return c.fail(out.Span, codeElements, "Too many elements", "The range has more than %d elements. To ask whether a number lies in it write %d <= n and n <= %d.", ir.MaxElements, lo, hi)
	}
	return c.fold(out)
}

func (c *checker) conditional(n *ast.ConditionalNode) *ir.Node {
	cond := c.node(n.Cond)
	if n.Exp1 == n.Cond { // a ?: b
		return c.bind(cond, func(use *ir.Node) *ir.Node { return c.choose(use, use, c.node(n.Exp2)) })
	}
	return c.choose(cond, c.node(n.Exp1), c.node(n.Exp2))
}

func (c *checker) choose(cond, a, b *ir.Node) *ir.Node {
	c.condition(cond, "What stands before ?")
	token := cond.Span
	if i := c.src.at(cond.Span.Start); i >= 0 {
		token = cond.Token
	}
	out := c.parent(ir.Cond, types.Join(a.Type, b.Type), token, cond, a, b)
	return c.fold(out)
}

// fold replaces a node over constants by its value. Computing it may fail
// for certain; then it fails for every event, and that is an error now.
func (c *checker) fold(n *ir.Node) *ir.Node {
	if c.failed[n] {
		return n
	}
	if n.Op == ir.Cond && n.Kids[0].Op == ir.Const {
		if v, isBool := n.Kids[0].Value.(bool); isBool || n.Kids[0].Value == nil {
			k := n.Kids[2]
			if v {
				k = n.Kids[1]
			}
			out := *k
			out.Span = n.Span
			return &out
		}
	}
	for _, k := range n.Kids {
		if k != nil && k.Op != ir.Const {
			return n
		}
	}
	v, err := reference.Constant(n)
	if err != nil {
		return c.fail(err.Token, codeAlwaysFails, "Always fails", "Computing this fails whatever the event: %s.", err.Text)
	}
	out := constant(v, n.Span)
	out.Token = n.Token
	if len(n.Kids) > 0 && v != nil && n.Type.Kind != types.Any {
		out.Type = n.Type
	}
	return out
}
