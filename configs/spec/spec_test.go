package spec

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"keystone/configs/addr"
	"keystone/configs/diag"
	"keystone/dsl/types"
)

type word string

// all has one field of every kind.
type all struct {
	S       string
	B       bool
	I       int
	I64     int64
	F       float64
	D       time.Duration
	By      int64
	SS      []string
	M       map[string]string
	E       word
	X       diag.Text
	XS      []diag.Text
	XM      []Field
	P       diag.Text
	R       Ref
	T       types.Type
	Sec     Secret
	Present bool
	Written bool
	In      struct {
		N    int
		Deep struct{ S string }
	}
}

func (a *all) Options() Options {
	return Options{
		String("s", &a.S, "Text.").Default("x").Written(&a.Written),
		Bool("b", &a.B, "Bool.").Default(true),
		Int("i", &a.I, "Int.").Default(3).Between(1, 10),
		Int64("i64", &a.I64, "Int64."),
		Float("f", &a.F, "Float.").AtLeast(0.5).Default(0.5),
		Duration("d", &a.D, "Duration.").Default(time.Minute).Between(1, 3600),
		Bytes("by", &a.By, "Bytes.").Default(1 << 20).AtLeast(1),
		Strings("ss", &a.SS, "Strings.").Default([]string{"a", "b"}),
		StringMap("m", &a.M, "Map."),
		Enum("e", &a.E, "Enum.", word("red"), word("green")).Default(word("red")),
		Expr("x", &a.X, "Expr."),
		Exprs("xs", &a.XS, "Exprs."),
		ExprMap("xm", &a.XM, "ExprMap."),
		Pattern("p", &a.P, "Pattern."),
		Reference("r", &a.R, "Ref.", "stream", "sink").Required().Eg("stream.x"),
		Schema("t", &a.T, "Type."),
		Sensitive("sec", &a.Sec, "Secret."),
		Nested("in", "Nested.", Options{
			Int("n", &a.In.N, "N.").Default(7),
			Nested("deep", "Deep.", Options{String("s", &a.In.Deep.S, "S.").Required()}),
		}).Presence(&a.Present),
	}
}

