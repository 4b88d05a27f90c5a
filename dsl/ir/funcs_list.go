package ir

import "keystone/dsl/types"

func listFuncs() []*Func {
	list := []kinds{aList}
	return []*Func{
		fn("first", "first(list) -> any", "The first element, nil if there is none.", 1, list, element(), eg("first([1, 2])", "1"), eg("first([])", "null"), failsOn(`{"a":1}`, "first(a)"), eg("first(nil)", "null")),
		fn("last", "last(list) -> any", "The last element, nil if there is none.", 1, list, element(), eg("last([1, 2])", "2"), eg("last([])", "null"), failsOn(`{"a":"x"}`, "last(a)")),
		fn("take", "take(list, n) -> list", "The first n elements, or all if there are fewer.", 2, []kinds{aList, aInt}, same(), eg("take([1, 2, 3], 2)", "[1,2]"), eg("take([1], 5)", "[1]"), fails("take([1], -1)", CodeRange), eg("take(nil, 1)", "null")),
		fn("reverse", "reverse(list) -> list", "The elements in the opposite order.", 1, list, same(), eg("reverse([1, 2, 3])", "[3,2,1]"), eg("reverse([])", "[]"), failsOn(`{"a":"x"}`, "reverse(a)")),
		fn("uniq", "uniq(list) -> list", "The elements without repetitions, in the order of their first occurrence. 1 and 1.0 are equal, and the first stays.", 1, list, same(), eg("uniq([1, 2, 1])", "[1,2]"), eg("uniq(['a', nil, nil])", `["a",null]`), on(`{"a":[1,1.0]}`, "uniq(a)", "[1]"), eg("uniq(nil)", "null")),
		fn("concat", "concat(a, b, …) -> list", "The elements of all lists, one list after the other.", 1, list, func(args []types.Type, _ []*Node) (types.Type, error) {
			t := types.NilType
			for _, a := range args {
				t = types.Join(t, elemOf(a))
			}
			if t.Kind == types.Nil {
				t = types.AnyType
			}
			return types.ListOf(t), nil
		}, eg("concat([1], [2, 3])", "[1,2,3]"), eg("concat([1], nil)", "null"), failsOn(`{"a":1}`, "concat([1], a)")).variadic(),
		fn("flatten", "flatten(list) -> list", "Lists within the list replaced by their elements, at every depth.", 1, list, gives(types.ListOf(types.AnyType)), eg("flatten([1, [2, [3]]])", "[1,2,3]"), eg("flatten([])", "[]"), eg("flatten(nil)", "null")),
		fn("sort", "sort(list, order) -> list", "The elements in order, `asc` (unless given) or `desc`: all numbers, all strings, all times or all bools (false first). nil comes last in both orders; equal ones keep their order. The order is a constant.", 1, []kinds{aList, aString}, elements(aNumber|aString|aTime|aBool, same()),
			eg("sort([3, 1.5, 2])", "[1.5,2,3]"), eg("sort(['b', 'a'], 'desc')", `["b","a"]`), eg("sort([2, nil, 1])", "[1,2,null]"), eg("sort([2, nil, 1], 'desc')", "[2,1,null]"), fails("sort([1, 'a'])", CodeType), eg("sort(nil)", "null")).constant(1).oneOf(1, "asc", "desc"),
	}
}

