//go:build synctests

package sim

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"keystone/configs"
	"keystone/pipeline/record"
	"keystone/sources"
	sourcekafka "keystone/sources/kafka"
)

// A process whose network fails gives up its partitions before anybody takes them: the client
// library ends its session when heartbeats fail a few times in a row. The fault was charged to
// what was in flight when it began. What the process had fetched by then it may read,
// and write, until it gives up; no message says when that is, so the source's listener does.
//
// That is charged only where the network, or an answer of the group, gave cause. A process that
// gives partitions up without one repeats without need, and the oracle says so.

// giving is a source that tells the oracle what its process gives up.
type giving struct {
	*sourcekafka.Source
	p *process
}

// Open puts itself between the source and the worker.
func (g giving) Open(ctx context.Context, from []record.Position, l sources.Listener) error {
	return g.Source.Open(ctx, from, losing{l, g.p})
}

type losing struct {
	sources.Listener
	p *process
}

// Revoked comes in good order: what is on its way arrives before another begins.
func (l losing) Revoked(ctx context.Context, parts []int32) {
	l.Listener.Revoked(ctx, parts)
	l.p.link.release(parts)
}

// Lost charges what is in flight, and is heard by the worker then.
func (l losing) Lost(parts []int32) {
	l.p.m.w.lost(l.p, parts)
	l.p.m.w.late(l.p, parts)
	l.Listener.Lost(parts)
}

// lost charges what a process in trouble has in flight of partitions that it gives up. What was charged since
// the trouble began is not charged again: until it is over the process gets no partitions, so it gives none up twice.
func (w *world) lost(p *process, parts []int32) {
	since := p.link.troubledSince()
	if since == 0 {
		return
	}
	next := map[int32]int64{}
	for _, l := range p.worker.Stats().Lanes {
		next[l.Partition] = l.Next.Offset
	}
	w.o.mu.Lock()
	defer w.o.mu.Unlock()
	for _, part := range parts {
		for _, e := range w.o.logs[part] {
			if e.offset < next[part] && e.marked < since && w.o.uncommitted(e) {
				w.o.charge(e)
			}
		}
	}
}

// uncommitted tells whether a record that was read may be read again, or with at_most_once be lost.
func (o *oracle) uncommitted(e *entry) bool {
	return e.offset >= o.committed[e.part] || o.guarantee == configs.AtMostOnce && !e.sinkHas && !e.lettersHave
}

// charge counts a fault against a record.
func (o *oracle) charge(e *entry) {
	e.risk++
	e.marked = o.marks
}

// marked tells how often everything in flight was charged.
func (o *oracle) marked() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.marks
}

// troubled notes that a fault keeps the process from its group. It was charged to all that was in flight.
func (l *link) troubled() {
	marks := l.w.o.marked()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.troubledLocked(marks)
}

// refused notes that the process was told so by the group, which nobody has charged yet.
func (l *link) refused() {
	marks := l.w.o.marked() + 1
	l.mu.Lock()
	defer l.mu.Unlock()
	l.troubledLocked(marks)
}

func (l *link) troubledLocked(marks int) {
	if l.trouble == 0 {
		l.trouble = max(marks, 1)
	}
}

// well notes that the group has answered the process.
func (l *link) well() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.frozen && !l.down {
		l.trouble = 0
	}
}

// troubledSince gives the number of the charge since which a living process has trouble, 0: it has none.
func (l *link) troubledSince() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		return 0
	}
	return l.trouble
}

// offsetFetchCode gives the first error of an answer, which ends a session as that of a heartbeat does.
func offsetFetchCode(resp *kmsg.OffsetFetchResponse) int16 {
	if resp.ErrorCode != 0 {
		return resp.ErrorCode
	}
	for _, g := range resp.Groups {
		if g.ErrorCode != 0 {
			return g.ErrorCode
		}
	}
	return 0
}
