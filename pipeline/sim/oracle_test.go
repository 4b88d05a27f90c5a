//go:build synctests

package sim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"keystone/configs"
	"keystone/pipeline"
	"keystone/pipeline/record"
)

// kind says what a record is to become.
type kind byte

// The kinds.
const (
	plain    kind = 'v' // delivered
	filtered kind = 'f' // filtered by both programs
	swapped  kind = 's' // filtered by one of them
	broken   kind = 'e' // not JSON: a dead letter
	refused  kind = 'r' // too large for the sink: a dead letter
)

// entry is one record of the source and what became of it.
type entry struct {
	id     string
	part   int32
	seq    int
	offset int64
	kind   kind
	key    string

	sinkHas, lettersHave bool // by the brokers' and the destination's own words
	removed              bool // from the log, before it was seen to have been read
	rewinds              int  // past it
	risk                 int  // faults while it was in flight or its position not committed
	marked               int  // oracle.marks at the last of them
}

// settled tells whether a position past the record may be committed.
func (e *entry) settled() bool {
	switch e.kind {
	case plain:
		return e.sinkHas || e.removed
	case broken, refused:
		return e.lettersHave || e.removed
	}
	return true
}

// oracle knows the source's log, what the group has committed and what arrived.
type oracle struct {
	guarantee configs.Guarantee
	group, in string

	mu        sync.Mutex // guards everything below
	byID      map[string]*entry
	logs      map[int32][]*entry // in order
	committed map[int32]int64    // by the answers to commits
	past      []map[int32]int64  // what was committed at each rewind
	read      map[int32]int64    // how far any worker has read
	marks     int                // how often everything in flight was charged
	problems  []string
	topics    map[[16]byte]string
	counts    pipeline.Counts // of all workers
	lost      int64           // before they were read, as workers say
}

func newOracle(s *scenario) *oracle {
	return &oracle{guarantee: s.guarantee, group: "g", in: "in", byID: map[string]*entry{}, logs: map[int32][]*entry{},
		committed: map[int32]int64{}, read: map[int32]int64{}, topics: map[[16]byte]string{}}
}

func (o *oracle) problem(format string, a ...any) {
	if len(o.problems) < 20 {
		o.problems = append(o.problems, fmt.Sprintf(format, a...))
	}
}

// stuck notes a problem that is none of a single record.
func (o *oracle) stuck(format string, a ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.problem(format, a...)
}

func (w *world) rejects(id string) bool {
	w.o.mu.Lock()
	defer w.o.mu.Unlock()
	return w.o.byID[id].kind == refused
}

// arrived notes that the sink or the dead letters have a record.
func (w *world) arrived(l *link, letters bool, id string) {
	w.unheard(l, []string{id})
	w.o.mu.Lock()
	defer w.o.mu.Unlock()
	w.o.arrived(l, letters, id)
}

func (o *oracle) arrived(l *link, letters bool, id string) {
	e := o.byID[id]
	if letters {
		e.lettersHave = true
	} else {
		e.sinkHas = true
	}
	o.reached(l, e)
}

// reached notes that a record is on its way into the sink or the dead letters.
func (o *oracle) reached(l *link, e *entry) {
	o.read[e.part] = max(o.read[e.part], e.offset+1)
	o.checkClaim(l, e)
}

// checkClaim holds a write to at_most_once: the commit was acknowledged before it. What
// a process left in the network arrives after a rewind, too: it was written on the word
// of the commits before the rewind, as every process lives between two of them.
func (o *oracle) checkClaim(l *link, e *entry) {
	committed := o.committed
	if l.rewinds < len(o.past) {
		committed = o.past[l.rewinds]
	}
	if o.guarantee == configs.AtMostOnce && e.offset >= committed[e.part] {
		o.problem("%s is written before its position is committed (%d)", e.id, committed[e.part])
	}
}

// request sees a request when it reaches a broker.
func (w *world) request(l *link, m *message) {
	switch m.key {
	case kmsg.JoinGroup:
		w.mark() // what a rebalance finds in flight may repeat
	case kmsg.LeaveGroup:
		l.member("")
		w.mark()
	case kmsg.Produce:
		ids := w.o.produced(l, m.req.(*kmsg.ProduceRequest))
		m.seen = ids
		for _, of := range ids {
			w.unheard(l, of)
		}
	case kmsg.OffsetCommit:
		m.seen = w.checkCommit(l.name, m.req.(*kmsg.OffsetCommitRequest))
	}
}

