//go:build synctests

package sim

import (
	"context"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"keystone/configs"
)

// befalls are the faults; one is drawn at each step, by weight. One that finds
// nothing to befall returns false, and another is drawn.
var befalls = []struct {
	weight int
	do     func(w *world) bool
}{
	{6, (*world).crash},
	{4, (*world).restart},
	{4, (*world).joinOrLeave},
	{4, (*world).freeze},
	{2, (*world).cut},
	{8, (*world).message},
	{4, (*world).fetchErrors},
	{5, (*world).produceErrors},
	{5, (*world).commitErrors},
	{3, (*world).groupErrors},
	{3, (*world).moveLeaders},
	{2, (*world).moveCoordinators},
	{5, (*world).sinkMood},
	{3, (*world).lettersFail},
	{3, (*world).swap},
	{2, (*world).rewind},
	{1, (*world).grow},
	{1, (*world).remove},
	{1, (*world).pause},
}

func (w *world) befall() {
	total := 0
	for _, b := range befalls {
		total += b.weight
	}
	for range 100 {
		n := w.rng.IntN(total)
		for _, b := range befalls {
			if n -= b.weight; n < 0 {
				if b.do(w) {
					return
				}
				break
			}
		}
	}
}

// someone gives a process that runs, or nil.
func (w *world) someone() *process {
	var ps []*process
	for _, m := range w.members {
		if m.cur != nil && !m.cur.leaving {
			ps = append(ps, m.cur)
		}
	}
	if len(ps) == 0 {
		return nil
	}
	return ps[w.rng.IntN(len(ps))]
}

// crash kills a process. It comes back at once, after a while, or when its session is over.
func (w *world) crash() bool {
	p := w.someone()
	if p == nil {
		return false
	}
	w.fault("crash", "%s", p.name)
	p.m.again = time.Now().Add(pick(w.rng, 0, draw(w.rng, 3*time.Second), 2*w.s.session))
	p.crash()
	return true
}

// restart ends a process in good order and starts it again.
func (w *world) restart() bool {
	p := w.someone()
	if p == nil {
		return false
	}
	w.fault("restart", "%s", p.name)
	p.drain()
	return true
}

// joinOrLeave changes who is in the group.
func (w *world) joinOrLeave() bool {
	m := w.members[w.rng.IntN(len(w.members))]
	running := 0
	for _, o := range w.members {
		if o.wanted {
			running++
		}
	}
	switch {
	case !m.wanted:
		m.wanted = true
		w.fault("join", "%s", m.name)
	case running > 1:
		m.wanted = false
		w.fault("leave", "%s", m.name)
		if m.cur != nil {
			m.cur.drain()
		}
	default:
		return false
	}
	return true
}

// freeze holds all messages of a process back, shorter or longer than its session.
func (w *world) freeze() bool {
	p := w.someone()
	if p == nil {
		return false
	}
	d := pick(w.rng, draw(w.rng, w.s.session/2), w.s.session+draw(w.rng, 2*w.s.session), w.s.session+draw(w.rng, time.Minute))
	w.fault("freeze", "%s for %v", p.name, d)
	p.link.freeze()
	w.later(d, func() {
		w.fault("unfreeze", "%s", p.name)
		p.link.unfreeze()
	})
	return true
}

// cut ends the connections of a process; they may stay refused for a while.
func (w *world) cut() bool {
	p := w.someone()
	if p == nil {
		return false
	}
	w.fault("connections cut", "%s", p.name)
	p.link.cut()
	if w.rng.IntN(2) == 0 {
		d := pick(w.rng, draw(w.rng, 2*w.s.session), draw(w.rng, 3*time.Minute))
		p.link.setDown(true)
		w.later(d, func() {
			w.trace("%s reaches the brokers again", p.name)
			p.link.setDown(false)
		})
	}
	return true
}

// message loses or delays one message of a process.
func (w *world) message() bool {
	p := w.someone()
	if p == nil {
		return false
	}
	keys := []kmsg.Key{kmsg.Produce, kmsg.Produce, kmsg.OffsetCommit, kmsg.OffsetCommit, kmsg.Fetch, kmsg.Heartbeat, kmsg.JoinGroup, kmsg.SyncGroup, kmsg.OffsetFetch, kmsg.Metadata, kmsg.FindCoordinator, kmsg.ListOffsets}
	if w.s.guarantee == configs.ExactlyOnce {
		keys = append(keys, kmsg.TxnOffsetCommit, kmsg.TxnOffsetCommit, kmsg.EndTxn, kmsg.EndTxn, kmsg.EndTxn, kmsg.InitProducerID)
	}
	r := &rule{key: pick(w.rng, keys...), what: pick(w.rng, dropRequest, dropResponse, dropResponse, delayMessage), delay: draw(w.rng, 2*w.s.session)}
	w.trace("next %s of %s: %s", r.key.Name(), p.name, r.what)
	p.link.add(r)
	return true
}

