package job

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"keystone/configs"
	"keystone/dsl/eval"
	"keystone/pipeline/job/agg"
	"keystone/pipeline/job/commit"
	"keystone/pipeline/record"
	"keystone/pipeline/state"
)

// errEnded is a task whose queue was ended, as the run is over.
var errEnded = errors.New("the run is over")

// body is what a keyed operator does with what its task is sent. One goroutine calls it.
type body interface {
	// open restores what must be known before the first row; the watermark was m.
	open(m int64) error
	add(p *packet, h *head) error
	// advance is told of the operator's watermark, which only grows.
	advance(m int64) error
	// flush comes after each packet: rows that changed are given.
	flush() error
	// snapshot writes what changed since the last one.
	snapshot(b *state.Batch)
}

// task is one of the tasks of a node.
type task struct {
	j      *Job
	n      *node
	index  int
	in     *queue[*packet] // of a keyed operator
	front  *front          // of a read or a table
	body   body
	scopes []*scope
	rows   *scope // the operator's own rows
	outs   []*outlet
	marks  []int64 // of senders
	mark   int64   // the least of them
	sent   int64   // the watermark that was forwarded
	lag    int64   // how far that is behind mark
	hold   bool    // nothing is forwarded before the end
	outRow []commit.Out
	outMem arena
	met    int // barriers of the epoch
	made   record.Record
	id     []byte
	mem    *memory
}

func newTask(j *Job, n *node, i int) *task {
	t := &task{j: j, n: n, index: i, mark: beginOfTime, sent: beginOfTime}
	for range n.ups {
		for range j.tasks {
			t.marks = append(t.marks, beginOfTime)
		}
	}
	if n.reads() {
		t.front = newFront(t)
	} else {
		t.in = newQueue[*packet](1 << 20)
	}
	return t
}

// open builds what the task does and restores what it must know.
func (t *task) open() error {
	for _, down := range t.n.downs {
		t.outs = append(t.outs, newOutlet(t, down))
	}
	if t.n.table {
		return t.front.build()
	}
	typ := t.n.op.Output
	var err error
	if t.rows, err = t.buildScope(t.n.op, "", typ); err != nil {
		return err
	}
	if t.front != nil {
		if err := t.front.build(); err != nil {
			return err
		}
	}
	for _, s := range t.scopes {
		if err := s.compile(); err != nil {
			return err
		}
	}
	if t.front != nil {
		return nil
	}
	t.mem = newMemory(t)
	if t.body, err = t.newBody(); err != nil {
		return err
	}
	if m, ok := t.j.meta.Marks[t.n.name()]; ok {
		t.mark = m
		for i := range t.marks {
			t.marks[i] = m
		}
	}
	return t.body.open(t.mark)
}

func (t *task) end() {
	if t.front != nil {
		t.front.in.end()
		return
	}
	t.in.end()
}

func (t *task) run() error {
	if t.front != nil {
		return t.front.run()
	}
	for {
		p, ok := t.in.take()
		if !ok {
			return nil
		}
		if err := t.take(p); err != nil {
			if errors.Is(err, errEnded) {
				return nil
			}
			return err
		}
	}
}

// take does what a packet says.
func (t *task) take(p *packet) error {
	if p.barrier {
		if t.met++; t.met < len(t.marks) {
			return nil
		}
		t.met = 0
		return t.answer()
	}
	c := t.j.graph.counts[t.n.op]
	if t.n.op.Kind != "lookup" {
		c.in.add(int64(len(p.heads)))
	}
	for i := range p.heads {
		if err := t.body.add(p, &p.heads[i]); err != nil {
			return err
		}
	}
	if len(p.heads) > 0 {
		if err := t.body.flush(); err != nil {
			return err
		}
	}
	if p.mark > t.marks[p.from] {
		t.marks[p.from] = p.mark
		if err := t.advance(); err != nil {
			return err
		}
	}
	p.release()
	if err := t.mem.keep(); err != nil {
		return err
	}
	return t.forward()
}

// advance takes the least of the senders' watermarks.
func (t *task) advance() error {
	m := t.marks[0]
	for _, o := range t.marks[1:] {
		m = min(m, o)
	}
	if m <= t.mark {
		return nil
	}
	t.mark = m
	if t.index == 0 {
		t.n.mark.Store(m)
	}
	if err := t.body.advance(m); err != nil {
		return err
	}
	return t.body.flush()
}

// forward sends what waits and the watermark behind it.
func (t *task) forward() error {
	if t.hold && t.mark != endOfTime {
		return t.send(beginOfTime)
	}
	return t.send(before(t.mark, t.lag))
}

func (t *task) send(mark int64) error {
	moved := mark > t.sent
	t.sent = max(t.sent, mark)
	for _, o := range t.outs {
		if err := o.flush(t.sent, moved); err != nil {
			return err
		}
	}
	if t.outMem.size > 0 {
		if t.j.outBytes.Add(int64(t.outMem.take())) > t.j.spec.OutBytes {
			t.j.askEpoch()
		}
	}
	return nil
}

// answer gives the coordinator what changed in the epoch and lets the barrier go on.
func (t *task) answer() error {
	for _, o := range t.outs {
		if err := o.barrier(); err != nil {
			return err
		}
	}
	a := &answer{t: t, out: t.outRow, mark: t.mark}
	t.outRow = nil
	if t.front != nil {
		a.parts = t.front.positions()
	} else {
		a.batch = t.j.spec.Store.NewBatch()
		t.body.snapshot(a.batch)
	}
	t.j.acks <- a // has room for all
	return nil
}

