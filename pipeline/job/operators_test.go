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
	"keystone/dsl/types"
	"keystone/sources"
)

// modelEvent is an event as the models see it.
type modelEvent struct {
	k, json  string
	ts, mark int64
	part     int
	off      int
}

// modelOf finds what a read makes of partitions: in the order of each, with the mark of the partition.
func modelOf(parts [][]event, delay int64) []modelEvent {
	var out []modelEvent
	for p, list := range parts {
		mark := int64(beginOfTime)
		for i, e := range list {
			m := modelEvent{json: e.value, part: p, off: i}
			_, rest, _ := strings.Cut(e.value, `"k":"`)
			m.k, rest, _ = strings.Cut(rest, `"`)
			_, rest, _ = strings.Cut(rest, `"ts":`)
			if _, err := fmt.Sscanf(rest, "%d", &m.ts); err != nil {
				panic(err)
			}
			mark = max(mark, m.ts-delay)
			m.mark = mark
			out = append(out, m)
		}
	}
	return out
}

// everyWay runs a job in all ways and compares what it gives with what is wanted.
func everyWay(t *testing.T, f *flow, in map[string][][]event, want []string) {
	t.Helper()
	for _, w := range ways(10) {
		same(t, fmt.Sprintf("%+v", w), f.final(f.run(w, in)), want)
	}
	if f.killed < 5 {
		t.Errorf("only %d of the runs were killed", f.killed)
	}
}

func TestSessionsAgainstModel(t *testing.T) {
	const gap, lateness, delay = 3000, 9000, 2000
	in := events(rand.New(rand.NewPCG(1, 2)), 4, 200, 9, 5000, 30_000)
	f := newFlow(t)
	f.read("a", delay*time.Millisecond)
	f.window("w", &configs.JobWindow{Kind: configs.WindowSession, Gap: gap * time.Millisecond, Lateness: lateness * time.Millisecond}, "read.a", "n=count()")
	f.write("out", "window.w", "k + string(window_start)")
	f.write("late", "window.w.late", "")
	times := map[string][]int64{}
	var want []string
	for _, e := range modelOf(in, delay) {
		if e.ts+lateness < e.mark {
			want = append(want, "late "+e.json)
			continue
		}
		times[e.k] = append(times[e.k], e.ts)
	}
	if len(want) == 0 {
		t.Fatal("nothing is late")
	}
	for k, list := range times {
		slices.Sort(list)
		for i := 0; i < len(list); {
			n := 1
			for i+n < len(list) && list[i+n] <= list[i+n-1]+gap {
				n++
			}
			start := time.UnixMilli(list[i]).UTC().Format("2006-01-02T15:04:05.999Z07:00")
			want = append(want, fmt.Sprintf(`out %s%s {"k":"%s","window_start":%d,"window_end":%d,"n":%d}`, k, start, k, list[i], list[i+n-1]+gap, n))
			i += n
		}
	}
	everyWay(t, f, map[string][][]event{"read.a": in}, want)
}

func TestHoppingAgainstModel(t *testing.T) {
	const size, every, lateness, delay = 20_000, 6000, 4000, 2000
	in := events(rand.New(rand.NewPCG(3, 2)), 4, 200, 9, 5000, 30_000)
	f := newFlow(t)
	f.read("a", delay*time.Millisecond)
	f.window("w", &configs.JobWindow{Kind: configs.WindowHopping, Size: size * time.Millisecond, Every: every * time.Millisecond, Lateness: lateness * time.Millisecond}, "read.a", "n=count()")
	f.write("out", "window.w", "k + '/' + string(int(window_start))")
	f.write("late", "window.w.late", "")
	type window struct {
		k     string
		start int64
	}
	counts := map[window]int{}
	var want []string
	for _, e := range modelOf(in, delay) {
		taken := false
		for start := floorTo(e.ts, every); start > e.ts-size; start -= every {
			if start+size+lateness > e.mark {
				counts[window{e.k, start}]++
				taken = true
			}
		}
		if !taken {
			want = append(want, "late "+e.json)
		}
	}
	for w, n := range counts {
		want = append(want, fmt.Sprintf(`out %s/%d {"k":"%s","window_start":%d,"window_end":%d,"n":%d}`, w.k, w.start, w.k, w.start, w.start+size, n))
	}
	everyWay(t, f, map[string][][]event{"read.a": in}, want)
}

