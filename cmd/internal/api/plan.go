package api

import (
	"maps"
	"slices"
	"time"

	"keystone/configs"
	"keystone/configs/addr"
	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/reconcile"
)

// FormatVersion is of every JSON form that the command line prints and the
// API sends: a reader refuses another major version.
const FormatVersion = "1.0"

// Plan is a plan as it is shown and sent.
type Plan struct {
	FormatVersion string    `json:"format_version"`
	Serial        int64     `json:"serial"`
	Env           string    `json:"environment"`
	Namespace     string    `json:"namespace"`
	Made          time.Time `json:"made"`
	Offline       bool      `json:"offline"`
	Changes       []Change  `json:"changes"`
	Counts        Counts    `json:"counts"`
	Warnings      []string  `json:"warnings,omitempty"`
}

// Change is one address of a plan.
type Change struct {
	Addr        string         `json:"address"`
	Kind        string         `json:"kind,omitempty"`
	Action      string         `json:"action"`
	MovedFrom   string         `json:"moved_from,omitempty"`
	Decl        *diag.Range    `json:"range,omitempty"`
	Options     []OptionChange `json:"options,omitempty"`
	Reasons     []string       `json:"reasons,omitempty"`
	Things      []Thing        `json:"things,omitempty"` // of a sink: what is made or changed outside
	Impact      *Impact        `json:"impact,omitempty"`
	Destructive bool           `json:"destructive,omitempty"`
	Blocked     string         `json:"blocked,omitempty"` // why apply refuses it, and what to do
}

// Thing is something outside that a sink needs: an index template, a table.
type Thing struct {
	Kind    string   `json:"kind"`
	Name    string   `json:"name"`
	Action  string   `json:"action"` // create, update, no-op, ensure: it is not known whether it is there
	Differs []string `json:"differs,omitempty"`
	Notes   []string `json:"notes,omitempty"` // what is left as it is, and what that means
}

// OptionChange is one option that differs.
type OptionChange struct {
	Name      string `json:"name"`
	Before    string `json:"before,omitempty"`
	After     string `json:"after,omitempty"`
	Effect    string `json:"effect"`
	Sensitive bool   `json:"sensitive,omitempty"`
}

// Impact is what a change does to data.
type Impact struct {
	ContinuesFrom string        `json:"continues_from,omitempty"`
	Waiting       int64         `json:"waiting"`    // -1: not known
	MayRepeat     int64         `json:"may_repeat"` // -1: bounded by what is in flight
	RepeatNote    string        `json:"repeat_note,omitempty"`
	PauseMs       int64         `json:"pause_ms"`
	KeepsState    []string      `json:"keeps_state,omitempty"`
	LosesState    []string      `json:"loses_state,omitempty"`
	DeadLetters   *LettersPlace `json:"dead_letters,omitempty"` // of a route that makes some
}

// LettersPlace is where the dead letters of a route go.
type LettersPlace struct {
	Place   string `json:"place"`             // topic, sink, or file: beside the state of the server
	Sink    string `json:"sink,omitempty"`    // whose documents they become
	Topic   string `json:"topic,omitempty"`   // its name
	Stream  string `json:"stream,omitempty"`  // that has the topic; of a managed one, on whose cluster it is
	Managed bool   `json:"managed,omitempty"` // it is made with the first letter
}

func newLetters(l reconcile.Letters) *LettersPlace {
	if l == (reconcile.Letters{}) {
		return nil
	}
	out := &LettersPlace{Place: "topic", Topic: l.Topic, Managed: l.Managed}
	switch {
	case !l.Sink.IsZero():
		out.Place, out.Sink = "sink", l.Sink.String()
	case l.Topic == "":
		out.Place = "file"
	}
	if !l.Stream.IsZero() {
		out.Stream = l.Stream.String()
	}
	return out
}

// Counts are what the summary line of a plan counts. A replaced address
// counts as one to add and one to destroy, as in Terraform.
type Counts struct {
	Add     int `json:"add"`
	Change  int `json:"change"`
	Destroy int `json:"destroy"`
	Move    int `json:"move"`
	Forget  int `json:"forget"`
	Repair  int `json:"repair"`
}

