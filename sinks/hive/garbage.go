package hive

import (
	"runtime"
	"runtime/metrics"
)

// Go lets the heap grow to twice of what lives, so that half a GiB of open files would take one. Their buffers hold
// no pointers, and a collection of them is cheap; so one is begun sooner, when so much may be garbage:
// a quarter of max_open_bytes, but not less than garbageLeast.
const garbageLeast = 32 << 20

// collect begins a collection where open files take much of their bound, or did when the last one was begun, and much may
// be garbage. It waits for nothing.
func (s *Sink) collect() {
	held := s.held.Load()
	if max(held, s.heldThen.Load()) < s.cfg.MaxOpenBytes/2 || s.collecting.Load() {
		return
	}
	if fresh() < uint64(max(s.cfg.MaxOpenBytes/4, garbageLeast)) || !s.collecting.CompareAndSwap(false, true) {
		return
	}
	s.heldThen.Store(held)
	s.wg.Go(func() {
		runtime.GC()
		s.collecting.Store(false)
	})
}

// fresh is how much was allocated since the last collection found what lives.
func fresh() uint64 {
	m := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(m)
	have, live := m[0].Value.Uint64(), m[1].Value.Uint64()
	return have - min(live, have)
}
