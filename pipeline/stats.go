package pipeline

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"keystone/pipeline/record"
	"keystone/sinks"
	"keystone/sources"
)

// Outcome is what became of a source record.
type Outcome uint8

// The outcomes; every record gets exactly one.
const (
	Delivered Outcome = iota
	Filtered
	Dropped
	DeadLettered
	halted // none: the lane stopped before it
)

// String gives the word that metrics use.
func (o Outcome) String() string {
	return [...]string{"delivered", "filtered", "dropped", "dead_lettered", "halted"}[o]
}

// MarshalText gives String.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// ReasonCount counts records of one outcome for one reason: the code of an
// error, tombstone, unknown, or passed and applied for delivered ones.
type ReasonCount struct {
	Outcome Outcome `json:"outcome"`
	Code    string  `json:"code"`
	N       int64   `json:"n"`
}

// Counts is the ledger of a lane or of a route: Read = Delivered + Filtered +
// DeadLettered + Dropped + Abandoned + what is in flight. Abandoned records were given up
// with their lane (it was revoked, or the worker stopped) and are read again by whoever comes next.
type Counts struct {
	Read         int64   `json:"read"`
	Delivered    int64   `json:"delivered"`
	Filtered     int64   `json:"filtered"`
	DeadLettered int64   `json:"dead_lettered"`
	Dropped      int64   `json:"dropped"`
	Abandoned    int64   `json:"abandoned"`
	Written      int64   `json:"written"` // output records; several per source record with explode
	ReadBytes    int64   `json:"read_bytes"`
	WrittenBytes int64   `json:"written_bytes"`
	Retried      int64   `json:"retried"`           // output records written again
	Skipped      int64   `json:"skipped,omitempty"` // read again, and in no other count: the sink's chain has them, from an earlier incarnation
	Reasons      Reasons `json:"reasons,omitempty"`

	SchemaViolations int64 `json:"schema_violations,omitempty"` // required fields that expressions read and that were missing or null
}

func (c *Counts) add(o *Counts) {
	c.Read += o.Read
	c.Delivered += o.Delivered
	c.Filtered += o.Filtered
	c.DeadLettered += o.DeadLettered
	c.Dropped += o.Dropped
	c.Abandoned += o.Abandoned
	c.Written += o.Written
	c.ReadBytes += o.ReadBytes
	c.WrittenBytes += o.WrittenBytes
	c.Retried += o.Retried
	c.Skipped += o.Skipped
	c.SchemaViolations += o.SchemaViolations
	for _, r := range o.Reasons {
		c.Reasons.add(r.Outcome, r.Code, r.N)
	}
}

// Reasons counts outcomes by reason; few enough to be searched in order.
type Reasons []ReasonCount

// maxReasons bounds how many reasons are told apart; further ones are "other".
const maxReasons = 64

func (rs *Reasons) add(o Outcome, code string, n int64) {
	if rs.find(o, code) == nil && len(*rs) >= maxReasons {
		code = "other"
	}
	if r := rs.find(o, code); r != nil {
		r.N += n
		return
	}
	*rs = append(*rs, ReasonCount{Outcome: o, Code: code, N: n})
}

func (rs *Reasons) find(o Outcome, code string) *ReasonCount {
	for i := range *rs {
		if r := &(*rs)[i]; r.Outcome == o && r.Code == code {
			return r
		}
	}
	return nil
}

func (rs Reasons) sum(o Outcome) (n int64) {
	for _, r := range rs {
		if r.Outcome == o {
			n += r.N
		}
	}
	return n
}

// Activity is one word for what a route is doing.
type Activity string

// The activities, by the precedence with which a route shows them from last to first.
const (
	Starting           Activity = "starting"
	Fetching           Activity = "fetching"
	WaitingPartitions  Activity = "waiting_for_partitions" // the group joins, or others have them all
	WaitingForSink     Activity = "waiting_for_sink"
	Throttled          Activity = "throttled"
	Paused             Activity = "paused"
	Retrying           Activity = "retrying"
	WaitingDeadLetters Activity = "waiting_for_dead_letters"
	Partitioned        Activity = "partitioned" // nobody answers where it reads
	Draining           Activity = "draining"
	Stopped            Activity = "stopped"
)

