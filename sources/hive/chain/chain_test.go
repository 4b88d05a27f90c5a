package chain

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gocloud.dev/blob/memblob"

	"keystone/pipeline/record"
	"keystone/sources/hive/storage"
	"keystone/sources/hive/storage/storagetest"
)

var key = Key{Route: "keystone.default.route.r", Generation: 2, Identity: "topic/1", Partition: 3}

func at(offset int64) record.Position {
	return record.Position{Partition: 3, Offset: offset, LeaderEpoch: -1, Identity: "topic/1", Cluster: "c", Name: "plays"}
}

func memory() storage.Store { return storage.NewObjects("mem", memblob.OpenBucket(nil), "") }

// lab is a place and writers of one chain in it.
type lab struct {
	*testing.T
	st storage.Store
}

func (l lab) open(st storage.Store, writer string) *Chain {
	l.Helper()
	c, err := Open(l.Context(), st, key, at(100), writer, nil)
	if err != nil {
		l.Fatal(err)
	}
	return c
}

// manifest stages a file with a line for each offset and gives the commit that lists it.
func (l lab) manifest(c *Chain, next int64, try string) *Manifest {
	l.Helper()
	m, err := stage(l.Context(), l.st, c, next, try)
	if err != nil {
		l.Fatal(err)
	}
	return m
}

func stage(ctx context.Context, st storage.Store, c *Chain, next int64, try string) (*Manifest, error) {
	first := c.End().Offset
	var text strings.Builder
	for o := first; o < next; o++ {
		fmt.Fprintln(&text, o)
	}
	f := File{
		Path: fmt.Sprintf("dt=1/part-%d-%d", c.key.Partition, first), Staged: Staged(c.key, first, c.writer+try, 0),
		Values: []Value{{Name: "dt", Value: "1"}}, Rows: next - first, Bytes: int64(text.Len()), Min: first, Max: next - 1,
	}
	err := st.Upload(ctx, f.Staged, strings.NewReader(text.String()), f.Bytes)
	return &Manifest{First: first, Next: at(next), Made: time.Unix(1, 0).UTC(), Files: []File{f}}, err
}

func (l lab) commit(c *Chain, next int64) {
	l.Helper()
	if err := c.Commit(l.Context(), l.manifest(c, next, "")); err != nil {
		l.Fatal(err)
	}
	l.publish(c)
}

func (l lab) publish(c *Chain) {
	l.Helper()
	if gone, err := c.Publish(l.Context()); err != nil || len(gone) > 0 {
		l.Fatalf("publish: %v, gone %v", err, gone)
	}
}

// rows reads what the table shows, and holds it to what the manifests say.
func (l lab) rows() []int64 {
	l.Helper()
	var rows []int64
	pos := int64(-1)
	published := map[string]bool{}
	for m, err := range Read(l.Context(), l.st, key) {
		if err != nil {
			l.Fatal(err)
		}
		if pos >= 0 && m.First != pos {
			l.Fatalf("after offset %d comes %d", pos, m.First)
		}
		pos = m.Next.Offset
		for _, f := range m.Files {
			published[f.Path] = true
		}
	}
	for i, err := range l.st.List(l.Context(), "dt=1/") {
		if err != nil {
			l.Fatal(err)
		}
		if !published[i.Name] {
			l.Errorf("%s is in no manifest", i.Name)
		}
		b, err := l.st.Get(l.Context(), i.Name)
		if err != nil {
			l.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			var o int64
			if _, err := fmt.Sscan(line, &o); err != nil {
				l.Fatalf("%s: %q: %v", i.Name, line, err)
			}
			rows = append(rows, o)
		}
	}
	slices.Sort(rows)
	return rows
}

func (l lab) expect(from, to int64) {
	l.Helper()
	rows := l.rows()
	for i, o := range rows {
		if o != from+int64(i) {
			l.Fatalf("row %d is of offset %d, want %d", i, o, from+int64(i))
		}
	}
	if int64(len(rows)) != to-from {
		l.Fatalf("the table has %d rows, want those of [%d, %d)", len(rows), from, to)
	}
}

