package hive

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"keystone/dsl/types"
	"keystone/pipeline/record"
	"keystone/sinks"
	"keystone/sources/hive/chain"
	"keystone/sources/hive/storage"
)

// begun is an open sink that has begun partitions.
func begun(t *testing.T, st storage.Store, parts int32, change func(*Config)) *Sink {
	t.Helper()
	s := testSink(t, st, testConfig(t, change))
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	for p := range parts {
		if _, err := s.Begin(t.Context(), position(p, 0)); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func objects() storage.Store { return worlds["objects"](nil).store() }

func settle(t *testing.T, s *Sink, at ...record.Position) {
	t.Helper()
	s.Cut(at)
	var parts []int32
	for _, p := range at {
		parts = append(parts, p.Partition)
	}
	if err := s.Settle(t.Context(), parts); err != nil {
		t.Fatal(err)
	}
	got, err := s.Durable()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range at {
		if !slices.Contains(got, p) {
			t.Fatalf("durable is %+v, want %+v", got, p)
		}
	}
}

func mustPut(t *testing.T, s *Sink, b *record.Batch) {
	t.Helper()
	if err := put(t.Context(), s, b); err != nil {
		t.Fatal(err)
	}
}

// A manifest says what its files have, and a file of what it is.
func TestManifest(t *testing.T) {
	st := objects()
	s := begun(t, st, 1, nil)
	mustPut(t, s, batchOf(0, 0, 10))
	settle(t, s, position(0, 12))
	key := chain.Key{Route: "keystone.default.default.route.r", Identity: "b3BhcXVl/w"}
	var all []*chain.Manifest
	for m, err := range chain.Read(t.Context(), st, key) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	if len(all) != 1 || all[0].First != 0 || all[0].Next != position(0, 12) || all[0].Rows() != 10 || len(all[0].Files) != 4 {
		t.Fatalf("manifests %+v", all)
	}
	f := all[0].Files[1]
	name := "dt=2026%3A01%2F1/" + fileStem(key) + "-00000000000000000000-0001.parquet"
	if f.Path != name || f.Rows != 3 || f.Min != 1 || f.Max != 7 || f.Values[0] != (chain.Value{Name: "dt", Value: "2026:01/1"}) {
		t.Errorf("file %+v, want %s", f, name)
	}
	if b := f.Bounds["ts"]; b.Min != "2023-11-14T22:13:20.001Z" || b.Max != "2023-11-14T22:13:20.007Z" {
		t.Errorf("bounds %+v", f.Bounds)
	}
	if f := all[0].Files[3]; !f.Values[0].Null || dirOf(f.Path) != "dt=__HIVE_DEFAULT_PARTITION__" {
		t.Errorf("the file of events without a day: %+v", f)
	}
	info, err := st.Stat(t.Context(), name)
	if err != nil || info.Size != f.Bytes {
		t.Errorf("%s has %d bytes, %v; the manifest says %d", name, info.Size, err, f.Bytes)
	}
	if keys, err := chain.Keys(t.Context(), st, key.Route); err != nil || !slices.Equal(keys, []chain.Key{key}) {
		t.Errorf("chains %v, %v", keys, err)
	}
	expect(t, st, 1, 10)
}

// What does not fit is refused by itself, and leaves nothing behind.
func TestRefused(t *testing.T) {
	st := objects()
	s := begun(t, st, 1, nil)
	b := batchOf(0, 0, 6)
	b.Records[1].Value = nil
	b.Records[2].Value = []byte(`{"id":"two","day":"d"}`)
	b.Records[3].Value = []byte(`{"day":"d"}`)
	b.Records[4].Derived = [][]byte{[]byte(strings.Repeat("/", 100))}
	b.Records[5].Derived = [][]byte{[]byte("only this one")}
	b.Records[5].Value = []byte(`not json`)
	err := put(t.Context(), s, b)
	var partial *sinks.PartialError
	if !errors.As(err, &partial) {
		t.Fatalf("the answer is %v", err)
	}
	got := map[int]string{}
	for _, f := range partial.Failures {
		if f.Outcome != sinks.Rejected {
			t.Errorf("record %d: outcome %v", f.Index, f.Outcome)
		}
		got[f.Index] = f.Code
	}
	if want := map[int]string{1: "null_value", 2: "type", 3: "missing", 4: "partition", 5: "json"}; !maps.Equal(got, want) {
		t.Errorf("refused %v, want %v", got, want)
	}
	settle(t, s, position(0, 6))
	if ids := shown(t, st); !slices.Equal(ids, []int64{0}) {
		t.Errorf("rows %v", ids)
	}
}

// A position without records moves when it is waited for, or when it is old; and no file is made.
func TestIdle(t *testing.T) {
	st := objects()
	s := begun(t, st, 1, nil)
	s.Cut([]record.Position{position(0, 5)})
	if got, err := s.Durable(); err != nil || got[0] != position(0, 0) {
		t.Errorf("durable %+v, %v", got, err)
	}
	settle(t, s, position(0, 7))
	s.now = func() time.Time { return time.Now().Add(time.Hour) }
	s.Cut([]record.Position{position(0, 9)})
	if err := s.lane(0).wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Durable(); err != nil || got[0] != position(0, 9) {
		t.Errorf("durable %+v, %v", got, err)
	}
	if ids := shown(t, st); len(ids) > 0 {
		t.Errorf("rows %v", ids)
	}
}

// Files are due when they are old, or when most of what is open is full.
func TestDue(t *testing.T) {
	s := begun(t, objects(), 2, func(c *Config) { c.RollRows, c.RollInterval = 10, time.Minute })
	if due := s.Due(); len(due) > 0 {
		t.Errorf("due before anything was written: %v", due)
	}
	mustPut(t, s, batchOf(0, 0, 12))
	mustPut(t, s, batchOf(1, 0, 90))
	if due := s.Due(); !slices.Equal(due, []int32{1}) {
		t.Errorf("due %v, want the partition with full files", due)
	}
	s.now = func() time.Time { return time.Now().Add(2 * time.Minute) }
	due := s.Due()
	slices.Sort(due)
	if !slices.Equal(due, []int32{0, 1}) {
		t.Errorf("due %v", due)
	}
	settle(t, s, position(0, 12), position(1, 90))
	if due := s.Due(); len(due) > 0 {
		t.Errorf("due after the cut: %v", due)
	}
}

// A worker that was replaced learns of it, begins again, and goes on behind the other.
func TestFenced(t *testing.T) {
	st := objects()
	a := begun(t, st, 1, nil)
	mustPut(t, a, batchOf(0, 0, 10))
	settle(t, a, position(0, 10))
	mustPut(t, a, batchOf(0, 10, 20))
	b := begun(t, st, 0, nil)
	if at, err := b.Begin(t.Context(), position(0, 3)); err != nil || at != position(0, 10) {
		t.Fatalf("begins at %+v, %v", at, err)
	}
	mustPut(t, b, batchOf(0, 10, 15))
	settle(t, b, position(0, 15))
	a.Cut([]record.Position{position(0, 20)})
	if err := a.Settle(t.Context(), []int32{0}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Durable(); !errors.Is(err, sinks.ErrFenced) || sinks.IsPermanent(err) {
		t.Fatalf("durable: %v, want ErrFenced", err)
	}
	if err := put(t.Context(), a, batchOf(0, 20, 21)); !errors.Is(err, sinks.ErrFenced) {
		t.Errorf("a write after that: %v", err)
	}
	a.Forget([]int32{0})
	if at, err := a.Begin(t.Context(), position(0, 10)); err != nil || at != position(0, 15) {
		t.Fatalf("begins again at %+v, %v", at, err)
	}
	mustPut(t, a, batchOf(0, 15, 20))
	settle(t, a, position(0, 20))
	expect(t, st, 1, 20)
}

// Reading cannot begin behind the end of the chain.
func TestGap(t *testing.T) {
	st := objects()
	s := begun(t, st, 1, nil)
	mustPut(t, s, batchOf(0, 0, 10))
	settle(t, s, position(0, 10))
	other := begun(t, st, 0, nil)
	if _, err := other.Begin(t.Context(), position(0, 11)); !sinks.IsPermanent(err) || !strings.Contains(err.Error(), "end at offset 10") {
		t.Errorf("begin behind the chain: %v", err)
	}
}

// What is forgotten is not in the table, and its staged files are gone.
func TestForget(t *testing.T) {
	st := worlds["local"](nil).store()
	s := begun(t, st, 2, func(c *Config) { c.RollRows = 3 })
	mustPut(t, s, batchOf(0, 0, 30))
	mustPut(t, s, batchOf(1, 0, 10))
	s.Forget([]int32{0, 7})
	settle(t, s, position(1, 10))
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.held.Load() != 0 || s.outputs.Load() != 0 {
		t.Errorf("%d bytes and %d files are counted though nothing is open", s.held.Load(), s.outputs.Load())
	}
	for i := range st.List(t.Context(), "_keystone/staging/") {
		t.Errorf("%s is left", i.Name)
	}
	if ids := shown(t, st); len(ids) != 10 || ids[0] != 1_000_000 {
		t.Errorf("rows %v", ids)
	}
}

// registrar notes what is registered, and fails while it is down.
type registrar struct {
	mu     sync.Mutex
	down   bool
	poison string // partitions with this in them are refused
	parts  map[string]int
}

func (r *registrar) Register(_ context.Context, parts []Partition) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down {
		return errors.New("connection refused")
	}
	no := map[string]error{}
	for _, p := range parts {
		if r.poison != "" && strings.Contains(p.Path, r.poison) {
			no[p.Path] = errors.New("too long")
			continue
		}
		r.parts[p.Path]++
	}
	if len(no) > 0 {
		return &RefusedPartitions{Why: no}
	}
	return nil
}

func (r *registrar) Close() error { return nil }

func (r *registrar) set(down bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = down
}

func (r *registrar) paths() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.parts))
}

