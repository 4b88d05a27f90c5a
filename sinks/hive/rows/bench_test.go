package rows

import (
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"keystone/dsl/types"
)

// benchType is what the main job of docs/performance.md writes.
const benchType = "object({user_id = string, ts = timestamp_ms, title_id = string, os = string, pct = float})"

func benchEvents(n int) [][]byte {
	r := rand.New(rand.NewPCG(1, 1))
	events := make([][]byte, n)
	for i := range events {
		pos, dur := r.IntN(5_400_000), 1_800_000+r.IntN(5_400_000)
		events[i] = fmt.Appendf(nil, `{"user_id":"u%d","ts":%d,"title_id":"t%d","os":"%s","pct":%v}`,
			r.IntN(1_000_000), 1_700_000_000_000+int64(i)*3, r.IntN(5000), []string{"ios", "android", "tizen", "webos", "roku"}[r.IntN(5)], float64(pos)/float64(dur)*100)
	}
	return events
}

func BenchmarkAppend(b *testing.B) {
	t, err := types.Parse(benchType)
	if err != nil {
		b.Fatal(err)
	}
	events := benchEvents(100_000)
	for _, c := range []Compression{Zstd, Snappy, None} {
		b.Run(string(c), func(b *testing.B) {
			w := NewWriter(io.Discard, mustSchema(b, t), Options{Compression: c})
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if err := w.Append(events[i%len(events)]); err != nil {
					b.Fatal(err)
				}
				i++
			}
			if _, err := w.Close(); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(w.Written())/float64(i), "bytes/row")
		})
	}
}