// Stats is a snapshot of a worker.
type Stats struct {
	Activity        Activity    `json:"activity"`
	Attempt         int         `json:"attempt,omitempty"` // while retrying, also of reading
	CutOff          time.Time   `json:"cut_off,omitzero"`  // since when it is partitioned
	Error           string      `json:"error,omitempty"`   // of what is being retried, or why it stopped
	LastError       string      `json:"last_error,omitempty"`
	LastErrorAt     time.Time   `json:"last_error_at,omitzero"`
	Started         time.Time   `json:"started,omitzero"`
	Revision        int64       `json:"revision"`
	Total           Counts      `json:"total"` // since the worker started, all incarnations of lanes
	InFlightRecords int64       `json:"in_flight_records"`
	InFlightBytes   int64       `json:"in_flight_bytes"`
	Unsettled       int64       `json:"unsettled,omitempty"`     // of those in flight: a chained sink has taken them, and they are not durable yet
	SinkLimit       int         `json:"sink_limit,omitempty"`    // requests that the sink may have under way now; 0: it has no such limit
	SinkRequests    int         `json:"sink_requests,omitempty"` // that are
	Lag             int64       `json:"lag"`                     // records (or bytes) behind the end; -1: unknown
	LostBeforeRead  int64       `json:"lost_before_read"`        // removed by retention before they were read
	Hints           []string    `json:"hints,omitempty"`         // what the configuration probably does not mean, and what a sink is behind with, for people
	Lanes           []LaneStats `json:"lanes,omitempty"`         // by partition

	Sink map[string]float64 `json:"sink,omitempty"` // what the sink tells of itself
}

// LaneStats is a snapshot of one lane, since it was assigned.
type LaneStats struct {
	Partition       int32           `json:"partition"`
	Counts          Counts          `json:"counts"`
	InFlightRecords int64           `json:"in_flight_records"`
	InFlightBytes   int64           `json:"in_flight_bytes"`
	LostBeforeRead  int64           `json:"lost_before_read"`
	Start           record.Position `json:"start"`               // where it began
	Next            record.Position `json:"next"`                // what is read next
	Finished        record.Position `json:"finished"`            // all before it has an outcome
	Committed       record.Position `json:"committed"`           // as the source has it
	Unsettled       int64           `json:"unsettled,omitempty"` // of those in flight: the sink has taken them, and they are not durable yet
	Lag             int64           `json:"lag"`                 // from Finished to the end, or from what a chained sink has taken; -1: unknown
	Revision        int64           `json:"revision"`            // of the program, since offset From
	From            int64           `json:"from"`
	Activity        Activity        `json:"activity,omitempty"` // retrying, waiting_for_dead_letters, or none
	Attempt         int             `json:"attempt,omitempty"`
	Error           string          `json:"error,omitempty"`
	Paused          bool            `json:"paused,omitempty"` // its reading, because it is slow
}