// A metastore that is down delays nothing but what it is told, and hears of it later, also from the next incarnation.
func TestRegistrar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := objects()
		r := &registrar{down: true, parts: map[string]int{}}
		run := func(from, to int64, then func()) {
			s := testSink(t, st, testConfig(t, nil))
			s.catalog = newCatalog(r, s.log)
			if err := s.Open(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Begin(t.Context(), position(0, 0)); err != nil {
				t.Fatal(err)
			}
			mustPut(t, s, batchOf(0, from, to))
			settle(t, s, position(0, to))
			then()
			if err := s.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
		run(0, 2, func() {
			expect(t, st, 1, 2)
			time.Sleep(time.Hour)
			if got := r.paths(); len(got) > 0 {
				t.Errorf("registered %v", got)
			}
		})
		r.set(false)
		run(2, 7, func() { time.Sleep(time.Hour) })
		want := []string{"dt=2026%3A01%2F0", "dt=2026%3A01%2F1", "dt=2026%3A01%2F2", "dt=__HIVE_DEFAULT_PARTITION__"}
		if got := r.paths(); !slices.Equal(got, want) {
			t.Errorf("registered %q, want %q", got, want)
		}
		for path, n := range r.parts {
			if n != 1 {
				t.Errorf("%s was registered %d times", path, n)
			}
		}
	})
}

