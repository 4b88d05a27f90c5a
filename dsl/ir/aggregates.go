package ir

import (
	"fmt"
	"slices"
	"sync"

	"keystone/dsl/types"
)

// Aggregate declares an aggregate: all that the checker and the reference need. It computes
// one value of the rows of a key. Rows for which its argument is nil do not count.
type Aggregate struct {
	Name      string
	Signature string
	Doc       string // sentences
	Args      int    // expressions over the row
	Optional  bool   // its one argument may be left out
	Params    []Param
	Result    func(args []types.Type) (types.Type, error) // or an *ArgError
	Examples  []AggExample
}

// Param is a constant behind the arguments of an aggregate.
type Param struct {
	Name     string
	Int      bool
	Default  any // int64 or float64; nil: it must be given
	Min, Max float64
}

// AggExample is an aggregate over rows {"x": …}, given as a JSON list of x, in the order of their times.
type AggExample struct{ Expr, Rows, Want string }

// Aggregates gives the aggregates in the order of the reference. The slice and what it points at must not be changed.
func Aggregates() []*Aggregate { return aggregates() }

// AggregateNamed gives the aggregate, or nil.
func AggregateNamed(name string) *Aggregate {
	list := aggregates()
	if i := slices.IndexFunc(list, func(a *Aggregate) bool { return a.Name == name }); i >= 0 {
		return list[i]
	}
	return nil
}

func agg(name, signature, doc string, args []kinds, res func(types.Type) types.Type, examples ...AggExample) *Aggregate {
	a := &Aggregate{Name: name, Signature: signature, Doc: doc, Args: len(args), Examples: examples}
	a.Result = func(got []types.Type) (types.Type, error) {
		for i, t := range got {
			if k := kindOf(t); k != aAny && k&args[i] == 0 {
				return types.AnyType, &ArgError{Arg: i, Text: fmt.Sprintf("%s is of %s, and this is %s.", name, args[i], t)}
			}
		}
		if len(got) == 0 {
			return res(types.AnyType), nil
		}
		return res(got[0]), nil
	}
	return a
}

func (a *Aggregate) optional() *Aggregate            { a.Optional = true; return a }
func (a *Aggregate) with(params ...Param) *Aggregate { a.Params = params; return a }
func over(expr, rows, want string) AggExample        { return AggExample{expr, rows, want} }
func always(t types.Type) func(types.Type) types.Type {
	return func(types.Type) types.Type { return t }
}
func itself(t types.Type) types.Type {
	if t.Kind == types.Nil {
		return types.AnyType
	}
	return t
}

// The bounds of what an aggregate keeps of a key; more different values, and larger ones, are an error with the code "limit".
const (
	MaxCollect       = 100_000
	MaxCollectBytes  = 16 << 20 // of the values of collect, as they are kept
	MaxTopK          = 1000
	MaxDistinct      = 1_000_000 // values of count_distinct and top_k
	MaxDistinctBytes = 64 << 20
)

