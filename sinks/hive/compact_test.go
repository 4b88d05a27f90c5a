package hive

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"keystone/pipeline/record"
	"keystone/sources/hive/chain"
	"keystone/sources/hive/storage"
	"keystone/sources/hive/storage/storagetest"
)

// catalogue is a metastore in memory: folders of partitions. The real one is in TestRealCompact.
type catalogue struct {
	mu    sync.Mutex
	at    map[string]string
	moves int
	hook  func(n int, done bool) error // around each move
}

func (c *catalogue) Register(_ context.Context, parts []Partition) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range parts {
		folder := p.Path
		if p.Folder != "" {
			folder = p.Folder
		}
		if c.at[p.Path] == "" {
			c.at[p.Path] = folder
		}
	}
	return nil
}

func (c *catalogue) Close() error { return nil }

func (c *catalogue) Located(_ context.Context, dirs []string) (map[string]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]string{}
	for _, d := range dirs {
		if at, ok := c.at[d]; ok {
			out[d] = at
		}
	}
	return out, nil
}

func (c *catalogue) Move(ctx context.Context, dir, from, to string, _ int64) error {
	c.mu.Lock()
	c.moves++
	n, hook := c.moves, c.hook
	c.mu.Unlock()
	if hook != nil {
		if err := hook(n, false); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	c.mu.Lock()
	at := c.at[dir]
	if at == from {
		c.at[dir] = to
	}
	c.mu.Unlock()
	if at != from && at != to {
		return fmt.Errorf("it is at %s, not at %s", at, from)
	}
	if hook != nil {
		return hook(n, true)
	}
	return nil
}

func (c *catalogue) folders() map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.at)
}

// read gives the rows as readers see them who ask the metastore.
func (c *catalogue) read(t testing.TB, st storage.Store) []int64 {
	t.Helper()
	var ids []int64
	for dir, folder := range c.folders() {
		for i, err := range st.List(context.Background(), folder+"/") {
			if err != nil {
				t.Fatal(err)
			}
			if !isData(i.Name) || dirOf(i.Name) != folder {
				t.Fatalf("readers see %s", i.Name)
			}
			b, err := st.Get(context.Background(), i.Name)
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range idsOf(t, i.Name, b) {
				want := "dt=" + storage.DefaultPartition
				if d := day(id % 1_000_000); d != nil {
					want = string(storage.AppendPartition(nil, "dt", d))
				}
				if dir != want {
					t.Fatalf("row %d is in %s", id, dir)
				}
				ids = append(ids, id)
			}
		}
	}
	slices.Sort(ids)
	for i := 1; i < len(ids); i++ {
		if ids[i] == ids[i-1] {
			t.Fatalf("row %d is there twice", ids[i])
		}
	}
	return ids
}

// has wants all rows from 0 to one number, each once, and of those up to another that may be under way none or one.
func (c *catalogue) has(t testing.TB, st storage.Store, least, most int64) {
	t.Helper()
	ids := c.read(t, st)
	for i := range least {
		if int64(len(ids)) <= i || ids[i] != i {
			t.Fatalf("row %d is missing: %v", i, ids)
		}
	}
	if n := len(ids); n > 0 && ids[n-1] >= most {
		t.Fatalf("row %d is of nobody", ids[n-1])
	}
}

func compactSink(t testing.TB, st storage.Store, c *catalogue) *Sink {
	s := testSink(t, st, testConfig(t, func(c *Config) {
		c.Compact = Compact{Written: true, Target: 1 << 20, MinFiles: 2, Interval: 1000 * time.Hour, Grace: time.Hour}
		c.Metastore.Address, c.Table = "thrift://unused", "a.b"
	}))
	s.catalog = newCatalog(c, s.log)
	return s
}

// feed writes rows from where the chain ends, with a commit for each few.
func feed(ctx context.Context, s *Sink, total, every int64) error {
	at, err := s.Begin(ctx, position(0, 0))
	if err != nil {
		return err
	}
	for o := at.Offset; o < total; o += every {
		end := min(o+every, total)
		if err := put(ctx, s, batchOf(0, o, end)); err != nil {
			return err
		}
		s.Cut([]record.Position{position(0, end)})
		if err := s.Settle(ctx, []int32{0}); err != nil {
			return err
		}
		if at, err := s.Durable(); err != nil || at[0].Offset != end {
			return fmt.Errorf("durable up to %v: %w", at, err)
		}
	}
	time.Sleep(time.Minute) // the catalog registers them
	return ctx.Err()
}

