package spec

import (
	"strconv"
	"strings"
	"time"
)

// What a kind of option expects, in the words of messages and the reference.
var kindText = [...]struct{ name, expects string }{
	KindString:    {"string", "a string"},
	KindBool:      {"bool", "true or false"},
	KindInt:       {"whole number", "a whole number"},
	KindFloat:     {"number", "a number"},
	KindDuration:  {"duration", `a duration, such as "10s" or "7d"`},
	KindBytes:     {"size", `a size, such as 1048576 or "1MiB"`},
	KindStrings:   {"list of strings", "a list of strings"},
	KindStringMap: {"map of strings", "a map of strings"},
	KindEnum:      {"word", "one of its words, in quotes"},
	KindExpr:      {"expression", "an expression in quotes"},
	KindExprs:     {"expressions", "an expression in quotes, or a list of them"},
	KindExprMap:   {"map of expressions", `names with expressions, such as { user = "user_id" }`},
	KindPattern:   {"pattern", "a pattern in quotes"},
	KindRef:       {"reference", "a reference, such as stream.plays"},
	KindType:      {"type", "a type, such as object({ user_id = string })"},
	KindSecret:    {"secret", `a secret, such as env("PASSWORD")`},
	KindBlock:     {"block", "a nested block"},
	KindLabelled:  {"block with a name", "nested blocks with a name"},
	KindPort:      {"operator", "an operator of the job, such as read.plays or window.x.late"},
	KindPorts:     {"operators", "operators of the job, such as [read.a, read.b]"},
}

// String gives the name of the kind as the reference shows it.
func (k Kind) String() string { return kindText[k].name }

// Expects says what the option takes, in words.
func (o *Option) Expects() string {
	switch o.Kind {
	case KindEnum:
		return "one of " + quoteAll(o.Enum)
	case KindRef:
		if len(o.Refs) > 0 {
			return "a reference to a " + strings.Join(o.Refs, " or a ") + ", such as " + o.Refs[0] + ".NAME"
		}
	}
	return kindText[o.Kind].expects
}

// Bounds says the option's bounds in words, or "".
func (o *Option) Bounds() string {
	switch {
	case o.HasMin && o.HasMax:
		return "between " + o.bound(o.Min) + " and " + o.bound(o.Max)
	case o.HasMin:
		return "at least " + o.bound(o.Min)
	case o.HasMax:
		return "at most " + o.bound(o.Max)
	}
	return ""
}

func (o *Option) bound(v float64) string {
	switch o.Kind {
	case KindDuration:
		if v < 0 {
			return "0s (or \"forever\")"
		}
		return FormatDuration(time.Duration(v * float64(time.Second)))
	case KindBytes:
		return FormatBytes(int64(v))
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}

// DefaultText gives the default as it would be written in HCL, or "" if
// there is none.
func (o *Option) DefaultText() string {
	if !o.HasDefault {
		return ""
	}
	d := o.DefaultVal
	switch o.Kind {
	case KindDuration:
		if v, ok := d.(time.Duration); ok {
			return strconv.Quote(FormatDuration(v))
		}
	case KindBytes:
		if n, ok := asInt64(d); ok {
			if s := FormatBytes(n); strings.HasSuffix(s, "B") {
				return strconv.Quote(s)
			}
		}
	}
	return plainText(d)
}

func quoteAll(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = strconv.Quote(w)
	}
	if n := len(quoted); n > 1 {
		return strings.Join(quoted[:n-1], ", ") + " or " + quoted[n-1]
	}
	return strings.Join(quoted, "")
}