var aggregates = sync.OnceValue(func() []*Aggregate {
	any1, num := []kinds{aAny}, []kinds{aNumber}
	ordered := []kinds{aNumber | aString | aTime | aBool}
	return []*Aggregate{
		agg("count", "count()  count(x) -> int", "How many rows there are, or for how many x is not nil.", any1, always(types.IntType), over("count()", "[1, null, 2]", "3"), over("count(x)", "[1, null, 2]", "2"), over("count(where(x > 1))", "[1, null, 2]", "1")).optional(),
		agg("sum", "sum(x) -> number", "The sum; nil where no row counts. Floats are added exactly and rounded once, so that their order does not matter; a sum of ints that does not fit 64 bits in the end is an evaluation error, whatever it was on the way.", num, func(t types.Type) types.Type {
			if t.Kind == types.Decimal {
				return types.FloatType
			}
			return itself(t)
		}, over("sum(x)", "[1, null, 2]", "3"), over("sum(x)", "[0.1, 0.2, 0.3]", "0.6"), over("sum(x, where(x > 5))", "[1, 2]", "null"), over("sum(x) ?? 0", "[]", "0")),
		agg("avg", "avg(x) -> float", "The mean, exact and rounded once; nil where no row counts.", num, always(types.FloatType), over("avg(x)", "[1, null, 2]", "1.5"), over("avg(x)", "[null]", "null")),
		agg("min", "min(x) -> any", "The smallest of numbers, strings (by bytes), times or bools; nil where no row counts. Where x has several of these kinds, bools come before numbers, and those before strings.", ordered, itself, over("min(x)", "[3, 1, 2]", "1"), over("min(x)", `["b", "a"]`, `"a"`)),
		agg("max", "max(x) -> any", "The largest of numbers, strings (by bytes), times or bools; nil where no row counts. Where x has several of these kinds, bools come before numbers, and those before strings.", ordered, itself, over("max(x)", "[3, 1, 2]", "3"), over("max(x)", "[null]", "null")),
		agg("first", "first(x) -> any", "x of the row with the smallest event time; of equal ones the order is fixed (read, partition, offset). nil where no row counts.", any1, itself, over("first(x)", "[null, 3, 1]", "3")),
		agg("last", "last(x) -> any", "x of the row with the greatest event time; of equal ones the order is fixed (read, partition, offset). nil where no row counts.", any1, itself, over("last(x)", "[3, 1, null]", "1")),
		agg("count_distinct", "count_distinct(x) -> int", "How many different values x has, exactly: state grows with their number, and more than a million, or 64 MiB, for one key are an evaluation error. 1 and 1.0 are one value; several expressions count together as a list, count_distinct([a, b]).", any1, always(types.IntType), over("count_distinct(x)", `["a", "b", "a", null]`, "2")),
		agg("approx_count_distinct", "approx_count_distinct(x) -> int", "About how many different values x has: exact up to 1,024, beyond that with a standard error of 0.81 % (HyperLogLog with 2^14 registers, 12 KiB of state for a key).", any1, always(types.IntType), over("approx_count_distinct(x)", `["a", "b", "a", null]`, "2")),
		agg("collect", "collect(x, limit) -> list", "The values of x in the order of event time, at most limit of them (1,000 unless given), the earliest. Together they may have 16 MiB; beyond that is an evaluation error.", any1, func(t types.Type) types.Type { return types.ListOf(itself(t)) }, over("collect(x)", "[3, null, 1]", "[3,1]"), over("collect(x, 1)", "[3, 1]", "[3]")).
			with(Param{Name: "limit", Int: true, Default: int64(1000), Min: 1, Max: MaxCollect}),
		agg("top_k", "top_k(x, k) -> list", "The k most frequent values of x with how often they occur, as objects { value, count }, the most frequent first, equal ones by value. They are counted exactly: state grows with the number of values, and more than a million, or 64 MiB, for one key are an evaluation error.", any1, func(t types.Type) types.Type {
			return types.ListOf(types.ObjectOf(types.Field{Name: "value", Type: itself(t)}, types.Field{Name: "count", Type: types.IntType}))
		}, over("top_k(x, 1)", `["a", "b", "b"]`, `[{"value":"b","count":2}]`)).
			with(Param{Name: "k", Int: true, Min: 1, Max: MaxTopK}),
		agg("percentile", "percentile(x, p) -> float", "About the value below which the part p of all values lies, from 0 (the smallest) to 1 (the greatest): percentile(ms, 0.99). Of n values it is the one at rank p × n, rounded up, off by at most 0.8 % of itself; the smallest and the greatest are exact. nil where no row counts.", num, always(types.FloatType), over("percentile(x, 0.5)", "[64, 1, 1000]", "64.5"), over("percentile(x, 1)", "[64, 1, 1000]", "1000"), over("percentile(x, 0.5)", "[null]", "null")).
			with(Param{Name: "p", Min: 0, Max: 1}),
		agg("stddev", "stddev(x) -> float", "The standard deviation of a sample, of exact sums and rounded once; nil for fewer than two values.", num, always(types.FloatType), over("stddev(x)", "[2, 4]", "1.4142135623730951"), over("stddev(x)", "[2]", "null")),
		agg("any_value", "any_value(x) -> any", "x of some row, always of the same one; where all rows of the key have the same, that. nil where no row counts.", any1, itself, over("any_value(x)", "[null, 7]", "7")),
	}
})
