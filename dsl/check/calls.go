package check

import (
	"cmp"
	"errors"
	"slices"

	"keystone/configs/diag"
	"keystone/dsl/ir"
	"keystone/dsl/types"

	"github.com/expr-lang/expr/ast"
)

func (c *checker) callNode(n *ast.CallNode) *ir.Node {
	switch callee := n.Callee.(type) {
	case *ast.IdentifierNode:
		if c.aggregateCall(callee.Value, loc(n)) {
			return c.aggregate(n, callee.Value, loc(n))
		}
		return c.call(callee.Value, n.Arguments, loc(n))
	case *ast.MemberNode:
		x := c.node(callee.Node)
		c.nodes(n.Arguments)
		s := union(x.Span, loc(n))
		name, ok := callee.Property.(*ast.StringNode)
		if ok && ir.FuncNamed(name.Value) != nil {
			return c.fail(loc(n), codeRefused, "Not part of the language", "There are no methods. The function is written %s(%s%s).", name.Value, c.text(x), ifThen(len(n.Arguments) > 0, ", …"))
		}
		if ok {
			return c.fail(loc(n), codeRefused, "Not part of the language", "There are no methods, and no function %q.%s", name.Value, elsewhere(name.Value))
		}
		return c.fail(s, codeRefused, "Not part of the language", "There are no methods.")
	}
	return c.fail(c.node(n.Callee).Span, codeRefused, "Not part of the language", "Only functions are called, by their name.")
}

// elsewhere says what takes the place of a function that other languages have.
func elsewhere(name string) string {
	instead := map[string]string{
		"fromJSON": "json(s)", "parse_json": "json(s)", "toJson": "toJSON(x)", "hasPrefix": "s startsWith 'x'", "hasSuffix": "s endsWith 'x'", "startswith": "s startsWith 'x'",
		"date": "parse_time(s, layout)", "timezone": "format_time(t, layout, 'Europe/Berlin')", "splitAfter": "split(s, separator)", "bitnand": "bitnot(bitand(a, b))", "bitushr": "bitshr(a, n)",
		"length": "len(x)", "size": "len(x)", "char_length": "len(x)", "uppercase": "upper(s)", "lowercase": "lower(s)", "toUpper": "upper(s)", "toLower": "lower(s)", "ucase": "upper(s)",
		"ifnull": "a ?? b", "nvl": "a ?? b", "isnull": "x == nil", "exists": "x != nil", "has": "x != nil", "defined": "x != nil",
		"substr": "s[0:3]", "substring": "s[0:3]", "slice": "x[0:3]", "match": "s matches `…`", "regex": "s matches `…`", "contains": "s contains 'x'", "includes": "x in list",
		"sqrt": "n ** 0.5", "pow": "a ** b", "mod": "a % b", "avg": "mean(list)", "md5": "hash(x, 'md5')", "sha256": "hash(x)", "sha1": "hash(x, 'sha1')", "concat_ws": "join(list, separator)",
		"to_string": "string(x)", "str": "string(x)", "to_int": "int(x)", "to_float": "float(x)", "number": "float(x)", "timestamp": "parse_time(x)", "to_timestamp": "parse_time(x)", "strftime": "format_time(t, layout)",
		"date_trunc": "truncate_time(t, 'day')", "if": "condition ? a : b", "iff": "condition ? a : b", "case": "condition ? a : b", "index": "indexOf(s, part)", "strpos": "indexOf(s, part)", "host": "url_host(s)", "typeof": "type(x)",
	}[name]
	if instead != "" {
		return " Write " + instead + "."
	}
	var names []string
	for _, f := range ir.Functions() {
		names = append(names, f.Name)
	}
	return diag.DidYouMean(name, names)
}

func (c *checker) call(name string, args []ast.Node, token ir.Span) *ir.Node {
	f := ir.FuncNamed(name)
	if f == nil {
		if c.calls != nil {
			return c.fail(token, codeFunction, "Unknown function", "There is neither an aggregate nor a function %q.%s", name, cmp.Or(diag.DidYouMean(name, aggregateNames()), elsewhere(name)))
		}
		c.nodes(args)
		return c.fail(token, codeFunction, "Unknown function", "There is no function %q.%s", name, elsewhere(name))
	}
	kids := make([]*ir.Node, len(args))
	for i, a := range args {
		kids[i] = c.argument(f, kids, a)
	}
	out := c.parent(ir.Call, types.AnyType, token, kids...)
	out.Func, out.Name = f, name
	if i := c.src.at(token.Start); i >= 0 {
		out.Span = c.closed(out.Span, c.src.token(i+1).From)
	}
	if f.NotInJobs && c.env.Jobs {
		return c.fail(token, codeJobs, "Not in jobs", "A job gives the same rows whenever it runs. Use the event's time instead of %s().", name)
	}
	if len(args) < f.MinArgs || f.MaxArgs >= 0 && len(args) > f.MaxArgs {
		return c.fail(token, codeArgCount, "Wrong number of arguments", "%s, and here are %d.", f.Signature, len(args))
	}
	ok := true
	for _, i := range f.ConstArgs {
		if i < len(kids) && kids[i].Op != ir.Const && !c.failed[kids[i]] {
			c.errorf(kids[i].Span, codeConstArg, "Argument must be a constant", "This argument of %s is known before the first event: a literal, or a constant as var.x or local.x.", name)
			ok = false
		}
	}
	if f.Condition && len(kids) > 1 {
		c.condition(kids[1], "A predicate")
	}
	if !ok || c.failed[out] {
		c.failed[out] = true
		return out
	}
	argTypes := make([]types.Type, len(kids))
	for i, k := range kids {
		argTypes[i] = k.Type
	}
	t, err := f.Result(argTypes, kids)
	var wrong *ir.ArgError
	switch {
	case errors.As(err, &wrong):
		return c.fail(kids[wrong.Arg].Span, codeArgument, "Wrong argument", "%s", wrong.Text)
	case err != nil:
		return c.fail(token, codeArgument, "Wrong argument", "%v.", err)
	}
	switch name {
	case "max", "min", "sort", "uniq":
		if unread(kids[0]) {
			return c.fail(kids[0].Span, codeArgument, "Wrong argument", "The elements of an event's list are %s only where they are read one by one. Write %s(map(%s, #)).", typeName(*kids[0].Type.Elem), name, c.text(kids[0]))
		}
	}
	out.Type = t
	return out
}

// argument checks an argument of a call whose earlier ones are checked.
func (c *checker) argument(f *ir.Func, before []*ir.Node, a ast.Node) *ir.Node {
	p, ok := a.(*ast.PredicateNode)
	if !ok {
		return c.node(a)
	}
	elem := types.AnyType
	if t := before[0].Type; t.Kind == types.List {
		elem = *t.Elem
	}
	c.elems = append(c.elems, element{typ: elem, reduce: f.Name == "reduce"})
	scope := slices.Clone(c.scope)
	out := c.node(p.Node)
	c.scope = scope
	c.elems = c.elems[:len(c.elems)-1]
	return out
}
