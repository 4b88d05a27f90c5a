package checkpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keystone/pipeline/state"
	"keystone/sources/hive/storage"
)

type lab struct {
	t     *testing.T
	place *storage.Local
	root  string
	store *state.Store
}

func newLab(t *testing.T) *lab {
	l := &lab{t: t, root: t.TempDir()}
	d, err := storage.OpenDisk(l.root)
	if err != nil {
		t.Fatal(err)
	}
	l.place = storage.NewLocal(l.root, d)
	t.Cleanup(func() {
		if err := l.place.Close(); err != nil {
			t.Error(err)
		}
	})
	l.store = l.open(filepath.Join(t.TempDir(), "state"))
	return l
}

func (l *lab) open(dir string) *state.Store {
	s, err := state.Open(dir, state.Options{Job: "job-1", Memory: 8 << 20, Fingerprint: "shape"})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = s.Close() })
	return s
}

func (l *lab) keeper(o Options) *Keeper {
	o.Job, o.Place = "job-1", l.place
	k, err := Open(l.t.Context(), o)
	if err != nil {
		l.t.Fatal(err)
	}
	return k
}

// fill commits n epochs of many keys.
func (l *lab) fill(s *state.Store, n int) {
	for range n {
		e, _ := s.Last()
		e = state.Epoch{Generation: s.Generation(), N: e.N + 1}
		b := s.NewBatch()
		for i := range 2000 {
			b.Set(fmt.Appendf(nil, "\x00\x01%d/%d", e.N, i), fmt.Appendf(nil, "%d of %v", i, e))
		}
		if err := s.Commit(b, e, []byte(e.String())); err != nil {
			l.t.Fatal(err)
		}
		b.Close()
	}
}

