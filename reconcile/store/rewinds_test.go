package store

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"keystone/configs/addr"
	"keystone/pipeline/record"
	"keystone/reconcile"
)

// A rewind is one at a time, survives, follows a rename, and moves the mirror
// of positions when it is taken off: once.
func TestRewinds(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(t.Context(), Options{Dir: dir, Env: "default"})
	if err != nil {
		t.Fatal(err)
	}
	tv, web := addr.New("route", "tv"), addr.New("route", "web")
	at := func(offset int64) []record.Position {
		return []record.Position{{Partition: 1, Offset: offset, LeaderEpoch: -1, Identity: "i", Cluster: "c", Name: "n"}}
	}
	other := record.Position{Partition: 0, Offset: 7, Identity: "i", Cluster: "c", Name: "n"}
	positions := s.Positions("stream.in kafka", "sink.out file")
	if err := positions.SavePositions(t.Context(), tv, append(at(100), other), []byte("state")); err != nil {
		t.Fatal(err)
	}
	rw := reconcile.Rewind{ID: "one", Addr: tv, Who: "me", At: time.Unix(5, 0).UTC(), How: "-to-start", Source: "stream.in kafka", Group: "g", Topic: "n", From: at(100), To: at(3)}
	line := reconcile.AuditEntry{Time: time.Unix(5, 0), Who: "me", Action: "rewind", Addr: tv.String()}
	if err := s.BeginRewind(t.Context(), rw, line); err != nil {
		t.Fatal(err)
	}
	again := rw
	again.ID = "two"
	if e, ok := errors.AsType[*reconcile.RewindUnderWayError](s.BeginRewind(t.Context(), again, line)); !ok || e.Rewind.ID != "one" {
		t.Fatalf("a second rewind at a time: %v", e)
	}
	if err := s.MovePositions(t.Context(), tv, web); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openTest(t, dir)
	rw.Addr = web
	if got, err := s.Rewinds(t.Context()); err != nil || !reflect.DeepEqual(got, map[addr.Addr]reconcile.Rewind{web: rw}) {
		t.Fatalf("rewinds %+v, %v", got, err)
	}
	positions = s.Positions("stream.in kafka", "sink.out file")
	check := func(want int64) {
		t.Helper()
		from, state, err := positions.LoadPositions(t.Context(), web)
		if err != nil || len(from) != 2 || from[0] != other || from[1] != at(want)[0] || string(state) != "state" {
			t.Fatalf("positions %+v, %q, %v, want %d", from, state, err, want)
		}
	}
	generation := func(want int64) {
		t.Helper()
		if n, err := s.Generation(t.Context(), web); err != nil || n != want {
			t.Fatalf("generation %d, %v, want %d", n, err, want)
		}
	}
	check(100)
	generation(0)
	if err := s.EndRewind(t.Context(), rw, true, line); err != nil {
		t.Fatal(err)
	}
	check(3)
	if err := positions.SavePositions(t.Context(), web, at(50), nil); err != nil { // it reads on
		t.Fatal(err)
	}
	if err := s.EndRewind(t.Context(), rw, true, line); err != nil {
		t.Fatal(err)
	}
	check(50)
	generation(1)
	again.Addr = web
	if err := s.BeginRewind(t.Context(), again, line); err != nil {
		t.Fatal(err)
	}
	if err := s.EndRewind(t.Context(), again, false, line); err != nil { // it was refused
		t.Fatal(err)
	}
	check(50)
	generation(1)
	if err := s.MovePositions(t.Context(), web, tv); err != nil {
		t.Fatal(err)
	}
	generation(0)
	if err := s.MovePositions(t.Context(), tv, web); err != nil {
		t.Fatal(err)
	}
	generation(1)
	log, err := s.AuditLog(t.Context(), 10)
	if err != nil || len(log) != 4 {
		t.Fatalf("audit %+v, %v", log, err)
	}
}
