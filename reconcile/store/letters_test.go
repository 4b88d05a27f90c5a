package store

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestLetterMarks: marks outlive the process, and what is purged stays purged.
func TestLetterMarks(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(t.Context(), Options{Dir: dir, Env: "e"})
	if err != nil {
		t.Fatal(err)
	}
	mark := func(place, state string, ids ...LetterID) {
		t.Helper()
		if err := s.MarkLetters(t.Context(), place, ids, state, time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
	}
	mark("a", LetterReplayed, LetterID{0, 1}, LetterID{1, 1})
	mark("a", LetterPurged, LetterID{1, 1}, LetterID{1, 2})
	mark("a", LetterReplayed, LetterID{1, 2})
	mark("b", LetterReplayed, LetterID{0, 9})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(t.Context(), Options{Dir: dir, Env: "e"}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	got, err := s.LetterMarks(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	want := map[LetterID]string{{0, 1}: LetterReplayed, {1, 1}: LetterPurged, {1, 2}: LetterPurged}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if err := s.ForgetLetters(t.Context(), "a", []LetterID{{0, 1}, {1, 1}}); err != nil {
		t.Fatal(err)
	}
	if got, err = s.LetterMarks(t.Context(), "a"); err != nil || len(got) != 1 {
		t.Errorf("%v %v", got, err)
	}
}