// compactLife opens a sink, compacts, writes late rows, and compacts what these have made, with what is left of the first.
func compactLife(ctx context.Context, t testing.TB, s *Sink, from, to int64) error {
	defer s.Close(context.WithoutCancel(ctx)) //nolint:errcheck // what is durable is what counts
	if err := s.Open(ctx); err != nil {
		return err
	}
	if err := feed(ctx, s, from, 4); err != nil {
		return err
	}
	if err := s.compactor.turn(ctx); err != nil {
		return err
	}
	s.Forget([]int32{0})
	if err := feed(ctx, s, to, 4); err != nil {
		return err
	}
	for range 3 {
		time.Sleep(2 * time.Hour)
		if err := s.compactor.turn(ctx); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// The process and the machine crash at every operation of storage that changes something, before it and after it, and in every move of a partition: who
// asks the metastore has each row once at any time, and the next process brings it to its end.
func TestCompactAtEveryStep(t *testing.T) {
	const early, late = 8, 16
	for name, newWorld := range worlds {
		t.Run(name, func(t *testing.T) {
			kinds := map[string]int{}
			ended := false
			n := 0
			for ; !ended; n++ {
				for variant := range 2 {
					if variant == 1 && n%3 != 0 { // a crash after one is mostly that before the next
						continue
					}
					synctest.Test(t, func(t *testing.T) {
						ctx, cancel := context.WithCancel(t.Context())
						defer cancel()
						metastore := &catalogue{at: map[string]string{}}
						armed, at, written := false, -1, int64(0)
						var raw storage.Store
						w := newWorld(func(o storagetest.Op) storagetest.Action {
							if !armed || slices.Contains([]string{"read", "stat", "readdir", "get", "list"}, o.Kind) { // these change nothing
								return storagetest.Action{}
							}
							at++
							if raw != nil && variant == 1 && n%7 == 0 {
								metastore.has(t, raw, early, written)
							}
							if at != n {
								return storagetest.Action{}
							}
							kinds[o.Kind+" "+compactPlace(o.Name)]++
							cancel()
							return storagetest.Action{Crash: true, Effect: variant == 1, Partial: variant == 1}
						})
						s := compactSink(t, w.store(), metastore)
						if err := s.Open(ctx); err != nil {
							t.Fatal(err)
						}
						if err := feed(ctx, s, early, 4); err != nil {
							t.Fatal(err)
						}
						if err := s.Close(ctx); err != nil {
							t.Fatal(err)
						}
						if o, ok := w.(objectWorld); ok {
							raw = o.all
						}
						armed, written = true, late
						err := compactLife(ctx, t, compactSink(t, w.store(), metastore), early, late)
						if ended = err == nil; err != nil && ctx.Err() == nil {
							t.Fatalf("it failed without a crash: %v", err)
						}
						after := w.again(uint64(n*2+variant), nil)
						metastore.has(t, after.store(), early, late)
						for range 2 {
							if err := compactLife(t.Context(), t, compactSink(t, after.store(), metastore), late, late); err != nil {
								t.Fatalf("after a crash at operation %d: %v", n, err)
							}
						}
						metastore.has(t, after.store(), late, late)
						tidy(t, after.store(), metastore)
					})
					if t.Failed() {
						t.Fatalf("at operation %d, variant %d", n, variant)
					}
				}
			}
			t.Logf("%d operations: %v", n, kinds)
		})
	}
}

// compactPlace tells what a name is of.
func compactPlace(name string) string {
	switch {
	case strings.HasPrefix(name, chain.CompactedRoot) && strings.Contains(name, "/data"):
		return "new place"
	case strings.HasPrefix(name, chain.CompactedRoot):
		return path.Base(name)
	}
	return place(name)
}

// tidy wants every partition compacted, and no file that nobody reads.
func tidy(t testing.TB, st storage.Store, c *catalogue) {
	t.Helper()
	folders := slices.Collect(maps.Values(c.folders()))
	files := map[string]int{}
	for i, err := range st.List(context.Background(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(i.Name, "_keystone/staging/") {
			t.Errorf("%s is left", i.Name)
		}
		if !strings.HasSuffix(i.Name, ".parquet") {
			continue
		}
		if !slices.Contains(folders, dirOf(i.Name)) {
			t.Errorf("%s is left, and nobody reads it", i.Name)
		}
		files[dirOf(i.Name)]++
	}
	for _, f := range folders {
		if !strings.HasPrefix(f, chain.CompactedRoot) || files[f] > 2 {
			t.Errorf("%s has %d files, and is not compacted", f, files[f])
		}
	}
}

// The process dies in a move of a partition, before the metastore has done it and after.
func TestCompactMoveFails(t *testing.T) {
	for n := range 8 {
		for _, done := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				st := objects()
				c := &catalogue{at: map[string]string{}}
				if err := compactLife(t.Context(), t, compactSink(t, st, c), 5, 20); err != nil {
					t.Fatal(err)
				}
				at := c.moves + 1 + n%4
				c.hook = func(i int, after bool) error {
					if i == at && after == done {
						return errors.New("connection reset")
					}
					return nil
				}
				err := compactLife(t.Context(), t, compactSink(t, st, c), 30, 60)
				c.has(t, st, 30, 60)
				if err != nil { // a failed turn is told, and the next one goes on
					if err := compactLife(t.Context(), t, compactSink(t, st, c), 60, 60); err != nil {
						t.Fatal(err)
					}
				}
				c.has(t, st, 60, 60)
				tidy(t, st, c)
			})
		}
	}
}

