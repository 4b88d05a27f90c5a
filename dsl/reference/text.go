package reference

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"hash"
	"math"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"keystone/dsl/ir"

	"github.com/cespare/xxhash/v2"
)

// textual has the functions over strings.
func textual(name string, a []any) (any, *Error, bool) {
	var v any
	var err *Error
	switch name {
	case "len":
		v, err = length(a[0])
	case "hash", "hmac", "toBase64":
		v, err = octets(name, a)
	case "join":
		v, err = join(a)
	case "upper", "lower", "trim", "trimPrefix", "trimSuffix", "split", "replace", "repeat", "indexOf", "lastIndexOf", "mask", "fromBase64", "ip_prefix", "url_host":
		s, ok := a[0].(string)
		if !ok {
			return nil, wrong(name, a[0]), true
		}
		v, err = ofString(name, s, a)
	default:
		return nil, nil, false
	}
	return v, err, true
}

func length(x any) (any, *Error) {
	switch x := x.(type) {
	case string:
		return int64(utf8.RuneCountInString(x)), nil
	case Bytes:
		return int64(len(x)), nil
	case []any:
		return int64(len(x)), nil
	case *Object:
		return int64(len(x.Names)), nil
	}
	return nil, wrong("len", x)
}

// raw gives the bytes of a string or of bytes.
func raw(name string, v any) ([]byte, *Error) {
	switch v := v.(type) {
	case string:
		return []byte(v), nil
	case Bytes:
		return v, nil
	}
	return nil, wrong(name, v)
}

func octets(name string, a []any) (any, *Error) {
	x, err := raw(name, a[0])
	if err != nil {
		return nil, err
	}
	hashes := map[string]func() hash.Hash{"sha256": sha256.New, "sha512": sha512.New, "sha1": sha1.New, "md5": md5.New,
		"xxh64": func() hash.Hash { return xxhash.New() }}
	algorithm := "sha256"
	var h hash.Hash
	switch name {
	case "toBase64":
		return base64.StdEncoding.EncodeToString(x), nil
	case "hash":
		if len(a) > 1 {
			algorithm = a[1].(string)
		}
		h = hashes[algorithm]()
	case "hmac":
		if len(a) > 2 {
			algorithm = a[2].(string)
		}
		key, err := raw(name, a[1])
		if err != nil {
			return nil, err
		}
		h = hmac.New(hashes[algorithm], key)
	}
	h.Write(x)
	return hex.EncodeToString(h.Sum(nil)), nil
}

func join(a []any) (any, *Error) {
	list, ok := a[0].([]any)
	if !ok {
		return nil, wrong("join", a[0])
	}
	separator := ""
	if len(a) > 1 {
		if separator, ok = a[1].(string); !ok {
			return nil, wrong("join", a[1])
		}
	}
	var b strings.Builder
	for i, e := range list {
		s, ok := e.(string)
		if !ok {
			return nil, wrong("join", e)
		}
		if i > 0 {
			b.WriteString(separator)
		}
		b.WriteString(s)
		if b.Len() > ir.MaxText {
			return nil, tooLong()
		}
	}
	return b.String(), nil
}

func tooLong() *Error {
	return failure(ir.CodeLimit, "the string is longer than %d bytes", ir.MaxText)
}

