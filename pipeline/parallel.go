package pipeline

import (
	"container/heap"
	"time"

	"github.com/cenkalti/backoff/v5"

	"keystone/configs"
	"keystone/sinks"
)

// orderOf is the order that a route's worker keeps. A sink with checkpoints is always written in
// that of the partition: what it holds at a checkpoint must be what the stored position says, and
// it writes one batch after the other anyway. So is a transaction, which must hold all of what lies
// before its positions and nothing else. Hence Worker.barrier is never up for a parallel lane.
func orderOf(r *configs.Route, s sinks.Sink) configs.Order {
	if _, ok := s.(sinks.Chained); ok {
		return configs.OrderPartition // a cut needs a position with everything before it and nothing behind
	}
	if _, ok := s.(sinks.Checkpointer); ok || r.Delivery.Guarantee == configs.ExactlyOnce {
		return configs.OrderPartition
	}
	if r.Order != "" {
		return r.Order
	}
	if d, ok := s.(sinks.DefaultOrder); ok {
		return configs.Order(d.DefaultOrder())
	}
	return configs.OrderPartition
}

// parallel writes the tasks of a lane with several writers, for order "none" and "key". All
// of it is guarded by Worker.mu.
//
// With "none" a shipment is the output of one task, and shipments know nothing of each other. With
// "key" the outputs of a task are dealt to slots by a hash of their keys, and a slot has one
// shipment at a time: what waits in it, of one task or of several. A shipment that
// failed waits for its time in failing and keeps its slot, so whatever has the same key stays behind
// it, and nothing else does.
//
// Tasks are still admitted in the order of the partition, by one runner at a time: it is where
// at_most_once commits, and where a lane that stops before a record stops writing. They may finish in any order:
// the ledger takes them off the front, and prefix looks into the oldest one.
type parallel struct {
	lane      *lane
	slots     []slot  // of order key
	runnable  []*slot // that have segments and no shipment, the longest waiting first
	queued    int     // segments in slots
	underway  []*shipment
	failing   dueHeap
	timer     *time.Timer // for the first of failing
	spare     []*shipment
	lettering bool // a runner writes dead letters
	ended     bool // the lane is to stop before a record: nothing after it is begun

	// silent counts answers in a row in which no record got an outcome. When that many, and as many
	// shipments fail as may be written at once, the destination is taken to be away. Then one write at
	// a time tries, not before calm, which backs off; and for each that is repeated one may be begun
	// (probe): not everything that comes has to wait because much is stuck.
	silent  int
	probe   bool
	calm    time.Time
	backoff *backoff.ExponentialBackOff
}

// slot is the records of a lane whose keys have the same hash.
type slot struct {
	queue []segment
	bytes []int // of each
	busy  bool  // a shipment of it has no outcome yet
}

// segment is the part of a task's output that is written together.
type segment struct {
	t   *task
	idx []int32 // indexes in out, ascending; nil: all of it
}

func newParallel(l *lane) *parallel {
	p := &parallel{lane: l}
	if l.w.order == configs.OrderKey {
		p.slots = make([]slot, writesPerLane)
	}
	return p
}

// away tells that the destination seems to take nothing at all.
func (p *parallel) away() bool { return p.silent >= writesPerLane && len(p.failing) >= writesPerLane }

func (p *parallel) mayLetter() bool { return p.lane.attention > 0 && !p.lettering }

func (p *parallel) dueNow() bool { return len(p.failing) > 0 && !p.due().After(time.Now()) }

// due is when the next shipment may be written again. There is one that failed.
func (p *parallel) due() time.Time {
	due := p.failing[0].due
	if p.away() && p.calm.After(due) {
		return p.calm
	}
	return due
}

// mayBegin tells whether one more write may be under way, and a first one.
func (p *parallel) mayBegin() (any, first bool) {
	if p.away() {
		return p.lane.writing == 0, p.lane.writing == 0 && p.probe
	}
	free := p.lane.writing < p.lane.w.window
	return free, free
}

func (p *parallel) mayShip() bool {
	any, first := p.mayBegin()
	return any && p.dueNow() || first && len(p.runnable) > 0
}

func (p *parallel) mayAdmit() bool {
	l := p.lane
	if l.writer || p.ended || l.toWrite() == nil {
		return false
	}
	if p.slots == nil {
		_, first := p.mayBegin()
		return first
	}
	return !l.w.atMostOnce || p.queued < l.w.window // what it admits is never read again
}

func (p *parallel) mayWrite() bool {
	return p.mayLetter() || p.mayShip() || p.mayAdmit()
}

// write does the most urgent thing that there is to write. It is called with mu
// held, by any runner, and gives mu up for foreign calls.
func (p *parallel) write() {
	l := p.lane
	switch {
	case p.mayLetter():
		p.lettering = true
		l.calling++
		l.kick()
		l.sendLetters(l.withLetters())
		l.calling--
		p.lettering = false
	case p.mayShip():
		p.ship(p.next())
	case p.mayAdmit():
		l.writer = true
		s := p.admit()
		l.writer = false
		if s != nil {
			p.ship(s)
		}
	}
}