// join puts a join of two reads into a flow.
func (f *flow) join(j *configs.JobJoin) {
	j.Left, j.Right = f.key(eventType, "k"), f.key(eventType, "k")
	j.Pair = types.ObjectOf(types.Field{Name: "left", Type: eventType}, types.Field{Name: "right", Type: eventType})
	f.add("join", "j", &configs.Operator{Join: j, Output: j.Pair, Ports: map[string]types.Type{portLate: eventType}}, "read.a", "read.b")
}

func TestIntervalJoinAgainstModel(t *testing.T) {
	const before, after, delay = 1000, 3000, 2000
	for _, typ := range []string{configs.JoinInner, configs.JoinLeft, configs.JoinRight, configs.JoinFull} {
		t.Run(typ, func(t *testing.T) {
			a := events(rand.New(rand.NewPCG(5, 2)), 3, 150, 30, 4000, 20_000)
			b := events(rand.New(rand.NewPCG(6, 2)), 2, 150, 30, 4000, 20_000)
			f := newFlow(t)
			f.read("a", delay*time.Millisecond)
			f.read("b", delay*time.Millisecond)
			f.join(&configs.JobJoin{Type: typ, Window: "interval", Before: before * time.Millisecond, After: after * time.Millisecond})
			f.write("out", "join.j", "")
			f.write("late", "join.j.late", "")
			var want []string
			side := func(parts [][]event) (ok []modelEvent) {
				for _, e := range modelOf(parts, delay) {
					if e.ts < e.mark {
						want = append(want, "late "+e.json)
					} else {
						ok = append(ok, e)
					}
				}
				return ok
			}
			left, right := side(a), side(b)
			met := map[int]bool{}
			pairs := 0
			for _, l := range left {
				some := false
				for i, r := range right {
					if l.k == r.k && l.ts-before <= r.ts && r.ts <= l.ts+after {
						want = append(want, `out {"left":`+l.json+`,"right":`+r.json+`}`)
						some, met[i] = true, true
						pairs++
					}
				}
				if !some && (typ == configs.JoinLeft || typ == configs.JoinFull) {
					want = append(want, `out {"left":`+l.json+`,"right":null}`)
				}
			}
			for i, r := range right {
				if !met[i] && (typ == configs.JoinRight || typ == configs.JoinFull) {
					want = append(want, `out {"left":null,"right":`+r.json+`}`)
				}
			}
			if pairs < 20 {
				t.Fatalf("only %d pairs", pairs)
			}
			everyWay(t, f, map[string][][]event{"read.a": a, "read.b": b}, want)
		})
	}
}

func TestWindowJoinAgainstModel(t *testing.T) {
	const size, every, lateness, delay = 4000, 2000, 1000, 2000
	for _, typ := range []string{configs.JoinInner, configs.JoinFull} {
		t.Run(typ, func(t *testing.T) {
			a := events(rand.New(rand.NewPCG(7, 2)), 3, 150, 30, 4000, 20_000)
			b := events(rand.New(rand.NewPCG(8, 2)), 2, 150, 30, 4000, 20_000)
			f := newFlow(t)
			f.read("a", delay*time.Millisecond)
			f.read("b", delay*time.Millisecond)
			f.join(&configs.JobJoin{Type: typ, Window: configs.WindowHopping, Size: size * time.Millisecond, Every: every * time.Millisecond, Lateness: lateness * time.Millisecond})
			f.write("out", "join.j", "")
			type window struct {
				k     string
				start int64
			}
			sides := map[window]*[2][]modelEvent{}
			for i, parts := range [][][]event{a, b} {
				for _, e := range modelOf(parts, delay) {
					for start := floorTo(e.ts, every); start > e.ts-size; start -= every {
						if start+size+lateness > e.mark {
							w := window{e.k, start}
							if sides[w] == nil {
								sides[w] = &[2][]modelEvent{}
							}
							sides[w][i] = append(sides[w][i], e)
						}
					}
				}
			}
			var want []string
			for _, s := range sides {
				for _, l := range s[0] {
					for _, r := range s[1] {
						want = append(want, `out {"left":`+l.json+`,"right":`+r.json+`}`)
					}
					if len(s[1]) == 0 && typ == configs.JoinFull {
						want = append(want, `out {"left":`+l.json+`,"right":null}`)
					}
				}
				for _, r := range s[1] {
					if len(s[0]) == 0 && typ == configs.JoinFull {
						want = append(want, `out {"left":null,"right":`+r.json+`}`)
					}
				}
			}
			everyWay(t, f, map[string][][]event{"read.a": a, "read.b": b}, want)
		})
	}
}

