package job

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"keystone/configs"
	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/dsl"
	"keystone/dsl/ir"
	"keystone/dsl/types"
)

// modelCase is a window over events {"k", "ts", "v"} in one or two partitions.
type modelCase struct {
	name   string
	window configs.JobWindow
	fields []string
	delay  time.Duration
	parts  [][]string // "k ts v"
	rows   []string
	late   []string
}

// modelCases are computed by hand.
var modelCases = []modelCase{
	{"tumbling: the watermark of the own partition decides", configs.JobWindow{Kind: configs.WindowTumbling, Size: 10 * time.Millisecond}, []string{"n=count()", "s=sum(v)"}, 5 * time.Millisecond,
		[][]string{{"a 3 1", "a 14 2", "a 9 4", "a 15 8", "a 9 16"}, {"a 9 32"}},
		[]string{`{"k":"a","window_start":0,"window_end":10,"n":3,"s":37}`, `{"k":"a","window_start":10,"window_end":20,"n":2,"s":10}`}, []string{"a 9 16"}},
	{"tumbling: allowed lateness", configs.JobWindow{Kind: configs.WindowTumbling, Size: 10 * time.Millisecond, Lateness: 3 * time.Millisecond}, []string{"n=count()"}, 0,
		[][]string{{"a 1 0", "a 12 0", "a 2 0", "a 13 0", "a 3 0"}},
		[]string{`{"k":"a","window_start":0,"window_end":10,"n":2}`, `{"k":"a","window_start":10,"window_end":20,"n":2}`}, []string{"a 3 0"}},
	{"tumbling: before 1970", configs.JobWindow{Kind: configs.WindowTumbling, Size: 10 * time.Millisecond}, []string{"n=count()"}, 0,
		[][]string{{"a -11 0", "a -10 0", "a -1 0", "a 0 0"}},
		[]string{`{"k":"a","window_start":-20,"window_end":-10,"n":1}`, `{"k":"a","window_start":-10,"window_end":0,"n":2}`, `{"k":"a","window_start":0,"window_end":10,"n":1}`}, nil},
	{"hopping: late for some windows only", configs.JobWindow{Kind: configs.WindowHopping, Size: 10 * time.Millisecond, Every: 5 * time.Millisecond}, []string{"n=count()"}, 0,
		[][]string{{"a 7 0", "a 11 0", "a 8 0"}},
		[]string{`{"k":"a","window_start":0,"window_end":10,"n":1}`, `{"k":"a","window_start":5,"window_end":15,"n":3}`, `{"k":"a","window_start":10,"window_end":20,"n":1}`}, nil},
	{"session: the gap itself merges", configs.JobWindow{Kind: configs.WindowSession, Gap: 5 * time.Millisecond}, []string{"n=count()", "f=first(v)", "l=last(v)"}, 20 * time.Millisecond,
		[][]string{{"a 10 1", "b 11 2", "a 15 3", "a 21 4", "a 1 5", "a 6 6", "b 30 7"}},
		[]string{`{"k":"a","window_start":1,"window_end":20,"n":4,"f":5,"l":3}`, `{"k":"a","window_start":21,"window_end":26,"n":1,"f":4,"l":4}`, `{"k":"b","window_start":11,"window_end":16,"n":1,"f":2,"l":2}`, `{"k":"b","window_start":30,"window_end":35,"n":1,"f":7,"l":7}`}, nil},
	{"session: late by its own time", configs.JobWindow{Kind: configs.WindowSession, Gap: 5 * time.Millisecond, Lateness: 2 * time.Millisecond}, []string{"n=count()"}, 0,
		[][]string{{"a 10 0", "a 8 0", "a 7 0"}},
		[]string{`{"k":"a","window_start":8,"window_end":15,"n":2}`}, []string{"a 7 0"}},
	{"global: nothing is late, ties go by partition and offset", configs.JobWindow{Kind: configs.WindowGlobal}, []string{"all=collect(v)", "top=top_k(v, 1)"}, 0,
		[][]string{{"a 10 1", "a 1 2", "a 10 3"}, {"a 10 4", "a 1 3"}},
		[]string{`{"k":"a","all":[2,3,1,3,4],"top":[{"value":3,"count":2}]}`}, nil},
	{"arithmetic over aggregates, and conditions", configs.JobWindow{Kind: configs.WindowNone}, []string{"mean=sum(v) / count()", "big=count(where(v > 2))", "m=max(v, where(v < 3)) ?? -1", "d=count_distinct(v)", "sd=stddev(v)"}, 0,
		[][]string{{"a 1 2", "a 2 4", "b 3 5"}},
		[]string{`{"k":"a","mean":3,"big":1,"m":2,"d":2,"sd":1.4142135623730951}`, `{"k":"b","mean":5,"big":1,"m":-1,"d":1,"sd":null}`}, nil},
}

