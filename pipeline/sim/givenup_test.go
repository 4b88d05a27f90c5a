//go:build synctests

package sim

import (
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kfake"

	"keystone/configs"
)

// A process that was silent for longer than its session does not know that the group has given it up. Until it
// hears so it reads and writes what another has by then, and no fault of the time before was charged to what it reads
// only now. So what it writes meanwhile is charged when it is written, and what is on its way when it gives its
// partitions up is charged then: that may be long after the next owner has committed it.
//
// It hears so in one of two ways. A heartbeat is refused, and the library gives all partitions up at once. Or it asks to
// join, is refused, joins as somebody new, and keeps its partitions until it is told of those that it has now.

// givenUp looks for processes that the group has given up and that have not heard of it: a
// heartbeat found no coordinator, or a JoinGroup waits for an answer that never comes (the
// embedded broker ends the session of a member that waits, without a word). Such a
// process keeps its partitions, and who gets them repeats what it has in flight.
func (w *world) givenUp() {
	for _, l := range w.links() {
		if id := l.believes(); id != "" && !w.groupHas(id) && l.forget() {
			w.fault("given up unheard", "%s", l.name)
		}
	}
}

// unheard counts a fault against what a process writes after the group gave it up, until it
// hears so. One that has heard, or left by its own will, gets no mercy.
func (w *world) unheard(l *link, ids []string) {
	id := l.believes()
	if id == "" || w.groupHas(id) && !l.keeps() {
		return
	}
	w.givenUp()
	w.o.mu.Lock()
	defer w.o.mu.Unlock()
	for _, id := range ids {
		w.o.byID[id].risk++
	}
}

// late counts a fault against what a process that the group gave up has read since, and that is on
// its way when it gives partitions up, or dies. What it had read before was charged when it was given up.
func (w *world) late(p *process, parts []int32) {
	if w.s.guarantee != configs.AtLeastOnce {
		return // the others repeat nothing, and lose nothing by this
	}
	kept := p.link.release(parts)
	if len(kept) == 0 {
		return
	}
	lanes := p.worker.Stats().Lanes
	w.o.mu.Lock()
	defer w.o.mu.Unlock()
	for i := range lanes {
		l := &lanes[i]
		from, ok := kept[l.Partition]
		if !ok {
			continue
		}
		for _, e := range w.o.logs[l.Partition] {
			if e.offset >= max(from, l.Finished.Offset) && e.offset < l.Next.Offset {
				e.risk++
			}
		}
	}
}

// links gives those of the processes that run.
func (w *world) links() []*link {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.wires)
}

// groupHas tells whether the broker counts a member to the group.
func (w *world) groupHas(id string) bool {
	g := w.cluster.GroupInfo(w.o.group)
	return g != nil && slices.ContainsFunc(g.Members, func(m kfake.GroupMember) bool { return m.MemberID == id })
}

// forget notes that the group has given the member up, and how far the process had read; true: it is new.
func (l *link) forget() bool {
	next := map[int32]int64{}
	for _, lane := range l.worker.Stats().Lanes {
		next[lane.Partition] = lane.Next.Offset
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.forgot
	if l.forgot = true; !was {
		l.kept = next
	}
	return !was
}

// keeps tells that the process has partitions from the time before it was given up.
func (l *link) keeps() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.kept) > 0
}

// release notes that the process gives partitions up, and gives how far it had read those when the group gave it up.
func (l *link) release(parts []int32) map[int32]int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := map[int32]int64{}
	for _, p := range parts {
		if next, ok := l.kept[p]; ok {
			kept[p] = next
			delete(l.kept, p)
		}
	}
	return kept
}

// parts gives the partitions that the process keeps from the time before it was given up.
func (l *link) parts() []int32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Keys(l.kept))
}