// fail does with a row that cannot be evaluated what the job says.
func (t *task) fail(of *configs.Operator, r *row, e *eval.Error) error {
	c := t.j.graph.counts[of]
	c.failed.add(1)
	switch t.j.cfg.OnError {
	case configs.DropRecord:
		return nil
	case configs.DeadLetter:
		f := Failure{Operator: of.Name(), Topic: r.topic, Partition: r.partition, Record: r.rec, Err: e, Time: t.j.now()}
		if t.front != nil {
			f.Identity = t.front.identity(r.partition)
		}
		out, err := t.j.spec.Letters.Letter(&f)
		if err != nil {
			return fmt.Errorf("dead letter: %w", err)
		}
		t.write(&out)
		return nil
	}
	return fmt.Errorf("%s, partition %d of %q, offset %d: %w", of.Name(), r.partition, r.topic, r.rec.Offset, &eval.Error{Code: e.Code, Text: e.Text, Range: e.Range})
}

// write keeps a copy of a written row for the epoch.
func (t *task) write(o *commit.Out) {
	c := *o
	c.Key, c.Value, c.ID = t.outMem.copy(o.Key), t.outMem.copy(o.Value), t.outMem.copy(o.ID)
	if o.Headers != nil {
		c.Headers = make([]record.Header, len(o.Headers))
		for i, h := range o.Headers {
			c.Headers[i] = record.Header{Key: h.Key, Value: t.outMem.copy(h.Value)}
		}
	}
	if o.Derived != nil {
		c.Derived = make([][]byte, len(o.Derived))
		for i, d := range o.Derived {
			c.Derived[i] = t.outMem.copy(d)
		}
	}
	t.outRow = append(t.outRow, c)
}

// emit gives a row that the operator made to those that read it.
func (t *task) emit(r *row, value []byte) error {
	t.j.graph.counts[t.n.op].out.add(1)
	t.made = record.Record{Value: value, Timestamp: r.time}
	r.rec = &t.made
	return t.rows.row(r)
}

// rowID sets the identity of a row: the operator, the key and a number, of the window or the place.
func (t *task) rowID(r *row, key []byte, n int64) {
	t.id = append(append(t.id[:0], t.n.op.Label...), 0)
	t.id = append(t.id, key...)
	t.id = appendID(t.id, uint64(n)) //nolint:gosec // bits
	r.id = t.id
	r.tie = hashTie(t.id)
}

// hashTie is where a row that an operator made stands among those of its time.
func hashTie(id []byte) agg.Tie {
	h := xxhash.Sum64(id)
	return agg.Tie{Read: ^uint16(0), Partition: int32(h >> 33), Offset: int64(h)} //nolint:gosec // bits
}

func appendID(dst []byte, n uint64) []byte { return binary.BigEndian.AppendUint64(dst, n) }

// arena has the copies of an epoch's rows, in pieces that are not moved.
type arena struct {
	buf  []byte
	size int
}

const arenaBytes = 64 << 10

// copy gives a copy; nil of nil.
func (a *arena) copy(b []byte) []byte {
	if b == nil {
		return nil
	}
	a.size += len(b) + 64
	if len(b) > arenaBytes/4 {
		return append([]byte{}, b...)
	}
	if cap(a.buf)-len(a.buf) < len(b) {
		a.buf = make([]byte, 0, arenaBytes)
	}
	at := len(a.buf)
	a.buf = append(a.buf, b...)
	return a.buf[at:len(a.buf):len(a.buf)]
}

// take gives what was copied since the last call.
func (a *arena) take() int {
	n := a.size
	a.size = 0
	return n
}

// outlet is the way from a task to those of one node.
type outlet struct {
	t     *task
	to    *node
	from  int // this task among the receivers' senders
	pend  []*packet
	pools []*pool
}

func newOutlet(t *task, to *node) *outlet {
	o := &outlet{t: t, to: to, pend: make([]*packet, t.j.tasks)}
	for i, up := range to.ups {
		if up == t.n {
			o.from = i*t.j.tasks + t.index
		}
	}
	for range t.j.tasks {
		o.pools = append(o.pools, newPool())
	}
	return o
}

// add sends a row to the task that owns its key.
func (o *outlet) add(h head, key, load []byte) error {
	h.group = uint16(xxhash.Sum64(key) % uint64(o.t.j.cfg.KeyGroups)) //nolint:gosec // below the number of groups
	i := o.t.j.taskOf(h.group)
	p := o.pend[i]
	if p == nil {
		p = o.pools[i].get(o.from)
		o.pend[i] = p
	}
	h.key = uint32(len(p.arena)) //nolint:gosec // packets are small
	p.arena = append(p.arena, key...)
	h.payload = uint32(len(p.arena)) //nolint:gosec // the same
	p.arena = append(p.arena, load...)
	h.end = uint32(len(p.arena)) //nolint:gosec // the same
	p.heads = append(p.heads, h)
	if len(p.arena)+len(p.heads)*64 < packetBytes {
		return nil
	}
	p.mark = o.t.sent // what is known so far: rows behind it may still be of this batch
	o.pend[i] = nil
	return o.put(i, p)
}

func (o *outlet) put(i int, p *packet) error {
	if !o.to.tasks[i].in.put(p, p.size()) {
		return errEnded
	}
	return nil
}

// flush sends what waits, with the watermark; to all if it moved.
func (o *outlet) flush(mark int64, moved bool) error {
	for i, p := range o.pend {
		if p == nil {
			if !moved {
				continue
			}
			p = o.pools[i].get(o.from)
		}
		p.mark = mark
		o.pend[i] = nil
		if err := o.put(i, p); err != nil {
			return err
		}
	}
	return nil
}

func (o *outlet) barrier() error {
	for i := range o.pend {
		if !o.to.tasks[i].in.force(&packet{from: o.from, barrier: true, home: o.pools[i]}) {
			return errEnded
		}
	}
	return nil
}