var modelType = types.ObjectOf(types.Field{Name: "k", Type: types.StringType}, types.Field{Name: "ts", Type: types.TimestampMsType}, types.Field{Name: "v", Type: types.IntType})

func modelExpr(t testing.TB, text string) *ir.Expr {
	t.Helper()
	e, diags := dsl.CheckExpr(diag.Text{S: text}, dsl.Env{Event: modelType})
	if diags.HasErrors() {
		t.Fatalf("%s: %v", text, diags.Err())
	}
	return e
}

func (c *modelCase) operators(t testing.TB) (read, window *configs.Operator) {
	t.Helper()
	var list []spec.Field
	for _, x := range c.fields {
		name, text, _ := strings.Cut(x, "=")
		list = append(list, spec.Field{Name: name, Expr: diag.Text{S: text}})
	}
	a, diags := dsl.CheckAggregation(list, dsl.Env{Event: modelType})
	if diags.HasErrors() {
		t.Fatal(diags.Err())
	}
	read = &configs.Operator{Read: &configs.JobRead{Input: modelType, EventTime: modelExpr(t, "ts"), Watermark: c.delay}}
	return read, &configs.Operator{Window: &c.window, Aggregation: a, Key: []configs.KeyField{{Name: "k", Expr: modelExpr(t, "k")}}}
}

func modelDoc(line string) string {
	var k string
	var ts, v int64
	if _, err := fmt.Sscan(line, &k, &ts, &v); err != nil {
		panic(err)
	}
	return fmt.Sprintf(`{"k":%q,"ts":%d,"v":%d}`, k, ts, v)
}

// docs gives the values of the records.
func (c *modelCase) docs() [][]string {
	out := make([][]string, len(c.parts))
	for p, lines := range c.parts {
		for _, line := range lines {
			out[p] = append(out[p], modelDoc(line))
		}
	}
	return out
}

// TestModel holds the model to what was computed by hand.
func TestModel(t *testing.T) {
	for _, c := range modelCases {
		t.Run(c.name, func(t *testing.T) {
			read, window := c.operators(t)
			got := runModel(t, window, modelInput{read: read, parts: c.docs()})
			want := slices.Sorted(slices.Values(c.rows))
			if !slices.Equal(got.rows, want) {
				t.Errorf("the rows are\n%s\nwant\n%s", strings.Join(got.rows, "\n"), strings.Join(want, "\n"))
			}
			var late []string
			for _, line := range c.late {
				late = append(late, modelDoc(line))
			}
			if !slices.Equal(got.late, late) {
				t.Errorf("late are %q, want %q", got.late, late)
			}
			if len(got.letters) > 0 {
				t.Errorf("there are letters: %q", got.letters)
			}
		})
	}
}

// TestModelOfFailures: what cannot be evaluated is set aside, and moves no watermark where it has no time.
func TestModelOfFailures(t *testing.T) {
	c := modelCase{window: configs.JobWindow{Kind: configs.WindowTumbling, Size: 10 * time.Millisecond}, fields: []string{"s=sum(v)"}}
	read, window := c.operators(t)
	docs := []string{`{"k":"a","ts":"x","v":1}`, `{"k":"a","v":1}`, `[]x`, `{"k":"a","ts":3,"v":"2"}`, `{"k":5,"ts":3,"v":1}`, `{"k":"a","ts":4,"v":7}`, `{"ts":4}`}
	got := runModel(t, window, modelInput{read: read, parts: [][]string{docs}, where: []*ir.Expr{modelExpr(t, "v != 9 || v == nil")}})
	want := []string{`{"k":"a","window_start":0,"window_end":10,"s":7}`, `{"k":null,"window_start":0,"window_end":10,"s":null}`}
	if !slices.Equal(got.rows, want) || len(got.letters) != 5 {
		t.Errorf("%q %q", got.rows, got.letters)
	}
}