// ofString has the functions whose first argument is a string.
func ofString(name, s string, a []any) (any, *Error) {
	strs := make([]string, 3) // the later arguments as strings and ints
	ints := make([]int64, 3)
	for i := 1; i < len(a); i++ {
		switch x := a[i].(type) {
		case string:
			strs[i] = x
		case int64:
			ints[i] = x
		default:
			return nil, wrong(name, a[i])
		}
		_, isString := a[i].(string)
		wantsString := name != "repeat" && name != "mask" && name != "ip_prefix" && !(name == "split" && i == 2)
		if isString != wantsString {
			return nil, wrong(name, a[i])
		}
	}
	switch name {
	case "upper":
		return strings.ToUpper(s), nil
	case "lower":
		return strings.ToLower(s), nil
	case "trim":
		if len(a) > 1 {
			return strings.Trim(s, strs[1]), nil
		}
		return strings.TrimSpace(s), nil
	case "trimPrefix":
		return strings.TrimPrefix(s, strs[1]), nil
	case "trimSuffix":
		return strings.TrimSuffix(s, strs[1]), nil
	case "split":
		n := -1
		if len(a) > 2 {
			if ints[2] < 1 {
				return nil, failure(ir.CodeRange, "split gives at least one piece, not %d", ints[2])
			}
			n = int(min(ints[2], math.MaxInt32))
		}
		out := []any{}
		for _, p := range strings.SplitN(s, strs[1], n) {
			out = append(out, p)
		}
		return out, nil
	case "replace":
		if strs[1] == "" {
			return nil, failure(ir.CodeRange, "what is replaced is empty")
		}
		if n := strings.Count(s, strs[1]); len(s)+n*(len(strs[2])-len(strs[1])) > ir.MaxText {
			return nil, tooLong()
		}
		return strings.ReplaceAll(s, strs[1], strs[2]), nil
	case "repeat":
		if ints[1] < 0 {
			return nil, failure(ir.CodeRange, "a string cannot be repeated %d times", ints[1])
		}
		if len(s) > 0 && ints[1] > int64(ir.MaxText/len(s)) {
			return nil, tooLong()
		}
		if s == "" {
			return "", nil
		}
		return strings.Repeat(s, int(ints[1])), nil
	case "indexOf", "lastIndexOf":
		i := strings.Index(s, strs[1])
		if name == "lastIndexOf" {
			i = strings.LastIndex(s, strs[1])
		}
		if i < 0 {
			return int64(-1), nil
		}
		return int64(utf8.RuneCountInString(s[:i])), nil
	case "mask":
		if ints[1] < 0 {
			return nil, failure(ir.CodeRange, "mask cannot keep %d code points", ints[1])
		}
		runes := []rune(s)
		for i := range runes {
			if int64(len(runes)-i) > ints[1] {
				runes[i] = '*'
			}
		}
		return string(runes), nil
	case "fromBase64":
		b, err := base64.StdEncoding.Strict().DecodeString(s)
		if err != nil || !utf8.Valid(b) {
			return nil, failure(ir.CodeConversion, "the text is not base64 of UTF-8")
		}
		return string(b), nil
	case "ip_prefix":
		return prefix(s, ints, len(a) > 2)
	}
	u, err := url.Parse(s)
	if err != nil {
		return nil, failure(ir.CodeConversion, "the text is not a URL")
	}
	if u.Hostname() == "" {
		return nil, nil
	}
	return strings.ToLower(u.Hostname()), nil
}

func prefix(s string, ints []int64, has6 bool) (any, *Error) {
	ip, err := netip.ParseAddr(s)
	if err != nil || ip.Zone() != "" {
		return nil, failure(ir.CodeConversion, "the text is not an IP address")
	}
	ip = ip.Unmap()
	n := ints[1]
	if !has6 {
		ints[2] = 64
	}
	if ints[1] < 0 || ints[1] > 32 || ints[2] < 0 || ints[2] > 128 {
		return nil, failure(ir.CodeRange, "a prefix has 0 to 32 bits for IPv4 and 0 to 128 for IPv6")
	}
	if !ip.Is4() {
		n = ints[2]
	}
	p, err := ip.Prefix(int(n))
	if err != nil {
		return nil, failure(ir.CodeRange, "%v", err)
	}
	return p.String(), nil
}

// isNumber tells JSON's grammar of numbers.
func isNumber(s string) bool {
	v, err := Decode([]byte(s))
	_, ok := v.(Number)
	return err == nil && ok && strings.Trim(s, " \t\r\n") == s && json.Valid([]byte(s))
}

func toInt(x any) (any, *Error) {
	switch x := x.(type) {
	case int64:
		return x, nil
	case float64:
		if x >= 1<<63 || x < -1<<63 {
			return nil, failure(ir.CodeRange, "the number does not fit an int")
		}
		return int64(x), nil
	case string:
		digits := strings.TrimPrefix(x, "-")
		if digits == "" || strings.Trim(digits, "0123456789") != "" {
			return nil, failure(ir.CodeConversion, "the text is not an int")
		}
		i, err := strconv.ParseInt(x, 10, 64)
		if err != nil {
			return nil, failure(ir.CodeRange, "the number does not fit an int")
		}
		return i, nil
	}
	if ms, ok := milliseconds(x); ok {
		return ms, nil
	}
	return nil, wrong("int", x)
}

func toFloat(x any) (any, *Error) {
	if f, ok := float(x); ok {
		return f, nil
	}
	s, ok := x.(string)
	if !ok {
		return nil, wrong("float", x)
	}
	if !isNumber(s) {
		return nil, failure(ir.CodeConversion, "the text is not a number")
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return nil, failure(ir.CodeRange, "the number is beyond float64")
	}
	return f, nil
}
