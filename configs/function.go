package configs

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2/ext/tryfunc"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// functionTable lists the functions of configuration: those whose result
// depends on their arguments alone, and env and file.
func (l *loader) functionTable() map[string]function.Function {
	return map[string]function.Function{
		// numbers
		"abs": stdlib.AbsoluteFunc, "ceil": stdlib.CeilFunc, "floor": stdlib.FloorFunc, "log": stdlib.LogFunc,
		"max": stdlib.MaxFunc, "min": stdlib.MinFunc, "parseint": stdlib.ParseIntFunc, "pow": stdlib.PowFunc, "signum": stdlib.SignumFunc,
		// text
		"chomp": stdlib.ChompFunc, "endswith": textTest(strings.HasSuffix), "format": stdlib.FormatFunc, "formatlist": stdlib.FormatListFunc,
		"indent": stdlib.IndentFunc, "join": stdlib.JoinFunc, "lower": stdlib.LowerFunc, "regex": stdlib.RegexFunc, "regexall": stdlib.RegexAllFunc,
		"replace": stdlib.ReplaceFunc, "regexreplace": stdlib.RegexReplaceFunc, "split": stdlib.SplitFunc, "startswith": textTest(strings.HasPrefix),
		"strcontains": textTest(strings.Contains), "strlen": stdlib.StrlenFunc, "strrev": stdlib.ReverseFunc, "substr": stdlib.SubstrFunc,
		"title": stdlib.TitleFunc, "trim": stdlib.TrimFunc, "trimprefix": stdlib.TrimPrefixFunc, "trimspace": stdlib.TrimSpaceFunc,
		"trimsuffix": stdlib.TrimSuffixFunc, "upper": stdlib.UpperFunc,
		// collections
		"chunklist": stdlib.ChunklistFunc, "coalesce": stdlib.CoalesceFunc, "coalescelist": stdlib.CoalesceListFunc, "compact": stdlib.CompactFunc,
		"concat": stdlib.ConcatFunc, "contains": stdlib.ContainsFunc, "distinct": stdlib.DistinctFunc, "element": stdlib.ElementFunc,
		"flatten": stdlib.FlattenFunc, "index": stdlib.IndexFunc, "keys": stdlib.KeysFunc, "length": stdlib.LengthFunc, "lookup": stdlib.LookupFunc,
		"merge": stdlib.MergeFunc, "range": stdlib.RangeFunc, "reverse": stdlib.ReverseListFunc, "setintersection": stdlib.SetIntersectionFunc,
		"setproduct": stdlib.SetProductFunc, "setsubtract": stdlib.SetSubtractFunc, "setunion": stdlib.SetUnionFunc, "slice": stdlib.SliceFunc,
		"sort": stdlib.SortFunc, "values": stdlib.ValuesFunc, "zipmap": stdlib.ZipmapFunc,
		// encoding
		"base64decode": textFunc(decodeBase64), "base64encode": textFunc(func(s string) (string, error) { return base64.StdEncoding.EncodeToString([]byte(s)), nil }),
		"csvdecode": stdlib.CSVDecodeFunc, "jsondecode": stdlib.JSONDecodeFunc, "jsonencode": stdlib.JSONEncodeFunc,
		"sha256": textFunc(func(s string) (string, error) {
			sum := sha256.Sum256([]byte(s))
			return hex.EncodeToString(sum[:]), nil
		}),
		"urlencode": textFunc(func(s string) (string, error) { return url.QueryEscape(s), nil }),
		// types
		"tobool": stdlib.MakeToFunc(cty.Bool), "tolist": collection(cty.List, cty.ListVal), "tomap": stdlib.MakeToFunc(cty.Map(cty.DynamicPseudoType)),
		"tonumber": stdlib.MakeToFunc(cty.Number), "toset": collection(cty.Set, cty.SetVal), "tostring": stdlib.MakeToFunc(cty.String),
		// time, of what is given
		"formatdate": stdlib.FormatDateFunc, "timeadd": stdlib.TimeAddFunc,
		// failing
		"can": tryfunc.CanFunc, "try": tryfunc.TryFunc,
		// what is outside
		"env": textFunc(l.readEnv), "file": textFunc(l.readFile),
	}
}

// readEnv is env() where its value is needed at load.
func (l *loader) readEnv(name string) (string, error) {
	v, ok := l.environ[name]
	if !ok {
		return "", fmt.Errorf("the environment variable %s is not set", name)
	}
	return v, nil
}

// readFile is file() where its text is needed at load.
func (l *loader) readFile(path string) (string, error) {
	src, err := readBounded(l.path(path))
	switch {
	case err != nil:
		return "", err
	case !utf8.Valid(src):
		return "", fmt.Errorf("%s is not UTF-8 text", path)
	}
	return string(src), nil
}

func decodeBase64(s string) (string, error) {
	b, err := base64.StdEncoding.DecodeString(s)
	switch {
	case err != nil:
		return "", fmt.Errorf("this is not base64 (RFC 4648 §4, with padding)")
	case !utf8.Valid(b):
		return "", fmt.Errorf("what the base64 holds is not UTF-8 text")
	}
	return string(b), nil
}

func textFunc(f func(string) (string, error)) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "text", Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			s, err := f(args[0].AsString())
			if err != nil {
				return cty.UnknownVal(cty.String), function.NewArgError(0, err)
			}
			return cty.StringVal(s), nil
		},
	})
}

func textTest(f func(s, part string) bool) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "text", Type: cty.String}, {Name: "part", Type: cty.String}},
		Type:   function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			return cty.BoolVal(f(args[0].AsString(), args[1].AsString())), nil
		},
	})
}

// collection is tolist and toset. What stdlib does to a tuple is quadratic in
// its length, seconds for the keys of ten thousand instances; elements of one
// primitive type need none of it.
func collection(of func(cty.Type) cty.Type, from func([]cty.Value) cty.Value) function.Function {
	general := stdlib.MakeToFunc(of(cty.DynamicPseudoType))
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "v", Type: cty.DynamicPseudoType, AllowNull: true, AllowDynamicType: true}},
		Type: func(args []cty.Value) (cty.Type, error) {
			if t := elementType(args[0].Type()); t != cty.NilType {
				return of(t), nil
			}
			return general.ReturnTypeForValues(args)
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			if v := args[0]; elementType(v.Type()) != cty.NilType && !v.IsNull() {
				return from(v.AsValueSlice()), nil
			}
			return general.Call(args)
		},
	})
}

// elementType gives the one primitive type of a tuple's elements, if there is one.
func elementType(t cty.Type) cty.Type {
	if !t.IsTupleType() || t.Length() == 0 {
		return cty.NilType
	}
	types := t.TupleElementTypes()
	for _, e := range types {
		if e != types[0] || !e.IsPrimitiveType() {
			return cty.NilType
		}
	}
	return types[0]
}
