package verify

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"keystone/configs"
)

// Counts is the judgement of one source partition.
type Counts struct {
	Partition    int32            `json:"partition"`
	From         int64            `json:"from_offset"`
	To           int64            `json:"to_offset"` // the first that is not judged
	Records      int64            `json:"records"`   // in the source
	Delivered    int64            `json:"delivered"` // with all their outputs
	Filtered     int64            `json:"filtered"`
	DeadLettered int64            `json:"dead_lettered"`
	Dropped      map[string]int64 `json:"dropped,omitempty"` // by reason
	Outputs      int64            `json:"outputs"`           // found, each once
	Missing      int64            `json:"missing"`           // outputs and dead letters that are not there
	Repeated     int64            `json:"repeated"`          // outputs and dead letters that are there again
	Asked        int64            `json:"repeated_by_rewind,omitempty"`
	Unexpected   int64            `json:"unexpected"` // outputs and dead letters of records that have none
	Different    int64            `json:"different"`  // outputs that hold something else
	Replayed     int64            `json:"replayed"`   // outputs of dead letters
	Unjudged     map[string]int64 `json:"cannot_be_judged,omitempty"`
}

// Add adds another stretch of the same partition, or of another.
func (c *Counts) Add(o Counts) {
	c.Records += o.Records
	c.Delivered += o.Delivered
	c.Filtered += o.Filtered
	c.DeadLettered += o.DeadLettered
	c.Outputs += o.Outputs
	c.Missing += o.Missing
	c.Repeated += o.Repeated
	c.Asked += o.Asked
	c.Unexpected += o.Unexpected
	c.Different += o.Different
	c.Replayed += o.Replayed
	c.From, c.To = min(c.From, o.From), max(c.To, o.To)
	c.Dropped, c.Unjudged = sum(c.Dropped, o.Dropped), sum(c.Unjudged, o.Unjudged)
}

func sum(to, from map[string]int64) map[string]int64 {
	if to == nil && len(from) > 0 {
		to = map[string]int64{}
	}
	for k, n := range from {
		to[k] += n
	}
	return to
}

// The kinds of examples.
const (
	ExampleMissing    = "missing"
	ExampleRepeated   = "repeated"
	ExampleUnexpected = "unexpected"
	ExampleDifferent  = "different"
)

// Example is one record that is not as it should be.
type Example struct {
	Kind            string `json:"kind"`
	SourceTopic     string `json:"source_topic"`
	SourcePartition int32  `json:"source_partition"`
	SourceOffset    int64  `json:"source_offset"`
	Topic           string `json:"topic,omitempty"` // where it was found; "" of what is missing
	Partition       int32  `json:"partition"`
	Offset          int64  `json:"offset"`
	Revision        int64  `json:"revision,omitempty"` // of the program that it is judged by
	Text            string `json:"text,omitempty"`
}

// MaxExamples bounds the examples of each kind.
const MaxExamples = 10

// Report is the judgement of a route.
type Report struct {
	FormatVersion string            `json:"format_version"`
	Route         string            `json:"route"`
	Source        string            `json:"source"`
	SourceTopic   string            `json:"source_topic"`
	TopicID       string            `json:"source_topic_id"`
	Sinks         []string          `json:"sinks"`        // topics that were read
	DeadLetters   []string          `json:"dead_letters"` // and those of dead letters
	Guarantee     configs.Guarantee `json:"guarantee"`
	OK            bool              `json:"ok"`
	Verdict       string            `json:"verdict"`
	Total         Counts            `json:"total"`
	Partitions    []Counts          `json:"partitions"`
	Examples      []Example         `json:"examples,omitempty"`
	Notes         []string          `json:"notes,omitempty"`
	SinkRecords   int64             `json:"sink_records"`      // that were read
	NoOrigin      int64             `json:"without_origin"`    // of them, that others wrote
	OtherOrigin   int64             `json:"of_others"`         // with the origin of another route or topic
	NotCommitted  int64             `json:"not_yet_committed"` // of records that are still on their way, or not in the range
	Began         time.Time         `json:"began"`
	Elapsed       time.Duration     `json:"elapsed_ns"`
}

// AddPartition adds what one pass found.
func (r *Report) AddPartition(c Counts) {
	for i := range r.Partitions {
		if r.Partitions[i].Partition == c.Partition {
			r.Partitions[i].Add(c)
			return
		}
	}
	r.Partitions = append(r.Partitions, c)
	slices.SortFunc(r.Partitions, func(a, b Counts) int { return int(a.Partition) - int(b.Partition) })
}

// AddExample keeps an example while there are few of its kind.
func (r *Report) AddExample(e Example) {
	n := 0
	for i := range r.Examples {
		if r.Examples[i].Kind == e.Kind {
			n++
		}
	}
	if n < MaxExamples {
		r.Examples = append(r.Examples, e)
	}
}

// Finish sums up and gives the verdict.
func (r *Report) Finish() {
	r.Total = Counts{}
	for i, p := range r.Partitions {
		if i == 0 {
			r.Total.From, r.Total.To = p.From, p.To
		}
		r.Total.Add(p)
	}
	r.Total.Partition = -1
	t := &r.Total
	mayMiss, mayRepeat := allowed(r.Guarantee)
	var bad, fine []string
	say := func(n int64, may bool, one, many string) {
		if n == 0 {
			return
		}
		text := fmt.Sprintf("%d %s", n, many)
		if n == 1 {
			text = "1 " + one
		}
		if may {
			fine = append(fine, text)
		} else {
			bad = append(bad, text)
		}
	}
	say(t.Missing, mayMiss, "is missing", "are missing")
	say(t.Unexpected, false, "is unexpected", "are unexpected")
	say(t.Different, false, "holds something else", "hold something else")
	say(t.Repeated-t.Asked, mayRepeat, "is repeated", "are repeated")
	say(t.Asked, true, "is repeated by a rewind", "are repeated by a rewind")
	r.OK = len(bad) == 0
	unjudged := int64(0)
	for _, n := range t.Unjudged {
		unjudged += n
	}
	switch {
	case !r.OK:
		r.Verdict = "violated: " + join(bad)
		if len(fine) > 0 {
			r.Verdict += "; as it may be: " + join(fine)
		}
	case t.Records == 0:
		r.Verdict = "nothing to judge"
	case unjudged >= t.Records:
		r.Verdict = "nothing could be judged"
	case len(fine) > 0:
		r.Verdict = fmt.Sprintf("kept: %s, which %s allows", join(fine), r.Guarantee)
	default:
		r.Verdict = "kept: nothing is missing, repeated, unexpected or different"
	}
	slices.SortFunc(r.Examples, func(a, b Example) int {
		if a.Kind != b.Kind {
			return slices.Index(kinds, a.Kind) - slices.Index(kinds, b.Kind)
		}
		return int(a.SourcePartition) - int(b.SourcePartition)
	})
	slices.Sort(r.Sinks)
	r.Sinks = slices.Compact(r.Sinks)
}

var kinds = []string{ExampleMissing, ExampleUnexpected, ExampleDifferent, ExampleRepeated}

// Reasons lists why something cannot be judged, in order.
func (c *Counts) Reasons() []string { return slices.Sorted(maps.Keys(c.Unjudged)) }

func join(words []string) string {
	s := ""
	for i, w := range words {
		if i > 0 {
			s += ", "
		}
		s += w
	}
	return s
}

func outputs(absent, of int64) string {
	if of == 1 {
		return "its output is missing"
	}
	return fmt.Sprintf("%d of its %d outputs are missing", absent, of)
}
