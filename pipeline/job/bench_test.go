package job

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"keystone/configs"
	"keystone/dsl/ir"
	"keystone/dsl/types"
	"keystone/pipeline/record"
	"keystone/pipeline/state"
	"keystone/sources"
)

// replay is a source that gives the same events again with later times, without making them anew: partitions of
// batches whose records point into one piece of memory.
type replay struct {
	memSource
	batches [][]record.Batch // by partition
	at      int
	left    int
}

func (s *replay) Open(_ context.Context, _ []record.Position, l sources.Listener) error {
	var at []record.Position
	for i := range s.batches {
		at = append(at, record.Position{Partition: int32(i)})
	}
	l.Assigned(at)
	return nil
}

func (s *replay) Read(_ context.Context, b *record.Batch) error {
	if s.left <= 0 {
		return io.EOF
	}
	p := s.at % len(s.batches)
	n := s.at / len(s.batches)
	if n == len(s.batches[p]) {
		s.left = 0
		return io.EOF
	}
	s.at++
	src := &s.batches[p][n]
	b.Topic, b.Partition = "in", int32(p)
	b.Records = append(b.Records, src.Records...)
	b.Bytes, b.Next = src.Bytes, src.Next
	s.left -= len(b.Records)
	return nil
}

func (s *replay) Ends() map[int32]int64 { return nil }
func (s *replay) Pause([]int32)         {}
func (s *replay) Resume([]int32)        {}

var playType = types.ObjectOf(
	types.Field{Name: "user_id", Type: types.StringType},
	types.Field{Name: "ts", Type: types.TimestampMsType},
	types.Field{Name: "country", Type: types.StringType},
	types.Field{Name: "device", Type: types.ObjectOf(types.Field{Name: "type", Type: types.StringType}, types.Field{Name: "os", Type: types.StringType})},
	types.Field{Name: "position_ms", Type: types.IntType},
	types.Field{Name: "duration_ms", Type: types.IntType},
)

// plays makes events of about 350 bytes in batches of 1,000, a second of event time for every 2,000.
func plays(total, parts, keys int) [][]record.Batch {
	rng := rand.New(rand.NewPCG(1, 1)) //nolint:gosec // a test
	out := make([][]record.Batch, parts)
	const size = 1000
	pad := strings.Repeat("x", 120)
	for n := 0; n < total; n += size {
		p := n / size % parts
		var b record.Batch
		for i := range size {
			b.Buf = fmt.Appendf(b.Buf, `{"user_id":"user-%06d","ts":%d,"country":"BR","device":{"type":"tv","os":"tizen 7.0"},"title_id":"title-%05d","position_ms":%d,"duration_ms":5400000,"session":"0b5c7f1e-8f5e-4b0a-9a59-%012d","note":"%s"}`, rng.IntN(keys), 1_700_000_000_000+int64(n+i)/2, rng.IntN(5000), rng.IntN(5_000_000), n+i, pad)
			b.Records = append(b.Records, record.Record{Offset: int64(n/parts + i), Timestamp: 1_700_000_000_000 + int64(n+i)/2})
			b.Bytes = len(b.Buf)
		}
		from := 0
		for i := range b.Records { // events end with their brace
			end := from + strings.Index(string(b.Buf[from:min(len(b.Buf), from+600)]), pad) + len(pad) + 2
			b.Records[i].Value = b.Buf[from:end:end]
			from = end
		}
		b.Next = record.Position{Partition: int32(p), Offset: int64(n/parts + size)}
		out[p] = append(out[p], b)
	}
	return out
}

func BenchmarkWindowedCount(b *testing.B) {
	f := newFlow(b)
	f.job.KeyGroups = 128
	f.add("read", "a", &configs.Operator{Output: playType, Read: &configs.JobRead{Input: playType, EventTime: f.expr("ts", playType), Watermark: 5 * time.Second, Idle: time.Minute}})
	f.add("filter", "f", &configs.Operator{Where: []*ir.Expr{f.expr("user_id != nil", playType)}, Output: playType}, "read.a")
	f.windowBy("w", &configs.JobWindow{Kind: configs.WindowTumbling, Size: time.Minute}, "filter.f", "user_id", "n=count()", "s=sum(position_ms)")
	f.write("out", "window.w", "")
	const events = 2_000_000 // of 350 bytes
	data := plays(events, 4, 10_000)
	b.ReportAllocs()
	for b.Loop() {
		src := &replay{batches: data, left: events}
		store, err := state.Open(b.TempDir(), state.Options{Job: "bench", Generation: 1})
		if err != nil {
			b.Fatal(err)
		}
		out := &counter{}
		j, err := New(Spec{Job: f.job, Sources: map[string]sources.Source{"read.a": src}, Store: store, Commit: &discard{keeper: *newKeeper(store, &ledger{}), n: out}, Parallelism: 2, Interval: time.Second})
		if err != nil {
			b.Fatal(err)
		}
		if err := errors.Join(j.Run(b.Context()), store.Close()); err != nil {
			b.Fatal(err)
		}
		if out.n == 0 {
			b.Fatal("no rows")
		}
		b.ReportMetric(float64(j.Stats().LongPause.Microseconds())/1000, "ms/longest-pause")
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/events, "ns/event")
}
