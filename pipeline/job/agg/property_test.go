package agg

import (
	"bytes"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"keystone/dsl/eval"
)

// allCalls is every aggregate over every type that it takes.
func allCalls() []made {
	calls := []made{{call: "count"}, {call: "count", where: "i > 3"}, {call: "count", arg: "s"}}
	for _, f := range []string{"i", "f", "d", "x", "i / 3", "ms"} {
		if f == "ms" {
			f = "t - t + i"
		}
		for _, c := range []string{"sum", "avg", "stddev", "min", "max"} {
			calls = append(calls, made{call: c, arg: f})
		}
		calls = append(calls, made{call: "percentile", arg: f, params: []any{0.5}}, made{call: "percentile", arg: f, params: []any{0.99}, where: "s != 'b'"})
	}
	for _, f := range []string{"t", "rfc", "s"} {
		calls = append(calls, made{call: "min", arg: f}, made{call: "max", arg: f})
	}
	for _, f := range []string{"i", "s", "l", "rfc", "[x, s]", "event"} {
		for _, c := range []string{"first", "last", "any_value", "count_distinct", "approx_count_distinct"} {
			calls = append(calls, made{call: c, arg: f})
		}
		calls = append(calls, made{call: "collect", arg: f, params: []any{int64(5)}}, made{call: "top_k", arg: f, params: []any{int64(3)}})
	}
	return calls
}

func randomDoc(r *rand.Rand) string {
	pick := func(s ...string) string { return s[r.IntN(len(s))] }
	number := func() string {
		switch r.IntN(8) {
		case 0:
			return strconv.FormatFloat(math.Float64frombits(r.Uint64()&^(1<<62)), 'g', -1, 64) // below 2
		case 1:
			return pick("1e300", "-1e300", "5e-324", "1e-310", "9223372036854775807", "-9223372036854775808", "1e-30", "18446744073709551616")
		case 2:
			return strconv.FormatFloat(r.NormFloat64()*1e6, 'g', -1, 64)
		case 3:
			return strconv.FormatFloat(r.Float64(), 'f', 3, 64)
		}
		return strconv.Itoa(r.IntN(20) - 10)
	}
	var fields []string
	for name, v := range map[string]string{"i": strconv.Itoa(r.IntN(10)), "f": number(), "s": pick(`"a"`, `"b"`, `"\u0061"`, `"c d"`), "t": strconv.Itoa(r.IntN(1000)), "rfc": pick(`"2024-01-01T00:00:00Z"`, `"2024-01-01T01:00:00+01:00"`, `"2020-01-01T00:00:00.123456Z"`),
		"d": pick("1.5", "2.25", "0.1", "99"), "l": pick("[1,2]", "[1.0, 2]", "[]", "[3]"), "x": number()} {
		switch r.IntN(10) {
		case 0:
		case 1:
			fields = append(fields, fmt.Sprintf("%q:null", name))
		default:
			fields = append(fields, fmt.Sprintf("%q:%s", name, v))
		}
	}
	return "{" + strings.Join(fields, ",") + "}"
}

// randomRows makes rows, some of them with the Order of others.
func randomRows(t testing.TB, r *rand.Rand, x *extractor, n int) (rows []row, docs []string) {
	for range n {
		doc := randomDoc(r)
		payload, err := x.extract(t, doc)
		if err != nil {
			t.Fatal(doc, err)
		}
		rows = append(rows, row{payload, Order{Time: int64(r.IntN(20)), Tie: Tie{Read: uint16(r.IntN(2)), Partition: int32(r.IntN(2)), Offset: int64(r.IntN(20)), Child: int32(r.IntN(2))}}})
		docs = append(docs, doc)
	}
	return rows, docs
}

// tree adds rows in parts that it merges in random order, kept and read again now and then.
func tree(t testing.TB, r *rand.Rand, p *Plan, rows []row) *State {
	s := p.New()
	switch {
	case len(rows) > 1 && r.IntN(3) > 0:
		at := r.IntN(len(rows) + 1)
		a, b := tree(t, r, p, rows[:at]), tree(t, r, p, rows[at:])
		if r.IntN(2) == 0 {
			a, b = b, a
		}
		before := b.Append(nil)
		a.Merge(b)
		if !bytes.Equal(before, b.Append(nil)) {
			t.Fatal("Merge changed the other state")
		}
		s = a
	default:
		for _, row := range rows {
			payload := slices.Clone(row.payload)
			if err := s.Add(payload, row.at); err != nil {
				t.Fatal(err)
			}
			for i := range payload { // nothing of it is kept
				payload[i] = 0xee
			}
			if r.IntN(40) == 0 {
				s = reloaded(t, p, s)
			}
		}
	}
	if r.IntN(4) == 0 {
		s = reloaded(t, p, s)
	}
	return s
}

