package job

import (
	"encoding/binary"

	"keystone/dsl/eval"
	"keystone/pipeline/state"
)

// seen is when the row of a key came that was passed.
type seen int64

func (v seen) append(dst []byte) []byte { return binary.AppendVarint(dst, int64(v)) }

func (v seen) size() int { return 8 }

func decodeSeen(b []byte) (seen, error) {
	d := decoder{b: b}
	v := seen(d.int())
	return v, d.end()
}

// dedup passes the first row of each key. A key is forgotten when the partition of the row that asks has gone past its time to live: that is
// decided by the row and not by how far others are.
type dedup struct {
	t     *task
	table *table[seen]
	ttl   int64
	m     int64
	r     row
}

func newDedup(t *task) *dedup {
	return &dedup{t: t, ttl: t.n.op.Dedup.TTL.Milliseconds(), table: newTable(t, func() seen { return 0 }, decodeSeen)}
}

func (b *dedup) open(m int64) error {
	b.m = m
	return b.table.open()
}

func (b *dedup) add(p *packet, h *head) error {
	key := p.key(h)
	e, isNew, err := b.table.get(b.table.at(0), h.group, key)
	if err != nil {
		return err
	}
	if !isNew && (b.ttl == 0 || h.mark <= after(int64(e.v), b.ttl)) {
		return nil
	}
	e.v = seen(h.time)
	b.table.change(e)
	if b.ttl > 0 {
		b.table.wake(e, after(h.time, b.ttl+1))
	}
	b.r = row{time: h.time, mark: h.mark}
	b.t.rowID(&b.r, key, h.time)
	return b.t.emit(&b.r, p.load(h))
}

func (b *dedup) advance(m int64) error {
	b.m = m
	if m == endOfTime {
		return nil // the state is kept: the input may be gone on with
	}
	return b.table.dueBy(m, func(e *entry[seen]) error {
		b.table.remove(e)
		return nil
	})
}

func (b *dedup) flush() error { return nil }

func (b *dedup) snapshot(batch *state.Batch) { b.table.snapshot(batch) }

// hasNil tells whether a field of an encoded key is nil: such keys are equal to none.
func hasNil(key []byte) bool {
	for len(key) > 0 {
		if key[0] == encodedNil {
			return true
		}
		n := eval.SizeOfValue(key)
		if n <= 0 {
			return false
		}
		key = key[n:]
	}
	return false
}

// encodedNil begins an encoded nil, as eval.EncodingVersion says.
const encodedNil = 1
