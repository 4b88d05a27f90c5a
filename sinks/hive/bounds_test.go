package hive

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"keystone/pipeline/record"
	"keystone/sinks"
	"keystone/sources/hive/storage"
	"keystone/sources/hive/storage/storagetest"
)

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
