package pipeline

import "github.com/cespare/xxhash/v2"

// grouped has which outputs of a task go to which slot of its lane.
type grouped struct {
	bySlot    []int32              // indexes in out, by slot, ascending in each
	ends      [writesPerLane]int32 // where each slot ends in bySlot
	slotBytes [writesPerLane]int   // of keys and values
	slotOf    []uint8              // by index in out
}

// slotOf gives the slot of a key. All records without a key have the same, and so stay in order.
func slotOf(key []byte) uint8 { return uint8(xxhash.Sum64(key) % writesPerLane) }

// group sorts the outputs by slot. It is part of evaluation.
func (t *task) group() {
	records := t.out.Records
	g := &t.grouped
	g.ends, g.slotBytes = [writesPerLane]int32{}, [writesPerLane]int{}
	g.slotOf = g.slotOf[:0]
	for i := range records {
		k := slotOf(records[i].Key)
		g.slotOf = append(g.slotOf, k)
		g.ends[k]++
		g.slotBytes[k] += len(records[i].Key) + len(records[i].Value)
	}
	at := int32(0)
	var next [writesPerLane]int32
	for k, n := range g.ends {
		next[k] = at
		at += n
		g.ends[k] = at
	}
	if cap(g.bySlot) < len(records) {
		g.bySlot = make([]int32, len(records))
	}
	g.bySlot = g.bySlot[:len(records)]
	for i, k := range g.slotOf {
		g.bySlot[next[k]] = int32(i)
		next[k]++
	}
}
