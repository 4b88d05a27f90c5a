package chain

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"keystone/sources/hive/storage"
	"keystone/sources/hive/storage/storagetest"
)

// A worker that slept over a rewind can neither commit to the earlier generation nor begin a chain there, whatever
// it had staged; what it had committed is published and stays. This holds at a crash anywhere in the sealing.
func TestSeal(t *testing.T) {
	for n, ended := 0, false; !ended; n++ {
		disk := storagetest.NewDisk(nil)
		l := lab{t, storage.NewLocal("disk", disk)}
		sleeper := l.open(l.st, "sleeper")
		l.commit(sleeper, 110)
		if err := sleeper.Commit(t.Context(), l.manifest(sleeper, 120, "")); err != nil { // and not published
			t.Fatal(err)
		}
		later := key
		later.Generation = 4 // of two rewinds, one of which was never read for
		ctx, cancel := context.WithCancel(t.Context())
		dying := disk.Reboot(rand.New(rand.NewPCG(1, 1)), func(o storagetest.Op) storagetest.Action {
			if o.N != n {
				return storagetest.Action{}
			}
			cancel()
			return storagetest.Action{Crash: true, Effect: n%2 == 0}
		})
		ended = Seal(ctx, storage.NewLocal("disk", dying), later, at(50)) == nil
		cancel()
		l.st = storage.NewLocal("disk", dying.Reboot(rand.New(rand.NewPCG(uint64(n), 2)), nil))
		for range 2 {
			if err := Seal(t.Context(), l.st, later, at(50)); err != nil {
				t.Fatalf("crash at %d: %v", n, err)
			}
		}
		sleeper.st = l.st
		l.publish(sleeper)
		m := l.manifest(sleeper, 130, "")
		if err := sleeper.Commit(t.Context(), m); !errors.Is(err, ErrFenced) {
			t.Fatalf("crash at %d: a sleeper commits: %v", n, err)
		}
		for g := range later.Generation {
			k := key
			k.Generation = g
			if _, err := Open(t.Context(), l.st, k, at(100), "late", nil); !errors.Is(err, ErrFenced) {
				t.Fatalf("generation %d is begun: %v", g, err)
			}
			rows := int64(0)
			for m, err := range Read(t.Context(), l.st, k) {
				if err != nil {
					t.Fatal(err)
				}
				rows += m.Rows()
				for _, f := range m.Files {
					if _, err := l.st.Stat(t.Context(), f.Path); err != nil {
						t.Error(err)
					}
				}
			}
			if want := map[bool]int64{true: 20}[g == key.Generation]; rows != want {
				t.Errorf("generation %d has %d rows, want %d", g, rows, want)
			}
		}
		if c, err := Open(t.Context(), l.st, later, at(50), "new", nil); err != nil || c.End().Offset != 50 {
			t.Fatalf("the new generation: %v", err)
		}
	}
}

// A chain is sealed while its writer commits: all that it was told is committed is before the seal.
func TestSealRace(t *testing.T) {
	l := lab{t, memory()}
	later := key
	later.Generation++
	c := l.open(l.st, "w")
	done := make(chan error, 1)
	committed, sealed := make(chan struct{}), make(chan struct{})
	go func() {
		for i := 0; ; i++ {
			if i == 40 {
				<-sealed // a writer that never rests, in memory, is faster than who reads its chain
			}
			m, err := stage(context.Background(), l.st, c, c.End().Offset+1, fmt.Sprint(i))
			if err == nil {
				err = c.Commit(context.Background(), m)
			}
			if err == nil {
				_, err = c.Publish(context.Background())
			}
			if err != nil {
				done <- err
				return
			}
			if i == 3 {
				close(committed)
			}
		}
	}()
	<-committed
	if err := Seal(t.Context(), l.st, later, at(100)); err != nil {
		t.Fatal(err)
	}
	close(sealed)
	if err := <-done; !errors.Is(err, ErrFenced) {
		t.Errorf("the writer ends with %v", err)
	}
	end := int64(100)
	for m, err := range Read(t.Context(), l.st, key) {
		if err != nil {
			t.Fatal(err)
		}
		end = m.Next.Offset
	}
	if end != c.End().Offset {
		t.Errorf("the chain ends at %d, and its writer got to %d", end, c.End().Offset)
	}
}