// TestAnyOrderAnyTree: the rows decide the fields, and not how they came together.
func TestAnyOrderAnyTree(t *testing.T) {
	p := planOf(t, allCalls()...)
	x := extractorOf(t, p)
	n := 150
	if testing.Short() {
		n = 40
	}
	for seed := range uint64(n) {
		r := rand.New(rand.NewPCG(seed, 5))
		rows, _ := randomRows(t, r, x, r.IntN(60))
		whole := p.New()
		add(t, whole, rows...)
		want := fieldByField(p, whole)
		for range 4 {
			r.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
			if got := fieldByField(p, tree(t, r, p, rows)); !slices.Equal(got, want) {
				for i := range got {
					if got[i] != want[i] {
						c := p.calls[i].src
						t.Errorf("seed %d: %s %v is %s and %s", seed, c.Func, c.Args, want[i], got[i])
					}
				}
				t.FailNow()
			}
		}
	}
}

// fieldByField gives the result of each call, or the code of its error.
func fieldByField(p *Plan, s *State) (out []string) {
	w := p.NewWriter()
	for i := range p.calls {
		b, err := w.result(nil, s, &p.calls[i])
		if err != nil {
			b = []byte(err.Code)
		}
		out = append(out, string(b))
	}
	return out
}

// TestSumsAreExact holds sum, avg and stddev to rational arithmetic.
func TestSumsAreExact(t *testing.T) {
	p := planOf(t, made{call: "sum", arg: "f"}, made{call: "avg", arg: "f"}, made{call: "stddev", arg: "f"}, made{call: "sum", arg: "i"}, made{call: "avg", arg: "i"}, made{call: "stddev", arg: "i"})
	n := 3000
	if testing.Short() {
		n = 500
	}
	for seed := range uint64(n) {
		r := rand.New(rand.NewPCG(seed, 6))
		s := p.New()
		var floats, ints []*big.Rat
		for range 1 + r.IntN(12) {
			var f float64
			switch seed % 4 {
			case 0: // of any size
				f = math.Float64frombits(r.Uint64() &^ (1 << 62))
			case 1: // around the edges of the window
				f = math.Ldexp(r.Float64()-0.5, []int{-75, -76, -127, -128, -129, 63, 64, 65}[r.IntN(8)])
			case 2: // halves between floats
				f = math.Ldexp(float64(r.IntN(4)-2), r.IntN(60)-53)
			default:
				f = r.NormFloat64()
			}
			i := r.Int64() >> r.IntN(64)
			if r.IntN(2) == 0 {
				i = -i
			}
			payload := eval.AppendFloatValue(nil, f)
			payload = append(payload, payload...)
			payload = eval.AppendFloatValue(payload, f)
			for range 3 {
				payload = eval.AppendIntValue(payload, i)
			}
			add(t, s, row{payload: payload})
			floats, ints = append(floats, new(big.Rat).SetFloat64(f)), append(ints, new(big.Rat).SetInt64(i))
		}
		got := fieldByField(p, s)
		for k, list := range [][]*big.Rat{floats, ints} {
			want := statistics(list)
			if k == 1 && want[0] != "overflow" {
				sum := new(big.Rat)
				for _, x := range list {
					sum.Add(sum, x)
				}
				if want[0] = "overflow"; sum.Num().IsInt64() {
					want[0] = sum.Num().String()
				}
			}
			for j := range want {
				if got[3*k+j] != want[j] && !sameNumber(got[3*k+j], want[j]) {
					t.Errorf("seed %d: %s of %v is %s, want %s", seed, p.calls[3*k+j].src.Func, list, got[3*k+j], want[j])
				}
			}
		}
	}
}

func sameNumber(a, b string) bool {
	x, err1 := strconv.ParseFloat(a, 64)
	y, err2 := strconv.ParseFloat(b, 64)
	return err1 == nil && err2 == nil && x == y
}