// Any tells whether anything is counted.
func (c Counts) Any() bool { return c != Counts{} }

// Count adds one change.
func (c *Counts) Count(action string) {
	switch reconcile.Action(action) {
	case reconcile.Create:
		c.Add++
	case reconcile.Update, reconcile.Drain:
		c.Change++
	case reconcile.Replace:
		c.Add++
		c.Destroy++
	case reconcile.Delete:
		c.Destroy++
	case reconcile.Forget:
		c.Forget++
	case reconcile.Move:
		c.Move++
	case reconcile.Repair:
		c.Repair++
	}
}

// NewPlan gives the shown form of a plan, in address order.
func NewPlan(p reconcile.Plan) Plan {
	out := Plan{FormatVersion: FormatVersion, Serial: p.Serial, Env: p.Env, Namespace: p.Namespace,
		Made: p.Made, Offline: p.Offline, Warnings: p.Warnings, Changes: []Change{}}
	changes := slices.Clone(p.Changes)
	slices.SortStableFunc(changes, func(a, b reconcile.Change) int { return addr.Compare(a.Addr, b.Addr) })
	for _, c := range changes {
		if c.Action == reconcile.NoOp {
			continue
		}
		s := newChange(c)
		out.Counts.Count(s.Action)
		out.Changes = append(out.Changes, s)
	}
	return out
}

func newChange(c reconcile.Change) Change {
	s := Change{Addr: c.Addr.String(), Action: string(c.Action), MovedFrom: c.MovedFrom.String(), Reasons: c.Reasons, Destructive: c.Destructive, Blocked: c.Blocked}
	r := c.After
	if r == nil {
		r = c.Before
	}
	if r != nil {
		s.Kind = r.Kind
		if !r.Decl.IsZero() {
			decl := r.Decl
			s.Decl = &decl
		}
	}
	for _, o := range c.Options {
		s.Options = append(s.Options, newOptionChange(o))
	}
	if len(c.Options) == 0 && r != nil && (c.Action == reconcile.Create || c.Action == reconcile.Delete) {
		s.Options = written(r, c.Action)
	}
	for _, t := range c.Things {
		action := string(t.Action)
		if action == "" {
			action = "ensure"
		}
		s.Things = append(s.Things, Thing{t.Kind, t.Name, action, t.Differs, t.Notes})
	}
	i := c.Impact
	if i.ContinuesFrom != "" || i.Waiting != 0 || i.MayRepeat != 0 || i.RepeatNote != "" || i.Pause != 0 || len(i.KeepsState)+len(i.LosesState) > 0 || i.Letters != (reconcile.Letters{}) {
		s.Impact = &Impact{ContinuesFrom: i.ContinuesFrom, Waiting: i.Waiting, MayRepeat: i.MayRepeat, RepeatNote: i.RepeatNote,
			PauseMs: i.Pause.Milliseconds(), KeepsState: i.KeepsState, LosesState: i.LosesState, DeadLetters: newLetters(i.Letters)}
	}
	return s
}

// written gives what stands in the files of a block that comes or goes: its
// options but those that are as built in.
func written(r *configs.Resource, action reconcile.Action) []OptionChange {
	var out []OptionChange
	for _, name := range slices.Sorted(maps.Keys(r.Options)) {
		o := r.Options[name]
		if o.Layer == spec.LayerDefault || o.Canonical == "" {
			continue
		}
		c := reconcile.OptionChange{Name: name, After: o.Canonical, Effect: o.Effect, Sensitive: o.Sensitive}
		if action == reconcile.Delete {
			c.Before, c.After = c.After, ""
		}
		out = append(out, newOptionChange(c))
	}
	return out
}

// newOptionChange shows that a secret is there, never what stands in it.
func newOptionChange(o reconcile.OptionChange) OptionChange {
	s := OptionChange{Name: o.Name, Before: o.Before, After: o.After, Effect: o.Effect.String(), Sensitive: o.Sensitive}
	if o.Sensitive {
		if s.Before != "" {
			s.Before = sensitive
		}
		if s.After != "" {
			s.After = sensitive
		}
	}
	return s
}

const sensitive = "(sensitive value)"
