package reconcile

import (
	"slices"
	"testing"
	"time"
)

// A plan says of every route that is held back that it is, changed or not.
func TestPlansTellOfHolds(t *testing.T) {
	b := plays()
	o := AsApplied(b.config(), time.Unix(1, 0))
	at := time.Unix(0, 0).UTC()
	o.with("route.tv", func(s *State) { s.Health, s.Held = Paused, &Hold{Kind: HoldPause, Who: "me", Since: at} })
	o.with("route.in", func(s *State) { s.Health, s.Held = Drained, &Hold{Kind: HoldDrain, Who: "you", Since: at} })
	b.set(must("route.tv"), "filter", `"b"`)
	plan := Diff(goalOf(b), o, time.Unix(2, 0))
	for _, want := range []string{
		"route.tv is paused by me since 1970-01-01 00:00:00 UTC, and stays so: it does not read until `keystone resume route.tv`",
		"route.in is drained by you since 1970-01-01 00:00:00 UTC, and stays so: it does not start until `keystone resume route.in`",
	} {
		if !slices.Contains(plan.Warnings, want) {
			t.Errorf("the plan does not say %q: %q", want, plan.Warnings)
		}
	}
}
