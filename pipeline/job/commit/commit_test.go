package commit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"keystone/pipeline/record"
	"keystone/pipeline/state"
	"keystone/sinks"
)

// ledger is a target as Kafka is one: chunks appear with their marker, or not at all. It outlives its publishers.
type ledger struct {
	mu     sync.Mutex
	owner  *member
	rows   []Out
	firsts []int64
	at     state.Epoch
	chunk  int
	rng    *rand.Rand
	fail   int // one in fail calls fails, before or behind its effect; 0: none
}

type member struct{ l *ledger }

var errNetwork = errors.New("the connection broke")

func (l *ledger) breaks() bool { return l.fail > 0 && l.rng.IntN(l.fail) == 0 }

func (m *member) Recover(ctx context.Context) (state.Epoch, int, error) {
	l := m.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.owner != m && l.owner != nil && l.owner.l == nil {
		return state.Epoch{}, 0, ErrFenced
	}
	l.owner = m
	if l.breaks() {
		return state.Epoch{}, 0, errNetwork
	}
	return l.at, l.chunk, nil
}

func (m *member) Publish(ctx context.Context, c *Chunk) error {
	l := m.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.owner != m {
		return ErrFenced
	}
	if l.breaks() {
		return errNetwork
	}
	for _, r := range c.Rows {
		r.Key, r.Value, r.ID = slices.Clone(r.Key), slices.Clone(r.Value), slices.Clone(r.ID)
		l.rows = append(l.rows, r)
	}
	l.firsts = append(l.firsts, c.First)
	l.at, l.chunk = c.Epoch, c.Index
	if l.breaks() {
		return errNetwork
	}
	return nil
}

func (m *member) Close(ctx context.Context) error { return nil }

type lab struct {
	t       *testing.T
	dir     string
	ledgers map[string]*ledger
	store   *state.Store
	c       *Committer
	gen     int64
}

func (l *lab) start() error {
	s, err := state.Open(l.dir, state.Options{Job: "j", Generation: l.gen})
	if err != nil {
		l.t.Fatal(err)
	}
	o := Options{Store: s, ChunkBytes: 40, Writers: []Writer{{"write.a", "one"}, {"write.b", "one"}, {"write.c", "two"}}}
	for _, name := range []string{"one", "two"} {
		o.Targets = append(o.Targets, Target{name, &member{l.ledgers[name]}})
	}
	if l.c, err = New(o); err != nil {
		l.t.Fatal(err)
	}
	l.store = s
	for { // the engine tries again, too
		if err = l.c.Recover(l.t.Context()); !errors.Is(err, errNetwork) {
			return err
		}
	}
}

func (l *lab) stop() {
	if err := errors.Join(l.c.Close(l.t.Context()), l.store.Close()); err != nil {
		l.t.Fatal(err)
	}
}

func row(w int, n int64) Out {
	o := Out{Writer: w, Key: fmt.Appendf(nil, "k%d", n%7), Time: n, ID: fmt.Appendf(nil, "id%d", n),
		Headers: []record.Header{{Key: "h", Value: []byte{1}}}, Derived: [][]byte{nil, []byte("d")}}
	if n%5 > 0 {
		o.Value = fmt.Appendf(nil, "%d/%d", w, n)
	}
	return o
}

// Whatever fails and wherever the process ends, each target has each row once, in order, as it was given.
func TestEachRowOnce(t *testing.T) {
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 1))
		l := &lab{t: t, dir: t.TempDir(), ledgers: map[string]*ledger{}}
		for _, n := range []string{"one", "two"} {
			l.ledgers[n] = &ledger{rng: rand.New(rand.NewPCG(seed, 2)), fail: 6}
		}
		var given [3][]Out
		n := int64(0)
		for range 6 {
			if err := l.start(); err != nil {
				t.Fatal(err)
			}
			e, _ := l.store.Last()
			e.Generation = l.store.Generation()
			for range rng.IntN(8) {
				e = e.Next()
				var out []Out
				for range rng.IntN(12) {
					n++
					out = append(out, row(rng.IntN(3), n))
				}
				b := l.store.NewBatch()
				b.Set([]byte("\x00\x01n"), fmt.Append(nil, n))
				if err := l.c.Commit(t.Context(), Epoch{E: e, Batch: b, Out: out}); err != nil {
					t.Fatal(err)
				}
				b.Close()
				for _, r := range out {
					given[r.Writer] = append(given[r.Writer], r)
				}
			}
			l.stop() // in the middle of publishing
		}
		if err := l.start(); err != nil {
			t.Fatal(err)
		}
		if err := l.c.Wait(t.Context()); err != nil || l.c.Pending() != 0 {
			t.Fatal(err)
		}
		l.stop()
		for w, want := range given {
			name := []string{"one", "one", "two"}[w]
			var got []Out
			for _, r := range l.ledgers[name].rows {
				if r.Writer == w {
					got = append(got, r)
				}
			}
			if g, x := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != x {
				t.Fatalf("seed %d, writer %d:\n%s\nwant\n%s", seed, w, g, x)
			}
		}
		for name, ld := range l.ledgers {
			if !slices.IsSorted(ld.firsts) || len(ld.firsts) > 0 && ld.firsts[0] != 0 {
				t.Errorf("%s: numbers of first rows %v", name, ld.firsts)
			}
		}
	}
}