// statistics gives sum, mean and standard deviation, each rounded once.
func statistics(list []*big.Rat) [3]string {
	sum, squares, n := new(big.Rat), new(big.Rat), new(big.Rat).SetInt64(int64(len(list)))
	for _, x := range list {
		sum.Add(sum, x)
	}
	mean := new(big.Rat).Quo(sum, n)
	for _, x := range list {
		d := new(big.Rat).Sub(x, mean)
		squares.Add(squares, d.Mul(d, d))
	}
	out := [3]string{text(sum), text(mean), "null"}
	if len(list) > 1 {
		squares.Quo(squares, n.Sub(n, big.NewRat(1, 1)))
		v := new(big.Float).SetPrec(700).SetRat(squares)
		f, _ := v.Sqrt(v).Float64()
		out[2] = "overflow"
		if !math.IsInf(f, 0) {
			out[2] = strconv.FormatFloat(f, 'g', -1, 64)
		}
	}
	return out
}

func text(r *big.Rat) string {
	f, _ := r.Float64()
	if math.IsInf(f, 0) {
		return "overflow"
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}

func TestPercentileError(t *testing.T) {
	p := planOf(t, made{call: "percentile", arg: "f", params: []any{0.5}}, made{call: "percentile", arg: "f", params: []any{0.9}}, made{call: "percentile", arg: "f", params: []any{0.999}}, made{call: "percentile", arg: "f", params: []any{0.0}}, made{call: "percentile", arg: "f", params: []any{1.0}})
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 7))
		s := p.New()
		var list []float64
		for range 1 + r.IntN(2000) {
			f := math.Exp(r.NormFloat64()*5) * 100
			if seed%3 == 0 {
				f = r.NormFloat64()
			}
			list = append(list, f)
			enc := eval.AppendFloatValue(nil, f)
			add(t, s, row{payload: bytes.Repeat(enc, 5)})
		}
		slices.Sort(list)
		for i, got := range fieldByField(p, s) {
			q := p.calls[i].p
			want := list[max(int(math.Ceil(q*float64(len(list)))), 1)-1]
			f, _ := strconv.ParseFloat(got, 64)
			if off := math.Abs(f-want) / math.Abs(want); off > 1.0/128 || (q == 0 || q == 1) && off > 0 {
				t.Errorf("seed %d: the percentile %v of %d values is %v, %.2f %% off %v", seed, q, len(list), f, 100*off, want)
			}
		}
	}
}

func TestApproximateCount(t *testing.T) {
	p := planOf(t, made{call: "approx_count_distinct", arg: "i"})
	x := extractorOf(t, p)
	squares, runs := 0.0, 0
	for _, n := range []int{1, 100, 1023, 1024, 1025, 3000, 10_000, 50_000, 200_000} {
		for run := range 3 {
			s := p.New()
			for i := range n {
				enc, err := x.extract(t, fmt.Sprintf(`{"i":%d}`, i+run*1_000_000))
				if err != nil {
					t.Fatal(err)
				}
				add(t, s, row{payload: enc})
				if i%3 == 0 {
					add(t, s, row{payload: enc})
				}
			}
			got, _ := strconv.Atoi(fieldByField(p, s)[0])
			off := float64(got-n) / float64(n)
			if n <= maxHashes && got != n || math.Abs(off) > 4*0.0081 {
				t.Errorf("%d values are estimated as %d", n, got)
			}
			if n > maxHashes {
				squares, runs = squares+off*off, runs+1
			}
		}
	}
	if e := math.Sqrt(squares / float64(runs)); e > 2*0.0081 {
		t.Errorf("the estimates are off by %.2f %% on average", 100*e)
	}
}

// TestLimits: what is too much is an error whatever the order.
func TestLimits(t *testing.T) {
	big := `"` + strings.Repeat("x", 3<<10)
	p := planOf(t, made{call: "collect", arg: "x", params: []any{int64(8)}}, made{call: "count_distinct", arg: "x"}, made{call: "top_k", arg: "x", params: []any{int64(1)}}, made{call: "approx_count_distinct", arg: "x"})
	p.max = bounds{distinct: 100, distinctBytes: 64 << 10, collectedBytes: 16 << 10}
	x := extractorOf(t, p)
	var docs []string
	for i := range 22 {
		docs = append(docs, fmt.Sprintf(`{"x":%s%d"}`, big, i))
	}
	large := x.rows(t, docs...)
	docs = nil
	for i := range 8 {
		docs = append(docs, fmt.Sprintf(`{"x":%d}`, i))
	}
	small := x.rows(t, docs...)
	for i := range small {
		small[i].at.Time = 1 // before all others
	}
	r := rand.New(rand.NewPCG(1, 8))
	for range 3 {
		r.Shuffle(len(large), func(i, j int) { large[i], large[j] = large[j], large[i] })
		if got := fieldByField(p, tree(t, r, p, large)); !slices.Equal(got, []string{"limit", "limit", "limit", "22"}) {
			t.Errorf("66 KiB of values give %.100q", got)
		}
		some := slices.Concat(large[:7], small)
		r.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
		if got := fieldByField(p, tree(t, r, p, some)); got[0] != "[0,1,2,3,4,5,6,7]" || got[1] != "15" {
			t.Errorf("small values before large ones are collected as %.100q", got)
		}
	}
}

