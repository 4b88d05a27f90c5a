package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"keystone/configs"
	"keystone/configs/spec"
)

// operatorOf gives the operator of a job that an option belongs to, "window.by_user"; "" for the job's own.
func operatorOf(option string) string {
	kind, rest, ok := strings.Cut(option, ".")
	label, _, nested := strings.Cut(rest, ".")
	if !ok || !nested || !slices.Contains(configs.OperatorKinds(), kind) {
		return ""
	}
	return kind + "." + label
}

// stateful tells whether an operator keeps something from one row to the next.
func stateful(operator string) bool {
	kind, _, _ := strings.Cut(operator, ".")
	switch kind {
	case "read", "window", "aggregate", "join", "dedup", "top", "lookup":
		return true
	}
	return false
}

// operatorsOf gives the operators of a job as it was stored.
func operatorsOf(r *configs.Resource) map[string]bool {
	out := map[string]bool{}
	if r == nil {
		return out
	}
	for name := range r.Options {
		if op := operatorOf(name); op != "" {
			out[op] = true
		}
	}
	return out
}

// jobEffects weighs the changes of a job's options by what becomes of the state of their operators: an
// operator that is new has none to lose, and one that goes takes its own along.
func jobEffects(c *Change) {
	before, after := operatorsOf(c.Before), operatorsOf(c.After)
	for i := range c.Options {
		o := &c.Options[i]
		op := operatorOf(o.Name)
		switch {
		case op == "":
		case !before[op], !stateful(op):
			o.Effect = min(o.Effect, spec.Drain)
		case !after[op]:
			o.Effect = spec.Replace
		}
	}
}

// LostOperators gives the operators of a job whose state a change of it loses, sorted; all is true where
// it is that of every operator.
func LostOperators(c Change) (lost []string, all bool) {
	set := map[string]bool{}
	for _, o := range c.Options {
		if o.Effect != spec.Replace {
			continue
		}
		op := operatorOf(o.Name)
		if op == "" {
			return nil, true
		}
		set[op] = true
	}
	if len(set) == 0 && c.Action == Replace {
		return nil, true // what it reads is gone
	}
	return slices.Sorted(maps.Keys(set)), false
}

// jobImpact says what a change of a job does to its state and to its rows.
func (d *differ) jobImpact(c *Change, st State) {
	i := &c.Impact
	j := d.goal.Config.Jobs[c.Addr]
	if c.Action == Delete || c.Action == Forget || j == nil {
		i.Waiting = max(st.Lag, -1)
		i.KeepsState = append(i.KeepsState, "the job's state: a job of this name goes on from there")
		i.RepeatNote = "the open epoch is finished first"
		return
	}
	if c.Action == Create {
		i.ContinuesFrom = "its last epoch, if the state directory has one; else " + j.Begins()
		if j.Restore != "latest" {
			i.ContinuesFrom = "restore = " + j.Restore
		}
		return
	}
	i.Waiting = max(st.Lag, -1)
	i.ContinuesFrom = "its last epoch"
	lost, all := LostOperators(*c)
	before, after := operatorsOf(c.Before), operatorsOf(c.After)
	switch {
	case c.Action == Replace && all:
		i.LosesState = append(i.LosesState, "the state of all operators")
		i.ContinuesFrom = j.Begins()
		i.MayRepeat, i.RepeatNote = -1, "a new generation begins: rows of windows that were written already are written again"
	case len(lost) > 0:
		for _, op := range lost {
			i.LosesState = append(i.LosesState, "the state of "+op)
		}
		i.RepeatNote = "rows of windows that are open in what is lost come from the events after the last epoch alone"
	case c.Action == Update:
		i.RepeatNote = "nothing stops"
	case c.Action != Repair:
		i.RepeatNote = "nothing is repeated: the job stops at the end of an epoch and goes on from it"
	default:
		i.RepeatNote = "the job goes on from its last epoch: to streams and tables nothing is repeated"
	}
	var kept []string
	for _, op := range slices.Sorted(maps.Keys(before)) {
		if stateful(op) && after[op] && !all && !slices.Contains(lost, op) {
			kept = append(kept, op)
		}
	}
	if len(kept) > 0 && c.Action != Repair && c.Action != Update {
		i.KeepsState = append(i.KeepsState, fmt.Sprintf("the state of %s", list(kept)))
	}
}
