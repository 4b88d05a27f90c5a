package chain

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"keystone/sources/hive/storage"
)

// A partition that was compacted twice, with a compaction between that was given up: where its files are, and where new ones have to be, at each step.
func TestCompacted(t *testing.T) {
	st, ctx, dir := memory(), t.Context(), "dt=1/hour=2"
	read := func() *Compacted {
		t.Helper()
		p, err := ReadCompacted(ctx, st, dir)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for q, err := range EachCompacted(ctx, st) {
			if n++; err != nil || q.Dir != dir || q.Folder() != p.Folder() || len(q.Log) != len(p.Log) {
				t.Fatalf("of all: %+v, %v", q, err)
			}
		}
		if want := min(1, len(p.Log)); n != want {
			t.Fatalf("%d partitions, want %d", n, want)
		}
		return p
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	targets := func(name string, want ...string) {
		t.Helper()
		if got := read().Targets(name); !slices.Equal(got, want) {
			t.Errorf("%s has to be at %q, want %q", name, got, want)
		}
	}
	where := func(name, want string, with ...string) {
		t.Helper()
		if got, all := read().Where(name); got != want || !slices.Equal(all, with) {
			t.Errorf("%s is in %s with %q, want %s with %q", name, got, all, want, with)
		}
	}
	begin := func(number int64, from string, inputs ...string) *Compaction {
		t.Helper()
		c := &Compaction{Dir: dir, Number: number, Plan: CompactionPlan{From: from, Inputs: inputs}}
		must(c.Begin(ctx, st))
		if err := (&Compaction{Dir: dir, Number: number}).Begin(ctx, st); !errors.Is(err, storage.ErrExists) {
			t.Errorf("a plan is made twice: %v", err)
		}
		must(st.Create(ctx, c.Data()+"/x", []byte("data")))
		return c
	}
	targets("a", "dt=1/hour=2/a")
	where("a", "dt=1/hour=2/a")

	one := begin(1, dir, "a", "b")
	data1 := "_compacted/dt=1/hour=2/0000000001/data/"
	targets("a")
	targets("late", data1+"late", "dt=1/hour=2/late")
	where("a", "dt=1/hour=2/a")
	must(one.Settle(ctx, st, CompactionFiles{Files: []Merged{{Name: "m1", Inputs: []string{"a", "b"}}}}))
	other := &Compaction{Dir: dir, Number: 1}
	must(other.Settle(ctx, st, CompactionFiles{Files: []Merged{{Name: "loser"}}}))
	if other.Files.Files[0].Name != "m1" {
		t.Error("the one who came later counts")
	}
	where("a", "dt=1/hour=2/a")
	must(one.Moved(ctx, st))
	must(one.Moved(ctx, st))
	targets("a")
	targets("late", data1+"late")
	where("b", data1+"m1", "a", "b")
	where("late", data1+"late")
	must(one.Cleaned(ctx, st))

	two := begin(2, one.Data(), "m1", "late")
	must(two.Settle(ctx, st, CompactionFiles{GivenUp: "damaged"}))
	targets("late", data1+"late")
	where("b", data1+"m1", "a", "b")

	three := begin(3, one.Data(), "m1", "late")
	must(three.Settle(ctx, st, CompactionFiles{Files: []Merged{{Name: "m3", Inputs: []string{"m1", "late"}}}}))
	must(three.Moved(ctx, st))
	data3 := strings.ReplaceAll(data1, "0001", "0003")
	targets("late")
	targets("new", data3+"new")
	where("a", data3+"m3", "a", "b", "late")
	where("late", data3+"m3", "a", "b", "late")
	where("new", data3+"new")
	if any, err := AnyCompacted(ctx, st); !any || err != nil {
		t.Error(any, err)
	}
}
