package pipeline_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"keystone/configs"
	"keystone/configs/addr"
	"keystone/configs/diag"
	"keystone/dsl"
	"keystone/dsl/ir"
	"keystone/dsl/types"
	"keystone/pipeline"
	"keystone/sinks"
	sinkkafka "keystone/sinks/kafka"
	"keystone/sources"
	sourcekafka "keystone/sources/kafka"
	"keystone/sources/kafka/admin"
	"keystone/sources/kafka/client"
)

// BenchmarkRealGuarantee copies records of 400 bytes from four partitions to four:
//
//	.testenv/with-kafka go test -run xxx -bench RealGuarantee -benchtime 1000000x ./pipeline
func BenchmarkRealGuarantee(b *testing.B) {
	seeds := os.Getenv("KEYSTONE_TEST_KAFKA")
	if seeds == "" {
		b.Skip("no real Kafka: run it with .testenv/with-kafka")
	}
	o := client.Options{Brokers: strings.Split(seeds, ",")}
	in := fmt.Sprintf("bench-in-%d", time.Now().UnixNano())
	filled := 0
	for _, c := range []struct {
		guarantee configs.Guarantee
		interval  time.Duration
	}{
		{configs.AtLeastOnce, time.Second},
		{configs.ExactlyOnce, time.Second},
		{configs.ExactlyOnce, 200 * time.Millisecond},
		{configs.ExactlyOnce, 50 * time.Millisecond},
	} {
		b.Run(fmt.Sprintf("%s/%v", c.guarantee, c.interval), func(b *testing.B) {
			benchTopic(b, o, in)
			fill(b, o, in, b.N-filled)
			filled = max(filled, b.N)
			out := fmt.Sprintf("bench-out-%d", time.Now().UnixNano())
			benchTopic(b, o, out)
			w := benchWorker(b, o, in, out, c.guarantee, c.interval)
			b.ResetTimer()
			if err := w.Run(context.Background()); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			if n := w.Stats().Total.Delivered; n != int64(b.N) {
				b.Fatalf("%d of %d records delivered", n, b.N)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

func benchTopic(b *testing.B, o client.Options, topic string) {
	a, err := admin.New(o)
	if err != nil {
		b.Fatal(err)
	}
	defer a.Close()
	if _, err := a.Ensure(context.Background(), admin.StreamSpec{Topic: topic, Partitions: 4, Replication: 1}); err != nil {
		b.Fatal(err)
	}
}

func fill(b *testing.B, o client.Options, topic string, n int) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(o.Brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		b.Fatal(err)
	}
	defer cl.Close()
	pad := strings.Repeat("x", 380)
	for i := range n {
		cl.Produce(context.Background(), &kgo.Record{Topic: topic, Partition: int32(i % 4), Value: fmt.Appendf(nil, `{"seq":%d,"x":"%s"}`, i, pad)}, nil)
	}
	if err := cl.Flush(context.Background()); err != nil {
		b.Fatal(err)
	}
}

func benchWorker(b *testing.B, o client.Options, in, out string, g configs.Guarantee, interval time.Duration) *pipeline.Worker {
	spec := dsl.RouteSpec{Input: types.AnyType, Tombstones: ir.TombstonesPass, Format: ir.JSON, Decode: ir.DecodeNone, Filter: []diag.Text{{S: "meta.offset >= 0"}}}
	checked, diags := dsl.CheckRoute(spec)
	if err := diags.Err(); err != nil {
		b.Fatal(err)
	}
	program, err := dsl.Compile(checked)
	if err != nil {
		b.Fatal(err)
	}
	r := &configs.Route{Addr: addr.New("route", "r"), OnError: configs.StopRoute, Events: spec, Delivery: configs.Delivery{Guarantee: g, CommitInterval: interval, DrainTimeout: time.Minute}}
	r.From.Addr, r.To.Addr = addr.New("stream", "in"), addr.New("stream", "out")
	source := sourcekafka.Config{Client: o, Topic: in, Group: out, ReadCommitted: true}
	src, err := source.New(sources.Deps{})
	if err != nil {
		b.Fatal(err)
	}
	to := sinkkafka.Config{Client: o, Topic: out, Linger: 2 * time.Millisecond, Origin: true}
	if g == configs.ExactlyOnce {
		to.Transaction, to.Owns = sinkkafka.NewTransaction(sinkkafka.TransactionConfig{Client: o, ID: "keystone.bench." + out, Linger: 2 * time.Millisecond}), true
	}
	sink, err := to.New(sinks.Deps{})
	if err != nil {
		b.Fatal(err)
	}
	return pipeline.New(pipeline.Spec{Route: r, Program: program, Revision: 1, Source: src, Sink: sink, Limit: int64(b.N), Log: slog.New(slog.DiscardHandler)})
}