// next gives the shipment that is to be written now: one that failed and is due, else a new one.
func (p *parallel) next() *shipment {
	if p.dueNow() {
		p.probe = true
		if p.away() {
			if p.backoff == nil {
				p.backoff = newBackoff(p.lane.w.plan.Load().retry)
			}
			p.calm = time.Now().Add(p.backoff.NextBackOff())
		}
		s := heap.Pop(&p.failing).(*shipment)
		p.arm()
		return s
	}
	p.probe = false
	k := p.runnable[0]
	p.runnable = append(p.runnable[:0], p.runnable[1:]...)
	return p.collect(k)
}

// admit takes the next task in order. With order none it gives its output as a shipment.
func (p *parallel) admit() *shipment {
	l := p.lane
	t := l.toWrite()
	empty := len(t.out.Records) == 0
	if !l.cleared {
		if l.clear(); l.dead() {
			return nil
		}
	}
	if (!empty || len(t.letters) > 0) && !l.told() {
		return nil
	}
	if l.w.atMostOnce && !l.claim(t, empty && len(t.letters) == 0) {
		return nil
	}
	l.writeSeq++
	p.ended = p.ended || t.halt != nil
	t.attend()
	switch {
	case empty:
		l.settle()
	case p.slots == nil:
		p.probe = false
		t.open++
		s := p.shipment(nil)
		s.segs = append(s.segs, segment{t: t})
		return s
	default:
		p.deal(t)
	}
	return nil
}

// deal puts the outputs of a task into the queues of their slots.
func (p *parallel) deal(t *task) {
	first := int32(0)
	for i, end := range t.ends {
		if end > first {
			k := &p.slots[i]
			if len(k.queue) == 0 && !k.busy {
				p.runnable = append(p.runnable, k)
			}
			k.queue = append(k.queue, segment{t, t.bySlot[first:end:end]})
			k.bytes = append(k.bytes, t.slotBytes[i])
			p.queued++
			t.open++
		}
		first = end
	}
}

// collect makes a shipment of what waits in a slot, as much as one batch may have.
func (p *parallel) collect(k *slot) *shipment {
	want := p.lane.w.plan.Load().want
	records, bytes, n := len(k.queue[0].idx), k.bytes[0], 1
	for n < len(k.queue) && records+len(k.queue[n].idx) <= or(want.Records, shipRecords) && bytes+k.bytes[n] <= or(want.Bytes, shipBytes) {
		records, bytes, n = records+len(k.queue[n].idx), bytes+k.bytes[n], n+1
	}
	s := p.shipment(k)
	s.segs = append(s.segs, k.queue[:n]...)
	rest := copy(k.queue, k.queue[n:])
	clear(k.queue[rest:])
	k.queue, k.bytes = k.queue[:rest], append(k.bytes[:0], k.bytes[n:]...)
	p.queued -= n
	k.busy = true
	return s
}

// what one write takes where the route does not say.
const (
	shipRecords = 10_000
	shipBytes   = 1 << 20
)

// firstOpen gives the first source record of the lane's oldest task that is in a segment without outcome.
// The oldest task is in front of every queue and shipment that has something of it.
func (p *parallel) firstOpen(t *task) int32 {
	first := int32(t.end)
	look := func(g segment) {
		switch {
		case g.t != t:
		case g.idx == nil:
			first = 0
		default:
			first = min(first, t.out.Records[g.idx[0]].Source)
		}
	}
	for i := range p.slots {
		if q := p.slots[i].queue; len(q) > 0 {
			look(q[0])
		}
	}
	for _, s := range p.underway {
		look(s.segs[0])
	}
	for _, s := range p.failing {
		look(s.segs[0])
	}
	return first
}

// arm sets the timer for the first shipment that waits.
func (p *parallel) arm() {
	if len(p.failing) == 0 {
		return
	}
	d := time.Until(p.due())
	if p.timer == nil {
		p.timer = time.AfterFunc(d, p.wake)
		return
	}
	p.timer.Reset(d)
}

func (p *parallel) wake() {
	w := p.lane.w
	w.mu.Lock()
	if !p.lane.dead() {
		if !p.dueNow() {
			p.arm()
		}
		p.lane.kick()
	}
	w.unlock()
}

// hasten makes all that failed due: the destination answers again, or there is another policy.
func (p *parallel) hasten() {
	now := time.Now()
	p.silent, p.calm, p.backoff = 0, time.Time{}, nil
	for _, s := range p.failing {
		s.due = now // equal ones are a heap
	}
	p.arm()
}

// anew has everything that failed tried again now, and then by the policy that is now the plan's.
func (p *parallel) anew() {
	for _, s := range p.failing {
		s.backoff = nil
	}
	p.hasten()
}

// forget drops what waits: the lane's tasks are given up.
func (p *parallel) forget() {
	if p.timer != nil {
		p.timer.Stop()
	}
	clear(p.slots)
	p.runnable, p.failing, p.spare, p.queued = nil, nil, nil, 0
}

// show makes the lane's state that of the shipment that was tried most often.
func (p *parallel) show() {
	l := p.lane
	for _, list := range [][]*shipment{p.failing, p.underway} {
		for _, s := range list {
			if s.err != nil && (l.err == nil || s.tries > l.attempt) {
				l.err, l.attempt, l.wait = s.err, s.tries, Retrying
			}
		}
	}
}

// dueHeap has shipments that failed, the one that is due first in front.
type dueHeap []*shipment

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h dueHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *dueHeap) Push(x any)        { *h = append(*h, x.(*shipment)) }
func (h *dueHeap) Pop() any {
	old := *h
	s := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return s
}
