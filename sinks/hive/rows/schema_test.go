package rows

import (
	"strings"
	"testing"

	"keystone/dsl/types"
)

func parse(t testing.TB, text string) types.Type {
	t.Helper()
	typ, err := types.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return typ
}

func TestColumns(t *testing.T) {
	s := mustSchema(t, parse(t, `object({
		id = int, name = optional(string), ok = bool, f = float, d = decimal(10, 2), ms = timestamp_ms,
		at = optional(timestamp_rfc3339), day = date, raw = bytes, tags = list(string), m = map(list(int)),
		o = optional(object({a = int, b = optional(object({c = list(object({x = float}))}))})), any = any})`))
	want := `id bigint not null
name string
ok boolean not null
f double not null
d decimal(10,2) not null
ms timestamp not null
at timestamp
day date not null
raw binary not null
tags array<string> not null
m map<string,array<bigint>> not null
o struct<a:bigint,b:struct<c:array<struct<x:double>>>>
any string
`
	if got := s.String(); got != want {
		t.Errorf("columns:\n%s\nwant:\n%s", got, want)
	}
	paths := "id name ok f d ms at day raw tags.list.element m.key_value.key m.key_value.value.list.element o.a o.b.c.list.element.x any"
	if got := strings.Join(s.Paths(), " "); got != paths {
		t.Errorf("paths: %s", got)
	}
	for i, c := range s.Columns() {
		if again := mustSchema(t, types.ObjectOf(types.Field{Name: c.Name, Type: c.Type, Optional: c.Optional})); again.Columns()[0].Hive != c.Hive {
			t.Errorf("column %d: the type %s is %s", i, c.Type, again.Columns()[0].Hive)
		}
	}
}

func TestSchemaProblems(t *testing.T) {
	for _, c := range []struct {
		typ  string
		opts SchemaOptions
		want []string // pieces of problems, in order; none: there is a schema
	}{
		{typ: "any", want: []string{"Unknown fields"}},
		{typ: "int", want: []string{"Events are not objects"}},
		{typ: "object({...})", want: []string{"Unknown fields"}},
		{typ: "object({a = int, ...})", want: []string{"Unknown fields"}},
		{typ: "object({})", want: []string{"No columns"}},
		{typ: "object({a = any})", want: []string{"Field without a type: a: "}},
		{typ: "object({a = any, o = object({...})})", opts: SchemaOptions{JSONText: true}},
		{typ: "object({o = object({p = object({a = int, ...})})})", want: []string{"Unknown fields: o.p: "}},
		{typ: "object({o = list(object({}))})", want: []string{"Object without fields: o.element: "}},
		{typ: `object({"a b" = int, "" = int, "x.y" = int, "ü" = int})`, want: []string{`"a b"`, `""`, `"x.y"`, `"ü"`}},
		{typ: "object({userId = int, userid = int})", want: []string{`"userId" and "userid"`}},
		{typ: "object({o = object({A = int, a = int})})", want: []string{`o.a: "A" and "a"`}},
		{typ: "object({a = int, DT = string})", opts: SchemaOptions{Partitions: []string{"dt"}}, want: []string{"Field with the name of a partition: DT"}},
		{typ: "object({a = int, dt = string})", opts: SchemaOptions{Partitions: []string{"dt"}, Omit: []string{"dt"}}},
		{typ: "object({dt = string})", opts: SchemaOptions{Omit: []string{"dt"}}, want: []string{"No columns"}},
		{typ: "object({a = " + strings.Repeat("list(", 40) + "int" + strings.Repeat(")", 40) + "})", want: []string{"Nested too deeply"}},
		{typ: "object({" + strings.Repeat("x", 129) + " = int})", want: []string{"129 bytes"}},
		{typ: "object({a = any, b = any, userId = int, userid = int})", want: []string{"a", "b", "userid"}},
	} {
		s, problems := NewSchema(parse(t, c.typ), c.opts)
		if (s != nil) != (len(c.want) == 0) || len(problems) != len(c.want) {
			t.Errorf("%.80s: %v, %v", c.typ, s, problems)
			continue
		}
		for i, p := range problems {
			if !strings.Contains(p.String(), c.want[i]) || p.Detail == "" {
				t.Errorf("%.80s: problem %q, want %q in it", c.typ, p, c.want[i])
			}
		}
	}
}