// A writer has made a manifest and sleeps; the partition is compacted and moved; then it publishes. Its row is there from the move on, once.
func TestCompactSleepingWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asleep atomic.Bool
		w := worlds["objects"](func(o storagetest.Op) storagetest.Action {
			if asleep.Load() && o.Kind == "publish" {
				return storagetest.Action{Err: errors.New("asleep")}
			}
			return storagetest.Action{}
		}).(objectWorld)
		c := &catalogue{at: map[string]string{}}
		s := compactSink(t, w.store(), c)
		if err := s.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer s.Close(t.Context()) //nolint:errcheck // everything is durable
		if err := feed(t.Context(), s, 20, 4); err != nil {
			t.Fatal(err)
		}
		asleep.Store(true)
		if err := put(t.Context(), s, batchOf(0, 20, 24)); err != nil {
			t.Fatal(err)
		}
		s.Cut([]record.Position{position(0, 24)})
		time.Sleep(time.Second)
		c.has(t, w.all, 20, 20)
		other := compactSink(t, w.all, c)
		if err := other.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer other.Close(t.Context()) //nolint:errcheck // it writes nothing
		if err := other.compactor.turn(t.Context()); err != nil {
			t.Fatal(err)
		}
		if c.moves != 4 {
			t.Errorf("%d moves, want 4", c.moves)
		}
		c.has(t, w.all, 24, 24)
		asleep.Store(false)
		if err := s.Settle(t.Context(), []int32{0}); err != nil {
			t.Fatal(err)
		}
		c.has(t, w.all, 24, 24)
		for range 3 {
			time.Sleep(2 * time.Hour)
			if err := other.compactor.turn(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.has(t, w.all, 24, 24)
		}
		tidy(t, w.all, c)
	})
}

