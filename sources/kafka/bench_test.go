package kafka_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"keystone/pipeline/record"
	"keystone/sinks"
	sinkkafka "keystone/sinks/kafka"
	"keystone/sources"
	"keystone/sources/kafka"
	"keystone/sources/kafka/client"
)

// BenchmarkRealKafka compares the source and the sink with the bare client
// library doing the same, in one run, in CPU time of this process per record.
// KEYSTONE_BENCH_RECORDS says how many records; 400,000 unless said.
func BenchmarkRealKafka(b *testing.B) {
	o := realKafka(b)
	n := 400_000
	if s := os.Getenv("KEYSTONE_BENCH_RECORDS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			b.Fatal(err)
		}
	}
	for _, compression := range []string{"none", "lz4"} {
		in, _ := topic(b, o, 4, nil)
		fill(b, o, in, compression, n)
		for _, bench := range []struct {
			name string
			run  func(b *testing.B, o client.Options, in, compression string, n int)
		}{
			{"consume/bare", bareConsume}, {"consume/keystone", ownConsume},
			{"copy/bare", bareCopy}, {"copy/keystone", ownCopy},
		} {
			b.Run(bench.name+"/"+compression, func(b *testing.B) {
				var spent, alloc float64
				for b.Loop() {
					c, a := cpu(), mallocs()
					bench.run(b, o, in, compression, n)
					spent, alloc = spent+cpu()-c, alloc+mallocs()-a
				}
				b.ReportMetric(spent*1e6/float64(n)/float64(b.N), "cpu-µs/rec")
				b.ReportMetric(alloc/float64(n)/float64(b.N), "allocs/rec")
			})
		}
	}
}

func cpu() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}

func fill(b testing.TB, o client.Options, topic, compression string, n int) {
	s := sinkOf(b, o, topic, compression)
	defer s.Close(context.Background())
	value := append([]byte(`{"event_id":"`), bytes.Repeat([]byte("0123456789abcdef"), 24)...)
	value = append(value, `"}`...)
	var wg sync.WaitGroup
	for at := 0; at < n; at += 1000 {
		batch := &record.Batch{Partition: int32(at / 1000 % 4)}
		for i := range 1000 {
			batch.Records = append(batch.Records, record.Record{Timestamp: 1700000000000 + int64(i), Value: fmt.Appendf(nil, "%s%d", value, i)})
			batch.Bytes += len(value)
		}
		wg.Add(1)
		s.Write(context.Background(), batch, func(err error) {
			if err != nil {
				b.Error(err)
			}
			wg.Done()
		})
	}
	wg.Wait()
}

func sinkOf(b testing.TB, o client.Options, topic, compression string) sinks.Sink {
	s, err := (&sinkkafka.Config{Client: o, Topic: topic, Compression: compression, Linger: 5 * time.Millisecond}).New(sinks.Deps{})
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Open(within(b)); err != nil {
		b.Fatal(err)
	}
	return s
}

func bareClient(b testing.TB, o client.Options, extra ...kgo.Opt) *kgo.Client {
	opts, err := o.Kgo(&client.Health{})
	if err != nil {
		b.Fatal(err)
	}
	cl, err := kgo.NewClient(append(opts, extra...)...)
	if err != nil {
		b.Fatal(err)
	}
	return cl
}

func bareConsume(b *testing.B, o client.Options, in, _ string, n int) {
	cl := bareClient(b, o, kgo.ConsumerGroup(fmt.Sprint("bare-", time.Now().UnixNano())), kgo.ConsumeTopics(in), kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxBytes(16<<20), kgo.FetchMaxPartitionBytes(4<<20))
	defer cl.Close()
	bytes := 0
	for seen := 0; seen < n; {
		cl.PollFetches(context.Background()).EachRecord(func(r *kgo.Record) { seen++; bytes += len(r.Value) })
	}
}

func bareCopy(b *testing.B, o client.Options, in, compression string, n int) {
	out, _ := topic(b, o, 4, nil)
	codec := kgo.NoCompression()
	if compression == "lz4" {
		codec = kgo.Lz4Compression()
	}
	cl := bareClient(b, o, kgo.ConsumerGroup(fmt.Sprint("bare-", time.Now().UnixNano())), kgo.ConsumeTopics(in), kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxBytes(16<<20), kgo.FetchMaxPartitionBytes(4<<20),
		kgo.ProducerBatchCompression(codec), kgo.ProducerLinger(5*time.Millisecond), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer cl.Close()
	for seen := 0; seen < n; {
		cl.PollFetches(context.Background()).EachRecord(func(r *kgo.Record) {
			seen++
			cl.Produce(context.Background(), &kgo.Record{Topic: out, Partition: r.Partition, Key: r.Key, Value: r.Value, Timestamp: r.Timestamp}, func(_ *kgo.Record, err error) {
				if err != nil {
					b.Error(err)
				}
			})
		})
	}
	if err := cl.Flush(context.Background()); err != nil {
		b.Error(err)
	}
}

// quiet hears and says nothing.
type quiet struct{}

func (quiet) Assigned([]record.Position)       {}
func (quiet) Revoked(context.Context, []int32) {}
func (quiet) Lost([]int32)                     {}
func (quiet) DataLoss(_ int32, from, to int64) {}

func sourceOf(b testing.TB, o client.Options, in string) sources.Source {
	s, err := (&kafka.Config{Client: o, Topic: in, Group: fmt.Sprint("own-", time.Now().UnixNano())}).New(sources.Deps{})
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Open(within(b), nil, quiet{}); err != nil {
		b.Fatal(err)
	}
	return s
}

func ownConsume(b *testing.B, o client.Options, in, _ string, n int) {
	s := sourceOf(b, o, in)
	defer s.Close(context.Background())
	batch := &record.Batch{}
	bytes := 0
	for seen := 0; seen < n; {
		batch.Reset()
		if err := s.Read(context.Background(), batch); err != nil {
			b.Fatal(err)
		}
		for i := range batch.Records {
			bytes += len(batch.Records[i].Value)
		}
		seen += len(batch.Records)
	}
}

// ownCopy also commits, every 100 ms and at the end.
func ownCopy(b *testing.B, o client.Options, in, compression string, n int) {
	out, _ := topic(b, o, 4, nil)
	src, dst := sourceOf(b, o, in), sinkOf(b, o, out, compression)
	defer src.Close(context.Background())
	defer dst.Close(context.Background())
	free := make(chan *record.Batch, 64)
	var flying sync.WaitGroup
	var failed atomic.Bool
	done := map[int32]record.Position{}
	last := time.Now()
	for seen := 0; seen < n; {
		var batch *record.Batch
		select {
		case batch = <-free:
			batch.Reset()
		default:
			batch = &record.Batch{}
		}
		if err := src.Read(context.Background(), batch); err != nil {
			b.Fatal(err)
		}
		seen += len(batch.Records)
		done[batch.Partition] = batch.Next
		flying.Add(1)
		dst.Write(context.Background(), batch, func(err error) {
			if err != nil {
				failed.Store(true)
			}
			select {
			case free <- batch:
			default:
			}
			flying.Done()
		})
		if time.Since(last) > 100*time.Millisecond || seen >= n {
			flying.Wait()
			var at []record.Position
			for _, p := range done {
				at = append(at, p)
			}
			if err := src.Commit(context.Background(), at); err != nil {
				b.Fatal(err)
			}
			last = time.Now()
		}
	}
	if failed.Load() {
		b.Error("a write failed")
	}
}

func mallocs() float64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.Mallocs)
}