func TestDecode(t *testing.T) {
	rng := func(line int) diag.Range { return diag.Range{File: "f", Start: diag.Pos{Line: line}} }
	attr := func(line int, v Value) Attr { return Attr{Value: v, Range: rng(line), NameRange: rng(line)} }
	ref := Ref{Addr: addr.New("stream", "x")}
	for _, c := range []struct {
		name string
		body Body
		want string // codes and lines
		then func(*all) bool
	}{
		{"defaults", Body{Attrs: map[string]Attr{"r": attr(1, ref)}}, "", func(a *all) bool {
			return a.S == "x" && a.B && a.I == 3 && a.D == time.Minute && a.By == 1<<20 && len(a.SS) == 2 && a.E == "red" && a.In.N == 7 && !a.Present && !a.Written
		}},
		{"null is left out", Body{Attrs: map[string]Attr{"r": attr(1, ref), "i": attr(2, nil)}}, "", func(a *all) bool { return a.I == 3 }},
		{"null where required", Body{Attrs: map[string]Attr{"r": attr(4, nil)}}, "KS3003:4", nil},
		{"missing", Body{Range: rng(9)}, "KS3003:9", nil},
		{"invalid is silent", Body{Attrs: map[string]Attr{"r": attr(1, Invalid{})}}, "", nil},
		{"written", Body{Attrs: map[string]Attr{"r": attr(1, ref), "s": attr(2, "y")}}, "", func(a *all) bool { return a.Written && a.S == "y" }},
		{"bounds", Body{Attrs: map[string]Attr{"r": attr(1, ref), "i": attr(2, int64(11)), "f": attr(3, int64(0)), "d": attr(4, "2h"), "by": attr(5, "0")}}, "KS3005:2 KS3005:3 KS3005:4 KS3005:5", func(a *all) bool { return a.I == 3 && a.F == 0.5 }},
		{"forever is not for all", Body{Attrs: map[string]Attr{"r": attr(1, ref), "d": attr(2, "forever")}}, "KS3005:2", nil},
		{"types", Body{Attrs: map[string]Attr{"r": attr(1, true), "i": attr(2, "1"), "b": attr(3, "true"), "ss": attr(4, "a"), "m": attr(5, []Value{}), "d": attr(6, int64(5)), "s": attr(7, int64(5)), "i64": attr(8, 1.5), "sec": attr(9, true), "t": attr(10, "int"), "xm": attr(11, map[string]Value{})}},
			"KS3004:1 KS3004:2 KS3004:3 KS3004:4 KS3004:5 KS3004:6 KS3004:7 KS3004:8 KS3004:9 KS3004:10 KS3004:11", nil},
		{"units", Body{Attrs: map[string]Attr{"r": attr(1, ref), "d": attr(2, "5"), "by": attr(3, "5 apples")}}, "KS3007:2 KS3007:3", nil},
		{"words", Body{Attrs: map[string]Attr{"r": attr(1, ref), "e": attr(2, "gren"), "other": attr(3, "x")}}, "KS3006:2 KS3001:3", func(a *all) bool { return a.E == "red" }},
		{"forms", Body{Attrs: map[string]Attr{"r": attr(1, ref), "in": attr(2, "x")}, Blocks: map[string]Body{"s": {Range: rng(3)}, "inn": {Range: rng(4)}}}, "KS3002:2 KS3002:3 KS3001:4", nil},
		{"reference to another type", Body{Attrs: map[string]Attr{"r": attr(1, Ref{Addr: addr.New("route", "x")})}}, "KS3008:1", nil},
		{"nested", Body{Attrs: map[string]Attr{"r": attr(1, ref)}, Blocks: map[string]Body{"in": {Attrs: map[string]Attr{"n": attr(2, int64(1))}, Blocks: map[string]Body{"deep": {Range: rng(3)}}}}}, "KS3003:3", func(a *all) bool { return a.Present && a.In.N == 1 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := &all{S: "left over", SS: []string{"left over"}, Present: true, Written: true}
			var got []string
			diags := Decode(a.Options(), c.body)
			for _, d := range diags.Sort() {
				got = append(got, d.Code+":"+itoa(d.Range.Start.Line))
			}
			want := strings.Fields(c.want)
			if !sameSet(got, want) {
				t.Errorf("got %v, want %v\n%v", got, want, diags.Err())
			}
			if c.then != nil && !c.then(a) {
				t.Errorf("fields: %+v", a)
			}
		})
	}
}

func itoa(n int) string { return plainText(n) }

