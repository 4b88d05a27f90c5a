package verify

import (
	"cmp"
	"maps"
	"slices"

	"keystone/configs"
)

// entry is what is expected of one source record, and what was found of it.
type entry struct {
	offset  int64
	first   uint32 // of its outputs in Table.digests
	n       uint32 // how many
	segment uint16
	kind    Kind
	letters uint8 // found; 255 is that many or more
	wrong   uint8 // outputs found that no program gives
	again   bool  // a letter of a replay was found
}

// lettered tells that the record has a dead letter, of the first time or of a replay.
func (e *entry) lettered() bool { return e.letters > 0 || e.again }

// Table is what is expected of a stretch of one source partition. First every
// source record is added, in order; then outputs and letters are looked up, in any order;
// then Count sums up. It takes about 24 bytes a record and 10 an output.
type Table struct {
	Partition int32
	From, To  int64 // what is judged

	segments []Segment
	entries  []entry
	digests  []uint64
	found    []uint16 // of each output
	hint     int      // entry that was looked up last
	cursor   uint32   // output of it
	dropped  map[string]int64
	unjudged map[string]int64
}

// NewTable makes a table of the offsets from on.
func NewTable(partition int32, from int64, segments []Segment) *Table {
	return &Table{Partition: partition, From: from, To: from, segments: segments, dropped: map[string]int64{}, unjudged: map[string]int64{}}
}

// Segment gives the history of an offset; ok is false where none is known.
func (t *Table) Segment(offset int64) (s Segment, ok bool) {
	i, ok := find(t.segments, offset)
	if !ok {
		return Segment{Program: None}, false
	}
	return t.segments[i], true
}

// Add expects outputs or a letter of the source record at an offset, which is
// after all that were added. code is why it is dropped, or why nothing can be said of it.
func (t *Table) Add(offset int64, kind Kind, code string, outputs []uint64) {
	segment, _ := find(t.segments, offset)
	t.entries = append(t.entries, entry{offset: offset, first: uint32(len(t.digests)), n: uint32(len(outputs)), segment: uint16(segment), kind: kind})
	t.digests = append(t.digests, outputs...)
	for range outputs {
		t.found = append(t.found, 0)
	}
	switch kind {
	case Dropped:
		t.dropped[code]++
	case Unknown:
		t.unjudged[code]++
	}
	t.To = offset + 1
}

// Size is how many records and outputs the table holds.
func (t *Table) Size() int { return len(t.entries) + len(t.digests) }

// First gives the offset of the first record; To if there is none.
func (t *Table) First() int64 {
	if len(t.entries) == 0 {
		return t.To
	}
	return t.entries[0].offset
}

func (t *Table) at(offset int64) *entry {
	if t.hint+1 < len(t.entries) && t.entries[t.hint+1].offset == offset { // mostly
		t.hint++
		t.cursor = 0
		return &t.entries[t.hint]
	}
	if t.hint < len(t.entries) && t.entries[t.hint].offset == offset {
		return &t.entries[t.hint]
	}
	i, ok := slices.BinarySearchFunc(t.entries, offset, func(e entry, at int64) int { return cmp.Compare(e.offset, at) })
	if !ok {
		return nil
	}
	t.hint, t.cursor = i, 0
	return &t.entries[i]
}

// Finding is what a record in the sink, or a dead letter, is.
type Finding uint8

// The findings.
const (
	Outside  Finding = iota // its origin is not among what is judged
	Expected                // for the first time
	Repeat                  // again
	NoRecord                // its origin is, and there is no such record in the source
	Other                   // it is not what the program gives: Others and replays may explain it
	NotAsked                // of a record about which nothing can be said
)

// Output looks up an output by its origin.
func (t *Table) Output(offset int64, digest uint64) Finding {
	if offset < t.From || offset >= t.To {
		return Outside
	}
	e := t.at(offset)
	switch {
	case e == nil:
		return NoRecord
	case e.kind == Unknown:
		return NotAsked
	case e.n == 0:
		return Other
	}
	// Outputs of one record come in order, so the search goes on after the last
	// one. Of equal ones that is taken which was found least often.
	best, least := -1, ^uint16(0)
	for k := range e.n {
		i := (t.cursor + k) % e.n
		at := e.first + i
		if t.digests[at] != digest && t.digests[at] != anything || t.found[at] >= least {
			continue
		}
		best, least = int(i), t.found[at]
		if least == 0 {
			break
		}
	}
	if best < 0 {
		return Other
	}
	t.cursor = uint32(best) + 1
	if at := e.first + uint32(best); t.found[at] < ^uint16(0)-1 {
		t.found[at]++
	}
	if least > 0 {
		return Repeat
	}
	return Expected
}

// Wrong notes that an output which is Other is explained by nothing: it
// stands in the place of the one that is missing.
func (t *Table) Wrong(offset int64) {
	if e := t.at(offset); e != nil && e.wrong < 255 {
		e.wrong++
	}
}