// byPartition gives keys that decide their partition.
func byPartition(parts [][]event) [][]event {
	for p, list := range parts {
		for i := range list {
			list[i].value = strings.Replace(list[i].value, `"k":"k`, fmt.Sprintf(`"k":"p%d-`, p), 1)
		}
	}
	return parts
}

func TestDedupAgainstModel(t *testing.T) {
	const ttl, delay = 10_000, 2000
	in := byPartition(events(rand.New(rand.NewPCG(9, 2)), 3, 300, 20, 4000, 20_000))
	f := newFlow(t)
	f.read("a", delay*time.Millisecond)
	f.add("dedup", "d", &configs.Operator{Dedup: &configs.JobDedup{TTL: ttl * time.Millisecond}, Key: f.key(eventType, "k"), Output: eventType}, "read.a")
	f.write("out", "dedup.d", "")
	seen := map[string]int64{}
	var want []string
	for _, e := range modelOf(in, delay) {
		if at, ok := seen[e.k]; ok && e.mark <= at+ttl {
			continue
		}
		seen[e.k] = e.ts
		want = append(want, "out "+e.json)
	}
	everyWay(t, f, map[string][][]event{"read.a": in}, want)
}

func TestTopOfWindows(t *testing.T) {
	const size, delay, n = 20_000, 4000, 3
	in := events(rand.New(rand.NewPCG(11, 2)), 3, 300, 12, 4000, 0)
	f := newFlow(t)
	f.read("a", delay*time.Millisecond)
	f.window("w", &configs.JobWindow{Kind: configs.WindowTumbling, Size: size * time.Millisecond}, "read.a", "n=sum(v)")
	rows := f.by["window.w"].Output
	f.add("top", "t", &configs.Operator{Top: &configs.JobTop{OrderBy: f.expr("n", rows), Descending: true, N: n, Windowed: true}, Key: f.key(rows, "window_end"), Output: rows}, "window.w")
	f.write("out", "top.t", "")
	f.write("all", "window.w", "")
	type row struct {
		k   string
		sum int
	}
	byWindow := map[int64]map[string]int{}
	for _, e := range modelOf(in, delay) {
		start := floorTo(e.ts, size)
		if byWindow[start] == nil {
			byWindow[start] = map[string]int{}
		}
		var v int
		_, rest, _ := strings.Cut(e.json, `"v":`)
		if _, err := fmt.Sscanf(rest, "%d", &v); err != nil {
			t.Fatal(err)
		}
		byWindow[start][e.k] += v
	}
	for i, w := range ways(10) {
		got := f.final(f.run(w, map[string][][]event{"read.a": in}))
		tops := 0
		for start, sums := range byWindow {
			var list []row
			for k, s := range sums {
				list = append(list, row{k, s})
			}
			slices.SortFunc(list, func(a, b row) int { return b.sum - a.sum })
			for r := range min(n, len(list)) {
				tail := fmt.Sprintf(`"window_start":%d,"window_end":%d,"n":%d,"rank":%d}`, start, start+size, list[r].sum, r+1)
				if !slices.ContainsFunc(got, func(s string) bool { return strings.HasSuffix(s, tail) }) {
					t.Errorf("way %d: no row ends with %s", i, tail)
				}
				tops++
			}
		}
		if have := len(got) - countPrefix(got, "all "); have != tops {
			t.Errorf("way %d: %d rows of the top, want %d", i, have, tops)
		}
	}
}

