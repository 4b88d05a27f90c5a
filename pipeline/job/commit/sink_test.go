package commit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/dsl/types"
	"keystone/pipeline/record"
	"keystone/pipeline/state"
	"keystone/sinks"
	"keystone/sinks/file"
	"keystone/sinks/hive"
	"keystone/sources"
	"keystone/sources/hive/storage"
	"keystone/sources/parquet"
)

// faulty is a publisher whose calls fail at random, before or behind their effect.
type faulty struct {
	Publisher
	rng *rand.Rand
}

func (f faulty) Publish(ctx context.Context, c *Chunk) error {
	if f.rng.IntN(4) == 0 {
		return errNetwork
	}
	if err := f.Publisher.Publish(ctx, c); err != nil {
		return err
	}
	if f.rng.IntN(4) == 0 {
		return errNetwork
	}
	return nil
}

// lives writes rows 0 to n-1 to a sink, over restarts and failures.
func lives(t *testing.T, make func() (sinks.Sink, error), seed uint64) (n int) {
	rng := rand.New(rand.NewPCG(seed, 9))
	dir := t.TempDir()
	for life := range 5 {
		s, err := state.Open(dir, state.Options{Job: "j"})
		if err != nil {
			t.Fatal(err)
		}
		c, err := New(Options{Store: s, Writers: []Writer{{"write.a", "out"}}, ChunkBytes: 200,
			Targets: []Target{{"out", faulty{ToSink(SinkOptions{Name: "out", Store: s, New: make}), rand.New(rand.NewPCG(seed, uint64(life)))}}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Recover(t.Context()); err != nil {
			t.Fatal(err)
		}
		e, _ := s.Last()
		e.Generation = s.Generation()
		for range 3 {
			e = e.Next()
			var out []Out
			for range rng.IntN(12) {
				out = append(out, Out{Value: fmt.Appendf(nil, `{"n":%d}`, n)})
				n++
			}
			if err := c.Commit(t.Context(), Epoch{E: e, Out: out}); err != nil {
				t.Fatal(err)
			}
		}
		if life == 4 {
			if err := c.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(c.Close(t.Context()), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// A file has each row once and in order, whatever fails.
func TestFileHasEachRowOnce(t *testing.T) {
	for seed := range uint64(3) {
		dir := t.TempDir()
		n := lives(t, func() (sinks.Sink, error) {
			c := file.Config{Path: diag.Text{S: "out.ndjson"}, Compression: file.None, MaxOpenFiles: 4, Newlines: file.Space}
			return c.New(sinks.Deps{Dir: dir, Route: "job.j", ID: "j"})
		}, seed)
		got, err := os.ReadFile(filepath.Join(dir, "out.ndjson"))
		if err != nil {
			t.Fatal(err)
		}
		var want bytes.Buffer
		for i := range n {
			fmt.Fprintf(&want, "{\"n\":%d}\n", i)
		}
		if string(got) != want.String() {
			t.Fatalf("seed %d, %d rows:\n%s", seed, n, got)
		}
	}
}

// A table's chain of commits has each row once, whatever fails.
func TestTableHasEachRowOnce(t *testing.T) {
	for seed := range uint64(2) {
		dir := t.TempDir()
		n := lives(t, func() (sinks.Sink, error) {
			var c hive.Config
			for _, d := range spec.Decode(c.Options(), spec.Body{Attrs: map[string]spec.Attr{"location": {Value: dir}}}) {
				return nil, d
			}
			return c.New(sinks.Deps{Dir: dir, Route: "job.j", ID: "j", Type: types.ObjectOf(types.Field{Name: "n", Type: types.IntType})})
		}, seed)
		if got := tableRows(t, dir); got != n {
			t.Fatalf("seed %d: %d rows are in the table, want %d", seed, got, n)
		}
	}
}

// upserts is a sink that acknowledges and keeps rows by their place, as Elasticsearch does.
type upserts struct {
	rng  *rand.Rand
	have map[string]string
	rev  map[string]int64
}

func (u *upserts) Open(context.Context) error  { return nil }
func (u *upserts) Close(context.Context) error { return nil }
func (u *upserts) Write(_ context.Context, b *record.Batch, done func(error)) {
	var pe sinks.PartialError
	for i, r := range b.Records {
		place := fmt.Sprint(b.Next.Identity, b.Partition, r.Offset, r.Child)
		switch {
		case strings.Contains(string(r.Value), "bad"):
			pe.Failures = append(pe.Failures, sinks.Failure{Index: i, Outcome: sinks.Rejected, Code: "bad", Err: errors.New("bad")})
		case u.rng.IntN(4) == 0:
			pe.Failures = append(pe.Failures, sinks.Failure{Index: i, Outcome: sinks.Retryable, Err: errNetwork})
		case b.Revision >= u.rev[place]:
			u.have[place], u.rev[place] = string(r.Value), b.Revision
		}
	}
	if pe.Failures != nil {
		done(&pe)
		return
	}
	done(nil)
}

// Rows with an ID take the place of earlier ones with it, also when they are repeated after later ones; one that is
// refused for ever is told of, or ends the job.
func TestRowsWithIDs(t *testing.T) {
	u := &upserts{rng: rand.New(rand.NewPCG(1, 1)), have: map[string]string{}, rev: map[string]int64{}}
	var refused []string
	p := ToSink(SinkOptions{Name: "out", New: func() (sinks.Sink, error) { return u, nil }, Refused: func(r *Out, f sinks.Failure) error {
		refused = append(refused, string(r.Value))
		return nil
	}})
	if _, _, err := p.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	var chunks []*Chunk
	for n := range int64(20) {
		c := &Chunk{Epoch: state.Epoch{Generation: 1, N: n + 1}}
		for i := range 10 {
			c.Rows = append(c.Rows, Out{ID: fmt.Appendf(nil, "id%d", i%7), Value: fmt.Appendf(nil, "%d/%d", n, i)})
		}
		chunks = append(chunks, c)
	}
	chunks = append(chunks, chunks[3], chunks[12]) // what a crash repeats
	for _, c := range chunks {
		if err := p.Publish(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	if len(u.have) != 7 {
		t.Errorf("%d places", len(u.have))
	}
	for _, v := range u.have {
		if !strings.HasPrefix(v, "19/") || v == "19/0" || v == "19/1" || v == "19/2" {
			t.Errorf("%s is left", v)
		}
	}
	bad := &Chunk{Epoch: state.Epoch{Generation: 1, N: 30}, Rows: []Out{{Value: []byte("bad")}, {Value: []byte("good")}}}
	if err := p.Publish(t.Context(), bad); err != nil || len(refused) != 1 || len(u.have) != 8 {
		t.Error(err, refused, len(u.have))
	}
	p.(*toSink).o.Refused = nil
	if err := p.Publish(t.Context(), bad); !sinks.IsPermanent(err) {
		t.Error(err)
	}
}

// tableRows reads the table's files and gives how many rows there are, each of which must be another.
func tableRows(t *testing.T, dir string) int {
	c := parquet.Config{Location: storage.Location{URL: dir}}
	s, err := c.New(sources.Deps{Dir: dir, Log: slog.New(slog.DiscardHandler), Scan: record.Scan{All: true}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(t.Context()) //nolint:errcheck // only read
	if err := s.Open(t.Context(), nil, nobody{}); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for {
		b := &record.Batch{}
		err := s.Read(t.Context(), b)
		for _, r := range b.Records {
			if seen[string(r.Value)] {
				t.Errorf("%s is there twice", r.Value)
			}
			seen[string(r.Value)] = true
		}
		if errors.Is(err, io.EOF) {
			return len(seen)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// nobody hears of the source's partition.
type nobody struct{}

func (nobody) Assigned([]record.Position)       {}
func (nobody) Revoked(context.Context, []int32) {}
func (nobody) DataLoss(int32, int64, int64)     {}
func (nobody) Lost([]int32)                     {}