// Letter looks up a dead letter by where its record was. A letter of a
// record that should have been delivered is expected: the sink may have refused it. replays
// is how often the record was replayed before: then it failed again, which is no repeat.
func (t *Table) Letter(offset int64, replays int) Finding {
	if offset < t.From || offset >= t.To {
		return Outside
	}
	e := t.at(offset)
	if e == nil {
		return NoRecord
	}
	switch {
	case replays > 0:
		e.again = true
		return Expected
	case e.letters < 255:
		e.letters++
	}
	switch {
	case e.kind == Unknown:
		return NotAsked
	case e.kind != Letter && e.kind != Outputs:
		return Other
	case e.letters > 1:
		return Repeat
	}
	return Expected
}

// Lettered tells whether the record at an offset is, or should be, among the
// dead letters: then an output of it may be a replay, by any program.
func (t *Table) Lettered(offset int64) bool {
	e := t.at(offset)
	return e != nil && (e.kind == Letter || e.lettered())
}

// Kind gives what is expected of the record at an offset; Unknown if there is none.
func (t *Table) Kind(offset int64) Kind {
	if e := t.at(offset); e != nil {
		return e.kind
	}
	return Unknown
}

// Limits say what cannot be known of the destination.
type Limits struct {
	CutTo     int64 // outputs of offsets before it may have been removed from the sink by retention
	Compacted bool  // outputs may have been removed because later ones had the same key
	Hidden    bool  // the end of the sink could not be read
	// LettersCut says that dead letters were removed: by purge, or retention.
	LettersCut bool
}

// The reasons why something cannot be judged.
const (
	ReasonNoProgram   = "no program is known that ran there"
	ReasonSkipped     = "the route was told to skip them"
	ReasonNow         = "the filter depends on the time of evaluation"
	ReasonSinkCut     = "the sink's retention may have removed their outputs"
	ReasonCompacted   = "the sink's topic is compacted"
	ReasonLettersCut  = "dead letters were purged or removed by retention"
	ReasonSourceCut   = "the source's retention removed them"
	ReasonSourceGap   = "the source's topic is compacted"
	ReasonNoOrigin    = "what they were written to has no origins"
	ReasonUnreadable  = "the program that ran cannot be read by this version"
	ReasonTransaction = "an open transaction hides the end of the sink"
)

// Miss is something that is not there.
type Miss struct {
	Offset int64
	Text   string
}

// Count sums up; missed is called for what is missing.
func (t *Table) Count(l Limits, missed func(Miss)) Counts {
	c := Counts{Partition: t.Partition, From: t.From, To: t.To, Records: int64(len(t.entries)), Dropped: maps.Clone(t.dropped), Unjudged: maps.Clone(t.unjudged)}
	for i := range t.entries {
		t.count(&t.entries[i], l, &c, missed)
	}
	return c
}

func (t *Table) count(e *entry, l Limits, c *Counts, missed func(Miss)) {
	rewound := int(e.segment) < len(t.segments) && t.segments[e.segment].Rewound
	repeat := func(n int64) {
		c.Repeated += n
		if rewound {
			c.Asked += n
		}
	}
	lost := func(n int64, text string) {
		switch {
		case e.offset < l.CutTo:
			c.Unjudged[ReasonSinkCut]++
		case l.Compacted:
			c.Unjudged[ReasonCompacted]++
		case l.Hidden:
			c.Unjudged[ReasonTransaction]++
		default:
			c.Missing += n
			missed(Miss{e.offset, text})
		}
	}
	if e.letters > 1 {
		repeat(int64(e.letters) - 1)
	}
	switch e.kind {
	case Unknown, Dropped: // counted by their codes
	case Filtered:
		c.Filtered++
	case Stops:
		lost(1, "the program stops the route at it, and the route went on")
	case Letter:
		switch {
		case e.lettered():
			c.DeadLettered++
		case l.LettersCut:
			c.Unjudged[ReasonLettersCut]++
		default:
			c.Missing++
			missed(Miss{e.offset, "its dead letter is missing"})
		}
	case Outputs:
		absent := int64(0)
		for _, n := range t.found[e.first : e.first+e.n] {
			if n == 0 {
				absent++
			} else {
				c.Outputs++
				repeat(int64(n) - 1)
			}
		}
		absent = max(absent-int64(e.wrong), 0)
		switch {
		case e.lettered() && absent > 0:
			c.DeadLettered++ // the sink refused it
		case absent > 0:
			lost(absent, outputs(absent, int64(e.n)))
		default:
			c.Delivered++
		}
	}
}

// allowed tells what a guarantee lets happen when something fails.
func allowed(g configs.Guarantee) (missing, repeated bool) {
	return g == configs.AtMostOnce, g == configs.AtLeastOnce || g == ""
}
