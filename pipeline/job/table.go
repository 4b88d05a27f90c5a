package job

import (
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"

	"keystone/pipeline/state"
)

// The tables of an operator in the store. Behind the operator's id, big-endian:
//
//	1  start of the window or 0, key group, key → value
//	2  time at which the key wants attention, key group, key → nothing
//
// Times have their sign bit turned over, so that keys are in their order.
const (
	tableValues = 1
	tableTimers = 2
)

// value is what is kept for a key.
type value interface {
	append(dst []byte) []byte
	size() int
}

// table is the state of an operator in a task: by window and key, in memory as far as it is used, and in the store as it was at the
// last epoch. What is in memory counts.
type table[V value] struct {
	t       *task
	decode  func(b []byte) (V, error)
	fresh   func() V
	spaces  map[int64]*space[V]
	dirty   []*entry[V]
	dead    []*entry[V]     // removed, until that is committed
	dropped map[int64]int64 // windows that are gone: in which epoch that was said to the store; -1: not yet
	timers  timers[V]
	stored  int64 // no timer of what is not in memory is before that
	buf     []byte
	name    []byte
	seq     int64 // of the last snapshot
	last    *space[V]
}

// space is the keys of a window.
type space[V value] struct {
	start   int64
	entries map[string]*entry[V]
	whole   bool // nothing of it is in the store alone
	fired   bool
}

// entry is the state of a key.
type entry[V value] struct {
	v       V
	space   *space[V]
	group   uint16
	key     string
	due     int64 // when it wants attention; the end of time: never
	kept    int64 // the timer in the store
	queued  int64 // its place among the timers in memory, at or before due; the end of time: it has none
	bytes   int
	seq     int64 // of the last snapshot that it was in
	changed bool
	dead    bool
	inStore bool
	used    bool
	touched bool // in the operator's list of what to give
}

const entryBytes = 160

func newTable[V value](t *task, fresh func() V, decode func(b []byte) (V, error)) *table[V] {
	s := &table[V]{t: t, fresh: fresh, decode: decode, spaces: map[int64]*space[V]{}, dropped: map[int64]int64{}, stored: endOfTime}
	t.mem.tables = append(t.mem.tables, s)
	return s
}

func flip(t int64) uint64   { return uint64(t) ^ 1<<63 } //nolint:gosec // bits
func unflip(u uint64) int64 { return int64(u ^ 1<<63) }  //nolint:gosec // bits

func (s *table[V]) prefix(kind byte, at int64) []byte {
	s.buf = append(binary.BigEndian.AppendUint16(s.buf[:0], s.t.n.id), kind)
	s.buf = binary.BigEndian.AppendUint64(s.buf, flip(at))
	return s.buf
}

func (s *table[V]) storeKey(kind byte, at int64, group uint16, key string) []byte {
	s.prefix(kind, at)
	s.buf = binary.BigEndian.AppendUint16(s.buf, group)
	s.buf = append(s.buf, key...)
	return s.buf
}

// groups gives the bounds of a window's keys that the task owns.
func (s *table[V]) groups(start int64) (lo, hi []byte) {
	first, end := s.t.j.groupsOf(s.t.index)
	p := s.prefix(tableValues, start)
	lo = binary.BigEndian.AppendUint16(append([]byte(nil), p...), uint16(first)) //nolint:gosec // below the number of groups
	hi = binary.BigEndian.AppendUint16(append([]byte(nil), p...), uint16(end))   //nolint:gosec // the same
	return lo, hi
}

var errEnough = errors.New("enough")

// open finds the windows that the store has something of.
func (s *table[V]) open() error {
	at := int64(beginOfTime)
	end := append(binary.BigEndian.AppendUint16(nil, s.t.n.id), tableValues+1)
	for {
		var found []byte
		lo := append([]byte(nil), s.prefix(tableValues, at)...)
		err := s.t.j.spec.Store.Scan(lo, end, func(k, _ []byte) error {
			found = append([]byte(nil), k...)
			return errEnough
		})
		if err != nil && !errors.Is(err, errEnough) {
			return fmt.Errorf("read the state: %w", err)
		}
		if found == nil {
			break
		}
		at = unflip(binary.BigEndian.Uint64(found[3:]))
		s.spaces[at] = &space[V]{start: at, entries: map[string]*entry[V]{}}
		if at == endOfTime {
			break
		}
		at++
	}
	s.stored = beginOfTime
	return nil
}

// at gives the keys of a window.
func (s *table[V]) at(start int64) *space[V] {
	if s.last != nil && s.last.start == start {
		return s.last
	}
	p := s.spaces[start]
	if p == nil {
		p = &space[V]{start: start, entries: map[string]*entry[V]{}, whole: true}
		s.spaces[start] = p
	}
	s.last = p
	return p
}

