package ir

import (
	"keystone/dsl/types"
)

func textFuncs() []*Func {
	str, integer := types.StringType, types.IntType
	one := []kinds{aString}
	two := []kinds{aString, aString}
	algorithms := []string{"sha256", "sha512", "sha1", "md5", "xxh64"}
	return []*Func{
		fn("len", "len(x) -> int", "How many code points a string has, elements a list, names an object, or bytes bytes.", 1, []kinds{aString | aBytes | aList | aObject}, gives(integer),
			eg("len('añb')", "3"), eg("len([1, 2])", "2"), eg("len({a: 1})", "1"), eg("len(nil)", "null"), failsOn(`{"a":1}`, "len(a)"), eg("len('')", "0")),
		fn("upper", "upper(s) -> string", "Letters to upper case.", 1, one, gives(str), eg("upper('añb')", `"AÑB"`), failsOn(`{"a":1}`, "upper(a)"), eg("upper(nil)", "null")),
		fn("lower", "lower(s) -> string", "Letters to lower case.", 1, one, gives(str), eg("lower('ÀB')", `"àb"`), failsOn(`{"a":[]}`, "lower(a)"), eg("lower(nil)", "null")),
		fn("trim", "trim(s, chars) -> string", "Without the leading and trailing white space, or code points that are in `chars`.", 1, two, gives(str),
			eg("trim('  a b ')", `"a b"`), eg("trim('--a-', '-')", `"a"`), eg("trim('xyx', 'xy')", `""`), failsOn(`{"a":1}`, "trim(a)")),
		fn("trimPrefix", "trimPrefix(s, prefix) -> string", "Without the prefix, if it is there.", 2, two, gives(str), eg("trimPrefix('v1.2', 'v')", `"1.2"`), eg("trimPrefix('1.2', 'v')", `"1.2"`), eg("trimPrefix(nil, 'v')", "null")),
		fn("trimSuffix", "trimSuffix(s, suffix) -> string", "Without the suffix, if it is there.", 2, two, gives(str), eg("trimSuffix('a.gz', '.gz')", `"a"`), eg("trimSuffix('a', '.gz')", `"a"`), eg("trimSuffix('a', nil)", "null")),
		fn("split", "split(s, separator, n) -> list(string)", "The pieces between separators, at most `n` of them where it is given (the last has the rest). An empty separator splits into code points.", 2, []kinds{aString, aString, aInt}, gives(types.ListOf(str)),
			eg("split('a,b,c', ',')", `["a","b","c"]`), eg("split('a,b,c', ',', 2)", `["a","b,c"]`), eg("split('añ', '')", `["a","ñ"]`), eg("split('', ',')", `[""]`), eg("split(nil, ',')", "null"), fails("split('a', ',', 0)", CodeRange)),
		fn("join", "join(list, separator) -> string", "The strings of a list, with the separator (empty unless given) between them.", 1, []kinds{aList, aString}, elements(aString, gives(str)),
			eg("join(['a', 'b'], '-')", `"a-b"`), eg("join([])", `""`), fails("join(['a', 1])", CodeType), eg("join(nil)", "null"), fails("join(['a', nil])", CodeType)),
		fn("replace", "replace(s, old, new) -> string", "Every occurrence of old replaced; an empty old is an error.", 3, []kinds{aString, aString, aString}, gives(str),
			eg("replace('a.b.c', '.', '_')", `"a_b_c"`), eg("replace('a', 'x', 'y')", `"a"`), fails("replace('a', '', 'y')", CodeRange), eg("replace('a', 'a', nil)", "null")),
		fn("repeat", "repeat(s, n) -> string", "The string n times. A result over 1 MiB is an error.", 2, []kinds{aString, aInt}, gives(str),
			eg("repeat('ab', 3)", `"ababab"`), eg("repeat('ab', 0)", `""`), fails("repeat('a', -1)", CodeRange), fails("repeat('abcdefgh', 1000000)", CodeLimit)),
		fn("indexOf", "indexOf(s, part) -> int", "Where the part begins first, in code points; -1 if it is not there.", 2, two, gives(integer), eg("indexOf('ñab', 'b')", "2"), eg("indexOf('a', 'x')", "-1"), eg("indexOf('a', '')", "0"), eg("indexOf(nil, 'x')", "null")),
		fn("lastIndexOf", "lastIndexOf(s, part) -> int", "Where the part begins last, in code points; -1 if it is not there.", 2, two, gives(integer), eg("lastIndexOf('ñbab', 'b')", "3"), eg("lastIndexOf('a', 'x')", "-1"), eg("lastIndexOf('ñab', '')", "3")),
		fn("mask", "mask(s, keep) -> string", "Every code point replaced by `*` but the last `keep` (0 unless given).", 1, []kinds{aString, aInt}, gives(str),
			eg("mask('4111222233334444', 4)", `"************4444"`), eg("mask('ñ1')", `"**"`), eg("mask('ab', 5)", `"ab"`), fails("mask('ab', -1)", CodeRange), eg("mask(nil)", "null")),
		fn("hash", "hash(x, algorithm) -> string", "The hash of a string's bytes in lower-case hex: `sha256` (unless given), `sha512`, `sha1`, `md5` or `xxh64`. The algorithm is a constant.", 1, []kinds{aString | aBytes, aString}, gives(str),
			eg("hash('a')", `"ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"`), eg("hash('a', 'md5')", `"0cc175b9c0f1b6a831c399e269772661"`), eg("hash('', 'xxh64')", `"ef46db3751d8e999"`), eg("hash('a', 'sha1')", `"86f7e437faa5a7fce15d1ddcb9eaeaea377667b8"`), eg("hash(nil)", "null"), failsOn(`{"a":1}`, "hash(a)")).constant(1).oneOf(1, algorithms...),
		fn("hmac", "hmac(x, key, algorithm) -> string", "The keyed hash (RFC 2104) of a string's bytes in lower-case hex, by `sha256` (unless given), `sha512`, `sha1` or `md5`. The algorithm is a constant.", 2, []kinds{aString | aBytes, aString | aBytes, aString}, gives(str),
			eg("hmac('The quick brown fox jumps over the lazy dog', 'key')", `"f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8"`), eg("hmac('The quick brown fox jumps over the lazy dog', 'key', 'md5')", `"80070713463e7749b90c2dc24911e275"`), eg("hmac(nil, 'key')", "null"), eg("hmac('a', nil)", "null")).constant(2).oneOf(2, "sha256", "sha512", "sha1", "md5"),
		fn("toBase64", "toBase64(x) -> string", "A string's bytes as base64 (RFC 4648 §4).", 1, []kinds{aString | aBytes}, gives(str), eg("toBase64('añ')", `"YcOx"`), eg("toBase64('')", `""`), eg("toBase64(nil)", "null")),
		fn("fromBase64", "fromBase64(s) -> string", "The text that base64 (RFC 4648 §4, padded) stands for; it must be UTF-8.", 1, one, gives(str), eg("fromBase64('YcOx')", `"añ"`), fails("fromBase64('*')", CodeConversion), fails("fromBase64('/w==')", CodeConversion)),
		fn("ip_prefix", "ip_prefix(ip, bits, bits6) -> string", "The network of an address: its first `bits` bits for IPv4, `bits6` (64 unless given) for IPv6, as `10.1.0.0/16`. An IPv4 address written as IPv6 counts as IPv4.", 2, []kinds{aString, aInt, aInt}, gives(str),
			eg("ip_prefix('192.168.17.3', 24)", `"192.168.17.0/24"`), eg("ip_prefix('2001:db8:1:2:3::9', 24, 48)", `"2001:db8:1::/48"`), eg("ip_prefix('2001:db8:1:2:3::9', 24)", `"2001:db8:1:2::/64"`), eg("ip_prefix('::ffff:10.1.2.3', 8)", `"10.0.0.0/8"`), fails("ip_prefix('10.0.0', 8)", CodeConversion), fails("ip_prefix('10.0.0.1', 33)", CodeRange), eg("ip_prefix(nil, 8)", "null")),
		fn("url_host", "url_host(s) -> string", "The host of a URL in lower case, without port; nil where the URL has none.", 1, one, gives(str),
			eg("url_host('https://User@WWW.Example.com:8443/a?b')", `"www.example.com"`), eg("url_host('/a/b')", "null"), eg("url_host('http://[2001:db8::1]:80/')", `"2001:db8::1"`), fails("url_host('http://[::1')", CodeConversion), eg("url_host(nil)", "null")),
	}
}