// TestTooManyDistinct: there are more values than are kept, or there are not.
func TestTooManyDistinct(t *testing.T) {
	p := planOf(t, made{call: "count_distinct", arg: "i"}, made{call: "top_k", arg: "i", params: []any{int64(1)}})
	p.max.distinct = 100
	x := extractorOf(t, p)
	r := rand.New(rand.NewPCG(2, 8))
	for n, want := range map[int]string{100: "100", 101: "limit"} {
		var docs []string
		for i := range n {
			docs = append(docs, fmt.Sprintf(`{"i":%d}`, i), fmt.Sprintf(`{"i":%d}`, i/2))
		}
		rows := x.rows(t, docs...)
		for range 5 {
			r.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
			if got := fieldByField(p, tree(t, r, p, rows))[0]; got != want {
				t.Errorf("%d values are counted as %s", n, got)
			}
		}
	}
}

// TestCollectOutOfOrder: partitions that come one after the other, each in order, cost no more than a sort.
func TestCollectOutOfOrder(t *testing.T) {
	const n = 40_000
	p := planOf(t, made{call: "collect", arg: "i", params: []any{int64(n)}})
	s := p.New()
	var want []string
	for part := range 4 {
		for i := part; i < n+100; i += 4 {
			add(t, s, row{eval.AppendIntValue(nil, int64(i)), Order{Time: int64(i)}})
		}
	}
	for i := range n {
		want = append(want, strconv.Itoa(i))
	}
	if got := written(p, s); got != `"r0":[`+strings.Join(want, ",")+"]" {
		t.Errorf("%d values are collected as %.100s…", n, got)
	}
}

// TestEqualRowsAreCounted: rows that nothing tells apart are still several.
func TestEqualRowsAreCounted(t *testing.T) {
	p := planOf(t, made{call: "collect", arg: "i", params: []any{int64(3)}})
	enc := eval.AppendIntValue(nil, 5)
	same := row{enc, Order{Time: 1}}
	a, b := p.New(), p.New()
	add(t, a, same, same, same, same)
	b.Merge(a)
	if got := written(p, b); got != `"r0":[5,5,5]` {
		t.Errorf("four equal rows are collected as %s", got)
	}
	a.Merge(b)
	if got := written(p, a); got != `"r0":[5,5,5]` {
		t.Errorf("seven equal rows are collected as %s", got)
	}
}

func FuzzState(f *testing.F) {
	p := planOf(f, allCalls()...)
	x := extractorOf(f, p)
	for seed := range uint64(5) {
		rows, _ := randomRows(f, rand.New(rand.NewPCG(seed, 9)), x, int(seed)*10)
		f.Add(tree(f, rand.New(rand.NewPCG(seed, 10)), p, rows).Append(nil))
	}
	other := p.New()
	rows, _ := randomRows(f, rand.New(rand.NewPCG(1, 9)), x, 20)
	add(f, other, rows...)
	f.Fuzz(func(t *testing.T, b []byte) {
		s := p.New()
		if s.Decode(b) != nil {
			if written(p, s) != written(p, p.New()) {
				t.Fatal("a state that could not be read is not empty")
			}
			return
		}
		want := fieldByField(p, s)
		if got := fieldByField(p, reloaded(t, p, s)); !slices.Equal(got, want) {
			t.Fatalf("%q was kept and is %q", want, got)
		}
		s.Merge(other)
		add(t, s, rows...)
		fieldByField(p, s)
		s.Size()
	})
}

func FuzzAdd(f *testing.F) {
	p := planOf(f, allCalls()...)
	rows, _ := randomRows(f, rand.New(rand.NewPCG(3, 9)), extractorOf(f, p), 3)
	for _, r := range rows {
		f.Add(r.payload)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s := p.New()
		if s.Add(b, Order{}) == nil {
			reloaded(t, p, s)
			fieldByField(p, s)
		}
	})
}