// response sees a broker's answer when the broker gives it.
func (w *world) response(l *link, m *message, frame []byte) {
	switch m.key {
	case kmsg.JoinGroup:
		w.givenUp() // a generation begins, and whoever is not in it does not know
	case kmsg.Produce:
		w.o.acknowledged(w, l, parseResponse(m, frame).(*kmsg.ProduceResponse), m.seen.(map[partition][]string))
	case kmsg.OffsetCommit:
		w.o.commit(w, l.name, m, parseResponse(m, frame).(*kmsg.OffsetCommitResponse), m.seen.(map[int32]string))
	}
}

// heard sees what the group answers when the process gets it.
func (w *world) heard(l *link, m *message, frame []byte) {
	var code int16
	switch m.key {
	case kmsg.JoinGroup:
		resp := parseResponse(m, frame).(*kmsg.JoinGroupResponse)
		if code = resp.ErrorCode; code == 0 {
			l.member(resp.MemberID)
		}
	case kmsg.SyncGroup:
		code = parseResponse(m, frame).(*kmsg.SyncGroupResponse).ErrorCode
	case kmsg.Heartbeat:
		code = parseResponse(m, frame).(*kmsg.HeartbeatResponse).ErrorCode
	case kmsg.OffsetFetch:
		code = offsetFetchCode(parseResponse(m, frame).(*kmsg.OffsetFetchResponse))
	default:
		return
	}
	switch code {
	case 0:
		l.well()
	case kerr.RebalanceInProgress.Code: // nobody's fault
	default:
		l.refused()
	}
	switch code {
	case kerr.UnknownMemberID.Code, kerr.IllegalGeneration.Code, kerr.FencedInstanceID.Code:
		w.mark() // it drops what it has in flight, and reads it again
		if m.key != kmsg.JoinGroup {
			l.member("") // else the library joins as a new member, and keeps the partitions meanwhile
		}
	}
}

// partition is one of a topic.
type partition struct {
	topic string
	part  int32
}

func (o *oracle) topic(name string, id [16]byte) string {
	if name != "" {
		return name
	}
	return o.topics[id]
}

// produced gives the ids of the records of a request.
func (o *oracle) produced(l *link, req *kmsg.ProduceRequest) map[partition][]string {
	o.mu.Lock()
	defer o.mu.Unlock()
	ids := map[partition][]string{}
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			at := partition{o.topic(t.Topic, t.TopicID), p.Partition}
			if len(p.Records) == 0 {
				continue // the library gave the batch up while it wrote the request
			}
			var b kmsg.RecordBatch
			if err := b.ReadFrom(p.Records); err != nil {
				panic(err)
			}
			rs, err := kfake.BatchRecords(b)
			if err != nil {
				panic(err)
			}
			for i := range rs {
				id := ""
				for _, h := range rs[i].Headers {
					if h.Key == "id" {
						id = string(h.Value)
					}
				}
				ids[at] = append(ids[at], id)
				o.reached(l, o.byID[id])
			}
		}
	}
	return ids
}

func (o *oracle) acknowledged(w *world, l *link, resp *kmsg.ProduceResponse, ids map[partition][]string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.guarantee == configs.ExactlyOnce {
		return // nothing counts before the transaction ends
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			at := partition{o.topic(t.Topic, t.TopicID), p.Partition}
			w.trace("%s of %d: %s, error code %d", at.topic, at.part, strings.Join(ids[at], " "), p.ErrorCode)
			for _, id := range ids[at] {
				switch p.ErrorCode {
				case kerr.RequestTimedOut.Code, kerr.NotEnoughReplicasAfterAppend.Code:
					o.byID[id].risk++ // it is written, and the process cannot know
				}
				if p.ErrorCode != 0 {
					continue
				}
				o.arrived(l, at.topic == "letters", id)
			}
		}
	}
}

// checkCommit says what is wrong with a commit at the moment at which it reaches the broker.
func (w *world) checkCommit(who string, req *kmsg.OffsetCommitRequest) map[int32]string {
	wrong := map[int32]string{}
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			if wrong[p.Partition] = w.ahead(who, p.Partition, p.Offset); wrong[p.Partition] == "" {
				wrong[p.Partition] = w.o.gap(who, p.Partition, p.Offset)
			}
		}
	}
	return wrong
}

