package pipeline

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
)

func TestBoundedSourceEndsWithEverythingSettled(t *testing.T) {
	for _, async := range []bool{false, true} {
		t.Run(fmt.Sprintf("async=%v", async), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src := newMemSource(3)
				var want []string
				for i := range 100 {
					switch i % 5 {
					case 0:
						src.add(0, fmt.Sprintf("f%d", i))
					case 1:
						src.add(0, fmt.Sprintf("x%d", i))
						want = append(want, fmt.Sprintf("x%da", i), fmt.Sprintf("x%db", i))
					case 2:
						src.add(0, fmt.Sprintf("e%d", i))
					case 3:
						src.add(0, fmt.Sprintf("t%d", i))
					default:
						src.add(0, fmt.Sprintf("v%d", i))
						want = append(want, fmt.Sprintf("v%d", i))
					}
				}
				sink := newMemSink()
				sink.async = async
				g := newRig(src, sink, testRoute())
				g.start(t.Context())
				g.wait(t)
				if got := sink.values(0); !slices.Equal(got, want) {
					t.Errorf("delivered %v\nwant %v", got, want)
				}
				s := g.w.Stats()
				c := s.Total
				if c.Read != 100 || c.Delivered != 40 || c.Filtered != 20 || c.DeadLettered != 20 || c.Dropped != 20 || c.Written != 60 {
					t.Errorf("counts %+v", c)
				}
				if err := checkCounts(s); err != nil {
					t.Error(err)
				}
				if n := len(g.letters.values()); n != 20 {
					t.Errorf("%d dead letters", n)
				}
				last := src.logs[0][99].Offset + 1
				if src.committed[0] != last {
					t.Errorf("committed %d, want %d", src.committed[0], last)
				}
				if !src.closed || !sink.closed || !g.letters.closed {
					t.Error("not all parts are closed")
				}
				if s.Activity != Stopped {
					t.Errorf("activity %s", s.Activity)
				}
			})
		})
	}
}
