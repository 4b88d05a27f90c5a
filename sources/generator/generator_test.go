package generator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"keystone/pipeline/record"
	"keystone/sources"
	"keystone/sources/sourcetest"
)

type listener struct{ assigned []record.Position }

func (l *listener) Assigned(p []record.Position)     { l.assigned = append(l.assigned, p...) }
func (l *listener) Revoked(context.Context, []int32) {}
func (l *listener) Lost([]int32)                     {}
func (l *listener) DataLoss(int32, int64, int64)     {}

func open(t testing.TB, c Config, from ...record.Position) *source {
	t.Helper()
	if ds := c.Check(); ds.HasErrors() {
		t.Fatal(ds.Err())
	}
	src, err := c.New(sources.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	l := &listener{}
	if err := src.Open(t.Context(), from, l); err != nil {
		t.Fatal(err)
	}
	if len(l.assigned) != c.Partitions {
		t.Fatalf("%d partitions were assigned, want %d", len(l.assigned), c.Partitions)
	}
	return src.(*source)
}

// readAll gives the values of each partition until the end, or until limit records.
func readAll(t testing.TB, s *source, want record.Want, limit int) (values map[int32][]string, last map[int32]record.Position) {
	t.Helper()
	values, last = map[int32][]string{}, map[int32]record.Position{}
	b := &record.Batch{Want: want}
	for n := 0; limit == 0 || n < limit; {
		b.Reset()
		err := s.Read(t.Context(), b)
		if errors.Is(err, io.EOF) {
			return values, last
		}
		if err != nil {
			t.Fatal(err)
		}
		total := 0
		for i, r := range b.Records {
			if r.Offset != b.Next.Offset-int64(len(b.Records)-i) {
				t.Fatalf("record %d of a batch up to %d has offset %d", i, b.Next.Offset, r.Offset)
			}
			total += len(r.Key) + len(r.Value)
			values[b.Partition] = append(values[b.Partition], string(r.Value))
		}
		if total != b.Bytes {
			t.Fatalf("Bytes = %d, want %d", b.Bytes, total)
		}
		if len(b.Records) > 0 {
			last[b.Partition] = b.Next
		}
		n += len(b.Records)
	}
	return values, last
}

var golden = &Config{Count: 10_000, Seed: 7, Partitions: 3, Start: "2026-01-01T00:00:00Z", Step: time.Second}

type event struct {
	EventID string `json:"event_id"`
	Ts      int64  `json:"ts"`
	UserID  string `json:"user_id"`
	Country string `json:"country"`
	Device  struct {
		Type    string `json:"type"`
		OS      string `json:"os"`
		Version string `json:"version"`
	} `json:"device"`
	TitleID    string   `json:"title_id"`
	Action     string   `json:"action"`
	PositionMs int64    `json:"position_ms"`
	DurationMs int64    `json:"duration_ms"`
	Session    string   `json:"session"`
	Tags       []string `json:"tags"`
	Payload    string   `json:"payload"`
}

func TestShape(t *testing.T) {
	for seed := range int64(3) {
		c := Config{Count: 20_000, Seed: seed, Partitions: 1, Start: golden.Start, Step: time.Second}
		values, _ := readAll(t, open(t, c), record.Want{}, 0)
		passed, size, ids, users := 0, 0, map[string]bool{}, map[string]int{}
		for i, v := range values[0] {
			var e event
			d := json.NewDecoder(bytes.NewReader([]byte(v)))
			d.DisallowUnknownFields()
			if err := d.Decode(&e); err != nil {
				t.Fatalf("event %d: %v: %s", i, err, v)
			}
			if e.Device.Type == "" || e.Device.OS == "" || e.Device.Version == "" || e.Tags == nil || e.Payload == "" || e.Session == "" || e.TitleID == "" || e.Action == "" {
				t.Fatalf("event %d is not whole: %s", i, v)
			}
			if e.PositionMs < 0 || e.PositionMs >= e.DurationMs {
				t.Fatalf("event %d: position %d of %d", i, e.PositionMs, e.DurationMs)
			}
			if want := time.Date(2026, 1, 1, 0, 0, i, 0, time.UTC).UnixMilli(); e.Ts != want {
				t.Fatalf("event %d: ts %d, want %d", i, e.Ts, want)
			}
			if (e.Country == "BR" || e.Country == "US") && e.Device.Type == "tv" && e.PositionMs > 1000 {
				passed++
			}
			size += len(v)
			ids[e.EventID] = true
			users[e.UserID]++
		}
		if share := float64(passed) / float64(c.Count); share < 0.17 || share > 0.23 {
			t.Errorf("seed %d: %.3f pass the example filter, want about 0.20", seed, share)
		}
		if mean := size / int(c.Count); mean < 390 || mean > 430 {
			t.Errorf("seed %d: %d bytes an event, want about 400", seed, mean)
		}
		if int64(len(ids)) != c.Count {
			t.Errorf("seed %d: %d different event_ids of %d", seed, len(ids), c.Count)
		}
		most := 0
		for _, n := range users {
			most = max(most, n)
		}
		if mean := int(c.Count) / len(users); most < 10*mean {
			t.Errorf("seed %d: the busiest of %d users has %d events: not skewed", seed, len(users), most)
		}
	}
}

func TestContract(t *testing.T) {
	want, _ := readAll(t, open(t, *golden), record.Want{}, 0)
	sourcetest.Run(t, func(t *testing.T) sourcetest.Case {
		return sourcetest.Case{
			New:       func() sources.Source { src, _ := golden.New(sources.Deps{}); return src },
			Want:      want,
			Bounded:   true,
			HeedsWant: true,
		}
	})
}

func TestSameSeedSameEvents(t *testing.T) {
	whole, _ := readAll(t, open(t, *golden), record.Want{}, 0)
	small, _ := readAll(t, open(t, *golden), record.Want{Records: 7}, 0)
	total := 0
	for p, v := range whole {
		total += len(v)
		for i := range v {
			if small[p][i] != v[i] {
				t.Fatalf("partition %d event %d depends on the size of batches", p, i)
			}
		}
	}
	if total != int(golden.Count) {
		t.Errorf("%d events, want %d", total, golden.Count)
	}
	other := *golden
	other.Seed++
	if o, _ := readAll(t, open(t, other), record.Want{}, 0); o[0][0] == whole[0][0] {
		t.Error("another seed gives the same events")
	}
	if whole[0][0] == whole[1][0] {
		t.Error("two partitions have the same events")
	}
}

func TestResume(t *testing.T) {
	whole, _ := readAll(t, open(t, *golden), record.Want{}, 0)
	for _, after := range []int{0, 1, 100, 4321, 9999, 10_000} {
		var from []record.Position
		first := map[int32][]string{}
		if after > 0 {
			var last map[int32]record.Position
			first, last = readAll(t, open(t, *golden), record.Want{Records: 13}, after)
			for _, p := range last {
				from = append(from, p)
			}
		}
		second, _ := readAll(t, open(t, *golden, from...), record.Want{}, 0)
		for p, want := range whole {
			got := append(first[p], second[p]...)
			if len(got) != len(want) {
				t.Fatalf("after %d: partition %d has %d events, want %d", after, p, len(got), len(want))
			}
			for i := range want {
				if got[i] != want[i] {
					t.Fatalf("after %d: partition %d differs at %d", after, p, i)
				}
			}
		}
	}
}

func TestPositionOfAnotherSeedDoesNotCount(t *testing.T) {
	s := open(t, *golden, record.Position{Partition: 0, Offset: 500, Identity: "seed-8"})
	if s.parts[0].next != 0 {
		t.Errorf("begins at %d, want 0", s.parts[0].next)
	}
}

// TestRate holds the pace over virtual time.
func TestRate(t *testing.T) {
	for _, perSecond := range []float64{0.5, 10, 5000} {
		synctest.Test(t, func(t *testing.T) {
			s := open(t, Config{Rate: perSecond, Partitions: 2, Seed: 1})
			b, n, begin := &record.Batch{}, 0, time.Now()
			for time.Since(begin) < 20*time.Second {
				b.Reset()
				if err := s.Read(t.Context(), b); err != nil {
					t.Fatal(err)
				}
				n += len(b.Records)
			}
			want := perSecond * time.Since(begin).Seconds()
			if diff := float64(n) - want; diff > float64(s.burst())+1 || diff < -float64(s.burst())-1 {
				t.Errorf("rate %v: %d events in %v, want about %.0f", perSecond, n, time.Since(begin), want)
			}
		})
	}
}

func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b := open(t, *golden), &record.Batch{}
		s.Pause([]int32{0, 2, 99})
		for range 5 {
			b.Reset()
			if err := s.Read(t.Context(), b); err != nil || len(b.Records) > 0 && b.Partition != 1 {
				t.Fatalf("partition %d, %v", b.Partition, err)
			}
		}
		s.Resume([]int32{2})
		if values, _ := readAll(t, s, record.Want{}, 3000); len(values[2]) == 0 || len(values[0]) > 0 {
			t.Errorf("%d and %d events of the resumed and the paused partition", len(values[2]), len(values[0]))
		}
	})
}

func TestReadObeysContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, Config{Rate: 0.001, Partitions: 1})
		ctx, cancel := context.WithCancel(t.Context())
		b := &record.Batch{}
		if err := s.Read(ctx, b); err != nil || len(b.Records) != 1 {
			t.Fatalf("the first event: %v", err)
		}
		time.AfterFunc(100*time.Millisecond, cancel)
		b.Reset()
		if err := s.Read(ctx, b); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

func TestCheck(t *testing.T) {
	if ds := (&Config{Start: "yesterday"}).Check(); len(ds) != 1 || ds[0].Code != codeStart {
		t.Errorf("got %v", ds)
	}
}

func TestReadAllocatesNothing(t *testing.T) {
	s, b := open(t, Config{Partitions: 2, Start: golden.Start, Step: 1}), &record.Batch{}
	run := func() {
		b.Reset()
		if err := s.Read(context.Background(), b); err != nil || len(b.Records) == 0 {
			t.Fatal("nothing was made")
		}
	}
	run()
	if n := testing.AllocsPerRun(100, run); n > 2 { // the identity of a batch
		t.Errorf("allocs per batch = %v, want at most 2", n)
	}
}

func BenchmarkRead(b *testing.B) {
	s, batch := open(b, Config{Partitions: 1, Start: golden.Start, Step: 1}), &record.Batch{}
	n := 0
	for b.Loop() {
		batch.Reset()
		if err := s.Read(context.Background(), batch); err != nil {
			b.Fatal(err)
		}
		n += len(batch.Records)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/event")
}