// gap finds a record before an offset that has no outcome.
func (o *oracle) gap(who string, part int32, offset int64) string {
	if o.guarantee != configs.AtLeastOnce {
		return ""
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range o.logs[part] {
		if e.offset < offset && !e.settled() {
			return fmt.Sprintf("%s commits %d of partition %d past %s, which has no outcome", who, offset, part, e.id)
		}
	}
	return ""
}

func (o *oracle) commit(w *world, who string, m *message, resp *kmsg.OffsetCommitResponse, wrong map[int32]string) {
	req := m.req.(*kmsg.OffsetCommitRequest)
	failed := map[int32]bool{}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			failed[p.Partition] = p.ErrorCode != 0
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			if failed[p.Partition] {
				continue
			}
			w.trace("%s committed %d of %d", who, p.Offset, p.Partition)
			if s := wrong[p.Partition]; s != "" {
				o.problem("%s", s)
			}
			if was := o.committed[p.Partition]; p.Offset < was && !o.takenBack(p.Partition, p.Offset, was) {
				o.problem("%s moves partition %d back from %d to %d", who, p.Partition, was, p.Offset)
			}
			o.committed[p.Partition] = p.Offset
		}
	}
}

// takenBack tells that a claim was: with at_most_once positions are committed before what they are for is
// written. A worker that is stopped meanwhile does not write it, and gives it back although the commit may
// have taken effect.
func (o *oracle) takenBack(part int32, from, to int64) bool {
	if o.guarantee != configs.AtMostOnce {
		return false
	}
	return !slices.ContainsFunc(o.logs[part], func(e *entry) bool {
		return e.offset >= from && e.offset < to && (e.sinkHas || e.lettersHave)
	})
}

// mark counts a fault against every record that was read and whose position is
// not committed: it may repeat, or with at_most_once be lost. One who was away and has
// not heard yet that a partition went to another may have a fetch with what comes next.
func (w *world) mark() {
	read := map[int32]int64{}
	behind := map[int32]int64{}
	for _, m := range w.workers() {
		for _, l := range m.Stats().Lanes {
			read[l.Partition] = max(read[l.Partition], l.Next.Offset)
			if b, ok := behind[l.Partition]; !ok || l.Next.Offset < b {
				behind[l.Partition] = l.Next.Offset
			}
		}
	}
	w.o.mu.Lock()
	defer w.o.mu.Unlock()
	w.o.marks++
	for p, next := range read {
		w.o.read[p] = max(w.o.read[p], next)
	}
	for p, log := range w.o.logs {
		from, away := behind[p]
		for _, e := range log {
			if away && e.offset >= from && e.offset < w.o.committed[p] {
				w.o.charge(e)
			}
			if e.offset < w.o.read[p] && w.o.uncommitted(e) {
				w.o.charge(e)
			}
		}
	}
}

// risk counts a fault against single records.
func (w *world) risk(rs []record.Record) {
	w.o.mu.Lock()
	defer w.o.mu.Unlock()
	for i := range rs {
		w.o.byID[idOf(&rs[i])].risk++
	}
}

// rewinding notes that a rewind begins: no process runs, and those that come are of another life.
func (o *oracle) rewinding() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.past = append(o.past, maps.Clone(o.committed))
}

// rewinds tells how many there were.
func (o *oracle) rewinds() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.past)
}

// rewound notes that reading begins again at an offset: all that lies between may repeat.
func (o *oracle) rewound(part int32, to, from int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.repeats(part, to, from)
	o.committed[part] = to
}

func (o *oracle) repeats(part int32, to, from int64) {
	for _, e := range o.logs[part] {
		if e.offset >= to && e.offset < from {
			e.risk++
			e.rewinds++
		}
	}
}

// removed notes that the log begins at an offset.
func (o *oracle) removed(part int32, to int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range o.logs[part] {
		if e.offset < to {
			e.removed = true
		}
	}
}

