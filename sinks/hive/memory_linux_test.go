package hive

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"testing"

	"keystone/configs/spec"
	"keystone/dsl/types"
	"keystone/pipeline/record"
	"keystone/sinks"
)

// BenchmarkOpenPartitions writes into 5,000 partitions at once, with the defaults, and prints the most memory that the process
// has had: pages, what is encoded, Go's garbage, and the commit of all files at the end. Events go to the partitions in
// turn, the worst order for memory. More than 1 GiB is a failure.
func BenchmarkOpenPartitions(b *testing.B) {
	const days, batch, most = 5000, 1000, 1 << 30
	typ, err := types.Parse(`object({id = int, user = string, country = optional(string), device = optional(object({os = string, version = optional(string)})),
		amount = optional(decimal(12, 2)), at = timestamp_ms, day = date, score = float, tags = list(string), live = bool})`)
	if err != nil {
		b.Fatal(err)
	}
	var c Config
	body := spec.Body{Attrs: map[string]spec.Attr{"location": {Value: b.TempDir()}, "partition_by": {Value: []spec.Field{{Name: "dt"}}}}}
	if ds := append(spec.Decode(c.Options(), body), c.Check()...); len(ds) > 0 {
		b.Fatal(ds)
	}
	made, err := c.New(sinks.Deps{Route: "route.r", ID: "keystone.default.default.route.r", Type: typ})
	if err != nil {
		b.Fatal(err)
	}
	s := made.(*Sink)
	if err := s.Open(b.Context()); err != nil {
		b.Fatal(err)
	}
	if _, err := s.Begin(b.Context(), position(0, 0)); err != nil {
		b.Fatal(err)
	}
	var names [days][][]byte
	for i := range names {
		names[i] = [][]byte{fmt.Appendf(nil, "d%d", i)}
	}
	in := &record.Batch{Partition: 0, Records: make([]record.Record, batch)}
	values := make([][]byte, batch)
	offset, peak := int64(0), int64(0)
	for b.Loop() {
		n := int(offset % batch)
		i := int(offset)
		values[n] = fmt.Appendf(values[n][:0], `{"id":%d,"user":"u%07d","country":"c%d","device":{"os":"ios","version":"%d.%d"},"amount":%d.5,"at":%d,"day":"2024-01-%02d","score":%d.25,"tags":["hd","t%d"],"live":%v}`,
			i, i*7919%1_000_000, i%40, i%17, i%9, i%1000, 1_700_000_000_000+int64(i), 1+i%28, i%101, i%12, i%3 == 0)
		in.Records[n] = record.Record{Offset: offset, Value: values[n], Derived: names[offset%days], Source: int32(n)}
		if offset++; offset%batch == 0 {
			if err := put(b.Context(), s, in); err != nil {
				b.Fatal(err)
			}
			peak = max(peak, s.held.Load())
		}
	}
	b.ReportMetric(float64(peak)/(1<<20), "MiB-counted")
	b.ReportMetric(float64(residentMost(b))/(1<<20), "MiB-open")
	b.ReportMetric(float64(offset)/days, "events/partition")
	s.Cut([]record.Position{position(0, offset-offset%batch)})
	if err := s.Settle(b.Context(), []int32{0}); err != nil {
		b.Fatal(err)
	}
	if _, err := s.Durable(); err != nil {
		b.Fatal(err)
	}
	if err := s.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
	rss := residentMost(b)
	b.ReportMetric(float64(rss)/(1<<20), "MiB-RSS")
	if rss > most {
		b.Errorf("the process took %d MiB", rss>>20)
	}
}

// residentMost gives the most memory that the process has had.
func residentMost(b *testing.B) int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Skip("no /proc here: ", err)
	}
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	if m == nil {
		b.Fatalf("no VmHWM in %s", status)
	}
	n, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return n << 10
}
