package job

import (
	"math"

	"keystone/pipeline/job/agg"
)

// Ends of time. A watermark of endOfTime says that nothing comes any more.
const (
	beginOfTime = math.MinInt64
	endOfTime   = math.MaxInt64
)

// packetBytes is how much a packet holds before it is sent within a batch of the sender.
const packetBytes = 64 << 10

// head is a row on its way through a shuffle. Its key and payload are in the packet's arena.
type head struct {
	time, mark int64
	tie        agg.Tie
	space      int64  // what the sender computed of time: the start of the window
	key        uint32 // in the arena: key is arena[key:payload], payload arena[payload:end]
	payload    uint32
	end        uint32
	group      uint16
	side       uint8
}

// packet is rows of one sender for one task of an operator, then its watermark. A barrier comes alone.
type packet struct {
	from    int // which of the receiver's senders
	heads   []head
	arena   []byte
	mark    int64
	barrier bool
	home    *pool
}

// size is what the packet takes of the bound of a queue.
func (p *packet) size() int { return len(p.arena) + len(p.heads)*96 }

func (p *packet) key(h *head) []byte  { return p.arena[h.key:h.payload:h.payload] }
func (p *packet) load(h *head) []byte { return p.arena[h.payload:h.end:h.end] }

// pool keeps the packets of one sender and receiver for reuse.
type pool struct{ free chan *packet }

func newPool() *pool { return &pool{make(chan *packet, 4)} }

func (o *pool) get(from int) *packet {
	select {
	case p := <-o.free:
		p.heads, p.arena, p.barrier = p.heads[:0], p.arena[:0], false
		return p
	default:
		return &packet{from: from, home: o}
	}
}

func (p *packet) release() {
	if cap(p.arena) > 4*packetBytes {
		return
	}
	select {
	case p.home.free <- p:
	default:
	}
}

// before gives t - d, and the ends of time as they are.
func before(t, d int64) int64 {
	switch {
	case t == endOfTime || t == beginOfTime:
		return t
	case d > 0 && t < beginOfTime+d:
		return beginOfTime
	}
	return t - d
}

// after gives t + d, at most the end of time.
func after(t, d int64) int64 {
	switch {
	case t == endOfTime || t == beginOfTime:
		return t
	case d > 0 && t > endOfTime-d:
		return endOfTime
	}
	return t + d
}
