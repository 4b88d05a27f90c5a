package store

import (
	"context"
	"database/sql"
	"fmt"
	"reflect"
	"testing"
	"time"

	"keystone/configs/addr"
	"keystone/pipeline/record"
)

// brief is an entry without its time.
func brief(ps []Program) (out []string) {
	for _, p := range ps {
		out = append(out, fmt.Sprintf("%d@%d %s %s r%d %s", p.Partition, p.First, p.Identity, p.Begin, p.Revision, p.Goal))
	}
	return out
}

func TestProgramsKeepTheHistoryOfARoute(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, dir)
	route := addr.New("route", "r")
	at := time.Unix(1700000000, 5).UTC()
	save := func(p Program) {
		t.Helper()
		p.Time = at
		if err := s.SavePrograms(t.Context(), route, "stream.s kafka", []Program{p}); err != nil {
			t.Fatal(err)
		}
	}
	one, two := []byte("one"), []byte("two")
	save(Program{First: 10, Identity: "i", Begin: ProgramStart, Revision: 1, Goal: one})
	save(Program{First: 40, Identity: "i", Begin: ProgramStart, Revision: 2, Goal: one}) // the same program goes on
	save(Program{First: 50, Identity: "i", Begin: ProgramSwap, Revision: 3, Goal: two})
	save(Program{First: 45, Identity: "i", Begin: ProgramStart, Revision: 3, Goal: two}) // after a crash
	save(Program{Partition: 1, First: 0, Identity: "i", Begin: ProgramStart, Revision: 3, Goal: two})
	from := []record.Position{{Partition: 0, Offset: 60}, {Partition: 1, Offset: 7}, {Partition: 2, Offset: 1}}
	err := s.write(t.Context(), func(ctx context.Context, tx *sql.Tx) error {
		for _, to := range []record.Position{{Partition: 0, Offset: 5}, {Partition: 1, Offset: 9}, {Partition: 2, Offset: 0}} {
			if err := s.markRewind(ctx, tx, route, "stream.s kafka", from, to, at); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	save(Program{First: 5, Identity: "i", Begin: ProgramStart, Revision: 3, Goal: two})
	save(Program{First: 0, Identity: "j", Begin: ProgramStart, Revision: 3, Goal: two}) // another topic
	want := []string{
		"0@10 i start r1 one", "0@50 i swap r3 two", "0@45 i start r3 two", "0@5 i rewind r3 two", "0@0 j start r3 two",
		"1@0 i start r3 two", "1@7 i skip r3 ", "1@9 i rewind r3 two",
	}
	got, err := s.Programs(t.Context(), route, "stream.s kafka")
	if err != nil || !reflect.DeepEqual(brief(got), want) || !got[0].Time.Equal(at) {
		t.Fatalf("Programs = %q, %v, want %q", brief(got), err, want)
	}
	to := addr.New("route", "renamed")
	if err := s.MovePositions(t.Context(), route, to); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Programs(t.Context(), to, "stream.s kafka"); err != nil || len(got) != len(want) {
		t.Fatalf("after a move: %q, %v", brief(got), err)
	}
}

func TestProgramsAreBounded(t *testing.T) {
	s := openTest(t, t.TempDir())
	route := addr.New("route", "r")
	const swaps = keepPrograms + 30
	for i := range swaps {
		p := Program{First: int64(i), Begin: ProgramSwap, Revision: int64(i), Goal: fmt.Appendf(nil, "goal %d", i)}
		if err := s.SavePrograms(t.Context(), route, "s", []Program{p}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Programs(t.Context(), route, "s")
	if err != nil || len(got) != keepPrograms || got[0].First != swaps-keepPrograms || string(got[0].Goal) != fmt.Sprintf("goal %d", swaps-keepPrograms) {
		t.Fatalf("%d programs are kept, %v: %.3q", len(got), err, brief(got))
	}
	var goals int
	if err := s.db.QueryRow(`SELECT COUNT(*) FROM program_goals`).Scan(&goals); err != nil || goals != keepPrograms {
		t.Errorf("%d goals are kept, %v, want %d", goals, err, keepPrograms)
	}
}
