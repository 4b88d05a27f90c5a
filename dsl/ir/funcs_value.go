package ir

import "keystone/dsl/types"

func valueFuncs() []*Func {
	return []*Func{
		fn("coalesce", "coalesce(a, b, …)", "The first argument that is not nil; nil if all are. Later arguments are not evaluated.", 1, []kinds{aAny}, coalesced,
			eg("coalesce(nil, 'x')", `"x"`), on(`{"a":0}`, "coalesce(b, a, 5)", "0"), eg("coalesce(nil, nil)", "null"), on(`{"a":false}`, "coalesce(a, true)", "false")).variadic().nilIsValue(),
		fn("type", "type(x) -> string", "What the value is: `nil`, `bool`, `int`, `float`, `string`, `time`, `bytes`, `list` or `object`.", 1, []kinds{aAny}, gives(types.StringType),
			eg("type(1)", `"int"`), eg("type(1.5)", `"float"`), on(`{"a":[1]}`, "type(a)", `"list"`), eg("type(missing)", `"nil"`), eg("type(parse_time(0))", `"time"`), on(`{"n":1.0}`, "type(n)", `"float"`)).nilIsValue(),
		fn("int", "int(x) -> int", "A number or text as an int: a float loses its fraction, text must be a decimal int, a time gives its milliseconds since 1970 UTC.", 1, []kinds{aNumber | aString | aTime}, gives(types.IntType),
			eg("int('42')", "42"), eg("int(-2.9)", "-2"), fails("int('4x')", CodeConversion), fails("int(1e300)", CodeRange), failsOn(`{"a":true}`, "int(a)"), eg("int(parse_time('1970-01-01T00:00:01Z'))", "1000"), eg("int(nil)", "null")),
		fn("float", "float(x) -> float", "A number or text as a float. Text is read as a JSON number.", 1, []kinds{aNumber | aString}, gives(types.FloatType),
			eg("float('1.5')", "1.5"), eg("float(2) / 4", "0.5"), fails("float('x')", CodeConversion), fails("float('1e999')", CodeRange), failsOn(`{"a":[]}`, "float(a)")),
		fn("string", "string(x) -> string", "The value as text: a string as it is, everything else as it is written in JSON, a time as RFC 3339 in UTC, bytes as base64.", 1, []kinds{aAny}, gives(types.StringType),
			eg("string(1)", `"1"`), eg("string(2.5)", `"2.5"`), eg("string(true)", `"true"`), on(`{"a":[1,"x"]}`, "string(a)", `"[1,\"x\"]"`), eg("string(nil)", "null"), eg("string('a')", `"a"`)),
		fn("json", "json(s) -> any", "Reads text as JSON: exactly one value, with nothing after it.", 1, []kinds{aString}, gives(types.AnyType),
			eg(`json('{"a":[1,2]}').a[1]`, "2"), fails("json('{')", CodeConversion), fails("json('1 2')", CodeConversion), eg("json('null')", "null"), failsOn(`{"a":1}`, "json(a)")),
		fn("toJSON", "toJSON(x) -> string", "The value as compact JSON text; nil gives `null` in text.", 1, []kinds{aAny}, gives(types.StringType),
			eg("toJSON('a')", `"\"a\""`), eg("toJSON({a: [1, nil]})", `"{\"a\":[1,null]}"`), eg("toJSON(nil)", `"null"`)).nilIsValue(),
		fn("get", "get(x, key) -> any", "The member of an object by its name, or of a list or a string by its index, nil where there is none: `x[key]` that never fails.", 2, []kinds{aAny, aString | aInt}, gives(types.AnyType),
			on(`{"a":{"b":1}}`, "get(a, 'b')", "1"), eg("get('abc', 'b')", "null"), on(`{"a":[1,2]}`, "get(a, -1)", "2"), on(`{"a":5}`, "get(a, 'b')", "null"), eg("get(nil, 'b')", "null"), on(`{"a":[1]}`, "get(a, 'b')", "null")),
		fn("keys", "keys(x) -> list(string)", "The names of an object, in the order of the event.", 1, []kinds{aObject}, gives(types.ListOf(types.StringType)),
			on(`{"a":{"y":1,"x":2}}`, "keys(a)", `["y","x"]`), failsOn(`{"a":[1]}`, "keys(a)"), eg("keys({})", "[]"), eg("keys(nil)", "null")),
		fn("values", "values(x) -> list", "The values of an object, in the order of the event.", 1, []kinds{aObject}, func(args []types.Type, _ []*Node) (types.Type, error) {
			if args[0].Kind == types.Map {
				return types.ListOf(elemOf(args[0])), nil
			}
			return types.ListOf(types.AnyType), nil
		}, on(`{"a":{"y":1,"x":2}}`, "values(a)", "[1,2]"), failsOn(`{"a":1}`, "values(a)"), eg("values(nil)", "null")),
		fn("toPairs", "toPairs(x) -> list(list)", "An object as a list of `[name, value]`.", 1, []kinds{aObject}, gives(types.ListOf(types.ListOf(types.AnyType))),
			eg("toPairs({a: 1, b: 'x'})", `[["a",1],["b","x"]]`), failsOn(`{"a":1}`, "toPairs(a)"), eg("toPairs({})", "[]")),
		fn("fromPairs", "fromPairs(list) -> object", "A list of `[name, value]` as an object; of a repeated name the last value counts, at the place of the first.", 1, []kinds{aList}, gives(types.MapOf(types.AnyType)),
			eg("fromPairs([['a', 1], ['b', nil]])", `{"a":1,"b":null}`), eg("fromPairs([['a', 1], ['b', 2], ['a', 3]])", `{"a":3,"b":2}`), fails("fromPairs([1])", CodeType), fails("fromPairs([['a']])", CodeType)),
	}
}

func coalesced(args []types.Type, _ []*Node) (types.Type, error) {
	t := types.NilType
	for _, a := range args {
		t = types.Join(t, a)
	}
	return t, nil
}
