package verify

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"keystone/configs"
)

func TestSegments(t *testing.T) {
	start := func(first int64, p int) Run { return Run{First: first, Program: p} }
	swap := func(first int64, p int) Run { return Run{First: first, Program: p, Swapped: true} }
	for _, c := range []struct {
		name string
		runs []Run
		want []Segment
	}{
		{"one", []Run{start(5, 0)}, []Segment{{From: 5, Program: 0}}},
		{"a swap ends the one before", []Run{start(0, 0), swap(100, 1)}, []Segment{{From: 0, Program: 0}, {From: 100, Program: 1}}},
		{"another start does not", []Run{start(0, 0), start(100, 1)}, []Segment{{From: 0, Program: 0}, {From: 100, Program: 1, Others: []int{0}}}},
		{"a swap, a crash before its commit", []Run{start(0, 0), swap(100, 1), start(80, 1)},
			[]Segment{{From: 0, Program: 0}, {From: 80, Program: 1, Others: []int{0}}, {From: 100, Program: 1}}},
		{"back to a program", []Run{start(0, 0), swap(10, 1), swap(20, 0)}, []Segment{{From: 0, Program: 0}, {From: 10, Program: 1}, {From: 20, Program: 0}}},
		{"a rewind", []Run{start(0, 0), {First: 40, Program: 0, Rewound: true}}, []Segment{{From: 0, Program: 0}, {From: 40, Program: 0, Rewound: true}}},
		{"a skip", []Run{start(0, 0), {First: 40, Program: None}, {First: 60, Program: 0, Rewound: true}},
			[]Segment{{From: 0, Program: 0}, {From: 40, Program: None, Others: []int{0}}, {From: 60, Program: 0, Rewound: true}}},
		{"none", nil, nil},
	} {
		if got := Segments(c.runs); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

// truth is a world in which everything is known: what a source partition
// holds, what a route has written, and what was done to that.
type truth struct {
	table   *Table
	records []rec
	sink    []out
	letters []int64
	want    Counts
}

type rec struct {
	offset int64
	kind   Kind
	digest []uint64
}

type out struct {
	offset int64
	digest uint64
}

// draw makes a source and what a perfect route writes of it.
func draw(t *rapid.T) *truth {
	w := &truth{table: NewTable(3, 10, Segments([]Run{{First: 0, Program: 0}}))}
	offset := int64(10)
	next := uint64(1)
	for range rapid.IntRange(0, 60).Draw(t, "records") {
		offset += int64(rapid.SampledFrom([]int{0, 0, 0, 1, 5}).Draw(t, "gap"))
		r := rec{offset: offset, kind: rapid.SampledFrom([]Kind{Outputs, Outputs, Outputs, Filtered, Dropped, Letter, Unknown}).Draw(t, "kind")}
		if r.kind == Outputs {
			for range rapid.IntRange(1, 4).Draw(t, "outputs") {
				if rapid.IntRange(0, 3).Draw(t, "fresh") > 0 || len(r.digest) == 0 {
					next++ // else it is equal to the one before
				}
				r.digest = append(r.digest, next)
				w.sink = append(w.sink, out{offset, next})
			}
		}
		if r.kind == Letter {
			w.letters = append(w.letters, offset)
		}
		w.records = append(w.records, r)
		w.table.Add(r.offset, r.kind, "code", r.digest)
		offset++
	}
	w.table.To = offset
	w.want = Counts{Partition: 3, From: 10, To: offset, Records: int64(len(w.records)), Dropped: map[string]int64{}, Unjudged: map[string]int64{}}
	for _, r := range w.records {
		switch r.kind {
		case Outputs:
			w.want.Delivered++
			w.want.Outputs += int64(len(r.digest))
		case Filtered:
			w.want.Filtered++
		case Dropped:
			w.want.Dropped["code"]++
		case Letter:
			w.want.DeadLettered++
		case Unknown:
			w.want.Unjudged["code"]++
		}
	}
	return w
}

// judge looks everything up, in any order, and gives what comes of it.
func (w *truth) judge(t *rapid.T, l Limits) (c Counts, found map[Finding]int64, misses []int64) {
	found = map[Finding]int64{}
	for _, at := range w.letters {
		found[w.table.Letter(at, 0)]++
	}
	for _, o := range rapid.Permutation(w.sink).Draw(t, "order") {
		f := w.table.Output(o.offset, o.digest)
		if f == Other && w.table.Kind(o.offset) == Outputs {
			w.table.Wrong(o.offset)
		}
		found[f]++
	}
	c = w.table.Count(l, func(m Miss) { misses = append(misses, m.Offset) })
	return c, found, misses
}

func TestAPerfectRouteIsFoundPerfect(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := draw(t)
		c, found, misses := w.judge(t, Limits{})
		if !reflect.DeepEqual(c, w.want) || len(misses) > 0 || found[Other]+found[NoRecord]+found[Repeat]+found[Outside] > 0 {
			t.Fatalf("counted %+v, want %+v; found %v, missing %v", c, w.want, found, misses)
		}
	})
}