func countPrefix(list []string, prefix string) (n int) {
	for _, s := range list {
		if strings.HasPrefix(s, prefix) {
			n++
		}
	}
	return n
}

func TestTopThatChanges(t *testing.T) {
	in := events(rand.New(rand.NewPCG(13, 2)), 3, 200, 5, 4000, 0)
	f := newFlow(t)
	f.read("a", 4*time.Second)
	f.add("top", "t", &configs.Operator{Top: &configs.JobTop{OrderBy: f.expr("x", eventType), N: 4}, Key: f.key(eventType, "k"), Output: types.ObjectOf(append(slices.Clone(eventType.Fields), types.Field{Name: "rank", Type: types.IntType})...), Updates: true}, "read.a")
	f.write("out", "top.t", "k + string(rank)")
	byKey := map[string][]modelEvent{}
	for _, e := range modelOf(in, 4000) {
		byKey[e.k] = append(byKey[e.k], e)
	}
	x := func(e modelEvent) (x float64) {
		_, rest, _ := strings.Cut(e.json, `"x":`)
		if _, err := fmt.Sscanf(rest, "%g", &x); err != nil {
			t.Fatal(err)
		}
		return x
	}
	var want []string
	for k, list := range byKey {
		slices.SortFunc(list, func(a, b modelEvent) int {
			if x(a) < x(b) {
				return -1
			}
			return 1
		})
		for r := range min(4, len(list)) {
			want = append(want, fmt.Sprintf(`out %s%d %s,"rank":%d}`, k, r+1, strings.TrimSuffix(list[r].json, "}"), r+1))
		}
	}
	everyWay(t, f, map[string][][]event{"read.a": in}, want)
}

func TestStatelessOperators(t *testing.T) {
	in := events(rand.New(rand.NewPCG(15, 2)), 3, 100, 5, 0, 0)
	f := newFlow(t)
	f.read("a", 0)
	f.add("filter", "f", &configs.Operator{Where: []*ir.Expr{f.expr("v > 10", eventType), f.expr("v < 90", eventType)}, Output: eventType}, "read.a")
	f.add("split", "s", &configs.Operator{Split: []configs.Branch{{Name: "low", Where: []*ir.Expr{f.expr("v < 30", eventType)}}, {Name: "mid", Where: []*ir.Expr{f.expr("v < 60", eventType)}}}, Ports: map[string]types.Type{"low": eventType, "mid": eventType, "rest": eventType}}, "filter.f")
	f.add("union", "u", &configs.Operator{Output: eventType}, "split.s.low", "split.s.rest")
	shape := &ir.Route{Input: eventType, Format: ir.JSON, HasProject: true, Project: []ir.Output{{Name: "w", Expr: f.expr("v * 2", eventType), Type: types.IntType}}}
	out := types.ObjectOf(types.Field{Name: "w", Type: types.IntType})
	shape.OutputType = out
	f.add("project", "p", &configs.Operator{Shape: shape, Output: out}, "union.u")
	f.add("filter", "even", &configs.Operator{Where: []*ir.Expr{f.expr("w % 4 == 0", out)}, Output: out}, "project.p")
	f.write("out", "filter.even", "")
	f.write("mid", "split.s.mid", "")
	var want []string
	for _, e := range modelOf(in, 0) {
		var v int
		_, rest, _ := strings.Cut(e.json, `"v":`)
		if _, err := fmt.Sscanf(rest, "%d", &v); err != nil {
			t.Fatal(err)
		}
		switch {
		case v <= 10 || v >= 90:
		case v >= 30 && v < 60:
			want = append(want, "mid "+e.json)
		case v%2 == 0:
			want = append(want, fmt.Sprintf(`out {"w":%d}`, v*2))
		}
	}
	everyWay(t, f, map[string][][]event{"read.a": in}, want)
}