// Stats gives a snapshot. It does no I/O.
func (w *Worker) Stats() Stats {
	var ends map[int32]int64
	w.mu.Lock()
	open := w.phase == Fetching || w.phase == Draining
	w.mu.Unlock()
	if s, ok := w.spec.Source.(sources.Lagger); ok && open {
		ends = s.Ends()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s := Stats{Started: w.started, Revision: w.plan.Load().revision, LostBeforeRead: w.lostBefore, Lag: -1, Lanes: make([]LaneStats, 0, len(w.lanes))}
	s.Total.add(&w.ended)
	if w.lastErr != nil {
		s.LastError, s.LastErrorAt = w.lastErr.Error(), w.lastErrAt
	}
	stuck, waiting := false, (*lane)(nil)
	for _, l := range w.lanes {
		ls := l.stats(ends)
		s.Lanes = append(s.Lanes, ls)
		if !l.over {
			s.Total.add(&l.counts)
		}
		s.InFlightRecords += ls.InFlightRecords
		s.InFlightBytes += ls.InFlightBytes
		s.Unsettled += ls.Unsettled
		if ls.Lag >= 0 {
			s.Lag = max(s.Lag, 0) + ls.Lag
		}
		stuck = stuck || l.want
		if l.err != nil && (waiting == nil || l.part < waiting.part) {
			waiting = l
		}
	}
	slices.SortFunc(s.Lanes, func(a, b LaneStats) int { return cmp.Compare(a.Partition, b.Partition) })
	w.describe(&s, stuck, waiting)
	s.Hints = w.plan.Load().hints(w.phase == Stopped)
	if c, ok := w.spec.Sink.(sinks.Concurrent); ok && open {
		s.SinkLimit, s.SinkRequests = c.Concurrency()
	}
	if m, ok := w.spec.Sink.(sinks.Measured); ok && open {
		s.Sink = m.Measures()
	}
	if t, ok := w.spec.Sink.(sinks.Trailing); ok && open {
		if err := t.Trailing(); err != nil {
			s.Hints = append(s.Hints, fmt.Sprintf("sink %s: %v", w.spec.Route.To.Addr, err))
		}
	}
	return s
}

// describe finds the word for what the worker is doing.
func (w *Worker) describe(s *Stats, stuck bool, waiting *lane) {
	s.Activity = w.phase
	if w.phase == Stopped || w.phase == Draining || w.stopErr != nil {
		if w.stopErr != nil {
			s.Error = w.stopErr.Error()
		}
		if waiting != nil && s.Error == "" {
			s.Attempt, s.Error = waiting.attempt, waiting.err.Error()
		}
		if w.chain != nil && w.chain.err != nil && s.Error == "" {
			s.Error = w.chain.err.Error()
		}
		if w.commitErr != nil && s.Error == "" {
			s.Attempt, s.Error = w.commitTries, w.commitErr.Error()
		}
		return
	}
	switch {
	case waiting != nil:
		s.Activity, s.Attempt, s.Error = waiting.wait, waiting.attempt, waiting.err.Error()
	case w.tx != nil && w.tx.broken != nil:
		s.Activity, s.Attempt, s.Error = Retrying, w.tx.tries, w.tx.broken.Error()
	case w.chain != nil && w.chain.err != nil:
		s.Activity, s.Error = Retrying, w.chain.err.Error()
	case w.unsaved && w.lastErr != nil:
		s.Activity, s.Error = Retrying, w.lastErr.Error()
	case w.readErr != nil:
		s.Activity, s.Attempt, s.Error = Retrying, w.readTries, w.readErr.Error()
		if cut, ok := errors.AsType[sources.Unreachable](w.readErr); ok {
			s.Activity, s.CutOff = Partitioned, cut.Since
		}
	case w.phase == Starting:
	case w.commitErr != nil:
		s.Activity, s.Attempt, s.Error = Retrying, w.commitTries, w.commitErr.Error()
	case w.held:
		s.Activity = Paused
	case w.throttled:
		s.Activity = Throttled
	case w.waiting || stuck:
		s.Activity = WaitingForSink
	case len(w.lanes) == 0:
		s.Activity = WaitingPartitions
	}
}

func (l *lane) stats(ends map[int32]int64) LaneStats {
	s := LaneStats{
		Partition: l.part, InFlightRecords: l.records, InFlightBytes: l.bytes, LostBeforeRead: l.lost,
		Start: l.start, Next: l.next, Finished: l.prefix(), Committed: l.committed,
		Revision: l.revision, From: l.from, Lag: -1, Paused: l.want,
	}
	s.Counts.add(&l.counts)
	if l.w.tx != nil { // nothing has an outcome before its transaction ends
		s.InFlightRecords += l.pending.outcomes()
		s.Finished = l.committed
	}
	if l.link != nil { // nor before it is in a cut that is durable
		s.Unsettled = l.unsettled()
		s.InFlightRecords += s.Unsettled
		s.Finished = l.link.durable
	}
	if end, ok := ends[l.part]; ok && end >= 0 {
		taken := s.Finished
		if l.link != nil {
			taken = l.prefix()
		}
		s.Lag = max(end-taken.Offset, 0)
	}
	if l.err != nil {
		s.Activity, s.Attempt, s.Error = l.wait, l.attempt, l.err.Error()
	}
	return s
}
