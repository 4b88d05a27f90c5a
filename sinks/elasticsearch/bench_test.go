package elasticsearch

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkEncode is what a record costs before it is sent.
func BenchmarkEncode(b *testing.B) {
	var rows []row
	for n := range 1000 {
		rows = append(rows, row{value: fmt.Sprintf(`{"event_id":%d,"payload":%q}`, n, strings.Repeat("x", 370))})
	}
	for _, action := range []Action{Index, Create} {
		b.Run(string(action), func(b *testing.B) {
			c := config(b, "plays", "http://127.0.0.1:9200")
			c.Action = action
			s := &Sink{cfg: *c, deps: deps(), cols: c.columns()}
			d := &delivery{}
			in := batch(0, 0, rows...)
			b.SetBytes(int64(in.Bytes))
			b.ReportAllocs()
			for b.Loop() {
				d.reset()
				d.b = in
				if err := d.encode(s); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(rows)), "ns/record")
		})
	}
}

// BenchmarkRealWrite is what a record costs the sink's process from Write to done.
func BenchmarkRealWrite(b *testing.B) {
	l := shared(b)
	s := opened(b, config(b, l.index(), l.urls...), deps())
	var rows []row
	for n := range 2000 {
		rows = append(rows, row{value: fmt.Sprintf(`{"p":0,"n":%d,"payload":%q}`, n, strings.Repeat("x", 370))})
	}
	in := batch(0, 0, rows...)
	b.ReportAllocs()
	for b.Loop() {
		if err := write(s, in); err != nil {
			b.Fatal(err)
		}
	}
}
