package hive

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"gocloud.dev/blob/memblob"

	"keystone/sources/hive/chain"
	"keystone/sources/hive/storage"
	"keystone/sources/hive/storage/storagetest"
)

// world is a place whose operations a hook decides about, and which is found again after a crash.
type world interface {
	store() storage.Store
	ops() int
	crash()
	again(seed uint64, hook storagetest.Hook) world
}

type diskWorld struct{ d *storagetest.Disk }

func (w diskWorld) store() storage.Store { return storage.NewLocal("disk", w.d) }
func (w diskWorld) ops() int             { return w.d.Ops() }
func (w diskWorld) crash()               { w.d.Crash() }
func (w diskWorld) again(seed uint64, hook storagetest.Hook) world {
	return diskWorld{w.d.Reboot(rand.New(rand.NewPCG(seed, 7)), hook)}
}

type objectWorld struct {
	all storage.Store
	s   *storagetest.Store
}

func (w objectWorld) store() storage.Store { return w.s }
func (w objectWorld) ops() int             { return w.s.Ops() }
func (w objectWorld) crash()               { w.s.Crash() }
func (w objectWorld) again(_ uint64, hook storagetest.Hook) world {
	w.s.Crash()
	return objectWorld{w.all, storagetest.NewStore(w.all, hook)}
}

var worlds = map[string]func(storagetest.Hook) world{
	"local": func(h storagetest.Hook) world { return diskWorld{storagetest.NewDisk(h)} },
	"objects": func(h storagetest.Hook) world {
		all := storage.NewObjects("mem", memblob.OpenBucket(nil), "")
		return objectWorld{all, storagetest.NewStore(all, h)}
	},
}

const (
	crashTotal = 40
	crashEvery = 16
)

// The process and the machine crash at every single operation of storage, before it and after it. What
// readers see then is whole and has no row twice; and after a new beginning it is exactly the input.
func TestCrashAtEveryStep(t *testing.T) {
	for name, newWorld := range worlds {
		t.Run(name, func(t *testing.T) {
			kinds := map[string]int{}
			ended := false
			n := 0
			for ; !ended; n++ {
				for variant := range 4 {
					effect := variant%2 == 1
					ctx, cancel := context.WithCancel(t.Context())
					w := newWorld(func(o storagetest.Op) storagetest.Action {
						if o.N != n {
							return storagetest.Action{}
						}
						kinds[o.Kind+" "+place(o.Name)]++
						cancel()
						return storagetest.Action{Crash: true, Effect: effect, Partial: effect}
					})
					err := life(ctx, testSink(t, w.store(), testConfig(t, nil)), 1, crashTotal, crashEvery)
					cancel()
					if ended = err == nil; err != nil && w.ops() <= n {
						t.Fatalf("it failed without a crash: %v", err)
					}
					after := w.again(uint64(n*4+variant), nil)
					shown(t, after.store())
					if err := life(t.Context(), testSink(t, after.store(), testConfig(t, nil)), 1, crashTotal, crashEvery); err != nil {
						t.Fatalf("after a crash at operation %d (effect %v): %v", n, effect, err)
					}
					expect(t, after.store(), 1, crashTotal)
				}
			}
			t.Logf("%d operations: %v", n, kinds)
			for _, must := range map[string][]string{
				"local":   {"link manifest", "write staging", "sync staging", "link table", "syncdir table", "syncdir manifest", "remove staging"},
				"objects": {"create manifest", "upload staging", "publish table", "delete staging", "list manifest"},
			}[name] {
				if kinds[must] == 0 {
					t.Errorf("no crash at %q", must)
				}
			}
		})
	}
}

// place tells what a name is of.
func place(name string) string {
	switch {
	case strings.HasPrefix(name, "_keystone/staging"):
		return "staging"
	case strings.HasPrefix(name, "_keystone/tmp"):
		return "tmp"
	case strings.HasPrefix(name, "_keystone/"):
		return "manifest"
	}
	return "table"
}

