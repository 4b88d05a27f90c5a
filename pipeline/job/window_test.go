package job

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"keystone/configs"
)

func TestWindowsAreAFunctionOfTheInput(t *testing.T) {
	fields := []string{"n=count()", "s=sum(v)", "f=sum(x)", "lo=min(v)", "hi=max(v)", "first=first(v)", "last=last(v)", "mean=avg(x)", "some=collect(v, 5)"}
	for _, c := range []struct {
		name string
		w    configs.JobWindow
		key  string
	}{
		{"tumbling", configs.JobWindow{Kind: configs.WindowTumbling, Size: 10 * time.Second}, ""},
		{"hopping", configs.JobWindow{Kind: configs.WindowHopping, Size: 20 * time.Second, Every: 5 * time.Second}, ""},
		{"session", configs.JobWindow{Kind: configs.WindowSession, Gap: 3 * time.Second}, ""},
		{"global", configs.JobWindow{Kind: configs.WindowGlobal}, ""},
		{"tumbling late", configs.JobWindow{Kind: configs.WindowTumbling, Size: 10 * time.Second, Lateness: 20 * time.Second}, "k + string(window_start)"},
		{"session late", configs.JobWindow{Kind: configs.WindowSession, Gap: 3 * time.Second, Lateness: 20 * time.Second}, "k + string(window_start)"},
		{"session on update", configs.JobWindow{Kind: configs.WindowSession, Gap: 3 * time.Second, Emit: configs.EmitOnUpdate}, "k + string(window_start)"},
		{"tumbling on update", configs.JobWindow{Kind: configs.WindowTumbling, Size: 10 * time.Second, Emit: configs.EmitOnUpdate}, "k + string(window_start)"},
		{"hopping interval", configs.JobWindow{Kind: configs.WindowHopping, Size: 20 * time.Second, Every: 10 * time.Second, Lateness: 5 * time.Second, Emit: configs.EmitInterval, Interval: 4 * time.Second}, "k + string(window_start)"},
		{"aggregate", configs.JobWindow{Kind: configs.WindowNone, Emit: configs.EmitOnUpdate}, "k"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := map[string][][]event{"read.a": events(rand.New(rand.NewPCG(5, 6)), 3, 300, 12, 4000, 40_000)}
			f := newFlow(t)
			f.read("a", 4*time.Second)
			w := c.w
			f.window("w", &w, "read.a", fields...)
			label := "window.w"
			if w.Kind == configs.WindowNone {
				label = "aggregate.w"
			}
			f.write("out", label, c.key)
			if w.Kind != configs.WindowNone && w.Kind != configs.WindowGlobal {
				f.write("late", "window.w.late", "")
			}
			var want []string
			for i, w := range ways(10) {
				got := f.final(f.run(w, in))
				if i == 0 {
					if want = got; len(want) < 12 {
						t.Fatalf("only %d rows: %v", len(want), want)
					}
					continue
				}
				same(t, fmt.Sprintf("%+v", w), got, want)
			}
			if f.killed < 5 {
				t.Errorf("only %d of the runs were killed", f.killed)
			}
			t.Log(f.killed, f.evicted, len(want))
		})
	}
}
