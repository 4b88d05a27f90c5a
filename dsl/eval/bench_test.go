package eval_test

import (
	stdjson "encoding/json"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"keystone/dsl/eval"
	"keystone/pipeline/record"

	exprvm "github.com/expr-lang/expr"
)

// playback makes n events of about 415 bytes, of which the filter of
// mainRoute passes a fifth.
func playback(n int) *record.Batch {
	r := rand.New(rand.NewPCG(1, 2))
	b := &record.Batch{Topic: "playback"}
	pick := func(s ...string) string { return s[r.IntN(len(s))] }
	for i := range n {
		position := r.IntN(7200000)
		country := pick("BR", "US", "BR", "US", "DE", "FR", "IN")
		device := pick("tv", "tv", "phone", "web", "tablet")
		if i%5 == 0 {
			country, device, position = pick("BR", "US"), "tv", position+1001
		} else if country == "BR" || country == "US" {
			device = pick("phone", "web", "tablet")
		}
		at := len(b.Buf)
		b.Buf = fmt.Appendf(b.Buf, `{"event_id":"%08x-%04x-4%03x-a%03x-%012x","ts":%d,"user_id":"user_%07d","country":"%s","device":{"type":"%s","os":"%s","version":"%d.%d.%d"},"title_id":"title_%05d","action":"%s","position_ms":%d,"duration_ms":%d,"session":"%016x","tags":["%s","%s"],"payload":"%s"}`,
			r.Uint32(), r.IntN(1<<16), r.IntN(1<<12), r.IntN(1<<12), r.Int64N(1<<48), 1767225600000+int64(i), r.IntN(1e7), country, device,
			pick("android", "ios", "tizen", "webos"), r.IntN(20), r.IntN(10), r.IntN(100), r.IntN(1e5), pick("play", "pause", "stop", "seek"), position, 7200000,
			r.Uint64(), pick("kids", "drama", "sport"), pick("hd", "uhd"), "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor"+" incididunt ut labore et dolore magna"[:14+r.IntN(20)])
		b.Records = append(b.Records, record.Record{Value: b.Buf[at:len(b.Buf):len(b.Buf)]})
	}
	return b
}

// runAll evaluates every record, giving the output back now and then.
func runAll(b testing.TB, e *eval.Eval, in, out *record.Batch) (passed int) {
	for i := range in.Records {
		v, err := e.Run(in, i, out)
		if err != nil {
			b.Fatal(err)
		}
		if v == eval.Passed {
			passed++
		}
		if len(out.Buf) > 1<<20 {
			out.Reset()
		}
	}
	out.Reset()
	return passed
}

func TestNoAllocations(t *testing.T) {
	in, out := playback(1000), &record.Batch{}
	e := program(t, mainRoute(t)).NewEval()
	if size := len(in.Buf) / 1000; size < 400 || size > 430 {
		t.Errorf("events have %d bytes, want about 415", size)
	}
	if passed := runAll(t, e, in, out); passed != 200 {
		t.Fatalf("%d of 1000 events passed, want 200", passed)
	}
	if n := testing.AllocsPerRun(20, func() { runAll(t, e, in, out) }); n != 0 {
		t.Errorf("allocations per 1000 events = %v, want 0", n)
	}
}

// cpu measures what the process spends, which other load on the machine
// disturbs less than the time of day.
func cpu(b *testing.B) func() {
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	start := used()
	return func() { b.ReportMetric(float64(used()-start)/float64(b.N), "cpu-ns/op") }
}

const benchEvents = 100_000 // as many distinct events; 2 million go over them 20 times

// BenchmarkMainRoute gives the time of one event.
func BenchmarkMainRoute(b *testing.B) {
	in, out := playback(benchEvents), &record.Batch{}
	e := program(b, mainRoute(b)).NewEval()
	b.SetBytes(int64(len(in.Buf) / benchEvents))
	b.ReportAllocs()
	defer cpu(b)()
	i := 0
	for b.Loop() {
		if _, err := e.Run(in, i, out); err != nil {
			b.Fatal(err)
		}
		if i++; i == benchEvents {
			i = 0
		}
		if len(out.Buf) > 1<<20 {
			out.Reset()
		}
	}
}

// BenchmarkStandardLibrary does the same with encoding/json and expr's virtual machine.
func BenchmarkStandardLibrary(b *testing.B) {
	in := playback(benchEvents)
	filter, err := exprvm.Compile("country in ['BR', 'US'] && device.type == 'tv' && position_ms > 1000")
	if err != nil {
		b.Fatal(err)
	}
	pct, err := exprvm.Compile("position_ms / duration_ms * 100")
	if err != nil {
		b.Fatal(err)
	}
	os, err := exprvm.Compile("device.os ?? 'unknown'")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	defer cpu(b)()
	i := 0
	for b.Loop() {
		var event map[string]any
		if err := stdjson.Unmarshal(in.Records[i].Value, &event); err != nil {
			b.Fatal(err)
		}
		if i++; i == benchEvents {
			i = 0
		}
		if ok, err := exprvm.Run(filter, event); err != nil || ok != true {
			continue
		}
		p, err := exprvm.Run(pct, event)
		if err != nil {
			b.Fatal(err)
		}
		o, err := exprvm.Run(os, event)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := stdjson.Marshal(map[string]any{"user_id": event["user_id"], "ts": event["ts"], "country": event["country"], "os": o, "pct": p}); err != nil {
			b.Fatal(err)
		}
	}
}