// elementFuncs evaluate their second argument once per element.
func elementFuncs() []*Func {
	both := []kinds{aList, aAny}
	tags := `{"tags":[{"n":"a","v":1},{"n":"b","v":2},{"n":"c"}]}`
	return []*Func{
		fn("all", "all(list, predicate) -> bool", "Whether the predicate holds for every element; true for an empty list.", 2, both, gives(types.BoolType), eg("all([1, 2], # > 0)", "true"), on(tags, "all(tags, .v > 0)", "false"), eg("all([], # > 0)", "true"), eg("all(nil, # > 0)", "null"), failsOn(`{"a":[1]}`, "all(a, #)")).condition(),
		fn("none", "none(list, predicate) -> bool", "Whether the predicate holds for no element.", 2, both, gives(types.BoolType), eg("none([1, 2], # > 2)", "true"), eg("none([], true)", "true"), on(tags, "none(tags, .v > 1)", "false")).condition(),
		fn("any", "any(list, predicate) -> bool", "Whether the predicate holds for at least one element.", 2, both, gives(types.BoolType), eg("any([1, 2], # > 1)", "true"), eg("any([], true)", "false"), on(tags, "any(tags, .n == 'c')", "true"), failsOn(`{"a":"x"}`, "any(a, true)")).condition(),
		fn("one", "one(list, predicate) -> bool", "Whether the predicate holds for exactly one element.", 2, both, gives(types.BoolType), eg("one([1, 2], # > 1)", "true"), eg("one([2, 2], # > 1)", "false"), eg("one([], true)", "false")).condition(),
		fn("filter", "filter(list, predicate) -> list", "The elements for which the predicate holds.", 2, both, same(), eg("filter([1, 2, 3], # > 1)", "[2,3]"), on(tags, "filter(tags, .v == 1)", `[{"n":"a","v":1}]`), eg("filter([5, 6], #index == 1)", "[6]"), eg("filter(nil, true)", "null")).condition(),
		fn("map", "map(list, expression) -> list", "What the expression gives for each element.", 2, both, func(args []types.Type, _ []*Node) (types.Type, error) {
			if args[1].Kind == types.Nil {
				return types.ListOf(types.AnyType), nil
			}
			return types.ListOf(args[1]), nil
		}, eg("map([1, 2], # * 2)", "[2,4]"), on(tags, "map(tags, .n)", `["a","b","c"]`), eg("map(['a', 'b'], #index)", "[0,1]"), on(tags, "map(tags, .v)", "[1,2,null]")).predicate(),
		fn("count", "count(list, predicate) -> int", "For how many elements the predicate holds; without it, how many elements are true.", 1, both, gives(types.IntType), eg("count([1, 2, 3], # > 1)", "2"), eg("count([true, false, nil])", "1"), eg("count([], true)", "0"), eg("count(nil)", "null")).condition(),
		fn("sum", "sum(list, expression) -> number", "The sum of the elements, or of what the expression gives for each, from the left; 0 for an empty list, nil where one is nil.", 1, both, func(args []types.Type, _ []*Node) (types.Type, error) {
			t := elemOf(args[0])
			if len(args) > 1 {
				t = args[1]
			}
			switch k := kindOf(t); {
			case t.Kind == types.Int:
				return t, nil
			case k != aAny && k&aNumber == 0:
				return types.AnyType, &ArgError{Arg: len(args) - 1, Text: "sum adds numbers, and this is " + t.String() + "."}
			}
			return types.AnyType, nil
		}, eg("sum([1, 2, 3])", "6"), eg("sum([1, 0.5])", "1.5"), eg("sum([])", "0"), on(tags, "sum(filter(tags, .v != nil), .v)", "3"), on(tags, "sum(tags, .v)", "null"), fails("sum([9223372036854775807, 1])", CodeOverflow), failsOn(`{"a":["x"]}`, "sum(a)")).predicate(),
		fn("find", "find(list, predicate) -> any", "The first element for which the predicate holds, else nil.", 2, both, element(), eg("find([1, 2, 3], # > 1)", "2"), eg("find([1], # > 1)", "null"), on(tags, "find(tags, .n == 'b').v", "2")).condition(),
		fn("findIndex", "findIndex(list, predicate) -> int", "The index of the first element for which the predicate holds, else nil.", 2, both, gives(types.IntType), eg("findIndex([1, 2, 3], # > 1)", "1"), eg("findIndex([1], # > 1)", "null")).condition(),
		fn("findLast", "findLast(list, predicate) -> any", "The last element for which the predicate holds, else nil.", 2, both, element(), eg("findLast([1, 2, 3], # > 1)", "3"), eg("findLast([], true)", "null")).condition(),
		fn("findLastIndex", "findLastIndex(list, predicate) -> int", "The index of the last element for which the predicate holds, else nil.", 2, both, gives(types.IntType), eg("findLastIndex([1, 2, 3], # > 1)", "2"), eg("findLastIndex([1], false)", "null")).condition(),
		fn("groupBy", "groupBy(list, expression) -> object", "The elements as lists by what the expression gives for each: a string, or an int or bool as text. Groups are in the order of their first element.", 2, both, func(args []types.Type, _ []*Node) (types.Type, error) {
			return types.MapOf(types.ListOf(elemOf(args[0]))), nil
		}, eg("groupBy([1, 2, 3], # % 2 == 1)", `{"true":[1,3],"false":[2]}`), eg("groupBy(['aa', 'b', 'cc'], len(#))", `{"2":["aa","cc"],"1":["b"]}`), eg("groupBy([], #)", "{}"), fails("groupBy([nil], #)", CodeType)).predicate(),
		fn("sortBy", "sortBy(list, expression, order) -> list", "The elements in the order of what the expression gives for each, `asc` (unless given) or `desc`; see sort. The order is a constant.", 2, []kinds{aList, aAny, aString}, same(),
			on(tags, "map(sortBy(tags, .v, 'desc'), .n)", `["b","a","c"]`), eg("sortBy(['bb', 'a'], len(#))", `["a","bb"]`), fails("sortBy([1, 'a'], #)", CodeType)).predicate().constant(2).oneOf(2, "asc", "desc"),
		fn("reduce", "reduce(list, expression, initial) -> any", "The expression applied to each element in turn: `#acc` is what it gave for the one before, at first `initial`. Without that `#acc` begins as the first element and `#` with the second (`#index` is 1); an empty list then gives nil.", 2, []kinds{aList, aAny, aAny}, gives(types.AnyType),
			eg("reduce([1, 2, 3], #acc + #)", "6"), eg("reduce(['a', 'b'], #acc + #, '')", `"ab"`), eg("reduce([], #acc + #)", "null"), eg("reduce([], #acc + #, 7)", "7"), eg("reduce([1, 2], #acc + #index, 0)", "1")).predicate(),
	}
}