// get gives the entry of a key, a new one if there is none.
func (s *table[V]) get(p *space[V], group uint16, key []byte) (*entry[V], bool, error) {
	e, err := s.find(p, group, key)
	if err != nil || e != nil && !e.dead {
		return e, false, err
	}
	if e == nil {
		e = &entry[V]{space: p, group: group, key: string(key), due: endOfTime, kept: endOfTime, queued: endOfTime, seq: -1}
		p.entries[e.key] = e
		e.bytes = entryBytes + len(key)
		s.t.mem.used += int64(e.bytes)
	}
	e.v, e.dead, e.due = s.fresh(), false, endOfTime
	return e, true, nil
}

// find gives the entry of a key, dead ones too; nil if there is none.
func (s *table[V]) find(p *space[V], group uint16, key []byte) (*entry[V], error) {
	if e := p.entries[string(key)]; e != nil {
		e.used = true
		return e, nil
	}
	if p.whole {
		return nil, nil
	}
	s.name = append(s.name[:0], key...)
	b, ok, err := s.t.j.spec.Store.Get(s.storeKey(tableValues, p.start, group, string(key)))
	if err != nil {
		return nil, fmt.Errorf("read the state: %w", err)
	}
	if !ok {
		return nil, nil
	}
	return s.load(p, group, string(key), b)
}

// load puts what the store has of a key into memory. Its timer, if it has one, is told by the operator's decoding.
func (s *table[V]) load(p *space[V], group uint16, key string, b []byte) (*entry[V], error) {
	due := unflip(binary.BigEndian.Uint64(b))
	v, err := s.decode(b[8:])
	if err != nil {
		return nil, fmt.Errorf("the state of %s: %w", s.t.n.name(), err)
	}
	e := &entry[V]{v: v, space: p, group: group, key: key, due: due, kept: due, queued: due, seq: -1, inStore: true, used: true}
	e.bytes = entryBytes + len(key) + v.size()
	s.t.mem.used += int64(e.bytes)
	p.entries[key] = e
	if due != endOfTime {
		heap.Push(&s.timers, timer[V]{due, e})
	}
	return e, nil
}

// change says that an entry is not what it was at the last epoch.
func (s *table[V]) change(e *entry[V]) {
	if !e.changed {
		e.changed = true
		s.dirty = append(s.dirty, e)
	}
}

// resize takes a change of the size of an entry's value into account.
func (s *table[V]) resize(e *entry[V]) {
	n := entryBytes + len(e.key) + e.v.size()
	s.t.mem.used += int64(n - e.bytes)
	e.bytes = n
}

// wake has an entry be given to due's caller at a time.
func (s *table[V]) wake(e *entry[V], at int64) {
	e.due = at
	if at < e.queued {
		e.queued = at
		heap.Push(&s.timers, timer[V]{at, e})
	}
}

// remove takes an entry away.
func (s *table[V]) remove(e *entry[V]) {
	e.due = endOfTime
	if !e.inStore && e.seq < 0 {
		s.forget(e)
		e.dead = true
		return
	}
	e.dead = true
	s.change(e)
}

// forget takes an entry out of memory.
func (s *table[V]) forget(e *entry[V]) {
	if e.space.entries[e.key] == e {
		delete(e.space.entries, e.key)
		s.t.mem.used -= int64(e.bytes)
	}
}

// drop takes a window away.
func (s *table[V]) drop(p *space[V]) {
	for _, e := range p.entries {
		s.t.mem.used -= int64(e.bytes)
		e.dead, e.changed = true, false
	}
	written := !p.whole
	for _, e := range p.entries {
		written = written || e.inStore || e.seq >= 0
	}
	p.entries = nil
	delete(s.spaces, p.start)
	if s.last == p {
		s.last = nil
	}
	if written {
		s.dropped[p.start] = -1
	}
}

// each gives all entries of a window. What is not in memory is not put there.
func (s *table[V]) each(p *space[V], f func(e *entry[V]) error) error {
	for _, e := range p.entries {
		if !e.dead {
			if err := f(e); err != nil {
				return err
			}
		}
	}
	if p.whole {
		return nil
	}
	if at, ok := s.dropped[p.start]; ok && at > s.t.j.committed.Load() {
		return nil
	}
	lo, hi := s.groups(p.start)
	return s.t.j.spec.Store.Scan(lo, hi, func(k, b []byte) error {
		if p.entries[string(k[13:])] != nil {
			return nil
		}
		v, err := s.decode(b[8:])
		if err != nil {
			return fmt.Errorf("the state of %s: %w", s.t.n.name(), err)
		}
		return f(&entry[V]{v: v, space: p, group: binary.BigEndian.Uint16(k[11:]), key: string(k[13:]), due: unflip(binary.BigEndian.Uint64(b)), queued: endOfTime, seq: -1, inStore: true})
	})
}

