package reconcile

import (
	"strings"
	"testing"
	"time"

	"keystone/configs/addr"
)

func TestMonitor(t *testing.T) {
	a := must("route.tv")
	at := time.Unix(1000, 0)
	var m Monitor
	look := func(after time.Duration, st State) []Condition {
		t.Helper()
		at = at.Add(after)
		o := Observed{At: at, States: map[addr.Addr]State{a: st}}
		m.Conclude(&o)
		return o.States[a].Conditions
	}
	none := func(cs []Condition) {
		t.Helper()
		if len(cs) != 0 {
			t.Fatalf("conditions: %+v", cs)
		}
	}
	only := func(cs []Condition, kind ConditionKind, message string) {
		t.Helper()
		if len(cs) != 1 || cs[0].Kind != kind || !strings.Contains(cs[0].Message, message) {
			t.Fatalf("conditions: %+v, want %s: %s", cs, kind, message)
		}
	}
	running := func(delivered, lag int64) State {
		return State{Health: Running, Lag: lag, Counters: Counters{Delivered: delivered}, Activity: "waiting for sink"}
	}
	none(look(0, running(10, 5)))
	none(look(59*time.Second, running(10, 5)))
	only(look(time.Second, running(10, 5)), Stalled, "5 records wait, and none got an outcome for 1m0s: waiting for sink")
	none(look(time.Second, running(11, 5)))
	none(look(59*time.Second, running(11, 0)))  // nothing waits: that is not stalled
	none(look(59*time.Second, running(11, -1))) // not known
	none(look(59*time.Second, running(11, 5)))
	taken := func(n int64) State { // by a sink that makes it durable later
		return State{Health: Running, Lag: 5, Counters: Counters{Delivered: 11, InFlight: n, Unsettled: n}}
	}
	none(look(time.Second, taken(10)))
	none(look(59*time.Second, taken(20)))
	none(look(59*time.Second, taken(30)))
	only(look(time.Minute, taken(30)), Stalled, "")
	none(look(time.Second, State{Health: Disabled, Lag: 5}))
	none(look(time.Hour, State{Health: Disabled, Lag: 5}))

	none(look(time.Second, State{Health: Paused, Lag: 5}))
	none(look(time.Hour, State{Health: Paused, Lag: 5})) // whoever is held back is not stalled

	restarted := func(n int) State { return State{Health: Running, Restarts: n, Error: "boom"} }
	none(look(time.Second, restarted(0)))
	none(look(time.Second, restarted(1)))
	none(look(time.Second, restarted(2)))
	only(look(time.Second, restarted(3)), CrashLooping, "failed 3 times within 10m0s; the last time: boom")
	only(look(9*time.Minute, restarted(3)), CrashLooping, "")
	none(look(2*time.Minute, restarted(3)))

	away := func(n int) State {
		return State{Health: Degraded, Restarts: n, Unreachable: must("cluster.main"), Error: "cluster.main cannot be reached"}
	}
	for n := range 10 {
		none(look(time.Second, away(3+n))) // it is not the stream that fails
	}
	none(look(time.Second, restarted(12)))
	none(look(time.Second, restarted(3))) // another process counts anew

	lost := func(n int64) State { return State{Health: Running, Restarts: 3, Counters: Counters{LostBeforeRead: n}} }
	only(look(time.Second, lost(50)), DataLost, "at least 50 records were removed from the topic before they were read")
	only(look(59*time.Minute, lost(50)), DataLost, "50")
	only(look(time.Second, lost(0)), DataLost, "50") // another worker
	only(look(time.Second, lost(70)), DataLost, "70")
	only(look(59*time.Minute, lost(70)), DataLost, "70")
	none(look(2*time.Minute, lost(70)))
	none(look(time.Second, lost(0)))

	only(look(time.Second, State{Health: Running, Restarts: 3, Drift: []string{"a", "b"}}), Drifted, "a, b")
	since := at
	if cs := look(time.Minute, State{Health: Running, Restarts: 3, Drift: []string{"b"}}); !cs[0].Since.Equal(since) {
		t.Errorf("drifted since %v, want %v", cs[0].Since, since)
	}
	none(look(time.Second, State{Health: Running, Restarts: 3}))

	// A failure that is seen and its restart count once.
	m = Monitor{CrashCount: 2}
	none(look(time.Second, State{Health: Running}))
	none(look(time.Second, State{Health: Failed, Since: at}))
	none(look(time.Second, State{Health: Running, Restarts: 1}))
	only(look(time.Second, State{Health: Failed, Since: at, Restarts: 1}), CrashLooping, "failed 2 times")

	o := Observed{At: at, States: map[addr.Addr]State{}}
	m.Conclude(&o)
	if len(m.tracks) != 0 {
		t.Error("addresses that are gone are remembered")
	}
}