func TestContinue(t *testing.T) {
	l := lab{t, memory()}
	a := l.open(l.st, "a")
	if a.End() != at(100) || a.Last() != nil {
		t.Errorf("a new chain ends at %+v", a.End())
	}
	l.commit(a, 110)
	l.commit(a, 120)
	b, err := Open(t.Context(), l.st, key, at(115), "b", nil)
	if err != nil || b.End() != at(120) || b.Tail() != 2 {
		t.Fatalf("the chain ends at %+v, %v", b.End(), err)
	}
	if err := errors.Join(b.Check(at(120)), b.Check(at(3))); err != nil {
		t.Error(err)
	}
	var gap *GapError
	if err := b.Check(at(121)); !errors.As(err, &gap) || !strings.Contains(err.Error(), "end at offset 120") {
		t.Errorf("reading that begins behind the chain: %v", err)
	}
	l.publish(b)
	l.commit(b, 121)
	l.expect(100, 121)
	keys, err := Keys(t.Context(), l.st, key.Route)
	if err != nil || !slices.Equal(keys, []Key{key}) {
		t.Errorf("the chains are %v, %v", keys, err)
	}
	if p, err := Begins(t.Context(), l.st, key); err != nil || p != at(100) {
		t.Errorf("the chain begins at %+v, %v", p, err)
	}
}

