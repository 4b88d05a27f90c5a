package kafka_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"keystone/pipeline/record"
	"keystone/sinks"
	sink "keystone/sinks/kafka"
	"keystone/sources/kafka/client"
)

// cpu is the processor time of this process.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// events makes a batch of records of about 300 bytes that compress as events do.
func events(part int32, n int) *record.Batch {
	b := &record.Batch{Topic: "in", Partition: part, Next: record.Position{Partition: part, Identity: "xJ2mQ1c0R8q3v5Zr9yT1Ag"}}
	for i := range n {
		v := fmt.Appendf(nil, `{"user_id":"u%d","ts":%d,"country":"BR","device":{"type":"tv","os":"webos"},"position_ms":%d,"duration_ms":3600000,"pad":%q}`, i*7919%100_000, 1_700_000_000_000+i, i*31, strings.Repeat("x", 150))
		b.Records = append(b.Records, record.Record{Offset: 1_000_000 + int64(i), Timestamp: 1_700_000_000_000 + int64(i), Value: v})
		b.Bytes += len(v)
	}
	return b
}

// blast writes the batch again and again, a few at a time, and gives the
// processor and the wall time it took.
func blast(b *testing.B, s sinks.Sink, batch *record.Batch, times int) (spent, took time.Duration) {
	began, before := time.Now(), cpu()
	free := make(chan struct{}, 16)
	var wg sync.WaitGroup
	for range times {
		free <- struct{}{}
		wg.Add(1)
		s.Write(b.Context(), batch, func(err error) {
			if err != nil {
				b.Error(err)
			}
			<-free
			wg.Done()
		})
	}
	wg.Wait()
	return cpu() - before, time.Since(began)
}

// BenchmarkRealOrigin writes with and without origins in turns, and gives
// the ratios.
func BenchmarkRealOrigin(b *testing.B) {
	o := realKafka(b)
	const n, times = 1000, 200
	for _, compression := range []string{"none", "zstd"} {
		b.Run(compression, func(b *testing.B) {
			var spent, took [2]time.Duration
			var dst [2]sinks.Sink
			for i := range dst {
				name, _ := topic(b, o, 1, nil)
				dst[i] = open(b, sink.Config{Client: o, Topic: name, Compression: compression, Origin: i == 1})
			}
			batch := events(0, n)
			for b.Loop() {
				for i := range dst {
					c, w := blast(b, dst[i], batch, times)
					spent[i], took[i] = spent[i]+c, took[i]+w
				}
			}
			b.ReportMetric(float64(spent[1])/float64(spent[0]), "cpu-ratio")
			b.ReportMetric(float64(took[1])/float64(took[0]), "time-ratio")
			b.ReportMetric(float64(spent[0].Nanoseconds())/float64(b.N)/n/times, "plain-cpu-ns/rec")
			b.ReportMetric(float64(spent[1].Nanoseconds())/float64(b.N)/n/times, "origin-cpu-ns/rec")
		})
	}
}

// BenchmarkRealLinger writes at a low rate, ten records every millisecond,
// and as fast as it can, with several lingers.
func BenchmarkRealLinger(b *testing.B) {
	o := realKafka(b)
	for _, linger := range []time.Duration{0, 2 * time.Millisecond, 5 * time.Millisecond} {
		name, _ := topic(b, o, 1, nil)
		dst := open(b, sink.Config{Client: o, Pool: client.NewPool(), Topic: name, Compression: "zstd", Linger: linger, Origin: true})
		b.Run("slow/"+linger.String(), func(b *testing.B) {
			const n = 2000
			batch := events(0, 10)
			var mu sync.Mutex
			var waits []time.Duration
			before := cpu()
			for b.Loop() {
				tick := time.NewTicker(time.Millisecond)
				var wg sync.WaitGroup
				for range n {
					<-tick.C
					at := time.Now()
					wg.Add(1)
					dst.Write(b.Context(), batch, func(err error) {
						if err != nil {
							b.Error(err)
						}
						mu.Lock()
						waits = append(waits, time.Since(at))
						mu.Unlock()
						wg.Done()
					})
				}
				wg.Wait()
				tick.Stop()
			}
			slices.Sort(waits)
			b.ReportMetric(float64((cpu()-before).Nanoseconds())/float64(len(waits))/10, "cpu-ns/rec")
			b.ReportMetric(float64(waits[len(waits)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(waits[len(waits)*99/100].Microseconds()), "p99-µs")
		})
		b.Run("fast/"+linger.String(), func(b *testing.B) {
			batch := events(0, 1000)
			var spent, took time.Duration
			for b.Loop() {
				c, w := blast(b, dst, batch, 200)
				spent, took = spent+c, took+w
			}
			b.ReportMetric(float64(spent.Nanoseconds())/float64(b.N)/200_000, "cpu-ns/rec")
			b.ReportMetric(200_000*float64(b.N)/took.Seconds(), "rec/s")
		})
	}
}