// dueBy calls f for the entries that want attention at or before m. f wakes them again, or removes them, or neither.
func (s *table[V]) dueBy(m int64, f func(e *entry[V]) error) error {
	for {
		if err := s.loadDue(m); err != nil {
			return err
		}
		if len(s.timers) == 0 || s.timers[0].at > m {
			return nil
		}
		for len(s.timers) > 0 && s.timers[0].at <= m {
			t := heap.Pop(&s.timers).(timer[V])
			if t.e.queued != t.at || t.e.space.entries[t.e.key] != t.e {
				continue
			}
			t.e.queued = endOfTime
			if t.e.dead || t.e.due > m {
				s.wake(t.e, t.e.due)
				continue
			}
			t.e.due = endOfTime
			s.change(t.e)
			if err := f(t.e); err != nil {
				return err
			}
		}
	}
}

// dueMax is how many keys are read from the store at once because of their timers.
const dueMax = 10000

// loadDue reads the keys whose timers in the store have come.
func (s *table[V]) loadDue(m int64) error {
	if s.stored > m || m == beginOfTime {
		return nil
	}
	type found struct {
		group uint16
		key   string
	}
	var list []found
	first, end := s.t.j.groupsOf(s.t.index)
	p := s.at(0)
	next := int64(endOfTime)
	lo := append([]byte(nil), s.prefix(tableTimers, s.stored)...)
	hi := append(binary.BigEndian.AppendUint16(nil, s.t.n.id), tableTimers+1)
	err := s.t.j.spec.Store.Scan(lo, hi, func(k, _ []byte) error {
		at, group := unflip(binary.BigEndian.Uint64(k[3:])), binary.BigEndian.Uint16(k[11:])
		if int(group) < first || int(group) >= end || p.entries[string(k[13:])] != nil {
			return nil
		}
		if at > m || len(list) >= dueMax {
			next = at
			return errEnough
		}
		list = append(list, found{group, string(k[13:])})
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return fmt.Errorf("read the state: %w", err)
	}
	for _, f := range list {
		if _, err := s.find(p, f.group, []byte(f.key)); err != nil {
			return err
		}
	}
	s.stored = next
	return nil
}

// snapshot writes what changed since the last one.
func (s *table[V]) snapshot(b *state.Batch) {
	s.seq++
	done := s.t.j.committed.Load()
	for start, at := range s.dropped {
		switch {
		case at < 0:
			lo, hi := s.groups(start)
			b.DeleteRange(lo, hi)
			s.dropped[start] = s.seq
		case at <= done:
			delete(s.dropped, start)
		}
	}
	keep := s.dead[:0]
	for _, e := range s.dead {
		switch {
		case !e.dead:
		case e.seq <= done:
			s.forget(e)
		default:
			keep = append(keep, e)
		}
	}
	clear(s.dead[len(keep):])
	s.dead = keep
	var buf []byte
	for i, e := range s.dirty {
		s.dirty[i] = nil
		if !e.changed {
			continue // its window was dropped
		}
		e.changed, e.seq = false, s.seq
		if e.kept != endOfTime && e.kept != e.due {
			b.Delete(s.storeKey(tableTimers, e.kept, e.group, e.key))
		}
		if e.due != endOfTime && e.kept != e.due {
			b.Set(s.storeKey(tableTimers, e.due, e.group, e.key), nil)
		}
		e.kept = e.due
		key := s.storeKey(tableValues, e.space.start, e.group, e.key)
		if e.dead {
			b.Delete(key)
			e.inStore = false
			s.dead = append(s.dead, e)
			continue
		}
		buf = binary.BigEndian.AppendUint64(buf[:0], flip(e.due))
		buf = e.v.append(buf)
		b.Set(key, buf)
		e.inStore = true
		s.resize(e)
	}
	s.dirty = s.dirty[:0]
}

// evict takes entries that the store has as they are out of memory, those first that were not used since the last time.
func (s *table[V]) evict(target int64) {
	done := s.t.j.committed.Load()
	for range 2 {
		for _, p := range s.spaces {
			for _, e := range p.entries {
				if s.t.mem.used <= target {
					return
				}
				if e.changed || e.dead || e.touched || e.seq > done {
					continue
				}
				if e.used {
					e.used = false
					continue
				}
				p.whole = false
				s.stored = min(s.stored, e.due)
				s.forget(e)
				s.t.j.evictions.Add(1)
			}
		}
	}
}

// timer is when an entry wants attention; it is void when the entry has another time by then.
type timer[V value] struct {
	at int64
	e  *entry[V]
}

// timers is a heap by time.
type timers[V value] []timer[V]

func (h timers[V]) Len() int           { return len(h) }
func (h timers[V]) Less(i, k int) bool { return h[i].at < h[k].at }
func (h timers[V]) Swap(i, k int)      { h[i], h[k] = h[k], h[i] }

// Push implements heap.Interface.
func (h *timers[V]) Push(x any) { *h = append(*h, x.(timer[V])) }

// Pop implements heap.Interface.
func (h *timers[V]) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = timer[V]{}
	*h = old[:len(old)-1]
	return t
}
