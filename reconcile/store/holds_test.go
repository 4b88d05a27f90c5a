package store

import (
	"reflect"
	"testing"
	"time"

	"keystone/configs/addr"
	"keystone/reconcile"
)

func TestHolds(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(t.Context(), Options{Dir: dir, Env: "default"})
	if err != nil {
		t.Fatal(err)
	}
	tv, web := addr.New("route", "tv").Instance("eu"), addr.New("route", "web")
	at := time.Unix(7, 5).UTC()
	pause := reconcile.Hold{Addr: tv, Kind: reconcile.HoldPause, Who: "me", Since: at}
	drain := reconcile.Hold{Addr: tv, Kind: reconcile.HoldDrain, Who: "you", Since: at}
	line := func(action string) reconcile.AuditEntry {
		return reconcile.AuditEntry{Time: at, Who: "me", Action: action, Addr: tv.String()}
	}
	for _, h := range []reconcile.Hold{pause, pause, drain} { // the last word counts
		if err := s.Hold(t.Context(), h, line(string(h.Kind))); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.MovePositions(t.Context(), tv, web); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openTest(t, dir)
	drain.Addr = web
	check := func(want map[addr.Addr]reconcile.Hold) {
		t.Helper()
		if got, err := s.Holds(t.Context()); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("holds %v, %v, want %v", got, err, want)
		}
	}
	check(map[addr.Addr]reconcile.Hold{web: drain})
	for range 2 {
		if err := s.Unhold(t.Context(), web, line("resume")); err != nil {
			t.Fatal(err)
		}
	}
	check(map[addr.Addr]reconcile.Hold{})
	log, err := s.AuditLog(t.Context(), 10)
	if err != nil || len(log) != 5 || log[0].Action != "resume" || log[4].Action != "pause" {
		t.Fatalf("audit %+v, %v", log, err)
	}
}