func TestOrderBytes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 11))
	random := func() Order {
		return Order{Time: int64(r.Uint64()) >> r.IntN(64), Tie: Tie{Read: uint16(r.IntN(3)), Partition: int32(r.IntN(3) - 1), Offset: int64(r.IntN(3) - 1), Child: int32(r.IntN(3) - 1)}}
	}
	for range 2000 {
		a, b := random(), random()
		b.Time = []int64{a.Time, b.Time}[r.IntN(2)]
		x := a.Append(nil)
		if a.Compare(b) != bytes.Compare(x, b.Append(nil)) {
			t.Fatalf("%v and %v compare as %d", a, b, a.Compare(b))
		}
		if c, rest, ok := ReadOrder(append(x, 1)); !ok || c != a || len(rest) != 1 {
			t.Fatalf("%v is read as %v", a, c)
		}
	}
}

func TestAddDoesNotAllocate(t *testing.T) {
	p := planOf(t, made{call: "count"}, made{call: "sum", arg: "i"}, made{call: "sum", arg: "f"}, made{call: "avg", arg: "f"}, made{call: "stddev", arg: "f"}, made{call: "min", arg: "i"}, made{call: "max", arg: "t"}, made{call: "first", arg: "s"}, made{call: "last", arg: "s"},
		made{call: "max", arg: "s"}, made{call: "count_distinct", arg: "s"}, made{call: "approx_count_distinct", arg: "s"}, made{call: "percentile", arg: "f", params: []any{0.5}}, made{call: "collect", arg: "s", params: []any{int64(2)}}, made{call: "top_k", arg: "s", params: []any{int64(2)}})
	x := extractorOf(t, p)
	rows := x.rows(t, `{"i":5,"f":1.5,"t":100,"s":"abc"}`, `{"i":-5,"f":0.25,"t":70,"s":"b"}`, `{"i":1000000,"f":100,"t":90,"s":"bc"}`)
	s := p.New()
	add(t, s, rows...)
	var payload []byte
	n := testing.AllocsPerRun(100, func() {
		for i, r := range rows {
			var err *eval.Error
			if payload, err = x.p.Extract(x.e, 1, payload[:0]); err != nil {
				t.Fatal(err)
			}
			_ = s.Add(r.payload, rows[2-i].at)
		}
		payload = s.Append(payload[:0])
	})
	if n != 0 {
		t.Errorf("%v allocations per row, want 0", n)
	}
}

func BenchmarkAdd(b *testing.B) {
	for name, calls := range map[string][]made{
		"count+sum": {{call: "count"}, {call: "sum", arg: "i"}},
		"sum float": {{call: "sum", arg: "f"}},
		"stddev":    {{call: "stddev", arg: "f"}},
		"first":     {{call: "first", arg: "s"}},
		"approx":    {{call: "approx_count_distinct", arg: "i"}},
	} {
		b.Run(name, func(b *testing.B) {
			p := planOf(b, calls...)
			x := extractorOf(b, p)
			var docs []string
			for i := range 1000 {
				docs = append(docs, fmt.Sprintf(`{"i":%d,"f":%d.%d,"s":"session-%d"}`, i*7919, i, i, i))
			}
			rows := x.rows(b, docs...)
			states := make([]*State, 10_000)
			for i := range states {
				states[i] = p.New()
			}
			r := rand.New(rand.NewPCG(1, 1))
			at := make([]int, 1<<16)
			for i := range at {
				at[i] = r.IntN(len(states))
			}
			b.ReportAllocs()
			b.ResetTimer()
			defer cpu(b)()
			k := 0
			for i := 0; b.Loop(); i++ {
				if k++; k == len(rows) {
					k = 0
				}
				_ = states[at[i&(1<<16-1)]].Add(rows[k].payload, rows[k].at)
			}
		})
	}
}

// cpu reports the time of the processor, which other processes disturb less than the time of day.
func cpu(b *testing.B) func() {
	used := func() int64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return u.Utime.Nano() + u.Stime.Nano()
	}
	start := used()
	return func() { b.ReportMetric(float64(used()-start)/float64(b.N), "cpu-ns/op") }
}

func BenchmarkFields(b *testing.B) {
	p := planOf(b, made{call: "count"}, made{call: "sum", arg: "i"}, made{call: "avg", arg: "f"})
	s := p.New()
	add(b, s, extractorOf(b, p).rows(b, `{"i":5,"f":1.5}`, `{"i":-5,"f":0.25}`)...)
	w := p.NewWriter()
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst, _ = w.AppendFields(dst[:0], s)
	}
}