// brokerErrors has brokers answer with an error, a few times or for a while.
func (w *world) brokerErrors(name string, f kfake.Fault) bool {
	f.Count = 1 + w.rng.IntN(5)
	h := w.cluster.Fault(f)
	if w.rng.IntN(4) == 0 {
		h.Remove()
		f.Count = -1
		h = w.cluster.Fault(f)
	}
	w.fault(name, "%v", f.Err)
	w.later(draw(w.rng, 10*time.Second), func() {
		w.trace("%s %v ended after %d", name, f.Err, h.Hits())
		h.Remove()
		w.mark()
	})
	return true
}

func (w *world) fetchErrors() bool {
	return w.brokerErrors("fetch errors", kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: "in",
		Err: pick(w.rng, kerr.NotLeaderForPartition, kerr.UnknownServerError, kerr.OffsetNotAvailable, kerr.KafkaStorageError, kerr.UnknownLeaderEpoch, kerr.FencedLeaderEpoch, kerr.LeaderNotAvailable)})
}

// writeErrors are those of a produce request; the last two come after it took effect.
var writeErrors = []*kerr.Error{kerr.NotLeaderForPartition, kerr.NotEnoughReplicas, kerr.KafkaStorageError, kerr.UnknownServerError, kerr.LeaderNotAvailable, kerr.RequestTimedOut, kerr.NotEnoughReplicasAfterAppend}

func (w *world) produceErrors() bool {
	return w.s.sink == toKafka && w.brokerErrors("produce errors", kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "out", Err: pick(w.rng, writeErrors...)})
}

// commitErrors refuse commits; the last two come after the commit took effect, or may.
func (w *world) commitErrors() bool {
	return w.brokerErrors("commit errors", kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit, kmsg.TxnOffsetCommit}, Group: w.o.group,
		Err: pick(w.rng, kerr.CoordinatorLoadInProgress, kerr.CoordinatorNotAvailable, kerr.NotCoordinator, kerr.UnknownServerError, kerr.IllegalGeneration, kerr.RebalanceInProgress, kerr.RequestTimedOut)})
}

func (w *world) groupErrors() bool {
	return w.brokerErrors("group errors", kfake.Fault{Keys: []kmsg.Key{pick(w.rng, kmsg.Heartbeat, kmsg.JoinGroup, kmsg.SyncGroup, kmsg.OffsetFetch)}, Group: w.o.group,
		Err: pick(w.rng, kerr.CoordinatorLoadInProgress, kerr.CoordinatorNotAvailable, kerr.NotCoordinator, kerr.UnknownMemberID, kerr.IllegalGeneration, kerr.RebalanceInProgress)})
}

func (w *world) moveLeaders() bool {
	if w.s.brokers == 1 {
		return false
	}
	topic := pick(w.rng, "in", "out", "letters")
	w.fault("leaders move", "%s", topic)
	for _, p := range w.cluster.PartitionInfos(topic) {
		w.moveLeader(topic, p.Partition)
	}
	return true
}

func (w *world) moveCoordinators() bool {
	if w.s.brokers == 1 {
		return false
	}
	w.fault("coordinators move", "")
	w.cluster.RehashCoordinators()
	return true
}

// sinkMood makes the scripted destination slow, or fail in one of its ways, for a while.
func (w *world) sinkMood() bool {
	if w.s.sink == toKafka {
		return false
	}
	m := pick(w.rng, mood{slow: 300 * time.Millisecond}, mood{slow: 10 * time.Second}, mood{down: 100}, mood{down: 30, applied: 30}, mood{partial: 10}, mood{unknown: 10}, mood{partial: 20, unknown: 20, applied: 10, slow: time.Second})
	w.fault("sink mood", "%+v", m)
	w.dest.set(m)
	w.later(draw(w.rng, 10*time.Second), func() { w.trace("the sink is well again"); w.dest.set(mood{}); w.mark() })
	return true
}

func (d *destination) set(m mood) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.moody = m
}

