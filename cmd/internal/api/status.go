package api

import (
	"slices"
	"time"

	"keystone/configs/addr"
	"keystone/reconcile"
)

// Status is the goal and the world as they are shown and sent.
type Status struct {
	FormatVersion string            `json:"format_version"`
	Version       Version           `json:"version"`
	Env           string            `json:"environment"`
	Namespace     string            `json:"namespace"`
	Serial        int64             `json:"serial"`
	Revision      Revision          `json:"revision"`
	Offline       bool              `json:"offline"`
	Started       time.Time         `json:"started,omitzero"`
	ObservedAt    time.Time         `json:"observed_at,omitzero"`
	Turns         int64             `json:"reconcile_turns"`
	Waiting       []string          `json:"waiting_for_apply,omitempty"`
	Diagnostics   []Diagnostic      `json:"diagnostics,omitempty"` // of an edit that was not taken
	Unreachable   map[string]string `json:"unreachable,omitempty"` // clusters, with why
	Addresses     []AddressStatus   `json:"addresses"`
}

// AddressStatus is one address.
type AddressStatus struct {
	Addr     string              `json:"address"`
	Kind     string              `json:"kind,omitempty"`
	Health   string              `json:"health"`
	Since    time.Time           `json:"since,omitzero"`
	Activity string              `json:"activity,omitempty"`
	Error    string              `json:"error,omitempty"`
	Drift    []string            `json:"drift,omitempty"`
	Hints    []string            `json:"hints,omitempty"` // what is probably not meant, such as a filter that was never true
	Restarts int                 `json:"restarts"`
	Lag      *int64              `json:"lag,omitempty"` // absent: not known
	Group    string              `json:"group,omitempty"`
	Counters *reconcile.Counters `json:"counters,omitempty"` // of a route or job
	Job      *reconcile.JobRun   `json:"job,omitempty"`      // of a job that runs
	Held     *reconcile.Hold     `json:"held,omitempty"`     // by an operator
	// Unreachable is the cluster that did not answer, so that nothing is known of the topic of a stream.
	Unreachable string           `json:"unreachable,omitempty"`
	Lanes       []reconcile.Lane `json:"lanes,omitempty"` // of a route that runs, where it was asked for by its address
	// Conditions are conclusions from successive observations: stalled, crash_looping, drifted, data_lost.
	Conditions []reconcile.Condition `json:"conditions,omitempty"`
	Letters    string                `json:"dead_letters,omitempty"` // where a route's dead letters go: a topic or a file
}

// NewStatus gives the shown form, in address order.
func NewStatus(w World, v Version) Status {
	s := Status{FormatVersion: FormatVersion, Version: v, Env: w.Env, Namespace: w.Namespace, Serial: w.Serial, Revision: w.Revision,
		Offline: w.Offline, Started: w.Started, ObservedAt: w.Observed.At, Turns: w.Turns, Waiting: w.Waiting, Addresses: []AddressStatus{}}
	if len(w.Broken) > 0 {
		s.Diagnostics = NewDiagnostics(w.Broken, nil)
	}
	for a, why := range w.Observed.Unreachable {
		if s.Unreachable == nil {
			s.Unreachable = map[string]string{}
		}
		s.Unreachable[a.String()] = why
	}
	for _, a := range sortedAddrs(w.Observed.States) {
		s.Addresses = append(s.Addresses, newAddressStatus(a, w.Observed.States[a]))
	}
	return s
}

// NewStatusOf is NewStatus of one address, with the lanes of a route; or of every instance of a block.
func NewStatusOf(w World, v Version, of addr.Addr) (Status, error) {
	s := NewStatus(w, v)
	s.Addresses = []AddressStatus{}
	e := &NotFoundError{Addr: of.String()}
	for _, a := range sortedAddrs(w.Observed.States) {
		e.Known = append(e.Known, a.String())
		if a == of || !of.Each && a.Block() == of {
			one := newAddressStatus(a, w.Observed.States[a])
			one.Lanes = w.Observed.States[a].Lanes
			s.Addresses = append(s.Addresses, one)
		}
	}
	if len(s.Addresses) == 0 {
		return s, e
	}
	return s, nil
}

func newAddressStatus(a addr.Addr, st reconcile.State) AddressStatus {
	s := AddressStatus{Addr: a.String(), Health: string(st.Health), Since: st.Since, Activity: st.Activity, Error: st.Error,
		Drift: st.Drift, Hints: st.Hints, Restarts: st.Restarts, Group: st.Group, Letters: st.Letters, Held: st.Held, Conditions: st.Conditions}
	if !st.Unreachable.IsZero() {
		s.Unreachable = st.Unreachable.String()
	}
	if st.Resource != nil {
		s.Kind = st.Resource.Kind
	}
	s.Job = st.Job
	if a.Type == "route" || a.Type == "job" {
		c := st.Counters
		s.Counters = &c
		if st.Lag >= 0 {
			lag := st.Lag
			s.Lag = &lag
		}
	}
	return s
}

func sortedAddrs(states map[addr.Addr]reconcile.State) []addr.Addr {
	out := make([]addr.Addr, 0, len(states))
	for a := range states {
		out = append(out, a)
	}
	slices.SortFunc(out, addr.Compare)
	return out
}