// A process sleeps before it moves a partition. Another one finishes what it began, and goes on from there; when the first one
// wakes its move is refused, and it knows that it is not the one any more.
func TestCompactSleepingCompactor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := objects()
		c := &catalogue{at: map[string]string{}}
		first := compactSink(t, st, c)
		if err := first.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer first.Close(t.Context()) //nolint:errcheck // everything is durable
		if err := feed(t.Context(), first, 20, 4); err != nil {
			t.Fatal(err)
		}
		c.hook = func(n int, done bool) error {
			if n == 1 && !done {
				time.Sleep(100 * time.Hour)
			}
			return nil
		}
		woken := make(chan error, 1)
		go func() { woken <- first.compactor.turn(t.Context()) }()
		time.Sleep(10 * time.Minute)
		second := compactSink(t, st, c)
		if err := second.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer second.Close(t.Context()) //nolint:errcheck // it writes nothing
		for range 2 {
			if err := second.compactor.turn(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.has(t, st, 20, 20)
			time.Sleep(2 * time.Hour)
		}
		if err := feed(t.Context(), withRoom(first), 60, 4); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			time.Sleep(2 * time.Hour)
			if err := second.compactor.turn(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.has(t, st, 60, 60)
		}
		if err := <-woken; err == nil {
			t.Error("the sleeper knows of nothing")
		}
		c.has(t, st, 60, 60)
		if err := second.compactor.turn(t.Context()); err != nil {
			t.Fatal(err)
		}
		tidy(t, st, c)
	})
}

// withRoom gives a sink whose lane can begin again.
func withRoom(s *Sink) *Sink {
	s.Forget([]int32{0})
	return s
}

// Two compactors of one table do not work at once, and a claim is taken over only where nobody renews it.
func TestClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := objects()
		a, b := claim{st: st, writer: "a"}, claim{st: st, writer: "b"}
		take := func(c *claim, want bool) {
			t.Helper()
			if got, err := c.take(t.Context(), time.Now, sleep); got != want || err != nil {
				t.Fatalf("%s: %v, %v, want %v", c.writer, got, err, want)
			}
		}
		take(&a, true)
		stop := make(chan struct{})
		go func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(claimKeep):
					if ok, err := a.renew(t.Context(), time.Now); !ok || err != nil {
						t.Errorf("renewed: %v, %v", ok, err)
					}
				}
			}
		}()
		take(&b, false)
		take(&b, false)
		close(stop)
		synctest.Wait()
		take(&b, true)
		if a.held(time.Now()) {
			t.Error("both have it")
		}
		if ok, err := a.renew(t.Context(), time.Now); ok || err != nil {
			t.Errorf("a claim that is another's was renewed: %v, %v", ok, err)
		}
		stale := claim{st: st, writer: "stale", number: 1} // its next number was deleted since
		if ok, err := stale.renew(t.Context(), time.Now); ok || err != nil {
			t.Errorf("a stale claim was renewed: %v, %v", ok, err)
		}
		if ok, err := b.renew(t.Context(), time.Now); !ok || err != nil {
			t.Errorf("the claim is not kept: %v, %v", ok, err)
		}
	})
}

// What is not small, quiet, many or Keystone's stays as it is.
func TestCompactChooses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := objects()
		c := &catalogue{at: map[string]string{}}
		s := compactSink(t, st, c)
		s.cfg.Compact.Quiet, s.cfg.Compact.MinFiles = time.Hour, 4
		if err := s.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer s.Close(t.Context()) //nolint:errcheck // everything is durable
		turn := func(moves int, said string) {
			t.Helper()
			err := s.compactor.turn(t.Context())
			if said == "" && err != nil || said != "" && (err == nil || !strings.Contains(err.Error(), said)) {
				t.Fatalf("told %v, want %q", err, said)
			}
			if c.moves != moves {
				t.Fatalf("%d moves, want %d", c.moves, moves)
			}
		}
		if err := feed(t.Context(), s, 20, 4); err != nil { // four days, most of which have four files
			t.Fatal(err)
		}
		turn(0, "") // not quiet
		time.Sleep(2 * time.Hour)
		s.compactor.cfg.Compact.Target = 10 // all are large
		turn(0, "")
		s.compactor.cfg.Compact.Target = 1 << 20
		foreign := "dt=2026%3A01%2F0/other.parquet"
		if err := st.Upload(t.Context(), foreign, strings.NewReader("x"), 1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		full := 0
		for dir := range c.folders() {
			n := 0
			for range st.List(t.Context(), dir+"/") {
				n++
			}
			if n >= 4 && !strings.HasPrefix(foreign, dir) {
				full++
			}
		}
		turn(full, "not of Keystone")
		if err := st.Delete(t.Context(), foreign); err != nil {
			t.Fatal(err)
		}
		turn(full+1, "")
		turn(full+1, "")
		c.has(t, st, 20, 20)
	})
}