// lettersFail has the dead letters fail for a while.
func (w *world) lettersFail() bool {
	if w.s.letters == toKafka {
		return w.brokerErrors("dead letters fail", kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "letters", Err: pick(w.rng, writeErrors...)})
	}
	m := pick(w.rng, mood{slow: 5 * time.Second}, mood{down: 100}, mood{down: 20, applied: 50}, mood{partial: 30, unknown: 30})
	w.fault("dead letters fail", "%+v", m)
	w.letters.set(m)
	w.later(draw(w.rng, 10*time.Second), func() { w.letters.set(mood{}); w.mark() })
	return true
}

// swap changes the program of all that run.
func (w *world) swap() bool {
	w.revision++
	w.fault("swap", "revision %d", w.revision)
	for _, m := range w.members {
		if m.cur != nil {
			m.cur.worker.Swap(w.programs[w.revision%2], w.s.route(), int64(w.revision))
		}
	}
	return true
}

// rewind has the route read again from earlier: all members stop, the group is empty,
// the offsets are committed, the members start.
func (w *world) rewind() bool {
	w.fault("rewind", "")
	var wanted []*member
	for _, m := range w.members {
		if m.wanted {
			wanted = append(wanted, m)
		}
		m.wanted = false
		if m.cur != nil {
			m.cur.drain()
		}
	}
	empty := func() bool {
		g := w.cluster.GroupInfo(w.o.group)
		return w.gone() && (g == nil || len(g.Members) == 0)
	}
	if !w.await(10*time.Minute, "the group is empty", empty) {
		return true
	}
	w.o.rewinding()
	os := kadm.Offsets{}
	if g := w.cluster.GroupInfo(w.o.group); g != nil {
		for _, p := range w.cluster.PartitionInfos("in") {
			if c, ok := g.Commits["in"][p.Partition]; ok {
				to := max(c.Offset-w.rng.Int64N(30), p.LogStartOffset)
				os.Add(kadm.Offset{Topic: "in", Partition: p.Partition, At: to, LeaderEpoch: -1})
				from := c.Offset
				if end, ok := w.chains.end(chainKey{w.o.rewinds() - 1, p.Partition}); ok {
					from = max(from, end.Offset)
				}
				w.o.rewound(p.Partition, to, from)
				w.trace("partition %d goes back from %d to %d", p.Partition, c.Offset, to)
			}
		}
	}
	for len(os) > 0 {
		if err := w.adm.CommitAllOffsets(context.Background(), w.o.group, os); err == nil {
			break // else the fault of another step is in its way
		}
		w.sleep(500 * time.Millisecond)
	}
	for _, m := range wanted {
		m.wanted = true
	}
	return true
}

// grow adds partitions to the source.
func (w *world) grow() bool {
	if w.s.partitions >= 6 {
		return false
	}
	w.s.partitions++
	w.fault("partitions grow", "to %d", w.s.partitions)
	if _, err := w.adm.UpdatePartitions(context.Background(), int(w.s.partitions), "in"); err != nil {
		panic(err)
	}
	w.hand.ForceMetadataRefresh() // the producer has to know
	time.Sleep(time.Second)
	return true
}

// remove takes away the oldest records of a partition, read or not.
func (w *world) remove() bool {
	w.o.mu.Lock()
	var parts []int32
	for p := range w.o.committed {
		if len(w.o.logs[p]) > 0 {
			parts = append(parts, p)
		}
	}
	w.o.mu.Unlock()
	if len(parts) == 0 {
		return false
	}
	slices.Sort(parts)
	p := pick(w.rng, parts...)
	at := w.cluster.PartitionInfo("in", p)
	w.removeTo(p, at.LogStartOffset+w.rng.Int64N(at.HighWatermark-at.LogStartOffset+1))
	return true
}

func (w *world) removeTo(part int32, to int64) {
	w.fault("records removed", "partition %d begins at %d", part, to)
	w.o.removed(part, to)
	if err := w.cluster.DeleteRecords("in", part, to); err != nil {
		panic(err)
	}
}

// empty removes everything while what was read last is not committed, and nothing is written after it: positions
// are then before all that there is.
func (w *world) empty() {
	w.sleep(draw(w.rng, w.s.interval))
	w.crash()
	for _, p := range w.cluster.PartitionInfos("in") {
		w.removeTo(p.Partition, p.HighWatermark)
	}
}

// pause holds the messages of all processes back: a long pause of the whole host.
func (w *world) pause() bool {
	d := 10*time.Second + draw(w.rng, 5*time.Minute)
	w.fault("long pause", "%v", d)
	var links []*link
	for _, m := range w.members {
		if m.cur != nil {
			m.cur.link.freeze()
			links = append(links, m.cur.link)
		}
	}
	time.Sleep(d)
	w.mark()
	for _, l := range links {
		l.unfreeze()
	}
	return true
}