func dump(t *testing.T, s *state.Store) string {
	var b strings.Builder
	if err := s.Scan(nil, nil, func(k, v []byte) error {
		fmt.Fprintf(&b, "%q=%q\n", k, v)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	_, meta := s.Last()
	return b.String() + string(meta)
}

var day = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

// A checkpoint is the state after an epoch, adds only files that are new, and is restored as it was, in a new generation.
func TestSaveAndRestore(t *testing.T) {
	for _, linked := range []bool{false, true} {
		t.Run(fmt.Sprint("linked ", linked), func(t *testing.T) {
			l := newLab(t)
			o := Options{}
			if linked {
				o.Folder = l.root
			}
			o.Retain = 1000
			k := l.keeper(o)
			l.fill(l.store, 20)
			first, err := k.Save(t.Context(), l.store, json.RawMessage(`{"window.a":1}`), day)
			if err != nil {
				t.Fatal(err)
			}
			want := dump(t, l.store)
			if first.Uploaded != first.Bytes() || first.Fingerprint != "shape" || first.At() != (state.Epoch{Generation: 1, N: 20}) {
				t.Errorf("%+v", first)
			}
			// Compaction rewrites so small a state now and then, and then it is left alone.
			settled := func(k *Keeper) (m *Saved) {
				for range 100 {
					if m, err = k.Save(t.Context(), l.store, nil, day); err != nil {
						t.Fatal(err)
					}
					if m.Uploaded < m.Bytes()/3 {
						return m
					}
				}
				t.Fatalf("uploaded %d of %d again and again", m.Uploaded, m.Bytes())
				return nil
			}
			l.fill(l.store, 1)
			second := settled(k)
			third := settled(l.keeper(o)) // another process knows what is there, too
			if second.Number <= first.Number || third.Number <= second.Number {
				t.Errorf("numbers %d, %d, %d", first.Number, second.Number, third.Number)
			}
			for _, m := range []*Saved{first, second, third} {
				if err := Verify(t.Context(), l.place, m.Manifest); err != nil {
					t.Error(err)
				}
			}
			dir := filepath.Join(t.TempDir(), "restored")
			m, err := Restore(t.Context(), l.place, "job-1", dir, "", first.Number, nil)
			if err != nil || m.Number != first.Number || string(m.Operators) != `{"window.a":1}` {
				t.Fatal(m, err)
			}
			s := l.open(dir)
			if got := dump(t, s); got != want {
				t.Error("the state is another one")
			}
			if s.Generation() != 2 {
				t.Errorf("generation %d", s.Generation())
			}
			if _, err := Restore(t.Context(), l.place, "job-1", dir, "", 0, nil); err == nil {
				t.Error("restored over a state")
			}
			if _, err := Restore(t.Context(), l.place, "job-2", dir+"2", "", 0, nil); !errors.Is(err, state.ErrOtherJob) {
				t.Errorf("another job: %v", err)
			}
		})
	}
}

// Of two processes that go on with a job, one makes the next checkpoint.
func TestFenced(t *testing.T) {
	l := newLab(t)
	l.fill(l.store, 1)
	old := l.keeper(Options{})
	if _, err := old.Save(t.Context(), l.store, nil, day); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "elsewhere")
	if _, err := Restore(t.Context(), l.place, "job-1", dir, "", 0, nil); err != nil {
		t.Fatal(err)
	}
	s := l.open(dir)
	l.fill(s, 1)
	if _, err := l.keeper(Options{}).Save(t.Context(), s, nil, day); err != nil {
		t.Fatal(err)
	}
	l.fill(l.store, 1)
	if _, err := old.Save(t.Context(), l.store, nil, day); !errors.Is(err, ErrFenced) {
		t.Errorf("%v", err)
	}
}

// lossy is a place whose answers to the making of manifests are lost.
type lossy struct {
	storage.Store
	lose bool
}

func (p *lossy) Create(ctx context.Context, name string, b []byte) error {
	if err := p.Store.Create(ctx, name, b); err != nil || !p.lose {
		return err
	}
	return errors.New("no answer")
}

func (p *lossy) Get(ctx context.Context, name string) ([]byte, error) {
	if p.lose {
		return nil, errors.New("no answer")
	}
	return p.Store.Get(ctx, name)
}

// A manifest whose making was not answered counts if it is there, and fences nobody.
func TestLostAnswer(t *testing.T) {
	l := newLab(t)
	l.fill(l.store, 1)
	place := &lossy{Store: l.place}
	k, err := Open(t.Context(), Options{Job: "job-1", Place: place})
	if err != nil {
		t.Fatal(err)
	}
	place.lose = true
	if _, err := k.Save(t.Context(), l.store, nil, day); err == nil {
		t.Fatal("no answer is no error")
	}
	place.lose = false
	l.fill(l.store, 1)
	m, err := k.Save(t.Context(), l.store, nil, day)
	if err != nil || m.Number != 2 {
		t.Fatal(m, err)
	}
}

// Retention keeps so many and so old ones, and every file that a kept one or a savepoint names.
func TestRetention(t *testing.T) {
	l := newLab(t)
	k := l.keeper(Options{Retain: 2, RetainFor: 10 * time.Hour})
	l.fill(l.store, 3)
	if _, err := k.Savepoint(t.Context(), l.store, nil, day, "before-upgrade"); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Savepoint(t.Context(), l.store, nil, day, "before-upgrade"); err == nil || !strings.Contains(err.Error(), "exists already") {
		t.Error(err)
	}
	for _, name := range []string{"", "../x", "a/b", ".x"} {
		if _, err := k.Savepoint(t.Context(), l.store, nil, day, name); err == nil {
			t.Errorf("a savepoint has the name %q", name)
		}
	}
	for i := range 30 {
		l.fill(l.store, 1)
		if _, err := k.Save(t.Context(), l.store, nil, day.Add(time.Duration(i)*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	all, damaged, err := List(t.Context(), l.place, "job-1")
	if err != nil || len(damaged) > 0 {
		t.Fatal(err, damaged)
	}
	if len(all) != 11 || all[0].Number != 21 || all[10].Name != "before-upgrade" {
		t.Errorf("%d are left: %v", len(all), all)
	}
	named := map[string]bool{}
	for _, m := range all {
		if err := Verify(t.Context(), l.place, m); err != nil {
			t.Error(m, err)
		}
		for _, f := range m.Files {
			named[f.SHA256] = true
		}
	}
	there, err := os.ReadDir(filepath.Join(l.root, "files"))
	if err != nil || len(there) != len(named) {
		t.Errorf("%d files are there and %d are named: %v", len(there), len(named), err)
	}
	dir := filepath.Join(t.TempDir(), "s")
	if _, err := Restore(t.Context(), l.place, "job-1", dir, "before-upgrade", 0, nil); err != nil {
		t.Error(err)
	}
	if err := k.Delete(t.Context(), "before-upgrade"); err != nil {
		t.Error(err)
	}
	if err := k.Delete(t.Context(), "before-upgrade"); err == nil {
		t.Error("deleted twice")
	}
	if _, err := Restore(t.Context(), l.place, "job-1", dir+"2", "before-upgrade", 0, nil); !errors.Is(err, ErrNone) {
		t.Error(err)
	}
}

// A damaged checkpoint is named, and the one before it is used; without one, nothing is made.
func TestDamage(t *testing.T) {
	l := newLab(t)
	k := l.keeper(Options{})
	var saved []*Saved
	for range 3 {
		l.fill(l.store, 1)
		m, err := k.Save(t.Context(), l.store, nil, day)
		if err != nil {
			t.Fatal(err)
		}
		saved = append(saved, m)
	}
	// The last one's manifest is cut short; of the second a file of its own has another byte.
	if err := os.Truncate(filepath.Join(l.root, saved[2].object()), 100); err != nil {
		t.Fatal(err)
	}
	shared := map[string]bool{}
	for _, f := range saved[0].Files {
		shared[f.SHA256] = true
	}
	for _, f := range saved[1].Files {
		if path := filepath.Join(l.root, f.object()); !shared[f.SHA256] && f.Size > 0 {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)/2] ^= 1
			if err := os.WriteFile(path, b, 0o666); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	var bad *DamagedError
	if err := Verify(t.Context(), l.place, saved[1].Manifest); !errors.As(err, &bad) || !strings.Contains(bad.Object, "files/") {
		t.Errorf("%v", err)
	}
	var log strings.Builder
	dir := filepath.Join(t.TempDir(), "s")
	m, err := Restore(t.Context(), l.place, "job-1", dir, "", 0, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil || m.Number != 1 {
		t.Fatal(m, err)
	}
	if n := strings.Count(log.String(), "level=ERROR"); n != 2 {
		t.Errorf("said: %s", log.String())
	}
	s := l.open(dir)
	if e, _ := s.Last(); e.N != 1 {
		t.Error(e)
	}
	// The next checkpoint takes the number behind the damaged one.
	l.fill(s, 1)
	if m, err := l.keeper(Options{}).Save(t.Context(), s, nil, day); err != nil || m.Number != 4 {
		t.Error(m, err)
	}
	if _, err := Restore(t.Context(), l.place, "job-1", dir+"2", "", 2, nil); !errors.As(err, &bad) {
		t.Error(err)
	}
	if _, err := os.Stat(dir + "2"); !os.IsNotExist(err) {
		t.Error("a damaged checkpoint made a state")
	}
}
