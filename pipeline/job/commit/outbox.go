package commit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"keystone/pipeline/record"
	"keystone/pipeline/state"
)

// The committer's keys in the store: the outbox, by epoch, target and chunk, and how many rows each target had.
var (
	outboxFirst = []byte{state.Reserved >> 8, 1}
	outboxEnd   = []byte{state.Reserved >> 8, 2}
	countsFirst = []byte{state.Reserved >> 8, 2}
	notesFirst  = []byte{state.Reserved >> 8, 3} // of sinks
)

func appendEpochKey(dst []byte, e state.Epoch) []byte {
	dst = append(dst, outboxFirst...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.Generation))
	return binary.BigEndian.AppendUint64(dst, uint64(e.N))
}

// appendKey is the key of a chunk.
func appendKey(dst []byte, e state.Epoch, target string, chunk int) []byte {
	dst = appendEpochKey(dst, e)
	dst = append(dst, byte(len(target)))
	dst = append(dst, target...)
	return binary.BigEndian.AppendUint32(dst, uint32(chunk))
}

var errKey = errors.New("a key of the outbox is none")

func parseKey(k []byte) (e state.Epoch, target string, chunk int, err error) {
	k = k[min(2, len(k)):]
	if len(k) < 17 || len(k) != 17+int(k[16])+4 {
		return e, "", 0, errKey
	}
	e = state.Epoch{Generation: int64(binary.BigEndian.Uint64(k)), N: int64(binary.BigEndian.Uint64(k[8:]))}
	return e, string(k[17 : len(k)-4]), int(binary.BigEndian.Uint32(k[len(k)-4:])), nil
}

func countKey(target string) []byte { return append(slices.Clone(countsFirst), target...) }

// The encoding of a chunk is kept by stores, so it has a version.
const chunkVersion = 1

// builder encodes the chunks of one target.
type builder struct {
	first  int64 // number of the first row of the open chunk
	rows   int   // in it
	open   []byte
	chunks []encoded
}

type encoded struct {
	first int64
	rows  int
	body  []byte
}

func appendBytes(dst, b []byte) []byte {
	if b == nil {
		return append(dst, 0)
	}
	return append(binary.AppendUvarint(dst, uint64(len(b))+1), b...)
}

// add encodes a row.
func (b *builder) add(r *Out, writer string, most int) {
	size := len(r.Key) + len(r.Value)
	if b.rows > 0 && len(b.open)+size > most {
		b.cut()
	}
	d := appendBytes(b.open, []byte(writer))
	d = appendBytes(d, r.Key)
	d = appendBytes(d, r.Value)
	d = binary.AppendVarint(d, r.Time)
	d = appendBytes(d, r.ID)
	d = binary.AppendUvarint(d, uint64(len(r.Headers)))
	for _, h := range r.Headers {
		d = appendBytes(d, []byte(h.Key))
		d = appendBytes(d, h.Value)
	}
	d = binary.AppendUvarint(d, uint64(len(r.Derived)))
	for _, v := range r.Derived {
		d = appendBytes(d, v)
	}
	b.open = d
	b.rows++
}

// cut ends the open chunk.
func (b *builder) cut() {
	if b.rows == 0 {
		return
	}
	b.chunks = append(b.chunks, encoded{b.first, b.rows, b.open})
	b.first += int64(b.rows)
	b.rows, b.open = 0, make([]byte, 0, cap(b.open))
}

// value is what the store has of a chunk.
func (c *encoded) value(last bool) []byte {
	v := make([]byte, 0, len(c.body)+24)
	v = append(v, chunkVersion, 0)
	if last {
		v[1] = 1
	}
	v = binary.AppendUvarint(v, uint64(c.first))
	v = binary.AppendUvarint(v, uint64(c.rows))
	return append(v, c.body...)
}

// decoder takes a chunk apart; an error stays.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) number() uint64 {
	n, w := binary.Uvarint(d.b)
	if w <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[w:]
	return n
}

func (d *decoder) fail() {
	d.b, d.err = nil, errors.New("a chunk of the outbox ends in its middle")
}

func (d *decoder) bytes() []byte {
	n := d.number()
	if n == 0 {
		return nil
	}
	if n--; n > uint64(len(d.b)) {
		d.fail()
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

// decode gives a chunk, whose rows point into v.
func decode(v []byte, writers map[string]int) (*Chunk, error) {
	if len(v) < 2 || v[0] != chunkVersion {
		return nil, fmt.Errorf("a chunk of the outbox has not version %d", chunkVersion)
	}
	c := &Chunk{Last: v[1] == 1}
	d := decoder{b: v[2:]}
	c.First = int64(d.number())
	rows := d.number()
	if rows > uint64(len(v)) {
		d.fail()
	}
	for i := uint64(0); i < rows && d.err == nil; i++ {
		var r Out
		name := string(d.bytes())
		w, known := writers[name]
		if !known && d.err == nil {
			return nil, fmt.Errorf("the outbox has rows of %s, which the job has no more: bring it back until they are written", name)
		}
		r.Writer = w
		r.Key, r.Value = d.bytes(), d.bytes()
		t, n := binary.Varint(d.b)
		if n <= 0 {
			d.fail()
			break
		}
		d.b = d.b[n:]
		r.Time, r.ID = t, d.bytes()
		for n := d.number(); n > 0 && d.err == nil; n-- {
			r.Headers = append(r.Headers, record.Header{Key: string(d.bytes()), Value: d.bytes()})
		}
		for n := d.number(); n > 0 && d.err == nil; n-- {
			r.Derived = append(r.Derived, d.bytes())
		}
		c.Rows = append(c.Rows, r)
	}
	if d.err == nil && len(d.b) > 0 {
		d.fail()
	}
	return c, d.err
}
