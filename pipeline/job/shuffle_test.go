package job

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"keystone/configs"
)

// TestShuffledWithinTheDisorder: where nothing is late, the order within the watermark's delay decides nothing.
func TestShuffledWithinTheDisorder(t *testing.T) {
	const delay = 4000
	f := newFlow(t)
	f.read("a", delay*time.Millisecond)
	f.window("w", &configs.JobWindow{Kind: configs.WindowSession, Gap: 3 * time.Second}, "read.a", "n=count()", "s=sum(x)", "sd=stddev(x)", "p=percentile(v, 0.9)")
	f.write("out", "window.w", "")
	f.write("late", "window.w.late", "")
	base := events(rand.New(rand.NewPCG(31, 2)), 3, 300, 12, 0, 0)
	var want []string
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 9))
		in := make([][]event, len(base))
		for p, list := range base { // an event goes behind one that is less than the delay later
			in[p] = append([]event(nil), list...)
			for i := len(in[p]) - 1; i > 0 && seed > 0; i-- {
				if rng.IntN(2) == 0 && in[p][i].stamp-in[p][i-1].stamp < delay {
					in[p][i], in[p][i-1] = in[p][i-1], in[p][i]
					i--
				}
			}
		}
		got := f.final(f.run(way{seed: seed, kills: int(seed % 3)}, map[string][][]event{"read.a": in}))
		if seed == 0 {
			if want = got; len(want) == 0 || countPrefix(want, "late") > 0 {
				t.Fatalf("%d rows, %d late", len(want), countPrefix(want, "late"))
			}
			continue
		}
		same(t, fmt.Sprintf("seed %d", seed), got, want)
	}
}

// TestWindowsAgainstTheReference holds the engine to the model that interprets expressions over the whole input.
func TestWindowsAgainstTheReference(t *testing.T) {
	for i, w := range []configs.JobWindow{
		{Kind: configs.WindowTumbling, Size: 10 * time.Second},
		{Kind: configs.WindowHopping, Size: 15 * time.Second, Every: 5 * time.Second},
		{Kind: configs.WindowSession, Gap: 2 * time.Second},
		{Kind: configs.WindowGlobal},
	} {
		t.Run(w.Kind, func(t *testing.T) {
			f := newFlow(t)
			f.read("a", 2*time.Second)
			f.window("w", &w, "read.a", "n=count()", "s=sum(x)", "m=avg(x)", "lo=min(v)", "hi=max(v)", "f=first(v)", "l=last(x)", "d=count_distinct(v)", "c=collect(v, 4)", "odd=count(where(v % 2 == 1))", "mix=sum(v) / count()")
			f.write("out", "window.w", "")
			f.write("late", "window.w.late", "")
			in := events(rand.New(rand.NewPCG(uint64(41+i), 2)), 3, 250, 10, 4000, 20_000)
			m := modelInput{read: f.by["read.a"]}
			for _, list := range in {
				var docs []string
				for _, e := range list {
					docs = append(docs, e.value)
				}
				m.parts = append(m.parts, docs)
			}
			r := runModel(t, f.by["window.w"], m)
			var want []string
			for _, row := range r.rows {
				want = append(want, "out "+row)
			}
			for _, doc := range r.late {
				want = append(want, "late "+doc)
			}
			everyWay(t, f, map[string][][]event{"read.a": in}, want)
		})
	}
}