// A writer that was replaced before its commit is fenced, wherever the other one stopped.
func TestFence(t *testing.T) {
	for _, published := range []bool{false, true} {
		l := lab{t, memory()}
		zombie := l.open(l.st, "a")
		l.commit(zombie, 105)
		late := l.manifest(zombie, 112, "")
		b := l.open(l.st, "b")
		l.publish(b)
		m := l.manifest(b, 110, "")
		if err := b.Commit(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		if published {
			l.publish(b)
		}
		if err := zombie.Commit(t.Context(), late); !errors.Is(err, ErrFenced) {
			t.Fatalf("the commit of a writer that was replaced: %v", err)
		}
		c := l.open(l.st, "c")
		l.publish(c)
		l.expect(100, 110)
		if err := c.Clean(t.Context(), time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		for i, err := range l.st.List(t.Context(), staging+"/") {
			t.Errorf("%s was left, %v", i.Name, err)
		}
	}
}

// Nothing is deleted that a commit at the chain's end may name, however old.
func TestCleanSpares(t *testing.T) {
	l := lab{t, memory()}
	slow := l.open(l.st, "a")
	m := l.manifest(slow, 110, "")
	b := l.open(l.st, "b")
	if err := b.Clean(t.Context(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := slow.Commit(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	l.publish(slow)
	l.expect(100, 110)
	// A young file of a commit that lost stays until it is old.
	l.manifest(b, 107, "young")
	c := l.open(l.st, "c")
	l.publish(c)
	count := func() (n int) {
		for range l.st.List(t.Context(), staging+"/") {
			n++
		}
		return n
	}
	if err := c.Clean(t.Context(), time.Now().Add(-time.Hour)); err != nil || count() != 1 {
		t.Errorf("%d staged files, %v; want the young one", count(), err)
	}
	if err := c.Clean(t.Context(), time.Now().Add(time.Hour)); err != nil || count() != 0 {
		t.Errorf("%d staged files, %v; want none", count(), err)
	}
}

// A commit that failed and may have been made is made once.
func TestUnknownOutcome(t *testing.T) {
	broken := errors.New("connection reset")
	for n := range 12 {
		for _, effect := range []bool{false, true} {
			l := lab{t, memory()}
			c := l.open(l.st, "a")
			l.commit(c, 103)
			c.st = storagetest.NewStore(l.st, func(o storagetest.Op) storagetest.Action {
				if o.N == n {
					return storagetest.Action{Err: broken, Effect: effect}
				}
				return storagetest.Action{}
			})
			m := l.manifest(c, 110, "")
			for {
				if err := c.Commit(t.Context(), m); err == nil {
					break
				} else if !errors.Is(err, broken) {
					t.Fatalf("failure of operation %d: %v", n, err)
				}
			}
			for {
				if _, err := c.Publish(t.Context()); err == nil {
					break
				} else if !errors.Is(err, broken) {
					t.Fatal(err)
				}
			}
			l.expect(100, 110)
		}
	}
}

// The power fails at any operation of a commit whose outcome was unknown, or that was taken over: what is published
// is in a manifest.
func TestPowerLoss(t *testing.T) {
	for n, ended := 0, false; !ended; n++ {
		for fail := range n + 1 {
			random := rand.New(rand.NewPCG(uint64(n), uint64(fail)))
			d := storagetest.NewDisk(func(o storagetest.Op) storagetest.Action {
				switch o.N {
				case n:
					return storagetest.Action{Crash: true, Effect: random.IntN(2) == 0}
				case fail:
					return storagetest.Action{Err: errors.New("an error of the disk"), Effect: random.IntN(2) == 0}
				}
				return storagetest.Action{}
			})
			st := storage.NewLocal("disk", d)
			for life := range 3 { // of processes, on one machine
				c, err := Open(t.Context(), st, key, at(100), fmt.Sprint("w", life), nil)
				if err != nil {
					continue
				}
				if _, err := c.Publish(t.Context()); err != nil {
					continue
				}
				m, err := stage(t.Context(), st, c, c.End().Offset+5, "")
				if err != nil {
					continue
				}
				if err := c.Commit(t.Context(), m); err != nil && c.Commit(t.Context(), m) != nil {
					continue
				}
				if life > 0 {
					_, _ = c.Publish(t.Context())
				}
			}
			ended = d.Ops() <= n
			l := lab{t, storage.NewLocal("disk", d.Reboot(random, nil))}
			c := l.open(l.st, "last")
			if _, err := c.Publish(t.Context()); err != nil {
				t.Fatal(err)
			}
			l.expect(100, c.End().Offset)
		}
	}
}

// A file that was published and then deleted by somebody does not come back and stops nothing.
func TestDeletedByHand(t *testing.T) {
	l := lab{t, memory()}
	c := l.open(l.st, "a")
	l.commit(c, 105)
	if err := l.st.Delete(t.Context(), "dt=1/part-3-100"); err != nil {
		t.Fatal(err)
	}
	b := l.open(l.st, "b")
	gone, err := b.Publish(t.Context())
	if err != nil || len(gone) != 1 || gone[0].Path != "dt=1/part-3-100" {
		t.Errorf("gone %v, %v", gone, err)
	}
	l.commit(b, 110)
	l.expect(105, 110)
}

func TestFold(t *testing.T) {
	broken := errors.New("connection reset")
	l := lab{t, memory()}
	random := rand.New(rand.NewPCG(1, 2))
	flaky := storagetest.NewStore(l.st, func(storagetest.Op) storagetest.Action {
		if random.IntN(50) == 0 {
			return storagetest.Action{Err: broken, Effect: random.IntN(2) == 0}
		}
		return storagetest.Action{}
	})
	const commits = 3*foldSize + 40
	c := l.open(l.st, "a")
	zombie := l.open(l.st, "z")
	late := l.manifest(zombie, 101, "z")
	next := int64(100)
	for i := range commits {
		next += 1 + int64(i%3)
		l.commit(c, next)
		c.st = flaky
		if err := c.Fold(t.Context(), c.Tail()); err != nil && !errors.Is(err, broken) {
			t.Fatal(err)
		}
		c.st = l.st
		if i%100 == 99 {
			b := l.open(l.st, fmt.Sprint("b", i))
			if b.End() != at(next) {
				t.Fatalf("after %d commits the chain ends at %+v, want %d", i, b.End(), next)
			}
			l.publish(b)
			c = b
		}
	}
	for c.Tail() >= foldSize+foldKeep {
		if err := c.Fold(t.Context(), c.Tail()); err != nil {
			t.Fatal(err)
		}
	}
	manifests, folds, err := list(t.Context(), l.st, c.dir)
	if err != nil || len(folds) != 3 || len(manifests) > foldSize+foldKeep {
		t.Errorf("%d folds and %d manifests, %v; want 3 folds", len(folds), len(manifests), err)
	}
	l.expect(100, next)

	// The name that the zombie's commit wants is free again, and it is fenced for all that.
	if err := zombie.Commit(t.Context(), late); !errors.Is(err, ErrFenced) {
		t.Errorf("a commit where the chain was folded: %v", err)
	}
	l.expect(100, next)
	b := l.open(l.st, "last")
	if b.End() != at(next) {
		t.Errorf("the chain ends at %+v, want %d", b.End(), next)
	}
	l.publish(b)
	if err := b.Clean(t.Context(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := l.st.Stat(t.Context(), c.dir+offsetName(100)); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("the zombie's manifest was left: %v", err)
	}
	l.expect(100, next)
}

// Nothing that waits to be registered is folded.
func TestFoldReady(t *testing.T) {
	l := lab{t, memory()}
	c := l.open(l.st, "a")
	for i := range int64(foldSize + foldKeep) {
		l.commit(c, 101+i)
	}
	if err := c.Fold(t.Context(), foldSize-1); err != nil || c.Tail() != foldSize+foldKeep {
		t.Errorf("folded to %d, %v", c.Tail(), err)
	}
	if err := c.Fold(t.Context(), foldSize); err != nil || c.Tail() != foldKeep {
		t.Errorf("folded to %d, %v", c.Tail(), err)
	}
	seen := []int64{}
	if _, err := Open(t.Context(), l.st, key, at(100), "b", func(m *Manifest) { seen = append(seen, m.First) }); err != nil || len(seen) != foldKeep || seen[0] != 100+foldSize {
		t.Errorf("seen %v, %v", seen, err)
	}
	l.expect(100, 100+foldSize+foldKeep)
}

// A chain whose last commit is folded still tells its whole position.
func TestEndInFold(t *testing.T) {
	l := lab{t, memory()}
	c := l.open(l.st, "a")
	for i := range int64(foldSize) {
		l.commit(c, 101+i)
	}
	if _, err := c.fold(t.Context(), c.tail); err != nil {
		t.Fatal(err)
	}
	for _, first := range c.tail {
		if err := l.st.Delete(t.Context(), c.dir+offsetName(first)); err != nil {
			t.Fatal(err)
		}
	}
	if b := l.open(l.st, "b"); b.End() != at(100+foldSize) {
		t.Errorf("the chain ends at %+v", b.End())
	}
}

func TestDamaged(t *testing.T) {
	for name, text := range map[string]string{
		"start":                `{"version":1,`,
		offsetName(100):        `{"version":7,"first":100,"next":{"offset":110}}`,
		offsetName(101):        `{"version":1,"first":101,"next":{"offset":90}}`,
		offsetName(100) + "-x": "neither",
	} {
		l := lab{t, memory()}
		if name != "start" {
			l.open(l.st, "a")
		}
		if err := l.st.Create(t.Context(), key.String()+"/"+name, []byte(text)); err != nil {
			t.Fatal(err)
		}
		_, err := Open(t.Context(), l.st, key, at(100), "b", nil)
		var damaged *DamagedError
		if errors.As(err, &damaged) == (text == "neither") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Several writers that know nothing of each other, over a store that fails now and then, crash and take over: the
// table has each row once, and no file that is in no manifest.
func TestManyWriters(t *testing.T) {
	broken := errors.New("connection reset")
	for seed := range uint64(20) {
		l := lab{t, memory()}
		const target = 160
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				random := rand.New(rand.NewPCG(seed, uint64(w)))
				flaky := storagetest.NewStore(l.st, func(storagetest.Op) storagetest.Action {
					if random.IntN(60) == 0 {
						return storagetest.Action{Err: broken, Effect: random.IntN(2) == 0}
					}
					return storagetest.Action{}
				})
				for life := 0; ; life++ {
					c, err := Open(t.Context(), flaky, key, at(100), fmt.Sprintf("w%d-%d", w, life), nil)
					if err != nil {
						continue
					}
					if write(t, flaky, c, random, target) {
						return
					}
				}
			})
		}
		wg.Wait()
		c := l.open(l.st, "last")
		l.publish(c)
		l.expect(100, c.End().Offset)
		if c.End().Offset < target {
			t.Fatalf("seed %d: the chain ends at %d", seed, c.End().Offset)
		}
	}
}

// write continues a chain until it fails in a way that ends a writer; true when the target is reached.
func write(t *testing.T, st storage.Store, c *Chain, random *rand.Rand, target int64) bool {
	for {
		for {
			if _, err := c.Publish(t.Context()); err == nil {
				break
			}
			if random.IntN(8) == 0 {
				return false // crash
			}
		}
		if c.Clean(t.Context(), time.Now().Add(time.Hour)) != nil && random.IntN(4) == 0 {
			return false
		}
		if c.End().Offset >= target {
			return true
		}
		m, err := stage(t.Context(), st, c, c.End().Offset+1+random.Int64N(5), fmt.Sprint(random.Uint32()))
		if err != nil {
			return false
		}
		for {
			err := c.Commit(t.Context(), m)
			if err == nil {
				break
			}
			if errors.Is(err, ErrFenced) || random.IntN(4) == 0 {
				return false
			}
		}
	}
}