func TestNulls(t *testing.T) {
	b := &builder{}
	in := []Out{{Key: nil, Value: []byte{}}, {Key: []byte{}, Value: nil}, row(0, 3)}
	for i := range in {
		b.add(&in[i], "w", 1000)
	}
	b.cut()
	v := b.chunks[0].value(true)
	c, err := decode(v, map[string]int{"w": 0})
	if err != nil || c.Rows[0].Key != nil || c.Rows[0].Value == nil || c.Rows[1].Key == nil || c.Rows[1].Value != nil || !c.Last {
		t.Fatalf("%v %+v", err, c)
	}
	for n := range v { // any prefix is refused, and none crashes
		if _, err := decode(v[:n], map[string]int{"w": 0}); err == nil {
			t.Errorf("%d of %d bytes are a chunk", n, len(v))
		}
	}
}

// What cannot be gone on with is refused, and says why.
func TestRefusals(t *testing.T) {
	l := &lab{t: t, dir: t.TempDir(), ledgers: map[string]*ledger{"one": {}, "two": {}}}
	commit := func(n int64) {
		if err := l.c.Commit(t.Context(), Epoch{E: state.Epoch{Generation: l.store.Generation(), N: n}, Out: []Out{row(0, 1), row(2, 2)}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.start(); err != nil {
		t.Fatal(err)
	}
	commit(1)
	if err := l.c.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	// A second process takes the target over: this one ends.
	if _, _, err := (&member{l.ledgers["one"]}).Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	commit(2)
	<-l.c.Done()
	if err := l.c.Err(); !errors.Is(err, ErrFenced) {
		t.Errorf("%v", err)
	}
	l.stop()

	l.ledgers["one"].at = state.Epoch{Generation: 1, N: 9}
	if err := l.start(); !errors.Is(err, ErrBehind) {
		t.Errorf("a store that was put back: %v", err)
	}
	l.stop()
	l.ledgers["one"].at = state.Epoch{Generation: 2, N: 1}
	if err := l.start(); !errors.Is(err, ErrFenced) {
		t.Errorf("somebody has a later generation: %v", err)
	}
	l.stop()
	l.gen = 3 // a rewind goes on behind both
	if err := l.start(); err != nil {
		t.Error(err)
	}
	commit(1)
	if err := l.c.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	l.stop()
}

// Rows that are left for a target or a writer that the job has no more are not lost in silence.
func TestStrangers(t *testing.T) {
	dir := t.TempDir()
	broken := publisherFunc(func(context.Context, *Chunk) error { return sinks.Permanent{Err: errors.New("refused")} })
	s, err := state.Open(dir, state.Options{Job: "j"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c, err := New(Options{Store: s, Writers: []Writer{{"write.a", "one"}}, Targets: []Target{{"one", broken}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Commit(t.Context(), Epoch{E: state.Epoch{Generation: 1, N: 1}, Out: []Out{row(0, 1)}}); err != nil {
		t.Fatal(err)
	}
	<-c.Done()
	if err := c.Commit(t.Context(), Epoch{E: state.Epoch{Generation: 1, N: 2}}); err == nil {
		t.Error("a failed committer goes on")
	}
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, o := range []Options{
		{Writers: []Writer{{"write.a", "two"}}, Targets: []Target{{"two", broken}}},
		{Writers: []Writer{{"write.b", "one"}}, Targets: []Target{{"one", broken}}},
	} {
		o.Store = s
		c, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Recover(t.Context()); err == nil || !strings.Contains(err.Error(), "bring it back") {
			t.Errorf("%v", err)
		}
	}
}

type publisherFunc func(context.Context, *Chunk) error

func (f publisherFunc) Recover(context.Context) (state.Epoch, int, error) {
	return state.Epoch{}, 0, nil
}
func (f publisherFunc) Publish(ctx context.Context, c *Chunk) error { return f(ctx, c) }
func (f publisherFunc) Close(context.Context) error                 { return nil }