func TestUnion(t *testing.T) {
	for _, c := range []struct{ old, new, want, changes, problem string }{
		{old: "{a = int}", new: "{a = int}", want: "a bigint not null\n"},
		{old: "{a = int, b = string}", new: "{c = float, a = int}", want: "a bigint not null\nb string\nc double\n", changes: "b optional string>string, c added >double"},
		{old: "{a = int}", new: "{a = optional(int)}", want: "a bigint\n", changes: "a optional bigint>bigint"},
		{old: "{a = int}", new: "{a = float}", want: "a double not null\n", changes: "a widened bigint>double"},
		{old: "{a = float}", new: "{a = int}", want: "a double not null\n"},
		{old: "{a = int}", new: "{a = decimal(10, 2)}", want: "a decimal(22,2) not null\n", changes: "a widened bigint>decimal(22,2)"},
		{old: "{a = decimal(10, 2)}", new: "{a = decimal(9, 4)}", want: "a decimal(12,4) not null\n", changes: "a widened decimal(10,2)>decimal(12,4)"},
		{old: "{a = decimal(38, 0)}", new: "{a = decimal(38, 4)}", problem: "needs 42 digits"},
		{old: "{a = timestamp_ms}", new: "{a = timestamp_rfc3339}", want: "a timestamp not null\n"},
		{old: "{a = string}", new: "{a = int}", problem: "It is string in the table and bigint now"},
		{old: "{a = string}", new: "{a = any}", problem: "JSON text"},
		{old: "{a = list(int)}", new: "{a = map(int)}", problem: "array<bigint>"},
		{old: "{a = date}", new: "{a = timestamp_ms}", problem: "Neither type"},
		{old: "{userId = int}", new: "{userid = int}", problem: "upper and lower case"},
		{
			old: "{o = object({a = int, l = list(object({x = int}))}), m = map(int)}", new: "{o = object({b = string, l = list(object({y = string, x = float})), a = int}), m = map(float)}",
			want:    "o struct<a:bigint,l:array<struct<x:double,y:string>>,b:string> not null\nm map<string,double> not null\n",
			changes: "o.l.element.x widened bigint>double, o.l.element.y added >string, o.b added >string, m.value widened bigint>double",
		},
	} {
		a, b := mustSchema(t, parse(t, "object("+c.old+")")), mustSchema(t, parse(t, "object("+c.new+")"))
		u, changes, problems := Union(a, b)
		if c.problem != "" {
			if u != nil || len(problems) != 1 || !strings.Contains(problems[0].String(), c.problem) {
				t.Errorf("%s with %s: %v, want a problem with %q", c.old, c.new, problems, c.problem)
			}
			continue
		}
		if len(problems) > 0 || u.String() != c.want {
			t.Errorf("%s with %s: %v\n%s\nwant:\n%s", c.old, c.new, problems, u, c.want)
			continue
		}
		var got []string
		for _, ch := range changes {
			got = append(got, ch.Column+" "+string(ch.Kind)+" "+ch.From+">"+ch.To)
		}
		if strings.Join(got, ", ") != c.changes {
			t.Errorf("%s with %s: changes %q, want %q", c.old, c.new, got, c.changes)
		}
		// What is in the union already changes nothing more.
		for _, s := range []*Schema{a, b, u} {
			if again, changes, problems := Union(u, s); len(changes)+len(problems) > 0 || !again.Equal(u) {
				t.Errorf("%s with %s: once more: %v %v", c.old, c.new, changes, problems)
			}
		}
	}
}