// TestEachFaultIsFound falsifies what a perfect route wrote in every way, and
// wants exactly that counted.
func TestEachFaultIsFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := draw(t)
		if len(w.sink) == 0 {
			return
		}
		fault := rapid.SampledFrom([]string{"lose", "repeat", "alter", "invent", "filtered", "lose a letter", "repeat a letter", "stray letter"}).Draw(t, "fault")
		i := rapid.IntRange(0, len(w.sink)-1).Draw(t, "which")
		o := w.sink[i]
		at := slices.IndexFunc(w.records, func(r rec) bool { return r.offset == o.offset })
		var other Finding
		switch fault {
		case "lose":
			w.sink = slices.Delete(w.sink, i, i+1)
			w.want.Missing, w.want.Outputs = 1, w.want.Outputs-1
			w.want.Delivered--
		case "repeat":
			n := rapid.IntRange(1, 3).Draw(t, "times")
			for range n {
				w.sink = append(w.sink, o)
			}
			w.want.Repeated, other = int64(n), Repeat
		case "alter":
			w.sink[i].digest = math.MaxUint64
			w.want.Outputs--
			other = Other // it stands for the one that is missing
		case "invent":
			gap := w.table.From
			for slices.ContainsFunc(w.records, func(r rec) bool { return r.offset == gap }) {
				gap++
			}
			w.sink = append(w.sink, out{gap, 7})
			if other = NoRecord; gap >= w.table.To {
				other = Outside
			}
		case "filtered":
			k := slices.IndexFunc(w.records, func(r rec) bool { return r.kind == Filtered || r.kind == Dropped })
			if k < 0 {
				return
			}
			w.sink = append(w.sink, out{w.records[k].offset, 7})
			other = Other
		case "lose a letter", "repeat a letter":
			if len(w.letters) == 0 {
				return
			}
			if fault == "repeat a letter" {
				w.letters = append(w.letters, w.letters[0])
				w.want.Repeated, other = 1, Repeat
				break
			}
			at = slices.IndexFunc(w.records, func(r rec) bool { return r.offset == w.letters[0] })
			o.offset = w.letters[0]
			w.letters = w.letters[1:]
			w.want.Missing = 1
			w.want.DeadLettered--
		case "stray letter":
			k := slices.IndexFunc(w.records, func(r rec) bool { return r.kind == Filtered })
			if k < 0 {
				return
			}
			w.letters = append(w.letters, w.records[k].offset)
			other = Other
		}
		c, found, misses := w.judge(t, Limits{})
		if !reflect.DeepEqual(c, w.want) {
			t.Fatalf("%s of %+v: counted %+v, want %+v", fault, w.records[at], c, w.want)
		}
		if w.want.Missing > 0 && !slices.Equal(misses, []int64{o.offset}) {
			t.Fatalf("%s at %d: missing are %v", fault, o.offset, misses)
		}
		if n := found[Other] + found[NoRecord] + found[Repeat] + found[Outside]; other != Outside && found[other] != n || other == 0 && n > 0 && fault != "invent" || other != 0 && n == 0 {
			t.Fatalf("%s: found %v", fault, found)
		}
	})
}

// TestWhatCannotBeKnownIsNotMissing loses outputs where the destination was cut.
func TestWhatCannotBeKnownIsNotMissing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := draw(t)
		w.sink, w.letters = nil, nil
		c, _, misses := w.judge(t, Limits{CutTo: math.MaxInt64, LettersCut: true})
		if c.Missing != 0 || len(misses) > 0 || c.Unjudged[ReasonSinkCut] != w.want.Delivered || c.Unjudged[ReasonLettersCut] != w.want.DeadLettered {
			t.Fatalf("%+v of %+v", c, w.want)
		}
	})
}

// TestADeadLetterExplainsAMissingOutput: the sink may have refused the record;
// and one that was delivered later was replayed.
func TestADeadLetterExplainsAMissingOutput(t *testing.T) {
	table := NewTable(0, 0, Segments([]Run{{First: 0, Program: 0}}))
	table.Add(0, Outputs, "", []uint64{1, 2})
	table.Add(1, Outputs, "", []uint64{3})
	if f := table.Letter(0, 0); f != Expected {
		t.Errorf("its letter is %d", f)
	}
	if f := table.Letter(0, 2); f != Expected { // it was replayed, and failed again
		t.Errorf("the letter of its replay is %d", f)
	}
	table.Output(0, 1)
	table.Output(1, 3)
	c := table.Count(Limits{}, func(m Miss) { t.Errorf("missing: %+v", m) })
	if c.DeadLettered != 1 || c.Delivered != 1 || c.Outputs != 2 || c.Repeated != 0 {
		t.Errorf("%+v", c)
	}
}

func TestTheVerdictFollowsTheGuarantee(t *testing.T) {
	for _, c := range []struct {
		guarantee configs.Guarantee
		counts    Counts
		ok        bool
	}{
		{configs.AtLeastOnce, Counts{Records: 1}, true},
		{configs.AtLeastOnce, Counts{Records: 1, Repeated: 1}, true},
		{configs.AtLeastOnce, Counts{Records: 1, Missing: 1}, false},
		{configs.AtLeastOnce, Counts{Records: 1, Different: 1}, false},
		{configs.AtLeastOnce, Counts{Records: 1, Unexpected: 1}, false},
		{configs.AtMostOnce, Counts{Records: 1, Missing: 1}, true},
		{configs.AtMostOnce, Counts{Records: 1, Repeated: 1}, false},
		{configs.ExactlyOnce, Counts{Records: 1, Repeated: 1}, false},
		{configs.ExactlyOnce, Counts{Records: 1, Repeated: 2, Asked: 2}, true},
		{configs.ExactlyOnce, Counts{Records: 1, Missing: 1}, false},
		{configs.ExactlyOnce, Counts{}, true},
	} {
		r := Report{Guarantee: c.guarantee}
		r.AddPartition(c.counts)
		if r.Finish(); r.OK != c.ok || r.Verdict == "" {
			t.Errorf("%s, %+v: %v, %q", c.guarantee, c.counts, r.OK, r.Verdict)
		}
	}
}

func TestExamplesAreBounded(t *testing.T) {
	var r Report
	for i := range 100 {
		for _, k := range kinds {
			r.AddExample(Example{Kind: k, SourceOffset: int64(i)})
		}
	}
	if len(r.Examples) != MaxExamples*len(kinds) {
		t.Error(fmt.Sprint(len(r.Examples)))
	}
}
