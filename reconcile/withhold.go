package reconcile

import (
	"maps"
	"slices"
	"strings"
	"time"

	"keystone/configs"
	"keystone/configs/addr"
)

// withhold takes out of a plan what nobody agreed to, and gives the goal and
// the plan that are left: what is withheld stays as it is, and what refers to it goes on
// using it as it is.
func (l *run) withhold(goal Goal, plan Plan, seen Observed, allow Allow, now time.Time) (Goal, Plan, []Pending) {
	held := map[addr.Addr]string{}
	var pending []Pending
	take := func(p Plan) bool {
		found := false
		for _, c := range p.Changes {
			reason := ""
			switch {
			case held[c.Addr] != "":
			case c.Blocked != "":
				reason = c.Blocked
			case c.Destructive && !allow[c.Addr]:
				reason = "it loses " + strings.Join(c.Impact.LosesState, ", ") + ": run `keystone apply` to agree"
				if len(c.Impact.LosesState) == 0 {
					reason = "kept state is lost: run `keystone apply` to agree"
				}
			}
			if reason != "" {
				held[c.Addr] = reason
				pending = append(pending, Pending{c, reason})
				found = true
			}
		}
		return found
	}
	if !take(plan) {
		l.announce(goal, nil)
		return goal, plan, nil
	}
	// A stream that stays as it is may leave its readers nothing to lose: they
	// are looked at again against the goal that is left.
	direct := pending[:0:0]
	for _, p := range pending {
		if len(p.Change.Options) > 0 || p.Change.After == nil || p.Change.Blocked != "" {
			direct = append(direct, p)
		}
	}
	if left, ok := l.without(goal, seen, direct); ok {
		held, pending = map[addr.Addr]string{}, direct
		for _, p := range direct {
			held[p.Change.Addr] = p.Reason
		}
		Adopt(left.Config, seen.States)
		next := Diff(left, seen, now)
		if !take(next) {
			next.Changes = slices.DeleteFunc(next.Changes, func(c Change) bool { return held[c.Addr] != "" && (c.Destructive || c.Blocked != "") })
			next.Warnings = plan.Warnings
			l.announce(goal, pending)
			return left, next, pending
		}
		plan, goal = next, left
	}
	plan.Changes = slices.DeleteFunc(plan.Changes, func(c Change) bool {
		if held[c.Addr] != "" {
			return true
		}
		deps := dependsOn(goal.Config, c.Addr)
		i := slices.IndexFunc(deps, func(d addr.Addr) bool { return held[d] != "" })
		if i >= 0 && c.Action != Delete && c.Action != Forget {
			pending = append(pending, Pending{c, deps[i].String() + " is withheld"})
			return true
		}
		return false
	})
	l.announce(goal, pending)
	return goal, plan, pending
}

// without gives the goal in which the withheld changes are not wanted.
func (l *run) without(goal Goal, seen Observed, held []Pending) (Goal, bool) {
	if l.spec.Decode == nil || len(held) == 0 {
		return goal, false
	}
	want := make(map[addr.Addr]configs.Resource, len(goal.Config.Resources))
	for _, r := range goal.Config.Resources {
		want[r.Addr] = r
	}
	var keep func(r *configs.Resource)
	keep = func(r *configs.Resource) {
		want[r.Addr] = *r
		for _, dep := range refersTo(r) {
			if _, there := want[dep]; !there {
				if st, ok := seen.States[dep]; ok && st.Resource != nil {
					keep(st.Resource)
				}
			}
		}
	}
	for _, p := range held {
		if p.Change.Before == nil || !p.Change.MovedFrom.IsZero() {
			return goal, false
		}
		keep(p.Change.Before)
	}
	resources := make([]configs.Resource, 0, len(want))
	for _, a := range slices.SortedFunc(maps.Keys(want), addr.Compare) {
		resources = append(resources, want[a])
	}
	cfg, err := l.spec.Decode(goal.Config, resources)
	if err != nil {
		l.spec.Log.Debug("what refers to withheld changes waits with them", "error", err.Error())
		return goal, false
	}
	goal.Config = cfg
	return goal, true
}

// announce emits an event for each change that was not withheld before.
func (l *run) announce(goal Goal, pending []Pending) {
	now := make(map[addr.Addr]string, len(pending))
	for _, p := range pending {
		now[p.Change.Addr] = p.Reason
		if l.withheld[p.Change.Addr] != p.Reason {
			l.spec.Log.Warn("change withheld", "addr", p.Change.Addr.String(), "action", string(p.Change.Action), "reason", p.Reason)
			l.emit(Event{Time: l.spec.Now(), Serial: goal.Serial, Addr: p.Change.Addr, Action: p.Change.Action, Phase: PhaseWithheld, Reason: p.Reason})
		}
	}
	l.withheld = now
}
