package hive

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"keystone/dsl/types"
	"keystone/pipeline/record"
	"keystone/sinks"
	"keystone/sources/hive/chain"
	"keystone/sources/hive/storage"
	"keystone/sources/hive/storage/storagetest"
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

// Memory is bounded by row groups written early, and small files; the input is there all the same.
func TestBounds(t *testing.T) {
	for name, newWorld := range worlds {
		t.Run(name, func(t *testing.T) {
			st := newWorld(nil).store()
			s := begun(t, st, 3, func(c *Config) { c.MaxOpenBytes, c.MaxOpenPartitions = 1<<20, 5 })
			const total = 6000
			var most int64
			for from := int64(0); from < total; from += 200 {
				for p := range int32(3) {
					mustPut(t, s, batchOf(p, from, from+200))
					most = max(most, s.held.Load())
				}
			}
			if most > 2<<20 {
				t.Errorf("%d bytes were open, the bound is %d", most, s.cfg.MaxOpenBytes)
			}
			if n := s.outputs.Load(); n > 5+4 {
				t.Errorf("%d files are open", n)
			}
			settle(t, s, position(0, total), position(1, total), position(2, total))
			expect(t, st, 3, total)
		})
	}
}

// Five thousand partitions at once, in bounded memory.
func TestThousandsOfPartitions(t *testing.T) {
	st := worlds["local"](nil).store()
	s := begun(t, st, 1, func(c *Config) { c.MaxOpenBytes = 64 << 20 })
	const days, each = 5000, 6
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	offset := int64(0)
	for range each {
		b := &record.Batch{Partition: 0}
		for d := range days {
			b.Records = append(b.Records, record.Record{Offset: offset, Value: event(0, offset), Derived: [][]byte{fmt.Appendf(nil, "d%d", d)}})
			offset++
		}
		mustPut(t, s, b)
	}
	if n := s.outputs.Load(); n != days {
		t.Errorf("%d files are open, want %d", n, days)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	used := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	t.Logf("%d files hold %d MiB of heap, %d MiB counted", days, used>>20, s.held.Load()>>20)
	if used > 2*s.held.Load()+64<<20 {
		t.Errorf("the heap grew by %d, and %d are counted", used, s.held.Load())
	}
	settle(t, s, position(0, offset))
	n := 0
	for i := range st.List(t.Context(), "") {
		if strings.HasSuffix(i.Name, ".parquet") {
			n++
		}
	}
	if n != days {
		t.Errorf("%d files, want one for each of %d partitions", n, days)
	}
}

// A full disk holds up, loses nothing, says why, and needs nobody when there is room again.
func TestDiskFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var full atomic.Bool
		d := storagetest.NewDisk(func(o storagetest.Op) storagetest.Action {
			if full.Load() && o.Kind == "write" {
				return storagetest.Action{Err: syscall.ENOSPC, Partial: true}
			}
			return storagetest.Action{}
		})
		st := storage.NewLocal("disk", d)
		s := begun(t, st, 1, func(c *Config) { c.MaxOpenBytes = 1 << 20 })
		mustPut(t, s, batchOf(0, 0, 3000))
		full.Store(true)
		next := int64(3000)
		var err error
		for err == nil {
			if err = put(t.Context(), s, batchOf(0, next, next+3000)); err == nil {
				next += 3000
			}
			if next > 100_000 {
				t.Fatal("nothing holds up the writes")
			}
		}
		if !strings.Contains(err.Error(), "no space left") || sinks.IsPermanent(err) {
			t.Errorf("the write says %v", err)
		}
		s.Cut([]record.Position{position(0, next)})
		short, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := s.Settle(short, []int32{0}); err == nil {
			t.Error("the cut settled on a full disk")
		}
		if _, err := s.Durable(); err == nil || !strings.Contains(err.Error(), "the disk is full; nothing is lost") || sinks.IsPermanent(err) {
			t.Errorf("durable says %v", err)
		}
		if ids := shown(t, st); len(ids) > 0 {
			t.Errorf("%d rows are shown", len(ids))
		}
		full.Store(false)
		mustPut(t, s, batchOf(0, next, next+100))
		settle(t, s, position(0, next+100))
		expect(t, st, 1, next+100)
	})
}

// The same on a real file system that is full.
func TestDiskFullTmpfs(t *testing.T) {
	dir := t.TempDir()
	if err := mountSmall(dir, "2m"); err != nil {
		t.Skipf("no small file system can be mounted: %v", err)
	}
	defer unmount(t, dir)
	disk, err := storage.OpenDisk(dir)
	if err != nil {
		t.Fatal(err)
	}
	st := storage.NewLocal(dir, disk)
	s := begun(t, st, 1, func(c *Config) { c.MaxOpenBytes = 1 << 20; c.Compression = "none" })
	ballast := filepath.Join(dir, "ballast")
	fill(t, ballast)
	const total = 4000
	for from := int64(0); from < total; from += 1000 {
		mustPut(t, s, batchOf(0, from, from+1000))
	}
	s.Cut([]record.Position{position(0, total)})
	for {
		if _, err := s.Durable(); err != nil {
			if !strings.Contains(err.Error(), "the disk is full; nothing is lost") {
				t.Errorf("durable says %v", err)
			}
			break
		}
		runtime.Gosched()
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	settle(t, s, position(0, total))
	expect(t, st, 1, total)
}

// fill makes a file as large as there is room for.
func fill(t *testing.T, name string) {
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// registrar notes what is registered, and fails while it is down.
type registrar struct {
	mu    sync.Mutex
	down  bool
	parts map[string]int
}

func (r *registrar) Register(_ context.Context, parts []Partition) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down {
		return errors.New("connection refused")
	}
	for _, p := range parts {
		r.parts[p.Path]++
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

// Lanes are written and cut at once, in any order.
func TestLanesAtOnce(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	st := objects()
	s := testSink(t, st, testConfig(t, func(c *Config) { c.MaxOpenBytes, c.MaxOpenPartitions = 1<<20, 8 }))
	s.slots = make(chan struct{}, filesAtOnce)
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	const parts, total = 6, 3000
	var cuts sync.Mutex // the worker cuts one at a time
	var wg sync.WaitGroup
	for p := range int32(parts) {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(p), 9))
			if _, err := s.Begin(t.Context(), position(p, 0)); err != nil {
				t.Error(err)
				return
			}
			for at := int64(0); at < total; {
				end := min(at+1+random.Int64N(300), total)
				if err := put(t.Context(), s, batchOf(p, at, end)); err != nil {
					t.Error(err)
					return
				}
				at = end
				if random.IntN(4) == 0 || at == total {
					cuts.Lock()
					s.Cut([]record.Position{position(p, at)})
					s.Due()
					cuts.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if err := s.Settle(t.Context(), []int32{0, 1, 2, 3, 4, 5}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.held.Load() != 0 || s.outputs.Load() != 0 {
		t.Errorf("%d bytes and %d files are counted though nothing is open", s.held.Load(), s.outputs.Load())
	}
	expect(t, st, parts, total)
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