// Every single operation fails once, with and without effect: the same sink goes on to the end.
func TestFailureAtEveryStep(t *testing.T) {
	for name, newWorld := range worlds {
		t.Run(name, func(t *testing.T) {
			for n, ended := 0, false; !ended; n++ {
				for variant := range 3 {
					synctest.Test(t, func(t *testing.T) {
						w := newWorld(func(o storagetest.Op) storagetest.Action {
							if o.N == n {
								return storagetest.Action{Err: []error{syscall.ENOSPC, errors.New("connection reset"), syscall.EIO}[variant], Effect: variant == 1, Partial: variant == 0}
							}
							return storagetest.Action{}
						})
						var err error
						for range 3 { // the worker opens and begins again where that failed
							if err = life(t.Context(), testSink(t, w.store(), testConfig(t, nil)), 1, crashTotal, crashEvery); err == nil {
								break
							}
						}
						if err != nil {
							t.Fatalf("after a failure of operation %d: %v", n, err)
						}
						ended = w.ops() <= n
						expect(t, w.again(1, nil).store(), 1, crashTotal)
					})
				}
			}
		})
	}
}

// Several workers that know nothing of each other's lives, with failures, crashes and takeovers at
// random: each row is there once, and nothing else.
func TestRandomLives(t *testing.T) {
	const parts, total = 3, 200
	for name, newWorld := range worlds {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(6) {
				random, pauses := rand.New(rand.NewPCG(seed, 3)), rand.New(rand.NewPCG(seed, 4))
				flaky := func(rate int) storagetest.Hook {
					return func(storagetest.Op) storagetest.Action { // under the gate's lock
						if random.IntN(rate) == 0 {
							return storagetest.Action{Err: errors.New("connection reset"), Effect: random.IntN(2) == 0}
						}
						return storagetest.Action{}
					}
				}
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(flaky(60))
					for range 6 {
						ctx, cancel := context.WithCancel(t.Context())
						zombies := make(chan error, 2)
						for range 2 { // two workers of the same partitions at once
							s := testSink(t, w.store(), testConfig(t, func(c *Config) { c.MaxOpenPartitions, c.RollRows = 2, 20 }))
							go func() { zombies <- life(ctx, s, parts, total, 1+int64(seed%40)) }()
						}
						time.Sleep(time.Duration(1+pauses.IntN(400)) * time.Millisecond)
						if seed%2 == 0 {
							w.crash()
						}
						cancel()
						<-zombies
						<-zombies
						shown(t, w.again(seed, nil).store())
						w = w.again(seed, flaky(60))
					}
					w = w.again(seed, nil)
					if err := life(t.Context(), testSink(t, w.store(), testConfig(t, nil)), parts, total, 30); err != nil {
						t.Fatalf("seed %d: %v", seed, err)
					}
					expect(t, w.store(), parts, total)
				})
			}
		})
	}
}

// What a crashed worker staged and nobody needs is deleted, by and by.
func TestStagingIsCleaned(t *testing.T) {
	st := worlds["objects"](nil).store()
	s := testSink(t, st, testConfig(t, nil))
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Begin(t.Context(), position(0, 0)); err != nil {
		t.Fatal(err)
	}
	stale := chain.Staged(s.lane(0).key, 0, "dead", 0)
	if err := st.Upload(t.Context(), stale, strings.NewReader("x"), 1); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := life(t.Context(), testSink(t, st, testConfig(t, nil)), 1, 20, 10); err != nil {
		t.Fatal(err)
	}
	old := testSink(t, st, testConfig(t, nil))
	old.now = func() time.Time { return time.Now().Add(2 * time.Hour) }
	if err := life(t.Context(), old, 1, 30, 10); err != nil {
		t.Fatal(err)
	}
	for i, err := range st.List(t.Context(), "_keystone/staging/") {
		t.Errorf("%s is left, %v", i.Name, err)
	}
	expect(t, st, 1, 30)
}