// ended holds the counters of a worker to the ledger.
func (o *oracle) ended(who string, s *pipeline.Stats) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := &s.Total
	if sum := c.Delivered + c.Filtered + c.DeadLettered + c.Dropped + c.Abandoned; c.Read != sum || s.InFlightRecords != 0 {
		o.problem("%s: read %d is not the sum of the outcomes %d; %d are in flight: %+v", who, c.Read, sum, s.InFlightRecords, c)
	}
	o.counts.Read += c.Read
	o.counts.Delivered += c.Delivered
	o.counts.DeadLettered += c.DeadLettered
	o.counts.Filtered += c.Filtered
	o.counts.Dropped += c.Dropped
	o.counts.Abandoned += c.Abandoned
	o.lost += s.LostBeforeRead
}

// final is what the sink or the dead letters hold in the end: per partition, in order.
type final map[int32][]string

// check holds what is there in the end to every promise.
func (o *oracle) check(s *scenario, out, letters final) (repeats, mostRepeats int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	arrivals, lettered := map[string]int{}, map[string]int{}
	for _, ids := range out {
		for _, id := range ids {
			arrivals[id]++
		}
	}
	for _, ids := range letters {
		for _, id := range ids {
			lettered[id]++
		}
	}
	for _, log := range o.logs {
		for _, e := range log {
			a, l := arrivals[e.id], lettered[e.id]
			o.checkOutcome(e, a, l)
			n := max(a, l) - 1
			if n > 0 {
				repeats += n
				mostRepeats = max(mostRepeats, n)
			}
			// With at_most_once a dead letter is written until it is acknowledged.
			once := o.guarantee == configs.ExactlyOnce || o.guarantee == configs.AtMostOnce && a > 0 || s.sink == toChained && l == 0
			if once && n > e.rewinds {
				o.problem("%s is there %d times, and was rewound %d times", e.id, n+1, e.rewinds)
			}
			if n > e.risk {
				o.problem("%s is there %d times, and was in flight or uncommitted at %d faults", e.id, n+1, e.risk)
			}
		}
	}
	if s.order != configs.OrderNone {
		for p, ids := range out {
			o.checkOrder(s, p, ids)
		}
	}
	return repeats, mostRepeats
}

// checkOutcome wants each record where it belongs.
func (o *oracle) checkOutcome(e *entry, arrivals, lettered int) {
	want := map[kind]string{plain: "the sink", broken: "the dead letters", refused: "the dead letters", filtered: "nothing", swapped: "the sink or nothing"}[e.kind]
	inSink := e.kind == plain || e.kind == swapped
	inLetters := e.kind == broken || e.kind == refused
	if arrivals > 0 && !inSink || lettered > 0 && !inLetters {
		o.problem("%s is %d times in the sink and %d times in the dead letters, and belongs to %s", e.id, arrivals, lettered, want)
	}
	missing := e.kind == plain && arrivals == 0 || inLetters && lettered == 0
	if !missing || e.removed || o.guarantee == configs.AtMostOnce && e.risk > 0 {
		return
	}
	o.problem("%s at offset %d of partition %d is lost: it belongs to %s; committed is %d", e.id, e.offset, e.part, want, o.committed[e.part])
}

// checkOrder holds the first deliveries in one partition of the sink to the order of
// their source partitions, or of the keys in them.
func (o *oracle) checkOrder(s *scenario, p int32, ids []string) {
	seen := map[string]bool{}
	last := map[string]*entry{}
	for _, id := range ids {
		e := o.byID[id]
		// The first time it may have been filtered; or, where positions are committed first, lost,
		// or on its way when its partition changed hands. And one that is removed from the log while it
		// is on its way is not repeated by the next owner, whose writes it may arrive behind.
		late := e.kind == swapped || e.removed && e.risk > 0 || o.guarantee == configs.AtMostOnce && e.risk > 0
		if seen[id] || late {
			continue
		}
		if o.guarantee == configs.AtMostOnce && e.rewinds > 0 {
			continue // it may have been lost the first time
		}
		seen[id] = true
		of := fmt.Sprint(e.part)
		if s.order == configs.OrderKey {
			of += " " + e.key
		}
		if was := last[of]; was != nil && was.seq > e.seq {
			o.problem("%s is first delivered after %s, to partition %d", e.id, was.id, p)
		}
		last[of] = e
	}
}

// report gives the problems.
func (o *oracle) report() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(slices.Clone(o.problems), "\n")
}