func sameSet(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	count := map[string]int{}
	for _, x := range a {
		count[x]++
	}
	for _, x := range b {
		count[x]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}

// TestDefaultsAreCopied holds that no two blocks share a default's memory.
func TestDefaultsAreCopied(t *testing.T) {
	var a, b all
	shared := []string{"a"}
	for _, x := range []*all{&a, &b} {
		Decode(Options{Strings("ss", &x.SS, "S.").Default(shared)}, Body{})
	}
	a.SS[0] = "changed"
	if b.SS[0] != "a" || shared[0] != "a" {
		t.Error("the default was changed through a field")
	}
}

func TestCanonical(t *testing.T) {
	a := &all{}
	diags := Decode(a.Options(), Body{Attrs: map[string]Attr{
		"r":   {Value: Ref{Addr: addr.New("stream", "x").Instance("k")}},
		"m":   {Value: map[string]Value{"b": "2", "a.b": "1"}},
		"xs":  {Value: []diag.Text{{S: "a > 1"}, {S: "b"}}},
		"xm":  {Value: []Field{{Name: "z", Expr: diag.Text{S: "y"}}, {Name: "a b", Lit: int64(2)}, {Name: "o", IsObject: true, Object: []Field{{Name: "p", Lit: true}}}}},
		"sec": {Value: Secret{Parts: []SecretPart{{Literal: "hunter2"}, {Env: "K"}, {File: "f"}, {Var: "v"}}}},
		"t":   {Value: types.ListOf(types.IntType)},
		"d":   {Value: "90s"},
	}, Blocks: map[string]Body{"in": {Blocks: map[string]Body{"deep": {Attrs: map[string]Attr{"s": {Value: "q"}}}}}}})
	if diags.HasErrors() {
		t.Fatal(diags.Err())
	}
	got := map[string]string{}
	for path, c := range Canonical(a.Options()) {
		if c.Text != "" {
			got[path] = c.Text
		}
	}
	sec := got["sec"]
	delete(got, "sec")
	if strings.Contains(sec, "hunter2") || !strings.HasSuffix(sec, ` + env("K") + file("f") + var.v`) {
		t.Errorf("secret: %s", sec)
	}
	want := map[string]string{
		"s": `"x"`, "b": "true", "i": "3", "i64": "0", "f": "0.5", "d": `"1m30s"`, "by": `"1MiB"`, "ss": `["a", "b"]`,
		"m": `{ "a.b" = "1", b = "2" }`, "e": `"red"`, "xs": `["a > 1", "b"]`,
		"xm": `{ z = "y", "a b" = 2, o = { p = true } }`, "r": `stream.x["k"]`, "t": "list(int)", "in": "{ }", "in.n": "7", "in.deep.s": `"q"`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestReferenceText(t *testing.T) {
	opts := (&all{}).Options()
	for name, want := range map[string][3]string{
		"i": {"whole number", "3", "between 1 and 10"}, "d": {"duration", `"1m"`, "between 1s and 1h"}, "by": {"size", `"1MiB"`, "at least 1"},
		"e": {"word", `"red"`, ""}, "ss": {"list of strings", `["a", "b"]`, ""}, "r": {"reference", "", ""}, "b": {"bool", "true", ""},
	} {
		o := opts.Find(name)
		if got := [3]string{o.Kind.String(), o.DefaultText(), o.Bounds()}; got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

// TestLocate holds that a problem stands at the innermost of what its option names and the body has.
func TestLocate(t *testing.T) {
	at := func(line int) diag.Range { return diag.Range{File: "f", Start: diag.Pos{Line: line}} }
	body := Body{
		Range: at(1),
		Attrs: map[string]Attr{
			"urls": {Value: []Value{"a", "b"}, Range: at(2), Items: map[string]diag.Range{"1": at(3)}},
			"key":  {Value: Secret{Parts: []SecretPart{{Literal: "x"}}}, Range: at(4)},
		},
		Blocks: map[string]Body{"tls": {Range: at(5), Attrs: map[string]Attr{"fields": {Range: at(6), Items: map[string]diag.Range{"a.b": at(7)}}}}},
	}
	for option, want := range map[string]diag.Range{
		"urls": at(2), "urls.1": at(3), "urls.0": at(2), "key": at(4), "tls": at(5), "tls.ca": at(5), "tls.fields": at(6), "tls.fields.a.b": at(7), "tls.fields.c": at(6),
		"auth.token": {}, "topic": {},
	} {
		var ds diag.Diagnostics
		ds.AddOptionf(option, "KS1", "Wrong", "It is.")
		ds = Locate(body, ds)
		if ds[0].Range != want || ds[0].Hidden != (option == "key") || ds[0].Option != "" {
			t.Errorf("%s: %+v, want line %d", option, ds[0], want.Start.Line)
		}
	}
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	var back Body
	if err := json.Unmarshal(b, &back); err != nil || back.Attrs["urls"].Items["1"] != at(3) {
		t.Errorf("the places of elements are lost when stored: %+v, %v", back, err)
	}
}
