package rows

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"testing"
)

const manyColumns = `object({id = int, user = string, country = optional(string), device = optional(object({os = string, version = optional(string)})),
	amount = optional(decimal(12, 2)), at = timestamp_ms, day = date, score = float, tags = list(string), live = bool})`

func manyEvent(dst []byte, i int) []byte {
	return fmt.Appendf(dst, `{"id":%d,"user":"u%07d","country":"c%d","device":{"os":"ios","version":"%d.%d"},"amount":%d.5,"at":%d,"day":"2024-01-%02d","score":%d.25,"tags":["hd","t%d"],"live":%v}`,
		i, i*7919%1_000_000, i%40, i%17, i%9, i%1000, 1_700_000_000_000+int64(i), 1+i%28, i%101, i%12, i%3 == 0)
}

func heap() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// TestHeldIsTrue compares what writers say that they hold with what they do, since a bound
// over all open files adds it up.
func TestHeldIsTrue(t *testing.T) {
	s := mustSchema(t, parse(t, manyColumns))
	for _, c := range []struct{ writers, events, flushes int }{{2000, 0, 0}, {2000, 3, 0}, {1000, 100, 0}, {40, 5000, 0}, {200, 10, 20}, {4, 60_000, 0}} {
		pool, parser := NewPool(), s.NewParser()
		opts := Options{Pool: pool, Parser: parser, PageBytes: 64 << 10}
		before := heap()
		writers := make([]*Writer, c.writers)
		for i := range writers {
			writers[i] = NewWriter(io.Discard, s, opts)
		}
		var event []byte
		for n := range c.events {
			for i, w := range writers {
				event = manyEvent(event[:0], n*c.writers+i)
				if err := w.Append(event); err != nil {
					t.Fatal(err)
				}
			}
		}
		for range c.flushes {
			for _, w := range writers {
				if err := w.Append(event); err != nil {
					t.Fatal(err)
				}
				if err := w.Flush(); err != nil {
					t.Fatal(err)
				}
			}
		}
		said := pool.kept
		for _, w := range writers {
			said += w.OpenBytes()
		}
		held := heap() - before
		t.Logf("%d writers, %d events each, %d flushes: %d bytes a writer, said %d", c.writers, c.events, c.flushes, held/c.writers, said/c.writers)
		if held > said*5/4+1<<20 || said > held*3/2+1<<20 {
			t.Errorf("%d writers with %d events each hold %d bytes and say %d", c.writers, c.events, held, said)
		}
		runtime.KeepAlive(writers)
	}
}

// BenchmarkOpenFiles has 5,000 files open under a bound of 384 MiB, above which the fullest ones are flushed, as a sink
// does it, and prints the memory of the process. Events go to the files in turn, the worst order for memory.
func BenchmarkOpenFiles(b *testing.B) {
	const files, bound = 5000, 384 << 20
	s := mustSchema(b, parse(b, manyColumns))
	opts := Options{Pool: NewPool(), Parser: s.NewParser()}
	writers, held := make([]*Writer, files), make([]int, files)
	open, flushes, at := 0, 0, 0
	for i := range writers {
		writers[i] = NewWriter(io.Discard, s, opts)
		held[i] = writers[i].OpenBytes()
		open += held[i]
	}
	var event []byte
	n, peak := 0, 0
	for b.Loop() {
		i := n % files
		event = manyEvent(event[:0], n)
		if err := writers[i].Append(event); err != nil {
			b.Fatal(err)
		}
		open += writers[i].OpenBytes() - held[i]
		held[i] = writers[i].OpenBytes()
		peak = max(peak, open)
		for ; open > bound; flushes++ {
			if err := writers[at].Flush(); err != nil {
				b.Fatal(err)
			}
			open += writers[at].OpenBytes() - held[at]
			held[at] = writers[at].OpenBytes()
			at = (at + 1) % files
		}
		n++
	}
	b.ReportMetric(float64(peak)/(1<<20), "MiB-open")
	b.ReportMetric(rss(b)/1024, "MiB-RSS")
	b.ReportMetric(float64(flushes), "flushes")
	b.ReportMetric(float64(n)/files, "events/file")
	for _, w := range writers {
		if _, err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// rss gives the most memory that the process has had, in KiB.
func rss(b *testing.B) float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Skip("no /proc here: ", err)
	}
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	if m == nil {
		b.Fatalf("no VmHWM in %s", status)
	}
	n, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		b.Fatal(err)
	}
	return n
}
