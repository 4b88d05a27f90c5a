package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const kafkaConfig = `
cluster "main" {
  brokers = [%s]
}

stream "bench_in" {
  managed     = false
  topic       = %q
  compression = "none"
}

stream "bench_out" {
  managed     = false
  topic       = %q
  compression = "none"
}

source "file" "in" {
  path = "in.ndjson"
}

route "fill" {
  from = source.in
  key  = "user_id"
  to   = stream.bench_in
}

route "plays" {
  from   = stream.bench_in
  filter = "country in ['BR','US'] && device.type == 'tv' && position_ms > 1000"
  project = {
    user_id  = "user_id"
    ts       = "ts"
    title_id = "title_id"
    os       = "device.os"
    pct      = "position_ms / duration_ms * 100"
  }
  to = stream.bench_out
}

route "copy" {
  from   = stream.bench_in
  decode = "none"
  to     = stream.bench_out
}
`

// kafkaSuite is the main job from Kafka to Kafka: offsets committed, acks of all replicas.
func (b *bench) kafkaSuite(ctx context.Context) ([]Result, []Ratio, error) {
	if b.brokers == "" {
		fmt.Println("  no broker: give -brokers, or run `.testenv/with-kafka make bench`")
		return nil, nil, nil
	}
	in, err := b.input(ctx)
	if err != nil {
		return nil, nil, err
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(b.brokers, ",")...))
	if err != nil {
		return nil, nil, err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	stamp := strconv.FormatInt(time.Now().UnixNano(), 36)
	topicIn, topicOut := "bench-in-"+stamp, "bench-out-"+stamp
	if _, err := adm.CreateTopics(ctx, 4, -1, nil, topicIn, topicOut); err != nil {
		return nil, nil, err
	}
	defer adm.DeleteTopics(context.WithoutCancel(ctx), topicIn, topicOut) //nolint:errcheck // the cluster is a test's

	seeds := make([]string, 0, 3)
	for s := range strings.SplitSeq(b.brokers, ",") {
		seeds = append(seeds, strconv.Quote(s))
	}
	dir := filepath.Join(b.dir, "kafka")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, err
	}
	if err := os.Symlink(in, filepath.Join(dir, "in.ndjson")); err != nil {
		return nil, nil, err
	}
	config := fmt.Sprintf(kafkaConfig, strings.Join(seeds, ", "), topicIn, topicOut)
	if err := os.WriteFile(filepath.Join(dir, "main.ks.hcl"), []byte(config), 0o644); err != nil {
		return nil, nil, err
	}
	if _, _, err := measure(exec.CommandContext(ctx, b.keystone, "run", "route.fill", dir)); err != nil {
		return nil, nil, err
	}

	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	n := strconv.Itoa(b.events)
	baseline := func(name string) contender {
		return contender{name: name, cmd: func(ctx context.Context) *exec.Cmd {
			return env(exec.CommandContext(ctx, self, b.brokers, topicIn, topicOut, n), contenderEnv+"="+name)
		}}
	}
	route := func(name, bin, addr string) contender {
		return contender{name: name, cmd: func(ctx context.Context) *exec.Cmd {
			return exec.CommandContext(ctx, bin, "run", addr, "-limit", n, dir) // a consumer group of its own, offsets committed
		}}
	}
	contenders := []contender{baseline(kafkaRead), baseline(kafkaCopy), route("keystone route", b.keystone, "route.plays"), route("keystone copy", b.keystone, "route.copy")}
	if b.previous != "" {
		contenders = append(contenders, route("keystone route before", b.previous, "route.plays"))
	}
	results, err := alternate(ctx, "kafka", b.rounds, b.events, contenders)
	if err != nil {
		return nil, nil, err
	}
	ks := find(results, "keystone route")
	return results, []Ratio{
		{What: "throughput: keystone route ÷ bare consume loop", Value: ks.Rate / find(results, kafkaRead).Rate, Goal: 0.5},
		{What: "throughput: keystone route ÷ bare consume-and-produce loop", Value: ks.Rate / find(results, kafkaCopy).Rate, Goal: 1},
	}, nil
}

// kafkaContender is the plain client loop: consume in a group with offsets
// committed at the end, and produce a copy of every record where asked.
func kafkaContender(name string, args []string) error {
	n, err := strconv.Atoi(args[3])
	if err != nil {
		return err
	}
	ctx := context.Background()
	cl, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(args[0], ",")...), kgo.ConsumeTopics(args[1]), kgo.DefaultProduceTopic(args[2]),
		kgo.ConsumerGroup("bench-"+strconv.FormatInt(time.Now().UnixNano(), 36)), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.MaxBufferedRecords(1_000_000), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		return err
	}
	defer cl.Close()
	for got := 0; got < n; {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return err
		}
		got += fetches.NumRecords()
		if name == kafkaCopy {
			fetches.EachRecord(func(r *kgo.Record) {
				cl.Produce(ctx, &kgo.Record{Key: r.Key, Value: r.Value}, nil)
			})
		}
	}
	if err := cl.Flush(ctx); err != nil {
		return err
	}
	return cl.CommitUncommittedOffsets(ctx)
}
