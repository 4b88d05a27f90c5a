// Package verify judges what a route wrote by what it read: it runs the
// programs that ran over the records of the source again, and compares what they
// give with what is in the sink and among the dead letters. It does no I/O and
// shares nothing with the worker but the expression engine.
package verify

import (
	"cmp"
	"math"
	"slices"
)

// Run is one entry of a partition's history, in the order in which it was
// written: from First on, Program was run.
type Run struct {
	First   int64
	Program int  // index of a Judge; None where the records were skipped
	Swapped bool // it took the place of the run before between two batches; else a lane began there
	Rewound bool // somebody sent the route there: what was written before may be written again
}

// None is the program of records that a route was told to skip.
const None = -1

// Segment is a stretch of offsets with one history: it ends where the next one begins.
type Segment struct {
	From    int64
	Program int   // the one that ran last, which must have delivered
	Others  []int // that may have run before it and not have been committed
	Rewound bool  // a repeat was asked for
}

// Segments gives the history by offsets. A run goes on until another is
// swapped in; where a lane began anew, the runs before it may have been ahead.
func Segments(runs []Run) []Segment {
	bounds := make([]int64, 0, len(runs))
	for _, r := range runs {
		bounds = append(bounds, r.First)
	}
	slices.Sort(bounds)
	bounds = slices.Compact(bounds)
	var out []Segment
	for _, at := range bounds {
		s := Segment{From: at, Program: None}
		reached := false
		for i, r := range runs {
			end := int64(math.MaxInt64)
			if i+1 < len(runs) && runs[i+1].Swapped {
				end = runs[i+1].First
			}
			if at < r.First || at >= end {
				continue
			}
			if reached && s.Program != None {
				s.Others = append(s.Others, s.Program)
			}
			s.Rewound = s.Rewound || reached && r.Rewound
			s.Program, reached = r.Program, true
		}
		slices.Sort(s.Others)
		s.Others = slices.DeleteFunc(slices.Compact(s.Others), func(p int) bool { return p == s.Program })
		if len(s.Others) == 0 {
			s.Others = nil
		}
		if !reached {
			continue // what a swap ended and nothing followed: nobody is known to have read it
		}
		out = append(out, s)
	}
	return out
}

// find gives the segment of an offset; false before the first.
func find(segments []Segment, offset int64) (int, bool) {
	i, exact := slices.BinarySearchFunc(segments, offset, func(s Segment, at int64) int { return cmp.Compare(s.From, at) })
	if !exact {
		i--
	}
	return i, i >= 0
}
