package state

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// changes is what epoch n of a test changes: the same each time it is asked.
type change struct {
	key, hi string // hi: all keys from key to before hi go away
	value   []byte // nil: the key goes away
}

func changes(n int64) []change {
	r := rand.New(rand.NewPCG(uint64(n), 7))
	key := func() string { return fmt.Sprintf("\x00\x01k%04d", r.IntN(600)) }
	var cs []change
	for range 1 + r.IntN(40) {
		switch {
		case r.IntN(30) == 0:
			lo, hi := key(), key()
			cs = append(cs, change{key: min(lo, hi), hi: max(lo, hi)})
		case r.IntN(6) == 0:
			cs = append(cs, change{key: key()})
		default:
			size := r.IntN(300)
			if r.IntN(200) == 0 {
				size = 700 << 10 // more than half a memtable: it takes another way
			}
			v := bytes.Repeat([]byte{byte(n)}, size)
			cs = append(cs, change{key: key(), value: append(binary.BigEndian.AppendUint64(nil, uint64(n)), v...)})
		}
	}
	return cs
}

// model is what the state is after epochs 1 to n.
type model struct {
	n    int64
	have map[string][]byte
}

func (m *model) to(n int64) {
	if m.have == nil || n < m.n {
		m.n, m.have = 0, map[string][]byte{}
	}
	for m.n < n {
		m.n++
		for _, c := range changes(m.n) {
			switch {
			case c.hi != "":
				maps.DeleteFunc(m.have, func(k string, _ []byte) bool { return k >= c.key && k < c.hi })
			case c.value == nil:
				delete(m.have, c.key)
			default:
				m.have[c.key] = c.value
			}
		}
	}
}

func commitEpoch(s *Store, n int64) error {
	b := s.NewBatch()
	defer b.Close()
	for _, c := range changes(n) {
		switch {
		case c.hi != "":
			b.DeleteRange([]byte(c.key), []byte(c.hi))
		case c.value == nil:
			b.Delete([]byte(c.key))
		default:
			b.Set([]byte(c.key), c.value)
		}
	}
	return s.Commit(b, Epoch{s.Generation(), n}, fmt.Appendf(nil, "meta of %d", n))
}

// check compares the store with the model at its last epoch, and gives that.
func (m *model) check(t *testing.T, s *Store) int64 {
	t.Helper()
	e, meta := s.Last()
	m.to(e.N)
	if want := fmt.Sprintf("meta of %d", e.N); e.N > 0 && string(meta) != want {
		t.Fatalf("meta %q, want %q", meta, want)
	}
	got := map[string][]byte{}
	var keys []string
	if err := s.Scan(nil, nil, func(k, v []byte) error {
		got[string(k)] = bytes.Clone(v)
		keys = append(keys, string(k))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if !slices.IsSorted(keys) {
		t.Fatal("keys are not in order")
	}
	if !maps.EqualFunc(got, m.have, bytes.Equal) {
		t.Fatalf("at epoch %v: %d keys, want %d", e, len(got), len(m.have))
	}
	for i := range 700 {
		k := fmt.Sprintf("\x00\x01k%04d", i)
		v, ok, err := s.Get([]byte(k))
		want, there := m.have[k]
		if err != nil || ok != there || !bytes.Equal(v, want) {
			t.Fatalf("at epoch %v: get %q: %d bytes, %v, %v; want %d, %v", e, k, len(v), ok, err, len(want), there)
		}
	}
	return e.N
}

func open(t *testing.T, dir string, o Options) *Store {
	t.Helper()
	s, err := tryOpen(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func tryOpen(dir string, o Options) (*Store, error) {
	if o.Job == "" {
		o.Job = "job-1"
	}
	if o.Memory == 0 {
		o.Memory = 8 << 20 // memtables of 1 MiB
	}
	return Open(dir, o)
}
