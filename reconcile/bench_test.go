package reconcile

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"keystone/configs/addr"
)

// manyRoutes is a configuration of n routes over a hundred streams and sinks.
func manyRoutes(n int) blocks {
	b := blocks{res: map[addr.Addr]block{must("cluster.main"): {"", map[string]string{"brokers": `["127.0.0.1:9092"]`}}}}
	for i := range 100 {
		b.res[addr.New(typeStream, fmt.Sprintf("s%d", i))] = block{"", map[string]string{"cluster": "cluster.main", "partitions": "8", "on_destroy": `"keep"`, "retention": `"24h"`}}
		b.res[addr.New(typeSink, fmt.Sprintf("k%d", i))] = block{"file", map[string]string{"path": strconv.Quote(fmt.Sprint(i)), "batch_bytes": "1048576"}}
	}
	for i := range n {
		o := map[string]string{"from": fmt.Sprintf("stream.s%d", i%100), "to": fmt.Sprintf("sink.k%d", i%100), "filter": strconv.Quote(fmt.Sprintf("country == 'BR' && position_ms > %d", i)),
			"enabled": "true", "start": `"earliest"`, "on_error": `"dead_letter"`}
		for _, name := range []string{"delivery.guarantee", "delivery.redeploy", "delivery.drain_timeout", "delivery.commit_interval", "limits.max_in_flight_bytes", "limits.max_record_bytes",
			"batch.bytes", "batch.records", "batch.linger", "retry.initial", "retry.max", "retry.max_elapsed", "retry.max_attempts", "order", "format", "decode", "parallelism"} {
			o[name] = `"default"`
		}
		b.res[addr.New(typeRoute, fmt.Sprintf("r%d", i))] = block{"", o}
	}
	return b
}

// BenchmarkDiff compares 10,000 routes with a world in which every route has
// to be looked at: one sink has changed, every tenth filter has changed, every hundredth worker failed.
func BenchmarkDiff(b *testing.B) {
	before := manyRoutes(10_000)
	obs := AsApplied(before.config(), time.Unix(1, 0))
	after := before.clone()
	after.set(must("sink.k7"), "batch_bytes", "5")
	for i := range 10_000 {
		a := addr.New(typeRoute, fmt.Sprintf("r%d", i))
		if i%10 == 0 {
			after.set(a, "filter", `"true"`)
		}
		if i%100 == 0 {
			st := obs.States[a]
			st.Health, st.Error = Failed, "connection refused"
			obs.States[a] = st
		}
	}
	g := goalOf(after)
	want := 1 + 100 + 1000
	b.ReportAllocs()
	for b.Loop() {
		if p := Diff(g, obs, time.Unix(1, 0)); len(p.Changes) != want {
			b.Fatalf("%d changes, want %d", len(p.Changes), want)
		}
	}
}

// BenchmarkDiffFromNothing plans 10,000 routes that are not there yet.
func BenchmarkDiffFromNothing(b *testing.B) {
	g := goalOf(manyRoutes(10_000))
	for b.Loop() {
		if p := Diff(g, Observed{}, time.Unix(1, 0)); len(p.Changes) != 10_201 {
			b.Fatalf("%d changes", len(p.Changes))
		}
	}
}
