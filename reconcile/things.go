package reconcile

import (
	"fmt"
	"strings"
)

// Thing is something outside that a sink needs and keeps: an index template, a table.
type Thing struct {
	Kind    string   `json:"kind"`
	Name    string   `json:"name"`
	Action  Action   `json:"action"`            // Create, Update, or NoOp: it is as it should be; "" where nobody could look
	Differs []string `json:"differs,omitempty"` // what Update mends
	Blocked string   `json:"blocked,omitempty"` // why it cannot be brought about, and what to do
	Notes   []string `json:"notes,omitempty"`   // what is left as it is, and what that means
}

// String names the thing as sentences do.
func (t Thing) String() string { return t.Kind + " " + t.Name }

// Outside is what is known of the things of one sink.
type Outside struct {
	Things []Thing
	Error  string // why the destination could not be asked; "" if it answered
}

// things takes over what the destination of a sink lacks, and, where anything changes, what is to be said of the rest.
func (d *differ) things(c *Change) {
	if c.Addr.Type != typeSink {
		return
	}
	out := d.obs.Outside[c.Addr]
	var noted []Thing
	for _, t := range out.Things {
		switch {
		case t.Blocked != "":
			c.Blocked = fmt.Sprintf("%s: %s", t, t.Blocked)
			c.Action = atLeast(c.Action, Repair)
		case t.Action == NoOp:
			if len(t.Notes) > 0 {
				noted = append(noted, t)
			}
			continue
		case t.Action != "":
			c.Action = atLeast(c.Action, Repair)
		case c.Action == NoOp:
			continue
		}
		c.Things = append(c.Things, t)
	}
	if c.Action != NoOp {
		c.Things = append(c.Things, noted...)
	}
}

// outside says of a sink that was applied how its destination does.
func outside(st *State, o Outside) {
	if o.Error != "" {
		st.Health, st.Error = Degraded, "what it needs outside cannot be looked at: "+o.Error
		return
	}
	for _, t := range o.Things {
		switch {
		case t.Blocked != "":
			st.Health, st.Error = Degraded, t.String()+": "+t.Blocked
		case t.Action == Create:
			st.Drift = append(st.Drift, t.String()+" is missing")
		case t.Action == Update:
			st.Drift = append(st.Drift, t.String()+": "+strings.Join(t.Differs, "; "))
		}
	}
}