// Two versions of events, one of which has a field more, do not make a file each.
func TestInterleavedVersions(t *testing.T) {
	st := objects()
	s := begun(t, st, 1, nil)
	b := &record.Batch{}
	for o := range int64(1000) {
		v := fmt.Appendf(nil, `{"id":%d,"day":"2026:01/%d"}`, o, o%3)
		if o%2 == 0 {
			v = event(0, o)
		}
		b.Records = append(b.Records, record.Record{Offset: o, Value: v, Derived: [][]byte{fmt.Appendf(nil, "d%d", o%3)}})
	}
	mustPut(t, s, b)
	settle(t, s, position(0, 1000))
	n := 0
	for i := range st.List(t.Context(), "") {
		if strings.HasSuffix(i.Name, ".parquet") {
			n++
		}
	}
	if n != 3 {
		t.Errorf("%d files of 3 partitions", n)
	}
}

// A partition that is a field is not stored twice; one that only has a field's name is refused.
func TestPartitionFields(t *testing.T) {
	c := testConfig(t, func(c *Config) { c.PartitionBy[0].Name = "day" })
	s, err := c.New(sinks.Deps{Type: eventType})
	if err != nil {
		t.Fatal(err)
	}
	if paths := s.(*Sink).schema.Paths(); slices.Contains(paths, "day") {
		t.Errorf("columns %v", paths)
	}
	c.PartitionBy[0].Expr.S = "string(id)"
	if m := c.Misfits(eventType); len(m) != 1 || m[0].Path != "day" {
		t.Errorf("misfits %+v", m)
	}
	if _, err := c.New(sinks.Deps{Type: eventType}); !sinks.IsPermanent(err) {
		t.Errorf("a sink was made: %v", err)
	}
	if m := c.Misfits(types.AnyType); len(m) != 1 {
		t.Errorf("misfits of an unknown type: %+v", m)
	}
}

// What cannot work is said when the sink is opened.
func TestOpenErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{file, filepath.Join(file, "below")} {
		c := testConfig(t, func(c *Config) { c.Location.URL = url })
		s, err := c.New(sinks.Deps{Type: eventType})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Open(t.Context()); !sinks.IsPermanent(err) {
			t.Errorf("open %s: %v, want a permanent error", url, err)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// A worker that sleeps over a rewind adds nothing to the table when it wakes, not even of what it had open.
func TestFrozenOverRewind(t *testing.T) {
	st := objects()
	sleeper := begun(t, st, 1, nil)
	mustPut(t, sleeper, batchOf(0, 0, 5))
	settle(t, sleeper, position(0, 5))
	mustPut(t, sleeper, batchOf(0, 5, 9)) // open
	next := testSink(t, st, testConfig(t, nil))
	next.deps.Generation = 1
	if err := next.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer next.Close(t.Context()) //nolint:errcheck // nothing is written
	if at, err := next.Begin(t.Context(), position(0, 0)); err != nil || at.Offset != 0 {
		t.Fatalf("begins at %v, %v", at, err)
	}
	sleeper.Cut([]record.Position{position(0, 9)})
	if err := sleeper.Settle(t.Context(), []int32{0}); err != nil {
		t.Fatal(err)
	}
	if _, err := sleeper.Durable(); !errors.Is(err, sinks.ErrFenced) {
		t.Errorf("the sleeper is told %v", err)
	}
	expect(t, st, 1, 5)
}
