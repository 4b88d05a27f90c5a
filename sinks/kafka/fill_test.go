package kafka

import (
	"fmt"
	"testing"

	"keystone/pipeline/record"
)

// origins gives a batch as a route hands it over, and a delivery of a sink
// with and without origins.
func origins(with bool) (*delivery, *record.Batch) {
	b := &record.Batch{Topic: "in", Partition: 3, Next: record.Position{Partition: 3, Identity: "xJ2mQ1c0R8q3v5Zr9yT1Ag"}}
	for i := range 1000 {
		b.Records = append(b.Records, record.Record{Offset: 1_234_567_890 + int64(i), Timestamp: 1_700_000_000_000, Value: fmt.Appendf(nil, "%0200d", i),
			Headers: []record.Header{{Key: "trace", Value: []byte("0123456789abcdef")}}})
	}
	return newDelivery(&Sink{cfg: Config{Topic: "out", Origin: with}, route: "route.plays"}), b
}

// A batch costs no memory once the first has been through, with origins too.
func TestFillAllocates(t *testing.T) {
	for _, with := range []bool{false, true} {
		d, b := origins(with)
		if n := testing.AllocsPerRun(20, func() { d.reset(); d.fill(b) }); n != 0 {
			t.Errorf("origins %v: %v allocations for a batch of %d", with, n, len(b.Records))
		}
	}
}

// An origin that came along is of an earlier hop and is not kept.
func TestFillDropsOrigin(t *testing.T) {
	for _, with := range []bool{false, true} {
		d, b := origins(with)
		b.Records[0].Headers = []record.Header{{Key: OriginHeader, Value: []byte("t 0 0 route.earlier")}, {Key: "h"}}
		d.fill(b)
		hs := d.slab[0].Headers
		if hs[0].Key != "h" || len(hs) == 2 != with || with && string(hs[1].Value) != "xJ2mQ1c0R8q3v5Zr9yT1Ag 3 1234567890 route.plays" {
			t.Errorf("origins %v: %v", with, hs)
		}
	}
}

func BenchmarkFill(b *testing.B) {
	for _, with := range []bool{false, true} {
		d, in := origins(with)
		b.Run(fmt.Sprintf("origin=%v", with), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				d.reset()
				d.fill(in)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(in.Records)), "ns/rec")
		})
	}
}
