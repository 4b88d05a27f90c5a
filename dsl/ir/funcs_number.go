package ir

import "keystone/dsl/types"

func numberFuncs() []*Func {
	num := []kinds{aNumber}
	ints := []kinds{aInt, aInt}
	integer := types.IntType
	return []*Func{
		fn("abs", "abs(n) -> number", "The number without its sign.", 1, num, numeric, eg("abs(-3)", "3"), eg("abs(-2.5)", "2.5"), fails("abs(-9223372036854775808)", CodeOverflow), failsOn(`{"a":"1"}`, "abs(a)"), eg("abs(nil)", "null")),
		fn("ceil", "ceil(n) -> number", "Rounded up; an int stays as it is, a float stays a float.", 1, num, numeric, eg("ceil(1.2)", "2"), eg("ceil(-1.2)", "-1"), eg("ceil(3)", "3"), failsOn(`{"a":"1"}`, "ceil(a)")),
		fn("floor", "floor(n) -> number", "Rounded down; an int stays as it is, a float stays a float.", 1, num, numeric, eg("floor(1.8)", "1"), eg("floor(-1.2)", "-2"), eg("floor(nil)", "null")),
		fn("round", "round(n) -> number", "Rounded to the nearest whole number, halves away from zero; an int stays as it is, a float stays a float.", 1, num, numeric, eg("round(2.5)", "3"), eg("round(-2.5)", "-3"), eg("round(7)", "7"), eg("type(round(2.5))", `"float"`)),
		fn("max", "max(a, b, …)  max(list)", "The largest of numbers, of times, or of one list of them; of equal ones the first. An empty list gives nil.", 1, []kinds{aNumber | aTime | aList}, extreme,
			eg("max(1, 2.5, 2)", "2.5"), on(`{"a":[3,9,4]}`, "max(a)", "9"), eg("max([])", "null"), eg("max(1, nil)", "null"), failsOn(`{"a":"x"}`, "max(1, a)"), eg("max([1, nil])", "null")).variadic(),
		fn("min", "min(a, b, …)  min(list)", "The smallest of numbers, of times, or of one list of them; of equal ones the first. An empty list gives nil.", 1, []kinds{aNumber | aTime | aList}, extreme,
			eg("min(1, 0.5)", "0.5"), on(`{"a":[3,9,4]}`, "min(a)", "3"), eg("min([])", "null"), eg("min(nil, 1)", "null"), failsOn(`{"a":["x"]}`, "min(a)")).variadic(),
		fn("mean", "mean(list) -> float", "The mean of a list of numbers; nil for an empty list or one with nil in it.", 1, []kinds{aList}, elements(aNumber, gives(types.FloatType)), eg("mean([1, 2])", "1.5"), eg("mean([])", "null"), failsOn(`{"a":["x"]}`, "mean(a)"), eg("mean([1, nil])", "null")),
		fn("median", "median(list) -> float", "The middle of a list of numbers, the mean of the two middle ones where their count is even; nil for an empty list or one with nil in it.", 1, []kinds{aList}, elements(aNumber, gives(types.FloatType)), eg("median([5, 1, 3])", "3"), eg("median([1, 2])", "1.5"), eg("median([])", "null"), failsOn(`{"a":["x"]}`, "median(a)")),
		fn("bitand", "bitand(a, b) -> int", "The bits that both have.", 2, ints, gives(integer), eg("bitand(6, 3)", "2"), failsOn(`{"a":1.5}`, "bitand(a, 1)"), eg("bitand(1, nil)", "null")),
		fn("bitor", "bitor(a, b) -> int", "The bits that either has.", 2, ints, gives(integer), eg("bitor(6, 3)", "7"), failsOn(`{"a":"1"}`, "bitor(a, 1)")),
		fn("bitxor", "bitxor(a, b) -> int", "The bits that exactly one has.", 2, ints, gives(integer), eg("bitxor(6, 3)", "5"), failsOn(`{"a":"1"}`, "bitxor(a, 1)")),
		fn("bitnot", "bitnot(a) -> int", "Every bit turned.", 1, ints[:1], gives(integer), eg("bitnot(0)", "-1"), eg("bitnot(nil)", "null")),
		fn("bitshl", "bitshl(a, n) -> int", "The bits moved n places (0 to 63) to the left; those that leave are lost.", 2, ints, gives(integer), eg("bitshl(1, 4)", "16"), eg("bitshl(1, 63)", "-9223372036854775808"), fails("bitshl(1, 64)", CodeRange)),
		fn("bitshr", "bitshr(a, n) -> int", "The bits moved n places (0 to 63) to the right, the sign kept.", 2, ints, gives(integer), eg("bitshr(-16, 2)", "-4"), fails("bitshr(1, -1)", CodeRange)),
	}
}

// numeric is the type of a number that stays what it is.
func numeric(args []types.Type, _ []*Node) (types.Type, error) {
	switch args[0].Kind {
	case types.Int, types.Float, types.Nil:
		return args[0], nil
	case types.Decimal:
		return types.FloatType, nil
	}
	return types.AnyType, nil
}

func extreme(args []types.Type, _ []*Node) (types.Type, error) {
	if len(args) == 1 {
		if kindOf(args[0]) != aAny && kindOf(args[0]) != aList {
			return args[0], nil
		}
		if k := kindOf(elemOf(args[0])); k != aAny && k&(aNumber|aTime) == 0 {
			return types.AnyType, &ArgError{Arg: 0, Text: "The elements are " + elemOf(args[0]).String() + ", and they must be numbers or times."}
		}
		return elemOf(args[0]), nil
	}
	t := types.NilType
	for i, a := range args {
		if a.Kind == types.List {
			return types.AnyType, &ArgError{Arg: i, Text: "A list stands alone: max(list), or max(a, b) with numbers."}
		}
		t = types.Join(t, a)
	}
	return t, nil
}

// elements is a result that also looks at the elements of the first argument.
func elements(want kinds, res result) result {
	return func(args []types.Type, nodes []*Node) (types.Type, error) {
		if k := kindOf(elemOf(args[0])); k != aAny && k&want == 0 {
			return types.AnyType, &ArgError{Arg: 0, Text: "The elements are " + elemOf(args[0]).String() + ", and each must be " + want.String() + "."}
		}
		return res(args, nodes)
	}
}