func TestLookup(t *testing.T) {
	for _, asOf := range []string{"now", asOfEventTime} {
		for _, typ := range []string{configs.JoinInner, configs.JoinLeft} {
			t.Run(asOf+" "+typ, func(t *testing.T) {
				in := events(rand.New(rand.NewPCG(17, 2)), 3, 200, 20, 0, 0)
				rng := rand.New(rand.NewPCG(18, 2))
				table := make([][]event, 2)
				now := int64(1_700_000_000_000)
				type change struct {
					at  int64
					row string
				}
				changes := map[string][]change{}
				for n := range 120 {
					now += rng.Int64N(3000)
					k := rng.IntN(16)
					row := fmt.Sprintf(`{"name":"name %d"}`, n)
					if rng.IntN(6) == 0 {
						row = ""
					}
					key := fmt.Sprintf("k%d", k)
					table[k%2] = append(table[k%2], event{key: key, value: row, stamp: now})
					changes[key] = append(changes[key], change{now, row})
				}
				f := newFlow(t)
				f.read("a", 0)
				names := types.ObjectOf(types.Field{Name: "name", Type: types.StringType})
				f.add("lookup", "l", &configs.Operator{Lookup: &configs.JobLookup{Input: names, As: "title", Type: typ, AsOf: asOf}, Key: f.key(eventType, "k"), Output: types.ObjectOf(append(slices.Clone(eventType.Fields), types.Field{Name: "title", Type: names})...)}, "read.a")
				f.write("out", "lookup.l", "")
				var want []string
				for _, e := range modelOf(in, 0) {
					row := ""
					for _, c := range changes[e.k] {
						if asOf == "now" || c.at <= e.ts {
							row = c.row
						}
					}
					if row == "" {
						if typ == configs.JoinInner {
							continue
						}
						row = "null"
					}
					want = append(want, "out "+strings.TrimSuffix(e.json, "}")+`,"title":`+row+`}`)
				}
				everyWay(t, f, map[string][][]event{"read.a": in, "lookup.l": table}, want)
			})
		}
	}
}

func TestFailuresAreLetters(t *testing.T) {
	in := [][]event{{
		{value: `{"k":"a","ts":1700000000000,"v":1}`, stamp: 1_700_000_000_000},
		{value: `{"k":"a","ts":null,"v":2}`, stamp: 1_700_000_000_000},
		{value: `{"k":"a","ts":1800000000000,"v":3}`, stamp: 1_700_000_000_000},
		{value: `{"k":"a","ts":1700000000001,"v":`, stamp: 1_700_000_000_000},
		{value: `{"k":"a","ts":1700000000002,"v":0}`, stamp: 1_700_000_000_000},
		{value: ``, stamp: 1_700_000_000_000},
		{value: `{"k":"a","ts":1700000000003,"v":5}`, stamp: 1_700_000_000_000},
	}}
	f := newFlow(t)
	f.job.OnError = configs.DeadLetter
	f.read("a", 0)
	f.by["read.a"].Read.MaxAhead = time.Hour
	f.add("filter", "f", &configs.Operator{Where: []*ir.Expr{f.expr("10 / v > 1", eventType)}, Output: eventType}, "read.a")
	f.window("w", &configs.JobWindow{Kind: configs.WindowTumbling, Size: time.Second}, "filter.f", "n=count()", "s=sum(v)")
	f.write("out", "window.w", "")
	got := f.final(f.run(way{tasks: 2}, map[string][][]event{"read.a": in}))
	want := []string{
		`letter filter.f ` + ir.CodeDivisionByZero + ` {"k":"a","ts":1700000000002,"v":0}`,
		`letter read.a ` + ir.CodeConversion + ` {"k":"a","ts":1800000000000,"v":3}`,
		`letter read.a ` + ir.CodeConversion + ` {"k":"a","ts":null,"v":2}`,
		`letter read.a ` + ir.CodeDecode + ` {"k":"a","ts":1700000000001,"v":`,
		`out {"k":"a","window_start":1700000000000,"window_end":1700000001000,"n":2,"s":6}`,
	}
	same(t, "letters", got, want)

	f.job.OnError = configs.StopRoute
	out := &ledger{}
	err := f.life(t.Context(), t.TempDir(), way{}, 2, map[string]sources.Source{"read.a": newMemSource(in, 1)}, out)
	if err == nil || !strings.Contains(err.Error(), "read.a") || !strings.Contains(err.Error(), "offset 1") {
		t.Errorf("a job that stops at errors ended with %v", err)
	}
}
