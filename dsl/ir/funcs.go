package ir

import (
	"fmt"
	"strings"
	"sync"

	"keystone/dsl/types"
)

// Functions gives the functions of the language in the order of the
// reference. The slice and what it points at must not be changed.
func Functions() []*Func { return functions().list }

// FuncNamed gives the function, or nil.
func FuncNamed(name string) *Func { return functions().byName[name] }

type table struct {
	list   []*Func
	byName map[string]*Func
}

// functions is built once, on first use, and never changes.
var functions = sync.OnceValue(func() table {
	t := table{byName: map[string]*Func{}}
	for _, part := range [][]*Func{valueFuncs(), textFuncs(), numberFuncs(), timeFuncs(), listFuncs(), elementFuncs()} {
		for _, f := range part {
			t.list = append(t.list, f)
			t.byName[f.Name] = f
		}
	}
	return t
})

// kinds is a set of what an argument may be; any and nil always may.
type kinds uint16

const (
	aBool kinds = 1 << iota
	aInt
	aFloat
	aString
	aTime
	aBytes
	aList
	aObject
	aNumber = aInt | aFloat
	aAny    = kinds(0xffff)
)

func kindOf(t types.Type) kinds {
	switch {
	case t.Kind == types.Bool:
		return aBool
	case t.Kind == types.Int:
		return aInt
	case t.Kind == types.Float || t.Kind == types.Decimal:
		return aFloat
	case t.Kind == types.String:
		return aString
	case t.IsTime():
		return aTime
	case t.Kind == types.Bytes:
		return aBytes
	case t.Kind == types.List:
		return aList
	case t.Kind == types.Map || t.Kind == types.Object:
		return aObject
	}
	return aAny
}

func (k kinds) String() string {
	if k == aAny {
		return "anything"
	}
	var names []string
	if k&aNumber == aNumber {
		names = append(names, "a number")
		k &^= aNumber
	}
	for i, n := range []string{"a bool", "an int", "a float", "a string", "a time", "bytes", "a list", "an object"} {
		if k&(1<<i) != 0 {
			names = append(names, n)
		}
	}
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1]
}

// result computes the type of a call whose arguments fit their parameters.
type result func(args []types.Type, nodes []*Node) (types.Type, error)

func gives(t types.Type) result {
	return func([]types.Type, []*Node) (types.Type, error) { return t, nil }
}

// same gives the type of the first argument.
func same() result {
	return func(args []types.Type, _ []*Node) (types.Type, error) {
		if args[0].Kind == types.Nil {
			return types.NilType, nil
		}
		return args[0], nil
	}
}

// element gives the type of an element of the first argument, a list.
func element() result {
	return func(args []types.Type, _ []*Node) (types.Type, error) { return elemOf(args[0]), nil }
}

func elemOf(t types.Type) types.Type {
	if (t.Kind == types.List || t.Kind == types.Map) && t.Elem != nil {
		return *t.Elem
	}
	return types.AnyType
}

// fn declares a function: min is how many of params must be given. A last
// parameter whose name ends in "..." repeats.
func fn(name, signature, doc string, min int, params []kinds, res result, examples ...Example) *Func {
	f := &Func{Name: name, Signature: signature, Doc: doc, MinArgs: min, MaxArgs: len(params), Predicate: -1, Examples: examples}
	f.Result = func(args []types.Type, nodes []*Node) (types.Type, error) {
		for i, a := range args {
			if i == f.Predicate {
				continue
			}
			want := params[min0(i, len(params)-1)]
			if k := kindOf(a); k != aAny && k&want == 0 {
				return types.AnyType, &ArgError{Arg: i, Text: fmt.Sprintf("The %s argument of %s is %s, and it must be %s.", ordinal(i), name, a, want)}
			}
		}
		return res(args, nodes)
	}
	return f
}

func min0(a, b int) int { return max(min(a, b), 0) }

func ordinal(i int) string {
	if names := []string{"first", "second", "third", "fourth"}; i < len(names) {
		return names[i]
	}
	return fmt.Sprintf("%dth", i+1)
}

func (f *Func) variadic() *Func            { f.MaxArgs = -1; return f }
func (f *Func) constant(args ...int) *Func { f.ConstArgs = args; return f }
func (f *Func) nilIsValue() *Func          { f.Nil = NilIsValue; return f }
func (f *Func) condition() *Func           { f.Predicate, f.Condition = 1, true; return f }
func (f *Func) predicate() *Func           { f.Predicate = 1; return f }

// oneOf adds that constant argument i is one of the words.
func (f *Func) oneOf(i int, words ...string) *Func {
	return f.valid(i, func(v any) string {
		s, ok := v.(string)
		for _, w := range words {
			if ok && s == w {
				return ""
			}
		}
		return fmt.Sprintf("The %s argument of %s must be one of '%s'.", ordinal(i), f.Name, strings.Join(words, "', '"))
	})
}

// valid adds a check of constant argument i, which gives "" or what is wrong.
func (f *Func) valid(i int, check func(v any) string) *Func {
	inner := f.Result
	f.Result = func(args []types.Type, nodes []*Node) (types.Type, error) {
		if i < len(nodes) && nodes[i] != nil && nodes[i].Op == Const {
			if text := check(nodes[i].Value); text != "" {
				return types.AnyType, &ArgError{Arg: i, Text: text}
			}
		}
		return inner(args, nodes)
	}
	return f
}

func eg(expr, want string) Example        { return Example{Expr: expr, Want: want} }
func on(event, expr, want string) Example { return Example{Expr: expr, Event: event, Want: want} }
func fails(expr, code string) Example     { return Example{Expr: expr, Error: code} }
func failsOn(event, expr string) Example  { return Example{Expr: expr, Event: event, Error: CodeType} }

// Markdown gives the function's section of the reference.
func (f *Func) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s\n\n    %s\n\n%s\n\n", f.Name, f.Signature, f.Doc)
	if f.Nil == NilGivesNil && f.MaxArgs != 0 {
		if f.Predicate >= 0 {
			b.WriteString("It gives nil where the list is nil.\n")
		} else {
			b.WriteString("It gives nil where an argument is nil.\n")
		}
	} else if f.MaxArgs != 0 {
		b.WriteString("nil is a value like others here.\n")
	}
	if f.NotInJobs {
		b.WriteString("It is refused in jobs.\n")
	}
	b.WriteString("\n| expression | event | result |\n|---|---|---|\n")
	for _, e := range f.Examples {
		event, want := "", "`"+e.Want+"`"
		if e.Event != "" {
			event = "`" + e.Event + "`"
		}
		if e.Error != "" {
			want = "error `" + e.Error + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", strings.ReplaceAll(e.Expr, "|", "\\|"), event, want)
	}
	return b.String()
}
