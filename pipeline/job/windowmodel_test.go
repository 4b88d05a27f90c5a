package job

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"keystone/configs"
	"keystone/dsl/ir"
)

// unevenEvents makes events of which some lack fields, have values of other types or the same time as others.
func unevenEvents(rng *rand.Rand, parts, n, keys int) [][]event {
	out := make([][]event, parts)
	for p := range out {
		now := int64(1_700_000_000_000)
		for range n {
			now += rng.Int64N(1500) / 100 * 100
			ts := now - rng.Int64N(50)*100
			if rng.IntN(15) == 0 {
				ts -= rng.Int64N(400) * 100
			}
			fields := []string{fmt.Sprintf(`"ts":%d`, ts)}
			for _, f := range []struct{ name, value string }{{"k", fmt.Sprintf(`"k%d"`, rng.IntN(keys))}, {"v", fmt.Sprint(rng.IntN(200) - 100)}, {"x", fmt.Sprintf("%g", rng.NormFloat64()*[]float64{1, 1e-9, 1e12, 1e200}[rng.IntN(4)])}} {
				switch rng.IntN(25) {
				case 0:
				case 1:
					fields = append(fields, fmt.Sprintf("%q:null", f.name))
				case 2:
					fields = append(fields, fmt.Sprintf(`%q:[1]`, f.name))
				default:
					fields = append(fields, fmt.Sprintf("%q:%s", f.name, f.value))
				}
			}
			out[p] = append(out[p], event{value: "{" + strings.Join(fields, ",") + "}", stamp: now})
		}
	}
	return out
}

func valuesOf(parts [][]event) [][]string {
	out := make([][]string, len(parts))
	for p, list := range parts {
		for _, e := range list {
			out[p] = append(out[p], e.value)
		}
	}
	return out
}

// TestWindowsAgainstModel: two reads, a condition and every aggregate that is exact, in windows of each kind, killed, rescaled and
// with little memory, give what the model gives of the whole input.
func TestWindowsAgainstModel(t *testing.T) {
	fields := []string{"n=count()", "nv=count(v)", "big=count(where(v > 50))", "s=sum(v)", "f=sum(x)", "m=avg(x)", "mi=avg(v)", "sd=stddev(v)", "lo=min(x)", "hi=max(v, where(v < 0))", "a=first(v)", "z=last(x)",
		"d=count_distinct(v % 7)", "ad=approx_count_distinct(v)", "c=collect(v, 4)", "top=top_k(v % 5, 2)", "ratio=sum(v) / count() ?? 0"}
	for _, c := range []struct {
		name string
		w    configs.JobWindow
	}{
		{"tumbling", configs.JobWindow{Kind: configs.WindowTumbling, Size: 7 * time.Second}},
		{"tumbling, allowed lateness", configs.JobWindow{Kind: configs.WindowTumbling, Size: 10 * time.Second, Lateness: 15 * time.Second}},
		{"hopping", configs.JobWindow{Kind: configs.WindowHopping, Size: 20 * time.Second, Every: 5 * time.Second, Lateness: 3 * time.Second}},
		{"hopping, not a multiple", configs.JobWindow{Kind: configs.WindowHopping, Size: 11 * time.Second, Every: 4 * time.Second}},
		{"session", configs.JobWindow{Kind: configs.WindowSession, Gap: 1500 * time.Millisecond}},
		{"session, allowed lateness", configs.JobWindow{Kind: configs.WindowSession, Gap: 2 * time.Second, Lateness: 20 * time.Second}},
		{"global", configs.JobWindow{Kind: configs.WindowGlobal}},
		{"none", configs.JobWindow{Kind: configs.WindowNone, Emit: configs.EmitOnUpdate}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := unevenEvents(rand.New(rand.NewPCG(3, 4)), 2, 150, 6), unevenEvents(rand.New(rand.NewPCG(5, 4)), 3, 150, 6)
			f := newFlow(t)
			f.job.OnError = configs.DeadLetter
			f.read("a", 3*time.Second)
			f.read("b", 6*time.Second)
			f.add("union", "u", &configs.Operator{Output: eventType}, "read.a", "read.b")
			where := []*ir.Expr{f.expr("k != 'k0'", eventType)}
			f.add("filter", "f", &configs.Operator{Where: where, Output: eventType}, "union.u")
			w := c.w
			f.window("w", &w, "filter.f", fields...)
			name, key := "window.w", ""
			switch {
			case w.Kind == configs.WindowNone:
				name, key = "aggregate.w", "k ?? 'nobody'"
			case w.Lateness > 0:
				key = "(k ?? 'nobody') + string(window_start)"
			}
			f.write("out", name, key)
			if w.Kind != configs.WindowNone && w.Kind != configs.WindowGlobal {
				f.write("late", "window.w.late", "")
			}
			got := runModel(t, f.by[name], modelInput{f.by["read.a"], 0, where, valuesOf(a)}, modelInput{f.by["read.b"], 1, where, valuesOf(b)})
			if len(got.rows) < 6 || len(got.letters) < 10 {
				t.Fatalf("the model gives only %d rows, %d late and %d letters", len(got.rows), len(got.late), len(got.letters))
			}
			var want []string
			for _, r := range got.rows {
				want = append(want, "out "+r)
			}
			for _, r := range got.late {
				want = append(want, "late "+r)
			}
			for _, r := range got.letters {
				want = append(want, "letter "+r)
			}
			slices.Sort(want)
			for _, w := range ways(8) {
				var rows []string
				for _, r := range f.final(f.run(w, map[string][][]event{"read.a": a, "read.b": b})) {
					if where, doc, is := strings.Cut(r, "{"); is {
						word, _, _ := strings.Cut(where, " ")
						if word != "letter" && word != "late" {
							word = "out"
						}
						r = word + " {" + doc // of a letter without operator and code, of an upsert without its key
					}
					rows = append(rows, r)
				}
				same(t, fmt.Sprintf("%+v", w), rows, want)
			}
			t.Logf("%d rows, %d late, %d letters, %d lives ended early", len(got.rows), len(got.late), len(got.letters), f.killed)
		})
	}
}
